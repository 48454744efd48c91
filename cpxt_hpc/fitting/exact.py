"""The exact search: the global minimum of a Poisson statistic over kT and norm of a piecewise-linear model.

Between the neighbouring temperature nodes k and k + 1 the model is a F_k + b F_(k+1) with a, b >= 0, norm = a + b and
kT = (a T_k + b T_(k+1)) / norm. The statistic is convex in the amplitudes (a, b) of an interval, but not over
intervals. So nodes get their minimum over the norm. The slopes of the statistic there, towards the neighbouring nodes,
tell by convexity whether an interval hides a lower minimum: it does only if the slopes at both its nodes point into it.

The search walks downhill from a guess to the nearest minimum, and from there outwards on both sides. Where a node lies
above the level of interest, its pulls give a rigorous lower bound of the statistic in all intervals beyond it: those
that cannot come below that level are left out, the others are visited. Nothing is left to the guess but the time.
"""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.bounds import raise_bounds
from cpxt_hpc.fitting.convex import AT_HIGH_NODE, INSIDE, UNSOLVED, bisect, newton, ray_minimum
from cpxt_hpc.fitting.filled import (
    Filled,
    Slopes,
    fetch,
    filled_channels,
    pull,
    pulled_counts,
    slopes,
    value,
    value_and_dual,
)
from cpxt_hpc.fitting.guess import first_guess
from cpxt_hpc.fitting.statistics import Spectra
from cpxt_hpc.science.compiled import compiled

BOUND_MARGIN = 1e-6
"""Far more than the rounding errors of a bound."""


LEAST_SHARE = 0.05
"""Share of the counts that a search for the norm of a source at least starts from."""
NODE_NORM, NODE_VALUE, SLOPE_DOWN, SLOPE_UP, LOW, HIGH, VALUE, BOUND = range(8)
"""Rows of the table of minima. Of the nodes: best norm, the statistic there (NaN where no visit was needed), and its
derivatives in the amplitudes of the nodes below and above. Of the intervals, in the column of their lower node: best
amplitudes of the lower and the upper node, the statistic there (infinite in an interval that has no point below the
level of interest), and a lower bound of the statistic. The last column has no interval."""


@compiled(part=True)
def find_minima(spectra: Spectra, delta_statistic: float) -> tuple[Filled, np.ndarray, int, Slopes]:
    """Minimise the statistic at every node and in every interval that matters.

    Parameters
    ----------
    spectra : Spectra
        Of cstat or wstat, with at least two nodes.
    delta_statistic : float
        Intervals matter that have points less than this above the minimum.

    Returns
    -------
    filled : Filled
    minima : ndarray of float64, shape (8, n_nodes)
        Table of minima.
    k : int
        The interval of the global minimum over all kT and norm >= 0.
    at : Slopes
        There.
    """
    filled = filled_channels(spectra)
    minima = nothing_known(len(spectra.totals))
    k, a, b = first_guess(spectra)
    start = best = descend(filled, minima, k, a, b)
    brightest = start if minima[LOW, start] > minima[HIGH, start] else start + 1
    brightest_norm = max(minima[LOW, start], minima[HIGH, start])
    fetch(filled, start)
    fetch(filled, start + 1)
    at = slopes(filled.work, start, start + 1, minima[LOW, start], minima[HIGH, start])
    low_norm, high_norm = _node_starts(minima[LOW, start], minima[HIGH, start], at)
    level = minima[VALUE, best] + delta_statistic + BOUND_MARGIN
    for direction in (1, -1):
        inner, norm = (start + 1, high_norm) if direction > 0 else (start, low_norm)
        if not minima[NODE_VALUE, inner] <= level:
            _visit(filled, minima, inner, norm, level, direction)
        k = start + direction
        while 0 <= k < minima.shape[1] - 1:
            for node in (k, k + 1) if direction > 0 else (k + 1, k):
                if minima[BOUND, k] <= level and np.isnan(minima[NODE_VALUE, node]):
                    norm = minima[NODE_NORM, node - direction]
                    if np.isnan(norm):
                        norm = _equally_bright(filled, brightest, brightest_norm, node)
                    else:
                        norm = _equally_bright(filled, node - direction, norm, node)
                    _visit(filled, minima, node, norm, level, direction)
            if minima[BOUND, k] <= level:
                _settle(filled, minima, k)
                if minima[VALUE, k] < minima[VALUE, best]:
                    best = k
                    level = minima[VALUE, best] + delta_statistic + BOUND_MARGIN
            k += direction
    if best != start:
        at = slopes(filled.work, best, best + 1, minima[LOW, best], minima[HIGH, best])
    return filled, minima, best, at


@compiled
def nearby_minimum(spectra: Spectra, k: int, a: float, b: float) -> tuple[int, float, float, float]:
    """The minimum that a walk downhill reaches from a point, for spectra that differ little from ones already fitted.

    Parameters
    ----------
    spectra : Spectra
        Of cstat or wstat.
    k : int
        Interval of the starting point.
    a, b : float
        Its amplitudes.

    Returns
    -------
    k : int
    a, b : float
        Interval and amplitudes of the minimum.
    statistic : float
        There.
    """
    return walk_downhill(filled_channels(spectra), k, a, b)


@compiled(part=True)
def walk_downhill(filled: Filled, k: int, a: float, b: float) -> tuple[int, float, float, float]:
    """`nearby_minimum` for channels that have been taken out of the spectra."""
    minima = nothing_known(len(filled.present))
    k = descend(filled, minima, k, a, b)
    return k, minima[LOW, k], minima[HIGH, k], minima[VALUE, k]


