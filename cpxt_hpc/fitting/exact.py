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

from typing import NamedTuple

import numpy as np

from cpxt_hpc.fitting.filled import (
    Filled,
    Slopes,
    Work,
    fetch,
    filled_channels,
    pull,
    pulled_counts,
    pulled_counts_once,
    slopes,
    spread_pulls,
    value,
    value_and_dual,
)
from cpxt_hpc.fitting.guess import first_guess
from cpxt_hpc.fitting.statistics import Spectra
from cpxt_hpc.science.compiled import compiled

MAX_STEPS = 300
CONVERGED = 1e-9
"""Newton's last step is the one whose squared decrement, about twice the gain in statistic, is below this. What is left
after it is of the order of the square: the statistics are self-concordant (Nesterov & Nemirovskii 1994, chapter 2)."""
BOUND_MARGIN = 1e-6
"""Far more than the rounding errors of a bound."""
INSIDE, AT_LOW_NODE, AT_HIGH_NODE, UNSOLVED = range(4)


class Minima(NamedTuple):
    """Minima of the statistic at the nodes and in the intervals.

    Attributes
    ----------
    node_norm, node_value : ndarray of float64, shape (n_nodes,)
        Best norm, and the statistic there, with kT at a node; NaN where no visit was needed.
    slope_down, slope_up : ndarray of float64, shape (n_nodes,)
        Derivatives there in the amplitudes of the neighbouring nodes; 0 at the ends.
    a, b, value : ndarray of float64, shape (n_nodes - 1,)
        Best amplitudes of an interval's two nodes, and the statistic there; infinite value of an interval that has
        no point below the level of interest.
    bound : ndarray of float64, shape (n_nodes - 1,)
        Lower bounds of the statistic in the intervals.
    """

    node_norm: np.ndarray
    node_value: np.ndarray
    slope_down: np.ndarray
    slope_up: np.ndarray
    a: np.ndarray
    b: np.ndarray
    value: np.ndarray
    bound: np.ndarray


