"""The parts of the exact search: bounds, walks downhill, moved backgrounds."""

import itertools

import numpy as np
import pytest
from synthetic import background_templates, made_up_nodes, temperature_nodes

from cpxt_hpc.fitting.cstat import scale_background
from cpxt_hpc.fitting.exact import BOUND, HIGH, LOW, VALUE, find_minima, nearby_minimum, walk_downhill
from cpxt_hpc.fitting.filled import filled_channels
from cpxt_hpc.fitting.limits import fit_kt_norm
from cpxt_hpc.fitting.statistics import STATISTICS, prepare, statistic_derivatives, statistic_value
from cpxt_hpc.science.compiled import compiled

N_CHANNELS = 60
KT = temperature_nodes()
NODES = made_up_nodes(N_CHANNELS)
RATES = np.ascontiguousarray(np.tile(NODES[0] + 0.3 * (NODES[1] - NODES[0]), 2))
EXPOSURE = np.repeat([1.0, 0.6], N_CHANNELS)
SCALE = np.repeat([0.2, 0.7], N_CHANNELS)
TEMPLATE = np.concatenate(background_templates(N_CHANNELS))


def spectra_of(statistic, seed, kt=None, counts=None, share=None, factor=1.0, exposure=EXPOSURE):
    """Two observations of a region, drawn at random."""
    rng = np.random.default_rng(seed)
    kt = kt or rng.uniform(0.4, 14.0)
    counts = counts or 10.0 ** rng.uniform(0.5, 4.0)
    share = share or rng.uniform(0.05, 0.7)
    source = np.array([np.interp(kt, KT, channel) for channel in RATES.T]) * exposure
    source *= counts * (1.0 - share) / source.sum()
    background = TEMPLATE * (exposure > 0)
    background *= counts * share / background.sum()
    drawn, blank = rng.poisson(source + background).astype(float), rng.poisson(background / SCALE).astype(float)
    code = STATISTICS[statistic]
    return prepare(code, drawn, factor * background, blank, factor * SCALE, RATES, exposure)


@compiled
def table_of_minima(spectra, delta_statistic):
    _, minima, k, _ = find_minima(spectra, delta_statistic)
    return minima, k


@compiled
def walk_with_background(spectra, factor, k, a, b):
    filled = filled_channels(spectra)
    scale_background(filled.work, factor)
    return walk_downhill(filled, k, a, b)


def interval_minimum(spectra, k, steps=24):
    """Lowest statistic on a polar grid in interval k: above the true minimum, if only just."""
    node_norm = np.array([spectra.observed.sum() / spectra.totals[m] for m in (k, k + 1)])
    lowest = np.inf
    for part in np.linspace(0.0, 1.0, steps):
        for share in np.linspace(0.0, 1.5, steps):
            a, b = share * (1.0 - part) * node_norm[0], share * part * node_norm[1]
            lowest = min(lowest, statistic_value(spectra, k, a, b))
    return lowest


@pytest.mark.parametrize("statistic", ["cstat", "wstat"])
def test_no_interval_is_below_its_bound_and_none_is_left_out_that_matters(statistic):
    for seed in range(6):
        spectra = spectra_of(statistic, seed)
        minima, best = table_of_minima(spectra, 1.0)
        level = minima[VALUE, best] + 1.0
        assert minima[VALUE, best] == minima[VALUE, :-1].min()
        for k in range(len(KT) - 1):
            found = interval_minimum(spectra, k)
            assert found >= minima[BOUND, k] - 1e-9
            if np.isfinite(minima[VALUE, k]):
                assert found >= minima[VALUE, k] - 1e-9
                there = statistic_value(spectra, k, minima[LOW, k], minima[HIGH, k])
                assert there == pytest.approx(minima[VALUE, k], rel=1e-12, abs=1e-10)
            else:
                assert found > level
                assert minima[BOUND, k] > level


@pytest.mark.parametrize("statistic", ["cstat", "wstat"])
def test_the_bounds_leave_most_intervals_out_where_there_are_enough_counts(statistic):
    minima, _ = table_of_minima(spectra_of(statistic, 1, kt=5.0, counts=3000.0, share=0.2), 1.0)
    assert np.isfinite(minima[VALUE, :-1]).sum() <= 7


