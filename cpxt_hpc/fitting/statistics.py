"""The fit statistics: value and derivatives as functions of the two amplitudes of an interval of temperature.

Between the neighbouring nodes k and k + 1 the model is ``a F_k + b F_(k+1)`` with a, b >= 0, norm = a + b and
kT = (a T_k + b T_(k+1)) / norm. Every statistic here is convex in (a, b), which is what the search relies on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cpxt_hpc.fitting.logarithm import weighted_log_sum
from cpxt_hpc.science.compiled import REASSOCIATE, compiled

CSTAT = 0
CHI2GEHRELS = 1
STATISTICS = {"cstat": CSTAT, "chi2gehrels": CHI2GEHRELS}

SMALLEST_EXPECTED = 1e-25
"""Sherpa's ``trunc_value``: expected counts of a channel in which neither background nor source has any."""


class Spectra(NamedTuple):
    """The spectra of one region, all observations behind each other, as the search needs them.

    Attributes
    ----------
    statistic : int
        A value of `STATISTICS`.
    observed : ndarray of float64, shape (n,)
        cstat: counts of the channels that have any; chi2gehrels: background-subtracted counts of all channels.
    companion : ndarray of float64, shape (n,)
        cstat: expected background counts, positive; chi2gehrels: 1 / sigma^2.
    rates : ndarray of float64, shape (n_nodes, n)
        Expected source counts for norm 1 at each node in these channels.
    totals : ndarray of float64, shape (n_nodes,)
        Expected source counts for norm 1 summed over all channels.
    constant : float
        What does not depend on the model.
    """

    statistic: int
    observed: np.ndarray
    companion: np.ndarray
    rates: np.ndarray
    totals: np.ndarray
    constant: float


@compiled
def prepare_cstat(counts: np.ndarray, background: np.ndarray, rates: np.ndarray, exposure: np.ndarray) -> Spectra:
    """Spectra for the Poisson likelihood with a known background.

    Parameters
    ----------
    counts, background : ndarray of float64, shape (n_channels,)
        Observed counts; expected background counts. All observations behind each other.
    rates : ndarray of float64, shape (n_nodes, n_channels)
        Source count rates for norm 1 [count/s].
    exposure : ndarray of float64, shape (n_channels,)
        Effective exposure [s]; 0 in the channels of observations that take no part.

    Returns
    -------
    Spectra
        Without the channels that have no counts: there the statistic is 2 mu, linear in the amplitudes, and the sums
        over all channels hold it.
    """
    n_nodes, n_channels = rates.shape
    filled = np.empty(n_channels, dtype=np.int64)
    observed = np.empty(n_channels)
    companion = np.empty(n_channels)
    n = 0
    constant = 0.0
    for i in range(n_channels):
        if exposure[i] > 0.0:
            constant += 2.0 * (background[i] - counts[i])
            if counts[i] > 0.0:
                filled[n] = i
                observed[n] = counts[i]
                companion[n] = max(background[i], SMALLEST_EXPECTED)
                n += 1
    kept = np.empty((n_nodes, n))
    totals = np.empty(n_nodes)
    for k in range(n_nodes):
        totals[k] = _dot(rates[k], exposure)
        for i in range(n):
            kept[k, i] = rates[k, filled[i]] * exposure[filled[i]]
    return Spectra(CSTAT, observed[:n], companion[:n], kept, totals, constant)


@compiled
def prepare_chi2gehrels(
    counts: np.ndarray, blank_counts: np.ndarray, blank_scale: np.ndarray, rates: np.ndarray, exposure: np.ndarray
) -> Spectra:
    """Spectra for chi2 of background-subtracted counts with Gehrels' errors.

    Parameters
    ----------
    counts, blank_counts : ndarray of float64, shape (n_channels,)
        Counts of the observations and of their background data sets.
    blank_scale : ndarray of float64, shape (n_channels,)
        Factor from `blank_counts` to the background in `counts`.
    rates, exposure
        As in `prepare_cstat`.

    Returns
    -------
    Spectra

    Notes
    -----
    sigma^2 = (1 + sqrt(S + 0.75))^2 + scale^2 (1 + sqrt(B + 0.75))^2 (Gehrels 1986, ApJ 303, 336), as Sherpa's
    Chi2Gehrels has it after ``subtract``.
    """
    n_nodes, n_channels = rates.shape
    used = np.empty(n_channels, dtype=np.int64)
    net = np.empty(n_channels)
    weight = np.empty(n_channels)
    n = 0
    for i in range(n_channels):
        if exposure[i] > 0.0:
            used[n] = i
            net[n] = counts[i] - blank_scale[i] * blank_counts[i]
            source_error = 1.0 + np.sqrt(counts[i] + 0.75)
            blank_error = blank_scale[i] * (1.0 + np.sqrt(blank_counts[i] + 0.75))
            weight[n] = 1.0 / (source_error * source_error + blank_error * blank_error)
            n += 1
    kept = np.empty((n_nodes, n))
    for k in range(n_nodes):
        for i in range(n):
            kept[k, i] = rates[k, used[i]] * exposure[used[i]]
    return Spectra(CHI2GEHRELS, net[:n], weight[:n], kept, np.zeros(n_nodes), 0.0)


@compiled(fastmath=REASSOCIATE)
def _dot(first, second):
    total = 0.0
    for i in range(len(first)):
        total += first[i] * second[i]
    return total


