"""What a user reads while a job runs and at its end."""

import logging

import numpy as np
import pytest

from cpxt_hpc.fitting.results import RESULT_DTYPE, Flag, Status
from cpxt_hpc.parallel.progress import LINE_EVERY_S, Progress, count_by_status, duration, failed_regions, summary


def rows_of(*statuses):
    rows = np.zeros(len(statuses), dtype=RESULT_DTYPE)
    rows["region"] = np.arange(1, len(rows) + 1)
    rows["status"] = statuses
    return rows


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_line_tells_done_total_flagged_workers_rate_and_time_left():
    clock = Clock()
    before = rows_of(*[Status.OK] * 200)
    progress = Progress(98_310, before, 255, clock=clock)
    rows = np.zeros(41_000, dtype=RESULT_DTYPE)
    rows["status"][:300] = Status.KT_HI_UNBOUND
    rows["flags"][290:310] = Flag.POOR_FIT
    progress.add(rows)
    clock.now += 30.0
    progress.begin()
    clock.now += 800.0
    # 41,000 in 800 s, the 200 of an earlier run do not count: 51.25/s, 57,110 left.
    assert progress.line() == "41,200 / 98,310 regions (41 %), 310 flagged, 255 workers, 51/s, about 19 min left"


def test_no_rate_is_told_before_the_first_result():
    assert Progress(10, rows_of(), 1, clock=Clock()).line() == "0 / 10 regions (0 %), 0 flagged, 1 worker"


def test_lines_come_by_time_and_not_by_region(caplog):
    clock = Clock()
    progress = Progress(1000, rows_of(), 2, clock=clock)
    with caplog.at_level(logging.INFO, "cpxt_hpc.fit"):
        for _ in range(100):
            progress.add(rows_of(Status.OK))
            progress.tick()
        assert caplog.messages == []
        clock.now += LINE_EVERY_S
        progress.tick()
        progress.tick()
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (1140, "19 min"), (12600, "3.5 h")])
def test_durations_read_as_a_person_says_them(seconds, text):
    assert duration(seconds) == text


def test_the_summary_counts_by_status_and_lists_failures_but_not_flags():
    rows = rows_of(Status.OK, Status.KT_HI_UNBOUND, Status.CRASHED, Status.OK, Status.NOT_A_NUMBER, Status.CRASHED)
    assert count_by_status(rows) == {"OK": 2, "KT_HI_UNBOUND": 1, "NOT_A_NUMBER": 1, "CRASHED": 2}
    assert failed_regions(rows) == {"NOT_A_NUMBER": [5], "CRASHED": [3, 6]}
    lines = summary(rows, 7)
    assert lines[0] == "6 of 7 regions done"
    assert lines[-2:] == ["NOT_A_NUMBER: regions 5", "CRASHED: regions 3, 6"]


def test_the_summary_counts_flags():
    rows = rows_of(*[Status.OK] * 20)
    rows["flags"][:3] = Flag.FEW_COUNTS | Flag.NH_AT_BOUND
    rows["flags"][7] = Flag.FAR_FROM_ARF
    rows["disagreement"] = np.nan
    assert summary(rows, 20)[-1] == "flagged: 3 few counts, 1 far from ARF, 3 nH at bound"
    rows["flags"] = 0
    rows["disagreement"][:] = np.linspace(0.0, 1.4, 20)
    assert summary(rows, 20)[-1] == "observations disagree by 0.7 sigma in the median (0.7 by chance)."


def test_a_long_list_of_failures_is_cut():
    lines = summary(rows_of(*[Status.CRASHED] * 50), 50)
    assert lines[-1].endswith("19, 20, ...")
