"""Weights that say how a cluster's light is spread over its pixels, the masked and unexposed ones included.

An observation that exposes only a part of a region sees only a part of its light; how much is judged by the
smoothed surface brightness of all observations together.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cpxt_hpc.science.binning import adaptive_radii, circle_sums, radius_ladder

WEIGHT_SNR = 10.0
"""Signal to noise of the circles over which the brightness is averaged: finer than the regions of a map, so that
gradients inside them show, and still only 10 % of noise a circle."""

LEAST_SHARE = 1e-3
"""Smallest weight, as a share of the mean one: net counts may be negative, weights must not."""


def brightness_weights(
    counts: np.ndarray,
    background: np.ndarray,
    exposure: np.ndarray,
    mask: np.ndarray,
    *,
    max_radius_pixel: float,
) -> np.ndarray:
    """Smoothed surface brightness of every pixel, strictly positive.

    Net counts over exposure in the smallest circle about each pixel that reaches `WEIGHT_SNR`, in the largest one
    where none does; where masked the mean of the pixels around, weighted with a Gaussian as wide as it needs.

    Parameters
    ----------
    counts, background : ndarray, shape (ny, nx)
        Counts, and expected background [count/pixel], of all observations.
    exposure : ndarray, shape (ny, nx)
        Exposure of all observations [s].
    mask : ndarray of bool, shape (ny, nx)
        True where a pixel belongs to the map.
    max_radius_pixel : float

    Returns
    -------
    ndarray of float64, shape (ny, nx)
        [count/s/pixel]; all 1 where there is no net count in the whole map.
    """
    radius = adaptive_radii(counts, background, mask, snr_target=WEIGHT_SNR, max_radius_pixel=max_radius_pixel)
    radius[mask & (radius == 0)] = radius_ladder(min(max_radius_pixel, np.hypot(*mask.shape) + 1.0))[-1]
    net = circle_sums(np.where(mask, np.asarray(counts, dtype=float) - background, 0.0), radius)
    seconds = circle_sums(np.where(mask, exposure, 0.0), radius)
    known = seconds > 0
    brightness = np.divide(net, seconds, out=np.zeros(np.shape(net)), where=known)
    positive = np.maximum(brightness, 0.0)
    if not positive.any():
        return np.ones(np.shape(counts))
    return np.maximum(filled_by_neighbours(positive, known), LEAST_SHARE * positive[known].mean())


def filled_by_neighbours(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill the unknown pixels of an image by normalised convolution with Gaussians of growing width.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
    known : ndarray of bool, shape (ny, nx)
        At least one pixel must be known.

    Returns
    -------
    ndarray of float64, shape (ny, nx)
        The image where known; else the mean of the known pixels under the narrowest Gaussian (sigma 1, 2, 4, ...
        pixels) of which at least a hundredth falls on known ones.
    """
    filled = np.where(known, image, 0.0)
    done = np.array(known, dtype=bool)
    sigma_pixel = 1.0
    while not done.all():
        weight = ndimage.gaussian_filter(known.astype(float), sigma_pixel, mode="constant")
        total = ndimage.gaussian_filter(np.where(known, image, 0.0), sigma_pixel, mode="constant")
        reached = ~done & (weight > 0.01)
        if sigma_pixel > max(image.shape):
            reached, weight = ~done, np.ones(image.shape)
            total = np.full(image.shape, image[known].mean())
        filled[reached] = total[reached] / weight[reached]
        done |= reached
        sigma_pixel *= 2.0
    return filled
