"""The compiled entrances to fits with free abundance, hydrogen column and norms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cpxt_hpc.fitting.free_descent import follow
from cpxt_hpc.fitting.free_limits import limits_of_all, norm_limit_without_source
from cpxt_hpc.fitting.free_nh import column_weights
from cpxt_hpc.fitting.free_problem import ABUNDANCE, LOWER, NH, NORM, UPPER, expected_source, guess, new_problem
from cpxt_hpc.fitting.free_search import empty_tables, settle_intervals, visit_all, visit_what_matters
from cpxt_hpc.fitting.statistics import Spectra, value_of_model, weigh_model
from cpxt_hpc.science.compiled import compiled

FIRST_ABUNDANCE = 0.3
"""Where the search for a free abundance begins."""


class Given(NamedTuple):
    """What is given of a region and of the fit, besides the spectra of the channels that matter.

    Attributes
    ----------
    everything : Spectra
        Of all channels.
    statistic : int
        A value of `STATISTICS`.
    rates : ndarray of float64, shape (n_rows, n_channels)
    exposure, counts, background : ndarray of float64, shape (n_channels,)
        Exposure [s], observed counts, and about what background is in them.
    channel : ndarray of int64, shape (n,)
    all_start : ndarray of int64, shape (n_groups + 1,)
    share : ndarray of float64, shape (n_groups,)
    nh_nodes : ndarray of float64, shape (n_nh,)
    bounds : ndarray of float64, shape (3, n_parameters)
        See `cpxt_hpc.fitting.free_problem.Problem` for these.
    rise : float
        Of the statistic, at the limits.
    """

    everything: Spectra
    statistic: int
    rates: np.ndarray
    exposure: np.ndarray
    counts: np.ndarray
    background: np.ndarray
    channel: np.ndarray
    all_start: np.ndarray
    share: np.ndarray
    nh_nodes: np.ndarray
    bounds: np.ndarray
    rise: float


@compiled
def fit_one_norm(spectra: Spectra, given: Given, with_limits: bool) -> tuple:
    """Best fit and limits where the hydrogen column is frozen and all observations share one norm.

    Parameters
    ----------
    spectra : Spectra
        Of the channels that matter.
    given : Given
    with_limits : bool

    Returns
    -------
    k : int
        Interval of the best fit.
    place : ndarray of float64, shape (n_parameters,)
        Where it is, see `cpxt_hpc.fitting.free_problem`.
    limits, found : ndarray, shape (4, 2)
        See `cpxt_hpc.fitting.free_limits.limits_of_all`; none of a fit without source.
    source : ndarray of float64, shape (n_channels,)
        Expected source counts.
    statistic : float
        Of all channels.
    """
    problem = _problem(spectra, given, None)
    node, start = _start(given)
    nodes, intervals = empty_tables(problem)
    visit_what_matters(problem, nodes, intervals, given.rise, node, start)
    return _finish(problem, given, nodes, intervals, with_limits)


@compiled
def fit_column_and_norms(spectra: Spectra, given: Given, with_limits: bool, vectors: np.ndarray | None) -> tuple:
    """As `fit_one_norm`, with a free hydrogen column or several norms; `vectors` as in `Problem`."""
    problem = _problem(spectra, given, vectors)
    _, start = _start(given)
    nodes, intervals = empty_tables(problem)
    visit_all(problem, nodes, start)
    return _finish(problem, given, nodes, intervals, with_limits)


@compiled
def norm_limit(spectra: Spectra, given: Given, vectors: np.ndarray | None) -> float:
    """Upper limit of the norm of spectra without source."""
    problem = _problem(spectra, given, vectors)
    empty = np.zeros(given.bounds.shape[1])
    empty[NH] = given.bounds[LOWER, NH]
    best = value_of_model(spectra, _weigh_nothing(problem))
    return norm_limit_without_source(problem, best, given.rise)


@compiled(part=True)
def _weigh_nothing(problem):
    problem.model[:] = 0.0
    weigh_model(problem.spectra, problem.model)
    return 0.0


@compiled
def refit(spectra: Spectra, given: Given, k: int, place: np.ndarray, vectors: np.ndarray | None) -> np.ndarray:
    """The minimum downhill from a point of an interval."""
    problem = _problem(spectra, given, vectors)
    best = place.copy()
    follow(problem, k, best, np.int64(-1), k >= 0, np.int64(0), 0.0, k < 0, (np.inf, 1.0))
    return best


@compiled(part=True)
def _problem(spectra, given, vectors):
    return new_problem(
        spectra, given.statistic, given.rates, given.exposure, given.channel, given.all_start, given.share,
        given.nh_nodes, given.bounds, vectors,
    )  # fmt: skip


@compiled(part=True)
def _start(given):
    """Node and place where to begin."""
    bounds = given.bounds
    n_nodes = len(given.rates) // (2 * len(given.nh_nodes))
    node, norm = guess(given.rates, given.exposure, given.counts, given.background, n_nodes)
    start = np.full(bounds.shape[1], norm)
    start[ABUNDANCE] = min(max(FIRST_ABUNDANCE, bounds[LOWER, ABUNDANCE]), bounds[UPPER, ABUNDANCE])
    start[NH] = bounds[LOWER, NH]
    return node, start


@compiled(part=True)
def _finish(problem, given, nodes, intervals, with_limits):
    k = settle_intervals(problem, nodes, intervals, given.rise)
    place = intervals[k, : given.bounds.shape[1]].copy()
    limits, found = np.full((4, 2), np.nan), np.zeros((4, 2), dtype=np.bool_)
    if with_limits and place[NORM] > 0.0:
        limits_of_all(problem, nodes, intervals, k, given.rise, limits, found)
    first, columns = 0, np.ones((1, 1))
    if len(given.nh_nodes) > 1:
        first, columns = column_weights(given.nh_nodes, place[NH])
    source = expected_source(problem, k, place, columns[0], first)
    total = 0.0
    model = np.zeros(len(source))
    for i in range(len(source)):
        total += source[i]
        if given.exposure[i] > 0.0:
            model[i] = source[i] / given.exposure[i]
    weigh_model(given.everything, model)
    return k, place, limits, found, source, value_of_model(given.everything, total)
