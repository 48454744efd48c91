"""Arithmetic of time intervals: arrays of shape (n, 2), start and stop [s], sorted and disjoint."""

from __future__ import annotations

import numpy as np


def total_time(intervals: np.ndarray) -> float:
    """Sum of the lengths [s]."""
    return float(np.sum(intervals[:, 1] - intervals[:, 0]))


def within(times: np.ndarray, intervals: np.ndarray) -> np.ndarray:
    """Tell which times lie in an interval, start <= time < stop; boolean array of the shape of ``times``."""
    if len(intervals) == 0:
        return np.zeros(np.shape(times), dtype=bool)
    index = np.searchsorted(intervals[:, 0], times, side="right") - 1
    return (index >= 0) & (times < intervals[np.maximum(index, 0), 1])


def overlaps(intervals: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Time [s] of the intervals inside each bin.

    Parameters
    ----------
    intervals : ndarray, shape (n, 2)
    edges : ndarray, shape (n_bins + 1,)
        Ascending bin edges [s].

    Returns
    -------
    ndarray, shape (n_bins,)
    """
    if len(intervals) == 0:
        return np.zeros(len(edges) - 1)
    knots = intervals.ravel()
    elapsed = np.zeros(len(knots))
    elapsed[1::2] = np.cumsum(intervals[:, 1] - intervals[:, 0])
    elapsed[2::2] = elapsed[1:-1:2]
    return np.diff(np.interp(edges, knots, elapsed))


def without(intervals: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Cut a second set of intervals out of the first; the rest, shape (m, 2)."""
    kept = []
    for start, stop in intervals:
        for cut_start, cut_stop in cut[(cut[:, 1] > start) & (cut[:, 0] < stop)]:
            if cut_start > start:
                kept.append((start, cut_start))
            start = max(start, cut_stop)
        if start < stop:
            kept.append((start, stop))
    return np.array(kept, dtype=float).reshape(-1, 2)
