"""Adaptive circular binning against a plain search that tries every radius at every pixel."""

import numpy as np
import pytest

from cpxt_hpc.science.binning import (
    adaptive_radii,
    circle_sums,
    radius_ladder,
    region_pixels,
    signal_to_noise,
)


def plain_search(counts, background, mask, *, snr_target, max_radius_pixel, snr):
    """Every radius at every pixel, by the definition."""
    counts = np.where(mask, counts, 0).astype(float)
    background = np.where(mask, background, 0.0) if snr == "background" else np.zeros(counts.shape)
    y, x = np.indices(counts.shape)
    radius = np.zeros(counts.shape)
    for iy, ix in np.argwhere(mask):
        square = (y - iy) ** 2 + (x - ix) ** 2
        for eighths in range(8, int(max_radius_pixel * 8) + 1):
            disc = 64 * square <= eighths**2
            c, b = counts[disc].sum(), background[disc].sum()
            if c + b > 0 and (c - b) / np.sqrt(c + b) >= snr_target:
                radius[iy, ix] = eighths / 8
                break
    return radius


def beta_model(rng, ny, nx, peak, level):
    y, x = np.indices((ny, nx))
    square = (y - 0.4 * ny) ** 2 + (x - 0.6 * nx) ** 2
    background = np.full((ny, nx), level)
    return rng.poisson(peak * (1 + square / 9.0) ** -1.5 + background), background


@pytest.mark.parametrize("snr", ["background", "counts"])
@pytest.mark.parametrize("seed", range(12))
def test_radii_equal_those_of_a_search_over_all_radii(seed, snr):
    rng = np.random.default_rng(seed)
    ny, nx = rng.integers(1, 26, 2)
    level = rng.choice([0.3, 2.0, 20.0])
    counts = rng.poisson(level * rng.random((ny, nx)) ** rng.choice([1, 6]))
    background = rng.choice([0, 0.1, 0.5]) * level * rng.random((ny, nx)) ** rng.choice([0, 1, 6])
    mask = rng.random((ny, nx)) < rng.choice([1.0, 0.8, 0.3])
    arguments = {"snr_target": float(rng.choice([1, 2.5, 5, 10])), "max_radius_pixel": 12.0, "snr": snr}
    expected = plain_search(counts, background, mask, **arguments)
    assert np.array_equal(adaptive_radii(counts, background, mask, **arguments), expected)


@pytest.mark.parametrize(("peak", "level", "target"), [(30.0, 0.5, 8.0), (100.0, 3.0, 20.0), (5.0, 2.0, 4.0)])
def test_radii_of_a_cluster_equal_those_of_a_search_over_all_radii(peak, level, target):
    counts, background = beta_model(np.random.default_rng(5), 30, 34, peak, level)
    mask = np.ones(counts.shape, bool)
    mask[10:14, 3:9] = False
    arguments = {"snr_target": target, "max_radius_pixel": 15.0, "snr": "background"}
    expected = plain_search(counts, background, mask, **arguments)
    assert np.mean(expected > 0) > 0.1
    assert np.array_equal(adaptive_radii(counts, background, mask, **arguments), expected)


def test_the_smallest_radius_is_found_where_signal_to_noise_falls_again():
    # A bright core in a bright background: the target is reached, lost and reached again far out.
    counts, background = np.zeros((41, 41), int), np.zeros((41, 41))
    counts[20, 20] = 100
    y, x = np.indices(counts.shape)
    distance = np.hypot(y - 20, x - 20)
    background[(distance > 3) & (distance < 6)] = 5.0
    counts[(distance > 10) & (distance < 12)] = 100
    mask = np.ones(counts.shape, bool)
    arguments = {"snr_target": 9.5, "max_radius_pixel": 18.0, "snr": "background"}
    radius = adaptive_radii(counts, background, mask, **arguments)
    assert radius[20, 20] == 1.0
    assert np.array_equal(radius, plain_search(counts, background, mask, **arguments))


def test_counts_of_a_flat_image_give_the_radius_of_pixel_counting():
    # 4 counts a pixel: sqrt(C) >= 14 wants 49 pixels; a disc of radius 4 has exactly 49.
    counts = np.full((31, 31), 4)
    radius = adaptive_radii(
        counts, np.zeros(counts.shape), np.ones(counts.shape, bool), snr_target=14.0, max_radius_pixel=10, snr="counts"
    )
    assert radius[15, 15] == 4.0


def test_masked_pixels_never_enter_a_circle():
    rng = np.random.default_rng(2)
    counts, background = beta_model(rng, 20, 20, 20.0, 0.5)
    mask = rng.random(counts.shape) < 0.7
    arguments = {"snr_target": 6.0, "max_radius_pixel": 9.0}
    other = np.where(mask, counts, 1000)
    assert np.array_equal(
        adaptive_radii(counts, background, mask, **arguments), adaptive_radii(other, background, mask, **arguments)
    )
    assert not adaptive_radii(other, background, mask, **arguments)[~mask].any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 4)])