@compiled
def statistic_value(spectra: Spectra, k: int, a: float, b: float) -> float:
    """The statistic at the amplitudes a and b of the nodes k and k + 1.

    cstat is C = 2 sum(mu - S + S ln(S / mu)) as XSPEC's and Sherpa's, infinite where an observed count is
    impossible; chi2gehrels is sum((net - M)^2 / sigma^2).
    """
    if spectra.statistic == CSTAT:
        linear = a * spectra.totals[k] + b * spectra.totals[k + 1]
        return spectra.constant + 2.0 * (linear + _cstat_logs(spectra, k, a, b))
    return _chi2(spectra, k, a, b)


@compiled
def statistic_derivatives(spectra: Spectra, k: int, a: float, b: float) -> tuple:
    """First (a, b) and second (aa, ab, bb) derivatives of the statistic."""
    if spectra.statistic == CSTAT:
        return _cstat_derivatives(spectra, k, a, b)
    return _chi2_derivatives(spectra, k, a, b)


@compiled
def ray_derivatives(spectra: Spectra, k: int, u: float, norm: float) -> tuple[float, float]:
    """First and second derivative in the norm, with the part u of it in node k + 1."""
    if spectra.statistic == CSTAT:
        total = (1.0 - u) * spectra.totals[k] + u * spectra.totals[k + 1]
        pull, curvature = _cstat_along(spectra, k, norm * (1.0 - u), norm * u, 1.0 - u, u)
        return 2.0 * (total - pull), 2.0 * curvature
    pull, curvature = _chi2_along(spectra, k, norm * (1.0 - u), norm * u, 1.0 - u, u)
    return -2.0 * pull, 2.0 * curvature


@compiled
def cross_derivatives(spectra: Spectra, k: int, u: float, norm: float) -> tuple[float, float]:
    """First and second derivative in the part u of the norm that is in node k + 1, the norm fixed."""
    a, b = norm * (1.0 - u), norm * u
    if spectra.statistic == CSTAT:
        total = norm * (spectra.totals[k + 1] - spectra.totals[k])
        pull, curvature = _cstat_along(spectra, k, a, b, -norm, norm)
        return 2.0 * (total - pull), 2.0 * curvature
    pull, curvature = _chi2_along(spectra, k, a, b, -norm, norm)
    return -2.0 * pull, 2.0 * curvature


@compiled(fastmath=REASSOCIATE)
def _cstat_logs(spectra, k, a, b):
    """Sum of S ln(S / mu); infinite where a channel with counts expects none."""
    low, high = spectra.rates[k], spectra.rates[k + 1]
    ratio = np.empty(len(spectra.observed))
    impossible = 0
    for i in range(len(ratio)):
        expected = spectra.companion[i] + a * low[i] + b * high[i]
        impossible += expected <= 0.0
        ratio[i] = spectra.observed[i] / expected
    return np.inf if impossible else weighted_log_sum(spectra.observed, ratio)


@compiled(fastmath=REASSOCIATE)
def _cstat_derivatives(spectra, k, a, b):
    low, high = spectra.rates[k], spectra.rates[k + 1]
    slope_a = slope_b = aa = ab = bb = 0.0
    for i in range(len(spectra.observed)):
        inverse = 1.0 / (spectra.companion[i] + a * low[i] + b * high[i])
        share = spectra.observed[i] * inverse
        curvature = share * inverse
        slope_a += share * low[i]
        slope_b += share * high[i]
        aa += curvature * low[i] * low[i]
        ab += curvature * low[i] * high[i]
        bb += curvature * high[i] * high[i]
    return (
        2.0 * (spectra.totals[k] - slope_a),
        2.0 * (spectra.totals[k + 1] - slope_b),
        2.0 * aa,
        2.0 * ab,
        2.0 * bb,
    )


@compiled(fastmath=REASSOCIATE)
def _chi2(spectra, k, a, b):
    low, high = spectra.rates[k], spectra.rates[k + 1]
    total = 0.0
    for i in range(len(spectra.observed)):
        residual = spectra.observed[i] - a * low[i] - b * high[i]
        total += spectra.companion[i] * residual * residual
    return total


@compiled(fastmath=REASSOCIATE)
def _chi2_derivatives(spectra, k, a, b):
    low, high = spectra.rates[k], spectra.rates[k + 1]
    slope_a = slope_b = aa = ab = bb = 0.0
    for i in range(len(spectra.observed)):
        weight = spectra.companion[i]
        pull = weight * (spectra.observed[i] - a * low[i] - b * high[i])
        slope_a += pull * low[i]
        slope_b += pull * high[i]
        aa += weight * low[i] * low[i]
        ab += weight * low[i] * high[i]
        bb += weight * high[i] * high[i]
    return -2.0 * slope_a, -2.0 * slope_b, 2.0 * aa, 2.0 * ab, 2.0 * bb


@compiled(fastmath=REASSOCIATE)
def _cstat_along(spectra, k, a, b, step_a, step_b):
    """Sums for the derivatives along the direction (step_a, step_b)."""
    low, high = spectra.rates[k], spectra.rates[k + 1]
    pull = curvature = 0.0
    for i in range(len(spectra.observed)):
        inverse = 1.0 / (spectra.companion[i] + a * low[i] + b * high[i])
        change = (step_a * low[i] + step_b * high[i]) * inverse
        share = spectra.observed[i] * change
        pull += share
        curvature += share * change
    return pull, curvature


@compiled(fastmath=REASSOCIATE)
def _chi2_along(spectra, k, a, b, step_a, step_b):
    """Sums for the derivatives along the direction (step_a, step_b)."""
    low, high = spectra.rates[k], spectra.rates[k + 1]
    pull = curvature = 0.0
    for i in range(len(spectra.observed)):
        change = step_a * low[i] + step_b * high[i]
        share = spectra.companion[i] * change
        pull += share * (spectra.observed[i] - a * low[i] - b * high[i])
        curvature += share * change
    return pull, curvature
