"""The expected source of a fit of kT and norm, and how it changes with these."""

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
