"""``[fit] region_timeout``: a fit that takes too long becomes a status, and the next region follows."""

import dataclasses
import math
import os
import signal
import sys
import threading
import time
import warnings

import fit_job
import numpy as np
import pytest
from synthetic import make_fit_input

from cpxt_hpc.fitting import sherpa_engine, sherpa_fit
from cpxt_hpc.fitting.regions import RegionFitter
from cpxt_hpc.fitting.results import RESULT_DTYPE, Status
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.time_limit import TimeLimitExceeded, time_limit, watching_time
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.parallel.plan import fit_provenance, fit_settings


@pytest.fixture(scope="module")
def fit_input():
    made = make_fit_input(n_regions=6, n_channels=64, ny=30, nx=30)
    settings = {"nH_1e22": 0.05, "redshift": 0.2, "absorption": "phabs", "plasma": "apec", "abundance_table": "angr"}
    return dataclasses.replace(made, settings={**made.settings, **settings, "cross_sections": "vern"})


def forever():
    while True:
        time.sleep(0.01)


@pytest.fixture
def ticking():
    with watching_time(0.02):
        yield


def test_what_takes_too_long_is_interrupted_and_nothing_comes_later(ticking):
    with pytest.raises(TimeLimitExceeded), time_limit(0.05):
        forever()
    time.sleep(0.1)
    with time_limit(60.0):
        time.sleep(0.1)


def test_an_error_handler_of_the_fit_does_not_swallow_it(ticking):
    def stubborn():
        try:
            forever()
        except Exception:
            forever()

    with pytest.raises(TimeLimitExceeded), time_limit(0.05):
        stubborn()


def test_an_exception_that_is_lost_comes_again(ticking):
    class Finalised:
        def __del__(self):
            forever()

    with pytest.raises(TimeLimitExceeded), warnings.catch_warnings(), time_limit(0.05):
        warnings.simplefilter("ignore")
        sys.unraisablehook, before = lambda lost: None, sys.unraisablehook
        try:
            Finalised()
            forever()
        finally:
            sys.unraisablehook = before


def test_there_is_no_limit_of_zero(ticking):
    with time_limit(0.0):
        time.sleep(0.1)


def test_nobody_is_interrupted_where_time_is_not_watched():
    with time_limit(0.01):
        time.sleep(0.05)
    threads = []

    def elsewhere():
        with watching_time():
            threads.append(signal.getsignal(signal.SIGALRM))

    before = signal.getsignal(signal.SIGALRM)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert threads == [before]


def test_an_alarm_that_was_set_before_is_set_again():
    before = signal.getsignal(signal.SIGALRM), signal.setitimer(signal.ITIMER_REAL, 100.0, 30.0)
    try:
        with watching_time():
            assert signal.getsignal(signal.SIGALRM) is not before[0]
        assert signal.getsignal(signal.SIGALRM) is before[0]
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert left > 90.0
        assert interval == 30.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before[1])


def test_a_fit_of_the_exact_engine_that_takes_too_long_is_a_status(fit_input, monkeypatch, ticking):
    expected = RegionFitter(fit_input).fit(3)
    fitter = RegionFitter(fit_input, region_timeout=0.05)
    fill = fitter._fill

    def slow_at_2(row, pixels):
        fill(row, pixels)
        if row["region"] == 3:
            forever()

    monkeypatch.setattr(fitter, "_fill", slow_at_2)
    row = fitter.fit(2)
    assert row["status"] == Status.TIMED_OUT
    assert np.isnan(row["kT"])
    assert np.isnan(row["net_counts"])
    assert row["seconds"] >= 0.05
    after = np.array(fitter.fit(3))
    after["seconds"] = expected["seconds"]
    assert after.tobytes() == expected.tobytes()


def test_a_sherpa_process_that_hangs_is_killed_and_the_next_region_gets_a_new_one(fit_input, monkeypatch):
    slow = int(sum(part.sum() for part in [RegionFitter(fit_input).extractor.extract(
        *RegionFitter(fit_input).region_runs(2)).counts]))  # fmt: skip
    environment = fit_job.clean_environment(SLOW_COUNTS=str(slow))
    monkeypatch.setattr(sherpa_engine, "CHILD_MODULE", "slow_sherpa_child")
    monkeypatch.setattr(sherpa_engine, "child_environment", lambda: environment)
    monkeypatch.setattr(sherpa_engine, "checked_apec_root", lambda root: "nowhere")
    monkeypatch.setattr(sherpa_fit, "checked_apec_root", lambda root: "nowhere")
    monkeypatch.setattr(sherpa_fit, "atomdb_version", lambda root: None)
    # Long enough for a busy machine to answer within it.
    fitter = RegionFitter(fit_input, engine="sherpa", region_timeout=3.0)
    engine = fitter._other_engine.keywords["engine"]
    first = engine.child_pid
    rows = np.array([fitter.fit(index) for index in (1, 2, 3)], RESULT_DTYPE)
    assert rows["status"].tolist() == [Status.OK, Status.TIMED_OUT, Status.OK]
    assert rows["kT"][[0, 2]].tolist() == [5.0, 5.0]
    assert engine.child_pid not in (None, first)
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    engine.close()


def test_the_limit_changes_no_number_and_is_not_part_of_the_digest(tmp_path):
    layout = fit_job.write_job(tmp_path / "made_up", make_fit_input(n_regions=4, ny=20, nx=20), region_timeout="7.5")
    config = read_config(layout.ini)
    assert fit_settings(config).region_timeout == 7.5
    assert "region_timeout" not in fit_provenance(config, make_fit_input(n_regions=4, ny=20, nx=20)).settings


def test_a_process_may_be_silent_as_long_as_a_fit_may_take():
    assert FitSettings(region_timeout=1e5).longest_silence_s == 0.0
    assert FitSettings(engine="sherpa", region_timeout=1e5).longest_silence_s == 1e5
    assert FitSettings(engine="sherpa", region_timeout=0.0).longest_silence_s == math.inf