def test_an_empty_image_has_no_circles(shape):
    empty = np.zeros(shape, int)
    radius = adaptive_radii(empty, np.zeros(shape), np.ones(shape, bool), snr_target=1.0, max_radius_pixel=100.0)
    assert not radius.any()


def test_one_bright_pixel_alone_is_a_circle_of_the_smallest_radius():
    radius = adaptive_radii(
        np.array([[25]]), np.zeros((1, 1)), np.ones((1, 1), bool), snr_target=5.0, max_radius_pixel=1.0
    )
    assert radius.tolist() == [[1.0]]


def test_turning_the_image_turns_the_radii():
    counts, background = beta_model(np.random.default_rng(7), 40, 25, 40.0, 1.0)
    mask = np.ones(counts.shape, bool)
    arguments = {"snr_target": 12.0, "max_radius_pixel": 30.0}
    turned = adaptive_radii(np.rot90(counts), np.rot90(background), np.rot90(mask), **arguments)
    assert np.array_equal(turned, np.rot90(adaptive_radii(counts, background, mask, **arguments)))


def test_circles_reach_the_target_and_the_next_smaller_do_not():
    counts, background = beta_model(np.random.default_rng(8), 60, 60, 60.0, 0.5)
    mask = np.ones(counts.shape, bool)
    radius = adaptive_radii(counts, background, mask, snr_target=15.0, max_radius_pixel=40.0)
    found = radius > 0
    assert found.mean() > 0.5
    reached = signal_to_noise(circle_sums(counts, radius), circle_sums(background, radius))
    assert reached[found].min() >= 15.0 * (1 - 1e-12)
    smaller = np.where(radius > 1.0, radius - 0.125, 0.0)
    missed = signal_to_noise(circle_sums(counts, smaller), circle_sums(background, smaller))
    assert missed[smaller > 0].max() < 15.0


def test_sums_over_circles_are_those_of_pixel_sets():
    rng = np.random.default_rng(3)
    image = rng.normal(size=(12, 17))
    radius = rng.choice([0.0, 1.0, 1.375, 2.5, 5.0, 20.0], size=image.shape)
    y, x = np.indices(image.shape)
    sums = circle_sums(image, radius)
    for iy, ix in np.ndindex(image.shape):
        disc = np.hypot(y - iy, x - ix) <= radius[iy, ix]
        expected = image[disc].sum() if radius[iy, ix] > 0 else 0.0
        # Differences of row sums: a few roundings of numbers of order 10.
        assert sums[iy, ix] == pytest.approx(expected, abs=1e-12)


def test_regions_are_numbered_row_by_row():
    number, iy, ix = region_pixels(np.array([[0.0, 2.0, 1.0], [0.0, 0.0, 0.0], [1.5, 0.0, 3.0]]))
    assert number.tolist() == [1, 2, 3, 4]
    assert (iy.tolist(), ix.tolist()) == ([0, 0, 2, 2], [1, 2, 0, 2])


def test_the_ladder_runs_from_one_in_eighths_to_the_maximum():
    assert radius_ladder(1.3).tolist() == [1.0, 1.125, 1.25]
    assert radius_ladder(100.0)[-1] == 100.0
    with pytest.raises(ValueError, match=r"largest radius is 0\.5"):
        radius_ladder(0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": np.ones((2, 3), int)}, "images of one shape"),
        ({"counts": np.full((2, 2), 0.5)}, "whole numbers"),
        ({"counts": np.full((2, 2), -1)}, "whole numbers and not negative"),
        ({"counts": np.full((2, 2), np.nan)}, "whole numbers"),
        ({"background": np.full((2, 2), -0.1)}, "background must be finite"),
        ({"background": np.full((2, 2), np.inf)}, "background must be finite"),
        ({"snr_target": 0.0}, "target is 0"),
        ({"snr": "both"}, "snr = 'both' is unknown"),
        ({"max_radius_pixel": 0.0}, "expected at least 1"),
    ],
)
def test_impossible_arguments_are_refused(change, message):
    arguments = {
        "counts": np.ones((2, 2), int),
        "background": np.zeros((2, 2)),
        "mask": np.ones((2, 2), bool),
        "snr_target": 3.0,
        "max_radius_pixel": 5.0,
    } | change
    counts, background, mask = (arguments.pop(name) for name in ("counts", "background", "mask"))
    with pytest.raises(ValueError, match=message):
        adaptive_radii(counts, background, mask, **arguments)


def test_sums_of_images_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="must have one shape"):
        circle_sums(np.zeros((2, 2)), np.zeros((2, 3)))
