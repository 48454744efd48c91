"""Who fits what: a pure state machine. Events go in, actions come out; no clock, no MPI, no files.

Tasks are handed out in chunks of about equal estimated time, the longest tasks first, two chunks to each worker so
that none waits for an answer. Chunks shrink towards the end, so that all workers finish together. The tasks of a lost
worker are given away; a result that comes twice counts once.

Estimates need only be right relative to each other: the scale is corrected by what the workers measure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

LONGEST_CHUNK_S = 0.2
"""Longer chunks save nothing, but what the master can serve: see `LONGEST_ROUNDS`."""

SHORTEST_CHUNK_S = 0.005
"""Towards the end chunks shrink to this: hundred times what handing out costs."""

HAND_OUT_S = 5e-5
"""What taking a chunk's results and sending the next one costs the master. The time in which it serves every worker
once, a round, is the shortest chunk that keeps up with it."""

LONGEST_ROUNDS = 4
"""Chunks last so many rounds at least: with thousands of workers the master is then busy a quarter of its time."""

SHARE = 3
"""A chunk is at most the remaining work over SHARE times the number of workers."""

IN_FLIGHT = 2
"""Chunks that a worker holds."""

TRUSTED_S = 0.5
"""So much measured time weighs as much as the estimate's own scale."""


@dataclasses.dataclass(frozen=True)
class Assign:
    """Send these tasks to this worker."""

    worker: int
    chunk: int
    tasks: np.ndarray


@dataclasses.dataclass(frozen=True)
class Release:
    """Tell this worker to send what it has, and to leave."""

    worker: int


Action = Assign | Release


@dataclasses.dataclass
class _Chunk:
    """Tasks that a worker has in hand, those answered left out, and their estimated time."""

    worker: int
    tasks: np.ndarray
    seconds: float


