"""What is to be fitted, as the compiled search for free abundance, hydrogen column and norms wants it.

A point of the parameter space is an array `place`: k + u, where u is the part of temperature node k + 1 in the mixture
of nodes k and k + 1; the abundance; the hydrogen column; the norm that is reported; and, where the channels are in
several groups with a norm each (one group an observation), the norms of all groups but the leading one. The reported
norm is the mean of the groups', weighted with fixed shares, which gives the leading one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cpxt_hpc.fitting.statistics import CSTAT, WSTAT, Spectra, dot
from cpxt_hpc.fitting.vectors import take
from cpxt_hpc.science.compiled import compiled

KT, ABUNDANCE, NH, NORM = 0, 1, 2, 3
"""Places of the parameters."""
LOWER, UPPER, FREE = 0, 1, 2
"""Rows of ``Box.bounds``."""
SLOPE, STEP, RESPONSE, MOVING = 0, 1, 2, 3
"""Rows of ``Box.steps``."""
EXPECTED, BEND, FACTOR = 0, 1, 2
"""Members of ``Box.squares``."""
MOST = 0.85
"""Share of the channels that matter from which on it does not pay to pick them out."""


class Box(NamedTuple):
    """The parameters: their ranges, and the derivatives of the statistic.

    Attributes
    ----------
    bounds : ndarray of float64, shape (3, n_parameters)
        Lower and upper ends of the parameters' ranges, and 1 for those that are fitted.
    steps : ndarray of float64, shape (4, n_parameters)
        First derivatives at the point evaluated last; Newton's step from there; how the parameters respond when the
        one that is profiled moves by 1; and 1 for those that are not held.
    squares : ndarray of float64, shape (3, n_parameters, n_parameters)
        Second derivatives: the part that is never negative, and what the curvature of the model adds; work space.
    share : ndarray of float64, shape (n_groups,)
        Weight of each group's norm in the reported norm; sum 1.
    leading : int
        The group with the largest share.
    n_nodes : int
        Number of temperature nodes.
    """

    bounds: np.ndarray
    steps: np.ndarray
    squares: np.ndarray
    share: np.ndarray
    leading: int
    n_nodes: int


class Problem(NamedTuple):
    """The spectra of one region and what is to be fitted to them.

    Attributes
    ----------
    spectra : Spectra
        Of the channels that matter: in the others the statistic is linear in the model.
    statistic : int
        A value of `STATISTICS`.
    rates : ndarray of float64, shape (n_rows, n_channels)
        Folded nodes for norm 1 in all channels [count/s]; row (column * 2 + abundance) * n_nodes + node.
    exposure : ndarray of float64, shape (n_channels,)
        [s]
    channel : ndarray of int64, shape (n,)
        The channels that matter.
    all_start, start : ndarray of int64, shape (n_groups + 1,)
        First of each group's channels, and the end: among all channels, and among those that matter.
    rows : ndarray of float64, shape (n_rows, n)
        The rates in the channels that matter, where `row_rates` has filled them in: `rates` itself where all do.
    totals : ndarray of float64, shape (n_groups, n_rows)
        What the terms of the statistic that are linear in the model sum up to over all channels of a group; likewise.
    present : ndarray of bool, shape (n_rows,)
        Which rows have been filled in.
    nh_nodes : ndarray of float64, shape (n_nh,)
        Hydrogen columns at which the nodes were folded.
    box : Box
    corner_totals : ndarray of float64, shape (3, n_groups, 4)
        Work space: totals of the four vectors of an interval, and their derivatives in the hydrogen column.
    model : ndarray of float64, shape (n,)
        Work space.
    vectors : ndarray of float64, shape (3, 4, n) or None
        Work space for nodes between two hydrogen columns, and their derivatives; None where the column is frozen.
    """

    spectra: Spectra
    statistic: int
    rates: np.ndarray
    exposure: np.ndarray
    channel: np.ndarray
    all_start: np.ndarray
    start: np.ndarray
    rows: np.ndarray
    totals: np.ndarray
    present: np.ndarray
    nh_nodes: np.ndarray
    box: Box
    corner_totals: np.ndarray
    model: np.ndarray
    vectors: np.ndarray | None


@compiled
def channels_that_matter(statistic: int, counts: np.ndarray, exposure: np.ndarray) -> np.ndarray:
    """Channels in which the statistic is not linear in the model, shape (n,): those with counts, or all for chi2.

    Where they are most of the channels, all are returned.
    """
    poisson = is_poisson(statistic)
    channel = np.empty(len(counts), dtype=np.int64)
    n = 0
    for i in range(len(counts)):
        channel[n] = i
        n += exposure[i] > 0.0 and (not poisson or counts[i] > 0.0)
    if n < MOST * len(counts):
        return channel[:n].copy()
    for i in range(len(counts)):
        channel[i] = i
    return channel


@compiled(part=True)
def is_poisson(statistic: int) -> bool:
    """Whether the statistic is a Poisson likelihood, linear where there are no counts."""
    return statistic in (CSTAT, WSTAT)


@compiled(part=True)
def new_problem(
    spectra: Spectra,
    statistic: int,
    rates: np.ndarray,
    exposure: np.ndarray,
    channel: np.ndarray,
    all_start: np.ndarray,
    share: np.ndarray,
    nh_nodes: np.ndarray,
    bounds: np.ndarray,
    vectors: np.ndarray | None,
) -> Problem:
    """A problem about which nothing is known yet, from the attributes of `Problem` and `Box` that are given."""
    n_groups, n_rows, n, size = len(share), len(rates), len(channel), bounds.shape[1]
    start = np.zeros(n_groups + 1, dtype=np.int64)
    leading = 0
    for g in range(n_groups):
        leading = g if share[g] > share[leading] else leading
        for i in range(n):
            start[g + 1] += channel[i] < all_start[g + 1]
    box = Box(
        bounds, np.zeros((4, size)), np.zeros((3, size, size)), share, leading, n_rows // (2 * len(nh_nodes))
    )  # fmt: skip
    rows = np.empty((n_rows, n)) if n < rates.shape[1] else rates
    return Problem(
        spectra, statistic, rates, exposure, channel, all_start, start, rows,
        np.zeros((n_groups, n_rows)), np.zeros(n_rows, dtype=np.bool_), nh_nodes, box, np.zeros((3, n_groups, 4)),
        np.empty(n), vectors,
    )  # fmt: skip


@compiled(part=True)
def row_rates(problem: Problem, row: int) -> np.ndarray:
    """The rates of a folded node in the channels that matter; its totals are filled in, too."""
    if not problem.present[row]:
        problem.present[row] = True
        _fill_row(
            problem.rates[row], problem.exposure, problem.channel, problem.all_start, is_poisson(problem.statistic),
            problem.rows[row], problem.totals[:, row],
        )  # fmt: skip
    return problem.rows[row]


@compiled(part=True)
def _fill_row(rates, exposure, channel, all_start, is_linear, kept, totals):
    if len(channel) < len(rates):
        take(rates, channel, kept)
    if is_linear:
        for g in range(len(totals)):
            begin, end = all_start[g], all_start[g + 1]
            totals[g] = dot(rates[begin:end], exposure[begin:end])


@compiled(part=True)
def expected_source(problem: Problem, k: int, place: np.ndarray, columns: np.ndarray, first: int) -> np.ndarray:
    """Expected source counts in every channel.

    Parameters
    ----------
    problem : Problem
    k : int
        Interval.
    place : ndarray of float64, shape (n_parameters,)
    columns : ndarray of float64, shape (n,)
        Weights of the folded hydrogen columns, from the `first` on.
    first : int

    Returns
    -------
    ndarray of float64, shape (n_channels,)
    """
    source = np.zeros(len(problem.exposure))
    u, metals = place[KT] - k, place[ABUNDANCE]
    for i in range(len(columns)):
        for corner in range(4):
            row = 2 * (first + i) * problem.box.n_nodes + (corner % 2) * problem.box.n_nodes + k + corner // 2
            part = columns[i] * (metals if corner % 2 else 1.0 - metals) * (u if corner // 2 else 1.0 - u)
            rates = problem.rates[row]
            for j in range(len(source)):
                source[j] += part * rates[j]
    for g in range(len(problem.all_start) - 1):
        norm = group_norm(problem.box, place, g)
        for j in range(problem.all_start[g], problem.all_start[g + 1]):
            source[j] *= norm * problem.exposure[j]
    return source


@compiled(part=True)
def guess(
    rates: np.ndarray, exposure: np.ndarray, counts: np.ndarray, background: np.ndarray, n_nodes: int
) -> tuple[int, float]:
    """The node with about the hardness of the spectra, and the norm of their net counts.

    Hardness is the mean over the net counts of how much more of the hottest node's spectrum than of a cool one's is in
    their channels. It rises with the temperature.

    Parameters
    ----------
    rates : ndarray of float64, shape (n_rows, n_channels)
        Folded nodes [count/s]; those of one hydrogen column and abundance 1 are looked at.
    exposure, counts, background : ndarray of float64, shape (n_channels,)
        Exposure [s], observed counts, and about what background is in them.
    n_nodes : int

    Returns
    -------
    node : int
    norm : float
    """
    first = (len(rates) // (2 * n_nodes) // 3) * 2 * n_nodes + n_nodes
    hot, cool = rates[first + n_nodes - 1], rates[first + n_nodes // 3]
    contrast = np.zeros(len(exposure))
    net = everything = hardness = 0.0
    for i in range(len(exposure)):
        if exposure[i] > 0.0:
            everything += counts[i]
            net += counts[i] - background[i]
    net = max(net, 0.05 * everything)
    hot_total, cool_total = dot(hot, exposure), dot(cool, exposure)
    if not (net > 0.0 and hot_total > 0.0 and cool_total > 0.0):
        return n_nodes // 2, 0.0
    for i in range(len(exposure)):
        many, few = hot[i] * exposure[i] * net / hot_total, cool[i] * exposure[i] * net / cool_total
        everything = many + few + 2.0 * max(background[i], 0.0)
        if exposure[i] > 0.0 and everything > 0.0:
            contrast[i] = (many - few) / everything
            hardness += contrast[i] * (counts[i] - background[i]) / net
            contrast[i] *= exposure[i]
    low, high = 0, n_nodes - 1
    while high - low > 1:
        middle = (low + high) // 2
        if dot(contrast, rates[first + middle]) > hardness * dot(rates[first + middle], exposure):
            high = middle
        else:
            low = middle
    total = dot(rates[first + low], exposure)
    return low, net / (total if total > 0.0 else hot_total)


@compiled(part=True)
def group_norm(box: Box, place: np.ndarray, g: int) -> float:
    """Norm of a group at a point."""
    if len(box.share) == 1:
        return place[NORM]
    if g != box.leading:
        return place[NORM + g + (g < box.leading)]
    others = 0.0
    for other in range(len(box.share)):
        if other != g:
            others += box.share[other] * place[NORM + other + (other < g)]
    return (place[NORM] - others) / box.share[g]
