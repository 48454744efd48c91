"""The worker: fits what the master sends, and answers with rows."""

from __future__ import annotations

import collections
import logging
import time
from typing import Protocol

import numpy as np

from cpxt_hpc.errors import CpxtError, ToolError
from cpxt_hpc.fitting.model import RegionTable
from cpxt_hpc.fitting.results import RESULT_DTYPE, Status, empty_result
from cpxt_hpc.parallel.messages import Left, Ready, Results, Stop, Work
from cpxt_hpc.parallel.transport import MpiLink

ANSWER_EVERY_S = 1.0
"""A chunk of slow fits is answered in parts, so that little is lost and the master sees life."""

SILENCE_S = 900.0
"""A master that says nothing for so long is dead: some launchers let the workers of a killed rank 0 wait for ever.
It speaks every minute, but a file system may keep it for longer."""

UNDONE = -1
"""Status of a row that travels to the master and no further: this machine could not fit the region, which says nothing
about the region. The next run does it."""

OF_THE_MACHINE = (MemoryError, OSError, CpxtError)
"""Exceptions of a fit that leave its region undone; all others are the region's own and become its status."""

MAX_UNDONE = 3
"""A process that leaves so many regions undone in a row takes no more: on a sound machine others do them."""

log = logging.getLogger("cpxt_hpc.fit")


class Fitter(Protocol):
    """What fits the regions of a table."""

    def fit(self, index: int) -> np.ndarray:
        """Row (0-dimensional, RESULT_DTYPE) of the region at this place of the table."""

    def estimated_seconds(self, index: np.ndarray) -> np.ndarray:
        """Rough times of the fits at these places [s]."""


def fit_region(fitter: Fitter, regions: RegionTable, position: int) -> np.ndarray:
    """Fit one region; a crash becomes its status.

    Returns
    -------
    ndarray of RESULT_DTYPE, shape ()
        With status `UNDONE` where memory, disk or a tool failed.
    """
    began = time.perf_counter()
    try:
        return fitter.fit(position)
    except Exception as error:
        undone = isinstance(error, OF_THE_MACHINE)
        number = int(regions.number[position])
        what = "could not be fitted on this machine and is left undone" if undone else "crashed"
        with_traceback = log.isEnabledFor(logging.DEBUG)
        log.warning("region %d %s (%s: %s)", number, what, type(error).__name__, error, exc_info=with_traceback)
        place = int(regions.iy[position]), int(regions.ix[position])
        row = empty_result(number, *place, float(regions.radius[position]), Status.CRASHED)
        row["seconds"] = time.perf_counter() - began
        if undone:
            row["status"] = UNDONE
        return row


class Undone:
    """Counts regions left undone in a row."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def too_many(self, row: np.ndarray) -> bool:
        """Whether this process should take no more after this row."""
        self._in_a_row = self._in_a_row + 1 if row["status"] == UNDONE else 0
        return self._in_a_row >= MAX_UNDONE


def run_worker(link: MpiLink, fitter: Fitter, regions: RegionTable, *, silence_s: float = SILENCE_S) -> None:
    """Fit until the master says stop.

    Raises
    ------
    ToolError
        The master has been silent for ``silence_s``.
    """
    waiting: collections.deque[Work] = collections.deque()
    undone = Undone()
    heard = time.monotonic()
    link.send(0, Ready())
    while True:
        received = link.receive(0.0 if waiting else 1.0)
        if received is not None:
            heard = time.monotonic()
            match received[1]:
                case Work() as work:
                    waiting.append(work)
                    continue
                case Stop():
                    break
        elif time.monotonic() - heard > silence_s:
            raise ToolError(
                f"rank 0 has said nothing for {silence_s:.0f} s: it was killed, or its node is lost. "
                "Run the same command again: it continues."
            )
        if waiting:
            if _fit_chunk(link, fitter, regions, waiting.popleft(), waiting, undone):
                break
            # What rank 0 said meanwhile was read there, and a chunk may have taken longer than the silence allowed.
            heard = time.monotonic()
    link.send(0, Left())
    link.flush(timeout_s=60.0)


def _fit_chunk(
    link: MpiLink, fitter: Fitter, regions: RegionTable, work: Work, waiting: collections.deque[Work], undone: Undone
) -> bool:
    """Fit a chunk and answer; True where the rest was dropped: a stop came, or this machine cannot go on."""
    rows: list[np.ndarray] = []
    first = 0
    answered = time.monotonic()
    stopped = False
    for done, position in enumerate(work.positions.tolist(), start=1):
        rows.append(fit_region(fitter, regions, position))
        received = link.receive(0.0)
        if received is not None:
            if isinstance(received[1], Work):
                waiting.append(received[1])
            stopped = isinstance(received[1], Stop)
        if undone.too_many(rows[-1]):
            log.warning("%d regions in a row were left undone: this process ends, others do the rest", MAX_UNDONE)
            stopped = True
        last = done == len(work.positions)
        if last or stopped or time.monotonic() - answered > ANSWER_EVERY_S:
            # Without its type named numpy compares the fields of every row with every other's.
            link.send(0, Results(work.chunk, work.positions[first:done], np.array(rows, dtype=RESULT_DTYPE)))
            rows, first, answered = [], done, time.monotonic()
        if stopped:
            break
    return stopped
