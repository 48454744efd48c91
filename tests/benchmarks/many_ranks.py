"""A real fit of 2,000 regions under mpiexec with 64 and with 256 ranks on this machine: memory, start-up, same rows.

ACIS spectra of one observation with vignetting, as `hundred_thousand` makes them. All ranks stop together before their
first fit and behind their last one, and measure what they hold: PSS, which counts a page that n processes share as 1/n.
The rows must be those of one process, bit for bit. Nothing is started where the memory does not suffice.
--json prints one object.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RECORDS = "CPXT_BENCHMARK_RECORDS"
MB_PER_RANK = 82
"""Asked for before anything starts; see the results."""


def run_rank() -> int:
    """Be one rank of cpxt-fit, and leave a record of its memory before and behind its loop."""
    from hundred_thousand import pss_mb

    from cpxt_hpc.cli.fit import main
    from cpxt_hpc.parallel import job
    from cpxt_hpc.parallel.launcher import launched_rank

    told: dict[str, float] = {}

    def together(link, name):
        """Measure when all have come here, and go on when all have measured."""
        link.leader_first(lambda: None)
        told[name] = pss_mb(os.getpid())
        link.leader_first(lambda: None)

    def measured(loop):
        def run(link, *arguments, **options):
            together(link, "before_mb")
            told["began"] = time.time()
            result = loop(link, *arguments, **options)
            told["ended"] = time.time()
            together(link, "after_mb")
            Path(os.environ[RECORDS], f"{launched_rank()}.json").write_text(json.dumps(told))
            return result

        return run

    job.run_master, job.run_worker = measured(job.run_master), measured(job.run_worker)
    return main(sys.argv[1:])


def available_mb() -> float:
    """Memory that can be had without swapping [MB]."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024.0
    return 0.0


def fit(ini: Path, ranks: int, records: Path) -> dict:
    """Run cpxt-fit once; times [s] and memory [MB]."""
    from fit_job import clean_environment

    mpiexec = str(Path(sys.prefix, "bin", "mpiexec"))
    command = [mpiexec, "-n", str(ranks), sys.executable, __file__, str(ini), "--resolution", "3"]
    records.mkdir()
    free = available_mb()
    began = time.time()
    ended = subprocess.run(command, env=clean_environment(**{RECORDS: str(records)}), capture_output=True, text=True)
    total_s = time.time() - began
    if ended.returncode not in (0, 5):
        raise SystemExit(f"cpxt-fit with {ranks} ranks ended with {ended.returncode}:\n{ended.stderr[-4000:]}")
    found = {int(path.stem): json.loads(path.read_text()) for path in records.glob("*.json")}
    assert sorted(found) == list(range(ranks))
    workers = [max(found[rank]["before_mb"], found[rank]["after_mb"]) for rank in range(1, ranks)]
    return {
        "ranks": ranks,
        "start_up_s": found[0]["began"] - began,
        "fit_s": found[0]["ended"] - found[0]["began"],
        "total_s": total_s,
        "worker_pss_mb": {"median": float(np.median(workers)), "highest": max(workers)},
        "rank_0_pss_mb": max(found[0]["before_mb"], found[0]["after_mb"]),
        "all_pss_gb": sum(record["after_mb"] for record in found.values()) / 1024.0,
        "free_before_gb": free / 1024.0,
    }


def main() -> None:
    """Print memory and times for each number of ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--regions", type=int, default=2000)
    parser.add_argument("--counts", type=float, default=2500.0, help="counts that each region reaches at least")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.edge, arguments.no_vignetting, arguments.statistic, arguments.free = "pixel", False, "cstat", "none"
    needed, free = max(arguments.ranks) * MB_PER_RANK, available_mb()
    if needed > free:
        raise SystemExit(f"{max(arguments.ranks)} ranks need {needed} MB, {free:.0f} MB are free: name fewer --ranks.")
    from environment import environment
    from hundred_thousand import make_job

    from cpxt_hpc.io.checkpoint import read_results
    from cpxt_hpc.io.result_rows import bytes_without_seconds

    runs = []
    with tempfile.TemporaryDirectory(prefix="cpxt_benchmark_") as name:
        folder = Path(name)
        ini, job = make_job(folder / "alone", arguments)
        serial = ["-m", "cpxt_hpc.cli.fit", str(ini), "--resolution", "3"]
        shutil.copytree(ini.parent, folder / "blank")
        subprocess.run([sys.executable, *serial], check=True, capture_output=True)
        expected = read_results(ini.parent / "acb" / "made_up_fits.h5")
        assert len(expected) == job["regions"] == arguments.regions
        for ranks in arguments.ranks:
            copy = folder / str(ranks) / "made_up"
            shutil.copytree(folder / "blank", copy)
            runs.append(fit(copy / ini.name, ranks, folder / f"records{ranks}"))
            rows = read_results(copy / "acb" / "made_up_fits.h5")
            runs[-1]["rows_as_of_one_process"] = bytes_without_seconds(rows) == bytes_without_seconds(expected)
    result = {**job, "runs": runs, "environment": environment()}
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"environment: {result['environment']}")
    print(f"{job['regions']} regions, {job['channels']} channels, fit input {job['fit_input_mb']:.1f} MB")
    for run in runs:
        print(
            f"{run['ranks']} ranks: start-up {run['start_up_s']:.1f} s, fit {run['fit_s']:.1f} s, in all "
            f"{run['total_s']:.1f} s; PSS of a worker {run['worker_pss_mb']['median']:.0f} MB (highest "
            f"{run['worker_pss_mb']['highest']:.0f}), of rank 0 {run['rank_0_pss_mb']:.0f} MB, of all "
            f"{run['all_pss_gb']:.1f} GB ({run['free_before_gb']:.1f} GB were free); rows as of one process: "
            f"{run['rows_as_of_one_process']}"
        )
    if not all(run["rows_as_of_one_process"] for run in runs):
        raise SystemExit("the rows differ")


if __name__ == "__main__":
    if RECORDS in os.environ:
        sys.exit(run_rank())
    main()
