"""All that a map tells of a region under cstat with kT and one norm free, in one compiled call.

A map has up to 10^5 regions: what is fitted, assessed and refitted for each one costs little more than the arithmetic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cpxt_hpc.fitting.agreement import disagreement
from cpxt_hpc.fitting.cstat import scale_background, searchable
from cpxt_hpc.fitting.exact import HIGH, LOW, find_minima, walk_downhill
from cpxt_hpc.fitting.filled import Filled
from cpxt_hpc.fitting.goodness import expected_after_fit
from cpxt_hpc.fitting.limits import limits_around
from cpxt_hpc.fitting.model_gradients import source_and_gradients
from cpxt_hpc.fitting.ranges import kt_at
from cpxt_hpc.fitting.vectors import expected_totals
from cpxt_hpc.science.compiled import compiled


class RegionFit(NamedTuple):
    """A fit of kT and norm, and what it is worth. Fields as the columns of a result.

    NaN from `kT_bkg_lo` on where the best norm is 0, and `disagreement` where fewer than two observations take part.
    """

    kT: float
    kT_lo: float
    kT_hi: float
    norm: float
    norm_lo: float
    norm_hi: float
    stat: float
    lower_found: bool
    upper_found: bool
    kT_bkg_lo: float
    kT_bkg_hi: float
    norm_bkg_lo: float
    norm_bkg_hi: float
    stat_expected: float
    stat_sigma: float
    disagreement: float


@compiled
def fit_cstat_region(
    counts: np.ndarray,
    background: np.ndarray,
    exposure: np.ndarray,
    rates: np.ndarray,
    kt_nodes: np.ndarray,
    start: np.ndarray,
    n_observations: int,
    delta_statistic: float,
    background_error: float,
) -> RegionFit:
    """Fit kT and norm.

    Parameters
    ----------
    counts, background, exposure : ndarray of float64, shape (n_channels,)
        Observed counts, expected background counts, effective exposure [s]; all 0 where an observation takes no part.
    rates : ndarray of float64, shape (n_nodes, n_channels)
        Source count rates for norm 1 [count/s].
    kt_nodes : ndarray of float64, shape (n_nodes,)
    start : ndarray of int64, shape (n + 1,)
        Where each observation's channels start.
    n_observations : int
        How many take part.
    delta_statistic : float
        Rise of the statistic at the limits.
    background_error : float
        Relative error of the background's level, below 1.

    Returns
    -------
    RegionFit
    """
    spectra = searchable(counts, background, rates, exposure, expected_totals(rates, exposure))
    filled, minima, k, at = find_minima(spectra, delta_statistic)
    kt, kt_lo, kt_hi, norm, norm_lo, norm_hi, statistic, lower, upper = limits_around(
        filled.work, minima, k, at, kt_nodes, delta_statistic
    )
    unknown = np.nan
    if not norm > 0.0:
        return RegionFit(
            kt, kt_lo, kt_hi, norm, norm_lo, norm_hi, statistic, lower, upper, unknown, unknown, unknown, unknown,
            unknown, unknown, unknown,
        )  # fmt: skip
    found = source_and_gradients(rates, exposure, kt_nodes, kt, norm)
    mu = found[0] + background
    expected, sigma = expected_after_fit(mu, found[1:])
    apart = unknown
    if n_observations > 1:
        first, curvature = np.zeros(len(mu)), np.zeros(len(mu))
        for i in range(len(mu)):
            if mu[i] > 0.0:
                curvature[i] = 2.0 / mu[i]
                first[i] = 2.0 - counts[i] * curvature[i]
        apart = disagreement(first, curvature, found[1], found[2], start)[0]
    bkg_kt_lo, bkg_kt_hi, bkg_norm_lo, bkg_norm_hi = background_range(
        filled, kt_nodes, k, minima[LOW, k], minima[HIGH, k], background_error
    )
    return RegionFit(
        kt, kt_lo, kt_hi, norm, norm_lo, norm_hi, statistic, lower, upper, bkg_kt_lo, bkg_kt_hi, bkg_norm_lo,
        bkg_norm_hi, expected, sigma, apart,
    )  # fmt: skip


@compiled(part=True)
def background_range(
    filled: Filled, kt_nodes: np.ndarray, k: int, a: float, b: float, error: float
) -> tuple[float, float, float, float]:
    """Range of the best kT and of the best norm while the background's level moves by its error.

    The best fit is in interval k, with the amplitudes a and b. The background in `filled` is used up.
    Where a moved background leaves no source at all, kT may be anything: its whole range.
    """
    norm_lo = norm_hi = a + b
    kt_lo = kt_hi = kt_at(kt_nodes, k, b / (a + b))
    level = 1.0
    for side in range(2):
        moved = 1.0 - error if side == 0 else 1.0 + error
        scale_background(filled.work, moved / level)
        level = moved
        k_there, a_there, b_there, _ = walk_downhill(filled, k, a, b)
        norm = a_there + b_there
        norm_lo, norm_hi = min(norm_lo, norm), max(norm_hi, norm)
        if norm > 0.0:
            kt_there = kt_at(kt_nodes, k_there, b_there / norm)
            kt_lo, kt_hi = min(kt_lo, kt_there), max(kt_hi, kt_there)
        else:
            kt_lo, kt_hi = kt_nodes[0], kt_nodes[-1]
    return kt_lo, kt_hi, norm_lo, norm_hi
