"""The Poisson likelihood with a known background: C = 2 sum(mu - S + S ln(S / mu)), as Sherpa and XSPEC have it.

S are the counts and mu = b + M the expected ones, of background b and model M.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cpxt_hpc.fitting.logarithm import vector_log, weighted_log_sum
from cpxt_hpc.fitting.rows import BACKGROUND, COUNTS, EXPOSURE, FIRST_NODE, PULL
from cpxt_hpc.fitting.vectors import expected_totals, take
from cpxt_hpc.science.compiled import REASSOCIATE, compiled

SMALLEST_EXPECTED = 1e-25
"""Sherpa's ``trunc_value``: expected counts of a channel in which neither background nor source has any."""


class CstatSpectra(NamedTuple):
    """The spectra of one region, all observations behind each other, for the Poisson likelihood.

    Attributes
    ----------
    observed : ndarray of float64, shape (n,)
        Counts.
    background : ndarray of float64, shape (n,)
        Expected background counts.
    exposure : ndarray of float64, shape (n,)
        Effective exposure [s]; 0 in the channels of observations that take no part.
    rates : ndarray of float64, shape (n_nodes, n)
        Expected source for norm 1 at each node [count/s].
    totals : ndarray of float64, shape (n_nodes,)
        Expected source counts for norm 1.
    constant : float
        2 sum(b - S - S ln(exposure)): what does not depend on the model.
    pull, weight : ndarray of float64, shape (n,)
        Of the model that was weighed last: S e / mu and S (e / mu)^2, for an exposure e.
    """

    observed: np.ndarray
    background: np.ndarray
    exposure: np.ndarray
    rates: np.ndarray
    totals: np.ndarray
    constant: float
    pull: np.ndarray
    weight: np.ndarray


def prepare_cstat(
    counts: np.ndarray, background: np.ndarray, rates: np.ndarray, exposure: np.ndarray, totals: np.ndarray | None
) -> CstatSpectra:
    """Spectra for the Poisson likelihood; see `cpxt_hpc.fitting.statistics.prepare`."""
    if totals is None:
        totals = expected_totals(rates, exposure)
    pull, weight = np.empty((2, len(counts)))
    constant = _constant(counts, background, exposure)
    return CstatSpectra(counts, background, exposure, rates, totals, constant, pull, weight)


@compiled
def _constant(counts, background, exposure):
    return 2.0 * (_excess(counts, background, exposure) - weighted_log_sum(counts, exposure))


@compiled(part=True)
def searchable(
    counts: np.ndarray, background: np.ndarray, rates: np.ndarray, exposure: np.ndarray, totals: np.ndarray
) -> CstatSpectra:
    """Spectra for the exact search alone, which weighs no models: constant, pulls and weights are left out."""
    nothing = np.empty(0)
    return CstatSpectra(counts, background, exposure, rates, totals, 0.0, nothing, nothing)


@compiled(fastmath=REASSOCIATE, part=True)
def _excess(counts, background, exposure):
    """Sum of background minus counts."""
    total = 0.0
    for i in range(len(counts)):
        total += background[i] - counts[i] if exposure[i] > 0.0 else 0.0
    return total


def weigh(spectra: CstatSpectra, model: np.ndarray) -> None:
    """Set ``spectra.pull`` and ``spectra.weight`` to those of a model [count/s]."""
    observed, background, exposure = spectra.observed, spectra.background, spectra.exposure
    pull, weight = spectra.pull, spectra.weight
    for i in range(len(observed)):
        inverse = exposure[i] / (max(background[i], SMALLEST_EXPECTED) + exposure[i] * model[i])
        pull[i] = observed[i] * inverse
        weight[i] = pull[i] * inverse


def value(spectra: CstatSpectra, total: float) -> float:
    """The statistic of the model that was weighed last, whose expected source counts sum up to `total`."""
    return spectra.constant + 2.0 * (total + weighted_log_sum(spectra.observed, spectra.pull))


