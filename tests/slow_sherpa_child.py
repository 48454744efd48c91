"""Stands in for `cpxt_hpc.fitting.sherpa_child`: answers at once, but spectra whose counts sum to SLOW_COUNTS never.

It hangs as compiled code does, deaf to what a signal handler of Python could do.
"""

import os
import signal
import sys
from multiprocessing.connection import Connection

with Connection(int(sys.argv[1])) as link:
    while True:
        try:
            request = link.recv()
        except EOFError:
            break
        if "responses" in request:
            link.send({"versions": {}})
            continue
        counts = sum(float(each["counts"].sum()) for each in request["observations"])
        if str(int(counts)) == os.environ.get("SLOW_COUNTS"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGALRM})
            while True:
                sum(range(1000000))
        found = {"kT": 5.0, "norm": 1e-3, "abundance": 0.3, "nH": 0.05}
        limits = {"kT": (4.0, 6.0), "norm": (0.9e-3, 1.1e-3)}
        n = len(request["observations"])
        link.send(
            {"values": found, "limits": limits, "statistic": 60.0, "norms": [1e-3] * n, "counts_of_norm_1": [1e6] * n}
        )
