"""What a fit with values is worth: how good it is, and whether its observations agree."""

from __future__ import annotations

import itertools

import numpy as np

from cpxt_hpc.fitting.agreement import (
    chi2_derivatives,
    cstat_derivatives,
    disagreement,
    kt_disagreement,
    wstat_derivatives,
)
from cpxt_hpc.fitting.goodness import expected_statistic
from cpxt_hpc.fitting.region_spectra import RegionSpectra
from cpxt_hpc.fitting.statistics import STATISTICS, prepare


def assess(
    row: np.ndarray,
    statistic: str,
    spectra: RegionSpectra,
    background: np.ndarray,
    source: np.ndarray,
    gradients: np.ndarray,
    *,
    own_norms: bool = False,
) -> None:
    """Write the expectation of the statistic and the disagreement of the observations into a row.

    Parameters
    ----------
    row : ndarray of RESULT_DTYPE, shape ()
        Its ``dof`` and ``n_obs`` are read.
    statistic : str
    spectra : RegionSpectra
    background : ndarray of float64, shape (n_channels,)
        Expected background counts.
    source : ndarray of float64, shape (n_channels,)
        Expected source counts of the best fit.
    gradients : ndarray of float64, shape (n_parameters, n_channels)
        Derivatives of `source`, kT and norm first.
    own_norms : bool
        Each observation has its own norm.
    """
    mu = source + background
    parameters = _with_own_norms(gradients, spectra.start) if own_norms else gradients
    taking_part = spectra.exposure > 0.0
    if taking_part.all():
        expectation = expected_statistic(statistic, mu, parameters, int(row["dof"]))
    else:
        chosen = np.ascontiguousarray(parameters[:, taking_part])
        expectation = expected_statistic(statistic, mu[taking_part], chosen, int(row["dof"]))
    row["stat_expected"], row["stat_sigma"] = expectation
    if row["n_obs"] < 2:
        return
    first, curvature = _derivatives(statistic, spectra, source, mu)
    compare = kt_disagreement if own_norms else disagreement
    row["disagreement"] = compare(first, curvature, gradients[0], gradients[1], spectra.start)[0]


def _with_own_norms(gradients: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Derivatives with one row for the norm of each observation, 0 in the others' channels."""
    norms = np.zeros((len(start) - 1, gradients.shape[1]))
    for own, (begin, end) in zip(norms, itertools.pairwise(start), strict=True):
        own[begin:end] = gradients[1, begin:end]
    return np.concatenate([gradients[:1], norms, gradients[2:]])


def _derivatives(
    statistic: str, spectra: RegionSpectra, source: np.ndarray, mu: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First and expected second derivatives of the statistic in the expected counts of each channel."""
    if statistic == "cstat":
        return cstat_derivatives(spectra.counts, mu)
    if statistic == "wstat":
        return wstat_derivatives(spectra.counts, source, spectra.blank_counts, spectra.blank_scale)
    no_rates = np.zeros((0, len(source)))
    prepared = prepare(
        STATISTICS[statistic], spectra.counts, spectra.background, spectra.blank_counts, spectra.blank_scale, no_rates,
        spectra.exposure,
    )  # fmt: skip
    squared = np.where(spectra.exposure > 0.0, spectra.exposure**2, 1.0)
    return chi2_derivatives(prepared.observed * spectra.exposure, source, prepared.companion / squared)