@compiled(part=True)
def nothing_known(n_nodes: int) -> np.ndarray:
    """The table of minima before the first visit."""
    minima = np.empty((8, n_nodes))
    for k in range(n_nodes):
        minima[NODE_NORM, k] = minima[NODE_VALUE, k] = np.nan
        minima[SLOPE_DOWN, k] = minima[SLOPE_UP, k] = minima[LOW, k] = minima[HIGH, k] = 0.0
        minima[VALUE, k], minima[BOUND, k] = np.inf, -np.inf
    return minima


@compiled(part=True)
def descend(filled: Filled, minima: np.ndarray, k: int, a: float, b: float) -> int:
    """Walk downhill from a point to the nearest minimum and note it down.

    Parameters
    ----------
    filled : Filled
    minima : ndarray of float64, shape (8, n_nodes)
        Gets the minimum, and the nodes on the way.
    k, a, b : int, float, float
        Interval and amplitudes of the starting point.

    Returns
    -------
    int
        The interval that holds the minimum.
    """
    node = k + 1 if b > a else k
    norm = _equally_bright(filled, k, a, node) + _equally_bright(filled, k + 1, b, node)
    if a > 0.0 and b > 0.0:
        fetch(filled, k)
        fetch(filled, k + 1)
        a, b, at, outcome = newton(filled.work, k, a, b, 1.0)
        if outcome == INSIDE:
            minima[LOW, k], minima[HIGH, k], minima[VALUE, k] = a, b, value(filled.work, k, k + 1, a, b, at)
            return k
        if outcome != UNSOLVED:
            node = k + 1 if outcome == AT_HIGH_NODE else k
            norm = _equally_bright(filled, k, a, node) + _equally_bright(filled, k + 1, b, node)
    anywhere = node - node
    _visit(filled, minima, node, norm, np.inf, anywhere)
    while minima[SLOPE_UP, node] < 0.0 or minima[SLOPE_DOWN, node] < 0.0:
        k, far = (node, node + 1) if minima[SLOPE_UP, node] < 0.0 else (node - 1, node - 1)
        if np.isnan(minima[NODE_VALUE, far]):
            _visit(filled, minima, far, _equally_bright(filled, node, minima[NODE_NORM, node], far), np.inf, anywhere)
        if (minima[SLOPE_DOWN, far] if far > node else minima[SLOPE_UP, far]) < 0.0:
            _settle(filled, minima, k)
            return k
        if not minima[NODE_VALUE, far] < minima[NODE_VALUE, node]:
            break
        node = far
    k = min(node, minima.shape[1] - 2)
    minima[LOW if node == k else HIGH, k] = minima[NODE_NORM, node]
    minima[VALUE, k] = minima[NODE_VALUE, node]
    return k


@compiled(part=True)
def _equally_bright(filled, k, norm, m):
    """Norm at node m with as many source counts as `norm` at node k, or with a few where that has none."""
    totals = filled.work.totals
    if not totals[m] > 0.0:
        return 1.0
    return max(norm * totals[k], LEAST_SHARE * filled.work.total_counts) / totals[m]


@compiled(part=True)
def _node_starts(a, b, at):
    """Norms near the minima at the nodes of an interval, by the derivatives at its minimum (a, b)."""
    return a + b * at.ab / at.aa if at.aa > 0.0 else a + b, b + a * at.ab / at.bb if at.bb > 0.0 else a + b


@compiled(part=True)
def _visit(filled, minima, k, norm, level, direction):
    """Note down the minimum at node k and the slopes there; the search for it starts at `norm`.

    Where it lies above the level, the bounds in this direction are raised from there; what is beyond intervals that
    are left out thereby need not be known. Direction 0: both slopes are wanted.
    """
    work = filled.work
    m = k - direction if direction != 0 else k + 1
    if not 0 <= m < len(work.totals):
        m = k - 1 if k > 0 else k + 1
    fetch(filled, k)
    fetch(filled, m)
    norm, at = ray_minimum(work, k, m, 0.0, norm)
    statistic, dual, slack = value_and_dual(work, k, m, norm, 0.0, at)
    minima[NODE_NORM, k], minima[NODE_VALUE, k] = norm, statistic
    minima[SLOPE_UP if m > k else SLOPE_DOWN, k] = at.b
    opposite = 2 * k - m
    if 0 <= opposite < len(work.totals):
        pull(work, k, m, norm, 0.0)
        interval = min(k, opposite)
        if statistic > level:
            raise_bounds(filled, minima[BOUND], k, opposite - k, level, dual, slack)
        if minima[BOUND, interval] <= level:
            slope = 2.0 * (work.totals[opposite] - pulled_counts(filled, opposite))
            minima[SLOPE_UP if opposite > k else SLOPE_DOWN, k] = slope


@compiled(part=True)
def _settle(filled, minima, k):
    """Note down the minimum of interval k, both nodes of which have been visited."""
    low_norm, high_norm = minima[NODE_NORM, k], minima[NODE_NORM, k + 1]
    if minima[NODE_VALUE, k] <= minima[NODE_VALUE, k + 1]:
        minima[LOW, k], minima[HIGH, k], minima[VALUE, k] = low_norm, 0.0, minima[NODE_VALUE, k]
    else:
        minima[LOW, k], minima[HIGH, k], minima[VALUE, k] = 0.0, high_norm, minima[NODE_VALUE, k + 1]
    if minima[SLOPE_UP, k] < 0.0 and minima[SLOPE_DOWN, k + 1] < 0.0:
        a, b, at, outcome = newton(filled.work, k, 0.5 * low_norm, 0.5 * high_norm, 0.0)
        if outcome == UNSOLVED:
            a, b, at = bisect(filled.work, k, 0.5 * (low_norm + high_norm))
        inside = value(filled.work, k, k + 1, a, b, at)
        if inside < minima[VALUE, k]:
            minima[LOW, k], minima[HIGH, k], minima[VALUE, k] = a, b, inside
