"""The sky beside the blank sky: fitted without bias, with honest errors, and without the cluster's own light."""

import numpy as np
import pytest

from cpxt_hpc.science.sky_foreground import (
    OffClusterSpectrum,
    fit_sky,
    flat_area,
    power_law_photons,
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
    """A ring of 2 to 4 times the crop's radius; the cluster's light is `light` of the background at the crop."""
    radius = np.sqrt(np.linspace(1.0, 16.0, 10_000))
    exposure = 1.1 - 0.1 * radius
    background = np.full(10_000, 10.0)
    counts = rng.poisson(background + 0.5 * exposure + 10.0 * light * radius**-3 * exposure)
    return counts, background, np.full(10_000, 2.0), exposure, radius


def test_a_flat_sky_is_mostly_used_up_to_the_crop():
    parts = [flat_area(*field_of(np.random.default_rng(seed), light=0.0), least_counts=1000.0) for seed in range(60)]
    # One of 44 is cut by chance.
    assert sum(part.all() for part in parts) >= 55
    assert all(part.any() for part in parts)


def test_the_light_of_a_cluster_is_left_out():
    for seed in range(20):
        area = field_of(np.random.default_rng(seed), light=1.0)
        used = flat_area(*area, least_counts=1000.0)
        # Over the whole ring it is 8 % of the background; what stays is what can just not be seen.
        left = np.mean(area[-1][used] ** -3.0) if used.any() else 0.0
        assert left < 0.03


def test_an_area_that_cannot_tell_is_not_used():
    counts, background, variance, exposure, radius = field_of(np.random.default_rng(2), light=0.0)
    narrow = np.abs(radius - 3.0) < 0.02
    poor = np.arange(10_000) % 100 == 0
    for part in (narrow, poor):
        values = (each[part] for each in (counts, background, variance, exposure, radius))
        assert not flat_area(*values, least_counts=100.0).any()


def test_a_field_that_a_cluster_fills_is_not_used_at_all():
    counts, background, variance, exposure, radius = field_of(np.random.default_rng(2), light=0.0)
    falling = counts + np.random.default_rng(3).poisson(20.0 / radius)
    assert not flat_area(falling, background, variance, exposure, radius, least_counts=1000.0).any()