@pytest.mark.parametrize("statistic", ["cstat", "wstat"])
def test_a_walk_downhill_ends_in_a_minimum_wherever_it_starts(statistic):
    spectra = spectra_of(statistic, 3, kt=4.0, counts=2000.0, share=0.3)
    kt, _, _, norm, _, _, lowest, _, _ = fit_kt_norm(spectra, KT)
    for k in (2, 10, 16, len(KT) - 2):
        for a, b in ((1.0, 1.0), (0.0, 5.0), (5.0, 0.0), (0.0, 0.0)):
            interval, low, high, value = nearby_minimum(spectra, k, a, b)
            assert value == pytest.approx(statistic_value(spectra, interval, low, high), rel=1e-12)
            assert value >= lowest - 1e-10
            slopes = statistic_derivatives(spectra, interval, low, high)[:2]
            assert (low, high) >= (0.0, 0.0)
            assert all(slope > -1e-3 for slope in slopes)
    assert nearby_minimum(spectra, 16, 1.0, 1.0)[3] == pytest.approx(lowest, rel=1e-12)
    assert kt > 0.0
    assert norm > 0.0


def test_a_moved_background_is_refitted_as_from_the_start():
    same = 0
    for seed in range(20):
        arguments = {"kt": 1.0 + seed, "counts": 1500.0, "share": 0.3}
        spectra = spectra_of("cstat", seed, **arguments)
        kt, _, _, norm, *_ = fit_kt_norm(spectra, KT)
        k = min(int(np.searchsorted(KT, kt)) - 1, len(KT) - 2)
        part = (kt - KT[k]) / (KT[k + 1] - KT[k])
        for factor in (0.9, 1.1):
            moved = spectra_of("cstat", seed, factor=factor, **arguments)
            afresh = fit_kt_norm(moved, KT)
            interval, a, b, _ = walk_with_background(spectra, factor, k, norm * (1.0 - part), norm * part)
            found = statistic_value(moved, interval, a, b)
            assert found >= afresh[6] - 1e-9
            if found < afresh[6] + 1e-6:  # else there are two minima, kinks at the nodes, and the other one is deeper
                same += 1
                assert a + b == pytest.approx(afresh[3], rel=1e-6)
                found_kt = KT[interval] + b / (a + b) * (KT[interval + 1] - KT[interval])
                assert found_kt == pytest.approx(afresh[0], rel=1e-6)
    assert same >= 36


@pytest.mark.parametrize("statistic", STATISTICS)
def test_an_observation_without_exposure_takes_no_part(statistic):
    exposure = np.repeat([1.0, 0.0], N_CHANNELS)
    whole = spectra_of(statistic, 5, kt=3.0, counts=900.0, share=0.2, exposure=exposure)
    rng = np.random.default_rng(6)
    code = STATISTICS[statistic]
    counts, background, blank = (rng.poisson(5.0, N_CHANNELS).astype(float) for _ in range(3))
    own = slice(0, N_CHANNELS)
    alone = prepare(code, counts, background, blank, SCALE[own], np.ascontiguousarray(RATES[:, own]), EXPOSURE[own])
    joined = [np.concatenate([part, rng.poisson(50.0, N_CHANNELS)]) for part in (counts, background, blank)]
    both = prepare(code, *joined, SCALE, RATES, exposure)
    assert fit_kt_norm(both, KT) == pytest.approx(fit_kt_norm(alone, KT), rel=1e-9, nan_ok=True)
    assert np.isfinite(fit_kt_norm(whole, KT)[6])


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_fit_is_the_same_to_the_last_bit_when_done_again(statistic):
    spectra = spectra_of(statistic, 9, kt=6.0, counts=700.0, share=0.4)
    first = fit_kt_norm(spectra, KT, 2.706)
    fit_kt_norm(spectra_of(statistic, 10), KT)
    assert fit_kt_norm(spectra, KT, 2.706) == first


@pytest.mark.parametrize("statistic", STATISTICS)
def test_limits_widen_with_the_level(statistic):
    for seed in range(10):
        spectra = spectra_of(statistic, seed, counts=800.0)
        fits = [fit_kt_norm(spectra, KT, level) for level in (0.5, 1.0, 2.706, 6.63)]
        for inner, outer in itertools.pairwise(fits):
            assert outer[0] == inner[0]
            assert outer[1] <= inner[1] <= inner[0] <= inner[2] <= outer[2]
            assert outer[4] <= inner[4] <= inner[3] <= inner[5] <= outer[5]
