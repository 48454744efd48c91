"""What a user watches: a line every few seconds, and a summary by status."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable

import numpy as np

from cpxt_hpc.fitting.flags import count_flags, disagreement_line, flags_line, is_flagged, median_disagreement
from cpxt_hpc.fitting.results import FAILURES, Status

LINE_EVERY_S = 10.0

log = logging.getLogger("cpxt_hpc.fit")


class Progress:
    """Counts results and logs a line by time, not by region.

    Parameters
    ----------
    total : int
        Regions that this run's selection holds.
    before : ndarray of RESULT_DTYPE
        Those that were done before.
    workers : int
    clock : callable
        Seconds, steadily growing.
    on_begin : callable, optional
        Called when the fits begin.
    """

    def __init__(
        self,
        total: int,
        before: np.ndarray,
        workers: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_begin: Callable[[], None] | None = None,
    ) -> None:
        self.total = total
        self.done = len(before)
        self.flagged = int(is_flagged(before).sum())
        self.workers = workers
        self._clock = clock
        self._on_begin = on_begin
        self._done_before = self.done
        self._began = self._logged = clock()

    def begin(self) -> None:
        """Count the time from now on: compiling is over."""
        self._began = self._logged = self._clock()
        if self._on_begin is not None:
            self._on_begin()

    def add(self, rows: np.ndarray) -> None:
        """Count new results."""
        self.done += len(rows)
        self.flagged += int(is_flagged(rows).sum())

    def tick(self) -> None:
        """Log a line where it is time; cheap, to be called often."""
        now = self._clock()
        if now - self._logged >= LINE_EVERY_S:
            self._logged = now
            log.info("%s", self.line())

    def rate(self) -> float:
        """Regions a second since the fits began."""
        elapsed = self._clock() - self._began
        return (self.done - self._done_before) / elapsed if elapsed > 0 else 0.0

    def line(self) -> str:
        """For example ``41,200 / 98,310 regions (42 %), 310 flagged, 255 workers, 51/s, about 19 min left``."""
        share = 100 * self.done // self.total if self.total else 100
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        text = f"{self.done:,} / {self.total:,} regions ({share} %), {self.flagged:,} flagged, {workers}"
        rate = self.rate()
        if rate > 0:
            text += f", {rate:,.0f}/s" if rate >= 10 else f", {rate:.2g}/s"
            text += f", about {duration((self.total - self.done) / rate)} left"
        return text


def duration(seconds: float) -> str:
    """A time as a person says it: ``40 s``, ``19 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def local_time() -> str:
    """The time now, in ISO form with the zone's offset."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def count_by_status(rows: np.ndarray) -> dict[str, int]:
    """Number of rows by name of their status, in the order of the codes."""
    codes, numbers = np.unique(rows["status"], return_counts=True)
    return {Status(code).name: int(number) for code, number in zip(codes.tolist(), numbers, strict=True)}


def failed_regions(rows: np.ndarray) -> dict[str, list[int]]:
    """Region numbers that have no fit because something went wrong, by name of their status."""
    return {
        status.name: rows["region"][rows["status"] == status].tolist()
        for status in FAILURES
        if (rows["status"] == status).any()
    }


def summary(rows: np.ndarray, total: int) -> list[str]:
    """Lines for the end of a run: how many are done, how they went, and what to look at."""
    lines = [f"{len(rows):,} of {total:,} regions done"]
    lines += [f"  {number:9,}  {name}" for name, number in count_by_status(rows).items()]
    told = flags_line(count_flags(rows)), disagreement_line(median_disagreement(rows))
    lines += [line for line in told if line]
    for name, regions in failed_regions(rows).items():
        shown = ", ".join(map(str, regions[:20])) + (", ..." if len(regions) > 20 else "")
        lines.append(f"{name}: regions {shown}")
    return lines
