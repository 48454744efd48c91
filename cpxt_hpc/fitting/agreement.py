"""Do the observations of a joint fit agree? A score test at the joint best fit, which costs one pass over the channels.

Each observation j pulls the shared kT and norm its own way: g_j is half the gradient of its statistic there, H_j half
the expected curvature. Were the model true for all of them, sum(g_j H_j^-1 g_j) would follow chi-square with two
degrees of freedom an observation, less the two that were fitted; a gain, an effective area or a background that is
wrong in one of them shows. -H_j^-1 g_j is one Newton step from the joint values to those of observation j alone.
"""

from __future__ import annotations

import itertools

import numpy as np

from cpxt_hpc.science.compiled import REASSOCIATE, compiled
from cpxt_hpc.science.significance import gaussian_sigma

SINGULAR = 1e-9
"""Up to this determinant, relative to the product of the diagonal, kT and norm cannot be told apart."""


def cstat_derivatives(counts: np.ndarray, mu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First derivative of cstat in the model counts of each channel, and the expected second one.

    Parameters
    ----------
    counts : ndarray of float64, shape (n,)
    mu : ndarray of float64, shape (n,)
        Expected counts, source and background.

    Returns
    -------
    first, curvature : ndarray of float64, shape (n,)
        0 where mu is 0.
    """
    curvature = np.divide(2.0, mu, out=np.zeros_like(mu), where=mu > 0.0)
    return (mu - counts) * curvature, curvature


def wstat_derivatives(
    counts: np.ndarray, model: np.ndarray, blank_counts: np.ndarray, blank_scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """As `cstat_derivatives`, of wstat.

    Parameters
    ----------
    counts, model : ndarray of float64, shape (n,)
        Counts of the observation, and those expected of the source alone.
    blank_counts, blank_scale : ndarray of float64, shape (n,)
        Counts of its background data set, and the factor from these to the background; 0 in channels without part.

    Notes
    -----
    With the background g profiled and x = model + g: first = 2 (1 - S / x), curvature = 2 / (x + scale g), the inverse
    of the variance of S - scale B.
    """
    used = blank_scale > 0.0
    ratio = np.divide(1.0, blank_scale, out=np.zeros_like(model), where=used)
    c = 1.0 + ratio
    t = c * model - counts - blank_counts
    root = np.sqrt(t * t + 4.0 * c * blank_counts * model)
    # Two forms of one root of the quadratic equation for g, each where it does not cancel.
    upper = 2.0 * blank_counts * model
    g = np.where(t > 0.0, upper / np.where(t > 0.0, root + t, 1.0), 0.5 * (root - t) / c)
    x = model + g
    used &= x > 0.0
    curvature = np.divide(2.0, x + blank_scale * g, out=np.zeros_like(x), where=used)
    return 2.0 * (used - np.divide(counts, x, out=np.zeros_like(x), where=used)), curvature


def chi2_derivatives(net: np.ndarray, model: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `cstat_derivatives`, of chi2 = sum(weight (net - model)^2), weight = 1 / sigma^2."""
    return 2.0 * weight * (model - net), 2.0 * weight


@compiled
def disagreement(
    first: np.ndarray, curvature: np.ndarray, by_kt: np.ndarray, by_norm: np.ndarray, start: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """How far the observations of a joint fit disagree, and where each of them would go.

    Parameters
    ----------
    first, curvature : ndarray of float64, shape (n_channels,)
        First and expected second derivatives of the statistic in the model counts, all observations behind each other.
    by_kt, by_norm : ndarray of float64, shape (n_channels,)
        Derivatives of the model counts in kT [1/keV] and norm, at the joint best fit; 0 in the channels of observations
        that take no part.
    start : ndarray of int64, shape (n_observations + 1,)
        Where each observation's channels start.

    Returns
    -------
    sigma : float
        Gaussian equivalent of the chance that consistent observations disagree as much or more; NaN where fewer than
        two take part.
    kt_steps, norm_steps : ndarray of float64, shape (n_observations,)
        From the joint kT and norm to the observation's own, to first order; NaN where it tells nothing of them.

    Notes
    -----
    What the common gradient explains is taken out, so that the joint values may lie at a bound, or be a little off the
    minimum: T = sum(g_j H_j^-1 g_j) - G H^-1 G, G and H the sums, of rank(H_j) summed less rank(H) degrees of freedom.
    With norm 0 the norms alone are compared. Other free parameters are held at their joint values, which makes T a
    little small. Where chi2's errors are not the true ones (Gehrels' are larger), T is off by the ratio of variances.
    """
    n = len(start) - 1
    kt_steps, norm_steps = np.full(n, np.nan), np.full(n, np.nan)
    chi_square, dof = 0.0, 0
    sum_kt = sum_norm = sum_kt_kt = sum_kt_norm = sum_norm_norm = 0.0
    for j in range(n):
        own = slice(start[j], start[j + 1])
        g_kt, g_norm, kt_kt, kt_norm, norm_norm = _score(first[own], curvature[own], by_kt[own], by_norm[own])
        explained, rank, kt_steps[j], norm_steps[j] = _newton(g_kt, g_norm, kt_kt, kt_norm, norm_norm)
        chi_square += explained
        dof += rank
        sum_kt, sum_norm = sum_kt + g_kt, sum_norm + g_norm
        sum_kt_kt, sum_kt_norm = sum_kt_kt + kt_kt, sum_kt_norm + kt_norm
        sum_norm_norm += norm_norm
    explained, rank, _, _ = _newton(sum_kt, sum_norm, sum_kt_kt, sum_kt_norm, sum_norm_norm)
    return gaussian_sigma(chi_square - explained, dof - rank), kt_steps, norm_steps


def kt_disagreement(
    first: np.ndarray, curvature: np.ndarray, by_kt: np.ndarray, by_norm: np.ndarray, start: np.ndarray
) -> tuple[float, np.ndarray]:
    """How far the observations disagree in kT alone, where each has a norm of its own.

    Parameters
    ----------
    first, curvature, by_kt, start
        As for `disagreement`.
    by_norm : ndarray of float64, shape (n_channels,)
        Derivative of the model counts of each observation in its own norm.

    Returns
    -------
    sigma : float
        As of `disagreement`, of one degree of freedom for each observation but one.
    kt_steps : ndarray of float64, shape (n_observations,)
        From the joint kT to the observation's own.
    """
    profiled = np.zeros_like(by_kt)
    for begin, end in itertools.pairwise(start):
        part = slice(begin, end)
        weighted = curvature[part] * by_norm[part]
        norm_norm = weighted @ by_norm[part]
        if norm_norm > 0.0:
            # The change with kT when the norm follows.
            profiled[part] = by_kt[part] - (weighted @ by_kt[part] / norm_norm) * by_norm[part]
    sigma, _, kt_steps = disagreement(first, curvature, np.zeros_like(profiled), profiled, start)
    return sigma, kt_steps


@compiled(fastmath=REASSOCIATE, part=True)
def _score(
    first: np.ndarray, curvature: np.ndarray, by_kt: np.ndarray, by_norm: np.ndarray
) -> tuple[float, float, float, float, float]:
    """Half the gradient in kT and norm, and half the expected second derivatives, summed over channels."""
    g_kt = g_norm = kt_kt = kt_norm = norm_norm = 0.0
    for i in range(len(first)):
        g_kt += first[i] * by_kt[i]
        g_norm += first[i] * by_norm[i]
        weighted = curvature[i] * by_norm[i]
        kt_kt += curvature[i] * by_kt[i] * by_kt[i]
        kt_norm += weighted * by_kt[i]
        norm_norm += weighted * by_norm[i]
    return 0.5 * g_kt, 0.5 * g_norm, 0.5 * kt_kt, 0.5 * kt_norm, 0.5 * norm_norm


@compiled(part=True)
def _newton(
    g_kt: float, g_norm: float, kt_kt: float, kt_norm: float, norm_norm: float
) -> tuple[float, int, float, float]:
    """Return g H^-1 g, the rank of H, and -H^-1 g; the norm alone where H is singular."""
    if norm_norm <= 0.0:
        return 0.0, 0, np.nan, np.nan
    determinant = kt_kt * norm_norm - kt_norm * kt_norm
    if determinant <= SINGULAR * kt_kt * norm_norm:
        step = -g_norm / norm_norm
        return -g_norm * step, 1, np.nan, step
    kt_step = (kt_norm * g_norm - norm_norm * g_kt) / determinant
    norm_step = (kt_norm * g_kt - kt_kt * g_norm) / determinant
    return -g_kt * kt_step - g_norm * norm_step, 2, kt_step, norm_step
