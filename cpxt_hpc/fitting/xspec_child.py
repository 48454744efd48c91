"""The process in which XSPEC runs: ``python -m cpxt_hpc.fitting.xspec_child REQUEST ANSWER``.

Started by `cpxt_hpc.fitting.xspec`, which sets its environment: HEADAS must be set before the XSPEC library
is loaded, and XSPEC can end its process by a signal. Both files are npz.
"""

import sys

import numpy as np

ABSORPTION_MODELS = {"phabs": "XSphabs", "tbabs": "XSTBabs", "wabs": "XSwabs"}
ADDITIVE_MODELS = {
    "apec": "XSapec",
    "bapec": "XSbapec",
    "nlapec": "XSnlapec",
    "mekal": "XSmekal",
    "raymond": "XSraymond",
    "equil": "XSequil",
    "zbremss": "XSzbremss",
}
FIXED_PARAMETERS = {"bapec": {"velocity": 0.0}, "mekal": {"nh": 1.0, "switch": 1.0}}
"""Parameters besides temperature, abundance, redshift and norm, lower case: bapec without velocity broadening, mekal at
1 hydrogen atom a cm3 from its table."""


def evaluate(request):
    """Photon spectra of one plasma model, and the transmission of the absorber.

    Parameters
    ----------
    request : mapping
        The arguments of `cpxt_hpc.fitting.xspec.evaluate_additive`, as arrays.

    Returns
    -------
    dict
        ``emitted`` [photon/cm2/s/bin for norm 1], shape (abundances, temperatures, bins), ``transmission``, shape
        (columns, bins), and the versions ``xspec`` and ``sherpa``.
    """
    import sherpa
    from sherpa.astro import xspec

    xspec.set_xschatter(0)
    xspec.set_xsabund(str(request["abundance_table"]))
    xspec.set_xsxsect(str(request["cross_sections"]))
    xspec.set_xsxset("APECROOT", str(request["apec_root"]))
    edges = request["energy_edges_kev"]
    low, high = edges[:-1], edges[1:]
    name = str(request["model"])
    plasma = getattr(xspec, ADDITIVE_MODELS[name])()
    absorption = getattr(xspec, ABSORPTION_MODELS[str(request["absorption"])])()
    transmission = np.array([absorption.calc([column], low, high) for column in request["nh_1e22"].tolist()])
    names = [parameter.name.lower() for parameter in plasma.pars]
    fixed = {"redshift": float(request["redshift"]), "norm": 1.0, **FIXED_PARAMETERS.get(name, {})}

    def emitted(kt, abundance):
        # calc takes the values as they are: the highest node, 68.45 keV, is above Sherpa's limit of 64.
        values = {**fixed, "kt": kt, "abundanc": abundance}
        return plasma.calc([values[parameter] for parameter in names], low, high)

    spectra = [[emitted(kt, metals) for kt in request["kt_kev"].tolist()] for metals in request["abundances"].tolist()]
    return {
        "emitted": np.array(spectra, dtype=float),
        "transmission": transmission,
        "xspec": xspec.get_xsversion(),
        "sherpa": sherpa.__version__,
    }


def main(request_file, answer_file):
    """Read the request, evaluate it, write the answer."""
    with np.load(request_file) as stored:
        request = {key: stored[key] for key in stored.files}
    np.savez(answer_file, **evaluate(request))


if __name__ == "__main__":
    main(*sys.argv[1:])
