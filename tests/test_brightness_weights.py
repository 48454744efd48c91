"""Brightness weights: positive everywhere, true to the cluster, not misled by masks."""

import numpy as np
import pytest

from cpxt_hpc.science.brightness_weights import brightness_weights, filled_by_neighbours


def cluster(shape=(64, 64), peak=40.0, level=0.2):
    y, x = np.indices(shape)
    brightness = peak * (1 + ((y - 30) ** 2 + (x - 34) ** 2) / 64.0) ** -1.5
    return brightness, np.full(shape, level)


def test_weights_follow_the_true_brightness_under_masks_and_gaps():
    brightness, background = cluster()
    rng = np.random.default_rng(1)
    exposure = np.full(brightness.shape, 2.0)
    exposure[:, 20:24] = 0.5  # a chip gap
    counts = rng.poisson((brightness + background) * exposure)
    mask = np.ones(brightness.shape, bool)
    mask[26:31, 36:41] = False  # a point source near the centre
    counts[~mask] = 999
    weights = brightness_weights(counts, background * exposure, exposure, mask, max_radius_pixel=20.0)
    assert np.all(weights > 0)
    for part in (np.s_[20:40, 20:24], np.s_[26:31, 36:41], np.s_[28:34, 44:50]):
        # 10 % of noise a circle, a few circles; under the mask the Gaussian averages over the gradient.
        assert weights[part].mean() == pytest.approx(brightness[part].mean(), rel=0.15)


def test_weights_are_positive_where_there_is_only_background():
    rng = np.random.default_rng(2)
    background = np.full((40, 40), 3.0)
    counts = rng.poisson(background)
    counts[5:9, 5:9] += 100
    mask = np.ones(counts.shape, bool)
    weights = brightness_weights(counts, background, np.ones(counts.shape), mask, max_radius_pixel=4.0)
    assert np.all(weights > 0) and np.all(np.isfinite(weights))
    assert weights[6, 6] > 10 * weights[30, 30]


def test_without_any_source_all_pixels_weigh_the_same():
    empty = np.zeros((5, 6), int)
    weights = brightness_weights(empty, empty * 0.0, empty + 1.0, empty == 0, max_radius_pixel=5.0)
    assert np.array_equal(weights, np.ones((5, 6)))


def test_a_constant_image_is_filled_with_its_constant():
    known = np.zeros((30, 40), bool)
    known[3:6, 4:8] = True
    filled = filled_by_neighbours(np.where(known, 7.0, np.nan), known)
    np.testing.assert_allclose(filled, 7.0, rtol=1e-12)


def test_known_pixels_stay_as_they_are():
    rng = np.random.default_rng(3)
    image, known = rng.random((20, 20)), rng.random((20, 20)) < 0.5
    filled = filled_by_neighbours(image, known)
    assert np.array_equal(filled[known], image[known])
    assert filled[~known].min() > image[known].min() and filled[~known].max() < image[known].max()