@compiled(part=True)
def find_minima(spectra: Spectra, delta_statistic: float) -> tuple[Filled, Minima, int]:
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
    minima : Minima
    k : int
        The interval of the global minimum over all kT and norm >= 0.
    """
    filled = filled_channels(spectra)
    minima = nothing_known(len(spectra.totals))
    k, a, b = first_guess(spectra)
    start = best = descend(filled, minima, k, a, b)
    source = minima.a[best] * filled.work.totals[best] + minima.b[best] * filled.work.totals[best + 1]
    level = minima.value[best] + delta_statistic + BOUND_MARGIN
    for direction in (1, -1):
        inner = start + 1 if direction > 0 else start
        if not minima.node_value[inner] <= level:
            _visit(filled, minima, inner, source, level, direction)
        k = start + direction
        while 0 <= k < len(minima.value):
            for node in (k, k + 1) if direction > 0 else (k + 1, k):
                if minima.bound[k] <= level and np.isnan(minima.node_value[node]):
                    _visit(filled, minima, node, source, level, direction)
            if minima.bound[k] <= level:
                _settle(filled, minima, k)
                if minima.value[k] < minima.value[best]:
                    best = k
                    level = minima.value[best] + delta_statistic + BOUND_MARGIN
            k += direction
    return filled, minima, best


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
    minima = nothing_known(len(spectra.totals))
    k = descend(filled_channels(spectra), minima, k, a, b)
    return k, minima.a[k], minima.b[k], minima.value[k]


@compiled(part=True)
def nothing_known(n_nodes: int) -> Minima:
    """Minima before the first visit."""
    return Minima(
        np.full(n_nodes, np.nan),
        np.full(n_nodes, np.nan),
        np.zeros(n_nodes),
        np.zeros(n_nodes),
        np.zeros(n_nodes - 1),
        np.zeros(n_nodes - 1),
        np.full(n_nodes - 1, np.inf),
        np.full(n_nodes - 1, -np.inf),
    )


@compiled(part=True)
def descend(filled: Filled, minima: Minima, k: int, a: float, b: float) -> int:
    """Walk downhill from a point to the nearest minimum and note it down.

    Parameters
    ----------
    filled : Filled
    minima : Minima
        Gets the minimum, and the nodes on the way.
    k, a, b : int, float, float
        Interval and amplitudes of the starting point.

    Returns
    -------
    int
        The interval that holds the minimum.
    """
    source = a * filled.work.totals[k] + b * filled.work.totals[k + 1]
    node = k + 1 if b > a else k
    if a > 0.0 and b > 0.0:
        fetch(filled, k)
        fetch(filled, k + 1)
        a, b, at, outcome = newton(filled.work, k, a, b, 1.0)
        if outcome == INSIDE:
            minima.a[k], minima.b[k], minima.value[k] = a, b, value(filled.work, k, k + 1, a, b, at)
            return k
        if outcome != UNSOLVED:
            node = k + 1 if outcome == AT_HIGH_NODE else k
    _visit(filled, minima, node, source, np.inf, node)
    while minima.slope_up[node] < 0.0 or minima.slope_down[node] < 0.0:
        k, far = (node, node + 1) if minima.slope_up[node] < 0.0 else (node - 1, node - 1)
        if np.isnan(minima.node_value[far]):
            _visit(filled, minima, far, source, np.inf, node)
        if (minima.slope_down[far] if far > node else minima.slope_up[far]) < 0.0:
            _settle(filled, minima, k)
            return k
        if not minima.node_value[far] < minima.node_value[node]:
            break
        node = far
    k = min(node, len(minima.value) - 1)
    (minima.a if node == k else minima.b)[k] = minima.node_norm[node]
    minima.value[k] = minima.node_value[node]
    return k


@compiled(part=True)
def _visit(filled, minima, k, source, level, direction):
    """Note down the minimum at node k; where it lies above the level, raise the bounds in a direction from there.

    `source` are the source counts to start from.
    """
    start = source if source > 0.0 else 0.05 * filled.work.total_counts
    m = k + 1 if k + 1 < len(filled.work.totals) else k - 1
    work = filled.work
    fetch(filled, k)
    fetch(filled, m)
    norm, at = ray_minimum(work, k, m, 0.0, start / work.totals[k] if work.totals[k] > 0.0 else 1.0)
    statistic, dual, slack = value_and_dual(work, k, m, norm, 0.0, at)
    minima.node_norm[k], minima.node_value[k] = norm, statistic
    pull(work, k, m, norm, 0.0)
    if m > k:
        minima.slope_up[k] = at.b
        minima.slope_down[k] = 2.0 * (work.totals[k - 1] - pulled_counts(filled, k - 1)) if k > 0 else 0.0
    else:
        minima.slope_down[k] = at.b
    if statistic > level:
        raise_bounds(filled, minima.bound, k, direction, level, dual, slack)


@compiled(part=True)
def _settle(filled, minima, k):
    """Note down the minimum of interval k, both nodes of which have been visited."""
    norm, node_value = minima.node_norm, minima.node_value
    if node_value[k] <= node_value[k + 1]:
        minima.a[k], minima.b[k], minima.value[k] = norm[k], 0.0, node_value[k]
    else:
        minima.a[k], minima.b[k], minima.value[k] = 0.0, norm[k + 1], node_value[k + 1]
    if minima.slope_up[k] < 0.0 and minima.slope_down[k + 1] < 0.0:
        a, b, at, outcome = newton(filled.work, k, 0.5 * norm[k], 0.5 * norm[k + 1], 0.0)
        if outcome == UNSOLVED:
            a, b, at = _bisect(filled.work, k, 0.5 * (norm[k] + norm[k + 1]))
        inside = value(filled.work, k, k + 1, a, b, at)
        if inside < minima.value[k]:
            minima.a[k], minima.b[k], minima.value[k] = a, b, inside


@compiled(part=True)
def ray_minimum(work: Work, k: int, m: int, u: float, norm: float) -> tuple[float, Slopes]:
    """Norm >= 0 that minimises the statistic of the mixture norm ((1 - u) F_k + u F_m).

    Parameters
    ----------
    work : Work
    k, m : int
        Nodes.
    u : float
        0 for node k alone.
    norm : float
        Where to start.

    Returns
    -------
    norm : float
        NaN where Newton's method does not end, which only data that are not numbers bring about.
    at : Slopes
        There.

    Notes
    -----
    Newton's method, with a bracket that wstat needs: its derivative along a ray may be convex or concave and has kinks.
    """
    low, high = 0.0, np.inf
    zero_checked = last = False
    for _ in range(MAX_STEPS):
        at = slopes(work, k, m, norm * (1.0 - u), norm * u)
        first = (1.0 - u) * at.a + u * at.b
        second = (1.0 - u) * (1.0 - u) * at.aa + 2.0 * u * (1.0 - u) * at.ab + u * u * at.bb
        if norm == 0.0:
            zero_checked = True
            if first >= 0.0:
                return norm, at
        converged = first * first <= CONVERGED * second
        if converged and last:
            return norm, at
        if first < 0.0:
            low = norm
        else:
            high = norm
        target = norm - first / second if second > 0.0 else -np.inf if first >= 0.0 else np.inf
        if not (low < target < high) and not converged:
            if high == np.inf:
                target = 2.0 * norm if norm > 0.0 else 1.0
            elif zero_checked or low > 0.0:
                target = 0.5 * (low + high)
            else:
                target = 0.0
        if abs(target - norm) <= 1e-15 * norm or not np.isfinite(target):
            return norm, at
        last = converged
        norm = max(target, 0.0)
    return np.nan, at


@compiled(part=True)
def best_part(work: Work, k: int, norm: float, u: float) -> float:
    """Part of the norm in node k + 1, 0 to 1, that minimises the statistic in interval k at a norm.

    Parameters
    ----------
    work : Work
    k : int
    norm : float
        Positive.
    u : float
        Where to start.

    Returns
    -------
    float
    """
    low, high = 0.0, 1.0
    low_tried = high_tried = False
    for _ in range(MAX_STEPS):
        low_tried, high_tried = low_tried or u == 0.0, high_tried or u == 1.0
        at = slopes(work, k, k + 1, norm * (1.0 - u), norm * u)
        first, second = at.b - at.a, norm * (at.aa - 2.0 * at.ab + at.bb)
        if norm * first * first <= CONVERGED * second or (u == 0.0 and first >= 0.0) or (u == 1.0 and first <= 0.0):
            break
        if first > 0.0:
            high = u
        else:
            low = u
        target = u - first / second if second > 0.0 else np.copysign(np.inf, -first)
        if not low < target < high:
            if target <= 0.0 and not low_tried and low == 0.0:
                target = 0.0
            elif target >= 1.0 and not high_tried and high == 1.0:
                target = 1.0
            else:
                target = 0.5 * (low + high)
        if abs(target - u) <= 1e-15:
            break
        u = target
    return u


@compiled(part=True)
def newton(work: Work, k: int, a: float, b: float, shortest: float) -> tuple[float, float, Slopes, int]:
    """Amplitudes that minimise the statistic in interval k.

    Parameters
    ----------
    work : Work
    k : int
    a, b : float
        Where to start; positive.
    shortest : float
        The search ends where a part of Newton's step that is not longer than this leads out of the interval; 0 where
        the minimum is known to lie inside.

    Returns
    -------
    a, b : float
    at : Slopes
        There.
    outcome : int
        `INSIDE`; `AT_LOW_NODE` or `AT_HIGH_NODE` where the search would leave the interval; `UNSOLVED` where the
        statistic has no curvature in some direction.

    Notes
    -----
    Newton's method in two dimensions. A step is halved while the slope along it has turned upwards at its end by
    more than half: by convexity, the statistic then goes down.
    """
    at = slopes(work, k, k + 1, a, b)
    last = False
    for _ in range(MAX_STEPS):
        determinant = at.aa * at.bb - at.ab * at.ab
        if not determinant > 1e-13 * at.aa * at.bb:
            break
        step_a = (at.bb * at.a - at.ab * at.b) / determinant
        step_b = (at.aa * at.b - at.ab * at.a) / determinant
        decrement = at.a * step_a + at.b * step_b
        converged = decrement <= CONVERGED
        if converged and last:
            return a, b, at, INSIDE
        last = converged
        to_low = b / step_b if step_b > 0.0 else np.inf
        to_high = a / step_a if step_a > 0.0 else np.inf
        length = min(1.0, 0.9 * to_low, 0.9 * to_high)
        if min(to_low, to_high) <= shortest:
            return a, b, at, AT_LOW_NODE if to_low < to_high else AT_HIGH_NODE
        while True:
            there = slopes(work, k, k + 1, a - length * step_a, b - length * step_b)
            if length < 1e-12 or converged or there.a * step_a + there.b * step_b >= -0.5 * decrement:
                break
            length *= 0.5
        a, b, at = a - length * step_a, b - length * step_b, there
    return a, b, at, UNSOLVED


@compiled(part=True)
def _bisect(work, k, norm):
    """Amplitudes that minimise the statistic in interval k, inside which the minimum is known to lie, and slopes there.

    For where Newton's method fails: halves the range of the part of the norm that is in node k + 1.
    """
    low, high = 0.0, 1.0
    u = 0.5
    while True:
        norm, at = ray_minimum(work, k, k + 1, u, norm)
        if at.b == at.a or high - low < 1e-12 or not norm > 0.0:
            return norm * (1.0 - u), norm * u, at
        if at.b > at.a:
            high = u
        else:
            low = u
        u = 0.5 * (low + high)


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
