"""From places in the intervals of temperature to temperatures, and from ranges of norms to one range."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.science.compiled import compiled


@compiled(part=True)
def kt_at(kt_nodes: np.ndarray, k: int, u: float) -> float:
    """Temperature where the part u of the norm is in node k + 1 and the rest in node k."""
    if u == 1.0:
        return kt_nodes[k + 1]
    return kt_nodes[k] + u * (kt_nodes[k + 1] - kt_nodes[k])


@compiled(part=True)
def connected_range(lowest: float, highest: float, low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """Ends of the connected union of a range and others that holds the former.

    Parameters
    ----------
    lowest, highest : float
        The range.
    low, high : ndarray of float64, shape (n,)
        The others; NaN for none.

    Returns
    -------
    lowest, highest : float
    """
    grows = True
    while grows:
        grows = False
        for k in range(len(low)):
            if low[k] <= highest and high[k] >= lowest and (low[k] < lowest or high[k] > highest):
                lowest, highest = min(low[k], lowest), max(high[k], highest)
                grows = True
    return lowest, highest
