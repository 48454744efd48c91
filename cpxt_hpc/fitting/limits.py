"""Limits of kT and norm: where the profile of the statistic has risen by a given amount above its minimum.

The profile of a parameter is the statistic minimised over the other one. A limit is its first crossing of minimum +
`delta_statistic` on the way outwards from the best fit. Convexity makes that safe: within an interval of temperature
the part of the profile below a level is connected, so looking at the nodes misses no crossing.
"""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.chi2 import Chi2Spectra
from cpxt_hpc.fitting.crossing import crossing, curvatures
from cpxt_hpc.fitting.exact import (
    HIGH,
    LOW,
    NODE_NORM,
    NODE_VALUE,
    SLOPE_DOWN,
    SLOPE_UP,
    VALUE,
    find_minima,
)
from cpxt_hpc.fitting.filled import Slopes, Work, slopes, value
from cpxt_hpc.fitting.quadratic import fit_chi2
from cpxt_hpc.fitting.ranges import connected_range, kt_at
from cpxt_hpc.fitting.statistics import Spectra
from cpxt_hpc.science.compiled import compiled

NO_DOUBT = 16.0
"""A rise at norm 0, by the curvature at the minimum, of this many times the level leaves no need to look there."""


def fit_kt_norm(spectra: Spectra, kt_nodes: np.ndarray, delta_statistic: float = 1.0) -> tuple:
    """Best kT and norm of a region, with their limits.

    Parameters
    ----------
    spectra : Spectra
        With at least two nodes.
    kt_nodes : ndarray of float64, shape (n_nodes,)
        Temperatures of the nodes [keV].
    delta_statistic : float
        Rise of the statistic at the limits: 1 for 68 %, 2.706 for 90 % of one parameter of interest.

    Returns
    -------
    kt, kt_lo, kt_hi : float
        kT [keV] and its limits; NaN and the ends of the range where the best norm is 0.
    norm, norm_lo, norm_hi : float
    statistic : float
        At the minimum.
    lower_found, upper_found : bool
        The limits of kT lie inside the range of the nodes.
    """
    fit = fit_chi2 if isinstance(spectra, Chi2Spectra) else fit_poisson
    return fit(spectra, kt_nodes, float(delta_statistic))


@compiled
def fit_poisson(spectra: Spectra, kt_nodes: np.ndarray, delta_statistic: float) -> tuple:
    """Best kT and norm of a region, with their limits, for cstat and wstat; see `fit_kt_norm`."""
    filled, minima, k, at = find_minima(spectra, delta_statistic)
    return limits_around(filled.work, minima, k, at, kt_nodes, delta_statistic)


@compiled(part=True)
def limits_around(
    work: Work, minima: np.ndarray, k: int, at: Slopes, kt_nodes: np.ndarray, delta_statistic: float
) -> tuple:
    """What `fit_kt_norm` returns, once the minima are known; the lowest is in interval k, with the derivatives `at`."""
    norm = minima[LOW, k] + minima[HIGH, k]
    norm_lo, norm_hi = norm_limits(work, minima, kt_nodes, k, at, delta_statistic)
    if not norm > 0.0:
        return np.nan, kt_nodes[0], kt_nodes[-1], norm, norm_lo, norm_hi, minima[VALUE, k], False, False
    u = minima[HIGH, k] / norm
    kt_lo = kt_hi = kt_at(kt_nodes, k, u)
    lower_found = upper_found = False
    for direction in (-1, 1):
        k_side, u_side, found = kt_limit(work, minima, k, u, at, direction, delta_statistic)
        if direction < 0:
            kt_lo, lower_found = kt_at(kt_nodes, k_side, u_side), found
        else:
            kt_hi, upper_found = kt_at(kt_nodes, k_side, u_side), found
    kt = kt_at(kt_nodes, k, u)
    return kt, kt_lo, kt_hi, norm, norm_lo, norm_hi, minima[VALUE, k], lower_found, upper_found


