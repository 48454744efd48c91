"""Master and workers notice when the other side is dead, also where the launcher tells nobody."""

import types

import numpy as np
import pytest

from cpxt_hpc.errors import ToolError
from cpxt_hpc.parallel.master import run_master
from cpxt_hpc.parallel.messages import Alive, Left, Lost, Ready, Stop
from cpxt_hpc.parallel.scheduler import Scheduler
from cpxt_hpc.parallel.stop import StopRequest
from cpxt_hpc.parallel.worker import run_worker

NOBODY = types.SimpleNamespace(tick=lambda: None, append=lambda rows: rows, add=lambda rows: None)


class ScriptedLink:
    """Says what its script holds, one message a call, then nothing more; keeps what is sent."""

    def __init__(self, *script):
        self.script = list(script)
        self.sent = []

    def receive(self, timeout_s):
        return self.script.pop(0) if self.script else None

    def send(self, destination, message):
        self.sent.append((destination, message))

    def flush(self, timeout_s):
        pass


def test_a_worker_leaves_a_master_that_says_nothing():
    link = ScriptedLink((0, Alive()))
    with pytest.raises(ToolError, match=r"rank 0 has said nothing for 0 s: .*it continues"):
        run_worker(link, None, None, silence_s=0.01)
    assert link.sent == [(0, Ready())]


def test_a_sign_of_life_is_no_work():
    link = ScriptedLink((0, Alive()), (0, Alive()), (0, Stop()))
    run_worker(link, None, None)
    assert link.sent == [(0, Ready()), (0, Left())]


def test_the_master_shows_every_worker_that_it_lives():
    link = ScriptedLink(None, (1, Ready()), (1, Left()), (2, Left()))
    scheduler = Scheduler(np.zeros(0), [1, 2])
    run_master(link, scheduler, np.zeros(0, dtype=int), NOBODY, StopRequest(), NOBODY, alive_every_s=-1.0)
    assert link.sent[:2] == [(1, Alive()), (2, Alive())]


def test_a_worker_that_never_reported_holds_nobody_up_at_the_end():
    link = ScriptedLink((1, Ready()), (1, Left()))
    scheduler = Scheduler(np.zeros(0), [1, 2])
    lost = run_master(link, scheduler, np.zeros(0, dtype=int), NOBODY, StopRequest(), NOBODY, silence_s=0.01)
    assert lost == (2,)
    assert scheduler.finished


def test_a_worker_whose_death_mpi_tells_of_is_not_waited_for():
    link = ScriptedLink((1, Ready()), (2, Lost()), (1, Left()), (2, Lost()))
    scheduler = Scheduler(np.zeros(0), [1, 2])
    assert run_master(link, scheduler, np.zeros(0, dtype=int), NOBODY, StopRequest(), NOBODY) == (2,)
    assert scheduler.finished
