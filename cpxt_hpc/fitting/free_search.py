"""The search for the global minimum over temperature, abundance, hydrogen column and norms.

With the temperature at a node and the hydrogen column at a folded one, the statistic is convex in the two amplitudes p
and q of the vectors at the lowest and the highest abundance: its minimum there is certain. Where these are all free
parameters (one norm, a frozen column), the pulls at such a minimum also give a rigorous lower bound of the Poisson
statistics in whole intervals, because every model of an interval is a sum of its four corner vectors with amplitudes
>= 0. Intervals that cannot come near the minimum are left out.

The others are searched by Newton's method from what their nodes' minima make expect. Within such an interval the
statistic is convex in any two of the three parameters' amplitudes, but not in all three: that it has no second, lower
minimum there is not guaranteed, only tested.
"""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.free_descent import follow
from cpxt_hpc.fitting.free_model import evaluate
from cpxt_hpc.fitting.free_node import node_minimum, raise_bounds
from cpxt_hpc.fitting.free_problem import KT, LOWER, NH, NORM, SLOPE, UPPER, Problem
from cpxt_hpc.science.compiled import compiled

BOUND_MARGIN = 1e-6
"""Far more than the rounding errors of a bound."""
UNBENT = 2.0
"""Where there is no bound, an interval is left out if its nodes' tangents, this much steeper, stay above the level."""


SLOPE_DOWN, SLOPE_UP, VALUE = -3, -2, -1
"""Last columns of a table of nodes: the derivatives at a node's minimum in the part of the next lower and the next
higher node, and the statistic there, infinite where no visit was needed. The parameters stand before them."""
BOUND = -2
"""Column of a table of intervals before that of the statistic: its lower bound in an interval."""


