"""What the statistic should be were the model true: its expectation and spread.

The expectation and variance of one channel's C-statistic depend on nothing but its expected counts mu (Kaastra 2017,
A&A 605, A51). They are tabulated here from the Poisson sums, good to 5e-7; Kaastra's formulas agree with them to 3e-4.

A fit makes its own statistic smaller than that of the true model. So one is subtracted for each free parameter, and
the variance is reduced by what the fit absorbs: where counts are few, C rises with the number of counts, which the
fitted norm follows. In simulated fits of kT and norm (200 channels; 3 and 8 keV, 10 and 50 % background, 300 to 10,000
counts, 600 fits a case, those with kT at an end of its range among them) (C - expected) / sigma then has means of -0.04
to 0.11, whose errors are 0.04, and scatters of 0.95 to 1.03; at 100 counts means up to 0.17 and scatters of 0.92 to
1.05. With neither, as Kaastra does, the means are about -0.1, and the scatters 0.82 to 0.94 at 100 counts.
"""

from __future__ import annotations

import math

import numpy as np

from cpxt_hpc.fitting.statistics import dot
from cpxt_hpc.science.compiled import compiled

KNOT_BITS = 4
"""Knots of the table: 2^4 in each power of two of mu, at equal distances."""
LOWEST_EXPONENT, HIGHEST_EXPONENT = -20, 6
"""The table spans mu from 2^-20 to 2^6. Below, channels with two counts and more do not matter; above, series hold."""
_FRACTION_BITS = 52 - KNOT_BITS
_FRACTION = np.int64((1 << _FRACTION_BITS) - 1)
_FIRST_KNOT = np.int64((1023 + LOWEST_EXPONENT) << KNOT_BITS)

IMPLIED = 1e-9
"""A parameter is implied by others if no more than this share of its information is its own."""
SPARSE_BELOW = 10.0
"""Counts a bin below which the distribution of wstat is not known; see `expected_statistic`."""


