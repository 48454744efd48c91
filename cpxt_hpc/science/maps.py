"""Maps from fits of overlapping circles: which fit each pixel shows.

A fit belongs to the pixel at its circle's centre. Fits at resolution 1, 2, 3 stand at the pixels whose both
indices are multiples of 5, 3, 1, and each is painted as a block of 5x5, 3x3, 1x1 pixels centred on its own
pixel. The sides are odd, so blocks of one resolution tile the image without gap, overlap or shift.
"""

from __future__ import annotations

import numpy as np

BLOCK_SIDE = {1: 5, 2: 3, 3: 1}
"""Resolution: distance between fitted pixels and side of a painted block [image pixels]."""

FINEST_RESOLUTION = max(BLOCK_SIDE)

NO_ROW = -1
"""What `rows_of_pixels` says of a pixel that no fit belongs to."""


def belongs_to_resolution(iy: np.ndarray, ix: np.ndarray, resolution: int) -> np.ndarray:
    """Whether a pixel is fitted at a resolution: both indices are multiples of 5, 3, 1 for 1, 2, 3.

    Raises
    ------
    ValueError
        The resolution is not 1, 2 or 3.
    """
    if resolution not in BLOCK_SIDE:
        raise ValueError(f"resolution {resolution!r}: expected one of {', '.join(map(str, BLOCK_SIDE))}")
    step = BLOCK_SIDE[resolution]
    return (np.asarray(iy) % step == 0) & (np.asarray(ix) % step == 0)


def resolution_of(iy: np.ndarray, ix: np.ndarray) -> int:
    """Resolution at which these pixels were fitted: the finest that some of them need.

    A pixel that belongs to a coarser resolution too asks for the coarser one only.

    Raises
    ------
    ValueError
        No pixels.
    """
    if np.size(iy) == 0:
        raise ValueError("no fitted pixels: they have no resolution")
    unexplained = np.ones(np.shape(iy), dtype=bool)
    needed = 1
    for resolution in sorted(BLOCK_SIDE):
        here = unexplained & belongs_to_resolution(iy, ix, resolution)
        if here.any():
            needed = resolution
        unexplained &= ~here
    return needed


def rows_of_pixels(
    iy: np.ndarray, ix: np.ndarray, mask: np.ndarray, *, resolution: int = FINEST_RESOLUTION
) -> np.ndarray:
    """For each pixel the row (fit) whose block it lies in; of several resolutions the finest one.

    Parameters
    ----------
    iy, ix : ndarray of int, shape (n,)
        Pixel of each fit. The fits may be of several resolutions and in any order.
    mask : ndarray of bool, shape (ny, nx)
        Pixels that belong to the map.
    resolution : int
        Fits of finer resolutions than this are left out.

    Returns
    -------
    ndarray of int64, shape (ny, nx)
        Index of the row; `NO_ROW` outside the mask and where no fit belongs.

    Raises
    ------
    ValueError
        A fit lies outside the image, or the resolution is not 1, 2 or 3.
    """
    iy, ix = np.asarray(iy, dtype=np.int64), np.asarray(ix, dtype=np.int64)
    ny, nx = mask.shape
    outside = (iy < 0) | (iy >= ny) | (ix < 0) | (ix >= nx)
    if outside.any():
        first = int(np.argmax(outside))
        raise ValueError(f"a fit at row {iy[first]}, column {ix[first]} lies outside the image of {ny} x {nx} pixels")
    if resolution not in BLOCK_SIDE:
        raise ValueError(f"resolution {resolution!r}: expected one of {', '.join(map(str, BLOCK_SIDE))}")
    rows = np.full(mask.shape, NO_ROW, dtype=np.int64)
    for level in range(1, resolution + 1):
        chosen = np.flatnonzero(belongs_to_resolution(iy, ix, level))
        half = BLOCK_SIDE[level] // 2
        for dy in range(-half, half + 1):
            for dx in range(-half, half + 1):
                y, x = iy[chosen] + dy, ix[chosen] + dx
                inside = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
                rows[y[inside], x[inside]] = chosen[inside]
    rows[~np.asarray(mask, dtype=bool)] = NO_ROW
    return rows


def paint(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Image of one quantity of the fits.

    Parameters
    ----------
    values : ndarray, shape (n,)
        The quantity; NaN where a fit has none.
    rows : ndarray of int, shape (ny, nx)
        From `rows_of_pixels`.

    Returns
    -------
    ndarray of float64, shape (ny, nx)
        NaN where no fit belongs.
    """
    values = np.asarray(values, dtype=float)
    image = np.full(rows.shape, np.nan)
    known = rows != NO_ROW
    image[known] = values[rows[known]]
    return image


def paint_integers(values: np.ndarray, rows: np.ndarray, *, nothing: int) -> np.ndarray:
    """Image of an integer quantity (int32) such as a status, with ``nothing`` where no fit belongs."""
    image = np.full(rows.shape, nothing, dtype=np.int32)
    known = rows != NO_ROW
    image[known] = np.asarray(values)[rows[known]]
    return image
