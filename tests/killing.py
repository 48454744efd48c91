"""Kills a real fit job again and again, and proves after each kill that no acknowledged fit was lost.

Jobs are `killed_fit`: the real fitter, slowed down, whose rank 0 writes down what it has acknowledged. A round is one
checkpoint that is killed until hardly anything is left to do, finished, and compared with an uninterrupted run.
"""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import time
from pathlib import Path

import h5py
import numpy as np
from fit_job import RunningFit, clean_environment, fit_command, ready_to_fit
from killed_fit import row_crc

from cpxt_hpc.errors import MissingInput
from cpxt_hpc.io.checkpoint import read_results
from cpxt_hpc.io.result_rows import bytes_without_seconds
from cpxt_hpc.layout import ClusterLayout

PROGRAM = "killed_fit.py"
SLOW_S = 0.05
LATEST_WRITE_CALL = 40
"""A compaction with the rows before it makes about nine calls that change files."""

SERIAL_KINDS = ("the job of one process", "one process at a write call")
PARALLEL_KINDS = (
    "the job of three ranks", "rank 0 of three", "a worker of three", "rank 0 of three at a write call",
)  # fmt: skip


def soak(folder: Path, kinds: list[str], *, seed: int = 1, n_regions: int = 300, tell=lambda line: None) -> dict:
    """Kill as many times as there are kinds, in this order; each kill comes after new rows.

    Returns
    -------
    dict
        kills by kind, rounds, acknowledged rows, and how many of these were lost, came twice or differ.

    Raises
    ------
    AssertionError
        A row was lost or changed, or a job could not continue.
    """
    rng = np.random.default_rng(seed)
    undisturbed = _Round(folder / "undisturbed", n_regions)
    undisturbed.finish(rng)
    expected = read_results(undisturbed.layout.fits)
    assert len(expected) == n_regions
    told = collections.Counter()
    acknowledged, rounds, waiting = 0, 0, list(kinds)
    while waiting:
        rounds += 1
        this = _Round(folder / f"round{rounds}", n_regions)
        # The last fifth is left to the uninterrupted end, where a slow look would find nothing left to kill.
        while waiting and this.n_acknowledged() < 0.8 * n_regions:
            if this.kill(waiting[0], rng):
                told[waiting.pop(0)] += 1
                tell(f"kill {sum(told.values())}: {this.last}")
            this.check()
        this.finish(rng)
        this.check()
        rows = read_results(this.layout.fits)
        assert bytes_without_seconds(rows) == bytes_without_seconds(expected), f"round {rounds} has other rows"
        with h5py.File(this.layout.fits) as file:
            assert file["results"]["region"].tolist() == list(range(1, n_regions + 1))
        acknowledged += this.n_acknowledged()
        tell(f"round {rounds}: all {n_regions} rows as in the uninterrupted run")
    return {
        "kills": dict(told),
        "rounds": rounds,
        "acknowledged": acknowledged,
        "lost": 0,
        "doubled": 0,
        "differing": 0,
    }


class _Round:
    def __init__(self, folder: Path, n_regions: int) -> None:
        self.layout: ClusterLayout = ready_to_fit(folder / "made_up", n_regions=n_regions)
        self.last = ""
        self._log = folder / "acknowledged"

    def acknowledged(self) -> list[tuple[int, int]]:
        """Region and CRC of every row that a job has acknowledged so far."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [(int(region), int(crc)) for region, crc in map(str.split, lines)]

    def n_acknowledged(self) -> int:
        return len(self.acknowledged())

    def kill(self, kind: str, rng: np.random.Generator) -> bool:
        """Start a job and kill it after new rows; False where it was done before."""
        before = self.n_acknowledged()
        at_call = int(rng.integers(1, LATEST_WRITE_CALL)) if "write call" in kind else 0
        more = {"KILL_AT_CALL": str(at_call)} if at_call else {}
        ranks = 3 if kind in PARALLEL_KINDS else 0
        rows, later_s = int(rng.integers(1, 12)), float(rng.uniform(0.0, 0.25))
        with self._start(ranks, SLOW_S, **more) as fit:
            if at_call:
                code, _, errors = fit.end()
                killed = code != 0
                assert killed or self.n_acknowledged() == len(self._regions()), errors
                self.last = f"{kind} number {at_call}"
            else:
                fit.wait_until(lambda: self.n_acknowledged() >= before + rows)
                time.sleep(later_s)
                self._check_reader()
                if "the job" in kind:
                    fit.kill_all()
                elif fit.process.poll() is None:
                    os.kill(fit.process_of_rank(0 if "rank 0" in kind else 2), signal.SIGKILL)
                    fit.end()
                killed = fit.process.returncode != 0
                self.last = kind
        new = self.n_acknowledged() - before
        assert new > 0, f"{self.last}: killed before any new row"
        self.last += f", {new} new rows, {before + new} in all"
        return killed

    def finish(self, rng: np.random.Generator) -> None:
        """Run to the end, undisturbed, with any number of ranks."""
        with self._start(int(rng.choice([0, 3])), 0.0) as fit:
            code, _, errors = fit.end()
        assert code == 0, errors

    def check(self) -> None:
        """Every acknowledged row is in the checkpoint as it was acknowledged, and none was acknowledged twice."""
        acknowledged = self.acknowledged()
        regions = [region for region, _ in acknowledged]
        assert len(set(regions)) == len(regions), "a region was acknowledged twice"
        self._check_holds(acknowledged)

    def _check_reader(self) -> None:
        """What was acknowledged before a reader looks, it finds, while the job runs."""
        self._check_holds(self.acknowledged())

    def _check_holds(self, acknowledged: list[tuple[int, int]]) -> None:
        rows = read_results(self.layout.fits)
        held = {int(row["region"]): row_crc(row) for row in rows}
        assert len(held) == len(rows), "a region is there twice"
        lost = [region for region, crc in acknowledged if held.get(region) != crc]
        assert not lost, f"after {self.last}: {len(lost)} acknowledged rows are lost or differ, first {lost[:5]}"

    def _regions(self) -> np.ndarray:
        try:
            return read_results(self.layout.fits)["region"]
        except MissingInput:
            return np.zeros(0, dtype=int)

    def _start(self, ranks: int, slow_s: float, **more: str) -> RunningFit:
        return RunningFit(
            self.layout, "--resolution", "3", ranks=ranks, more={"program": PROGRAM},
            ACKNOWLEDGED=str(self._log), SLOW_S=str(slow_s), OMP_NUM_THREADS="1", **more,
        )  # fmt: skip


def run_regions_at_once(layout: ClusterLayout, numbers: list[int]) -> list[int]:
    """Start ``cpxt-fit --region N`` for every number at the same time; returns the exit codes."""
    processes = [
        subprocess.Popen(
            fit_command(layout, "--region", str(number)), env=clean_environment(OMP_NUM_THREADS="1"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for number in numbers
    ]  # fmt: skip
    return [process.wait(timeout=600) for process in processes]
