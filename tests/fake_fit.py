"""``cpxt-fit`` with a fitter that needs no compiler, takes the time that it is told, and fails where it is told to.

FAKE_SLEEP_S: time of each fit; FAKE_FAST: so many fits of each process take no time; FAKE_CRASH: region numbers that
raise; FAKE_NO_MEMORY: those that raise MemoryError, FAKE_NO_MEMORY_ON: rank on which all do; FAKE_RAISES_ON: rank on
which no fitter can be made; FAKE_FILE_BYTES: size beyond which no file may grow, as on a full disk; FAKE_LOG: file that
gets a line a fit; FAKE_SILENCE_S: time after which the master gives a worker up; FAKE_REPLACE: file that takes the fit
input's place before any rank but 0 reads it.
"""

import functools
import os
import resource
import shutil
import sys
import time
import types

import numpy as np

from cpxt_hpc.fitting.results import Status, empty_result

FIELDS = ("kT", "kT_lo", "kT_hi", "norm", "norm_lo", "norm_hi", "stat", "net_counts", "background_counts", "exposure_s")


class FakeFitter:
    def __init__(self, fit_input, settings):
        if os.environ.get("FAKE_RAISES_ON") == os.environ.get("PMI_RANK", "0"):
            raise RuntimeError("no fitter here")
        if "FAKE_FILE_BYTES" in os.environ:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["FAKE_FILE_BYTES"]), resource.RLIM_INFINITY))
        self.regions = fit_input.regions
        self.fast = int(os.environ.get("FAKE_FAST", "0"))
        self.sleep_s = float(os.environ.get("FAKE_SLEEP_S", "0"))
        self.crashing = {int(number) for number in os.environ.get("FAKE_CRASH", "").split()}
        self.without_memory = {int(number) for number in os.environ.get("FAKE_NO_MEMORY", "").split()}
        if os.environ.get("FAKE_NO_MEMORY_ON", "") == os.environ.get("PMI_RANK", "0"):
            self.without_memory = set(self.regions.number.tolist())

    def fit(self, index):
        number = int(self.regions.number[index])
        place = int(self.regions.iy[index]), int(self.regions.ix[index])
        row = empty_result(number, *place, float(self.regions.radius[index]), Status.OK)
        for name, value in zip(FIELDS, np.random.default_rng(number).normal(size=len(FIELDS)), strict=True):
            row[name] = value
        self.fast -= 1
        row["seconds"] = self.sleep_s if self.fast < 0 else 0.0
        time.sleep(float(row["seconds"]))
        if "FAKE_LOG" in os.environ:
            with open(os.environ["FAKE_LOG"], "a") as log:
                log.write(f"{number}\n")
        if number in self.crashing:
            raise ValueError(f"made to crash at {number}")
        if number in self.without_memory:
            raise MemoryError(f"made to lack memory at {number}")
        return row

    def estimated_seconds(self, index):
        return np.full(len(index), max(self.sleep_s, 1e-4))


if __name__ == "__main__":
    module = types.ModuleType("cpxt_hpc.fitting.regions")
    module.RegionFitter = FakeFitter
    sys.modules["cpxt_hpc.fitting.regions"] = module
    from cpxt_hpc.cli.fit import main
    from cpxt_hpc.parallel import job, plan

    if "FAKE_REPLACE" in os.environ:
        read_planned_input = plan.read_planned_input

        def replace_and_read(planned):
            new = f"{planned.fit_input}.new"
            shutil.copy(os.environ["FAKE_REPLACE"], new)
            os.replace(new, planned.fit_input)
            return read_planned_input(planned)

        plan.read_planned_input = replace_and_read
    if "FAKE_SILENCE_S" in os.environ:
        silence_s = float(os.environ["FAKE_SILENCE_S"])
        job.SILENCE_S = silence_s
        job.run_master = functools.partial(job.run_master, alive_every_s=silence_s)
        job.run_worker = functools.partial(job.run_worker, silence_s=3.0 * silence_s)

    sys.exit(main())
