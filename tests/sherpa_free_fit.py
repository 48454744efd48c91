"""Sherpa's own fit with free abundance, nH or norms: ``python sherpa_free_fit.py REQUEST.npz``, prints JSON.

An independent program's answer for tests, in a process of its own with the environment of
`cpxt_hpc.fitting.xspec.child_environment`. No module of the package is imported. Request: ``arf``, ``rmf`` (lists of
paths), ``counts``, ``blank``, ``background`` (lists of spectra in all channels of each observation), ``exposure``,
``blank_scale``, ``statistic``, ``free`` (of abundance, nH), ``own_norms``, ``nh``, ``redshift``, ``abundance``,
``band`` [keV], ``apec_root``, ``start`` (kT, abundance, nH, norms), ``points`` (rows like ``start``), ``held`` (pairs
of a parameter's place in ``start`` and a value), ``conf`` (whether to run it). cstat adds the expected ``background``
to the model; the others take the ``blank`` counts. Answer: ``best`` (like ``start``), ``stat`` of its fit, the
statistic at the ``points``, that of fits with each ``held`` value, and ``limits``: low and high by parameter, null
where conf found none.
"""

import json
import logging
import sys

import numpy as np
from sherpa.astro import io, xspec
from sherpa.astro.data import DataPHA
from sherpa.astro.instrument import Response1D
from sherpa.data import DataSimulFit
from sherpa.estmethods import Confidence
from sherpa.fit import Fit
from sherpa.models import SimulFitModel
from sherpa.models.basic import Scale1D
from sherpa.models.model import ArithmeticModel
from sherpa.optmethods import LevMar, NelderMead
from sherpa.stats import Chi2Gehrels, CStat, WStat

STATISTICS = {"cstat": CStat, "wstat": WStat, "chi2gehrels": Chi2Gehrels}


class Counts(ArithmeticModel):
    """Given counts in every channel of a spectrum: Sherpa takes the noticed ones afterwards."""

    def __init__(self, counts):
        self.counts = counts
        ArithmeticModel.__init__(self, "counts", ())

    def calc(self, p, *args, **kwargs):
        return self.counts


def main(request):
    logging.getLogger("sherpa").setLevel(logging.ERROR)
    xspec.set_xschatter(0)
    xspec.set_xsabund("angr")
    xspec.set_xsxsect("vern")
    xspec.set_xsxset("APECROOT", request["apec_root"])
    absorption, plasma = xspec.XSphabs("absorption"), xspec.XSapec("plasma")
    absorption.nH, plasma.Abundanc = request["nh"], request["abundance"]
    plasma.redshift = request["redshift"]
    plasma.norm.frozen = True
    absorption.nH.frozen = "nH" not in request["free"]
    plasma.Abundanc.frozen = "abundance" not in request["free"]
    plasma.norm = 1.0
    scales, data, models = [], [], []
    for j, exposure in enumerate(request["exposure"]):
        arf, rmf = io.read_arf(request["arf"][j]), io.read_rmf(request["rmf"][j])
        channel = np.arange(1.0, rmf.detchans + 1.0)
        pha = DataPHA(f"observation {j}", channel, np.array(request["counts"][j]), exposure=exposure, backscal=1.0)
        pha.set_response(arf, rmf)
        if request["statistic"] != "cstat":
            blank = DataPHA(
                f"blank {j}", channel, np.array(request["blank"][j]), exposure=exposure / request["blank_scale"],
                backscal=1.0,
            )  # fmt: skip
            blank.set_response(arf, rmf)
            pha.set_background(blank)
        pha.set_analysis("energy")
        pha.notice(*request["band"])
        if request["statistic"].startswith("chi2"):
            pha.subtract()
        if j == 0 or request["own_norms"]:
            scale = Scale1D(f"norm{j}")  # XSPEC's own constant has single precision
            scale.c0.min = 0.0
            scales.append(scale)
        model = Response1D(pha)(scales[-1] * absorption * plasma)
        if request["statistic"] == "cstat":
            model = model + Counts(np.array(request["background"][j]))
        data.append(pha)
        models.append(model)
    parameters = [plasma.kT, plasma.Abundanc, absorption.nH, *(scale.c0 for scale in scales)]
    statistic = STATISTICS[request["statistic"]]()
    limits = Confidence()
    limits.parallel = False
    fit_data, fit_model = DataSimulFit("all", data), SimulFitModel("all", models)
    fit = Fit(fit_data, fit_model, statistic, LevMar(), limits)

    def set_all(values):
        for parameter, value in zip(parameters, values, strict=True):
            parameter.val = value

    answer = {"points": []}
    for point in request["points"]:
        set_all(point)
        answer["points"].append(float(fit.calc_stat()))

    def fitted():
        """LevMar sticks at the kinks between two temperatures of the table: so a simplex after it."""
        stat = np.inf
        for method in (LevMar(), simplex, LevMar()):
            fit = Fit(fit_data, fit_model, statistic, method, limits)
            stat = min(stat, float(fit.fit().statval))
        return stat

    simplex = NelderMead()
    simplex.maxfev = 400
    set_all(request["start"])
    answer["stat"] = fitted()
    answer["best"] = [parameter.val for parameter in parameters]
    answer["held"] = []
    for place, value in request["held"]:
        set_all(answer["best"])
        parameters[place].val = value
        parameters[place].frozen = True
        answer["held"].append(fitted())
        parameters[place].frozen = False
    set_all(answer["best"])
    if not request["conf"]:
        return answer
    fit = Fit(fit_data, fit_model, statistic, LevMar(), limits)
    fit.fit()
    free = [parameter for parameter in parameters if not parameter.frozen]
    errors = fit.est_errors(parlist=tuple(free))
    found = dict(zip(errors.parnames, zip(errors.parmins, errors.parmaxes, strict=True), strict=True))
    answer["limits"] = [
        [None if side is None else parameter.val + side for side in found.get(parameter.fullname, (None, None))]
        for parameter in parameters
    ]
    return answer


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as stream:
        print("ANSWER " + json.dumps(main(json.load(stream))))
