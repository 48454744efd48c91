"""The fit of PHA files: as the regions of a map are fitted, from files instead of packed events."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from cpxt_hpc.errors import ConfigError
from cpxt_hpc.fitting.binned_response import BinnedResponse
from cpxt_hpc.fitting.free_nh import nh_grid
from cpxt_hpc.fitting.nodes import fold_nodes
from cpxt_hpc.fitting.pha_spectra import PhaObservation, response_of_files, spectra_of_files
from cpxt_hpc.fitting.region_spectra import RegionSpectra
from cpxt_hpc.fitting.results import Status, empty_result
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.sherpa_engine import SherpaEngine, XspecModel
from cpxt_hpc.fitting.sherpa_fit import fill_from_sherpa
from cpxt_hpc.fitting.spectral_model import SpectralModel
from cpxt_hpc.fitting.spectrum_fit import fit_spectra
from cpxt_hpc.fitting.xspec import WITHOUT_METALS


@dataclasses.dataclass(frozen=True)
class PhaSpectra:
    """Spectra of files, ready to be fitted.

    Attributes
    ----------
    observations : tuple of PhaObservation
    spectra : RegionSpectra
    model : SpectralModel
    xspec_model : XspecModel
    responses : tuple of BinnedResponse
    settings : FitSettings
    versions : dict of str
        ``xspec``, ``sherpa``, ``atomdb``.
    """

    observations: tuple[PhaObservation, ...]
    spectra: RegionSpectra
    model: SpectralModel
    xspec_model: XspecModel
    responses: tuple[BinnedResponse, ...]
    settings: FitSettings
    versions: dict[str, str]


def prepare_files(
    observations: Sequence[PhaObservation],
    xspec_model: XspecModel,
    settings: FitSettings,
    *,
    template_counts: float,
    template_max_channels: int,
) -> PhaSpectra:
    """Fold the model through the response of each file and bring its spectrum into the engines' form.

    Parameters
    ----------
    observations : sequence of PhaObservation
    xspec_model : XspecModel
    settings : FitSettings
    template_counts, template_max_channels
        How the background's template is smoothed for cstat.

    Raises
    ------
    ConfigError
        The statistic does not suit the backgrounds, or the plasma model has no abundance that could be free.
    MissingInput, DataError, ToolError
        As `cpxt_hpc.fitting.nodes.fold_nodes`.
    """
    if settings.free_abundance and xspec_model.plasma in WITHOUT_METALS:
        raise ConfigError(f"free = {settings.free}: the plasma model {xspec_model.plasma} has no abundance.")
    nh_nodes_1e22 = nh_grid(xspec_model.nh_1e22) if settings.free_nh else np.array([xspec_model.nh_1e22], dtype=float)
    masks = []
    for each in observations:
        mask = np.zeros(len(each.redistribution.channel), dtype=bool)
        mask[each.channel] = True
        masks.append(mask)
    nodes = fold_nodes(
        [(each.area, each.redistribution) for each in observations],
        masks,
        redshift=xspec_model.redshift,
        nh_1e22=nh_nodes_1e22,
        plasma=xspec_model.plasma,
        absorption=xspec_model.absorption,
        abundance_table=xspec_model.abundance_table,
        cross_sections=xspec_model.cross_sections,
        apec_root=xspec_model.apec_root or None,
    )
    spectra = spectra_of_files(
        observations,
        nodes.rates,
        settings,
        abundance=xspec_model.abundance,
        template_counts=template_counts,
        template_max_channels=template_max_channels,
    )
    model = SpectralModel(
        kt_nodes_kev=nodes.kt_kev,
        nh_nodes_1e22=nh_nodes_1e22,
        abundance=xspec_model.abundance,
        nh_1e22=xspec_model.nh_1e22,
    )
    responses = tuple(response_of_files(each, settings) for each in observations)
    return PhaSpectra(tuple(observations), spectra, model, xspec_model, responses, settings, nodes.versions)


def fit_files(prepared: PhaSpectra) -> np.ndarray:
    """Fit spectra of files with the engine of their settings.

    Returns
    -------
    ndarray of RESULT_DTYPE, shape ()
        Of region 0 at pixel 0, which have no meaning here.

    Raises
    ------
    ToolError
        Engine sherpa: there is no Sherpa.
    """
    began = time.perf_counter()
    row = empty_result(0, 0, 0, 0.0, Status.NO_EXPOSURE)
    row["exposure_s"] = sum(each.source.exposure_s for each in prepared.observations)
    if prepared.settings.engine == "sherpa":
        kt_range = prepared.model.kt_nodes_kev[0], prepared.model.kt_nodes_kev[-1]
        with SherpaEngine(prepared.responses, prepared.xspec_model, prepared.settings, kt_range_kev=kt_range) as engine:
            fit_spectra(
                row, prepared.spectra, prepared.model, prepared.settings, lambda *fit: fill_from_sherpa(*fit, engine)
            )
    else:
        fit_spectra(row, prepared.spectra, prepared.model, prepared.settings)
    row["seconds"] = time.perf_counter() - began
    return row
