"""Events in the order in which regions read them: by pixel."""

from __future__ import annotations

import numpy as np


def sort_by_pixel(pixel: np.ndarray, n_pixels: int, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sort events by pixel.

    Parameters
    ----------
    pixel : ndarray of int, shape (n_events,)
        Flat pixel index of each event; events with a negative one are left out.
    n_pixels : int
    *columns : ndarray, each of shape (n_events,)

    Returns
    -------
    pixel_start : ndarray of int64, shape (n_pixels + 1,)
        Where the events of each pixel start.
    *columns : ndarray
        The columns in this order; events of one pixel stay in their order.
    """
    pixel = np.asarray(pixel)
    order = np.argsort(pixel, kind="stable")
    order = order[pixel[order] >= 0]
    pixel_start = np.zeros(n_pixels + 1, dtype=np.int64)
    np.cumsum(np.bincount(pixel[order], minlength=n_pixels), out=pixel_start[1:])
    return pixel_start, *(np.ascontiguousarray(np.asarray(column)[order]) for column in columns)