class Scheduler:
    """State of a run.

    Parameters
    ----------
    estimated_seconds : ndarray, shape (n_tasks,)
        Expected time of each task; tasks are numbered by position.
    workers : iterable of int
        All workers that will report sooner or later.
    """

    def __init__(self, estimated_seconds: np.ndarray, workers: Iterable[int]) -> None:
        self._seconds = np.maximum(np.asarray(estimated_seconds, dtype=float), 1e-9)
        self._order = np.argsort(-self._seconds, kind="stable")
        self._elapsed = np.concatenate([[0.0], np.cumsum(self._seconds[self._order])])
        self._next = 0
        self._given_back: list[int] = []
        self._given_back_s = 0.0
        self._done = np.zeros(len(self._seconds), dtype=bool)
        self._n_done = 0
        self._workers: dict[int, set[int]] = {int(worker): set() for worker in workers}
        self._ready: set[int] = set()
        self._holding: set[int] = set()
        self._staying = dict.fromkeys(self._workers)
        self._chunks: dict[int, _Chunk] = {}
        self._last_chunk = 0
        self._measured_s = self._expected_s = 0.0
        self._stopping = False

    @property
    def n_done(self) -> int:
        """Tasks whose result is here."""
        return self._n_done

    @property
    def complete(self) -> bool:
        """Every task has a result."""
        return self._n_done == len(self._done)

    @property
    def finished(self) -> bool:
        """No worker is left to wait for."""
        return not self._workers

    @property
    def workers(self) -> tuple[int, ...]:
        """Workers that have neither left nor been lost."""
        return tuple(self._workers)

    def busy(self, worker: int) -> bool:
        """Whether an answer of this worker is due; one that has not reported yet may still compile, until the end."""
        return worker in self._holding or (worker in self._workers and worker not in self._staying)

    def remaining_seconds(self) -> float:
        """Estimated time of the tasks that no worker holds."""
        waiting = float(self._elapsed[-1] - self._elapsed[self._next]) + self._given_back_s
        return waiting * self._scale()

    def worker_ready(self, worker: int) -> list[Action]:
        """A worker has reported and holds nothing."""
        self._take_in(worker)
        if self._stopping or self.complete:
            return self._release_all()
        return self._feed(worker)

    def results(self, worker: int, chunk: int, tasks: np.ndarray, seconds: float) -> tuple[np.ndarray, list[Action]]:
        """Results of a chunk, or a part of one, have come.

        Parameters
        ----------
        worker, chunk : int
        tasks : ndarray of int
        seconds : float
            Time that the worker needed for them.

        Returns
        -------
        fresh : ndarray of bool, shape of tasks
            False where a result of this task was here before.
        actions : list of Action
        """
        tasks = np.asarray(tasks, dtype=np.int64)
        fresh = ~self._done[tasks]
        self._done[tasks] = True
        self._n_done += int(fresh.sum())
        self._measured_s += seconds
        self._expected_s += float(self._seconds[tasks].sum())
        # One that was given up and lives is one of us again.
        self._take_in(worker)
        held = self._chunks.get(chunk)
        if held is not None and held.worker == worker:
            self._answered(chunk, held, tasks)
        if self._stopping or self.complete:
            return fresh, self._release_all()
        return fresh, self._feed(worker)

    def worker_lost(self, worker: int) -> list[Action]:
        """A worker does not answer: its tasks go to others."""
        self._give_back(worker)
        if self._stopping or self.complete:
            return self._release_all()
        # The hungriest first, so that what one worker held is spread.
        hungry = sorted((w for w in self._workers if w in self._ready), key=lambda w: len(self._workers[w]))
        return [action for other in hungry for action in self._feed(other)]

    def worker_left(self, worker: int) -> list[Action]:
        """A released worker has sent everything and is gone."""
        return self.worker_lost(worker)

    def stop(self) -> list[Action]:
        """Stop on request: hand out no more, collect what is ready."""
        self._stopping = True
        return self._release_all()

    def _take_in(self, worker: int) -> None:
        """Count a worker that has spoken among those that get work."""
        if worker not in self._workers:
            self._workers[worker] = set()
            self._staying[worker] = None
        self._ready.add(worker)

    def _answered(self, chunk: int, held: _Chunk, tasks: np.ndarray) -> None:
        """Take answered tasks out of a chunk, and the chunk away once it is empty."""
        if len(tasks) < len(held.tasks) or not np.array_equal(tasks, held.tasks):
            held.tasks = held.tasks[~np.isin(held.tasks, tasks)]
            held.seconds = float(self._seconds[held.tasks].sum())
            if len(held.tasks):
                return
        del self._chunks[chunk]
        self._workers[held.worker].discard(chunk)
        if not self._workers[held.worker]:
            self._holding.discard(held.worker)

    def _feed(self, worker: int) -> list[Action]:
        actions: list[Action] = []
        while self._wants_more(worker):
            tasks, seconds = self._take_chunk()
            if len(tasks) == 0:
                break
            self._last_chunk += 1
            self._workers[worker].add(self._last_chunk)
            self._holding.add(worker)
            self._chunks[self._last_chunk] = _Chunk(worker, tasks, seconds)
            actions.append(Assign(worker, self._last_chunk, tasks))
        return actions

    def _wants_more(self, worker: int) -> bool:
        chunks = self._workers[worker]
        if worker not in self._staying or len(chunks) >= IN_FLIGHT:
            return False
        if not chunks:
            return True
        # A second chunk bridges the time of an answer. Behind a long one it would only be late, and the last
        # tasks belong to workers that have none.
        waiting = len(self._order) - self._next + len(self._given_back)
        if waiting <= len(self._workers) - len(self._holding):
            return False
        held_s = sum(self._chunks[chunk].seconds for chunk in chunks) * self._scale()
        return held_s <= 1.5 * self._longest_s()

    def _take_chunk(self) -> tuple[np.ndarray, float]:
        """Tasks for a worker, and their estimated time; none where all are handed out."""
        share_s = self.remaining_seconds() / (SHARE * max(len(self._workers), 1))
        shortest_s = max(SHORTEST_CHUNK_S, self._round_s())
        budget = min(max(share_s, shortest_s), self._longest_s()) / self._scale()
        taken, taken_s = self._take_given_back(budget)
        if taken:
            return np.array(taken, dtype=np.int64), taken_s
        start = self._next
        end = int(np.searchsorted(self._elapsed, self._elapsed[start] + budget, side="right")) - 1
        self._next = min(max(end, start + 1), len(self._order))
        return self._order[start : self._next], float(self._elapsed[self._next] - self._elapsed[start])

    def _take_given_back(self, budget: float) -> tuple[list[int], float]:
        taken: list[int] = []
        taken_s = 0.0
        while self._given_back and (not taken or taken_s < budget):
            task = self._given_back.pop()
            self._given_back_s -= float(self._seconds[task])
            if not self._done[task]:
                taken.append(task)
                taken_s += float(self._seconds[task])
        return taken, taken_s

    def _give_back(self, worker: int) -> None:
        chunks = self._workers.pop(worker, set())
        self._staying.pop(worker, None)
        self._holding.discard(worker)
        self._ready.discard(worker)
        for chunk in sorted(chunks):
            tasks = self._chunks.pop(chunk).tasks
            left = np.sort(tasks[~self._done[tasks]])
            self._given_back.extend(left.tolist())
            self._given_back_s += float(self._seconds[left].sum())

    def _release_all(self) -> list[Action]:
        actions: list[Action] = [Release(worker) for worker in self._staying]
        self._staying.clear()
        return actions

    def _round_s(self) -> float:
        return HAND_OUT_S * len(self._workers)

    def _longest_s(self) -> float:
        return max(LONGEST_CHUNK_S, LONGEST_ROUNDS * self._round_s())

    def _scale(self) -> float:
        """Measured over estimated time of the tasks done."""
        estimate_of_trust = TRUSTED_S
        return (estimate_of_trust + self._measured_s) / (estimate_of_trust + self._expected_s)
