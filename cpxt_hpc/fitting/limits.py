"""Limits of kT and norm: where the profile of the statistic has risen by 1 above its minimum.

The profile of a parameter is the statistic minimised over the other one. A limit is its first crossing of minimum + 1
on the way outwards from the best fit. Convexity makes that safe: within an interval of temperature the part of the
profile below a level is connected, so looking at the nodes misses no crossing.
"""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.exact import CONVERGED, MAX_STEPS, Minima, find_minima, ray_minimum
from cpxt_hpc.fitting.statistics import (
    Spectra,
    cross_derivatives,
    ray_derivatives,
    statistic_derivatives,
    statistic_value,
)
from cpxt_hpc.science.compiled import compiled

DELTA_STATISTIC = 1.0
"""Rise of the statistic at the limits: 68 % for one parameter of interest."""
LAST_STEP = 1e-5
"""The step towards a limit from where the root of the rise is off by less than this is the last: its error is of the
order of the square."""


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
    k = 0
    for interval in range(1, len(minima.value)):
        if minima.value[interval] < minima.value[k]:
            k = interval
    norm = minima.a[k] + minima.b[k]
    norm_lo, norm_hi = norm_limits(spectra, minima, k)
    if not norm > 0.0:
        return np.nan, kt_nodes[0], kt_nodes[-1], norm, norm_lo, norm_hi, minima.value[k], False, False
    u = minima.b[k] / norm
    k_lo, u_lo, lower_found = kt_limit(spectra, minima, k, u, False)
    k_hi, u_hi, upper_found = kt_limit(spectra, minima, k, u, True)
    return (
        _kt_at(kt_nodes, k, u),
        _kt_at(kt_nodes, k_lo, u_lo),
        _kt_at(kt_nodes, k_hi, u_hi),
        norm,
        norm_lo,
        norm_hi,
        minima.value[k],
        lower_found,
        upper_found,
    )


@compiled
def _kt_at(kt_nodes, k, u):
    if u == 1.0:
        return kt_nodes[k + 1]
    return kt_nodes[k] + u * (kt_nodes[k + 1] - kt_nodes[k])


@compiled
def kt_limit(spectra: Spectra, minima: Minima, k: int, u: float, upwards: bool) -> tuple[int, float, bool]:
    """Walk from the best fit to where the profile of kT crosses the level.

    Parameters
    ----------
    spectra : Spectra
    minima : Minima
        Of these spectra.
    k, u : int, float
        Interval of the best fit and part of its norm that is in node k + 1.
    upwards : bool
        To higher kT.

    Returns
    -------
    k, u : int, float
        Interval and place of the limit: kT = (1 - u) T_k + u T_(k+1).
    found : bool
        False: the profile stays below the level up to the last node, which is given back.
    """
    best = minima.value[k]
    last = len(minima.value) - 1
    inner = u
    while True:
        outer = 1.0 if upwards else 0.0
        if minima.node_value[k + 1 if upwards else k] > best + DELTA_STATISTIC:
            return k, _crossing_kt(spectra, minima, k, inner, outer, best), True
        if k == (last if upwards else 0):
            return k, outer, False
        k += 1 if upwards else -1
        inner = 1.0 - outer


@compiled
def norm_limits(spectra: Spectra, minima: Minima, k_best: int) -> tuple[float, float]:
    """Lower and upper limit of the norm, kT profiled over the whole range.

    Every interval of temperature allows one range of norms below the level. The limits are the ends of the connected
    union of these ranges that holds the best fit. The lower limit is 0 where no source at all is allowed.
    """
    n_intervals = len(minima.value)
    level = minima.value[k_best] + DELTA_STATISTIC
    low = np.full(n_intervals, np.nan)
    high = np.full(n_intervals, np.nan)
    for k in range(n_intervals):
        if minima.value[k] <= level:
            low[k], high[k] = _norm_range(spectra, minima, k, minima.value[k_best])
    lowest, highest = low[k_best], high[k_best]
    grows = True
    while grows:
        grows = False
        for k in range(n_intervals):
            if low[k] <= highest and high[k] >= lowest and (low[k] < lowest or high[k] > highest):
                lowest, highest = min(low[k], lowest), max(high[k], highest)
                grows = True
    return lowest, highest


@compiled
def _rise(value, best):
    """Square root of the rise over the minimum, minus that at the limit: nearly linear in the parameter."""
    return np.sqrt(max(value - best, 0.0)) - np.sqrt(DELTA_STATISTIC)