def cstat_moments(mu: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Expectation and variance of one channel's C-statistic by summing over the Poisson distribution.

    Parameters
    ----------
    mu : ndarray of float64, shape (n,)
        Expected counts, positive, up to some hundreds.

    Returns
    -------
    expected, variance, expected_slope, variance_slope : ndarray of float64, shape (n,)
        Of c = 2 (mu - N + N ln(N / mu)), and their derivatives in mu.
    """
    mu = np.asarray(mu, dtype=np.float64)[:, None]
    # Eleven standard deviations; at least the counts that matter to 1e-12 where mu is small.
    counts = np.arange(np.ceil(np.max(mu) + 11.0 * np.sqrt(np.max(mu)) + 12.0) + 1.0)
    log_counts = np.log(np.maximum(counts, 1.0))
    probability = np.exp(counts * np.log(mu) - mu - np.cumsum(log_counts))
    c = 2.0 * (mu - counts + counts * (log_counts - np.log(mu)))
    expected = np.sum(probability * c, axis=1)
    squared = (c - expected[:, None]) ** 2
    # d/dmu of an expectation over N is the expectation of the derivative and of the function times (N - mu) / mu.
    relative = counts / mu - 1.0
    return (
        expected,
        np.sum(probability * squared, axis=1),
        np.sum(probability * c * relative, axis=1),
        np.sum(probability * relative * (squared - 4.0 * (c - expected[:, None])), axis=1),
    )


def _moments_table() -> np.ndarray:
    """Polynomials in the place t between two knots, shape (n, 9): expectation, variance, 1 / distance of the knots."""
    per_octave = 1 << KNOT_BITS
    octave = 2.0 ** np.arange(LOWEST_EXPONENT, HIGHEST_EXPONENT)
    knots = np.append(np.outer(octave, 1.0 + np.arange(per_octave) / per_octave), 2.0**HIGHEST_EXPONENT)
    small = np.searchsorted(knots, 1.0)
    parts = zip(cstat_moments(knots[:small]), cstat_moments(knots[small:]), strict=True)
    expected, variance, expected_slope, variance_slope = (np.concatenate(part) for part in parts)
    distance = np.diff(knots)
    table = np.empty((len(distance), 9))
    for first, value, slope in ((0, expected, expected_slope), (4, variance, variance_slope)):
        rise, left, right = np.diff(value), slope[:-1] * distance, slope[1:] * distance
        table[:, first] = value[:-1]
        table[:, first + 1] = left
        table[:, first + 2] = 3.0 * rise - 2.0 * left - right
        table[:, first + 3] = left + right - 2.0 * rise
    table[:, 8] = 1.0 / distance
    return table


_TABLE = _moments_table()
_SMALLEST, _LARGEST = 2.0**LOWEST_EXPONENT, 2.0**HIGHEST_EXPONENT


@compiled(part=True)
def _channel_moments(mu: float, bits: int) -> tuple[float, float, float]:
    """Expectation of a channel's C-statistic, its variance, and the derivative of the expectation in mu."""
    if mu >= _LARGEST:
        x = 1.0 / mu  # series of the Poisson moments, exact fractions
        expected = 1.0 + x * (1 / 6 + x * (1 / 6 + x * (19 / 60 + x * (9 / 10 + x * (863 / 252)))))
        variance = 2.0 + x * (2 / 3 + x * (4 / 3 + x * (701 / 180 + x * (449 / 30 + x * (90329 / 1260)))))
        return expected, variance, -x * x * (1 / 6 + x * (1 / 3 + x * (19 / 20)))
    if mu >= _SMALLEST:
        row = _TABLE[(bits >> _FRACTION_BITS) - _FIRST_KNOT]
        t = (bits & _FRACTION) * (1.0 / (1 << _FRACTION_BITS))
        expected = row[0] + t * (row[1] + t * (row[2] + t * row[3]))
        variance = row[4] + t * (row[5] + t * (row[6] + t * row[7]))
        return expected, variance, row[8] * (row[1] + t * (2.0 * row[2] + 3.0 * t * row[3]))
    if mu > 0.0:
        log_mu = math.log(mu)
        return -2.0 * mu * log_mu, 4.0 * mu * (1.0 + log_mu) ** 2, -2.0 * (1.0 + log_mu)
    return 0.0 * mu, 0.0 * mu, 0.0 * mu


@compiled
def expected_cstat(mu: np.ndarray) -> tuple[float, float]:
    """Expectation and standard deviation of the C-statistic of a model that is known, not fitted.

    Parameters
    ----------
    mu : ndarray of float64, shape (n_channels,)
        Expected counts, source and background, not negative; contiguous.

    Returns
    -------
    expected, sigma : float
        NaN where a mu is NaN.
    """
    expected = variance = 0.0
    bits = mu.view(np.int64)
    for i in range(len(mu)):
        e, v, _ = _channel_moments(mu[i], bits[i])
        expected += e
        variance += v
    return expected, math.sqrt(variance)


@compiled
def expected_after_fit(mu: np.ndarray, gradients: np.ndarray) -> tuple[float, float]:
    """Expectation and standard deviation of the smallest C-statistic of a fit.

    Parameters
    ----------
    mu : ndarray of float64, shape (n_channels,)
        Expected counts of the best fit, source and background; contiguous.
    gradients : ndarray of float64, shape (n_parameters, n_channels)
        Derivatives of mu in the free parameters. One that is 0 everywhere, or that the others imply, does not count.

    Returns
    -------
    expected, sigma : float
        NaN where a number is NaN.

    Notes
    -----
    To first order in the shift of the parameters: expected = sum E[c] - n and sigma^2 = sum Var[c] - g F^-1 g, with
    n parameters, g the sum of (dE[c]/dmu) (gradient) and F their Fisher information. For c's covariance with the
    counts N is mu dE[c]/dmu, so that g F^-1 g is the part of C's variance that follows from the fitted parameters.
    """
    n, n_channels = gradients.shape
    expected = variance = 0.0
    slope, inverse = np.zeros(n_channels), np.zeros(n_channels)
    bits = mu.view(np.int64)
    for i in range(n_channels):
        e, v, slope[i] = _channel_moments(mu[i], bits[i])
        expected += e
        variance += v
        if mu[i] > 0.0:
            inverse[i] = 1.0 / mu[i]
    # The Fisher information with g as its last column; eliminating it leaves g F^-1 g.
    matrix, diagonal = np.zeros((n, n + 1)), np.zeros(n)
    for p in range(n):
        weighted = gradients[p] * inverse
        for q in range(p, n):
            matrix[p, q] = dot(weighted, gradients[q])
        matrix[p, n] = dot(slope, gradients[p])
        diagonal[p] = matrix[p, p]
    for p in range(n):
        if matrix[p, p] <= IMPLIED * diagonal[p]:
            continue
        expected -= 1.0
        variance -= matrix[p, n] * matrix[p, n] / matrix[p, p]
        for q in range(p + 1, n):
            factor = matrix[p, q] / matrix[p, p]
            for r in range(q, n + 1):
                matrix[q, r] -= factor * matrix[p, r]
    return expected, math.sqrt(variance)


def expected_statistic(statistic: str, mu: np.ndarray, gradients: np.ndarray, dof: int) -> tuple[float, float]:
    """Expectation and standard deviation of any of the statistics at its minimum.

    Parameters
    ----------
    statistic : str
        cstat, wstat, or a chi2.
    mu : ndarray of float64, shape (n_channels,)
        Expected counts of the best fit, source and background, in the channels that take part.
    gradients : ndarray of float64, shape (n_parameters, n_channels)
        As for `expected_after_fit`; only cstat uses them.
    dof : int
        Degrees of freedom.

    Returns
    -------
    expected, sigma : float
        cstat: see `expected_after_fit`. chi2: dof and sqrt(2 dof), for errors that are right (Gehrels' are too large:
        its chi2 lies below). wstat: the same, but NaN where the bins hold fewer than `SPARSE_BELOW` counts on average.

    Notes
    -----
    The distribution of wstat depends on both expected counts of a bin and on the scale, and no expansion about the
    profiled background holds where that has few counts. In simulated fits (41 bins of 12 channels, exposure ratio 1
    and 5, 10 and 50 % background; those whose kT lies inside its range) (W - dof) / sqrt(2 dof) has means of 0.0 to 0.3
    and scatters of 0.96 to 1.07 at 1000 counts and more, means up to 0.5 and scatters up to 1.13 at 300 and 500. In 500
    ungrouped channels the mean is 1.1 to 1.3 at 2500 counts and 50 % background.
    """
    if statistic == "cstat":
        return expected_after_fit(mu, gradients)
    if statistic == "wstat" and not (len(mu) and np.mean(mu) >= SPARSE_BELOW):
        return math.nan, math.nan
    return (float(dof), math.sqrt(2.0 * dof)) if dof > 0 else (math.nan, math.nan)
