"""A fit job without processes: the real scheduler, a simulated clock, a master whose work takes time, and workers that
take theirs, or die.
"""

import heapq

import numpy as np

from cpxt_hpc.parallel.advice import COLLECT_S
from cpxt_hpc.parallel.scheduler import HAND_OUT_S, Assign, Release, Scheduler

LATENCY_S = 1e-4
"""One way between ranks; a hundred times what mpich needs on one node."""


class Play:
    """A discrete-event simulation of master and workers.

    ``dies_at`` maps workers to the time after which they say nothing any more; the master notices ``silence_s`` later.
    Every message keeps the master busy for ``message_s`` and every result for ``collect_s``: what comes meanwhile
    waits. ``slower`` maps workers to the factor by which they are slower than the others.
    """

    def __init__(
        self,
        true_s,
        estimated_s,
        n_workers,
        *,
        dies_at=None,
        stop_at=None,
        silence_s=5.0,
        slower=None,
        latency_s=LATENCY_S,
        message_s=0.5 * HAND_OUT_S,
        collect_s=COLLECT_S,
    ):
        self.true_s = np.asarray(true_s)
        self.scheduler = Scheduler(estimated_s, range(1, n_workers + 1))
        self.dies_at = dies_at or {}
        self.stop_at = stop_at
        self.silence_s = silence_s
        self.slower = slower or {}
        self.latency_s, self.message_s, self.collect_s = latency_s, message_s, collect_s
        self.free_at = dict.fromkeys(range(1, n_workers + 1), 0.0)
        self.count = np.zeros(len(self.true_s), dtype=int)
        self.recorded = np.zeros(len(self.true_s), dtype=bool)
        self.longest_chunk_s = 0.0
        self.n_chunks = 0
        self.deepest = 0
        self.held = dict.fromkeys(self.free_at, 0)
        self.now = 0.0
        self.master_busy_s = 0.0
        self.last_result = 0.0
        self._queue = []
        self._number = 0

    def at(self, time, *event):
        self._number += 1
        heapq.heappush(self._queue, (time, self._number, event))

    def run(self):
        for worker in self.free_at:
            self.at(0.0, "ready", worker)
        for worker, time in self.dies_at.items():
            self.at(time + self.silence_s, "lost", worker)
        if self.stop_at is not None:
            self.at(self.stop_at, "stop")
        while self._queue and not self.scheduler.finished:
            time, _, event = heapq.heappop(self._queue)
            self.now = max(self.now, time)
            self.work(self.message_s)
            for action in getattr(self, event[0])(*event[1:]):
                self.work(self.message_s)
                self.perform(action)
        return self

    def work(self, seconds):
        """Keep the master busy."""
        self.now += seconds
        self.master_busy_s += seconds

    def ready(self, worker):
        return self.scheduler.worker_ready(worker)

    def lost(self, worker):
        return self.scheduler.worker_lost(worker) if worker in self.scheduler.workers else []

    def left(self, worker):
        return self.scheduler.worker_left(worker)

    def stop(self):
        return self.scheduler.stop()

    def result(self, worker, chunk, tasks, took):
        self.held[worker] -= 1
        self.count[tasks] += 1
        fresh, actions = self.scheduler.results(worker, chunk, tasks, took)
        assert not self.recorded[tasks[fresh]].any()
        self.recorded[tasks[fresh]] = True
        self.work(self.collect_s * len(tasks))
        self.last_result = self.now
        return actions

    def perform(self, action):
        worker = action.worker
        begin = max(self.free_at[worker], self.now + self.latency_s)
        dead_from = self.dies_at.get(worker, np.inf)
        if isinstance(action, Release):
            if begin < dead_from:
                self.at(begin + self.latency_s, "left", worker)
            return
        assert isinstance(action, Assign)
        self.n_chunks += 1
        self.held[worker] += 1
        self.deepest = max(self.deepest, self.held[worker])
        took = float(self.true_s[action.tasks].sum()) * self.slower.get(worker, 1.0)
        if len(action.tasks) > 1:
            self.longest_chunk_s = max(self.longest_chunk_s, took)
        self.free_at[worker] = begin + took
        if begin + took < dead_from:
            self.at(begin + took + self.latency_s, "result", worker, action.chunk, action.tasks, took)


def bound(true_s, n_workers):
    """No schedule is faster."""
    return max(true_s.sum() / n_workers, true_s.max())
