"""The same work in one process, without MPI."""

from __future__ import annotations

import time

import numpy as np

from cpxt_hpc.fitting.model import RegionTable
from cpxt_hpc.fitting.results import RESULT_DTYPE
from cpxt_hpc.parallel.master import Sink
from cpxt_hpc.parallel.progress import Progress
from cpxt_hpc.parallel.stop import StopRequest
from cpxt_hpc.parallel.worker import UNDONE, Fitter, Undone, fit_region

KEEP_EVERY_S = 0.2


def run_serial(
    fitter: Fitter, regions: RegionTable, positions: np.ndarray, sink: Sink, stop: StopRequest, progress: Progress
) -> None:
    """Fit regions one after the other, until all are done, a stop is requested, or this machine cannot go on."""
    rows: list[np.ndarray] = []
    undone = Undone()
    kept = time.monotonic()
    for position in positions.tolist():
        if stop:
            break
        row = fit_region(fitter, regions, position)
        if undone.too_many(row):
            break
        if row["status"] != UNDONE:
            rows.append(row)
        if time.monotonic() - kept > KEEP_EVERY_S:
            progress.add(sink.append(np.array(rows, dtype=RESULT_DTYPE)))
            rows, kept = [], time.monotonic()
            sink.tick()
            progress.tick()
    if rows:
        progress.add(sink.append(np.array(rows, dtype=RESULT_DTYPE)))
