"""Fits of kT and one norm by the exact engine, into a row of results."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cpxt_hpc.fitting.background_error import fill_background_range, level_error
from cpxt_hpc.fitting.limits import fit_kt_norm
from cpxt_hpc.fitting.region_spectra import RegionSpectra
from cpxt_hpc.fitting.results import Status, kt_status
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.spectral_model import SpectralModel
from cpxt_hpc.fitting.statistics import STATISTICS, Spectra, prepare

FITTED = ("kT", "kT_lo", "kT_hi", "norm", "norm_lo", "norm_hi", "stat")
"""Columns of a result in the order of `fit_kt_norm`."""


def fill_cstat(row: np.ndarray, spectra: RegionSpectra, model: SpectralModel, settings: FitSettings) -> None:
    """Fit kT and one norm under cstat, and assess the fit.

    Parameters
    ----------
    row : ndarray of RESULT_DTYPE, shape ()
        Gets values, limits, statistic, status and what they are worth.
    spectra : RegionSpectra
    model : SpectralModel
    settings : FitSettings
    """
    # Other statistics' users do not load it.
    from cpxt_hpc.fitting.cstat_region import fit_cstat_region

    fit = fit_cstat_region(
        spectra.counts, spectra.background, spectra.exposure, spectra.rates[0, 0], model.kt_nodes_kev, spectra.start,
        len(spectra.parts), float(settings.delta_statistic), level_error(spectra, settings),
    )  # fmt: skip
    row["kT"], row["kT_lo"], row["kT_hi"] = fit.kT, fit.kT_lo, fit.kT_hi
    row["norm"], row["norm_lo"], row["norm_hi"] = fit.norm, fit.norm_lo, fit.norm_hi
    row["kT_bkg_lo"], row["kT_bkg_hi"] = fit.kT_bkg_lo, fit.kT_bkg_hi
    row["norm_bkg_lo"], row["norm_bkg_hi"] = fit.norm_bkg_lo, fit.norm_bkg_hi
    row["stat"], row["stat_expected"], row["stat_sigma"] = fit.stat, fit.stat_expected, fit.stat_sigma
    row["disagreement"] = fit.disagreement
    row["status"] = fit_status(fit[: len(FITTED)], model.kt_nodes_kev, fit.lower_found, fit.upper_found)


def fill_kt_norm(row: np.ndarray, spectra: RegionSpectra, model: SpectralModel, settings: FitSettings) -> None:
    """Fit kT and one norm under any other statistic; the row gets values, limits, statistic and status."""
    kt_nodes = model.kt_nodes_kev

    def prepared(factor: float) -> Spectra:
        return prepare(
            STATISTICS[settings.statistic], spectra.counts, spectra.background, spectra.blank_counts,
            factor * spectra.blank_scale, spectra.rates[0, 0], spectra.exposure,
        )  # fmt: skip

    def best_at(factor: float) -> tuple[float, float]:
        moved = fit_kt_norm(prepared(factor), kt_nodes, settings.delta_statistic)
        return moved[0], moved[3]

    *values, lower_found, upper_found = fit_kt_norm(prepared(1.0), kt_nodes, settings.delta_statistic)
    for name, value in zip(FITTED, values, strict=True):
        row[name] = value
    status = fit_status(values, kt_nodes, lower_found, upper_found)
    row["status"] = status
    if status != Status.NOT_A_NUMBER and values[3] > 0.0:
        ends = (float(kt_nodes[0]), float(kt_nodes[-1]))
        fill_background_range(row, ends, level_error(spectra, settings), best_at)


def fit_status(values: Sequence[float], kt_nodes: np.ndarray, lower_found: bool, upper_found: bool) -> Status:
    """Status of a fit whose values are those of `FITTED`; the last two are `kt_status`'s."""
    if values[3] > 0.0 and not all(map(math.isfinite, values)):
        return Status.NOT_A_NUMBER
    return kt_status(values[0], kt_nodes[0], kt_nodes[-1], lower_found, upper_found)
