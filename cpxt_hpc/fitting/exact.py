"""The exact search: the global minimum of a statistic over kT and norm of a piecewise-linear model.

The statistic is convex in the amplitudes (a, b) of each interval between neighbouring temperature nodes, but not
over intervals. So every node gets its minimum over the norm. The slope of the statistic there, towards the
neighbouring node, tells by convexity whether an interval hides a lower minimum: it does only if both its nodes'
slopes point into it. Those intervals, mostly one or two, are solved; nothing is left to a starting value.

Nodes are visited from coarse to fine. Each one visited gives a rigorous lower bound of the statistic (cstat) at its
neighbours: intervals that cannot come within `DELTA_STATISTIC` of the minimum are left out, and nodes between such.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cpxt_hpc.fitting.statistics import CSTAT, Spectra, derivatives, dot, slope, value, weigh
from cpxt_hpc.science.compiled import compiled

DELTA_STATISTIC = 1.0
"""Rise of the statistic at the limits: 68 % for one parameter of interest."""
MAX_STEPS = 300
CONVERGED = 1e-9
"""Newton's last step is the one whose squared decrement, about twice the gain in statistic, is below this. What is left
after it is of the order of the square: the statistics are self-concordant (Nesterov & Nemirovskii 1994, chapter 2)."""
FIRST_STRIDE = 8
"""Every so many nodes are visited first."""
BOUND_MARGIN = 1e-6
"""Far more than the rounding errors of a bound."""


class Minima(NamedTuple):
    """Minima of the statistic at the nodes and in the intervals.

    Attributes
    ----------
    node_norm, node_value : ndarray of float64, shape (n_nodes,)
        Best norm, and the statistic there, with kT at a node; infinite value where both intervals are hopeless.
    a, b, value : ndarray of float64, shape (n_nodes - 1,)
        Best amplitudes of an interval's two nodes, and the statistic there; infinite value of a hopeless interval,
        which has no point below the minimum + `DELTA_STATISTIC`.
    """

    node_norm: np.ndarray
    node_value: np.ndarray
    a: np.ndarray
    b: np.ndarray
    value: np.ndarray


@compiled(part=True)
def find_minima(spectra: Spectra) -> Minima:
    """Minimise the statistic at every node and in every interval that matters.

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
    norm, node_value = np.zeros(n_nodes), np.full(n_nodes, np.inf)
    slope_up, slope_down = np.zeros(n_nodes), np.zeros(n_nodes)
    bound = np.full(n_nodes - 1, -np.inf)
    observed = 0.0
    for counts in spectra.observed:
        observed += counts
    source = max(-0.5 * spectra.constant, 0.05 * observed)
    level = np.inf
    stride = np.int64(FIRST_STRIDE)
    first, step = 0 * stride, stride
    while stride > 0:
        for k in range(first, n_nodes, step):
            below, above = max(k - 1, 0), min(k + 1, n_nodes - 1)
            if bound[below] > level and bound[min(k, n_nodes - 2)] > level:
                continue
            norm[k] = ray_minimum(spectra, k, source / spectra.totals[k] if spectra.totals[k] > 0.0 else 1.0)
            weigh(spectra, k, k, norm[k], 0.0)
            node_value[k] = value(spectra, k, k, norm[k], 0.0)
            level = min(level, node_value[k] + DELTA_STATISTIC + BOUND_MARGIN)
            slope_down[k], slope_up[k] = slope(spectra, below), slope(spectra, above)
            if norm[k] > 0.0:
                source = norm[k] * spectra.totals[k]
            if spectra.statistic == CSTAT and stride > 1:
                raise_bounds(spectra, k, norm[k], node_value[k], stride, observed, bound)
        step = stride
        stride //= 2
        first = stride

    a, b, interval_value = np.zeros(n_nodes - 1), np.zeros(n_nodes - 1), np.full(n_nodes - 1, np.inf)
    for k in range(n_nodes - 1):
        if bound[k] > level:
            continue
        if node_value[k] <= node_value[k + 1]:
            a[k], interval_value[k] = norm[k], node_value[k]
        else:
            b[k], interval_value[k] = norm[k + 1], node_value[k + 1]
        if slope_up[k] < 0.0 and slope_down[k + 1] < 0.0:
            inside_a, inside_b = interval_minimum(spectra, k, 0.5 * norm[k], 0.5 * norm[k + 1])
            weigh(spectra, k, k + 1, inside_a, inside_b)
            inside = value(spectra, k, k + 1, inside_a, inside_b)
            if inside < interval_value[k]:
                a[k], b[k], interval_value[k] = inside_a, inside_b, inside
    return Minima(norm, node_value, a, b, interval_value)


