"""Stop on request: USR1, TERM and INT ask for an orderly end."""

from __future__ import annotations

import signal

REQUESTS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Remembers the first signal that asked for an end.

    Every rank installs it: launchers pass a signal to all of them, and only rank 0 decides what it means.

    Attributes
    ----------
    reason : str
        Name of the signal; empty as long as none came.
    """

    def __init__(self) -> None:
        self.reason = ""

    def install(self) -> None:
        """Take the signals over, until this process ends."""
        for number in REQUESTS:
            signal.signal(number, self._note)

    def __bool__(self) -> bool:
        return bool(self.reason)

    def _note(self, number: int, frame: object) -> None:
        self.reason = self.reason or signal.Signals(number).name
