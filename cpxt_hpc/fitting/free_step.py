"""Newton's step in the parameters that are free at a point, with one of them held where its profile is wanted."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.free_problem import (
    BEND,
    EXPECTED,
    FACTOR,
    FREE,
    KT,
    LOWER,
    MOVING,
    RESPONSE,
    SLOPE,
    STEP,
    UPPER,
    Box,
    group_norm,
)
from cpxt_hpc.science.compiled import compiled

SINGULAR = 1e-13
"""A pivot this much smaller than its diagonal element counts as zero."""
RIDGE = 1e-9
"""Added to the diagonal, relative to it, of a matrix that may be singular."""
CLOSEST = 0.9
"""Part of the way to norm 0 that the leading group may go in one step."""


@compiled(part=True)
def low_end(box: Box, k: int, i: int) -> float:
    """Lower bound of a parameter within interval k."""
    return float(k) if i == KT else box.bounds[LOWER, i]


@compiled(part=True)
def high_end(box: Box, k: int, i: int) -> float:
    """Upper bound of a parameter within interval k."""
    return k + 1.0 if i == KT else box.bounds[UPPER, i]


@compiled(part=True)
def newton_step(box: Box, k: int, place: np.ndarray, target: int) -> tuple[float, float, float]:
    """The step to the minimum over all parameters but the target, from the derivatives that `evaluate` has set.

    Sets ``box.steps``: the step, and the response of the other parameters to the target.

    Parameters
    ----------
    box : Box
    k : int
        Interval, which bounds the place in temperature.
    place : ndarray of float64, shape (n_parameters,)
    target : int
        The parameter that is held; -1: none.

    Returns
    -------
    decrement : float
        Squared: the statistic will go down by half of it.
    slope, curvature : float
        Of the profile of the target, there.
    """
    size = len(place)
    slopes, step, response, moving = (
        box.steps[SLOPE], box.steps[STEP], box.steps[RESPONSE], box.steps[MOVING],
    )  # fmt: skip
    expected, bend, factor = box.squares[EXPECTED], box.squares[BEND], box.squares[FACTOR]
    for i in range(size):
        at_low, at_high = place[i] <= low_end(box, k, i), place[i] >= high_end(box, k, i)
        rests = (at_low and slopes[i] >= 0.0) or (at_high and slopes[i] <= 0.0)
        moving[i] = 1.0 if box.bounds[FREE, i] > 0.0 and i != target and not rests else 0.0
    bent, ridge = 1.0, 0.0
    # Once for every parameter that the step would lead out of its range, and where the statistic is not convex: there
    # the part of its curvature that always is leads downhill.
    for _ in range(size + 3):
        definite = True
        for i in range(size):
            for j in range(i + 1):
                element = 0.0
                if moving[i] > 0.0 and moving[j] > 0.0:
                    element = expected[i, j] + bent * bend[i, j]
                    if i == j:
                        element *= 1.0 + ridge
                        if ridge > 0.0 and not element > 0.0:
                            element = 1.0
                elif i == j:
                    element = 1.0
                diagonal = element
                for m in range(j):
                    element -= factor[i, m] * factor[j, m]
                if i == j:
                    definite = definite and element > SINGULAR * diagonal and element > 0.0
                    factor[i, i] = np.sqrt(element) if definite else 1.0
                else:
                    factor[i, j] = element / factor[j, j]
        if not definite:
            bent, ridge = 0.0, RIDGE
            continue
        for i in range(size):
            step[i], response[i] = 0.0, 0.0
            if moving[i] > 0.0:
                step[i] = -slopes[i]
                if target >= 0:
                    response[i] = -(expected[i, target] + bend[i, target])
            for m in range(i):
                step[i] -= factor[i, m] * step[m]
                response[i] -= factor[i, m] * response[m]
            step[i] /= factor[i, i]
            response[i] /= factor[i, i]
        for i in range(size - 1, -1, -1):
            for m in range(i + 1, size):
                step[i] -= factor[m, i] * step[m]
                response[i] -= factor[m, i] * response[m]
            step[i] /= factor[i, i]
            response[i] /= factor[i, i]
        inside = True
        for i in range(size):
            if (place[i] <= low_end(box, k, i) and step[i] < 0.0) or (
                place[i] >= high_end(box, k, i) and step[i] > 0.0
            ):
                moving[i], inside = 0.0, False
        if inside:
            break
    decrement = slope = curvature = 0.0
    if target >= 0:
        slope, curvature = slopes[target], expected[target, target] + bend[target, target]
        response[target] = 1.0
    for i in range(size):
        if moving[i] > 0.0:
            decrement -= slopes[i] * step[i]
            if target >= 0:
                mixed = expected[i, target] + bend[i, target]
                slope += mixed * step[i]
                curvature += mixed * response[i]
    return decrement, slope, curvature


@compiled(part=True)
def length_inside(box: Box, k: int, place: np.ndarray) -> float:
    """Part of Newton's step, 1 at most, that leaves no parameter's range."""
    step = box.steps[STEP]
    length = 1.0
    for i in range(len(place)):
        end = high_end(box, k, i) if step[i] > 0.0 else low_end(box, k, i)
        if abs(step[i]) * length > abs(end - place[i]):
            length = (end - place[i]) / step[i]
    if len(box.share) > 1:
        now = group_norm(box, place, box.leading)
        change = group_norm(box, step, box.leading)
        if now + length * change < (1.0 - CLOSEST) * now:
            length = -CLOSEST * now / change
    return length


@compiled(part=True)
def move(box: Box, k: int, place: np.ndarray, origin: np.ndarray, step: np.ndarray, length: float) -> None:
    """Set the place to a part of a step from an origin, every parameter kept in its range."""
    while True:
        for i in range(len(place)):
            if step[i] != 0.0:
                moved = origin[i] + length * step[i]
                place[i] = min(max(moved, low_end(box, k, i)), high_end(box, k, i))
        if len(box.share) == 1 or group_norm(box, place, box.leading) >= 0.0 or not abs(length) >= 1e-12:
            return
        length *= 0.5


@compiled(part=True)
def other_side(box: Box, k: int, place: np.ndarray) -> int:
    """The interval on the other side of the node on which the place lies; k itself where it lies on none."""
    if place[KT] == k and k > 0:
        return k - 1
    if place[KT] == k + 1.0 and k < box.n_nodes - 2:
        return k + 1
    return k
