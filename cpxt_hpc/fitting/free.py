"""Fits with more free parameters than temperature and one norm: abundance, hydrogen column, a norm an observation.

The folded model is linear in kT between nodes, linear in the abundance, and interpolated in the hydrogen column. What
is guaranteed of the minimum, and what is not, is told in `cpxt_hpc.fitting.free_search`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cpxt_hpc.fitting.free_kernel import Given, fit_column_and_norms, fit_one_norm, norm_limit, refit
from cpxt_hpc.fitting.free_nh import column_weights
from cpxt_hpc.fitting.free_problem import ABUNDANCE, FREE, KT, LOWER, NH, NORM, UPPER, channels_that_matter
from cpxt_hpc.fitting.statistics import CSTAT, Spectra, prepare

ABUNDANCE_MAX = 5.0
"""End of the searched range of abundances."""
NH_TOLERANCE = 1e-9
"""A frozen column must be the only folded one to this relative accuracy."""
_NO_RATES = np.zeros((0, 0))
_NO_TOTALS = np.zeros(0)


class FreeFit(NamedTuple):
    """The best fit of a region with its limits.

    Attributes
    ----------
    kT, kT_lo, kT_hi : float
        Temperature [keV]; NaN and the ends of the range where the best norm is 0. So are all free parameters.
    norm, norm_lo, norm_hi : float
        With a norm for each observation: their mean, weighted with the counts expected from each.
    abundance, abundance_lo, abundance_hi : float
        Limits NaN where frozen.
    nH, nH_lo, nH_hi : float
        Hydrogen column [10^22 cm^-2]; limits NaN where frozen.
    statistic : float
    kT_found, norm_found, abundance_found, nH_found : tuple of bool
        Whether the lower and the upper limit were found: else the profile stays below the level up to the end of the
        range, which is given as limit.
    norms : ndarray of float64, shape (n_norms,)
        Of each observation that takes part, or the one that they share.
    share : ndarray of float64, shape (n_norms,)
        Their weights in `norm`.
    source : ndarray of float64, shape (n_channels,)
        Expected counts of the source.
    interval : int
    place : ndarray of float64, shape (3 + n_norms,)
        Where the best fit is, and
    given : Given
    kt_nodes : ndarray of float64, shape (n_nodes,)
        what was fitted, as `refit_free` wants them.
    """

    kT: float
    kT_lo: float
    kT_hi: float
    norm: float
    norm_lo: float
    norm_hi: float
    abundance: float
    abundance_lo: float
    abundance_hi: float
    nH: float
    nH_lo: float
    nH_hi: float
    statistic: float
    kT_found: tuple[bool, bool]
    norm_found: tuple[bool, bool]
    abundance_found: tuple[bool, bool]
    nH_found: tuple[bool, bool]
    norms: np.ndarray
    share: np.ndarray
    source: np.ndarray
    interval: int
    place: np.ndarray
    given: Given
    kt_nodes: np.ndarray


def fit_free(
    statistic_code: int,
    counts: np.ndarray,
    background: np.ndarray,
    blank_counts: np.ndarray,
    blank_scale: np.ndarray,
    rates: np.ndarray,
    exposure: np.ndarray,
    kt_nodes: np.ndarray,
    nh_nodes_1e22: np.ndarray,
    *,
    abundance: float,
    nh_1e22: float,
    free_abundance: bool,
    free_nh: bool,
    observation_start: np.ndarray,
    norms_per_observation: bool = False,
    delta_statistic: float = 1.0,
    abundance_max: float = ABUNDANCE_MAX,
    limits: bool = True,
) -> FreeFit:
    """Fit one region.

    Parameters
    ----------
    statistic_code : int
        A value of `cpxt_hpc.fitting.statistics.STATISTICS`.
    counts, background, blank_counts, blank_scale, exposure : ndarray of float64, shape (n_channels,)
        As `cpxt_hpc.fitting.statistics.prepare` takes them, all observations behind each other.
    rates : ndarray of float64, shape (n_nh, 2, n_nodes, n_channels)
        Folded model for norm 1 at abundance 0 and 1 [count/s].
    kt_nodes : ndarray of float64, shape (n_nodes,)
        Temperatures of the nodes [keV]; two at least.
    nh_nodes_1e22 : ndarray of float64, shape (n_nh,)
        Hydrogen columns at which the model was folded; `cpxt_hpc.fitting.free_nh.nh_grid` where it is free.
    abundance, nh_1e22 : float
        The frozen values; without effect on what is free.
    free_abundance, free_nh : bool
    observation_start : ndarray of int, shape (n_observations,)
        First channel of each observation that takes part.
    norms_per_observation : bool
        Each observation has its own norm.
    delta_statistic : float
        Rise of the statistic at the limits.
    abundance_max : float
        End of the range of a free abundance.
    limits : bool
        False: the best fit alone; limits are NaN.

    Returns
    -------
    FreeFit

    Raises
    ------
    ValueError
        The hydrogen column is free but folded only once, or frozen at a value outside the folded ones.
    """
    rates, nh_nodes = _rows_and_columns(rates, nh_nodes_1e22, nh_1e22, free_nh)
    arrays = (counts, background, blank_counts, blank_scale, exposure)
    everything = _spectra(statistic_code, arrays)
    channel = channels_that_matter(statistic_code, counts, exposure)
    fewer = len(channel) < len(counts)
    spectra = _spectra(statistic_code, [each[channel] for each in arrays]) if fewer else everything
    one = np.array([0, len(counts)], dtype=np.int64)
    groups = _groups(observation_start, len(counts)) if norms_per_observation else one
    several = len(groups) > 2
    free, frozen = (free_abundance, free_nh), (abundance, nh_1e22)
    bounds = _bounds(len(kt_nodes), nh_nodes, free, frozen, abundance_max, 1)
    given = Given(
        everything, statistic_code, rates, exposure, counts,
        background if statistic_code == CSTAT else blank_scale * blank_counts,
        channel, one, np.ones(1), nh_nodes, bounds, float(delta_statistic),
    )  # fmt: skip
    vectors = np.empty((3, 4, len(channel))) if free_nh else None
    with_limits = limits and not several
    if free_nh:
        best = fit_column_and_norms(spectra, given, with_limits, vectors)
    else:
        best = fit_one_norm(spectra, given, with_limits)
    if several:
        share = np.add.reduceat(best[4], groups[:-1])
        share = share / share.sum() if share.sum() > 0.0 else np.full(len(share), 1.0 / len(share))
        bounds = _bounds(len(kt_nodes), nh_nodes, free, frozen, abundance_max, len(share))
        given = given._replace(all_start=groups, share=share, bounds=bounds)
        best = fit_column_and_norms(spectra, given, limits, vectors)
    if limits and not best[1][NORM] > 0.0:
        best[2][NORM] = 0.0, norm_limit(spectra, given, vectors)
        best[3][NORM, 1] = True
    return _outcome(given, kt_nodes, free, *best)


def refit_free(
    fit: FreeFit, counts: np.ndarray, background: np.ndarray, blank_counts: np.ndarray, blank_scale: np.ndarray
) -> tuple[float, float]:
    """The minimum nearest to a best fit after a small change of the spectra, of their background for instance.

    Parameters
    ----------
    fit : FreeFit
        Of the spectra before the change; its norm is not 0.
    counts, background, blank_counts, blank_scale : ndarray of float64, shape (n_channels,)
        The changed spectra, as `fit_free` takes them.

    Returns
    -------
    kT, norm : float
        The norms of the observations are weighted as in `fit`. NaN and 0 where the best norm is 0.
    """
    before = fit.given
    spectra = _spectra(before.statistic, (counts, background, blank_counts, blank_scale, before.exposure))
    given = before._replace(everything=spectra, channel=np.arange(len(counts)), counts=counts, background=background)
    vectors = np.empty((3, 4, len(counts))) if given.bounds[FREE, NH] > 0.0 else None
    place = refit(spectra, given, fit.interval, fit.place, vectors)
    norm = float(place[NORM])
    return _temperature(fit.kt_nodes, place[KT]) if norm > 0.0 else np.nan, norm


def _rows_and_columns(rates, nh_nodes, nh_1e22, free_nh):
    """Rates with one row for each folded node, and the columns that matter."""
    n_columns = len(nh_nodes)
    if free_nh and n_columns < 2:
        raise ValueError(f"nH is free, but the model is folded at {n_columns} column: fold it at those of nh_grid(nH)")
    if not free_nh and n_columns > 1:
        if not nh_nodes[0] <= nh_1e22 <= nh_nodes[-1]:
            raise ValueError(f"nH = {nh_1e22} lies outside the folded columns, {nh_nodes[0]} to {nh_nodes[-1]}")
        first, weights = column_weights(nh_nodes, nh_1e22)
        rates = np.tensordot(weights[0], rates[first : first + weights.shape[1]], axes=1)
    elif not free_nh and abs(nh_nodes[0] - nh_1e22) > NH_TOLERANCE * nh_1e22:
        raise ValueError(f"nH = {nh_1e22} is frozen, but the model is folded at {nh_nodes[0]}")
    columns = nh_nodes if free_nh else np.array([float(nh_1e22)])
    return np.ascontiguousarray(rates).reshape(-1, rates.shape[-1]), columns


def _spectra(statistic_code, arrays) -> Spectra:
    """Spectra for weighing models: the search looks after the rates itself."""
    counts, background, blank_counts, blank_scale, exposure = arrays
    return prepare(statistic_code, counts, background, blank_counts, blank_scale, _NO_RATES, exposure, _NO_TOTALS)


def _groups(observation_start, n_channels):
    """Boundaries of the observations; channels between them have no exposure."""
    groups = np.append(np.asarray(observation_start, dtype=np.int64), n_channels)
    groups[0] = 0
    return groups


def _bounds(n_nodes, nh_nodes, free, frozen, abundance_max, n_norms):
    """Ends of the parameters' ranges, and which are fitted."""
    bounds = np.zeros((3, NORM + n_norms))
    bounds[UPPER], bounds[FREE] = np.inf, 1.0
    bounds[UPPER, :NORM] = n_nodes - 1, abundance_max, nh_nodes[-1]
    bounds[LOWER, NH] = nh_nodes[0]
    for parameter, is_free, value in ((ABUNDANCE, free[0], frozen[0]), (NH, free[1], frozen[1])):
        if not is_free:
            bounds[:, parameter] = value, value, 0.0
    return bounds