@compiled
def _crossing_kt(spectra, minima, k, inner, outer, best):
    """Place u between inner (below the level) and outer (a node above it) where the profile of kT crosses the level."""
    inner_value = minima.value[k]
    if inner == 0.0 or inner == 1.0:
        inner_value = minima.node_value[k + int(inner)]
    rise_inner = _rise(inner_value, best)
    rise_outer = _rise(minima.node_value[k + int(outer)], best)
    u = inner - (outer - inner) * rise_inner / (rise_outer - rise_inner)
    norm = minima.a[k] + minima.b[k]
    for _ in range(MAX_STEPS):
        norm = ray_minimum(spectra, k, u, norm)
        a, b = norm * (1.0 - u), norm * u
        rise = _rise(statistic_value(spectra, k, a, b), best)
        if rise > 0.0:
            outer = u
        else:
            inner = u
        slope_a, slope_b, _, _, _ = statistic_derivatives(spectra, k, a, b)
        u, last = _next_place(u, rise, norm * (slope_b - slope_a), inner, outer)
        if last:
            return u
    return u


@compiled
def _next_place(place, rise, slope, inner, outer):
    """Newton's step towards rise = 0, or one by the bracket where that leads out of it; whether it is the last."""
    derivative = slope / (2.0 * (rise + np.sqrt(DELTA_STATISTIC)))
    target = place - rise / derivative
    inside = min(inner, outer) < target < max(inner, outer)
    if abs(rise) <= LAST_STEP or abs(outer - inner) <= 1e-15 * inner:
        return target if inside else place, True
    if inside:
        return target, False
    return 2.0 * inner if outer == np.inf else 0.5 * (inner + outer), False


@compiled
def _norm_range(spectra, minima, k, best):
    """Range of norms that interval k allows."""
    a, b = minima.a[k], minima.b[k]
    norm = a + b
    u = b / norm if norm > 0.0 else 0.0
    step = _norm_step(spectra, k, a, b, best + DELTA_STATISTIC - minima.value[k])
    high = _crossing_norm(spectra, k, u, norm, np.inf, norm + step, best)
    if statistic_value(spectra, k, 0.0, 0.0) <= best + DELTA_STATISTIC:
        return 0.0, high
    return _crossing_norm(spectra, k, u, norm, 0.0, max(norm - step, 0.5 * norm), best), high


@compiled
def _norm_step(spectra, k, a, b, rise):
    """How far the norm may move for a rise of the statistic, from its second derivatives at the interval's minimum."""
    _, _, aa, ab, bb = statistic_derivatives(spectra, k, a, b)
    determinant = aa * bb - ab * ab
    if a > 0.0 and b > 0.0 and determinant > 1e-12 * aa * bb:
        return np.sqrt(2.0 * rise * (aa - 2.0 * ab + bb) / determinant)
    slope, curvature = ray_derivatives(spectra, k, 0.0 if b == 0.0 else 1.0, a + b)
    if curvature > 0.0:
        return np.sqrt(2.0 * rise / curvature)
    return rise / slope if slope > 0.0 else 1.0


@compiled
def _crossing_norm(spectra, k, u, inner, outer, norm, best):
    """Norm between inner (below the level) and outer (above it) where the profile of interval k crosses it."""
    for _ in range(MAX_STEPS):
        u = _cross_minimum(spectra, k, norm, u)
        a, b = norm * (1.0 - u), norm * u
        rise = _rise(statistic_value(spectra, k, a, b), best)
        if rise > 0.0:
            outer = norm
        else:
            inner = norm
        slope, _ = ray_derivatives(spectra, k, u, norm)
        norm, last = _next_place(norm, rise, slope, inner, outer)
        if last:
            return norm
    return norm


@compiled
def _cross_minimum(spectra, k, norm, u):
    """Place u in [0, 1] that minimises the statistic at a fixed norm: convex, by Newton's method in a bracket."""
    low, high = 0.0, 1.0
    low_checked = high_checked = False
    for _ in range(MAX_STEPS):
        slope, curvature = cross_derivatives(spectra, k, u, norm)
        if (u == 0.0 and slope >= 0.0) or (u == 1.0 and slope <= 0.0):
            return u
        if slope > 0.0:
            high, high_checked = u, True
        else:
            low, low_checked = u, True
        target = u - slope / curvature if curvature > 0.0 else np.nan
        if slope * slope <= CONVERGED * curvature or high - low <= 1e-15:
            return min(max(target, 0.0), 1.0) if curvature > 0.0 else u
        if low < target < high:
            u = target
        elif target <= low and not low_checked:
            u = 0.0
        elif target >= high and not high_checked:
            u = 1.0
        else:
            u = 0.5 * (low + high)
    return u
