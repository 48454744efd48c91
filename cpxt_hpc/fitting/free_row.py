"""A fit with more free parameters than kT and one norm, into a row of results."""

from __future__ import annotations

import math

import numpy as np

from cpxt_hpc.fitting.background_error import fill_background_range, level_error
from cpxt_hpc.fitting.free import ABUNDANCE_MAX, FreeFit, fit_free, refit_free
from cpxt_hpc.fitting.region_spectra import RegionSpectra
from cpxt_hpc.fitting.results import Flag, Status, kt_status
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.spectral_model import SpectralModel
from cpxt_hpc.fitting.statistics import STATISTICS

ALWAYS = ("kT", "kT_lo", "kT_hi", "norm", "norm_lo", "norm_hi")
FLAGS = {
    "abundance": (int(Flag.ABUNDANCE_AT_BOUND), int(Flag.ABUNDANCE_UNBOUND)),
    "nH": (int(Flag.NH_AT_BOUND), int(Flag.NH_UNBOUND)),
}
"""Of a value at the end of its range, and of a limit not found. Plain integers: operations of flags are slow."""


def fill_free(row: np.ndarray, spectra: RegionSpectra, model: SpectralModel, settings: FitSettings) -> None:
    """Fit spectra and write values, limits, statistic, status and flags into a row.

    Parameters
    ----------
    row : ndarray of RESULT_DTYPE, shape ()
    spectra : RegionSpectra
        With rates at abundance 0 and 1.
    model : SpectralModel
    settings : FitSettings
    """
    fit = fit_free(
        STATISTICS[settings.statistic], *_counts(spectra, 1.0), spectra.rates, spectra.exposure,
        model.kt_nodes_kev, model.nh_nodes_1e22, abundance=model.abundance, nh_1e22=model.nh_1e22,
        free_abundance=settings.free_abundance, free_nh=settings.free_nh,
        observation_start=np.array([spectra.start[part.position] for part in spectra.parts], dtype=np.int64),
        norms_per_observation=settings.norms_per_observation, delta_statistic=settings.delta_statistic,
    )  # fmt: skip
    for name in ALWAYS:
        row[name] = getattr(fit, name)
    row["stat"] = fit.statistic
    for name, is_free, low, high in (
        ("abundance", settings.free_abundance, 0.0, ABUNDANCE_MAX),
        ("nH", settings.free_nh, model.nh_nodes_1e22[0], model.nh_nodes_1e22[-1]),
    ):
        if is_free:
            _fill_parameter(row, fit, name, low, high)
    if fit.norm > 0.0 and not all(math.isfinite(getattr(fit, name)) for name in (*ALWAYS, "statistic")):
        row["status"] = Status.NOT_A_NUMBER
        return
    row["status"] = kt_status(fit.kT, model.kt_nodes_kev[0], model.kt_nodes_kev[-1], *fit.kT_found)
    if fit.norm > 0.0:
        ends = (float(model.kt_nodes_kev[0]), float(model.kt_nodes_kev[-1]))
        fill_background_range(
            row, ends, level_error(spectra, settings),
            lambda factor: refit_free(fit, *_counts(spectra, factor)),
        )  # fmt: skip


def _fill_parameter(row: np.ndarray, fit: FreeFit, name: str, low: float, high: float) -> None:
    """Value, limits and flags of abundance or nH, whose searched range is low to high."""
    for column in (name, f"{name}_lo", f"{name}_hi"):
        row[column] = getattr(fit, column)
    at_bound, unbound = FLAGS[name]
    flags = at_bound if getattr(fit, name) in (low, high) else 0
    flags |= 0 if all(getattr(fit, f"{name}_found")) else unbound
    row["flags"] = int(row["flags"]) | flags


def _counts(spectra: RegionSpectra, factor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Counts, background, blank-sky counts and their scale, with the background times a factor."""
    counts, blank_counts, blank_scale = spectra.counts, spectra.blank_counts, spectra.blank_scale
    if not len(blank_counts):
        blank_counts = blank_scale = np.zeros(len(counts))
    if factor == 1.0:
        return counts, spectra.background, blank_counts, blank_scale
    return counts, factor * spectra.background, blank_counts, factor * blank_scale
