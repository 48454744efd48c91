"""The exact search: the global minimum of a statistic over kT and norm of a piecewise-linear model.

The statistic is convex in the amplitudes (a, b) of each interval between neighbouring temperature nodes, but not
over intervals. So every node gets its minimum over the norm. The slope of the statistic there, towards the
neighbouring node, tells by convexity whether an interval hides a lower minimum: it does only if both its nodes'
slopes point into it. Those intervals, mostly one or two, are solved; nothing is left to a starting value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cpxt_hpc.fitting.statistics import CSTAT, Spectra, ray_derivatives, statistic_derivatives, statistic_value
from cpxt_hpc.science.compiled import compiled

MAX_STEPS = 300
CONVERGED = 1e-9
"""Newton's last step is the one whose squared decrement, about twice the gain in statistic, is below this. What is left
after it is of the order of the square: the statistics are self-concordant (Nesterov & Nemirovskii 1994, chapter 2)."""


class Minima(NamedTuple):
    """Minima of the statistic at the nodes and in the intervals.

    Attributes
    ----------
    node_norm, node_value : ndarray of float64, shape (n_nodes,)
        Best norm, and the statistic there, with kT at a node.
    a, b, value : ndarray of float64, shape (n_nodes - 1,)
        Best amplitudes of an interval's two nodes, and the statistic there.
    """

    node_norm: np.ndarray
    node_value: np.ndarray
    a: np.ndarray
    b: np.ndarray
    value: np.ndarray


@compiled
def find_minima(spectra: Spectra) -> Minima:
    """Minimise the statistic at every node and in every interval.

    Parameters
    ----------
    spectra : Spectra
        With at least two nodes.

    Returns
    -------
    Minima
        The lowest ``value`` is the global minimum over all kT and norm >= 0.
    """
    n_nodes = len(spectra.rates)
    norm = np.zeros(n_nodes)
    value = np.zeros(n_nodes)
    slope_up = np.zeros(n_nodes)
    slope_down = np.zeros(n_nodes)
    for k in range(n_nodes):
        if k < n_nodes - 1:
            norm[k] = ray_minimum(spectra, k, 0.0, first_norm(spectra, k))
            value[k] = statistic_value(spectra, k, norm[k], 0.0)
            slope_up[k] = statistic_derivatives(spectra, k, norm[k], 0.0)[1]
        else:
            norm[k] = ray_minimum(spectra, k - 1, 1.0, first_norm(spectra, k))
            value[k] = statistic_value(spectra, k - 1, 0.0, norm[k])
        if k > 0:
            slope_down[k] = statistic_derivatives(spectra, k - 1, 0.0, norm[k])[0]

    best_a = np.zeros(n_nodes - 1)
    best_b = np.zeros(n_nodes - 1)
    best = np.zeros(n_nodes - 1)
    for k in range(n_nodes - 1):
        if value[k] <= value[k + 1]:
            best_a[k], best[k] = norm[k], value[k]
        else:
            best_b[k], best[k] = norm[k + 1], value[k + 1]
        if slope_up[k] < 0.0 and slope_down[k + 1] < 0.0:
            a, b = interval_minimum(spectra, k, 0.5 * norm[k], 0.5 * norm[k + 1])
            inside = statistic_value(spectra, k, a, b)
            if a >= 0.0 and b >= 0.0 and inside < best[k]:
                best_a[k], best_b[k], best[k] = a, b, inside
    return Minima(norm, value, best_a, best_b, best)


@compiled
def first_norm(spectra: Spectra, k: int) -> float:
    """A norm at node k to start from: that of the counts above the background, or of some of them."""
    if spectra.statistic != CSTAT or not spectra.totals[k] > 0.0:
        return 1.0
    observed = 0.0
    for counts in spectra.observed:
        observed += counts
    return max(-0.5 * spectra.constant, 0.05 * observed) / spectra.totals[k]


@compiled
def ray_minimum(spectra: Spectra, k: int, u: float, norm: float) -> float:
    """Norm >= 0 that minimises the statistic at a fixed temperature.

    Parameters
    ----------
    spectra : Spectra
    k : int
        Interval.
    u : float
        Part of the norm in node k + 1, 0 to 1.
    norm : float
        Where to start.

    Returns
    -------
    float
        NaN where Newton's method does not end, which only data that are not numbers bring about.

    Notes
    -----
    The first derivative is a rising, concave function of the norm (cstat; linear for chi2). Newton's method steps
    from right of its zero to the left of it, and from the left ever closer: it needs a check at norm 0 only.
    """
    zero_checked = False
    for _ in range(MAX_STEPS):
        slope, curvature = ray_derivatives(spectra, k, u, norm)
        if slope >= 0.0 and (norm == 0.0 or curvature == 0.0):
            return 0.0
        step = slope / curvature
        if step >= norm and not zero_checked:
            zero_checked = True
            norm = 0.0
            continue
        norm -= step
        if slope * slope <= CONVERGED * curvature or abs(step) <= 1e-15 * norm:
            return max(norm, 0.0)
    return np.nan


@compiled
def interval_minimum(spectra: Spectra, k: int, a: float, b: float) -> tuple[float, float]:
    """Amplitudes that minimise the statistic in interval k, where the minimum is known to lie inside.

    Newton's method in two dimensions, its steps halved until they go down.
    """
    value = statistic_value(spectra, k, a, b)
    for _ in range(MAX_STEPS):
        slope_a, slope_b, aa, ab, bb = statistic_derivatives(spectra, k, a, b)
        determinant = aa * bb - ab * ab
        if not determinant > 1e-15 * aa * bb:  # two nodes of the same shape: any mixture will do
            determinant = 1e-15 * aa * bb
            if not determinant > 0.0:
                break
        step_a = (bb * slope_a - ab * slope_b) / determinant
        step_b = (aa * slope_b - ab * slope_a) / determinant
        decrement = slope_a * step_a + slope_b * step_b
        if not decrement > CONVERGED:
            return a - step_a, b - step_b
        length = 1.0
        lower = statistic_value(spectra, k, a - step_a, b - step_b)
        # Close to the minimum rounding hides the descent, and full steps are right.
        while not lower < value and decrement > 1e-6 and length > 1e-12:
            length *= 0.5
            lower = statistic_value(spectra, k, a - length * step_a, b - length * step_b)
        a -= length * step_a
        b -= length * step_b
        value = lower
    return a, b
