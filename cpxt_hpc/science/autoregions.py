"""Regions that a person would draw on the image of a cluster: its bright part, and the area worth a map."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

BRIGHT_LEVEL = 1.0
"""The bright part of a cluster is where it outshines the background."""

LARGEST_BRIGHT_SHARE = 0.4
"""Share of the exposed field that the bright part may take: the rest has to show the flares."""

MAP_LEVEL = 0.3
"""The map ends where the cluster falls below this part of the background."""

MAP_SIGNIFICANCE = 3.0
LARGEST_CIRCLE_SHARE = 0.8
"""The map ends where the circles would need more than this part of the largest radius that the binning tries."""

LEAST_EXPOSURE = 0.1
"""Share of the longest exposure below which a pixel tells nothing about where the cluster ends."""

_PEAK_SIGMA_PIXEL = 4.0
_RING_WIDTH_PIXEL = 4.0
_RINGS_BELOW = 2


@dataclasses.dataclass(frozen=True)
class Profile:
    """Azimuthal means about a centre, each array of shape (n,).

    Attributes
    ----------
    outer_pixel : ndarray
        Outer radius of each ring [pixel].
    net, background : ndarray
        Cluster and background [count/pixel]; NaN where nothing of the ring is exposed.
    significance : ndarray
        Net counts of the ring over their Poisson error.
    """

    outer_pixel: np.ndarray
    net: np.ndarray
    background: np.ndarray
    significance: np.ndarray


def well_exposed(exposure: np.ndarray) -> np.ndarray:
    """Boolean image: exposed for long enough to tell about the cluster."""
    return exposure > LEAST_EXPOSURE * float(exposure.max())


def cluster_peak(
    counts: np.ndarray, background: np.ndarray, exposure: np.ndarray, *, sigma_pixel: float = _PEAK_SIGMA_PIXEL
) -> tuple[float, float]:
    """Brightest place of the smoothed, background-subtracted, exposure-corrected image.

    Parameters
    ----------
    counts, background, exposure : ndarray, shape (ny, nx)
        [count, count, s]; exposure 0 where sources are masked.
    sigma_pixel : float
        Of the Gaussian.

    Returns
    -------
    ix, iy : float
        Zero-based [pixel].

    Raises
    ------
    ValueError
        Nothing is exposed.
    """
    if not (exposure > 0.0).any():
        raise ValueError("no pixel is exposed")
    kept = exposure > 0.0
    smooth, weight = (
        ndimage.gaussian_filter(np.where(kept, image, 0.0), sigma_pixel, mode="constant")
        for image in (counts - background, exposure)
    )
    usable = kept & well_exposed(exposure)
    flux = np.divide(smooth, weight, out=np.full(weight.shape, -np.inf), where=usable & (weight > 0.0))
    iy, ix = np.unravel_index(int(np.argmax(flux)), flux.shape)
    return float(ix), float(iy)


def radial_profile(
    counts: np.ndarray, background: np.ndarray, exposure: np.ndarray, centre: tuple[float, float]
) -> Profile:
    """Azimuthal means in rings of 4 pixels about a centre (ix, iy); arguments as of `cluster_peak`."""
    iy, ix = np.indices(counts.shape)
    ring = (np.hypot(ix - centre[0], iy - centre[1]) / _RING_WIDTH_PIXEL).astype(int)
    kept = well_exposed(exposure)
    n_rings = int(ring[kept].max()) + 1
    pixels, seen, expected = (
        np.bincount(ring[kept], None if values is None else values[kept], minlength=n_rings).astype(float)
        for values in (None, counts, background)
    )
    known = pixels > 0
    per_pixel = np.divide(1.0, pixels, out=np.full(n_rings, np.nan), where=known)
    return Profile(
        (np.arange(n_rings) + 1.0) * _RING_WIDTH_PIXEL,
        (seen - expected) * per_pixel,
        expected * per_pixel,
        (seen - expected) / np.sqrt(np.maximum(seen + expected, 1.0)),
    )


def bright_radius(profile: Profile, exposure: np.ndarray, centre: tuple[float, float]) -> float:
    """Radius about the peak inside which a cluster outshines the background [pixel].

    Never so large that it holds more than `LARGEST_BRIGHT_SHARE` of the exposed field; 0 where the cluster is
    fainter than the background everywhere.
    """
    radius = _outermost(profile, profile.net >= BRIGHT_LEVEL * profile.background)
    kept = exposure > 0.0
    iy, ix = np.nonzero(kept)
    distance = np.sort(np.hypot(ix - centre[0], iy - centre[1]))
    return min(radius, float(distance[int(LARGEST_BRIGHT_SHARE * (distance.size - 1))]))


def map_radius(profile: Profile, *, signal_to_noise: float, max_radius_pixel: float) -> float:
    """Radius about the peak that is worth a map [pixel].

    Inside it the cluster is significant, brighter than `MAP_LEVEL` of the background, and circles of the target
    signal to noise stay well below the largest radius: n pixels of net counts s and background b each reach it at
    n = target^2 (s + 2b)/s^2.

    Parameters
    ----------
    profile : Profile
    signal_to_noise : float
        Target of the binning.
    max_radius_pixel : float
        Largest radius that the binning tries.

    Returns
    -------
    float
        0 where no ring is worth it.
    """
    net, background = profile.net, profile.background
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = signal_to_noise**2 * (net + 2.0 * background) / net**2
        small = np.sqrt(pixels / np.pi) <= LARGEST_CIRCLE_SHARE * max_radius_pixel
    worth = (net >= MAP_LEVEL * background) & (net > 0.0) & (profile.significance >= MAP_SIGNIFICANCE) & small
    return _outermost(profile, worth)


def map_box(exposure: np.ndarray, centre: tuple[float, float], radius_pixel: float) -> tuple[int, int, int, int]:
    """Box about the circle of a radius, cut to where it is well exposed.

    Returns
    -------
    iy0, iy1, ix0, ix1 : int
        Rows iy0 <= iy < iy1, columns ix0 <= ix < ix1.

    Raises
    ------
    ValueError
        Nothing in the box is exposed.
    """
    (ix, iy), (ny, nx) = centre, exposure.shape
    rows = slice(max(int(np.floor(iy - radius_pixel)), 0), min(int(np.ceil(iy + radius_pixel)) + 1, ny))
    columns = slice(max(int(np.floor(ix - radius_pixel)), 0), min(int(np.ceil(ix + radius_pixel)) + 1, nx))
    kept = well_exposed(exposure)[rows, columns]
    if not kept.any():
        raise ValueError("no exposed pixel lies in the box")
    used_rows, used_columns = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    return (
        rows.start + int(used_rows[0]), rows.start + int(used_rows[-1]) + 1,
        columns.start + int(used_columns[0]), columns.start + int(used_columns[-1]) + 1,
    )


def _outermost(profile: Profile, good: np.ndarray) -> float:
    """Outer radius of the last good ring before two known rings in a row are not; 0 where none is."""
    radius, below = 0.0, 0
    for outer, known, is_good in zip(profile.outer_pixel, np.isfinite(profile.net), good, strict=True):
        if not known:
            continue
        below = 0 if is_good else below + 1
        if below >= _RINGS_BELOW:
            break
        if is_good:
            radius = float(outer)
    return radius
