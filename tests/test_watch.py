"""``cpxt-status --watch``: again and again, until the run is complete, or somebody presses Ctrl-C."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest
from fit_job import RunningFit, clean_environment, ready_to_fit, run_fit

from cpxt_hpc.cli.status import main as status_main
from cpxt_hpc.cli.watch import WINDOW_S, RecentRate, line, watch

JOB = {"host": "node1", "pid": 7, "workers": 255, "ranks": 256}


def status(done, total=1000, job=JOB, **more):
    known = {"name": "A2256", "done": done, "run_regions": total, "run_left": total - done, "job": job, "failed": {}}
    return {**known, "regions_per_s": None, "seconds_left": None, **more}


def watched(states, capsys, *, as_json=True):
    states = iter(states)
    watch(lambda: next(states), as_json=as_json, every_s=0.1, pause=lambda seconds: None)
    assert next(states, None) is None, "it ended too early"
    return capsys.readouterr().out.splitlines()


def test_it_ends_when_all_is_done(capsys):
    lines = watched([status(10), status(500), status(1000)], capsys)
    assert [json.loads(each)["done"] for each in lines] == [10, 500, 1000]


def test_it_ends_when_the_job_that_was_at_work_has_ended(capsys):
    assert len(watched([status(10), status(20), status(20, job=None)], capsys)) == 3


def test_it_waits_for_a_job_that_has_not_begun(capsys):
    assert len(watched([status(0, job=None), status(0, job=None), status(5), status(9, job=None)], capsys)) == 4


def test_lines_tell_done_total_failures_workers_rate_and_time_left():
    shown = line(status(412, failed={"CRASHED": [1, 2], "TIMED_OUT": [7]}, regions_per_s=0.5, seconds_left=1176.0))
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d A2256: 412 / 1,000 regions \(41 %\), 3 failed, 255 workers, 0.5/s, about 20 min left", shown
    )
    assert line(status(1000, job=None)).endswith("A2256: 1,000 / 1,000 regions (100 %), no job at work")
    assert line(status(0, total=0)).endswith("0 / 0 regions (100 %), 255 workers")


def test_the_rate_is_that_of_the_last_two_minutes():
    now = [0.0]
    rate = RecentRate(lambda: now[0])
    assert rate.add(100) is None
    for done in range(200, 1200, 100):
        now[0] += 10.0
        found = rate.add(done)
    assert found == pytest.approx(10.0)
    for done in range(1600, 1600 + 100 * int(WINDOW_S), 500):
        now[0] += 10.0
        found = rate.add(done)
    assert found == pytest.approx(50.0)
    now[0] += 10.0
    assert rate.add(3) is None, "started afresh"


def test_no_rate_without_a_clock_that_has_moved():
    rate = RecentRate(lambda: 5.0)
    assert rate.add(1) is None
    assert rate.add(2) is None


@pytest.fixture
def layout(tmp_path):
    return ready_to_fit(tmp_path / "made_up")


def start_watching(layout, *options, **streams):
    command = [sys.executable, "-m", "cpxt_hpc.cli.status", str(layout.ini), "--watch", "--every", "0.1", *options]
    return subprocess.Popen(command, env=clean_environment(TERM="xterm"), **streams)


def test_a_running_job_is_watched_to_its_end_as_one_json_object_a_line(layout):
    with RunningFit(layout, "--resolution", "3", ranks=3, FAKE_FAST="20", FAKE_SLEEP_S="0.02") as fit:
        fit.wait_for_results(1)
        with start_watching(layout, "--json", stdout=subprocess.PIPE, text=True) as watching:
            states = [json.loads(each) for each in watching.stdout]
        assert watching.returncode == 0
        assert fit.end()[0] == 0
    done = [state["done"] for state in states]
    assert done == sorted(done)
    assert states[-1]["run_left"] == 0 or states[-1]["job"] is None
    assert states[0]["job"]["ranks"] == 3
    assert states[0]["run_regions"] == 300


def test_what_is_complete_is_told_once(layout, capsys):
    assert run_fit(layout, "--resolution", "2", fake=True).returncode == 0
    assert status_main([str(layout.ini), "--watch"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("terminal", [True, False])
def test_ctrl_c_ends_it_cleanly(layout, terminal):
    ours, theirs = pty.openpty() if terminal else os.pipe()
    with start_watching(layout, stdout=theirs, stderr=subprocess.PIPE, text=True) as watching:
        os.close(theirs)
        seen = b""
        deadline = time.monotonic() + 60.0
        while (b"of 300 regions fitted" if terminal else b" regions (0 %)") not in seen and time.monotonic() < deadline:
            seen += os.read(ours, 4096)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=60.0) == 0, seen
        assert watching.stderr.read() == ""
    os.close(ours)


def test_an_interval_of_nothing_is_refused(layout, capsys):
    assert status_main([str(layout.ini), "--watch", "--every", "0"]) == 2
    assert "argument --every: 0: expected 0.1 to 86400 seconds" in capsys.readouterr().err


def test_before_a_job_the_ranks_to_ask_for_are_told(layout, capsys):
    assert status_main([str(layout.ini)]) == 0
    assert re.search(
        r"left: \d+ regions are about \d+ s of fits on one core: 1 rank makes sense", capsys.readouterr().out
    )
    assert status_main([str(layout.ini), "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)["advice"]
    assert advice["sensible_ranks"] == 1
    assert advice["core_seconds"] > 0
