"""Images of events in energy bands, and what is made of them."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.science.events import PI_CHANNEL_EV, EventList
from cpxt_hpc.science.grid import PixelGrid

BROAD_BAND_EV = (500.0, 7000.0)

_ROUNDING = 1e-4
"""Share of a channel that an edge may be off by, so that one stored in single precision only touches the band."""


def weighted_counts_image(events: EventList, grid: PixelGrid, weights: np.ndarray) -> np.ndarray:
    """Sum of the weights of the events in each pixel, float64, shape (ny, nx)."""
    index = grid.pixel_index(events["x"], events["y"])
    inside = index >= 0
    return np.bincount(index[inside], weights=weights[inside], minlength=grid.nx * grid.ny).reshape(grid.shape)


def flux_image(counts: np.ndarray, background: np.ndarray, exposure: np.ndarray) -> np.ndarray:
    """(counts - background) / exposure [count/s/pixel], float64; 0 where not exposed, so that every viewer shows it."""
    return np.divide(counts - background, exposure, out=np.zeros(np.shape(counts)), where=exposure > 0.0)


def band_channels(low_kev: float, high_kev: float) -> tuple[int, int]:
    """First and last PI channel that overlap an energy band, as a fit in that band uses them.

    Channel n holds (n - 1) x 14.6 eV to n x 14.6 eV; one that only touches the band is not in it.
    """
    first = int(np.floor(low_kev * 1000.0 / PI_CHANNEL_EV + _ROUNDING)) + 1
    last = int(np.ceil(high_kev * 1000.0 / PI_CHANNEL_EV - _ROUNDING))
    return first, last


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Smallest rows iy0 <= iy < iy1 and columns ix0 <= ix < ix1 that hold all true pixels: (iy0, iy1, ix0, ix1).

    Raises
    ------
    ValueError
        No pixel is true.
    """
    if not mask.any():
        raise ValueError("no pixel of the mask is true")
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
