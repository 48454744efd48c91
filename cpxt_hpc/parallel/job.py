"""A fit job, whatever the number of processes: prepare the fitter, share the work, collect."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np

from cpxt_hpc.errors import ToolError
from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.fitting.time_limit import watching_time
from cpxt_hpc.parallel.master import SILENCE_S, Sink, run_master
from cpxt_hpc.parallel.progress import Progress
from cpxt_hpc.parallel.scheduler import Scheduler
from cpxt_hpc.parallel.serial import run_serial
from cpxt_hpc.parallel.stop import StopRequest
from cpxt_hpc.parallel.transport import Link
from cpxt_hpc.parallel.worker import Fitter, fit_region, run_worker

log = logging.getLogger("cpxt_hpc.fit")


def run_fits(
    link: Link,
    fit_input: FitInput,
    make_fitter: Callable[[FitInput], Fitter],
    positions: np.ndarray,
    sink: Sink | None,
    stop: StopRequest,
    progress: Progress | None,
    *,
    longest_fit_s: float = 0.0,
) -> tuple[int, ...]:
    """Fit regions on all ranks; called by all of them.

    Parameters
    ----------
    link : Link
    fit_input : FitInput
    make_fitter : callable
        Called on one rank of each node first: it may compile.
    positions : ndarray of int
        Places in ``fit_input.regions``; the same on every rank.
    sink, progress
        Where results go; only rank 0 needs them.
    stop : StopRequest
    longest_fit_s : float
        A worker may be silent for so long before its silence counts.

    Returns
    -------
    tuple of int
        Ranks that were lost on the way; empty on workers.

    Raises
    ------
    CpxtError
        Results cannot be kept, or all workers were lost.
    """
    if len(positions) == 0:
        return ()
    regions = fit_input.regions

    def prepare() -> Fitter:
        fitter = make_fitter(fit_input)
        began = time.monotonic()
        # The first fit compiles the loops, or loads them.
        fit_region(fitter, regions, int(positions[0]))
        if link.rank == 0 and time.monotonic() - began > 2.0:
            log.info("compiled in %.0f s; the next run finds it done", time.monotonic() - began)
        return fitter

    fitter = link.leader_first(prepare)
    if progress is not None:
        progress.begin()
    if link.size == 1:
        with watching_time():
            run_serial(fitter, regions, positions, sink, stop, progress)
        return ()
    if link.rank > 0:
        with watching_time():
            run_worker(link, fitter, regions)
        return ()
    scheduler = Scheduler(fitter.estimated_seconds(positions), range(1, link.size))
    lost = run_master(link, scheduler, positions, sink, stop, progress, silence_s=SILENCE_S + longest_fit_s)
    if not scheduler.complete and not stop:
        raise ToolError(
            f"all {link.size - 1} workers were lost or gave up with {len(positions) - scheduler.n_done} regions to do. "
            "Run the same command again: it continues."
        )
    return lost
