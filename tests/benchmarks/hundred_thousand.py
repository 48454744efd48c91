"""The fit of a map of 100,000 regions of 2,500 counts, extraction included, by cpxt-fit under mpiexec.

One observation, 501 channels, real spectra (XSPEC's plasma, ACIS-I response), by default with the vignetting of the
mirror as maps have it. Start-up (imports, compiled functions, the fit input's checksums) is told apart from the fit;
the time of the fit ends when mpiexec does. The CPU time of the ranks tells what it would be where nothing else runs.
Memory is each rank's PSS, shared pages counted by their share. --json prints one object.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import cProfile
import dataclasses
import io
import json
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RECORDS = "CPXT_BENCHMARK_RECORDS"
PROFILED = "CPXT_BENCHMARK_PROFILED"


def run_rank() -> int:
    """Be one rank of cpxt-fit, and leave a record of who it is and when its loop began."""
    from cpxt_hpc.cli.fit import main
    from cpxt_hpc.parallel import job
    from cpxt_hpc.parallel.launcher import launched_rank

    record = Path(os.environ[RECORDS], f"{launched_rank()}.json")
    profile = cProfile.Profile() if PROFILED in os.environ else None

    def timed(loop):
        def run(*arguments, **options):
            told = {"pid": os.getpid(), "began": time.time(), "cpu_before_s": time.process_time()}
            record.write_text(json.dumps(told))
            with profile or contextlib.nullcontext():
                result = loop(*arguments, **options)
            told["cpu_s"] = time.process_time() - told["cpu_before_s"]
            record.write_text(json.dumps(told))
            return result

        return run

    job.run_master, job.run_worker = timed(job.run_master), timed(job.run_worker)
    code = main(sys.argv[1:])
    if profile is not None:
        text = io.StringIO()
        pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(25)
        record.with_suffix(".txt").write_text(text.getvalue())
    return code


def pss_mb(pid: int) -> float:
    """Memory of a process, its share of shared pages included [MB]; 0 where it is gone."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024.0


def read_records(folder: Path) -> dict[int, dict]:
    """Records of the ranks that have begun."""
    found = {}
    for path in folder.glob("*.json"):
        with contextlib.suppress(ValueError):  # being written
            found[int(path.stem)] = json.loads(path.read_text())
    return found


def timed_fit(ini: Path, records: Path, arguments: argparse.Namespace) -> dict:
    """Run cpxt-fit once: times [s] and the highest PSS of each rank [MB]."""
    from fit_job import clean_environment

    mpiexec = str(Path(sys.prefix, "bin", "mpiexec"))
    command = [mpiexec, "-n", str(arguments.ranks), sys.executable, __file__, str(ini), "--resolution", "3"]
    more = {RECORDS: str(records), **({PROFILED: "1"} if arguments.profile else {})}
    memory: dict[int, float] = {}
    began = time.time()
    log = records / "log"
    with (
        open(log, "w") as stream,
        subprocess.Popen(command, env=clean_environment(**more), stdout=stream, stderr=stream) as process,
    ):
        while process.poll() is None:
            for rank, record in read_records(records).items():
                memory[rank] = max(memory.get(rank, 0.0), pss_mb(record["pid"]))
            time.sleep(0.25)
        ended = time.time()
    if process.returncode not in (0, 5):
        raise SystemExit(f"cpxt-fit ended with {process.returncode}:\n{log.read_text()}")
    found = read_records(records)
    return {
        "start_up_s": found[0]["began"] - began,
        "fit_s": ended - found[0]["began"],
        "cpu_s": {str(rank): found[rank]["cpu_s"] for rank in sorted(found)},
        "exit_code": process.returncode,
        "pss_mb": {str(rank): memory[rank] for rank in sorted(memory)},
    }