@compiled(part=True)
def kt_limit(
    work: Work, minima: np.ndarray, k: int, u: float, at: Slopes, direction: int, delta_statistic: float
) -> tuple[int, float, bool]:
    """Walk from the best fit to where the profile of kT crosses the level.

    Parameters
    ----------
    work : Work
    minima : ndarray of float64, shape (8, n_nodes)
        Of these.
    k, u : int, float
        Interval of the best fit and part of its norm that is in node k + 1.
    at : Slopes
        There.
    direction : int
        1: to higher kT; -1: to lower.
    delta_statistic : float
        Height of the level above the minimum.

    Returns
    -------
    k, u : int, float
        Interval and place of the limit: kT = (1 - u) T_k + u T_(k+1).
    found : bool
        False: the profile stays below the level up to the last node, which is given back.
    """
    best = minima[VALUE, k]
    ahead = 1 if direction > 0 else 0
    inner, inner_value, inner_norm = u, best, minima[LOW, k] + minima[HIGH, k]
    norm_slope = root_slope = 0.0
    if 0.0 < u < 1.0:
        by_norm, mixed, by_u = curvatures(at, inner_norm, u)
        if by_norm > 0.0 and by_u * by_norm > mixed * mixed:
            norm_slope = -mixed / by_norm
            root_slope = np.sqrt(0.5 * (by_u + mixed * norm_slope))
    while minima[NODE_VALUE, k + ahead] <= best + delta_statistic:
        node = k + ahead
        inner, inner_value, inner_norm = 1.0 - ahead, minima[NODE_VALUE, node], minima[NODE_NORM, node]
        norm_slope = root_slope = 0.0
        if not 0 <= k + direction < minima.shape[1] - 1:
            return k, float(ahead), False
        k += direction
        if inner_value > best:
            uphill = minima[SLOPE_UP, node] if direction > 0 else minima[SLOPE_DOWN, node]
            root_slope = 0.5 * inner_norm * uphill / np.sqrt(inner_value - best)
    outer, node = float(ahead), k + ahead
    outer_norm = minima[NODE_NORM, node]
    uphill = -outer_norm * (minima[SLOPE_DOWN, node] if direction > 0 else minima[SLOPE_UP, node])
    part = _part_of_the_way(
        np.sqrt(max(inner_value - best, 0.0)),
        root_slope,
        np.sqrt(minima[NODE_VALUE, node] - best),
        0.5 * uphill / np.sqrt(minima[NODE_VALUE, node] - best),
        abs(outer - inner),
        np.sqrt(delta_statistic),
    )
    way = part * (outer - inner)
    straight = inner_norm + part * (outer_norm - inner_norm)
    bend = (norm_slope * (outer - inner) - (outer_norm - inner_norm)) * part * (1.0 - part)
    norm = straight + bend if norm_slope != 0.0 else straight
    return k, crossing(work, k, inner, outer, inner + way, norm, np.inf, best, delta_statistic), True


@compiled(part=True)
def _part_of_the_way(root_inner, slope_inner, root_outer, slope_outer, distance, root):
    """Guess of where the root of the rise has a value: Hermite's interpolation of the place as a function of it."""
    span = root_outer - root_inner
    t = (root - root_inner) / span
    if not (slope_inner > 0.0 and slope_outer > 0.0):
        return min(max(t, 0.01), 0.99)
    first, second = span / (slope_inner * distance), span / (slope_outer * distance)
    part = t * t * (3.0 - 2.0 * t) + first * t * (1.0 - t) * (1.0 - t) - second * t * t * (1.0 - t)
    return part if 0.0 < part < 1.0 else min(max(t, 0.01), 0.99)


@compiled(part=True)
def norm_limits(
    work: Work, minima: np.ndarray, kt_nodes: np.ndarray, k_best: int, at: Slopes, delta_statistic: float
) -> tuple[float, float]:
    """Lower and upper limit of the norm, kT profiled over the whole range.

    Every interval of temperature allows one range of norms below the level. The limits are the ends of the connected
    union of these ranges that holds the best fit. The lower limit is 0 where no source at all is allowed.
    """
    best = minima[VALUE, k_best]
    level = best + delta_statistic
    norm, u, step, turn, zero_rise = _norm_step(minima[LOW, k_best], minima[HIGH, k_best], at, delta_statistic)
    zero_allowed = False
    if not zero_rise > NO_DOUBT * delta_statistic:
        at_zero = slopes(work, k_best, k_best + 1, 0.0, 0.0)
        zero_allowed = value(work, k_best, k_best + 1, 0.0, 0.0, at_zero) <= level
    start = max(norm - step, 0.5 * norm)
    lowest = 0.0
    if not zero_allowed:
        lowest = _norm_limit(
            work, minima, kt_nodes, k_best, start, u + (start - norm) * turn, 0.0, best, delta_statistic
        )
    highest = _norm_limit(work, minima, kt_nodes, k_best, norm + step, u + step * turn, np.inf, best, delta_statistic)
    first = last = k_best
    while first > 0 and minima[NODE_VALUE, first] <= level:
        first -= 1
    while last < minima.shape[1] - 2 and minima[NODE_VALUE, last + 1] <= level:
        last += 1
    low, high = np.zeros(minima.shape[1] - 1), np.zeros(minima.shape[1] - 1)
    for k in range(minima.shape[1] - 1):
        low[k] = high[k] = np.nan
        if minima[VALUE, k] <= level and not first <= k <= last:
            at = slopes(work, k, k + 1, minima[LOW, k], minima[HIGH, k])
            norm, u, step, turn, _ = _norm_step(minima[LOW, k], minima[HIGH, k], at, level - minima[VALUE, k])
            high[k] = crossing(work, k, norm, np.inf, norm + step, u, 1.0, best, delta_statistic)
            low[k] = 0.0
            if not zero_allowed:
                start = max(norm - step, 0.5 * norm)
                low[k] = crossing(work, k, norm, 0.0, start, u, 1.0, best, delta_statistic)
    return connected_range(lowest, highest, low, high)