@compiled(part=True)
def empty_tables(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """Tables of nodes and of intervals about which nothing is known.

    Returns
    -------
    nodes : ndarray of float64, shape (n_nodes, n_parameters + 3)
    intervals : ndarray of float64, shape (n_nodes - 1, n_parameters + 2)
    """
    n, size = problem.box.n_nodes, problem.box.bounds.shape[1]
    nodes, intervals = np.zeros((n, size + 3)), np.zeros((n - 1, size + 2))
    for k in range(n):
        nodes[k, VALUE] = np.inf
    for k in range(n - 1):
        intervals[k, VALUE], intervals[k, BOUND] = np.inf, -np.inf
    return nodes, intervals


@compiled(part=True)
def visit_what_matters(
    problem: Problem, nodes: np.ndarray, intervals: np.ndarray, rise: float, k: int, start: np.ndarray
) -> None:
    """Visit nodes downhill from a start, and from the minimum outwards until the bounds rule all others out.

    Parameters
    ----------
    problem : Problem
        With one norm and a frozen hydrogen column.
    nodes, intervals : ndarray
        Tables that are filled in.
    rise : float
        Intervals matter that have points less than this above the minimum.
    k : int
    start : ndarray of float64, shape (n_parameters,)
        Node and point where to begin; only the time depends on them.
    """
    n, bound = problem.box.n_nodes, np.full(problem.box.n_nodes - 1, -np.inf)
    best = _visit(problem, nodes, bound, k, start, np.inf, 0 * k)
    direction = 1 if k < n - 1 and nodes[k, SLOPE_UP] < 0.0 else -1
    while 0 <= k + direction < n:
        value = _visit(problem, nodes, bound, k + direction, nodes[k], best + rise, direction)
        if value > best:
            break
        k, best = k + direction, value
    for side in range(2):
        direction = 1 - 2 * side
        i, last = k, k
        while 0 <= i + direction < n:
            if bound[min(i, i + direction)] <= best + rise + BOUND_MARGIN:
                for ahead in range(2):
                    node = i + ahead * direction
                    if nodes[node, VALUE] == np.inf:
                        best = min(best, _visit(problem, nodes, bound, node, nodes[last], best + rise, direction))
                    last = node
            i += direction
    for i in range(n - 1):
        intervals[i, BOUND] = bound[i]


@compiled(part=True)
def _visit(problem, nodes, bound, k, start, level, direction):
    """Minimise at a node, and look from there at the others, at all in a direction where it lies above a level."""
    place = nodes[k, : problem.box.bounds.shape[1]]
    _copy(place, start)
    place[KT] = k
    value, dual, pulled = node_minimum(problem, 0 * k, k, place)
    nodes[k, VALUE] = value
    nodes[k, SLOPE_DOWN], nodes[k, SLOPE_UP] = raise_bounds(
        problem, k, place, dual, pulled, direction if value > level else 0 * direction, bound
    )
    return value


@compiled(part=True)
def visit_all(problem: Problem, nodes: np.ndarray, start: np.ndarray) -> None:
    """Visit every node: the best of the folded columns, then downhill in the column and the norms.

    Parameters
    ----------
    problem : Problem
    nodes : ndarray of float64, shape (n_nodes, n_parameters + 3)
        Table that is filled in.
    start : ndarray of float64, shape (n_parameters,)
        Where to begin; only the time depends on it.
    """
    trial = start.copy()
    for k in range(problem.box.n_nodes):
        best = np.inf
        place = nodes[k, : problem.box.bounds.shape[1]]
        for column in range(len(problem.nh_nodes)):
            value = node_minimum(problem, column, k, trial)[0]
            if value < best:
                best = value
                _copy(place, trial)
                place[NH] = min(
                    max(problem.nh_nodes[column], problem.box.bounds[LOWER, NH]), problem.box.bounds[UPPER, NH]
                )
        place[KT] = k
        interval = min(k, problem.box.n_nodes - 2)
        _, nodes[k, VALUE], _ = follow(
            problem, interval, place, np.int64(KT), k < 0, np.int64(0), 0.0, k < 0, (np.inf, 1.0)
        )
        for below in range(2):
            interval = k - below
            if 0 <= interval < problem.box.n_nodes - 1:
                evaluate(problem, interval, place)
                if below:
                    nodes[k, SLOPE_DOWN] = -problem.box.steps[SLOPE, KT]
                else:
                    nodes[k, SLOPE_UP] = problem.box.steps[SLOPE, KT]


@compiled(part=True)
def settle_intervals(problem: Problem, nodes: np.ndarray, intervals: np.ndarray, rise: float) -> int:
    """Find the minima in the intervals that matter.

    Parameters
    ----------
    problem : Problem
    nodes, intervals : ndarray
        Tables; that of intervals is filled in.
    rise : float
        Intervals matter that have points less than this above the minimum.

    Returns
    -------
    int
        The interval of the best fit.
    """
    n, size = problem.box.n_nodes, problem.box.bounds.shape[1]
    place = np.zeros(size)
    k_best, best = np.int64(0), np.inf
    for k in range(n):
        if nodes[k, VALUE] < best:
            k_best, best = k, nodes[k, VALUE]
    # The interval on either side of the best node first: what it gives may rule others out.
    for i in range(n + 1):
        k = k_best - 1 + i if i < 2 else i - 2
        if not (0 <= k < n - 1 and intervals[k, VALUE] == np.inf):
            continue
        if not _may_matter(nodes[k], nodes[k + 1], intervals[k, BOUND], best + rise + BOUND_MARGIN):
            continue
        better = k if nodes[k, VALUE] <= nodes[k + 1, VALUE] else k + 1
        _copy(intervals[k, :size], nodes[better])
        intervals[k, VALUE] = nodes[better, VALUE]
        if nodes[k, NORM] > 0.0 and nodes[k + 1, NORM] > 0.0:
            up, down = nodes[k, SLOPE_UP], nodes[k + 1, SLOPE_DOWN]
            u = min(max(up / (up + down), 0.02), 0.98) if up < 0.0 and down < 0.0 else 0.5
            for j in range(size):
                place[j] = (1.0 - u) * nodes[k, j] + u * nodes[k + 1, j]
            place[KT] = k + u
            value = follow(problem, k, place, np.int64(-1), k < 0, np.int64(0), 0.0, k < 0, (np.inf, 1.0))[1]
            if value < intervals[k, VALUE]:
                _copy(intervals[k, :size], place)
                intervals[k, VALUE] = value
        best = min(best, intervals[k, VALUE])
    for k in range(n - 1):
        if intervals[k, VALUE] == best:
            k_best = k
    return k_best


@compiled(part=True)
def _may_matter(low, high, bound, level):
    """Whether an interval may have points below a level."""
    if bound > -np.inf:
        return bound <= level
    from_low, from_high = (
        low[VALUE] + UNBENT * min(low[SLOPE_UP], 0.0),
        high[VALUE] + UNBENT * min(high[SLOPE_DOWN], 0.0),
    )
    return max(from_low, from_high) <= level


@compiled(part=True)
def _copy(target, source):
    for i in range(len(target)):
        target[i] = source[i]