def make_job(folder: Path, arguments: argparse.Namespace) -> tuple[Path, dict]:
    """Write the cluster's folder; returns its ini and what is in it."""
    from acis import acis_nodes
    from fit_job import write_job
    from large_map import circles, large_map

    from cpxt_hpc.io.vignetting_table import hrma_vignetting
    from cpxt_hpc.science.binning import adaptive_radii

    side = int(np.ceil(np.sqrt(arguments.regions)))
    nodes, channel = acis_nodes()
    fit_input = large_map(
        arguments.seed, side=side, n_events=8 * side**2, nodes=nodes, edge=arguments.edge,
        vignetting=None if arguments.no_vignetting else hrma_vignetting(),
    )  # fmt: skip
    counts = np.diff(fit_input.observations[0].pixel_start).reshape(side, side)
    # Without background the signal to noise is the root of the counts.
    radius = adaptive_radii(
        counts, np.zeros(counts.shape), counts >= 0, snr_target=np.sqrt(arguments.counts), max_radius_pixel=100.0
    )
    iy, ix = (place[: arguments.regions] for place in np.nonzero(radius))
    fit_input = dataclasses.replace(fit_input, regions=circles(iy, ix, radius[iy, ix]))
    settings = {"statistic": arguments.statistic, "free": arguments.free}
    layout = write_job(folder / "made_up", fit_input, **settings)
    return layout.ini, {
        "regions": len(iy),
        "channels": len(channel),
        "responses": fit_input.observations[0].nodes.shape[0],
        "median_radius_pixel": float(np.median(radius[iy, ix])),
        "fit_input_mb": layout.fit_input.stat().st_size / 1e6,
    }


def main() -> None:
    """Print times and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=100_000)
    parser.add_argument("--counts", type=float, default=2500.0, help="counts that each region reaches at least")
    parser.add_argument("--ranks", type=int, default=3, help="one of them hands out the work")
    parser.add_argument("--edge", choices=("pixel", "exact"), default="pixel")
    parser.add_argument("--statistic", default="cstat")
    parser.add_argument("--free", default="none")
    parser.add_argument("--no-vignetting", action="store_true", help="one response for the whole field")
    parser.add_argument("--profile", action="store_true", help="print where the ranks spend their time (slower)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    from environment import environment

    from cpxt_hpc.fitting.results import Status
    from cpxt_hpc.io.checkpoint import read_results

    with tempfile.TemporaryDirectory(prefix="cpxt_benchmark_") as folder:
        ini, job = make_job(Path(folder), arguments)
        records = Path(folder, "records")
        records.mkdir()
        result = {**job, **timed_fit(ini, records, arguments), "ranks": arguments.ranks}
        rows = read_results(ini.parent / "acb" / "made_up_fits.h5")
        profiles = [path.read_text() for path in sorted(records.glob("*.txt"))]
    assert len(rows) == result["regions"]
    statuses, numbers = np.unique(rows["status"], return_counts=True)
    result["statuses"] = {Status(int(s)).name: int(n) for s, n in zip(statuses, numbers, strict=True)}
    result["median_counts"] = float(np.median(rows["net_counts"] + rows["background_counts"]))
    result["median_fit_us"] = float(1e6 * np.median(rows["seconds"]))
    result["regions_per_s"] = result["regions"] / result["fit_s"]
    result["workers_fit_s"] = float(rows["seconds"].sum(dtype=float) / max(arguments.ranks - 1, 1))
    result["environment"] = environment()
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"environment: {result['environment']}")
    print(
        f"{result['regions']} regions, median {result['median_counts']:.0f} counts in circles of "
        f"{result['median_radius_pixel']:.1f} pixels, {result['channels']} channels, {result['responses']} responses, "
        f"fit input {result['fit_input_mb']:.1f} MB, seed {arguments.seed}"
    )
    print(
        f"{arguments.ranks} ranks: start-up {result['start_up_s']:.1f} s, fit {result['fit_s']:.1f} s "
        f"({result['regions_per_s']:.0f} regions/s); a worker spends {result['workers_fit_s']:.1f} s in fits, "
        f"{result['median_fit_us']:.0f} us in the median one; {result['statuses']}"
    )
    print("CPU time of the fit [s] by rank: " + ", ".join(f"{rank}: {s:.1f}" for rank, s in result["cpu_s"].items()))
    print("PSS [MB] by rank: " + ", ".join(f"{rank}: {size:.0f}" for rank, size in result["pss_mb"].items()))
    for text in profiles:
        print(text)


if __name__ == "__main__":
    if RECORDS in os.environ:
        sys.exit(run_rank())
    main()
