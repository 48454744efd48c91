"""Temperatures at which a plasma model that is not linear between any must be tabulated.

The model is evaluated on a fine grid; from that the fewest temperatures are taken between which a linear
interpolation of the folded spectra stays within a tolerance at all the others.
"""

from __future__ import annotations

import numpy as np

FINE_STEPS = 2048
"""Steps of the fine grid: a power of 2."""

COARSE_STEPS = 16

TOLERANCE = 1e-3
"""Largest relative error of a folded spectrum: the sum of the channels' deviations over the sum of the channels. The
Poisson noise of a spectrum of 10,000 counts in 500 channels is 200 times as large."""


def fine_temperatures_kev(lowest: float, highest: float) -> np.ndarray:
    """Temperatures evenly spaced in logarithm, both ends among them, shape (FINE_STEPS + 1,) [keV]."""
    grid = np.geomspace(lowest, highest, FINE_STEPS + 1)
    grid[0], grid[-1] = lowest, highest
    return grid


def choose_nodes(kt_kev: np.ndarray, spectra: np.ndarray, tolerance: float = TOLERANCE) -> tuple[np.ndarray, float]:
    """Pick the temperatures to keep.

    Parameters
    ----------
    kt_kev : ndarray, shape (FINE_STEPS + 1,)
        Ascending.
    spectra : ndarray, shape (n_kinds, FINE_STEPS + 1, n_channels)
        Folded spectra, not negative; the tolerance holds for each kind (abundance).
    tolerance : float

    Returns
    -------
    kept : ndarray of int
        Ascending places in ``kt_kev``, first and last among them. Between any two lies at least one that is not kept,
        so that the error is always measured.
    error : float
        Largest error at the temperatures that are not kept; above the tolerance where the fine grid is not fine
        enough.
    """
    step = FINE_STEPS // COARSE_STEPS
    waiting = [(first, first + step) for first in range(0, FINE_STEPS, step)]
    kept, largest = [0], 0.0
    while waiting:
        first, last = waiting.pop(0)
        error = interpolation_error(kt_kev, spectra, first, last)
        if error > tolerance and last - first > 2:
            middle = (first + last) // 2
            waiting[:0] = [(first, middle), (middle, last)]
        else:
            kept.append(last)
            largest = max(largest, error)
    return np.array(kept), largest


def interpolation_error(kt_kev: np.ndarray, spectra: np.ndarray, first: int, last: int) -> float:
    """Largest relative error of spectra interpolated linearly in kT between two places of `choose_nodes`."""
    part = ((kt_kev[first + 1 : last] - kt_kev[first]) / (kt_kev[last] - kt_kev[first]))[:, None]
    found = (1.0 - part) * spectra[:, None, first] + part * spectra[:, None, last]
    return relative_deviation(found, spectra[:, first + 1 : last])


def relative_deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest of the spectra's (last axis) summed deviations over their sums; 0 where a spectrum is empty."""
    total = expected.sum(axis=-1)
    deviation = np.abs(found - expected).sum(axis=-1)
    return float(np.max(np.divide(deviation, total, out=np.zeros_like(total), where=total > 0.0)))
