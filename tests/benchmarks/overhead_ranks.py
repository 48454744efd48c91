"""What one rank of `overhead.py` runs: tasks that take a known time, shared out by us or by somebody else.

``mpiexec -n 8 python overhead_ranks.py REQUEST`` with REQUEST a JSON object: ``by`` (ours, executor or schwimmbad),
``tasks``, ``seconds`` of each, ``burn`` (true: it computes; false: it sleeps, as one with a core of its own), ``chunk``
(executor: tasks that travel together), ``expected_s`` (ours: the estimate that the scheduler is told). Rank 0 prints a
JSON object: ``makespan_s``, ``in_tasks_s`` (of all workers, as they measured it), ``workers``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cpxt_hpc.fitting.model import RegionTable
from cpxt_hpc.fitting.results import RESULT_DTYPE, Status, empty_result


def take_time(seconds: float, burn: bool) -> float:
    """A task; returns how long it was at it."""
    began = time.perf_counter()
    if burn:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass
    elif seconds > 0.0:
        time.sleep(seconds)
    return time.perf_counter() - began


def sleep_task(seconds: float) -> float:
    """For the others, whose tasks are functions of one argument."""
    return take_time(seconds, burn=False)


def burn_task(seconds: float) -> float:
    """The same, computing."""
    return take_time(seconds, burn=True)


class TimedFitter:
    """Takes the place of the fits."""

    def __init__(self, request: dict) -> None:
        self.request = request

    def fit(self, index: int) -> np.ndarray:
        """Take the time of a task."""
        row = empty_result(index + 1, 0, 0, 1.0, Status.OK)
        row["seconds"] = take_time(self.request["seconds"], self.request["burn"])
        return row


class TimedSink:
    """A checkpoint that remembers when the last row came, and the time that all of them took."""

    def __init__(self, checkpoint) -> None:
        self.checkpoint = checkpoint
        self.tick = checkpoint.tick
        self.in_tasks_s = self.last = 0.0

    def append(self, rows: np.ndarray) -> np.ndarray:
        """Keep rows."""
        fresh = self.checkpoint.append(rows)
        self.in_tasks_s += float(rows["seconds"].sum(dtype=float))
        self.last = time.perf_counter()
        return fresh


def ours(request: dict) -> dict | None:
    """Our scheduler, transport and checkpoint."""
    from cpxt_hpc.io.checkpoint import Checkpoint
    from cpxt_hpc.io.provenance import Provenance
    from cpxt_hpc.parallel.master import run_master
    from cpxt_hpc.parallel.progress import Progress
    from cpxt_hpc.parallel.scheduler import Scheduler
    from cpxt_hpc.parallel.stop import StopRequest
    from cpxt_hpc.parallel.transport import connect
    from cpxt_hpc.parallel.worker import run_worker

    n = request["tasks"]
    ones = np.ones(n, np.int32)
    regions = RegionTable(np.arange(1, n + 1), ones, ones, ones, np.zeros(n + 1, np.int64), np.zeros(0, np.int64))
    with connect() as link, tempfile.TemporaryDirectory() as folder:
        link.on_root(lambda: None)
        if link.rank:
            run_worker(link, TimedFitter(request), regions)
            return None
        with Checkpoint(Path(folder, "fits.h5"), Provenance({}, "")) as checkpoint:
            sink = TimedSink(checkpoint)
            began = time.perf_counter()
            scheduler = Scheduler(np.full(n, request["expected_s"]), range(1, link.size))
            progress = Progress(n, np.zeros(0, RESULT_DTYPE), link.size - 1)
            run_master(link, scheduler, np.arange(n), sink, StopRequest(), progress)
            if not scheduler.complete:
                raise RuntimeError("not all tasks were done")
        return {"makespan_s": sink.last - began, "in_tasks_s": sink.in_tasks_s, "workers": link.size - 1}


def executor(request: dict) -> dict | None:
    """mpi4py's MPICommExecutor."""
    from mpi4py import MPI
    from mpi4py.futures import MPICommExecutor

    task = burn_task if request["burn"] else sleep_task
    with MPICommExecutor(MPI.COMM_WORLD, root=0) as pool:
        if pool is None:
            return None
        list(pool.map(sleep_task, [0.0] * 100))
        began = time.perf_counter()
        took = list(pool.map(task, [request["seconds"]] * request["tasks"], chunksize=request["chunk"], unordered=True))
        makespan = time.perf_counter() - began
    return {"makespan_s": makespan, "in_tasks_s": sum(took), "workers": MPI.COMM_WORLD.Get_size() - 1}


def schwimmbad(request: dict) -> dict | None:
    """schwimmbad's MPIPool, which sends one task at a time."""
    from mpi4py import MPI
    from schwimmbad import MPIPool

    task = burn_task if request["burn"] else sleep_task
    with MPIPool() as pool:
        if not pool.is_master():
            pool.wait()
            return None
        pool.map(sleep_task, [0.0] * 100)
        began = time.perf_counter()
        took = list(pool.map(task, [request["seconds"]] * request["tasks"]))
        makespan = time.perf_counter() - began
    return {"makespan_s": makespan, "in_tasks_s": sum(took), "workers": MPI.COMM_WORLD.Get_size() - 1}


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    answer = {"ours": ours, "executor": executor, "schwimmbad": schwimmbad}[asked["by"]](asked)
    if answer is not None:
        print("ANSWER " + json.dumps(answer), flush=True)