class CstatWork(NamedTuple):
    """The channels that have counts, as the search needs them; see `cpxt_hpc.fitting.filled`.

    Attributes
    ----------
    rows : ndarray of float64, shape (FIRST_NODE + n_nodes, n)
        In row `BACKGROUND` the expected background, positive [count].
    totals : ndarray of float64, shape (n_nodes,)
    total_counts : float
    constant : float
        Sum over all channels of b - S + S ln S.
    """

    rows: np.ndarray
    totals: np.ndarray
    total_counts: float
    constant: float


def work_space(spectra: CstatSpectra, channel: np.ndarray) -> CstatWork:
    """Take these channels out of the spectra; the rows of the nodes are left open."""
    rows = np.empty((FIRST_NODE + len(spectra.totals), len(channel)))
    take(spectra.observed, channel, rows[COUNTS])
    take(spectra.exposure, channel, rows[EXPOSURE])
    take(spectra.background, channel, rows[BACKGROUND])
    total_counts = 0.0
    for i in range(len(channel)):
        rows[BACKGROUND, i] = max(rows[BACKGROUND, i], SMALLEST_EXPECTED)
        total_counts += rows[COUNTS, i]
    excess = _excess(spectra.observed, spectra.background, spectra.exposure)
    constant = excess + weighted_log_sum(rows[COUNTS], rows[COUNTS])
    return CstatWork(rows, spectra.totals, total_counts, constant)


@compiled(fastmath=REASSOCIATE, part=True)
def scale_background(work: CstatWork, factor: float) -> None:
    """Multiply the background by a factor. Values of the statistic are then off by a constant."""
    for i in range(work.rows.shape[1]):
        work.rows[BACKGROUND, i] *= factor


def expected_background(spectra: CstatSpectra) -> np.ndarray:
    """Background counts to expect in every channel."""
    return spectra.background


def sums(work: CstatWork, k: int, m: int, a: float, b: float) -> tuple[float, float, float, float, float]:
    """Sums of t F_k, t F_m, w F_k^2, w F_k F_m, w F_m^2 with t = S / mu, w = S / mu^2 of the model a F_k + b F_m."""
    rows = work.rows
    k, m = FIRST_NODE + k, FIRST_NODE + m
    pull_a = pull_b = aa = ab = bb = 0.0
    for i in range(rows.shape[1]):
        low, high = rows[k, i], rows[m, i]
        inverse = 1.0 / (rows[BACKGROUND, i] + a * low + b * high)
        t = rows[COUNTS, i] * inverse
        pull_a += t * low
        pull_b += t * high
        weighted_low, weighted_high = t * inverse * low, t * inverse * high
        aa += weighted_low * low
        ab += weighted_low * high
        bb += weighted_high * high
    return pull_a, pull_b, aa, ab, bb


def pull(work: CstatWork, k: int, m: int, a: float, b: float) -> None:
    """Set row `PULL` to the pulls t = S / mu of the model a F_k + b F_m."""
    rows = work.rows
    k, m = FIRST_NODE + k, FIRST_NODE + m
    for i in range(rows.shape[1]):
        rows[PULL, i] = rows[COUNTS, i] / (rows[BACKGROUND, i] + a * rows[k, i] + b * rows[m, i])


def dual(work: CstatWork, k: int, m: int, a: float, b: float, pulled: float) -> tuple[float, float]:
    """Value and slack of the dual of C / 2 at the pulls t = S / mu of the model M = a F_k + b F_m.

    `pulled` is sum(t M). By Fenchel, for any pulls t >= 0 with sum(t F) <= sum(F) for all F that a model is made of,

        C / 2 >= sum((1 - t) b) + sum(S ln t):

    S ln mu <= t mu - S + S ln(S / t) in every channel. Where s t are the pulls, 0 < s <= 1, this is
    value + S ln s + (1 - s) slack, and slack = sum(t b).
    """
    rows = work.rows
    k, m = FIRST_NODE + k, FIRST_NODE + m
    logs = 0.0
    for i in range(rows.shape[1]):
        logs += rows[COUNTS, i] * vector_log(rows[BACKGROUND, i] + a * rows[k, i] + b * rows[m, i])
    return work.constant + pulled - logs, work.total_counts - pulled
