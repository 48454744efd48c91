"""The fit of one set of spectra: best values, limits, status and what they are worth, into a row of results."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from cpxt_hpc.fitting.kt_norm_row import fill_cstat, fill_kt_norm
from cpxt_hpc.fitting.region_spectra import RegionSpectra
from cpxt_hpc.fitting.results import (
    DISAGREEMENT_SIGMA,
    FEW_COUNTS_BELOW,
    FIRST_STATUS_WITHOUT_VALUES,
    POOR_FIT_SIGMA,
    Flag,
    Status,
)
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.spectral_model import SpectralModel

OtherEngine = Callable[[np.ndarray, RegionSpectra, SpectralModel], None]
"""Writes values, limits, statistic, status and flags of its own fit into a row."""

FEW_COUNTS, POOR_FIT, OBSERVATIONS_DISAGREE, BACKGROUND_UNCERTAIN = map(
    int, (Flag.FEW_COUNTS, Flag.POOR_FIT, Flag.OBSERVATIONS_DISAGREE, Flag.BACKGROUND_UNCERTAIN)
)
"""Plain integers: operations of flags would take a tenth of a fit's time."""


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
    parts = spectra.parts
    if not parts:
        row["status"] = Status.NO_EXPOSURE
        return
    start = spectra.start
    n_channels = sum(int(start[part.position + 1]) - int(start[part.position]) for part in parts)
    n_norms = len(parts) if settings.norms_per_observation else 1
    row["n_obs"] = len(parts)
    row["observations_used"] = sum(1 << part.position for part in parts)
    row["dof"] = n_channels - 1 - n_norms - settings.n_more_free
    background = spectra.background if settings.statistic == "cstat" else spectra.blank_scale * spectra.blank_counts
    background_counts, counts = float(background.sum()), float(spectra.counts.sum())
    row["background_counts"] = background_counts
    row["net_counts"] = counts - background_counts
    row["abundance"], row["nH"] = model.abundance, model.nh_1e22
    # A sum is finite only if every term is.
    if not (math.isfinite(background_counts) and math.isfinite(float(spectra.exposure.sum()))):
        row["status"] = Status.NOT_A_NUMBER
        return
    if other_engine is None and settings.statistic == "cstat" and not settings.free_engine:
        fill_cstat(row, spectra, model, settings)
    else:
        _fill_and_assess(row, spectra, background, model, settings, other_engine)
    row["flags"] = int(row["flags"]) | (FEW_COUNTS if counts < FEW_COUNTS_BELOW else 0) | _flags_of_values(row)


def _fill_and_assess(
    row: np.ndarray,
    spectra: RegionSpectra,
    background: np.ndarray,
    model: SpectralModel,
    settings: FitSettings,
    other_engine: OtherEngine | None,
) -> None:
    assess, folded_model, source_and_gradients_with_abundance = _rarely_needed()
    if other_engine is not None:
        other_engine(row, spectra, model)
    elif settings.free_engine:
        from cpxt_hpc.fitting.free_row import fill_free

        fill_free(row, spectra, model, settings)
    else:
        fill_kt_norm(row, spectra, model, settings)
    if row["status"] < FIRST_STATUS_WITHOUT_VALUES and folded_model.has_model(row):
        own_norms = settings.norms_per_observation
        if settings.free_abundance and not settings.free_nh and not own_norms:
            found = source_and_gradients_with_abundance(
                spectra.rates[0], spectra.exposure, model.kt_nodes_kev, *map(float, (row["kT"], row["norm"])),
                float(row["abundance"]),
            )  # fmt: skip
            source, gradients = found[0], found[1:]
        else:
            source = folded_model.expected_source(spectra, model, settings, row)
            gradients = folded_model.gradients_at(spectra, model, settings, row, source)
        assess(row, settings.statistic, spectra, background, source, gradients, own_norms=own_norms)


@functools.cache
def _rarely_needed() -> tuple:
    """What the fit of kT and norm under cstat does not need, and compiles engines of its own."""
    from cpxt_hpc.fitting import folded_model
    from cpxt_hpc.fitting.assessment import assess
    from cpxt_hpc.fitting.model_gradients import source_and_gradients_with_abundance

    return assess, folded_model, source_and_gradients_with_abundance


def _flags_of_values(row: np.ndarray) -> int:
    """Flags that follow from the values of a row; comparisons with NaN are false."""
    flags = 0
    if float(row["stat"]) - float(row["stat_expected"]) > POOR_FIT_SIGMA * float(row["stat_sigma"]):
        flags |= POOR_FIT
    if float(row["disagreement"]) > DISAGREEMENT_SIGMA:
        flags |= OBSERVATIONS_DISAGREE
    if float(row["kT_bkg_hi"]) - float(row["kT_bkg_lo"]) > float(row["kT_hi"]) - float(row["kT_lo"]):
        flags |= BACKGROUND_UNCERTAIN
    return flags
