import numpy as np
import pytest

from cpxt_hpc.science.autoregions import (
    LARGEST_BRIGHT_SHARE,
    bright_radius,
    cluster_peak,
    map_box,
    map_radius,
    radial_profile,
)

SIZE = 400
CENTRE = (210.0, 190.0)


def beta_model(brightness, *, core_pixel=20.0):
    """Expected cluster counts: a beta model of index 2/3 falls as (1 + (r/rc)^2)^-1.5."""
    iy, ix = np.indices((SIZE, SIZE))
    radius = np.hypot(ix - CENTRE[0], iy - CENTRE[1])
    return brightness * (1.0 + (radius / core_pixel) ** 2) ** -1.5


def radius_at(level, brightness, core_pixel=20.0):
    return core_pixel * np.sqrt((brightness / level) ** (2.0 / 3.0) - 1.0)


def images(brightness, background=0.1, seed=1):
    model = np.full((SIZE, SIZE), background)
    counts = np.random.default_rng(seed).poisson(beta_model(brightness) + model).astype(float)
    return counts, model, np.full((SIZE, SIZE), 5e4)


def test_the_peak_is_found_and_a_masked_source_does_not_draw_it():
    counts, background, exposure = images(8.0)
    counts[40:44, 40:44] += 500.0
    exposure[35:50, 35:50] = 0.0
    peak = cluster_peak(counts, background, exposure)
    assert np.hypot(peak[0] - CENTRE[0], peak[1] - CENTRE[1]) < 5.0


def test_the_peak_is_not_at_an_edge_where_hardly_anything_is_exposed():
    counts, background, exposure = images(8.0)
    counts[:, :3], exposure[:, :3], background[:, :3] = 1.0, 10.0, 0.0
    assert cluster_peak(counts, background, exposure)[0] > 150.0


def test_the_profile_is_that_of_the_model():
    counts, background, exposure = images(8.0)
    profile = radial_profile(counts, background, exposure, CENTRE)
    middle = profile.outer_pixel - 2.0
    expected = 8.0 * (1.0 + (middle / 20.0) ** 2) ** -1.5
    np.testing.assert_allclose(profile.background[:40], 0.1)
    error = profile.net[:40] / profile.significance[:40]
    # The model is not quite linear within a ring: 3 % of it besides 5 sigma.
    assert np.all(np.abs(profile.net[:40] - expected[:40]) < 5.0 * error + 0.03 * expected[:40])


def test_the_bright_part_ends_where_cluster_and_background_are_equal():
    counts, background, exposure = images(1.0)
    profile = radial_profile(counts, background, exposure, CENTRE)
    radius = bright_radius(profile, exposure, CENTRE)
    # Rings of 4 pixels, one of which may fall to the other side by chance.
    assert radius == pytest.approx(radius_at(0.1, 1.0), abs=8.0)


def test_the_bright_part_takes_at_most_its_share_of_the_field():
    counts, background, exposure = images(1000.0)
    radius = bright_radius(radial_profile(counts, background, exposure, CENTRE), exposure, CENTRE)
    iy, ix = np.indices((SIZE, SIZE))
    inside = np.hypot(ix - CENTRE[0], iy - CENTRE[1]) <= radius
    assert inside.mean() == pytest.approx(LARGEST_BRIGHT_SHARE, abs=0.01)


def test_the_map_ends_where_the_cluster_falls_below_a_part_of_the_background():
    counts, background, exposure = images(8.0, background=0.5)
    profile = radial_profile(counts, background, exposure, CENTRE)
    radius = map_radius(profile, signal_to_noise=5.0, max_radius_pixel=1000.0)
    assert radius == pytest.approx(radius_at(0.15, 8.0), abs=8.0)


def test_the_map_ends_where_circles_would_become_too_large():
    counts, background, exposure = images(8.0, background=0.01)
    profile = radial_profile(counts, background, exposure, CENTRE)
    radius = map_radius(profile, signal_to_noise=50.0, max_radius_pixel=100.0)
    # A circle of 80 pixels reaches S/N 50 at s = 2500 (s + 2b)/s / (pi 80^2): 0.142 counts a pixel.
    limit = 0.5 * (x := 2500.0 / (np.pi * 80.0**2)) + np.sqrt(0.25 * x**2 + 2.0 * 0.01 * x)
    assert limit == pytest.approx(0.142, abs=0.002)
    assert radius == pytest.approx(radius_at(limit, 8.0), abs=8.0)
    assert map_radius(profile, signal_to_noise=100.0, max_radius_pixel=100.0) < radius


def test_no_cluster_gives_no_radius():
    counts, background, exposure = images(0.0)
    profile = radial_profile(counts, background, exposure, CENTRE)
    assert bright_radius(profile, exposure, CENTRE) == 0.0
    assert map_radius(profile, signal_to_noise=50.0, max_radius_pixel=100.0) == 0.0


def test_a_gap_in_the_exposure_does_not_end_the_map():
    counts, background, exposure = images(8.0, background=0.5)
    iy, ix = np.indices((SIZE, SIZE))
    radius = np.hypot(ix - CENTRE[0], iy - CENTRE[1])
    exposure[(radius > 30.0) & (radius < 40.0)] = 0.0
    profile = radial_profile(counts, background, exposure, CENTRE)
    assert map_radius(profile, signal_to_noise=5.0, max_radius_pixel=1000.0) > 50.0


def test_the_box_is_cut_to_the_exposed_area():
    exposure = np.zeros((100, 120))
    exposure[20:80, 30:110] = 1.0
    exposure[20:80, 108:110] = 0.05
    assert map_box(exposure, (60.0, 50.0), 10.0) == (40, 61, 50, 71)
    assert map_box(exposure, (60.0, 50.0), 500.0) == (20, 80, 30, 108)
    with pytest.raises(ValueError, match="no exposed pixel"):
        map_box(exposure, (5.0, 5.0), 3.0)


def test_a_peak_needs_exposure():
    with pytest.raises(ValueError, match="no pixel is exposed"):
        cluster_peak(np.zeros((5, 5)), np.zeros((5, 5)), np.zeros((5, 5)))
