"""Minima of a Poisson statistic where it is convex: along a ray of mixtures, at a norm, in an interval of kT."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.filled import Slopes, Work, slopes
from cpxt_hpc.science.compiled import compiled

MAX_STEPS = 300
CONVERGED = 1e-9
"""Newton's last step is the one whose squared decrement, about twice the gain in statistic, is below this. What is left
after it is of the order of the square: the statistics are self-concordant (Nesterov & Nemirovskii 1994, chapter 2)."""
INSIDE, AT_LOW_NODE, AT_HIGH_NODE, UNSOLVED = range(4)


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
def bisect(work, k, norm):
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
