"""The master: performs what the scheduler decides, and brings results to the checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from cpxt_hpc.parallel.messages import Alive, Left, Lost, Ready, Results, Stop, Work
from cpxt_hpc.parallel.progress import Progress
from cpxt_hpc.parallel.scheduler import Action, Assign, Scheduler
from cpxt_hpc.parallel.stop import StopRequest
from cpxt_hpc.parallel.transport import MpiLink

SILENCE_S = 300.0
"""A worker with work in hand that does not answer for so long is given up; it answers every second while it fits,
or after its region where one takes longer."""

ALIVE_EVERY_S = 60.0
"""So often every worker is told that the master lives; see `cpxt_hpc.parallel.worker.SILENCE_S`."""

LEAVE_S = 30.0
"""Time that workers get to leave after an error of the master."""

LISTEN_S = 0.05

log = logging.getLogger("cpxt_hpc.fit")


class Sink(Protocol):
    """Where results become safe."""

    def append(self, rows: np.ndarray) -> np.ndarray:
        """Make rows safe; those are returned that were not there before."""

    def tick(self) -> None:
        """Whatever must be done every few seconds."""


def run_master(
    link: MpiLink,
    scheduler: Scheduler,
    positions: np.ndarray,
    sink: Sink,
    stop: StopRequest,
    progress: Progress,
    *,
    silence_s: float = SILENCE_S,
    alive_every_s: float = ALIVE_EVERY_S,
) -> tuple[int, ...]:
    """Hand out all work and collect the results, until every worker has left.

    Parameters
    ----------
    link : MpiLink
    scheduler : Scheduler
    positions : ndarray of int
        Place in the region table of each of the scheduler's tasks.
    sink, stop, progress
    silence_s, alive_every_s : float
        See `SILENCE_S`, `ALIVE_EVERY_S`.

    Returns
    -------
    tuple of int
        Workers that were lost.

    Raises
    ------
    CpxtError
        Of the sink; the workers are told to leave before.
    """
    task_at = dict(zip(positions.tolist(), range(len(positions)), strict=True))
    heard = dict.fromkeys(scheduler.workers, time.monotonic())
    lost: set[int] = set()
    stopping = False
    shown_alive = time.monotonic()
    try:
        while not scheduler.finished:
            actions: list[Action] = []
            if stop and not stopping:
                stopping = True
                log.info("%s received: collecting what is ready", stop.reason)
                actions += scheduler.stop()
            received = link.receive(LISTEN_S)
            if received is not None:
                worker, message = received
                heard[worker] = time.monotonic()
                match message:
                    case Ready():
                        actions += scheduler.worker_ready(worker)
                    case Results(chunk, done, rows):
                        tasks = np.array([task_at[position] for position in done.tolist()])
                        fresh, more = scheduler.results(worker, chunk, tasks, float(rows["seconds"].sum()))
                        # The workers get their next work before the disk gets the rows.
                        _perform(link, more, positions)
                        progress.add(sink.append(rows[fresh]))
                    case Left():
                        actions += scheduler.worker_left(worker)
                    case Lost() if worker in scheduler.workers:
                        log.warning("rank %d is dead: its regions go to others", worker)
                        lost.add(worker)
                        actions += scheduler.worker_lost(worker)
            for worker in _silent(scheduler, heard, silence_s):
                log.warning("rank %d has not answered for %.0f s: its regions go to others", worker, silence_s)
                lost.add(worker)
                actions += scheduler.worker_lost(worker)
            _perform(link, actions, positions)
            if time.monotonic() - shown_alive > alive_every_s:
                shown_alive = time.monotonic()
                for worker in scheduler.workers:
                    link.send(worker, Alive())
            sink.tick()
            progress.tick()
    except BaseException:
        _send_away(link, scheduler.workers)
        raise
    link.others_know = True
    return tuple(sorted(lost))


def _perform(link: MpiLink, actions: Iterable[Action], positions: np.ndarray) -> None:
    for action in actions:
        if isinstance(action, Assign):
            link.send(action.worker, Work(action.chunk, positions[action.tasks]))
        else:
            link.send(action.worker, Stop())


def _silent(scheduler: Scheduler, heard: dict[int, float], silence_s: float) -> list[int]:
    now = time.monotonic()
    return [w for w in scheduler.workers if now - heard.get(w, now) > silence_s and scheduler.busy(w)]


def _send_away(link: MpiLink, workers: Iterable[int]) -> None:
    """Let the workers leave after an error, and drop what they still send."""
    staying = set(workers)
    for worker in staying:
        link.send(worker, Stop())
    deadline = time.monotonic() + LEAVE_S
    while staying and time.monotonic() < deadline:
        received = link.receive(LISTEN_S)
        if received is not None and isinstance(received[1], (Left, Lost)):
            staying.discard(received[0])
    link.others_know = not staying
