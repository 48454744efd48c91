"""ClusterPyXT's fit of regions in Sherpa, timed: ``python sherpa_recipe.py REQUEST.npz ANSWER.npz``.

Runs in a process of its own, in the environment of `cpxt_hpc.fitting.xspec.child_environment`. For each region:
the background subtracted, chi2gehrels, xsphabs * xsapec, kT from 8, norm from 1, levmar, limits of both by conf.
"""

import logging
import sys
import time

import numpy as np
from sherpa.astro import io, xspec
from sherpa.astro.data import DataPHA
from sherpa.astro.instrument import Response1D
from sherpa.data import DataSimulFit
from sherpa.estmethods import Confidence
from sherpa.fit import Fit
from sherpa.models import SimulFitModel
from sherpa.optmethods import LevMar
from sherpa.stats import Chi2Gehrels


def main(request_file, answer_file):
    logging.getLogger("sherpa").setLevel(logging.ERROR)
    request = np.load(request_file)
    xspec.set_xschatter(0)
    xspec.set_xsabund("angr")
    xspec.set_xsxsect("vern")
    xspec.set_xsxset("APECROOT", str(request["apec_root"]))
    arf, rmf = io.read_arf(str(request["arf"])), io.read_rmf(str(request["rmf"]))
    channel = np.arange(1.0, rmf.detchans + 1.0)
    rows = []
    for counts, blank, exposure, scale in zip(
        request["counts"], request["blank"], request["exposure_s"], request["blank_scale"], strict=True
    ):
        absorption, plasma = xspec.XSphabs(), xspec.XSapec()
        absorption.nH = float(request["nh"])
        absorption.nH.frozen = True
        plasma.Abundanc, plasma.redshift = float(request["abundance"]), float(request["redshift"])
        began = time.perf_counter()
        data, models = [], []
        for j in np.flatnonzero(exposure > 0):
            full = np.zeros((2, len(channel)))
            full[:, request["channel"] - 1] = counts[j], blank[j]
            pha = DataPHA(f"observation {j}", channel, full[0], exposure=exposure[j])
            background = DataPHA(f"blank {j}", channel, full[1], exposure=exposure[j] / scale[j])
            pha.set_response(arf, rmf)
            background.set_response(arf, rmf)
            pha.set_background(background)
            pha.set_analysis("energy")
            pha.notice(*request["band"])
            pha.subtract()
            data.append(pha)
            models.append(Response1D(pha)(absorption * plasma))
        plasma.kT, plasma.norm = 8.0, 1.0
        limits = Confidence()
        limits.parallel = False
        fit = Fit(DataSimulFit("all", data), SimulFitModel("all", models), Chi2Gehrels(), LevMar(), limits)
        result = fit.fit()
        fit.est_errors()
        rows.append((plasma.kT.val, plasma.norm.val, result.statval, time.perf_counter() - began))
    np.savez(answer_file, rows=np.array(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
