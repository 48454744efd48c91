"""Where the profile of a parameter crosses a level, in one interval of temperature."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.convex import MAX_STEPS, best_part, ray_minimum
from cpxt_hpc.fitting.filled import Slopes, Work, slopes, value
from cpxt_hpc.science.compiled import compiled

LAST_STEP = 1e-4
"""The step towards a limit from where the root of the rise is off by less than this is the last: its error is of the
order of the square."""
OTHER_CONVERGED = 1e-6
"""Squared decrement of the other parameter below which what is left of the rise is known well enough."""
SETTLED = 1e-2
"""Squared decrement of the other parameter from which on both parameters step at once."""
JOINT_STEPS = 30
"""From then on a limit is sought with the other parameter at its best at every place: safe, but slower."""


@compiled(part=True)
def curvatures(at: Slopes, norm: float, u: float) -> tuple[float, float, float]:
    """Second derivatives in (norm, norm), (norm, u) and (u, u), where u is the part of the norm in node k + 1."""
    by_norm = (1.0 - u) * (1.0 - u) * at.aa + 2.0 * u * (1.0 - u) * at.ab + u * u * at.bb
    mixed = at.b - at.a + norm * (u * at.bb + (1.0 - 2.0 * u) * at.ab - (1.0 - u) * at.aa)
    return by_norm, mixed, norm * norm * (at.aa - 2.0 * at.ab + at.bb)


@compiled(part=True)
def crossing(
    work: Work,
    k: int,
    inner: float,
    outer: float,
    place: float,
    other: float,
    highest: float,
    best: float,
    delta_statistic: float,
) -> float:
    """Where a profile crosses the level in interval k.

    Parameters
    ----------
    work : Work
    k : int
    inner, outer : float
        The profile's parameter, norm or u (the part of the norm in node k + 1), below and above the level.
    place : float
        Where to start in it.
    other : float
        Where to start in the other parameter, over which the statistic is minimised in passing.
    highest : float
        The other one's greatest value, which tells which is which: 1 for u, infinity for the norm.
    best, delta_statistic : float
        The statistic's minimum, and the level above it.

    Returns
    -------
    float

    Notes
    -----
    Newton's method for the root of the rise, which is nearly linear. Once the other parameter is settled, both step
    together. Where that does not end soon, as it may at a kink of wstat, the other one is minimised at every place.
    """
    along_norm = highest == 1.0
    root_level = np.sqrt(delta_statistic)
    for n in range(MAX_STEPS):
        if n >= JOINT_STEPS:
            other = best_part(work, k, place, other) if along_norm else ray_minimum(work, k, k + 1, place, other)[0]
        norm, u = (place, other) if along_norm else (other, place)
        a, b = norm * (1.0 - u), norm * u
        at = slopes(work, k, k + 1, a, b)
        by_norm, mixed, by_u = curvatures(at, norm, u)
        if along_norm:
            slope, first, second = (1.0 - u) * at.a + u * at.b, norm * (at.b - at.a), by_u
        else:
            slope, first, second = norm * (at.b - at.a), (1.0 - u) * at.a + u * at.b, by_norm
        decrement = step = 0.0
        free = n < JOINT_STEPS and not (other == 0.0 and first >= 0.0) and not (other == highest and first <= 0.0)
        if free:
            step = first / second if second > 0.0 else np.copysign(np.inf, first)
            decrement = first * step
            if decrement > SETTLED:
                step /= 1.0 + np.sqrt(0.5 * decrement)  # never too far for a self-concordant function
            if not (decrement <= SETTLED and 0.0 <= other - step <= highest):
                other = min(max(other - step, 0.0), highest) if second > 0.0 else 0.0 if first > 0.0 else highest
                continue
            slope -= mixed * step
        above = max(value(work, k, k + 1, a, b, at) - 0.5 * decrement - best, 0.0)
        rise = np.sqrt(above) - root_level
        if decrement <= OTHER_CONVERGED or abs(rise) > SETTLED:
            if rise > 0.0:
                outer = place
            else:
                inner = place
        target = place - 2.0 * rise * np.sqrt(above) / slope
        inside = min(inner, outer) < target < max(inner, outer)
        near = abs(rise) <= LAST_STEP * root_level and decrement <= OTHER_CONVERGED
        if near or abs(outer - inner) <= 1e-15 * inner:
            return target if inside else place
        if not inside:
            target = 2.0 * inner if outer == np.inf else 0.5 * (inner + outer)
        if free:
            other = min(max(other - step - mixed / second * (target - place), 0.0), highest)
        place = target
    return place
