"""Downhill from a point, and along the profile of one parameter to where it crosses a level.

At a temperature node the statistic has a kink. Who comes to one goes on in the next interval, and rests on the node
where the statistic rises into both.
"""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.free_model import evaluate, statistic_here
from cpxt_hpc.fitting.free_problem import KT, RESPONSE, STEP, Problem
from cpxt_hpc.fitting.free_step import length_inside, move, newton_step, other_side
from cpxt_hpc.science.compiled import compiled

MAX_STEPS = 300
CONVERGED = 1e-9
"""Squared decrement of the last step: what is left after it is of the order of the square."""
CHECKED = 0.03
"""Squared decrement from which on it is checked that a step leads down."""
SHORTEST = 1e-8
"""Part of a step that is taken unchecked."""
HOPELESS = 3.0
"""So many times what the step promises must lead below a level, else the search for a point below it is given up."""
SETTLED = 1e-2
"""Squared decrement of the other parameters below which the target moves with them."""
BRACKETING = 1e-6
"""Squared decrement below which a point tells on which side of it the limit lies."""
LAST_RISE = 1e-6
"""Rise left before the last step towards a limit."""
NEAR = 0.05
"""Part of the rise below which the profile is taken for a parabola, and its square root for a line above."""


@compiled(part=True)
def follow(
    problem: Problem,
    k: int,
    place: np.ndarray,
    target: int,
    roams: bool,
    direction: int,
    end: float,
    end_is_above: bool,
    level: tuple[float, float],
) -> tuple[int, float, bool]:
    """Minimise over all free parameters but a target; follow its profile outwards to a level.

    The target and the parameters over which it is profiled make Newton's steps together, once these have settled.

    Parameters
    ----------
    problem : Problem
    k : int
        Interval.
    place : ndarray of float64, shape (n_parameters,)
        Where to start; afterwards the minimum, or the limit.
    target : int
        The parameter that is profiled; -1: none.
    roams : bool
        The temperature may pass into other intervals.
    direction : int
        0: the target is held, and a minimum above the level is left unfinished. 1 or -1: it moves this way; the start
        must be below the level.
    end : float
        Where the range of the target ends in this direction; infinite where it does not.
    end_is_above : bool
        The profile is known to be above the level there.
    level : tuple of float
        The minimum of the statistic, infinite for a minimum alone, and the rise above it that is looked for.

    Returns
    -------
    k : int
        Interval of the place.
    statistic : float
        There.
    found : bool
        False: the profile is below the level at the end, which is given back.
    """
    best, rise_wanted = level
    root_wanted = np.sqrt(rise_wanted)
    step, response = problem.box.steps[STEP], problem.box.steps[RESPONSE]
    origin, taken = place.copy(), np.zeros(len(place))
    origin_k, length, before, gain = k, 1.0, np.inf, 0.0
    inner = place[target]
    outer, known = end, end_is_above
    looked, seeks = False, direction == 0 and best < np.inf
    here = np.inf
    for _ in range(MAX_STEPS):
        total = evaluate(problem, k, place)
        if before < np.inf:
            here = statistic_here(problem, total)
            if not here <= before - 0.1 * length * gain and length > SHORTEST:
                length *= 0.5
                k = origin_k
                move(problem.box, k, place, origin, taken, length)
                continue
        decrement, slope, curvature = newton_step(problem.box, k, place, target)
        settled = decrement <= (CONVERGED if direction == 0 else SETTLED)
        if before == np.inf and (settled or decrement > CHECKED or seeks):
            here = statistic_here(problem, total)
        if seeks and decrement < 1.0 and here - HOPELESS * decrement > best + rise_wanted:
            return k, here, True
        before = np.inf
        distance, last = 0.0, False
        length = 1.0
        if not settled:
            length = length_inside(problem.box, k, place)
            if decrement > CHECKED:
                before, gain = here, decrement
        else:
            last = decrement <= CONVERGED
            over = max(here - 0.5 * decrement - best, 0.0)
            rise = np.sqrt(over) - root_wanted
            at_end = False
            if direction != 0:
                if decrement <= BRACKETING or abs(rise) > SETTLED:
                    if rise > 0.0:
                        outer, known = place[target], True
                    else:
                        inner = place[target]
                at_end = place[target] == end and rise <= 0.0
                last = last and (at_end or abs(rise) <= LAST_RISE or abs(outer - inner) <= 1e-14 * abs(inner))
            if last and roams and not looked:
                other = other_side(problem.box, k, place)
                if other != k:
                    # The other interval may lie lower: what was above the level may not be.
                    k, looked = other, True
                    outer, known = end, end_is_above
                    continue
            if direction != 0 and not at_end:
                aim = _aim(place[target], over, rise, slope, curvature, direction, rise_wanted)
                if not min(inner, outer) < aim < max(inner, outer) and not last:
                    if known:
                        aim = 0.5 * (inner + outer)
                    else:
                        aim = end if np.isfinite(end) else 2.0 * inner
                distance = aim - place[target]
            if last:
                here -= 0.5 * decrement
                length = length_inside(problem.box, k, place)
            if at_end and last:
                return k, here, False
        looked = False
        for i in range(len(place)):
            taken[i] = step[i] + (distance * response[i] if distance != 0.0 else 0.0)
            origin[i] = place[i]
        origin_k = k
        move(problem.box, k, place, origin, taken, length)
        if last:
            break
        if roams and taken[KT] != 0.0:
            k = other_side(problem.box, k, place)
    return k, here, True


@compiled(part=True)
def _aim(place, over, rise, slope, curvature, direction, rise_wanted):
    """Where the level is expected."""
    if over < NEAR * rise_wanted:
        outwards, left = max(slope * direction, 0.0), rise_wanted - over
        root = np.sqrt(outwards * outwards + 2.0 * max(curvature, 0.0) * left)
        return place + direction * 2.0 * left / (outwards + root)
    return place - 2.0 * rise * np.sqrt(over) / slope
