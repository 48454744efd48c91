"""Sums of products over channels, in vector instructions."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.science.compiled import REASSOCIATE, compiled


@compiled(fastmath=REASSOCIATE, part=True)
def dot(first: np.ndarray, second: np.ndarray) -> float:
    """Sum of the products of two arrays."""
    total = 0.0
    for i in range(len(first)):
        total += first[i] * second[i]
    return total


@compiled
def expected_totals(rates: np.ndarray, exposure: np.ndarray) -> np.ndarray:
    """Expected counts for norm 1, summed over the channels.

    Parameters
    ----------
    rates : ndarray of float64, shape (n_nodes, n_channels)
        Count rates [count/s].
    exposure : ndarray of float64, shape (n_channels,)
        [s].

    Returns
    -------
    ndarray of float64, shape (n_nodes,)
    """
    totals = np.empty(len(rates))
    for k in range(len(rates)):
        totals[k] = dot(rates[k], exposure)
    return totals


@compiled(part=True)
def take(values: np.ndarray, places: np.ndarray, taken: np.ndarray) -> None:
    """Set `taken` to the values at ascending places, which are all places where there are as many as values."""
    if len(places) == len(values):
        for i in range(len(values)):  # numba compiles a slice's assignment for seconds: its errors are strings
            taken[i] = values[i]
    else:
        for i in range(len(places)):
            taken[i] = values[places[i]]
