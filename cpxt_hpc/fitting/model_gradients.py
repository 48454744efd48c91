"""The expected source of a fit with a frozen hydrogen column and one norm, and how it changes with its parameters."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.science.compiled import compiled


@compiled
def source_and_gradients(
    rates: np.ndarray, exposure: np.ndarray, kt_nodes: np.ndarray, kt: float, norm: float
) -> np.ndarray:
    """Expected source counts, and their derivatives in kT and norm.

    Parameters
    ----------
    rates : ndarray of float64, shape (n_nodes, n_channels)
        For norm 1 [count/s].
    exposure : ndarray of float64, shape (n_channels,)
    kt_nodes : ndarray of float64, shape (n_nodes,)
    kt, norm : float

    Returns
    -------
    ndarray of float64, shape (3, n_channels)
        Counts, counts/keV, and counts for norm 1.
    """
    k = min(max(np.searchsorted(kt_nodes, kt) - 1, 0), len(kt_nodes) - 2)
    width = kt_nodes[k + 1] - kt_nodes[k]
    u = (kt - kt_nodes[k]) / width
    low, high = rates[k], rates[k + 1]
    found = np.empty((3, len(exposure)))
    for i in range(len(exposure)):
        for_norm_1 = exposure[i] * ((1.0 - u) * low[i] + u * high[i])
        found[0, i] = norm * for_norm_1
        found[1, i] = norm * exposure[i] * (high[i] - low[i]) / width
        found[2, i] = for_norm_1
    return found


@compiled
def source_and_gradients_with_abundance(
    rates: np.ndarray, exposure: np.ndarray, kt_nodes: np.ndarray, kt: float, norm: float, abundance: float
) -> np.ndarray:
    """As `source_and_gradients`, with the derivative in the abundance as last row.

    Parameters
    ----------
    rates : ndarray of float64, shape (2, n_nodes, n_channels)
        At abundance 0 and 1, for norm 1 [count/s].
    exposure, kt_nodes, kt, norm
        As for `source_and_gradients`.
    abundance : float

    Returns
    -------
    ndarray of float64, shape (4, n_channels)
    """
    k = min(max(np.searchsorted(kt_nodes, kt) - 1, 0), len(kt_nodes) - 2)
    width = kt_nodes[k + 1] - kt_nodes[k]
    u = (kt - kt_nodes[k]) / width
    low, metals_low, high, metals_high = rates[0, k], rates[1, k], rates[0, k + 1], rates[1, k + 1]
    found = np.empty((4, len(exposure)))
    for i in range(len(exposure)):
        by_metals = (1.0 - u) * (metals_low[i] - low[i]) + u * (metals_high[i] - high[i])
        for_norm_1 = exposure[i] * ((1.0 - u) * low[i] + u * high[i] + abundance * by_metals)
        slope = high[i] - low[i] + abundance * (metals_high[i] - metals_low[i] - high[i] + low[i])
        found[0, i] = norm * for_norm_1
        found[1, i] = norm * exposure[i] * slope / width
        found[2, i] = for_norm_1
        found[3, i] = norm * exposure[i] * by_metals
    return found
