"""Limits of all free parameters.

The profile of a parameter is the statistic minimised over all others. A limit is its first crossing of minimum + rise
on the way outwards from the best fit. The way follows the profile from where it is; at its end, every interval of
temperature that comes below the level anywhere is asked whether it is below the level there as well, and if so the way
goes on from it.
"""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.free_descent import follow
from cpxt_hpc.fitting.free_model import evaluate, statistic_here
from cpxt_hpc.fitting.free_problem import ABUNDANCE, EXPECTED, FREE, KT, LOWER, NH, NORM, SLOPE, UPPER, Problem
from cpxt_hpc.fitting.free_search import VALUE
from cpxt_hpc.science.compiled import compiled

BELOW = 1e-4
"""An interval is below the level where it is by more than this part of the rise."""


@compiled(part=True)
def limits_of_all(
    problem: Problem,
    nodes: np.ndarray,
    intervals: np.ndarray,
    k_best: int,
    rise: float,
    limits: np.ndarray,
    found: np.ndarray,
) -> None:
    """Limits of every parameter.

    Parameters
    ----------
    problem : Problem
    nodes, intervals : ndarray
        The tables that `cpxt_hpc.fitting.free_search` has filled in.
    k_best : int
        Interval of the best fit, whose norm is not 0.
    rise : float
        Of the statistic, at the limits.
    limits : ndarray of float64, shape (4, 2)
        Gets the limits of temperature (as a place among the nodes), abundance, hydrogen column, and norm; those of a
        frozen parameter are left as they are.
    found : ndarray of bool, shape (4, 2)
        Gets False where the profile stays below the level up to the end of the range, which is given.
    """
    best = intervals[k_best, VALUE]
    level = best + rise
    size, n_intervals = problem.box.bounds.shape[1], len(intervals)
    place, trial = np.zeros(size), np.zeros(size)
    # With the abundance held, in the two amplitudes that are left.
    is_convex = size == NORM + 1 and problem.box.bounds[FREE, NH] == 0.0
    _copy(place, intervals[k_best])
    for i in range(NORM, size):
        place[i] = 0.0
    nothing_is_above = statistic_here(problem, evaluate(problem, k_best, place)) > level
    for target in range(4):
        for side in range(2):
            if problem.box.bounds[FREE, target] == 0.0:
                continue
            direction = 2 * side - 1
            k = k_best
            _copy(place, intervals[k])
            end = problem.box.bounds[UPPER if side == 1 else LOWER, target]
            known = target == NORM and side == 0 and nothing_is_above
            found[target, side] = not (place[target] == end or (target == NORM and side == 0 and not known))
            if target == KT:
                # Walk over the nodes to the first above the level: the limit is between it and the one before.
                while found[KT, side] and nodes[k + side, VALUE] <= level:
                    _copy(place, nodes[k + side])
                    found[KT, side] = 0 <= k + direction < n_intervals
                    k += direction if found[KT, side] else 0
                end, known = float(k + side), True
            if not found[target, side]:
                limits[target, side] = place[KT] if target == KT else end
                continue
            other = np.int64(-1)
            inside = other > 0
            while other < n_intervals:
                # First outwards from the best fit; then every other interval is asked whether it reaches further.
                if other < 0 or inside:
                    k, _, found[target, side] = follow(
                        problem, k, place, target, target != KT, direction, end, known, (best, rise)
                    )
                    other = n_intervals if target == KT or not found[target, side] else 0
                    inside = other < 0
                    continue
                if other != k and intervals[other, VALUE] <= level:
                    if target == ABUNDANCE and is_convex and abs(other - k) == 1:
                        # Any start leads to the minimum: one beside the limit tells soonest that it lies too high.
                        _copy(trial, place)
                        trial[KT] = max(k, other)
                    else:
                        _copy(trial, intervals[other])
                        _set_target(trial, target, place[target])
                    at, value, _ = follow(
                        problem, other, trial, target, inside, direction * 0, end, known, (best, rise)
                    )
                    inside = value < best + rise * (1.0 - BELOW)
                    if inside:
                        k = at
                        _copy(place, trial)
                other += 1
            limits[target, side] = place[target]


@compiled(part=True)
def _copy(target, source):
    for i in range(len(target)):
        target[i] = source[i]


@compiled(part=True)
def _set_target(place, target, value):
    """Set a parameter; the norm scales those of all groups."""
    scale = value / place[NORM] if target == NORM and place[NORM] > 0.0 else 1.0
    for i in range(NORM, len(place)):
        place[i] *= scale
    place[target] = value


@compiled(part=True)
def norm_limit_without_source(problem: Problem, best: float, rise: float) -> float:
    """Upper limit of the norm where the best norm is 0.

    The statistic is a rising, convex function of the norm along each folded node: the largest norm that one of them
    allows is where the profile is entered.
    """
    size = problem.box.bounds.shape[1]
    place, longest = np.zeros(size), np.zeros(size)
    k_longest = np.int64(0)
    for node in range(problem.box.n_nodes):
        for column in range(len(problem.nh_nodes)):
            for end in range(2):
                k = min(node, problem.box.n_nodes - 2)
                place[KT], place[ABUNDANCE] = node, problem.box.bounds[end, ABUNDANCE]
                place[NH] = min(
                    max(problem.nh_nodes[column], problem.box.bounds[LOWER, NH]), problem.box.bounds[UPPER, NH]
                )
                # Newton's method for a rising convex function: from right of its root ever closer.
                step = norm = 0.0
                for i in range(60):
                    for j in range(NORM, size):
                        place[j] = norm
                    over = statistic_here(problem, evaluate(problem, k, place)) - best - rise
                    slope = curvature = 0.0
                    for j in range(NORM, size):
                        slope += problem.box.steps[SLOPE, j]
                        for m in range(NORM, size):
                            curvature += problem.box.squares[EXPECTED, j, m]
                    step = over / slope
                    if i == 0:
                        step = 2.0 * over / (slope + np.sqrt(max(slope * slope - 2.0 * curvature * over, 0.0)))
                    norm -= step
                    if not abs(step) > 1e-9 * norm:
                        break
                if norm > longest[NORM]:
                    k_longest = k
                    _copy(longest, place)
                    for j in range(NORM, size):
                        longest[j] = norm
    norm = longest[NORM]
    follow(problem, k_longest, longest, np.int64(NORM), norm > 0.0, np.int64(1), np.inf, norm < 0.0, (best, rise))
    return max(longest[NORM], norm)
