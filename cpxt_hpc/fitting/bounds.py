"""Rigorous lower bounds of a Poisson statistic over whole intervals of temperature."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.filled import Filled, pulled_counts_once, spread_pulls
from cpxt_hpc.science.compiled import compiled


@compiled(part=True)
def raise_bounds(
    filled: Filled, bound: np.ndarray, k: int, direction: int, level: float, dual: float, slack: float
) -> None:
    """Raise the lower bounds in the intervals beyond node k, up to the first one that stays below the level.

    Parameters
    ----------
    filled : Filled
        Its pulls t are those at node k.
    bound : ndarray of float64, shape (n_nodes - 1,)
        Lower bounds of the statistic in the intervals.
    k, direction : int
        The node; 1 for the intervals above it, -1 for those below.
    level : float
    dual, slack : float
        Half the dual's value at t, and its slack.

    Notes
    -----
    With s t, 0 < s <= 1, half the statistic is at least dual + N ln s + (1 - s) slack, N counts in all, for every
    model made of nodes m whose expected counts T_m for norm 1 are at least s sum(t F_m).
    """
    spread = spread_pulls(filled)
    n_counts = filled.work.total_counts
    largest = min(1.0, n_counts / slack) if slack > 0.0 else 1.0
    near = min(largest, _scale_allowed(filled, k, spread))
    m = k + direction
    while 0 <= m < len(filled.present):
        far = min(largest, _scale_allowed(filled, m, spread))
        s = min(near, far)
        interval = min(m, m - direction)
        bound[interval] = max(bound[interval], 2.0 * (dual + n_counts * np.log(s) + (1.0 - s) * slack))
        if bound[interval] <= level:
            break
        near = far
        m += direction


@compiled(part=True)
def _scale_allowed(filled, m, spread):
    total, pulled = filled.work.totals[m], pulled_counts_once(filled, m, spread)
    return total / pulled if pulled > total else 1.0