@compiled(part=True)
def ray_minimum(spectra: Spectra, k: int, norm: float) -> float:
    """Norm >= 0 that minimises the statistic at a node.

    Parameters
    ----------
    spectra : Spectra
    k : int
        Node.
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
        weigh(spectra, k, k, norm, 0.0)
        first, _, second, _, _ = derivatives(spectra, k, k)
        if first >= 0.0 and (norm == 0.0 or second == 0.0):
            return 0.0
        step = first / second
        if step >= norm and not zero_checked:
            zero_checked = True
            norm = 0.0
            continue
        norm -= step
        if first * first <= CONVERGED * second or abs(step) <= 1e-15 * norm:
            return max(norm, 0.0)
    return np.nan


@compiled(part=True)
def raise_bounds(
    spectra: Spectra, k: int, norm: float, at_node: float, stride: int, observed: float, bound: np.ndarray
) -> None:
    """Raise the lower bounds of cstat in the intervals up to `stride` nodes from node k, at whose minimum it stands.

    Parameters
    ----------
    spectra : Spectra
        As `weigh` left them at node k.
    k, norm, at_node : int, float, float
        The node, the norm there and the statistic.
    stride : int
        How many nodes to look at on either side.
    observed : float
        Sum of the counts.
    bound : ndarray of float64, shape (n_nodes - 1,)
        Lower bounds of the statistic in the intervals.

    Notes
    -----
    Fenchel's dual of the Poisson likelihood. With the pulls t = S / mu, s t for any 0 < s <= 1 gives

        C(model) >= C_0 + 2 N ln s + 2 (1 - s) sum(t background),  C_0 = C - norm dC/dnorm,

    for every model made of nodes m whose expected counts T_m for norm 1 are at least s sum(t F_m), N counts in all:
    ln(x) <= x - 1 in every channel, and the sum over the model is not negative.
    """
    pulled = dot(spectra.pull, spectra.rates[k])
    free = at_node - 2.0 * norm * (spectra.totals[k] - pulled)
    background = observed - norm * pulled
    for direction in (-1, 1):
        last = free
        for m in range(k + direction, k + direction * (stride + 1), direction):
            if m < 0 or m >= len(spectra.totals):
                break
            s = min(1.0, spectra.totals[m] / dot(spectra.pull, spectra.rates[m]))
            here = free + 2.0 * (observed * np.log(s) + (1.0 - s) * background)
            interval = min(m, m - direction)
            bound[interval] = max(bound[interval], min(here, last))
            last = here


@compiled(part=True)
def interval_minimum(spectra: Spectra, k: int, a: float, b: float) -> tuple[float, float]:
    """Amplitudes that minimise the statistic in interval k, where the minimum is known to lie inside.

    Newton's method in two dimensions. A step is halved while the slope along it has turned upwards at its end by
    more than half: by convexity, the statistic then goes down.
    """
    weigh(spectra, k, k + 1, a, b)
    slope_a, slope_b, aa, ab, bb = derivatives(spectra, k, k + 1)
    for _ in range(MAX_STEPS):
        determinant = aa * bb - ab * ab
        if not determinant > 1e-15 * aa * bb:  # two nodes of the same shape: any mixture will do
            determinant = 1e-15 * aa * bb
            if not determinant > 0.0:
                break
        step_a = (bb * slope_a - ab * slope_b) / determinant
        step_b = (aa * slope_b - ab * slope_a) / determinant
        decrement = slope_a * step_a + slope_b * step_b
        # No amplitude may leave the interval, and the minimum has neither at 0.
        length = min(1.0, 0.9 * a / step_a if step_a > 0.0 else 1.0, 0.9 * b / step_b if step_b > 0.0 else 1.0)
        if not decrement > CONVERGED:
            return a - length * step_a, b - length * step_b
        while True:
            weigh(spectra, k, k + 1, a - length * step_a, b - length * step_b)
            slope_a, slope_b, aa, ab, bb = derivatives(spectra, k, k + 1)
            if length < 1e-12 or slope_a * step_a + slope_b * step_b >= -0.5 * decrement:
                break
            length *= 0.5
        a -= length * step_a
        b -= length * step_b
    return a, b
