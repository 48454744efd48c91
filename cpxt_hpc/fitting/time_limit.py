"""A limit for the time of a fit, in the process that fits.

`watching_time` starts a clock that ticks every second; within it `time_limit` costs next to nothing, so that fits of a
tenth of a millisecond can afford it.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator

TICK_S = 1.0


class TimeLimitExceeded(BaseException):
    """The time is over. Not an `Exception`: what catches any error of a fit must not take it for one."""


class _Watch:
    deadline = math.inf


def _tick(number: int, frame: object) -> None:
    # Every second again: an exception is lost where it meets a finaliser.
    if time.monotonic() > _Watch.deadline:
        raise TimeLimitExceeded


@contextlib.contextmanager
def watching_time(tick_s: float = TICK_S) -> Iterator[None]:
    """Let limits of time be kept in the block.

    Not in another thread than the main one, where no signal arrives. The alarm clock of the process is taken over.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler_before = signal.signal(signal.SIGALRM, _tick)
    timer_before = signal.setitimer(signal.ITIMER_REAL, tick_s, tick_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer_before)
        signal.signal(signal.SIGALRM, handler_before)


class time_limit:
    """Raise `TimeLimitExceeded` in the block after so many seconds; 0: never.

    The exception comes between two steps of Python: a call of compiled code ends first. Without `watching_time` around
    it there is no limit.
    """

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        if self._seconds > 0.0:
            _Watch.deadline = time.monotonic() + self._seconds

    def __exit__(self, *raised: object) -> None:
        try:
            _Watch.deadline = math.inf
        finally:
            # Again, because a tick may come just before the line above.
            _Watch.deadline = math.inf