def _temperature(kt_nodes, place):
    """Temperature of a place among the nodes."""
    k = min(int(place), len(kt_nodes) - 2)
    u = place - k
    return float(kt_nodes[k + 1] if u == 1.0 else kt_nodes[k] + u * (kt_nodes[k + 1] - kt_nodes[k]))


def _group_norms(share, place):
    """The norms of the groups at a point: the leading one is what the others leave of the mean."""
    if len(share) == 1:
        return place[NORM:].copy()
    leading = int(np.argmax(share))
    norms = np.insert(place[NORM + 1 :], leading, 0.0)
    norms[leading] = (place[NORM] - np.dot(share, norms)) / share[leading]
    return norms


def _outcome(given, kt_nodes, free, k, place, limits, found, source, statistic):
    limits, found, (_, metals, nh, norm, *_) = limits.tolist(), found.tolist(), place.tolist()
    if norm > 0.0:
        temperatures = [_temperature(kt_nodes, x) if x == x else x for x in (place[KT], *limits[KT])]
    else:
        temperatures = [np.nan, float(kt_nodes[0]), float(kt_nodes[-1])]
        lower, upper, _ = given.bounds.tolist()
        if free[0]:
            metals, limits[ABUNDANCE] = np.nan, [lower[ABUNDANCE], upper[ABUNDANCE]]
        if free[1]:
            nh, limits[NH] = np.nan, [lower[NH], upper[NH]]
    return FreeFit(
        *temperatures, norm, *limits[NORM], metals, *limits[ABUNDANCE], nh, *limits[NH], statistic,
        *(tuple(found[i]) for i in (KT, NORM, ABUNDANCE, NH)),
        _group_norms(given.share, place), given.share, source, k, place, given, kt_nodes,
    )  # fmt: skip
