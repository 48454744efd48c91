"""The sky beside the blank sky: fitted without bias, with honest errors, and without the cluster's own light."""

import numpy as np
import pytest

from cpxt_hpc.science.sky_foreground import (
    OffClusterSpectrum,
    cluster_light_off_cluster,
    fit_sky,
    power_law_photons,
    rings_of_equal_exposure,
    tail_brightness,
)
from cpxt_hpc.science.template import background_template

ENERGY = np.linspace(0.7, 8.0, 500)
SOFT = 1e5 * np.exp(-ENERGY / 0.15) / 20.0
HARD = 900.0 * ENERGY**-1.6
PARTICLES = 60.0 + 40.0 / ENERGY
COMPONENTS = np.array([SOFT, HARD])


def observed(rng, norms, *, share=1.0, blank_ratio=np.inf, scale_error=0.0):
    """A draw; the blank sky has `blank_ratio` times the counts, its scale an error common to all channels."""
    truth = share * PARTICLES
    counts = rng.poisson(truth + share * np.dot(norms, COMPONENTS))
    if np.isinf(blank_ratio):
        background, variance = truth, np.zeros_like(truth)
    else:
        blank = rng.poisson(truth * blank_ratio)
        smooth = blank.sum() * background_template(blank, enough_counts=3000, max_channels=5)
        background, variance = smooth / blank_ratio, smooth / blank_ratio**2
    background = background * (1.0 + scale_error * rng.standard_normal())
    return OffClusterSpectrum(counts, background, variance, scale_error * background[None], share * COMPONENTS)


def test_norms_are_found_exactly_in_counts_without_noise():
    truth = np.array([-0.2, 0.7])
    counts = PARTICLES + truth @ COMPONENTS
    spectrum = OffClusterSpectrum(
        counts, PARTICLES, np.zeros_like(PARTICLES), np.zeros((1, len(PARTICLES))), COMPONENTS
    )
    np.testing.assert_allclose(fit_sky([spectrum]).norms, truth, rtol=1e-9)


def test_observations_are_fitted_together():
    rng = np.random.default_rng(3)
    parts = [observed(rng, [0.3, 0.5], share=share) for share in (0.5, 1.5)]
    whole = OffClusterSpectrum(
        sum(part.counts for part in parts),
        sum(part.background for part in parts),
        np.zeros_like(PARTICLES),
        np.zeros((1, len(PARTICLES))),
        sum(part.components for part in parts),
    )
    # Proportional expectations: their sum is a sufficient statistic of the Poisson likelihood.
    np.testing.assert_allclose(fit_sky(parts).norms, fit_sky([whole]).norms, rtol=1e-7)


@pytest.mark.parametrize("blank", [{}, {"blank_ratio": 5.0, "scale_error": 0.01}])
@pytest.mark.parametrize("truth", [(0.0, 0.0), (0.4, 0.6), (-0.1, -0.05)])
def test_norms_are_unbiased_and_their_errors_are_the_scatter(truth, blank):
    rng = np.random.default_rng(5)
    fits = [fit_sky([observed(rng, truth, **blank)]) for _ in range(300)]
    pulls = np.array([(fit.norms - truth) / fit.errors for fit in fits])
    # 300 draws: the mean pull is good to 0.06, its scatter to 4 %.
    assert np.all(np.abs(pulls.mean(axis=0)) < 0.2)
    assert pulls.std(axis=0) == pytest.approx(1.0, abs=0.14)


def test_a_component_that_is_not_exposed_is_refused():
    spectrum = observed(np.random.default_rng(1), (0.0, 0.0))
    hidden = OffClusterSpectrum(
        spectrum.counts, spectrum.background, spectrum.blank_variance, spectrum.scale_shift, 0.0 * COMPONENTS
    )
    with pytest.raises(ValueError, match="nowhere exposed"):
        fit_sky([hidden])
    twice = OffClusterSpectrum(
        spectrum.counts, spectrum.background, spectrum.blank_variance, spectrum.scale_shift, np.array([HARD, HARD])
    )
    with pytest.raises(ValueError, match="cannot be told apart"):
        fit_sky([twice])


