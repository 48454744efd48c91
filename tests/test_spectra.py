import numpy as np
import pytest

from cpxt_hpc.science.spectra import (
    circle_pixel_count,
    circle_runs,
    exposure_sums,
    grouped_spectrum,
    observed_spectrum,
    pixel_runs,
)

SHAPE = (21, 17)


def pixels_of(start, stop):
    return np.concatenate([np.zeros(0, dtype=int), *(np.arange(a, b) for a, b in zip(start, stop, strict=True))])


def brute_circle(iy, ix, radius, shape=SHAPE):
    row, column = np.mgrid[: shape[0], : shape[1]]
    return np.flatnonzero((row - iy) ** 2 + (column - ix) ** 2 <= radius * radius)


@pytest.mark.parametrize(("iy", "ix"), [(10, 8), (0, 0), (20, 16), (3, 15), (-4, 8), (10, 40)])
def test_a_circle_holds_the_pixels_whose_centre_lies_within_the_radius(iy, ix):
    for radius in np.arange(0.0, 30.0, 0.125):
        start, stop = circle_runs(iy, ix, radius, SHAPE)
        assert np.array_equal(pixels_of(start, stop), brute_circle(iy, ix, radius))


def test_pixels_at_exactly_the_radius_belong_to_the_circle():
    assert circle_pixel_count(5.0) == 81  # 3-4-5 triangles on the rim
    assert circle_pixel_count(np.nextafter(5.0, 0.0)) == 69
    assert circle_pixel_count(np.sqrt(2.0)) == 9  # its square is rounded up, 2.0000000000000004


def test_the_pixel_count_knows_no_image_edge():
    for radius in (0.0, 0.5, 1.0, 1.375, 7.25, 100.0):
        expected = len(brute_circle(120, 120, radius, (241, 241)))
        assert circle_pixel_count(radius) == expected


@pytest.mark.parametrize("radius", [-1.0, np.nan])
def test_no_pixel_lies_in_a_circle_of_no_radius(radius):
    assert circle_pixel_count(radius) == 0
    assert len(circle_runs(5, 5, radius, SHAPE)[0]) == 0


def test_runs_of_a_pixel_list_hold_each_pixel_once():
    pixels = np.array([7, 3, 4, 5, 5, 200, 199, 9])
    start, stop = pixel_runs(pixels)
    assert pixels_of(start, stop).tolist() == [3, 4, 5, 7, 9, 199, 200]
    assert len(start) == 4
    assert [len(ends) for ends in pixel_runs(np.zeros(0, dtype=int))] == [0, 0]


def test_spectra_and_sums_are_those_of_the_pixels_one_by_one():
    rng = np.random.default_rng(3)
    n_pixels, n_channels = SHAPE[0] * SHAPE[1], 12
    pixel = np.sort(rng.integers(0, n_pixels, 5000))
    channel = rng.integers(0, n_channels, 5000).astype(np.uint16)
    group = rng.integers(0, 3, 5000).astype(np.uint8)
    pixel_start = np.searchsorted(pixel, np.arange(n_pixels + 1))
    images = rng.random((2, n_pixels), dtype=np.float32)
    shapes = rng.random((2, n_channels))
    for iy, ix, radius in [(10, 8, 4.5), (0, 0, 9.0), (20, 16, 0.0), (10, 40, 3.0)]:
        runs = circle_runs(iy, ix, radius, SHAPE)
        inside = np.isin(pixel, brute_circle(iy, ix, radius))
        counts, background = np.zeros((2, n_channels))
        observed_spectrum(*runs, pixel_start, channel, images, shapes, counts, background)
        assert np.array_equal(counts, np.bincount(channel[inside], minlength=n_channels))
        by_group = grouped_spectrum(*runs, pixel_start, channel, group, 3, n_channels)
        for g in range(3):
            of_group = np.bincount(channel[inside & (group == g)], minlength=n_channels)
            assert np.array_equal(by_group[g], of_group)
        chosen = brute_circle(iy, ix, radius)
        level = images[:, chosen].astype(float).sum(axis=1)
        plain, weighted, weights = exposure_sums(*runs, *images)
        # Sums in double precision of fewer than 400 numbers below 1, in another order.
        assert background == pytest.approx(level @ shapes, rel=1e-13)
        assert (plain, weights) == pytest.approx(tuple(level), rel=1e-13)
        assert weighted == pytest.approx(images[:, chosen].astype(float).prod(axis=0).sum(), rel=1e-13)
