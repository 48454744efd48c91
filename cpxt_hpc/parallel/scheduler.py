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
"""Longer chunks save nothing and delay the stop on request; see `SHORTEST_CHUNK_S`."""

SHORTEST_CHUNK_S = 0.005
"""Towards the end chunks shrink to this: hundred times what handing out costs."""

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
class _Worker:
    ready: bool = False
    released: bool = False
    chunks: set[int] = dataclasses.field(default_factory=set)


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
        self._done = np.zeros(len(self._seconds), dtype=bool)
        self._n_done = 0
        self._workers = {int(worker): _Worker() for worker in workers}
        self._chunks: dict[int, tuple[int, set[int]]] = {}
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
        state = self._workers.get(worker)
        return state is not None and (bool(state.chunks) or state.released)

    def remaining_seconds(self) -> float:
        """Estimated time of the tasks that no worker holds."""
        waiting = self._elapsed[-1] - self._elapsed[self._next] + self._seconds[self._given_back].sum()
        return float(waiting) * self._scale()

    def worker_ready(self, worker: int) -> list[Action]:
        """A worker has reported and holds nothing."""
        state = self._workers.setdefault(worker, _Worker())
        state.ready = True
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
        state = self._workers.get(worker)
        if state is None:
            # It was given up and lives: from now on it is one of us again.
            state = self._workers[worker] = _Worker(ready=True)
        if chunk in self._chunks and self._chunks[chunk][0] == worker:
            left = self._chunks[chunk][1]
            left.difference_update(tasks.tolist())
            if not left:
                del self._chunks[chunk]
                state.chunks.discard(chunk)
        if self._stopping or self.complete:
            return fresh, self._release_all()
        return fresh, self._feed(worker)

    def worker_lost(self, worker: int) -> list[Action]:
        """A worker does not answer: its tasks go to others."""
        self._give_back(worker)
        if self._stopping or self.complete:
            return self._release_all()
        # The hungriest first, so that what one worker held is spread.
        hungry = sorted((w for w, s in self._workers.items() if s.ready), key=lambda w: len(self._workers[w].chunks))
        return [action for other in hungry for action in self._feed(other)]

    def worker_left(self, worker: int) -> list[Action]:
        """A released worker has sent everything and is gone."""
        return self.worker_lost(worker)

    def stop(self) -> list[Action]:
        """Stop on request: hand out no more, collect what is ready."""
        self._stopping = True
        return self._release_all()

    def _feed(self, worker: int) -> list[Action]:
        state = self._workers[worker]
        actions: list[Action] = []
        while self._wants_more(state):
            tasks = self._take_chunk()
            if len(tasks) == 0:
                break
            self._last_chunk += 1
            state.chunks.add(self._last_chunk)
            self._chunks[self._last_chunk] = (worker, set(tasks.tolist()))
            actions.append(Assign(worker, self._last_chunk, tasks))
        return actions

    def _wants_more(self, state: _Worker) -> bool:
        if state.released or len(state.chunks) >= IN_FLIGHT:
            return False
        if not state.chunks:
            return True
        # A second chunk bridges the time of an answer. Behind a long one it would only be late, and the last
        # tasks belong to workers that have none.
        waiting = len(self._order) - self._next + len(self._given_back)
        if waiting <= len(self._workers) and waiting <= sum(not other.chunks for other in self._workers.values()):
            return False
        held_s = sum(self._seconds[list(self._chunks[chunk][1])].sum() for chunk in state.chunks) * self._scale()
        return held_s <= 1.5 * LONGEST_CHUNK_S

    def _take_chunk(self) -> np.ndarray:
        share_s = self.remaining_seconds() / (SHARE * max(len(self._workers), 1))
        budget = min(max(share_s, SHORTEST_CHUNK_S), LONGEST_CHUNK_S) / self._scale()
        if self._given_back:
            taken: list[int] = []
            while self._given_back and (not taken or self._seconds[taken].sum() < budget):
                task = self._given_back.pop()
                if not self._done[task]:
                    taken.append(task)
            if taken:
                return np.array(taken, dtype=np.int64)
        start = self._next
        end = int(np.searchsorted(self._elapsed, self._elapsed[start] + budget, side="right")) - 1
        self._next = min(max(end, start + 1), len(self._order))
        return self._order[start : self._next]

    def _give_back(self, worker: int) -> None:
        state = self._workers.pop(worker, None)
        for chunk in sorted(state.chunks) if state is not None else ():
            _, left = self._chunks.pop(chunk)
            self._given_back.extend(sorted(task for task in left if not self._done[task]))

    def _release_all(self) -> list[Action]:
        actions: list[Action] = []
        for worker, state in self._workers.items():
            if not state.released:
                state.released = True
                actions.append(Release(worker))
        return actions

    def _scale(self) -> float:
        """Measured over estimated time of the tasks done."""
        estimate_of_trust = TRUSTED_S
        return (estimate_of_trust + self._measured_s) / (estimate_of_trust + self._expected_s)
