"""The fit statistics: value and derivatives as functions of the amplitudes of two temperature nodes.

Between the neighbouring nodes k and k + 1 the model is ``a F_k + b F_(k+1)`` with a, b >= 0, norm = a + b and
kT = (a T_k + b T_(k+1)) / norm. Every statistic here is convex in (a, b), which is what the search relies on.

A model enters in two steps: `weigh` gives every channel its pull, and all sums follow from the pulls.
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


FEW_FILLED = 0.85
"""Share of the channels that have counts up to which it pays to copy the rates of these alone."""


class Spectra(NamedTuple):
    """The spectra of one region, all observations behind each other, as the search needs them.

    Attributes
    ----------
    statistic : int
        A value of `STATISTICS`.
    observed : ndarray of float64, shape (n,)
        cstat: counts; chi2gehrels: background-subtracted counts.
    companion : ndarray of float64, shape (n,)
        cstat: expected background over exposure, positive [count/s]; chi2gehrels: 1 / sigma^2.
    rates : ndarray of float64, shape (n_nodes, n)
        Expected source for norm 1 at each node in these channels: cstat count/s, chi2gehrels counts.
    totals : ndarray of float64, shape (n_nodes,)
        cstat: expected source counts for norm 1 summed over all channels; chi2gehrels: 0.
    constant : float
        What does not depend on the model.
    pull, weight : ndarray of float64, shape (n,)
        Of the model that `weigh` saw last. cstat: S / mu and S / mu^2 of S counts where the rate mu is expected;
        chi2gehrels: residual / sigma^2 and 1 / sigma^2.
    """

    statistic: int
    observed: np.ndarray
    companion: np.ndarray
    rates: np.ndarray
    totals: np.ndarray
    constant: float
    pull: np.ndarray
    weight: np.ndarray


@compiled
def prepare_cstat(counts: np.ndarray, background: np.ndarray, rates: np.ndarray, exposure: np.ndarray) -> Spectra:
    """Spectra for the Poisson likelihood with a known background.

    Parameters
    ----------
    counts, background : ndarray of float64, shape (n_channels,)
        Observed counts; expected background counts. All observations behind each other.
    rates : ndarray of float64, shape (n_nodes, n_channels)
        Source count rates for norm 1 [count/s]; C order, writeable.
    exposure : ndarray of float64, shape (n_channels,)
        Effective exposure [s]; 0 in the channels of observations that take no part.

    Returns
    -------
    Spectra
        In each channel divided by its exposure, so that `rates` may serve as they are. In the channels that have no
        counts the statistic is 2 mu, linear in the amplitudes: the sums over all channels hold it, and where these
        channels are many, they are left out.
    """
    n_nodes, n_channels = rates.shape
    filled = np.empty(n_channels, dtype=np.int64)
    observed = np.zeros(n_channels)
    companion = np.ones(n_channels)
    n = 0
    constant = 0.0
    for i in range(n_channels):
        if exposure[i] > 0.0:
            constant += 2.0 * (background[i] - counts[i])
            if counts[i] > 0.0:
                filled[n] = i
                n += 1
                observed[i] = counts[i]
                companion[i] = max(background[i], SMALLEST_EXPECTED) / exposure[i]
                constant -= 2.0 * counts[i] * np.log(exposure[i])
    totals = np.empty(n_nodes)
    for k in range(n_nodes):
        totals[k] = dot(rates[k], exposure)
    if n > FEW_FILLED * n_channels:
        return Spectra(CSTAT, observed, companion, rates, totals, constant, np.empty(n_channels), np.empty(n_channels))
    kept = np.empty((n_nodes, n))
    for i in range(n):
        observed[i], companion[i] = observed[filled[i]], companion[filled[i]]
        for k in range(n_nodes):
            kept[k, i] = rates[k, filled[i]]
    return Spectra(CSTAT, observed[:n], companion[:n], kept, totals, constant, np.empty(n), np.empty(n))


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
    return Spectra(CHI2GEHRELS, net[:n], weight[:n], kept, np.zeros(n_nodes), 0.0, np.empty(n), np.empty(n))


@compiled(fastmath=REASSOCIATE, part=True)
def dot(first: np.ndarray, second: np.ndarray) -> float:
    """Sum of the products of two arrays."""
    total = 0.0
    for i in range(len(first)):
        total += first[i] * second[i]
    return total


@compiled(fastmath=REASSOCIATE, part=True)
def weigh(spectra: Spectra, k: int, m: int, a: float, b: float) -> None:
    """Set ``spectra.pull`` and ``spectra.weight`` to those of the model a F_k + b F_m, with a, b >= 0."""
    low, high = spectra.rates[k], spectra.rates[m]
    observed, companion, pull, weight = spectra.observed, spectra.companion, spectra.pull, spectra.weight
    if spectra.statistic == CSTAT:
        for i in range(len(observed)):
            inverse = 1.0 / (companion[i] + a * low[i] + b * high[i])
            pull[i] = observed[i] * inverse
            weight[i] = pull[i] * inverse
    else:
        for i in range(len(observed)):
            pull[i] = companion[i] * (observed[i] - a * low[i] - b * high[i])
            weight[i] = companion[i]


@compiled(part=True)
def weigh_model(spectra: Spectra, model: np.ndarray) -> None:
    """Set ``spectra.pull`` and ``spectra.weight`` to those of any model, in the units of ``spectra.rates``."""
    observed, companion, pull, weight = spectra.observed, spectra.companion, spectra.pull, spectra.weight
    if spectra.statistic == CSTAT:
        for i in range(len(observed)):
            inverse = 1.0 / (companion[i] + model[i])
            pull[i] = observed[i] * inverse
            weight[i] = pull[i] * inverse
    else:
        for i in range(len(observed)):
            pull[i] = companion[i] * (observed[i] - model[i])
            weight[i] = companion[i]


@compiled(part=True)
def value_of_model(spectra: Spectra, total: float) -> float:
    """The statistic of the model that was weighed last, whose terms linear in the model sum up to `total`."""
    if spectra.statistic == CSTAT:
        return spectra.constant + 2.0 * (total + weighted_log_sum(spectra.observed, spectra.pull))
    chi2 = 0.0
    for i in range(len(spectra.pull)):
        chi2 += spectra.pull[i] * spectra.pull[i] / spectra.weight[i]
    return chi2


@compiled(part=True)
def value(spectra: Spectra, k: int, m: int, a: float, b: float) -> float:
    """The statistic of the model a F_k + b F_m, which must be the one that was weighed last.

    cstat is C = 2 sum(mu - S + S ln(S / mu)) as XSPEC's and Sherpa's; chi2gehrels is sum((net - M)^2 / sigma^2).
    """
    return value_of_model(spectra, a * spectra.totals[k] + b * spectra.totals[m])


@compiled(part=True)
def slope(spectra: Spectra, k: int) -> float:
    """First derivative in the amplitude of node k, at the model that was weighed last."""
    return 2.0 * (spectra.totals[k] - dot(spectra.pull, spectra.rates[k]))


@compiled(fastmath=REASSOCIATE, part=True)
def derivatives(spectra: Spectra, k: int, m: int) -> tuple[float, float, float, float, float]:
    """First (a, b) and second (aa, ab, bb) derivatives of the statistic, at the model that was weighed last."""
    low, high = spectra.rates[k], spectra.rates[m]
    pull, weight = spectra.pull, spectra.weight
    pull_a = pull_b = aa = ab = bb = 0.0
    for i in range(len(pull)):
        pull_a += pull[i] * low[i]
        pull_b += pull[i] * high[i]
        weighted = weight[i] * low[i]
        aa += weighted * low[i]
        ab += weighted * high[i]
        bb += weight[i] * high[i] * high[i]
    return 2.0 * (spectra.totals[k] - pull_a), 2.0 * (spectra.totals[m] - pull_b), 2.0 * aa, 2.0 * ab, 2.0 * bb


@compiled
def statistic_value(spectra: Spectra, k: int, a: float, b: float) -> float:
    """The statistic at the amplitudes a and b, both >= 0, of the nodes k and k + 1."""
    weigh(spectra, k, k + 1, a, b)
    return value(spectra, k, k + 1, a, b)


@compiled
def statistic_derivatives(spectra: Spectra, k: int, a: float, b: float) -> tuple[float, float, float, float, float]:
    """First (a, b) and second (aa, ab, bb) derivatives of the statistic there."""
    weigh(spectra, k, k + 1, a, b)
    return derivatives(spectra, k, k + 1)
