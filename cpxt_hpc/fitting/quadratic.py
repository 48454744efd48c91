"""The exact fit of chi-squared, in closed form: it is quadratic in the amplitudes of two neighbouring nodes.

With A_k = sum(w N F_k), B_k = sum(w F_k^2) and D_k = sum(w F_k F_(k+1)), weights w and net counts N,

    chi2(a, b) = sum(w N^2) - 2 (a A_k + b A_(k+1)) + a^2 B_k + 2 a b D_k + b^2 B_(k+1)

in interval k: nodes, intervals and all limits follow from these sums.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cpxt_hpc.fitting.chi2 import Chi2Spectra
from cpxt_hpc.fitting.ranges import connected_range, kt_at
from cpxt_hpc.science.compiled import REASSOCIATE, compiled

LEAST_DETERMINANT = 1e-13
"""Relative to B_k B_(k+1): two nodes nearer to each other than this have the same shape."""


class Products(NamedTuple):
    """A, B, D and the minima that follow from them.

    Attributes
    ----------
    zero : float
        chi2 without source.
    by_net, square : ndarray of float64, shape (n_nodes,)
        A and B.
    product : ndarray of float64, shape (n_nodes - 1,)
        D.
    node_norm, node_value : ndarray of float64, shape (n_nodes,)
        Best norm >= 0 at each node, and chi2 there.
    a, b, value : ndarray of float64, shape (n_nodes - 1,)
        Best amplitudes >= 0 in each interval, and chi2 there.
    """

    zero: float
    by_net: np.ndarray
    square: np.ndarray
    product: np.ndarray
    node_norm: np.ndarray
    node_value: np.ndarray
    a: np.ndarray
    b: np.ndarray
    value: np.ndarray


@compiled(fastmath=REASSOCIATE, part=True)
def _sums(net: np.ndarray, weight: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[float, float, float]:
    by_net = square = product = 0.0
    for i in range(len(net)):
        weighted = weight[i] * low[i]
        by_net += weighted * net[i]
        square += weighted * low[i]
        product += weighted * high[i]
    return by_net, square, product


@compiled(part=True)
def products(spectra: Chi2Spectra) -> Products:
    """Inner products of spectra and nodes, and the minima at all nodes and in all intervals."""
    n = len(spectra.rates)
    by_net, square, product, node_norm, node_value = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    a, b, value = np.zeros(n - 1), np.zeros(n - 1), np.zeros(n - 1)
    zero = _sums(spectra.observed, spectra.companion, spectra.observed, spectra.observed)[1]
    for k in range(n):
        low, high = spectra.rates[k], spectra.rates[min(k + 1, n - 1)]
        by_net[k], square[k], product[k] = _sums(spectra.observed, spectra.companion, low, high)
        if by_net[k] > 0.0:
            node_norm[k] = by_net[k] / square[k]
        node_value[k] = zero - node_norm[k] * by_net[k]
    for k in range(n - 1):
        a[k], b[k], value[k] = node_norm[k], 0.0, node_value[k]
        if node_value[k + 1] < node_value[k]:
            a[k], b[k], value[k] = 0.0, node_norm[k + 1], node_value[k + 1]
        determinant = square[k] * square[k + 1] - product[k] * product[k]
        if determinant > LEAST_DETERMINANT * square[k] * square[k + 1]:
            inside_a = (square[k + 1] * by_net[k] - product[k] * by_net[k + 1]) / determinant
            inside_b = (square[k] * by_net[k + 1] - product[k] * by_net[k]) / determinant
            if inside_a > 0.0 and inside_b > 0.0:
                inside = zero - inside_a * by_net[k] - inside_b * by_net[k + 1]
                if inside < value[k]:
                    a[k], b[k], value[k] = inside_a, inside_b, inside
    return Products(zero, by_net, square, product[: n - 1], node_norm, node_value, a, b, value)


@compiled
def fit_chi2(spectra: Chi2Spectra, kt_nodes: np.ndarray, delta_statistic: float) -> tuple:
    """Best kT and norm of a region, with their limits, for chi-squared; see `limits.fit_kt_norm`."""
    sums = products(spectra)
    k = np.argmin(sums.value)
    norm, best = sums.a[k] + sums.b[k], sums.value[k]
    norm_lo, norm_hi = _norm_limits(sums, k, best + delta_statistic)
    if not norm > 0.0:
        return np.nan, kt_nodes[0], kt_nodes[-1], norm, norm_lo, norm_hi, best, False, False
    u = sums.b[k] / norm
    limits, found = np.empty(2), np.empty(2, dtype=np.bool_)
    for side in range(2):
        k_side, u_side, found[side] = _kt_limit(sums, k, u, 2 * side - 1, best + delta_statistic)
        limits[side] = kt_at(kt_nodes, k_side, u_side)
    return kt_at(kt_nodes, k, u), limits[0], limits[1], norm, norm_lo, norm_hi, best, found[0], found[1]


@compiled(part=True)
def _kt_limit(sums, k, u, direction, level):
    """Interval and place of a limit of kT, and whether it lies inside the range of the nodes.

    The profile at u is zero - alpha^2 / beta: alpha = (1 - u) A_k + u A_(k+1), beta the quadratic form of B and D.
    """
    ahead = 1 if direction > 0 else 0
    inner = u
    while sums.node_value[k + ahead] <= level:
        inner = 1.0 - ahead
        if not 0 <= k + direction < len(sums.value):
            return k, float(ahead), False
        k += direction
    drop = sums.zero - level
    turn = sums.by_net[k + 1] - sums.by_net[k]
    bend = sums.square[k] - 2.0 * sums.product[k] + sums.square[k + 1]
    second = turn * turn - drop * bend
    half_first = sums.by_net[k] * turn - drop * (sums.product[k] - sums.square[k])
    constant = sums.by_net[k] * sums.by_net[k] - drop * sums.square[k]
    root = np.sqrt(max(half_first * half_first - second * constant, 0.0))
    larger = -(half_first + root) if half_first >= 0.0 else root - half_first
    low, high = min(inner, float(ahead)), max(inner, float(ahead))
    nearest, error = float(ahead), np.inf
    for place in (larger / second if second != 0.0 else np.inf, constant / larger if larger != 0.0 else np.inf):
        inside = min(max(place, low), high)
        if abs(place - inside) < error:
            nearest, error = inside, abs(place - inside)
    return k, nearest, True


@compiled(part=True)
def _norm_limits(sums, k_best, level):
    """Ends of the connected union, over the intervals, of the norms below the level that holds the best fit."""
    n = len(sums.value)
    low, high = np.full(n, np.nan), np.full(n, np.nan)
    for k in range(n):
        if sums.value[k] <= level:
            low[k], high[k] = _norm_range(sums, k, level)
    return connected_range(low[k_best], high[k_best], low, high)


@compiled(part=True)
def _norm_range(sums, k, level):
    """Least and greatest a + b in interval k below the level: at the ellipse's ends, or where it cuts a node's ray."""
    least, greatest = np.inf, -np.inf
    if sums.zero <= level:
        least, greatest = 0.0, 0.0
    for node in (k, k + 1):
        if sums.square[node] > 0.0:
            centre = sums.by_net[node] / sums.square[node]
            room = level - sums.zero + centre * sums.by_net[node]
            if room >= 0.0:
                width = np.sqrt(room / sums.square[node])
                if centre + width >= 0.0:
                    least, greatest = min(least, max(centre - width, 0.0)), max(greatest, centre + width)
    determinant = sums.square[k] * sums.square[k + 1] - sums.product[k] * sums.product[k]
    if determinant > LEAST_DETERMINANT * sums.square[k] * sums.square[k + 1]:
        a = (sums.square[k + 1] * sums.by_net[k] - sums.product[k] * sums.by_net[k + 1]) / determinant
        b = (sums.square[k] * sums.by_net[k + 1] - sums.product[k] * sums.by_net[k]) / determinant
        room = level - sums.zero + a * sums.by_net[k] + b * sums.by_net[k + 1]
        step_a = (sums.square[k + 1] - sums.product[k]) / determinant
        step_b = (sums.square[k] - sums.product[k]) / determinant
        if room >= 0.0 and step_a + step_b > 0.0:
            length = np.sqrt(room / (step_a + step_b))
            if a + length * step_a >= 0.0 and b + length * step_b >= 0.0:
                greatest = max(greatest, a + b + length * (step_a + step_b))
            if a - length * step_a >= 0.0 and b - length * step_b >= 0.0:
                least = min(least, a + b - length * (step_a + step_b))
    return least, greatest
