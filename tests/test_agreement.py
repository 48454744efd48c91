"""Whether observations agree: false alarms of consistent ones, and bad ones that are found."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from smooth_spectrum import N_CHANNELS, TEMPLATE, fit, folded, true_model

from cpxt_hpc.fitting.agreement import (
    chi2_derivatives,
    cstat_derivatives,
    disagreement,
    kt_disagreement,
    wstat_derivatives,
)
from cpxt_hpc.science.significance import gaussian_sigma


def starts(n):
    return np.arange(n + 1) * N_CHANNELS


class Field:
    """Observations of one source with equal exposures, simulated and fitted jointly."""

    def __init__(self, n, counts, background_share, kt):
        self.n, self.kt = n, kt
        source, background, self.norm = true_model(counts / n, background_share, kt)
        self.source, self.background = np.tile(source, n), np.tile(background, n)

    def observed(self, rng, mu=None):
        return rng.poisson(self.source + self.background if mu is None else mu).astype(float)

    def fitted(self, data):
        return fit(data, self.background, self.kt, self.norm, self.n)

    def compared(self, data):
        _, _, mu, (by_kt, by_norm) = self.fitted(data)
        return disagreement(*cstat_derivatives(data, mu), by_kt, by_norm, starts(self.n))


def numbers(seed, n=2):
    """First, curvature, by_kt, by_norm of consistent pulls about a minimum, as chi2 of a linear model has them."""
    rng = np.random.default_rng(seed)
    size = n * N_CHANNELS
    by_kt, by_norm, weight = rng.normal(size=size), 2.0 + rng.normal(size=size), rng.uniform(0.5, 2.0, size)
    net = rng.normal(size=size) / np.sqrt(weight)
    gradients = np.stack([by_kt, by_norm])
    best = np.linalg.solve((gradients * weight) @ gradients.T, (gradients * weight) @ net)
    return net, weight, by_kt, by_norm, best


@pytest.mark.parametrize("dof", [1, 2, 3, 4, 6, 9, 38])
def test_sigma_is_the_gaussian_equivalent_of_the_tail_of_chi_square(dof):
    for chi_square in (1e-6, 0.1, 0.455, 1.0, 2.3, 5.0, 20.0, 100.0, 1000.0, 5000.0):
        sigma = gaussian_sigma(chi_square, dof)
        tail = stats.chi2.logsf(chi_square, dof)
        if np.isfinite(tail):
            assert math.log(2.0) + stats.norm.logsf(sigma) == pytest.approx(tail, rel=1e-9, abs=1e-12)


def test_sigma_of_one_degree_of_freedom_is_the_square_root():
    for sigma in (0.3, 1.0, 4.0, 7.0, 7.2, 40.0, 900.0):
        assert gaussian_sigma(sigma**2, 1) == pytest.approx(sigma, rel=1e-10)


def test_sigma_of_nothing_is_zero_or_unknown():
    assert gaussian_sigma(0.0, 4) == 0.0
    assert gaussian_sigma(-1e-12, 4) == 0.0
    assert math.isnan(gaussian_sigma(3.0, 0))
    assert math.isnan(gaussian_sigma(math.nan, 4))
    assert gaussian_sigma(math.inf, 4) == pytest.approx(1e4, rel=1e-6)


@pytest.mark.parametrize(("n", "counts", "share"), [(2, 300, 0.1), (2, 1000, 0.5), (3, 5000, 0.1), (4, 300, 0.5)])
def test_consistent_observations_raise_no_more_false_alarms_than_chance(n, counts, share):
    rng = np.random.default_rng(n * counts)
    field = Field(n, counts, share, 5.0)
    size = 1500
    sigma = np.array([field.compared(field.observed(rng))[0] for _ in range(size)])
    for level, chance in ((1.0, 0.3173), (2.0, 0.0455)):
        # Four standard errors, and a tenth for counts that are not Gaussian.
        error = 4.0 * math.sqrt(chance * (1 - chance) / size)
        assert np.mean(sigma > level) == pytest.approx(chance, abs=error + 0.1 * chance)
    assert sigma.max() < 5.0


@pytest.mark.parametrize("n", [2, 3])
def test_a_wrong_background_level_of_one_observation_is_found(n):
    field = Field(n, 10_000, 0.5, 6.0)
    mu = field.source + field.background
    mu[:N_CHANNELS] += 0.3 * field.background[:N_CHANNELS]
    rng = np.random.default_rng(7)
    sigma, kt_steps, _ = zip(*(field.compared(field.observed(rng, mu)) for _ in range(30)), strict=True)
    assert np.median(sigma) > 4.0
    # Too little background subtracted looks hot.
    assert np.median([steps[0] for steps in kt_steps]) > 0.0


def test_a_lost_effective_area_of_one_observation_is_found():
    field = Field(2, 10_000, 0.1, 6.0)
    mu = field.source + field.background
    mu[:N_CHANNELS] -= 0.15 * field.source[:N_CHANNELS]
    sigma, _, norm_steps = field.compared(field.observed(np.random.default_rng(8), mu))
    assert sigma > 4.0
    assert (norm_steps[1] - norm_steps[0]) / field.norm == pytest.approx(0.15, abs=0.06)


def test_the_steps_lead_to_the_observations_own_fits():
    field = Field(2, 200_000, 0.1, 5.0)
    data = field.observed(np.random.default_rng(9))
    kt, norm, *_ = field.fitted(data)
    _, kt_steps, norm_steps = field.compared(data)
    single = Field(1, 100_000, 0.1, 5.0)
    for j, counts in enumerate(np.split(data, 2)):
        own_kt, own_norm, *_ = single.fitted(counts)
        # A tenth of the steps: the model is not linear in kT, and the curvature is the expected one.
        assert kt + kt_steps[j] == pytest.approx(own_kt, abs=0.1 * abs(kt_steps[j]) + 1e-3)
        assert norm + norm_steps[j] == pytest.approx(own_norm, abs=0.1 * abs(norm_steps[j]) + 1e-4 * norm)


def test_for_a_linear_model_it_is_the_rise_of_chi_square_over_the_separate_fits():
    net, weight, by_kt, by_norm, best = numbers(1, 3)
    gradients = np.stack([by_kt, by_norm])

    def smallest(part):
        a, w, y = gradients[:, part], weight[part], net[part]
        own = np.linalg.solve((a * w) @ a.T, (a * w) @ y)
        return np.sum(w * (y - own @ a) ** 2)

    separate = sum(smallest(slice(a, a + N_CHANNELS)) for a in starts(3)[:-1])
    expected = gaussian_sigma(smallest(slice(None)) - separate, 4)
    first, curvature = chi2_derivatives(net, best @ gradients, weight)
    assert disagreement(first, curvature, by_kt, by_norm, starts(3))[0] == pytest.approx(expected, rel=1e-9)
    # The same from anywhere: what all share is taken out, as where kT lies at a bound.
    first, curvature = chi2_derivatives(net, (best + np.array([0.3, -0.2])) @ gradients, weight)
    assert disagreement(first, curvature, by_kt, by_norm, starts(3))[0] == pytest.approx(expected, rel=1e-9)


def test_observations_that_take_no_part_do_not_count():
    net, weight, by_kt, by_norm, best = numbers(2)
    first, curvature = chi2_derivatives(net, best @ np.stack([by_kt, by_norm]), weight)
    two, kt_two, norm_two = disagreement(first, curvature, by_kt, by_norm, starts(2))

    def padded(x):
        return np.concatenate([x[:N_CHANNELS], np.zeros(N_CHANNELS), x[N_CHANNELS:]])

    arrays = [padded(x) for x in (first, curvature, by_kt, by_norm)]
    three, kt_three, norm_three = disagreement(*arrays, starts(3))
    assert three == two
    assert np.array_equal(kt_three, [kt_two[0], np.nan, kt_two[1]], equal_nan=True)
    assert np.array_equal(norm_three, [norm_two[0], np.nan, norm_two[1]], equal_nan=True)


def test_a_single_observation_has_nothing_to_disagree_with():
    net, weight, by_kt, by_norm, best = numbers(3, 1)
    first, curvature = chi2_derivatives(net, best @ np.stack([by_kt, by_norm]), weight)
    assert math.isnan(disagreement(first, curvature, by_kt, by_norm, starts(1))[0])


def test_without_a_source_the_norms_alone_are_compared():
    net, weight, _, by_norm, _ = numbers(4)
    zero = np.zeros_like(net)
    first, curvature = chi2_derivatives(net, zero, weight)
    sigma, kt_steps, norm_steps = disagreement(first, curvature, zero, by_norm, starts(2))
    own, information = np.empty(2), np.empty(2)
    for j in range(2):
        part = slice(j * N_CHANNELS, (j + 1) * N_CHANNELS)
        information[j] = np.sum(weight[part] * by_norm[part] ** 2)
        own[j] = np.sum(weight[part] * by_norm[part] * net[part]) / information[j]
    assert np.isnan(kt_steps).all()
    assert norm_steps == pytest.approx(own)
    assert sigma == pytest.approx(abs(own[1] - own[0]) / math.sqrt(np.sum(1 / information)))


def test_kt_and_norm_that_cannot_be_told_apart_are_one_parameter():
    net, weight, _, by_norm, _ = numbers(5)
    first, curvature = chi2_derivatives(net, np.zeros_like(net), weight)
    sigma, kt_steps, _ = disagreement(first, curvature, 3.0 * by_norm, by_norm, starts(2))
    assert np.isnan(kt_steps).all()
    assert sigma == disagreement(first, curvature, np.zeros_like(net), by_norm, starts(2))[0]


def test_with_norms_of_their_own_only_the_temperatures_are_compared():
    net, weight, by_kt, by_norm, _ = numbers(6, 3)
    # Linear model of one kT and three norms, by least squares; and of three of both.
    own_norms = np.zeros((3, len(net)))
    for j, (begin, end) in enumerate(itertools.pairwise(starts(3))):
        own_norms[j, begin:end] = by_norm[begin:end]
    gradients = np.vstack([by_kt, own_norms])
    best = np.linalg.solve((gradients * weight) @ gradients.T, (gradients * weight) @ net)
    joint = np.sum(weight * (net - best @ gradients) ** 2)
    separate = 0.0
    for begin, end in itertools.pairwise(starts(3)):
        a, w, y = np.stack([by_kt, by_norm])[:, begin:end], weight[begin:end], net[begin:end]
        separate += np.sum(w * (y - np.linalg.solve((a * w) @ a.T, (a * w) @ y) @ a) ** 2)
    first, curvature = chi2_derivatives(net, best @ gradients, weight)
    sigma, kt_steps = kt_disagreement(first, curvature, by_kt, by_norm, starts(3))
    assert sigma == pytest.approx(gaussian_sigma(joint - separate, 2), rel=1e-9)
    assert kt_steps[0] + best[0] == pytest.approx(_own_kt(net, weight, by_kt, by_norm, slice(0, N_CHANNELS)))


def _own_kt(net, weight, by_kt, by_norm, part):
    a, w = np.stack([by_kt, by_norm])[:, part], weight[part]
    return np.linalg.solve((a * w) @ a.T, (a * w) @ net[part])[0]


def test_derivatives_of_cstat_are_those_of_its_formula():
    rng = np.random.default_rng(10)
    mu = rng.uniform(0.1, 9.0, 50)
    counts = rng.poisson(mu).astype(float)

    def value(mu):
        return 2 * (mu - counts * np.log(mu))

    first, curvature = cstat_derivatives(counts, mu)
    h = 1e-5
    assert first == pytest.approx((value(mu + h) - value(mu - h)) / (2 * h), abs=1e-7)
    assert curvature == pytest.approx(2 / mu)
    assert np.array_equal(cstat_derivatives(np.zeros(2), np.zeros(2)), np.zeros((2, 2)))


def wstat(counts, blank, ratio, model):
    """By its definition: the background minimised over a fine grid, for channels one by one."""
    g = np.linspace(1e-9, 40.0, 400_001)
    x, y = model + g, ratio * g
    logs = (counts * np.log(x / counts) if counts else 0.0) + (blank * np.log(y / blank) if blank else 0.0)
    return np.min(2 * (x + y - counts - blank - logs))


@pytest.mark.parametrize(
    ("counts", "blank", "model"), [(5, 7, 2.0), (0, 3, 1.0), (4, 0, 1.5), (1, 0, 3.0), (9, 30, 0.5)]
)
def test_derivatives_of_wstat_are_those_of_the_profiled_likelihood(counts, blank, model):
    scale = 0.25
    arrays = [np.array([value], dtype=float) for value in (counts, model, blank, scale)]
    first, curvature = wstat_derivatives(*arrays)
    h = 0.01
    numeric = (wstat(counts, blank, 1 / scale, model + h) - wstat(counts, blank, 1 / scale, model - h)) / (2 * h)
    # The grid's step, 1e-4, moves the minimum by less than 1e-7.
    assert first[0] == pytest.approx(numeric, abs=2e-3)
    assert curvature[0] > 0.0


def test_channels_without_part_pull_nothing_in_wstat():
    arrays = [np.array(x, dtype=float) for x in ([3, 0, 0], [0.0, 0.0, 1.0], [2, 0, 0], [0.0, 0.5, 0.5])]
    first, curvature = wstat_derivatives(*arrays)
    assert first.tolist() == [0.0, 0.0, 2.0]
    assert curvature.tolist() == [0.0, 0.0, 2.0]


def test_consistent_observations_agree_by_wstat_too():
    rng = np.random.default_rng(11)
    bins, scale, size = 40, 0.3, 1500
    shape, slope = (part.reshape(bins, -1).sum(axis=1) for part in folded(5.0))
    source = 600 / shape.sum() * shape
    background = 200 * TEMPLATE.reshape(bins, -1).sum(axis=1)
    sigma = np.empty(size)
    for i in range(size):
        counts, blank = (rng.poisson(np.tile(mu, 2)).astype(float) for mu in (source + background, background / scale))
        first, curvature = wstat_derivatives(counts, np.tile(source, 2), blank, np.full(2 * bins, scale))
        by_norm = np.tile(shape, 2)
        by_kt = np.tile(600 / shape.sum() * slope, 2)
        sigma[i] = disagreement(first, curvature, by_kt, by_norm, np.array([0, bins, 2 * bins]))[0]
    for level, chance in ((1.0, 0.3173), (2.0, 0.0455)):
        error = 4.0 * math.sqrt(chance * (1 - chance) / size)
        assert np.mean(sigma > level) == pytest.approx(chance, abs=error + 0.1 * chance)
