"""Sherpa's own fit of PHA files with XSPEC's xsphabs * xsapec: ``python sherpa_fit.py REQUEST.json``, prints JSON.

An independent program's answer for tests. It runs in a process of its own (environment of
`cpxt_hpc.fitting.xspec.child_environment`), because XSPEC wants HEADAS before it is loaded. No module of the package
is imported. Request: ``spectra`` (list of pha, bkg, arf, rmf paths), ``statistic``, ``subtract``, ``nh``,
``redshift``, ``abundance``, ``band`` [keV], ``apec_root``, ``start`` (kT, norm; null for no fit), ``points`` (list of
kT, norm, optional). Answer: ``n`` channels, the statistic at the ``points``, and ``kT``, ``norm``, ``stat`` and
``kt_limits`` (absent ones null) of its fit.
"""

import json
import sys

from sherpa.astro import io, xspec
from sherpa.astro.instrument import Response1D
from sherpa.data import DataSimulFit
from sherpa.estmethods import Confidence
from sherpa.fit import Fit
from sherpa.models import SimulFitModel
from sherpa.optmethods import LevMar
from sherpa.stats import Chi2DataVar, Chi2Gehrels, Chi2XspecVar, CStat, WStat

STATISTICS = {
    "cstat": CStat,
    "wstat": WStat,
    "chi2gehrels": Chi2Gehrels,
    "chi2datavar": Chi2DataVar,
    "chi2xspecvar": Chi2XspecVar,
}


def main(request):
    xspec.set_xschatter(0)
    xspec.set_xsabund("angr")
    xspec.set_xsxsect("vern")
    xspec.set_xsxset("APECROOT", request["apec_root"])
    absorption, plasma = xspec.XSphabs("absorption"), xspec.XSapec("plasma")
    absorption.nH = request["nh"]
    absorption.nH.frozen = True
    plasma.Abundanc, plasma.redshift = request["abundance"], request["redshift"]
    data, models = [], []
    for files in request["spectra"]:
        pha = io.read_pha(files["pha"])
        pha.ungroup()
        arf, rmf = io.read_arf(files["arf"]), io.read_rmf(files["rmf"])
        pha.set_response(arf, rmf)
        background = io.read_pha(files["bkg"], use_background=True)
        background.ungroup()
        background.set_response(arf, rmf)
        pha.set_background(background)
        pha.set_analysis("energy")
        pha.notice(*request["band"])
        if request["subtract"]:
            pha.subtract()
        data.append(pha)
        models.append(Response1D(pha)(absorption * plasma))
    statistic = STATISTICS[request["statistic"]]()
    method, limits = LevMar(), Confidence()
    limits.parallel = False
    fit = Fit(DataSimulFit("all", data), SimulFitModel("all", models), statistic, method, limits)

    def value_at(kt, norm):
        plasma.kT, plasma.norm = kt, norm
        return float(fit.calc_stat())

    answer = {
        "points": [value_at(*point) for point in request.get("points", [])],
        "n": sum(len(d.get_dep(True)) for d in data),
    }
    if request["start"] is None:
        return answer
    plasma.kT, plasma.norm = request["start"]
    result = fit.fit()
    answer.update(kT=plasma.kT.val, norm=plasma.norm.val, stat=float(result.statval))
    errors = fit.est_errors(parlist=(plasma.kT,))
    answer["kt_limits"] = [
        None if side[0] is None else plasma.kT.val + side[0] for side in (errors.parmins, errors.parmaxes)
    ]
    return answer


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as stream:
        print("ANSWER " + json.dumps(main(json.load(stream))))