def test_a_power_law_is_integrated_over_its_bins():
    edges = np.array([0.5, 1.0, 2.0, 8.0])
    fine = np.linspace(1.0, 2.0, 200_001)
    values = (0.5 * (fine[1:] + fine[:-1])) ** -1.4
    assert power_law_photons(edges)[1] == pytest.approx(np.sum(values) * (fine[1] - fine[0]), rel=1e-9)


def field_of(rng, *, light):
    """A ring of 1 to 4 times the crop's radius; the cluster's light is `light` of the background at the crop."""
    radius = np.sqrt(np.linspace(1.0, 16.0, 10_000))
    exposure = 1.1 - 0.1 * radius
    background = np.full(10_000, 10.0)
    counts = rng.poisson(background + 0.5 * exposure + 10.0 * light * tail_brightness(radius, 0.0) * exposure)
    return counts, background, np.full(10_000, 2.0), exposure, radius


@pytest.mark.parametrize("light", [0.0, 1.0])
def test_a_tail_is_told_by_its_fall(light):
    found = np.array(
        [cluster_light_off_cluster(*field_of(np.random.default_rng(seed), light=light)) for seed in range(200)]
    )
    radius = np.sqrt(np.linspace(1.0, 16.0, 10_000))
    exposure = 1.1 - 0.1 * radius
    truth = light * np.average(radius**-3.0, weights=exposure) * exposure.mean()
    pulls = (found[:, 0] - truth) / found[:, 1]
    # The blank sky is drawn without noise here, though its variance is counted: 12 on 10 counts is 10 % of the error.
    assert abs(pulls.mean()) < 0.2
    assert pulls.std() == pytest.approx(0.92, abs=0.12)


def test_an_area_of_one_radius_tells_nothing():
    values = (np.full(100, 10.0),) * 2 + (np.ones(100), np.ones(100), np.full(100, 3.0))
    assert cluster_light_off_cluster(*values) == (np.inf, np.inf)


def test_rings_have_the_same_exposure_and_lie_in_order():
    rng = np.random.default_rng(1)
    radius, exposure = rng.uniform(1.0, 4.0, 10_000), rng.uniform(0.0, 1.0, 10_000)
    ring = rings_of_equal_exposure(radius, exposure, 4)
    assert np.bincount(ring, weights=exposure) == pytest.approx(np.full(4, exposure.sum() / 4.0), rel=1e-3)
    assert [radius[ring == number].max() <= radius[ring == number + 1].min() for number in range(3)] == [True] * 3
    assert not rings_of_equal_exposure(radius, exposure, 1).any()


def test_a_tail_fitted_ring_by_ring_is_not_taken_for_sky():
    rng = np.random.default_rng(9)
    falls = np.array([1.0, 0.4, 0.15, 0.08])
    plasma = 900.0 * ENERGY**-1.7
    components = np.array([np.tile(SOFT, 4), np.tile(HARD, 4), np.concatenate([fall * plasma for fall in falls])])
    truth, background = np.array([0.2, 0.3, 0.6]), np.tile(PARTICLES, 4)
    shift = np.zeros((1, background.size))

    def drawn(used):
        counts = rng.poisson(background + truth @ components)
        return fit_sky([OffClusterSpectrum(counts, background, np.zeros_like(background), shift, components[:used])])

    with_tail = [drawn(3) for _ in range(100)]
    pulls = np.array([(fit.norms - truth) / fit.errors for fit in with_tail])
    assert np.all(np.abs(pulls.mean(axis=0)) < 0.3)
    without = drawn(2)
    assert without.norms[1] > truth[1] + 5.0 * without.errors[1]
    assert with_tail[-1].log_likelihood > without.log_likelihood + 10.0
