"""Sherpa's statistic, fit and limits of simulated regions: ``python sherpa_parity.py REQUEST.npz ANSWER.json``.

Runs in a process of its own, in the environment of `cpxt_hpc.fitting.xspec.child_environment`. No module of the package
is imported. For each region and statistic: the statistic at given points; the fit with levmar from kT 8 keV; and, where
that ends in the minimum given, the limits of conf around it.
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
from sherpa.models.model import ArithmeticModel
from sherpa.models.parameter import Parameter
from sherpa.optmethods import LevMar
from sherpa.stats import Chi2DataVar, Chi2Gehrels, Chi2XspecVar, CStat, WStat
from sherpa.utils.err import FitErr

STATISTICS = {
    "cstat": CStat,
    "wstat": WStat,
    "chi2gehrels": Chi2Gehrels,
    "chi2datavar": Chi2DataVar,
    "chi2xspecvar": Chi2XspecVar,
}
SAME_MINIMUM = 1e-3


class KnownBackground(ArithmeticModel):
    """Expected background counts in all channels."""

    def __init__(self, name, counts):
        self.counts = counts
        self.scale = Parameter(name, "scale", 1.0, 0.0, 10.0, frozen=True)
        ArithmeticModel.__init__(self, name, (self.scale,))

    def calc(self, p, *args, **kwargs):
        return p[0] * self.counts


def spectrum(request, arrays, statistic, plasma, responses):
    """Data and model of one observation."""
    counts, background, blank, exposure, scale = arrays
    arf, rmf = responses
    full = np.zeros((3, rmf.detchans))
    full[:, request["channel"] - 1] = counts, background, blank
    channel = np.arange(1.0, rmf.detchans + 1.0)
    pha = DataPHA("region", channel, full[0], exposure=exposure, backscal=1.0)
    pha.set_response(arf, rmf)
    pha.set_analysis("energy")
    if statistic != "cstat":
        sky = DataPHA("blank", channel, full[2], exposure=exposure / scale, backscal=1.0)
        sky.set_response(arf, rmf)
        pha.set_background(sky)
    pha.notice(*request["band"])
    if statistic in request["binned"]:
        pha.group_width(int(request["bin_channels"]), tabStops=~pha.mask)
    if statistic.startswith("chi2"):
        pha.subtract()
    folded = Response1D(pha)(plasma)
    return pha, folded + KnownBackground("known", full[1]) if statistic == "cstat" else folded


def answer(request, region, statistic, model, responses):
    absorption, plasma = model
    pairs = [
        spectrum(request, arrays, statistic, absorption * plasma, responses)
        for arrays in zip(
            *(request[key][region] for key in ("counts", "background", "blank", "exposure", "scale")), strict=True
        )
        if arrays[3] > 0.0
    ]
    data = DataSimulFit("all", [pair[0] for pair in pairs])
    models = SimulFitModel("all", [pair[1] for pair in pairs])
    limits = Confidence()
    limits.parallel, limits.tol, limits.max_rstat = False, 1e-3, 1e30
    fit = Fit(data, models, STATISTICS[statistic](), LevMar(), limits)
    row = {"points": []}
    for plasma.kT, plasma.norm in request["points"][region]:
        row["points"].append(float(fit.calc_stat()))
    kt, norm, best = request[statistic][region]
    plasma.kT, plasma.norm = 8.0, norm
    try:
        result = fit.fit()
    except FitErr:  # chi2datavar, where a channel has no count at all
        return row
    row.update(kT=plasma.kT.val, norm=plasma.norm.val, stat=float(result.statval))
    if row["stat"] - best < SAME_MINIMUM:
        plasma.kT, plasma.norm = kt, norm
        fit.fit()
        errors = fit.est_errors()
        row["limits"] = [
            None if side is None else value + side
            for value, sides in zip(errors.parvals, zip(errors.parmins, errors.parmaxes, strict=True), strict=True)
            for side in sides
        ]
    return row


def main(request_file, answer_file):
    logging.getLogger("sherpa").setLevel(logging.ERROR)
    request = dict(np.load(request_file))
    xspec.set_xschatter(0)
    xspec.set_xsabund("angr")
    xspec.set_xsxsect("vern")
    xspec.set_xsxset("APECROOT", str(request["apec_root"]))
    responses = io.read_arf(str(request["arf"])), io.read_rmf(str(request["rmf"]))
    absorption, plasma = xspec.XSphabs(), xspec.XSapec()
    absorption.nH = float(request["nh"])
    absorption.nH.frozen = True
    plasma.Abundanc, plasma.redshift = float(request["abundance"]), float(request["redshift"])
    plasma.kT.min, plasma.kT.max = request["kt_range"]
    rows = {
        statistic: [
            answer(request, region, statistic, (absorption, plasma), responses)
            for region in range(len(request["counts"]))
        ]
        for statistic in STATISTICS
    }
    with open(answer_file, "w", encoding="utf-8") as stream:
        json.dump(rows, stream)


if __name__ == "__main__":
    main(*sys.argv[1:])
