"""Exposure of single pixels from what their circles are exposed: ClusterPyXT keeps only the latter."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.science.binning import circle_sums

N_STEPS = 40


def pixel_exposure_share(circle_share: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the exposure that each pixel has, so that the mean over each pixel's circle is the given one.

    Parameters
    ----------
    circle_share : ndarray, shape (ny, nx)
        Mean share over the pixel's circle, from 0 to 1; 0 where the pixel has no circle or is not exposed.
    radius : ndarray, shape (ny, nx)
        Radius of the circles [pixel], on the ladder of `adaptive_radii`.

    Returns
    -------
    share : ndarray, shape (ny, nx)
        Of the pixels, 0 to 1.
    error : ndarray, shape (ny, nx)
        Mean of the found shares over each circle, minus ``circle_share``.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    circles = np.nonzero(radius > 0.0)
    pixels = circle_sums(np.ones(radius.shape), radius)[circles]
    wanted, exposed = circle_share[circles], circle_share > 0.0
    weight = _paint(circles, radius, 1.0 / pixels)

    def means(share: np.ndarray) -> np.ndarray:
        return circle_sums(share, radius)[circles] / pixels

    # Least squares with bounds by accelerated steps (FISTA): what a circle lacks is spread evenly over its pixels.
    share = ahead = exposed.astype(float)
    pace = 1.0
    for _ in range(N_STEPS):
        lack = _paint(circles, radius, (wanted - means(ahead)) / pixels)
        step = np.divide(lack, weight, out=np.zeros_like(lack), where=weight > 0.0)
        better = np.where(exposed, np.clip(ahead + step, 0.0, 1.0), 0.0)
        next_pace = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * pace**2))
        ahead = better + (pace - 1.0) / next_pace * (better - share)
        share, pace = better, next_pace
    error = np.zeros(radius.shape)
    error[circles] = means(share) - wanted
    return share, np.where(exposed, error, 0.0)


def _paint(circles: tuple[np.ndarray, np.ndarray], radius: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Image of the sum of the values of all circles that hold a pixel, shape (ny, nx)."""
    iy, ix = circles
    ny, nx = radius.shape
    squared = radius[circles] ** 2
    edges = np.zeros(ny * (nx + 1))
    for dy in range(-int(radius.max()), int(radius.max()) + 1):
        row = iy + dy
        held = (dy * dy <= squared) & (row >= 0) & (row < ny)
        width = np.floor(np.sqrt(squared[held] - dy * dy)).astype(np.int64)
        start = row[held] * (nx + 1)
        first, stop = np.maximum(ix[held] - width, 0), np.minimum(ix[held] + width + 1, nx)
        edges += np.bincount(start + first, weights=values[held], minlength=edges.size)
        edges -= np.bincount(start + stop, weights=values[held], minlength=edges.size)
    return np.cumsum(edges.reshape(ny, nx + 1), axis=1)[:, :nx]
