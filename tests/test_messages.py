"""Messages between ranks come out as they went in."""

import numpy as np
import pytest

from cpxt_hpc.fitting.results import RESULT_DTYPE, Status, empty_result
from cpxt_hpc.parallel.messages import Alive, Left, Ready, Results, Stop, Work, decode, encode


@pytest.mark.parametrize("message", [Ready(), Stop(), Left(), Alive()])
def test_bare_messages_survive_the_way(message):
    assert decode(*encode(message)) == message


@pytest.mark.parametrize("n", [0, 1, 1000])
def test_work_survives_the_way(n):
    message = decode(*encode(Work(2**40, np.arange(n)[::-1])))
    assert message.chunk == 2**40
    assert message.positions.tolist() == list(range(n))[::-1]


def test_rows_survive_the_way_to_the_last_bit():
    rows = np.array([empty_result(7, 1, 2, 3.125, Status.CRASHED), empty_result(9, 4, 5, 0.1, Status.OK)], RESULT_DTYPE)
    rows["kT"] = [np.nan, 1 / 3]
    message = decode(*encode(Results(5, np.array([11, 12]), rows)))
    assert message.positions.tolist() == [11, 12]
    assert message.rows.tobytes() == rows.tobytes()


def test_something_else_is_no_message():
    with pytest.raises(TypeError, match="not a message"):
        encode("work")
