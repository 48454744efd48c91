"""The exact search against a scan of kT that takes nothing from it: plain formulas, the best norm by halving."""

import numpy as np
import pytest
from synthetic import background_templates, made_up_nodes, temperature_nodes

from cpxt_hpc.fitting.limits import fit_kt_norm
from cpxt_hpc.fitting.statistics import STATISTICS, prepare

N_CHANNELS, POINTS = 60, 10
KT = temperature_nodes()
NODES = made_up_nodes(N_CHANNELS)
RATES = np.ascontiguousarray(np.tile(NODES[0] + 0.3 * (NODES[1] - NODES[0]), 2))
TEMPLATE = np.concatenate(background_templates(N_CHANNELS))
SCALE = np.repeat([0.25, 0.8], N_CHANNELS)
EXPOSURE = np.repeat([1.0, 0.5], N_CHANNELS)

PARTS = np.arange(POINTS) / POINTS
SCANNED_KT = np.append((KT[:-1, None] * (1.0 - PARTS) + KT[1:, None] * PARTS).ravel(), KT[-1])
SHAPES = np.array([np.interp(SCANNED_KT, KT, channel) for channel in RATES.T]).T * EXPOSURE


def fitted_background(counts, blank, ratio, model):
    excess = (1.0 + ratio) * model - counts - blank
    root = np.sqrt(excess**2 + 4.0 * (1.0 + ratio) * blank * model)
    large = 2.0 * blank * model / np.maximum(excess + root, 1e-300)
    return np.where(excess > 0.0, large, (root - excess) / (2.0 * (1.0 + ratio)))


def term(counts, expected):
    """expected - counts + counts ln(counts / expected)."""
    return expected - counts + counts * np.log(np.maximum(counts, 1e-300) / np.maximum(expected, 1e-300))


def scan(statistic, counts, background, blank):
    """The statistic at the best norm for each temperature scanned."""

    def at(norm):
        model = norm[:, None] * SHAPES
        if statistic == "cstat":
            return model + background, None
        g = fitted_background(counts, blank, 1.0 / SCALE, model)
        return model + g, g

    def value(norm):
        expected, g = at(norm)
        total = term(counts, expected).sum(axis=1)
        return 2.0 * (total if g is None else total + term(blank, g / SCALE).sum(axis=1))

    low, high = np.zeros(len(SHAPES)), 4.0 * (counts.sum() + 1.0) / SHAPES.sum(axis=1)
    for _ in range(60):
        norm = 0.5 * (low + high)
        rises = np.sum(SHAPES * (1.0 - counts / np.maximum(at(norm)[0], 1e-300)), axis=1) > 0.0
        low, high = np.where(rises, low, norm), np.where(rises, norm, high)
    return np.minimum(value(high), value(np.zeros(len(SHAPES))))


def first_crossing(scanned, level, outwards, best):
    """Temperatures between which the profile first crosses the level, on the way outwards from the best one."""
    inner = outer = best
    for i in outwards:
        outer = SCANNED_KT[i]
        if scanned[i] > level:
            break
        inner = outer
    return sorted((inner, outer))


@pytest.mark.parametrize("statistic", ["cstat", "wstat"])
@pytest.mark.parametrize("counts_expected", [6, 20, 60, 200, 1000, 5000, 20000])
def test_no_temperature_scanned_has_a_lower_statistic_and_the_limits_are_its_crossings(statistic, counts_expected):
    rng = np.random.default_rng(counts_expected)
    for _ in range(8):
        kt, share = np.exp(rng.uniform(np.log(0.4), np.log(14.0))), rng.uniform(0.05, 0.7)
        source = np.array([np.interp(kt, KT, channel) for channel in RATES.T]) * EXPOSURE
        source *= counts_expected * (1.0 - share) / source.sum()
        background = TEMPLATE * counts_expected * share / TEMPLATE.sum()
        counts = rng.poisson(source + background).astype(float)
        blank = rng.poisson(background / SCALE).astype(float)
        spectra = prepare(STATISTICS[statistic], counts, background, blank, SCALE, RATES, EXPOSURE)
        best_kt, kt_lo, kt_hi, _, _, _, best, _, _ = fit_kt_norm(spectra, KT)
        scanned = scan(statistic, counts, background, blank)
        # The scan's norm is good to 1e-18 of the largest; sums over 120 channels round to 1e-12.
        assert best <= scanned.min() + 1e-9
        if np.isnan(best_kt):
            assert best == pytest.approx(scanned.min(), abs=1e-9)
            continue
        above = np.searchsorted(SCANNED_KT, best_kt)
        for limit, outwards in ((kt_lo, range(above - 1, -1, -1)), (kt_hi, range(above, len(SCANNED_KT)))):
            low, high = first_crossing(scanned, best + 1.0, outwards, best_kt)
            assert low * (1.0 - 1e-7) <= limit <= high * (1.0 + 1e-7)
