"""SIGKILL for a real fit job again and again: whole jobs, single ranks, and rank 0 at calls that change files.

Each kill comes after new rows were acknowledged. After each, and while the jobs run, every acknowledged row must be in
the checkpoint as it was acknowledged, and none acknowledged twice; at the end of each round every column but `seconds`
must be that of an uninterrupted run, bit for bit. Then so many `cpxt-fit --region N` at once: every fit must be there,
once. 200 kills take about a quarter of an hour on two cores. --json prints one object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from environment import environment
from fit_job import ready_to_fit, run_fit
from killing import PARALLEL_KINDS, SERIAL_KINDS, run_regions_at_once, soak

from cpxt_hpc.io.checkpoint import read_results
from cpxt_hpc.io.result_rows import bytes_without_seconds


def regions_at_once(folder: Path, processes: int, seed: int) -> dict:
    """Fit some regions by one process each, all at once, and compare them with those of one process."""
    alone = ready_to_fit(folder / "alone")
    ended = run_fit(alone, "--resolution", "3")
    assert ended.returncode == 0, ended.stderr
    layout = ready_to_fit(folder / "at_once")
    numbers = np.random.default_rng(seed).choice(np.arange(1, 301), size=processes, replace=False)
    began = time.monotonic()
    codes = run_regions_at_once(layout, numbers.tolist())
    seconds = time.monotonic() - began
    assert codes == [0] * processes, f"exit codes {codes}"
    rows, expected = read_results(layout.fits), read_results(alone.fits)
    assert rows["region"].tolist() == sorted(numbers.tolist())
    expected = expected[np.isin(expected["region"], numbers)]
    assert bytes_without_seconds(rows) == bytes_without_seconds(expected)
    ended = run_fit(layout, "--resolution", "3", ranks=3)
    assert ended.returncode == 0, ended.stderr
    assert bytes_without_seconds(read_results(layout.fits)) == bytes_without_seconds(read_results(alone.fits))
    return {"processes_at_once": processes, "processes_seconds": seconds}


def main() -> None:
    """Print the kills as they come, and what they did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--processes", type=int, default=64, help="single-region processes at once; 0: none")
    parser.add_argument("--regions", type=int, default=300, help="of each round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    def tell(line: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)

    kinds = np.random.default_rng(arguments.seed).choice([*SERIAL_KINDS, *PARALLEL_KINDS], arguments.kills).tolist()
    began = time.monotonic()
    result: dict = {}
    with tempfile.TemporaryDirectory(prefix="cpxt_soak_") as folder:
        if kinds:
            result |= soak(Path(folder), kinds, seed=arguments.seed, n_regions=arguments.regions, tell=tell)
            result["soak_seconds"] = time.monotonic() - began
        if arguments.processes:
            result |= regions_at_once(Path(folder), arguments.processes, arguments.seed)
    result |= {"seed": arguments.seed, "environment": environment()}
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"environment: {result['environment']}")
    if kinds:
        print(
            f"{len(kinds)} kills in {result['rounds']} rounds, {result['soak_seconds']:.0f} s; "
            f"{result['acknowledged']} rows acknowledged, {result['lost']} lost, {result['doubled']} twice, "
            f"{result['differing']} differ from an uninterrupted run"
        )
        for kind, number in sorted(result["kills"].items()):
            print(f"  {number:4d}  {kind}")
    if arguments.processes:
        print(
            f"{arguments.processes} processes with one region each at once: all fits there, once, "
            f"{result['processes_seconds']:.0f} s"
        )


if __name__ == "__main__":
    main()
