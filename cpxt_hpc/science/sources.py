"""Point sources on top of the bright, extended emission of a cluster.

Peaks of the image at the scale of the point-spread function are candidates; `source_tests` judges each. The
sources found are masked and the other candidates looked at again, until nothing changes.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from photutils.detection import find_peaks
from scipy import ndimage, special

from cpxt_hpc.science.psf import mask_radius
from cpxt_hpc.science.source_tests import BACKGROUND_RADII, Stamp, centroid, has_background, measure

PROBABILITY = 1e-6
"""A source is what chance would make with less than this probability at one place. A Chandra field has about 1e5
independent places; as the best of several positions and apertures counts, chance makes about one source a field."""

SOURCE_DTYPE = np.dtype(
    [
        ("x", float), ("y", float), ("radius", float), ("psf_radius", float),
        ("counts", float), ("background", float), ("probability", float),
    ]
)
"""Centre and mask radius [image pixel, zero-based]; 90 % radius of the point-spread function there [image pixel]; net
counts inside that, background expected in it [count]; probability that chance makes the peak."""

_SCREENING_PROBABILITY = 0.01
_SCREENING_COUNTS = 2.5
_MATCHED_SIGMA_PIXEL = 1.0
_SURROUNDINGS_SIGMA_PIXEL = 4.0
_FINEST_PSF_PIXEL = 9.0
_LEAST_EXPOSURE = 0.03
_MAX_ROUNDS = 5
_USUAL_RINGS = 2


@dataclasses.dataclass(frozen=True)
class _Level:
    """Images in blocks of ``binning`` x ``binning`` pixels: counts and exposure summed, PSF radius [block]."""

    binning: int
    counts: np.ndarray
    exposure: np.ndarray
    psf_radius: np.ndarray


def find_point_sources(
    counts: np.ndarray, exposure: np.ndarray, psf_radius_pixel: np.ndarray, *, probability: float = PROBABILITY
) -> np.ndarray:
    """Find point sources, also on bright extended emission.

    Parameters
    ----------
    counts : ndarray, shape (ny, nx)
        Image whose pixels are not larger than the point-spread function [count].
    exposure : ndarray, shape (ny, nx)
        Exposure, any unit; 0 where nothing was observed.
    psf_radius_pixel : ndarray, shape (ny, nx)
        90 % radius of the point-spread function at each pixel [pixel].
    probability : float
        A peak is a source where chance makes such a one with less than this probability.

    Returns
    -------
    ndarray of SOURCE_DTYPE, shape (n,)
        Brightest first.

    Raises
    ------
    ValueError
        The images differ in shape.
    """
    if not counts.shape == exposure.shape == psf_radius_pixel.shape:
        raise ValueError(
            f"images of one shape expected, got {counts.shape}, {exposure.shape}, {psf_radius_pixel.shape}"
        )
    levels = _pyramid(counts, exposure, psf_radius_pixel)
    candidates = np.concatenate([_candidates(level) for level in levels])
    tested = [_judged(levels, x, y, np.empty(0, dtype=SOURCE_DTYPE), 0.0) for x, y in candidates]
    found = _distinct([row for row in tested if row is not None and row["probability"] < probability])
    for _ in range(_MAX_ROUNDS):
        for index, (x, y) in enumerate(candidates):
            near = _near(found, x, y, levels[0])
            if len(near):
                own_counts = 0.0 if tested[index] is None else float(tested[index]["counts"])
                tested[index] = _judged(levels, x, y, near, own_counts)
        before = found
        found = _distinct([row for row in tested if row is not None and row["probability"] < probability])
        if np.array_equal(before, found):
            break
    return found[np.argsort(-found["counts"], kind="stable")]


def _pyramid(counts: np.ndarray, exposure: np.ndarray, psf_radius: np.ndarray) -> list[_Level]:
    """Images in blocks of 1, 2, 4, ... pixels, until the largest PSF is 4 blocks."""
    levels, binning = [], 1
    while True:
        levels.append(
            _Level(
                binning, _blocks(counts, binning).sum(axis=(1, 3)).astype(float),
                _blocks(exposure, binning).sum(axis=(1, 3)).astype(float),
                _blocks(psf_radius, binning).mean(axis=(1, 3)) / binning,
            )
        )
        if levels[-1].psf_radius.max() <= 4.0 or 32 * binning > min(counts.shape):
            return levels
        binning *= 2


def _blocks(image: np.ndarray, binning: int) -> np.ndarray:
    """View of shape (ny, binning, nx, binning); rows and columns that fill no block are dropped."""
    ny, nx = (size // binning for size in image.shape)
    return image[: ny * binning, : nx * binning].reshape(ny, binning, nx, binning)


def _candidates(level: _Level) -> np.ndarray:
    """Positions (x, y) [pixel], shape (n, 2), of peaks where the PSF radius is 2 to 4 blocks (or less)."""
    # The classes of PSF radius overlap, so that no source falls between two levels.
    own = (level.psf_radius <= 4.4) & ((level.psf_radius >= 1.8) | (level.binning == 1))
    own &= level.exposure > _LEAST_EXPOSURE * level.exposure.max()
    narrow, surroundings = (
        _surface_brightness(level, sigma) for sigma in (_MATCHED_SIGMA_PIXEL, _SURROUNDINGS_SIGMA_PIXEL)
    )
    area = 4.0 * np.pi * _MATCHED_SIGMA_PIXEL**2 * level.exposure
    chance = special.gammainc(np.maximum(narrow * area, 1e-9), np.maximum(surroundings * area, 1e-12))
    interesting = own & (narrow * area > _SCREENING_COUNTS) & (chance < _SCREENING_PROBABILITY)
    if not interesting.any():
        return np.empty((0, 2))
    peaks = find_peaks(np.where(interesting, narrow, 0.0), 0.0, box_size=3, mask=~interesting)
    blocks = np.column_stack([np.asarray(peaks["x_peak"], float), np.asarray(peaks["y_peak"], float)])
    return (blocks + 0.5) * level.binning - 0.5


def _surface_brightness(level: _Level, sigma: float) -> np.ndarray:
    """Counts per exposure under a Gaussian weight; 0 where nothing is exposed."""
    weight, smooth = (
        ndimage.gaussian_filter(image, sigma, mode="constant", truncate=3.0)
        for image in (level.exposure, level.counts)
    )
    return np.divide(smooth, weight, out=np.zeros_like(smooth), where=weight > 0.0)


def _judged(
    levels: list[_Level], x: float, y: float, others: np.ndarray, own_counts: float
) -> np.void | None:
    """Measure one candidate with other sources masked; None where it is no compact excess."""
    fine = levels[0]
    row, column = (min(max(round(value), 0), size - 1) for value, size in zip((y, x), fine.counts.shape, strict=True))
    psf_pixel = float(fine.psf_radius[row, column])
    level = next((each for each in levels if psf_pixel / each.binning <= _FINEST_PSF_PIXEL), levels[-1])
    psf = psf_pixel / level.binning
    x, y = ((value + 0.5) / level.binning - 0.5 for value in (x, y))
    for ring in (_USUAL_RINGS, len(BACKGROUND_RADII) - 1):
        stamp = _stamp(level, x, y, (BACKGROUND_RADII[ring] + 1.0) * psf, others, own_counts)
        if has_background(stamp, psf, _USUAL_RINGS):
            break
    offset_x, offset_y = centroid(stamp, psf)
    measured = measure(stamp.moved(offset_x, offset_y), psf)
    if measured.net_counts <= 0.0 or not measured.compact:
        return None
    x, y = ((value + 0.5) * level.binning - 0.5 for value in (x + offset_x, y + offset_y))
    radius = mask_radius(measured.net_counts / 0.9, psf, measured.background_per_pixel) * level.binning
    return np.array(
        (x, y, radius, psf_pixel, measured.net_counts, measured.background_counts, measured.probability),
        dtype=SOURCE_DTYPE,
    )[()]


def _stamp(
    level: _Level, x: float, y: float, reach: float, others: np.ndarray, own_counts: float
) -> Stamp:
    """Exposed blocks within a reach of (x, y) [block] that belong to no other source.

    Inside its PSF radius a candidate gives way to brighter sources only, so that it is not masked by its own
    fluctuations.
    """
    ny, nx = level.counts.shape
    rows = slice(max(int(y - reach), 0), min(int(y + reach) + 2, ny))
    columns = slice(max(int(x - reach), 0), min(int(x + reach) + 2, nx))
    dy, dx = np.ogrid[rows, columns]
    dy, dx = dy - y, dx - x
    distance = np.hypot(dx, dy)
    chosen = (distance <= reach) & (level.exposure[rows, columns] > 0.0)
    for source in others:
        source_x, source_y, radius, psf = (
            (source["x"] + 0.5) / level.binning - 0.5 - x, (source["y"] + 0.5) / level.binning - 0.5 - y,
            source["radius"] / level.binning, source["psf_radius"] / level.binning,
        )
        if np.hypot(source_x, source_y) >= psf:
            own = (distance <= psf) & (source["counts"] < own_counts)
            chosen &= own | (np.hypot(dx - source_x, dy - source_y) > radius)
    dy, dx = (np.broadcast_to(axis, chosen.shape)[chosen] for axis in (dy, dx))
    return Stamp(level.counts[rows, columns][chosen], level.exposure[rows, columns][chosen], dx, dy)


def _near(found: np.ndarray, x: float, y: float, fine: _Level) -> np.ndarray:
    """Sources whose masks reach into a candidate's stamp."""
    row, column = (min(max(round(value), 0), size - 1) for value, size in zip((y, x), fine.counts.shape, strict=True))
    reach = (BACKGROUND_RADII[-1] + 1.0) * fine.psf_radius[row, column]
    return found[np.hypot(found["x"] - x, found["y"] - y) < reach + found["radius"]]


def _distinct(rows: list[np.void]) -> np.ndarray:
    """Sources, most probable first; one inside the 90 % radius, or faint in the mask, of another is the same."""
    if not rows:
        return np.empty(0, dtype=SOURCE_DTYPE)
    table = np.array(rows, dtype=SOURCE_DTYPE)
    table = table[np.lexsort((table["x"], -table["counts"], table["probability"]))]
    kept: list[int] = []
    for index, row in enumerate(table):
        taken = table[kept]
        distance = np.hypot(taken["x"] - row["x"], taken["y"] - row["y"])
        same = distance < np.maximum(taken["psf_radius"], 1.5)
        wings = (distance < taken["radius"]) & (row["counts"] < 0.15 * taken["counts"])
        if not (same | wings).any():
            kept.append(index)
    return table[kept]
