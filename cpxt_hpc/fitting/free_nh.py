"""Folded models at any hydrogen column, from those folded at a few columns.

Absorption multiplies the light of each energy by exp(-nH sigma(E)). A folded rate is therefore a sum of exponentials
of nH, and exp(REFERENCE nH) times it a slowly varying one: a polynomial through its values at the nearest `WINDOW`
columns, divided by that exponential again, gives it between them. The result is linear in the folded rates with the
same weights for all channels, temperatures and abundances, so that sums over channels are interpolated alike.
"""

from __future__ import annotations

import numpy as np

from cpxt_hpc.science.compiled import compiled

REFERENCE_1E22 = 3.0
"""Cross section around which the polynomials are good [10^-22 cm^2 for each hydrogen atom]: phabs has 4.8 at 0.7 keV,
2.5 at 1 keV, and 0.02 at 8 keV."""
WINDOW = 8
"""Columns that take part in the interpolation."""
HIGHEST_NH_1E22 = 1.0
RANGE_FACTOR = 4.0
"""The grid ends at the larger of `HIGHEST_NH_1E22` and so many times the expected column."""
GRID_POWER = 1.5
"""The columns lie denser at the lower end, where soft light still leaks into the band."""


def nh_grid(nh_1e22: float) -> np.ndarray:
    """Hydrogen columns at which a model is to be folded where nH is free.

    Parameters
    ----------
    nh_1e22 : float
        Expected column [10^22 cm^-2], not negative.

    Returns
    -------
    ndarray of float64, shape (n_nh,)
        From 0 upwards: 16 columns up to 1, or 8 + 8 times the highest where that is more.

    Raises
    ------
    ValueError
        The column is negative or not a number.

    Notes
    -----
    Between them `column_weights` reproduces phabs x apec, folded through the response of ACIS-I (cycle 18), to 2e-5 in
    every channel of 0.7-8 keV at any temperature of 0.1-64 keV, and to 2e-6 above 0.4 keV.
    """
    if not (nh_1e22 >= 0.0 and np.isfinite(nh_1e22)):
        raise ValueError(f"nh_1e22 = {nh_1e22}: the hydrogen column must not be negative")
    highest = max(HIGHEST_NH_1E22, RANGE_FACTOR * nh_1e22)
    n_columns = int(np.ceil(8.0 + 8.0 * highest))
    return highest * np.linspace(0.0, 1.0, n_columns) ** GRID_POWER


@compiled
def column_weights(nh_nodes_1e22: np.ndarray, nh_1e22: float) -> tuple[int, np.ndarray]:
    """Weights of the folded columns in the model at any column.

    Parameters
    ----------
    nh_nodes_1e22 : ndarray of float64, shape (n_nh,)
        Columns at which the model was folded, increasing.
    nh_1e22 : float
        Within their range.

    Returns
    -------
    first : int
        The first folded column that takes part.
    weights : ndarray of float64, shape (3, n_taking_part)
        Of the model, and of its first and second derivative with respect to nH. At a folded column the first row is
        exactly 1 there and 0 at the others.
    """
    n_window = min(WINDOW, len(nh_nodes_1e22))
    first = np.searchsorted(nh_nodes_1e22, nh_1e22) - n_window // 2
    first = min(max(first, 0), len(nh_nodes_1e22) - n_window)
    weights = np.empty((3, n_window))
    for i in range(n_window):
        here = nh_nodes_1e22[first + i]
        value, slope, bend = 1.0, 0.0, 0.0
        for j in range(n_window):
            if j != i:
                distance = here - nh_nodes_1e22[first + j]
                factor = (nh_1e22 - nh_nodes_1e22[first + j]) / distance
                bend = bend * factor + 2.0 * slope / distance
                slope = slope * factor + value / distance
                value *= factor
        scale = np.exp(-REFERENCE_1E22 * (nh_1e22 - here))
        weights[0, i] = scale * value
        weights[1, i] = scale * (slope - REFERENCE_1E22 * value)
        weights[2, i] = scale * (bend - 2.0 * REFERENCE_1E22 * slope + REFERENCE_1E22 * REFERENCE_1E22 * value)
    return first, weights
