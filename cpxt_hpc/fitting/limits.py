"""Limits of kT and norm: where the profile of the statistic has risen by 1 above its minimum.

The profile of a parameter is the statistic minimised over the other one. A limit is its first crossing of minimum + 1
on the way outwards from the best fit. Convexity makes that safe: within an interval of temperature the part of the
profile below a level is connected, so looking at the nodes misses no crossing.
"""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.exact import CONVERGED, DELTA_STATISTIC, MAX_STEPS, Minima, find_minima
from cpxt_hpc.fitting.statistics import Spectra, derivatives, value, weigh
from cpxt_hpc.science.compiled import compiled

LAST_STEP = 1e-6
"""The step towards a limit from where the root of the rise is off by less than this is the last: its error is of the
order of the square."""
SETTLED = 1e-2
"""Squared decrement of the other parameter from which on both parameters step at once."""


@compiled
def fit_kt_norm(spectra: Spectra, kt_nodes: np.ndarray) -> tuple:
    """Best kT and norm of a region, with their limits.

    Parameters
    ----------
    spectra : Spectra
    kt_nodes : ndarray of float64, shape (n_nodes,)
        Temperatures of the nodes [keV].

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
    minima = find_minima(spectra)
    k = np.argmin(minima.value)
    norm = minima.a[k] + minima.b[k]
    norm_lo, norm_hi = norm_limits(spectra, minima, k)
    if not norm > 0.0:
        return np.nan, kt_nodes[0], kt_nodes[-1], norm, norm_lo, norm_hi, minima.value[k], False, False
    u = minima.b[k] / norm
    limits, found = np.empty(2), np.empty(2, dtype=np.bool_)
    for side in range(2):
        k_side, u_side, found[side] = kt_limit(spectra, minima, k, u, 2 * side - 1)
        limits[side] = _kt_at(kt_nodes, k_side, u_side)
    kt = _kt_at(kt_nodes, k, u)
    return kt, limits[0], limits[1], norm, norm_lo, norm_hi, minima.value[k], found[0], found[1]


@compiled(part=True)
def _kt_at(kt_nodes, k, u):
    if u == 1.0:
        return kt_nodes[k + 1]
    return kt_nodes[k] + u * (kt_nodes[k + 1] - kt_nodes[k])


@compiled(part=True)
def kt_limit(spectra: Spectra, minima: Minima, k: int, u: float, direction: int) -> tuple[int, float, bool]:
    """Walk from the best fit to where the profile of kT crosses the level.

    Parameters
    ----------
    spectra : Spectra
    minima : Minima
        Of these spectra.
    k, u : int, float
        Interval of the best fit and part of its norm that is in node k + 1.
    direction : int
        1: to higher kT; -1: to lower.

    Returns
    -------
    k, u : int, float
        Interval and place of the limit: kT = (1 - u) T_k + u T_(k+1).
    found : bool
        False: the profile stays below the level up to the last node, which is given back.
    """
    best = minima.value[k]
    ahead = 1 if direction > 0 else 0
    inner, inner_value, inner_norm = u, best, minima.a[k] + minima.b[k]
    while minima.node_value[k + ahead] <= best + DELTA_STATISTIC:
        inner, inner_value, inner_norm = 1.0 - ahead, minima.node_value[k + ahead], minima.node_norm[k + ahead]
        if not 0 <= k + direction < len(minima.value):
            return k, float(ahead), False
        k += direction
    outer = float(ahead)
    rise_inner, rise_outer = _rise(inner_value, best), _rise(minima.node_value[k + ahead], best)
    part = rise_inner / (rise_inner - rise_outer)
    norm = inner_norm + part * (minima.node_norm[k + ahead] - inner_norm)
    return k, _crossing(spectra, k, inner, outer, inner + part * (outer - inner), norm, np.inf, best), True


@compiled(part=True)
def norm_limits(spectra: Spectra, minima: Minima, k_best: int) -> tuple[float, float]:
    """Lower and upper limit of the norm, kT profiled over the whole range.

    Every interval of temperature allows one range of norms below the level. The limits are the ends of the connected
    union of these ranges that holds the best fit. The lower limit is 0 where no source at all is allowed.
    """
    n_intervals = len(minima.value)
    best = minima.value[k_best]
    level = best + DELTA_STATISTIC
    weigh(spectra, k_best, k_best, 0.0, 0.0)
    zero_allowed = value(spectra, k_best, k_best, 0.0, 0.0) <= level
    low, high = np.full(n_intervals, np.nan), np.full(n_intervals, np.nan)
    for k in range(n_intervals):
        if minima.value[k] <= level:
            norm = minima.a[k] + minima.b[k]
            u = minima.b[k] / norm if norm > 0.0 else 0.0
            step = _norm_step(spectra, k, minima.a[k], minima.b[k], level - minima.value[k])
            high[k] = _crossing(spectra, k, norm, np.inf, norm + step, u, 1.0, best)
            low[k] = 0.0
            if not zero_allowed:
                low[k] = _crossing(spectra, k, norm, 0.0, max(norm - step, 0.5 * norm), u, 1.0, best)
    lowest, highest = low[k_best], high[k_best]
    grows = True
    while grows:
        grows = False
        for k in range(n_intervals):
            if low[k] <= highest and high[k] >= lowest and (low[k] < lowest or high[k] > highest):
                lowest, highest = min(low[k], lowest), max(high[k], highest)
                grows = True
    return lowest, highest


@compiled(part=True)
def _norm_step(spectra, k, a, b, rise):
    """How far the norm may move for a rise of the statistic, from its derivatives at the interval's minimum."""
    weigh(spectra, k, k + 1, a, b)
    slope_a, slope_b, aa, ab, bb = derivatives(spectra, k, k + 1)
    determinant = aa * bb - ab * ab
    if a > 0.0 and b > 0.0 and determinant > 1e-12 * aa * bb:
        return np.sqrt(2.0 * rise * (aa - 2.0 * ab + bb) / determinant)
    slope, curvature = (slope_a, aa) if b == 0.0 else (slope_b, bb)
    if curvature > 0.0:
        return np.sqrt(2.0 * rise / curvature)
    return rise / slope if slope > 0.0 else 1.0


