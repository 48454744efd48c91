"""XSPEC's xsphabs * xsapec folded by Sherpa: ``python sherpa_folded_model.py REQUEST.npz ANSWER.npz``.

An independent program's answer for tests, in a process of its own with the environment of
`cpxt_hpc.fitting.xspec.child_environment`. No module of the package is imported. Request: ``arf``, ``rmf``,
``apec_root``, ``nh``, ``redshift``, ``points`` (rows of kT, abundance). Answer: ``rates`` [count/s] for norm 1.
"""

import sys

import numpy as np
from sherpa.astro import io, xspec
from sherpa.astro.instrument import RSPModelNoPHA


def main(request_file, answer_file):
    request = np.load(request_file)
    xspec.set_xschatter(0)
    xspec.set_xsabund("angr")
    xspec.set_xsxsect("vern")
    xspec.set_xsxset("APECROOT", str(request["apec_root"]))
    absorption, plasma = xspec.XSphabs("absorption"), xspec.XSapec("plasma")
    absorption.nH = float(request["nh"])
    plasma.redshift = float(request["redshift"])
    folded = RSPModelNoPHA(io.read_arf(str(request["arf"])), io.read_rmf(str(request["rmf"])), absorption * plasma)
    rates = []
    for kt, abundance in request["points"]:
        plasma.kT, plasma.Abundanc = kt, abundance
        rates.append(folded(np.arange(1, 1025)))
    np.savez(answer_file, rates=np.array(rates))


if __name__ == "__main__":
    main(*sys.argv[1:])
