"""``cpxt-status --watch``: the state of a fit again and again, until it is complete."""

from __future__ import annotations

import collections
import contextlib
import datetime
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

WINDOW_S = 120.0
"""The rate is that of the last so many seconds."""

SHARE_OF_READING = 5.0
"""Between two looks at a large checkpoint at least so many times what a look takes."""

Show = Callable[[dict[str, Any]], None]


class RecentRate:
    """Regions a second over the last `WINDOW_S`.

    Parameters
    ----------
    clock : callable
        Seconds, steadily growing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: collections.deque[tuple[float, int]] = collections.deque()

    def add(self, done: int) -> float | None:
        """Take note of what is done now; the rate, or None where nothing was done while we watched."""
        now = self._clock()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] > WINDOW_S:
            self._seen.popleft()
        (before, done_before), fresh = self._seen[0], done - self._seen[0][1]
        if done < done_before:
            # Started afresh.
            self._seen.clear()
            return None
        return fresh / (now - before) if fresh and now > before else None


def watch(
    read: Callable[[], dict[str, Any]],
    *,
    as_json: bool,
    every_s: float,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Show the state until all is done or the job that was at work has ended; Ctrl-C ends it, too.

    Parameters
    ----------
    read : callable
        Gives the state as `cpxt_hpc.cli.status.fit_status` does.
    as_json : bool
        One JSON object a line; else a picture that is refreshed on a terminal, and a line each time elsewhere.
    every_s : float
        Seconds from one look to the next.
    pause : callable
        Waits for so many seconds.
    """
    rate = RecentRate()
    worked = False
    with contextlib.suppress(KeyboardInterrupt), _shown(as_json) as show:
        while True:
            began = time.monotonic()
            status = with_rate(read(), rate)
            show(status)
            if status["run_left"] == 0 or (worked and status["job"] is None):
                return
            worked = worked or status["job"] is not None
            pause(max(every_s, SHARE_OF_READING * (time.monotonic() - began)))


def with_rate(status: dict[str, Any], rate: RecentRate) -> dict[str, Any]:
    """The state with the rate and the time left as they were while we watched, where that is known."""
    recent = rate.add(status["done"])
    if recent is None:
        return status
    return {**status, "regions_per_s": recent, "seconds_left": status["run_left"] / recent}


def line(status: dict[str, Any]) -> str:
    """For example ``12:04:31 A2256: 41,200 / 98,310 regions (41 %), 255 workers, 51/s, about 19 min left``."""
    from cpxt_hpc.parallel.progress import duration

    total, left = status["run_regions"], status["run_left"]
    text = f"{datetime.datetime.now():%H:%M:%S} {status['name']}: {total - left:,} / {total:,} regions"
    text += f" ({100 * (total - left) // total if total else 100} %)"
    failed = sum(map(len, status["failed"].values()))
    if failed:
        text += f", {failed:,} failed"
    job = status["job"]
    if job is None:
        text += ", no job at work"
    elif "workers" in job:
        text += f", {job['workers']:,} worker{'' if job['workers'] == 1 else 's'}"
    if left and status["regions_per_s"]:
        rate = status["regions_per_s"]
        text += f", {rate:,.0f}/s" if rate >= 10 else f", {rate:.2g}/s"
        text += f", about {duration(status['seconds_left'])} left"
    return text


@contextlib.contextmanager
def _shown(as_json: bool) -> Iterator[Show]:
    if as_json:
        yield lambda status: print(json.dumps(status), flush=True)
    elif sys.stdout.isatty():
        from rich.live import Live
        from rich.text import Text

        from cpxt_hpc.cli.status import status_lines

        with Live(auto_refresh=False) as live:
            yield lambda status: live.update(Text("\n".join(status_lines(status))), refresh=True)
    else:
        yield lambda status: print(line(status), flush=True)