@compiled(part=True)
def _norm_limit(work, minima, kt_nodes, k_best, place, u, outer, best, delta_statistic):
    """Limit of the norm in the intervals that hang together with that of the best fit, below the level, at nodes.

    The limit of one interval is found first: of that in which it is expected, at the norm `place` and the temperature
    that the part u of the norm in node k + 1 means there, which may lie outside interval k_best. `outer`, 0 or
    infinity, tells which limit it is. With the limit as norm, the statistic is above the level at all temperatures of
    that interval. Where it rises from there into the next one, so it is there, by convexity; else that allows more.
    """
    level = best + delta_statistic
    n_intervals = minima.shape[1] - 1
    kt = kt_nodes[k_best] + u * (kt_nodes[k_best + 1] - kt_nodes[k_best])
    k = k_best
    while kt > kt_nodes[k + 1] and k + 1 < n_intervals and minima[NODE_VALUE, k + 1] <= level:
        k += 1
    while kt < kt_nodes[k] and k > 0 and minima[NODE_VALUE, k] <= level:
        k -= 1
    u = min(max((kt - kt_nodes[k]) / (kt_nodes[k + 1] - kt_nodes[k]), 0.0), 1.0)
    inner = minima[LOW, k] + minima[HIGH, k]
    if k != k_best:
        place = max(place, 1.01 * inner) if outer > 0.0 else min(place, 0.99 * inner)
    limit = crossing(work, k, inner, outer, place, u, 1.0, best, delta_statistic)
    found_in = k
    for direction in (1, -1):
        k = found_in + direction
        while 0 <= k < n_intervals and minima[NODE_VALUE, max(k, k - direction)] <= level and limit > 0.0:
            u = 0.0 if direction > 0 else 1.0
            at = slopes(work, k, k + 1, limit * (1.0 - u), limit * u)
            if (at.b - at.a) * direction < 0.0:
                inner = minima[LOW, k] + minima[HIGH, k]
                found = crossing(work, k, inner, outer, limit, u, 1.0, best, delta_statistic)
                limit = max(limit, found) if outer > 0.0 else min(limit, found)
            k += direction
    return limit


@compiled(part=True)
def _norm_step(a, b, at, rise):
    """How far the norm may move for a rise of the statistic, from its derivatives at an interval's minimum (a, b).

    Returns the norm and the part in node k + 1, the step of the norm, by how much that part turns with the norm, and
    the rise down to norm 0.
    """
    norm = a + b
    u = b / norm if norm > 0.0 else 0.0
    by_norm, mixed, by_u = curvatures(at, norm, u)
    turn = 0.0
    curvature = by_norm
    if a > 0.0 and b > 0.0 and by_norm * by_u - mixed * mixed > 1e-12 * by_norm * by_u:
        turn = -mixed / by_u
        curvature = by_norm + mixed * turn
    slope = (1.0 - u) * at.a + u * at.b
    if norm > 0.0 and curvature > 0.0:
        step = np.sqrt(2.0 * rise / curvature)
    elif slope > 0.0:
        step = rise / slope
    else:
        step = np.sqrt(2.0 * rise / curvature) if curvature > 0.0 else 1.0
    return norm, u, step, turn, 0.5 * by_norm * norm * norm
