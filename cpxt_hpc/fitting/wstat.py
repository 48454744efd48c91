"""The Poisson likelihood with the background's own spectrum, profiled in each channel, as Sherpa's and XSPEC's wstat.

S and B are the counts of source and background data, r the factor from the background in S to that in B, c = 1 + r,
M the model and g the background in S, which is fitted channel by channel:

    W / 2 = M + c g - S ln(M + g) - B ln(r g) - S (1 - ln S) - B (1 - ln B), 0 ln 0 = 0.

With x = M + g at the best g: dW/dM / 2 = 1 - S / x, and S / x + B / g = c unless g = 0. W is convex in M, as a minimum
over some variables of a function that is convex in all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cpxt_hpc.fitting.logarithm import vector_log, weighted_log_sum
from cpxt_hpc.fitting.rows import BACKGROUND, COUNTS, EXPOSURE, FIRST_NODE, PULL, RATIO
from cpxt_hpc.fitting.vectors import expected_totals, take
from cpxt_hpc.science.compiled import REASSOCIATE, compiled

TINY = 1e-150
"""In place of 0 where a quotient of two zeros has no effect."""
LEAST_SCALE = 1e-12
"""In place of 0: the background data then say nothing."""


class WstatSpectra(NamedTuple):
    """The spectra of one region and of its background, all observations behind each other.

    Attributes
    ----------
    observed, blank : ndarray of float64, shape (n,)
        Counts S and B; 0 in the channels of observations that take no part.
    ratio : ndarray of float64, shape (n,)
        r, positive.
    exposure : ndarray of float64, shape (n,)
        Effective exposure [s]; 0 in the channels of observations that take no part.
    rates : ndarray of float64, shape (n_nodes, n)
        Expected source for norm 1 at each node [count/s].
    totals : ndarray of float64, shape (n_nodes,)
        Expected source counts for norm 1.
    constant : float
        -2 sum(S + B + S ln(exposure) - B ln(B / r)): what does not depend on the model.
    pull, weight : ndarray of float64, shape (n,)
        Of the model that was weighed last, with exposure e: S e / x and half the second derivative in the rate.
    fitted_background : ndarray of float64, shape (n,)
        g of that model [count].
    """

    observed: np.ndarray
    blank: np.ndarray
    ratio: np.ndarray
    exposure: np.ndarray
    rates: np.ndarray
    totals: np.ndarray
    constant: float
    pull: np.ndarray
    weight: np.ndarray
    fitted_background: np.ndarray


def prepare_wstat(
    counts: np.ndarray,
    blank_counts: np.ndarray,
    blank_scale: np.ndarray,
    rates: np.ndarray,
    exposure: np.ndarray,
    totals: np.ndarray | None,
) -> WstatSpectra:
    """Spectra for the profiled background; see `cpxt_hpc.fitting.statistics.prepare`."""
    if totals is None:
        totals = expected_totals(rates, exposure)
    observed, blank, ratio, pull, weight, fitted_background = np.empty((6, len(counts)))
    constant = _set_channels(counts, blank_counts, blank_scale, exposure, observed, blank, ratio)
    return WstatSpectra(observed, blank, ratio, exposure, rates, totals, constant, pull, weight, fitted_background)


@compiled
def _set_channels(counts, blank_counts, blank_scale, exposure, observed, blank, ratio):
    """Set the arrays of `WstatSpectra` and return its constant."""
    total = 0.0
    for i in range(len(counts)):
        observed[i] = counts[i] if exposure[i] > 0.0 else 0.0
        blank[i] = blank_counts[i] if exposure[i] > 0.0 and blank_scale[i] > 0.0 else 0.0
        ratio[i] = 1.0 / max(blank_scale[i], LEAST_SCALE)
        total += observed[i] + blank[i]
    logs = weighted_log_sum(blank, blank) - weighted_log_sum(blank, ratio) - weighted_log_sum(observed, exposure)
    return 2.0 * (logs - total)


@compiled(fastmath=REASSOCIATE, part=True)
def _background(observed: float, blank: float, c: float, model: float) -> tuple[float, float]:
    """The best g, and the root D of its quadratic equation, for one channel."""
    excess = c * model - observed - blank
    root = np.sqrt(excess * excess + 4.0 * c * blank * model)
    small = (root - excess) / (2.0 * c)
    large = 2.0 * blank * model / max(root + excess, TINY)
    return small if excess <= 0.0 else large, root


def weigh(spectra: WstatSpectra, model: np.ndarray) -> None:
    """Set ``spectra.pull``, ``spectra.weight`` and ``spectra.fitted_background`` to those of a model [count/s]."""
    observed, blank, ratio, exposure = spectra.observed, spectra.blank, spectra.ratio, spectra.exposure
    pull, weight, fitted_background = spectra.pull, spectra.weight, spectra.fitted_background
    for i in range(len(observed)):
        c = 1.0 + ratio[i]
        expected = exposure[i] * model[i]
        g, root = _background(observed[i], blank[i], c, expected)
        inverse = exposure[i] / max(expected + g, TINY)
        fitted_background[i] = g
        pull[i] = observed[i] * inverse
        weight[i] = pull[i] * inverse * (max(root, TINY) + blank[i] - c * g) / max(root, TINY)


def value(spectra: WstatSpectra, total: float) -> float:
    """The statistic of the model that was weighed last, whose expected source counts sum up to `total`."""
    background = 0.0
    for i in range(len(spectra.observed)):
        background += (1.0 + spectra.ratio[i]) * spectra.fitted_background[i]
    logs = weighted_log_sum(spectra.observed, spectra.pull) - weighted_log_sum(spectra.blank, spectra.fitted_background)
    return spectra.constant + 2.0 * (total + background + logs)


class WstatWork(NamedTuple):
    """The channels that have counts, as the search needs them; see `cpxt_hpc.fitting.filled`.

    Attributes
    ----------
    rows : ndarray of float64, shape (FIRST_NODE + n_nodes, n)
        In row `BACKGROUND` B, in row `RATIO` c.
    totals : ndarray of float64, shape (n_nodes,)
    total_counts : float
        Sum of S.
    constant : float
        sum(S ln S) - sum(B ln r), and sum(B ln c) over the channels without counts.
    blank_log_c : float
        sum(B ln c) over the channels with counts.
    """

    rows: np.ndarray
    totals: np.ndarray
    total_counts: float
    constant: float
    blank_log_c: float


def work_space(spectra: WstatSpectra, channel: np.ndarray) -> WstatWork:
    """Take these channels out of the spectra. In the others W is linear: 2 (M + B ln(c / r))."""
    rows = np.empty((FIRST_NODE + len(spectra.totals), len(channel)))
    take(spectra.observed, channel, rows[COUNTS])
    take(spectra.exposure, channel, rows[EXPOSURE])
    take(spectra.blank, channel, rows[BACKGROUND])
    take(spectra.ratio, channel, rows[RATIO])
    total_counts = 0.0
    for i in range(len(channel)):
        rows[RATIO, i] += 1.0
        total_counts += rows[COUNTS, i]
    blank_log_c = weighted_log_sum(rows[BACKGROUND], rows[RATIO])
    elsewhere = weighted_log_sum(spectra.blank, 1.0 + spectra.ratio) - blank_log_c
    constant = elsewhere - weighted_log_sum(spectra.blank, spectra.ratio) + weighted_log_sum(rows[COUNTS], rows[COUNTS])
    return WstatWork(rows, spectra.totals, total_counts, constant, blank_log_c)


def expected_background(spectra: WstatSpectra) -> np.ndarray:
    """Background counts to expect in every channel."""
    return spectra.blank / spectra.ratio


def sums(work: WstatWork, k: int, m: int, a: float, b: float) -> tuple[float, float, float, float, float]:
    """Sums of t F_k, t F_m, w F_k^2, w F_k F_m, w F_m^2 with t = S / x, w = dt/dM of the model M = a F_k + b F_m.

    With e = c M - S - B and the root D of e^2 + 4 c B M: x = (D + c M + S + B) / 2 c, w = t (D + e + 2 B) / (2 D x).
    """
    rows = work.rows
    k, m = FIRST_NODE + k, FIRST_NODE + m
    pull_a = pull_b = aa = ab = bb = 0.0
    for i in range(rows.shape[1]):
        low, high = rows[k, i], rows[m, i]
        scaled = rows[RATIO, i] * (a * low + b * high)
        both = rows[COUNTS, i] + rows[BACKGROUND, i]
        excess = scaled - both
        root = max(np.sqrt(excess * excess + 4.0 * scaled * rows[BACKGROUND, i]), TINY)
        sum_of_all = root + scaled + both
        quotient = 1.0 / (sum_of_all * root)
        inverse = 2.0 * rows[RATIO, i] * root * quotient
        t = rows[COUNTS, i] * inverse
        weight = 0.5 * t * inverse * (root + excess + 2.0 * rows[BACKGROUND, i]) * sum_of_all * quotient
        pull_a += t * low
        pull_b += t * high
        weighted_low, weighted_high = weight * low, weight * high
        aa += weighted_low * low
        ab += weighted_low * high
        bb += weighted_high * high
    return pull_a, pull_b, aa, ab, bb


def pull(work: WstatWork, k: int, m: int, a: float, b: float) -> None:
    """Set row `PULL` to the pulls t = S / x of the model a F_k + b F_m."""
    rows = work.rows
    k, m = FIRST_NODE + k, FIRST_NODE + m
    for i in range(rows.shape[1]):
        scaled = rows[RATIO, i] * (a * rows[k, i] + b * rows[m, i])
        both = rows[COUNTS, i] + rows[BACKGROUND, i]
        excess = scaled - both
        root = np.sqrt(excess * excess + 4.0 * scaled * rows[BACKGROUND, i])
        rows[PULL, i] = 2.0 * rows[RATIO, i] * rows[COUNTS, i] / max(root + scaled + both, TINY)


def dual(work: WstatWork, k: int, m: int, a: float, b: float, pulled: float) -> tuple[float, float]:
    """Value and slack of the dual of W / 2 at the pulls t = S / x of the model M = a F_k + b F_m.

    By Fenchel, for any pulls 0 <= t <= c with sum(t F) <= sum(F) for all F that a model is made of,

        W / 2 >= sum(S ln t + B ln((c - t) / r)):

    S ln x <= t x - S + S ln(S / t) and B ln g <= (c - t) g - B + B ln(B / (c - t)) in every channel. For pulls s t,
    0 < s <= 1, ln(c - s t) >= (1 - s) ln c + s ln(c - t), so that value + S ln s + (1 - s) slack is a bound, with
    slack = sum(B ln(c / (c - t))). `pulled`, sum(t M), is not needed.
    """
    rows = work.rows
    k, m = FIRST_NODE + k, FIRST_NODE + m
    logs = blank_logs = 0.0
    for i in range(rows.shape[1]):
        c = rows[RATIO, i]
        scaled = c * (a * rows[k, i] + b * rows[m, i])
        both = rows[COUNTS, i] + rows[BACKGROUND, i]
        excess = scaled - both
        root = np.sqrt(excess * excess + 4.0 * scaled * rows[BACKGROUND, i])
        x = max(root + scaled + both, TINY) / (2.0 * c)
        logs += rows[COUNTS, i] * vector_log(x)
        blank_logs += rows[BACKGROUND, i] * vector_log(c - rows[COUNTS, i] / x)
    return work.constant + blank_logs - logs, work.blank_log_c - blank_logs
