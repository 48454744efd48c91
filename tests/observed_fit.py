"""``cpxt-fit`` that leaves a record of what each of its processes is like: OBSERVED_FOLDER/<rank>.json.

With OBSERVED_FITTER=small the fitter is one that compiles a small function, so that compiling takes no time.
"""

import json
import os
import sys
import types
from pathlib import Path

import cpxt_hpc

SMALL = os.environ.get("OBSERVED_FITTER") == "small"
HEAVY = (
    "sherpa", "xspec", "astropy", "matplotlib", "photutils", "scipy.linalg", "scipy.ndimage", "scipy.optimize",
    "scipy.stats",
)  # fmt: skip


def small_fitter():
    """A module whose RegionFitter fits nothing, by a compiled function of its own."""
    from cpxt_hpc.fitting.results import Status, empty_result
    from cpxt_hpc.science.compiled import compiled

    @compiled
    def compiled_by_the_fitter(x):
        return 2.0 * x

    class SmallFitter:
        function = compiled_by_the_fitter

        def __init__(self, fit_input, *settings):
            self.regions = fit_input.regions

        def fit(self, index):
            row = empty_result(
                self.regions.number[index], self.regions.iy[index], self.regions.ix[index],
                self.regions.radius[index], Status.OK,
            )  # fmt: skip
            row["kT"] = compiled_by_the_fitter(float(index))
            return row

        def estimated_seconds(self, index):
            return 0.0 * index + 1e-4

    return SmallFitter


def thread_names():
    """Names of the threads of this process, those of libraries included."""
    return [task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]


def record(rank, first_seen):
    from numba.core import config

    modules = [name for name in HEAVY if name in sys.modules]
    found = {
        "package": cpxt_hpc.__file__,
        "heavy": modules,
        "numba_before_its_cache_was_chosen": first_seen["numba"],
        "numpy_before_threads_were_pinned": first_seen["numpy"],
        "threads": thread_names(),
        "numba_threads": config.NUMBA_NUM_THREADS,
        "pinned": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")},
        "cache": os.environ.get("NUMBA_CACHE_DIR", ""),
    }
    if SMALL:
        stats = sys.modules["cpxt_hpc.fitting.regions"].RegionFitter.function.stats
        found |= {"hits": sum(stats.cache_hits.values()), "misses": sum(stats.cache_misses.values())}
    Path(os.environ["OBSERVED_FOLDER"], f"{rank}.json").write_text(json.dumps(found))


def patched(run_command, first_seen):
    """The command, observed; only from here on may numpy be loaded, as in ``cpxt-fit``."""

    def run(command, argv):
        from cpxt_hpc.parallel import compile_cache

        choose = compile_cache.use_node_cache

        def noted(link):
            first_seen["numba"] = "numba" in sys.modules
            choose(link)
            if SMALL:
                module = types.ModuleType("cpxt_hpc.fitting.regions")
                module.RegionFitter = small_fitter()
                sys.modules["cpxt_hpc.fitting.regions"] = module

        compile_cache.use_node_cache = noted
        return run_command(command, argv)

    return run


if __name__ == "__main__":
    from cpxt_hpc.cli import fit

    first_seen = {"numba": None, "numpy": "numpy" in sys.modules}
    fit.run_command = patched(fit.run_command, first_seen)
    code = fit.main()
    from cpxt_hpc.parallel.launcher import launched_rank

    record(launched_rank(), first_seen)
    sys.exit(code)
