"""The fit of one set of spectra: best values, limits and status into a row of results."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from cpxt_hpc.fitting.limits import fit_kt_norm
from cpxt_hpc.fitting.region_spectra import RegionSpectra
from cpxt_hpc.fitting.results import FEW_COUNTS_BELOW, Flag, Status
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.statistics import Spectra, prepare_chi2gehrels, prepare_cstat

FITTED = ("kT", "kT_lo", "kT_hi", "norm", "norm_lo", "norm_hi", "stat")
"""Columns of a result in the order of `fit_kt_norm`."""


@dataclasses.dataclass(frozen=True)
class SpectralModel:
    """What is known of the model besides its folded rates.

    Attributes
    ----------
    kt_nodes_kev : ndarray of float64, shape (n_nodes,)
        Temperatures between which it is linear; the first and last bound the search.
    nh_nodes_1e22 : ndarray of float64, shape (n_nh,)
        Hydrogen columns at which it was folded.
    abundance, nh_1e22 : float
        Frozen values.
    """

    kt_nodes_kev: np.ndarray
    nh_nodes_1e22: np.ndarray
    abundance: float
    nh_1e22: float


OtherEngine = Callable[[np.ndarray, RegionSpectra, SpectralModel], None]
"""Writes values, limits, statistic, status and flags of its own fit into a row."""


def fit_spectra(
    row: np.ndarray,
    spectra: RegionSpectra,
    model: SpectralModel,
    settings: FitSettings,
    other_engine: OtherEngine | None = None,
) -> None:
    """Fit spectra and write the outcome into a row.

    Parameters
    ----------
    row : ndarray of RESULT_DTYPE, shape ()
        Gets every column but those that say which region it is, and ``seconds``.
    spectra : RegionSpectra
    model : SpectralModel
    settings : FitSettings
    other_engine : callable, optional
        Fits in place of the exact engine.
    """
    if not spectra.parts:
        row["status"] = Status.NO_EXPOSURE
        return
    used = [slice(spectra.start[part.position], spectra.start[part.position + 1]) for part in spectra.parts]
    row["n_obs"] = len(spectra.parts)
    row["observations_used"] = sum(1 << part.position for part in spectra.parts)
    n_norms = len(spectra.parts) if settings.norms_per_observation else 1
    row["dof"] = sum(int(each.stop - each.start) for each in used) - 1 - n_norms - settings.n_more_free
    background = spectra.background if settings.statistic == "cstat" else spectra.blank_scale * spectra.blank_counts
    background_counts = float(background.sum())
    counts = float(spectra.counts.sum())
    row["background_counts"] = background_counts
    row["net_counts"] = counts - background_counts
    row["abundance"], row["nH"] = model.abundance, model.nh_1e22
    # A sum is finite only if every term is.
    if not (math.isfinite(background_counts) and math.isfinite(spectra.exposure.sum())):
        row["status"] = Status.NOT_A_NUMBER
        return
    if counts < FEW_COUNTS_BELOW:
        row["flags"] = Flag.FEW_COUNTS
    if other_engine is not None:
        other_engine(row, spectra, model)
        return
    _fill_parameters(row, _prepared(spectra, settings), model.kt_nodes_kev)


def _prepared(spectra: RegionSpectra, settings: FitSettings) -> Spectra:
    rates = spectra.rates[0, 0]
    if settings.statistic == "cstat":
        return prepare_cstat(spectra.counts, spectra.background, rates, spectra.exposure)
    return prepare_chi2gehrels(spectra.counts, spectra.blank_counts, spectra.blank_scale, rates, spectra.exposure)


def _fill_parameters(row: np.ndarray, spectra: Spectra, kt_nodes_kev: np.ndarray) -> None:
    *values, lower_found, upper_found = fit_kt_norm(spectra, kt_nodes_kev)
    for name, value in zip(FITTED, values, strict=True):
        row[name] = value
    kt, _, _, norm, *_ = values
    if norm > 0.0 and not all(map(math.isfinite, values)):
        row["status"] = Status.NOT_A_NUMBER
    else:
        row["status"] = kt_status(kt, kt_nodes_kev[0], kt_nodes_kev[-1], lower_found, upper_found)


def kt_status(kt: float, lowest: float, highest: float, lower_found: bool, upper_found: bool) -> Status:
    """Status of a fit with values.

    Parameters
    ----------
    kt : float
        Best temperature [keV]; NaN where the best norm is 0.
    lowest, highest : float
        Searched range [keV].
    lower_found, upper_found : bool
        The limits lie inside the range.

    Returns
    -------
    Status
    """
    if not (lower_found or upper_found):
        return Status.KT_UNCONSTRAINED
    if kt == lowest:
        return Status.KT_AT_LOWER_BOUND
    if kt == highest:
        return Status.KT_AT_UPPER_BOUND
    if not lower_found:
        return Status.KT_LO_UNBOUND
    return Status.OK if upper_found else Status.KT_HI_UNBOUND