@compiled(part=True)
def _rise(statistic, best):
    """Square root of the rise over the minimum, minus that at the limit: nearly linear in the parameter."""
    return np.sqrt(max(statistic - best, 0.0)) - np.sqrt(DELTA_STATISTIC)


@compiled(part=True)
def _crossing(spectra, k, inner, outer, place, other, highest, best):
    """Where a profile crosses the level in interval k, between inner (below the level) and outer (above it).

    `place` is where to start in the parameter, norm or u (the part of the norm in node k + 1), and `other` in the
    other one, over which the statistic is minimised in passing: once that is settled, both make Newton's steps
    together. `highest` is the other one's greatest value, which tells which is which: 1 for u, infinity for the norm.
    """
    along_norm = highest == 1.0
    for _ in range(MAX_STEPS):
        norm, u = (place, other) if along_norm else (other, place)
        a, b = norm * (1.0 - u), norm * u
        weigh(spectra, k, k + 1, a, b)
        slope_a, slope_b, aa, ab, bb = derivatives(spectra, k, k + 1)
        mixed = slope_b - slope_a + norm * (u * bb + (1.0 - 2.0 * u) * ab - (1.0 - u) * aa)
        by_norm, by_u = (1.0 - u) * slope_a + u * slope_b, norm * (slope_b - slope_a)
        if along_norm:
            slope, first, second = by_norm, by_u, norm * norm * (aa - 2.0 * ab + bb)
        else:
            slope, first = by_u, by_norm
            second = (1.0 - u) * (1.0 - u) * aa + 2.0 * u * (1.0 - u) * ab + u * u * bb
        decrement = step = 0.0
        free = second > 0.0 and not (other == 0.0 and first >= 0.0) and not (other == highest and first <= 0.0)
        if free:
            step = first / second
            decrement = first * step
            if decrement > SETTLED:
                step /= 1.0 + np.sqrt(0.5 * decrement)  # never too far for a self-concordant function
            if decrement > SETTLED or not 0.0 <= other - step <= highest:
                other = min(max(other - step, 0.0), highest)
                continue
            slope -= mixed * step
        rise = _rise(value(spectra, k, k + 1, a, b) - 0.5 * decrement, best)
        if decrement <= 1e-6 or abs(rise) > SETTLED:
            if rise > 0.0:
                outer = place
            else:
                inner = place
        target = place - 2.0 * rise * (rise + np.sqrt(DELTA_STATISTIC)) / slope
        inside = min(inner, outer) < target < max(inner, outer)
        if (abs(rise) <= LAST_STEP and decrement <= CONVERGED) or abs(outer - inner) <= 1e-15 * inner:
            return target if inside else place
        if not inside:
            target = 2.0 * inner if outer == np.inf else 0.5 * (inner + outer)
        if free:
            other = min(max(other - step - mixed / second * (target - place), 0.0), highest)
        place = target
    return place
