"""The master: performs what the scheduler decides, and brings results to the checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from cpxt_hpc.fitting.results import RESULT_DTYPE
from cpxt_hpc.parallel.messages import Alive, Left, Lost, Ready, Results, Stop, Work
from cpxt_hpc.parallel.progress import Progress
from cpxt_hpc.parallel.scheduler import Action, Assign, Scheduler
from cpxt_hpc.parallel.stop import StopRequest
from cpxt_hpc.parallel.transport import MpiLink
from cpxt_hpc.parallel.worker import UNDONE

SILENCE_S = 300.0
"""A worker with work in hand that does not answer for so long is given up; it answers every second while it fits,
or after its region where one takes longer."""

ALIVE_EVERY_S = 60.0
"""So often every worker is told that the master lives; see `cpxt_hpc.parallel.worker.SILENCE_S`."""

LEAVE_S = 30.0
"""Time that workers get to leave after an error of the master."""

LISTEN_S = 0.05

KEEP_EVERY_S = 0.05
"""Results that came meanwhile go to the disk together: one by one that would be half of the master's work."""

LOOK_EVERY_S = 0.5
"""So often the master looks at what needs no message: silent workers, signs of life, the clock of the checkpoint. With
thousands of workers a look at all of them takes longer than a message."""

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
    task_at = np.full(int(positions.max(initial=0)) + 1, -1)
    task_at[positions] = np.arange(len(positions))
    now = looked = kept = shown_alive = time.monotonic()
    heard = dict.fromkeys(scheduler.workers, now)
    lost: set[int] = set()
    waiting: list[np.ndarray] = []
    stopping = False
    look_every_s = min(LOOK_EVERY_S, silence_s, alive_every_s)
    try:
        while not scheduler.finished:
            if stop and not stopping:
                stopping = True
                log.info("%s received: collecting what is ready", stop.reason)
                _perform(link, scheduler.stop(), positions)
            received = link.receive(0.0 if waiting else LISTEN_S)
            now = time.monotonic()
            if received is not None:
                worker, message = received
                heard[worker] = now
                match message:
                    case Ready():
                        _perform(link, scheduler.worker_ready(worker), positions)
                    case Results(chunk, done, rows):
                        fresh, actions = scheduler.results(worker, chunk, task_at[done], float(rows["seconds"].sum()))
                        _perform(link, actions, positions)
                        waiting.append(rows if fresh.all() else rows[fresh])
                    case Left():
                        _perform(link, scheduler.worker_left(worker), positions)
                    case Lost() if worker in scheduler.workers:
                        log.warning("rank %d is dead: its regions go to others", worker)
                        lost.add(worker)
                        _perform(link, scheduler.worker_lost(worker), positions)
            if waiting and (received is None or now - kept > KEEP_EVERY_S):
                kept, waiting = now, _keep(waiting, sink, progress)
            if now - looked <= look_every_s:
                continue
            looked = now
            for worker in _silent(scheduler, heard, silence_s):
                log.warning("rank %d has not answered for %.0f s: its regions go to others", worker, silence_s)
                lost.add(worker)
                _perform(link, scheduler.worker_lost(worker), positions)
            if now - shown_alive > alive_every_s:
                shown_alive = now
                for worker in scheduler.workers:
                    link.send(worker, Alive())
            sink.tick()
            progress.tick()
        _keep(waiting, sink, progress)
    except BaseException:
        _send_away(link, scheduler.workers)
        raise
    link.others_know = True
    return tuple(sorted(lost))


def _keep(waiting: list[np.ndarray], sink: Sink, progress: Progress) -> list[np.ndarray]:
    """Bring rows into safety; returns those that still wait: none."""
    if waiting:
        # Without its type named numpy compares the fields of every array with every other's.
        rows = np.concatenate(waiting, dtype=RESULT_DTYPE)
        progress.add(sink.append(rows[rows["status"] != UNDONE]))
    return []


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
