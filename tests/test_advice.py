"""How many ranks are advised, and whether the simulated job agrees."""

import numpy as np
import pytest
from job_simulation import Play
from synthetic import make_fit_input

from cpxt_hpc.fitting.estimate import SHERPA_FACTOR, estimated_seconds
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.parallel.advice import NOTHING, NOTHING_S, START_S, advice_line, advise, duration_s


def exact_map(n_regions):
    """A big map with one observation of 500 channels, as the exact engine fits it."""
    return 1.6e-4 * np.exp(0.1 * np.random.default_rng(1).normal(size=n_regions))


def sherpa_map(n_regions):
    return SHERPA_FACTOR * exact_map(n_regions)


def simulated_s(true_s, workers):
    return Play(true_s, true_s, workers).run().last_result


@pytest.mark.parametrize(
    ("true_s", "workers"),
    [
        *((exact_map(100_000), workers) for workers in (1, 4, 16, 64, 255)),
        *((sherpa_map(20_000), workers) for workers in (15, 255, 1023)),
        (sherpa_map(300), 255),
        (np.append(sherpa_map(2000), 60.0), 255),
    ],
)
def test_the_duration_is_that_of_the_simulated_job(true_s, workers):
    expected = simulated_s(true_s, workers)
    found = duration_s(len(true_s), true_s.sum(), true_s.max(), np.array([workers]))[0]
    assert found == pytest.approx(expected, rel=0.15, abs=0.05)


@pytest.mark.parametrize("true_s", [exact_map(100_000), sherpa_map(3000), exact_map(500)])
def test_beyond_the_useful_ranks_nothing_is_gained_and_below_something(true_s):
    advice = advise(true_s)
    workers = max(advice.useful_ranks - 1, 1)
    there = simulated_s(true_s, workers)
    assert there == pytest.approx(advice.shortest_s, rel=0.2, abs=0.1)
    for more in (2 * workers, 4 * workers):
        assert simulated_s(true_s, more) > there - 1.5 * max(NOTHING * there, NOTHING_S)
    if workers > 4:
        assert simulated_s(true_s, workers // 2) > there + 0.5 * NOTHING_S


def test_the_exact_engine_needs_a_few_ranks_for_a_large_map_and_sherpa_thousands():
    exact, sherpa = advise(exact_map(100_000)), advise(sherpa_map(100_000))
    assert 2 <= exact.sensible_ranks <= 6
    assert exact.useful_ranks < 20
    assert exact.shortest_s < START_S
    assert sherpa.sensible_ranks > 1000
    assert sherpa.core_seconds == pytest.approx(SHERPA_FACTOR * exact.core_seconds)


def test_a_longest_region_bounds_what_ranks_can_do():
    times = np.append(np.full(1000, 0.5), 100.0)
    assert advise(times).useful_ranks <= 8
    assert advise(times).shortest_s >= 100.0


def test_one_rank_is_enough_for_little_and_for_nothing():
    assert advise(np.zeros(0)).useful_ranks == 1
    assert advise(exact_map(1)).useful_ranks == 1
    assert advise(exact_map(1000)).sensible_ranks == 1


def test_sensible_ranks_are_never_more_than_useful_ones():
    rng = np.random.default_rng(2)
    for _ in range(50):
        times = rng.exponential(10.0 ** rng.uniform(-4, 1), size=rng.integers(1, 5000))
        advice = advise(times)
        assert 1 <= advice.sensible_ranks <= advice.useful_ranks


def test_the_line_says_what_to_ask_for():
    assert advice_line(advise(np.full(100_000, 1e-4))) == (
        "100,000 regions are about 10 s of fits on one core: 3 ranks make sense, beyond 8 nothing is gained"
    )
    assert "1 region is about" in advice_line(advise(np.ones(1)))
    assert "1 rank makes sense" in advice_line(advise(np.ones(1)))


def test_estimates_grow_with_channels_observations_and_pixels_and_know_the_engine():
    one, three = make_fit_input(n_obs=1, n_regions=8), make_fit_input(n_obs=3, n_regions=8)
    places = np.arange(8)
    times = estimated_seconds(one, FitSettings(), places)
    assert times.shape == (8,)
    assert (estimated_seconds(three, FitSettings(), places) > times).all()
    assert (estimated_seconds(one, FitSettings(statistic="wstat"), places) > 2.0 * times).all()
    assert (estimated_seconds(one, FitSettings(free="nH"), places) > 3.0 * times).all()
    assert (estimated_seconds(one, FitSettings(engine="sherpa"), places) > 1000.0 * times).all()
    by_radius = np.argsort(one.regions.radius)
    assert (np.diff(times[by_radius]) >= 0.0).all()
