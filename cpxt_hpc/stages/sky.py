"""``[background] sky = fit``: the sky of the observations beside the blank sky's, fitted off the cluster."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from cpxt_hpc.config import BackgroundSection
from cpxt_hpc.fitting.xspec import evaluate_additive
from cpxt_hpc.io.images import read_image
from cpxt_hpc.io.sky_table import SkyRow, write_sky_table
from cpxt_hpc.science.grid import PixelGrid, part_of
from cpxt_hpc.science.response import EffectiveArea, fold
from cpxt_hpc.science.sky_foreground import (
    COMPONENTS,
    PLASMA_KT_KEV,
    OffClusterSpectrum,
    SkyFit,
    fit_sky,
    power_law_photons,
    tail_brightness,
)
from cpxt_hpc.stages.base import StageContext
from cpxt_hpc.stages.fold import FieldResponses, FoldedField
from cpxt_hpc.stages.off_cluster import OffCluster, SkyArea, off_cluster_spectrum, read_off_cluster, sky_area

logger = logging.getLogger(__name__)

COSMIC_BACKGROUND_NORM = 9.2e-7
"""The whole extragalactic background [photon/cm2/s/keV/arcmin2 at 1 keV] (Hickox & Markevitch 2006, ApJ 645, 95)."""


TAIL_KT_KEV = 5.0
"""Of the cluster's light off the cluster: the level, not the temperature, matters to the sky."""

TAIL_CORES = (0.0, 0.5, 1.0, 2.0)
"""Core radii of the tail that are tried, in radii of the map."""


class SkyBackground(NamedTuple):
    """The components of the sky as further groups of the background of one observation.

    Attributes
    ----------
    images : ndarray of float64, shape (n_components, ny, nx)
        Expected counts in the fitted band [count/pixel], of either sign.
    templates : ndarray of float64, shape (n_components, n_channels)
        Strictly positive, sum 1.
    scale_error : ndarray of float64, shape (n_components,)
        Relative error of each norm.
    groups : tuple of str
    """

    images: np.ndarray
    templates: np.ndarray
    scale_error: np.ndarray
    groups: tuple[str, ...]


def fit_sky_background(
    context: StageContext, grid: PixelGrid, mask: np.ndarray, folded: FoldedField
) -> tuple[SkyBackground | None, ...]:
    """Fit the sky off the cluster in all observations together, and expect it on the map.

    Parameters
    ----------
    context : StageContext
    grid : PixelGrid
    mask : ndarray of bool, shape (ny, nx)
        Of the map.
    folded : FoldedField

    Returns
    -------
    tuple of SkyBackground or None
        One an observation; None where the setting is ``none``, the background is local, or nothing off the cluster
        can be used.

    Raises
    ------
    MissingInput, DataError, ToolError
        A file is missing or does not go with the others; XSPEC fails.
    """
    obsids, settings = context.config.obsids, context.config.background
    if settings.sky == "none" or settings.source == "local":
        # A local background holds the sky of the observation itself.
        return (None,) * len(obsids)
    off, full_grid, _ = read_image(context.layout.off_cluster)
    parts = [read_off_cluster(context, obsid, grid, full_grid) for obsid in obsids]
    area = sky_area(parts, off > 0, mask, grid, full_grid)
    of_grid = {part.edges_kev.tobytes(): part.edges_kev for part in parts}
    of_grid = {key: _photons(context, edges_kev) for key, edges_kev in of_grid.items()}
    photons = [of_grid[part.edges_kev.tobytes()] for part in parts]
    fit = None
    if area is not None:
        fit, spectra = _best_fit(parts, photons, area, full_grid, folded.channel, settings)
        _report(context, fit, spectra, int(np.count_nonzero(area.used)) * full_grid.pixel_area_arcmin2)
    reason = _why_not(fit)
    if reason:
        logger.warning("%s; the blank sky is used as it is. [background] sky = none ends this warning.", reason)
        write_sky_table(context.layout.sky_table, [])
        return (None,) * len(obsids)
    return tuple(
        _on_map(part, responses, each, fit, grid, full_grid, mask, folded.channel)
        for part, responses, each in zip(parts, folded.responses, photons, strict=True)
    )


def _why_not(fit: SkyFit | None) -> str:
    """Why a fit of the sky is not used; empty where it is."""
    if fit is None:
        return "sky = fit: too little is seen off the cluster to tell the sky from the cluster's light"
    if abs(fit.norms[1]) > COSMIC_BACKGROUND_NORM:
        return (
            f"sky = fit: the power law, {fit.norms[1]:.2g}, is more than the whole extragalactic background, "
            f"{COSMIC_BACKGROUND_NORM:g} photon/cm2/s/keV/arcmin2 (cluster light, or a wrong level of the particles)"
        )
    return ""


def _best_fit(
    parts: list[OffCluster],
    photons: list[np.ndarray],
    area: SkyArea,
    grid: PixelGrid,
    channel: np.ndarray,
    settings: BackgroundSection,
) -> tuple[SkyFit, list[OffClusterSpectrum]]:
    """Fit of the sky, with a tail of the cluster where there is one: that of the likeliest core radius."""
    flat = np.ones(grid.shape)
    tails = [None]
    if area.n_rings > 1:
        tails = [tail_brightness(np.maximum(area.radius, 1.0) / area.map_radius, core) for core in TAIL_CORES]
    best = None
    for tail in tails:
        brightness = [flat, flat] if tail is None else [flat, flat, tail]
        spectra = [
            off_cluster_spectrum(part, each[: len(brightness)], brightness, area, grid, channel, settings)
            for part, each in zip(parts, photons, strict=True)
        ]
        fit = fit_sky([spectrum for spectrum in spectra if np.all(spectrum.components.sum(axis=1) > 0.0)])
        if best is None or fit.log_likelihood > best[0].log_likelihood:
            best = fit, spectra
    return best


def _photons(context: StageContext, edges_kev: np.ndarray) -> np.ndarray:
    """Photons of soft plasma, power law and cluster for norm 1 [photon/cm2/s], shape (3, n_energies)."""
    fit, cluster = context.config.fit, context.config.cluster
    settings = {
        "absorption": fit.absorption, "abundance_table": fit.abundance_table, "cross_sections": fit.cross_sections,
        "apec_root": fit.apec_root or None,
    }  # fmt: skip
    plasma = evaluate_additive(edges_kev, [PLASMA_KT_KEV], abundances=[1.0], redshift=0.0, nh_1e22=0.0, **settings)
    tail = evaluate_additive(
        edges_kev, [TAIL_KT_KEV], abundances=[cluster.abundance], redshift=cluster.redshift,
        nh_1e22=context.config.nh_1e22, **settings,
    )  # fmt: skip
    return np.array([plasma.photons[0, 0], power_law_photons(edges_kev), tail.photons[0, 0]])


def _on_map(
    part: OffCluster,
    responses: FieldResponses,
    photons: np.ndarray,
    fit: SkyFit,
    grid: PixelGrid,
    full_grid: PixelGrid,
    mask: np.ndarray,
    channel: np.ndarray,
) -> SkyBackground | None:
    """The components on the map: sky area x exposure with vignetting of every pixel."""
    exposure = np.where(mask, part.exposure_s[part_of(full_grid, grid)], 0.0) * grid.pixel_area_arcmin2
    if not exposure.any():
        return None
    rates = np.array(
        [
            fold(photons[: len(COMPONENTS)], EffectiveArea(responses.energy_edges_kev, area), responses.redistribution)
            for area in responses.area_cm2
        ]
    )[:, :, channel - responses.redistribution.channel[0]]
    index = responses.index.astype(np.int64)
    share = responses.part.astype(float)
    above = np.minimum(index + 1, len(rates) - 1)
    light = np.bincount(index.ravel(), weights=(exposure * (1.0 - share)).ravel(), minlength=len(rates))
    light += np.bincount(above.ravel(), weights=(exposure * share).ravel(), minlength=len(rates))
    images, templates = [], []
    norms, errors = fit.norms[: len(COMPONENTS)], fit.errors[: len(COMPONENTS)]
    for number, norm in enumerate(norms):
        total = rates[:, number].sum(axis=1)
        images.append(norm * exposure * ((1.0 - share) * total[index] + share * total[above]))
        shape = light @ rates[:, number]
        templates.append(np.maximum(shape / shape.sum(), np.finfo(float).tiny))
    size = np.maximum(np.abs(norms), np.finfo(float).tiny)
    return SkyBackground(np.array(images), np.array(templates), errors / size, COMPONENTS)


def _report(context: StageContext, fit: SkyFit, spectra: list[OffClusterSpectrum], area_arcmin2: float) -> None:
    counts, background = (
        sum(float(getattr(each, name).sum()) for each in spectra) for name in ("counts", "background")
    )
    by_component = sum(each.components.sum(axis=1) for each in spectra) * fit.norms
    added, tail = float(by_component[: len(COMPONENTS)].sum()), float(by_component[len(COMPONENTS) :].sum())
    logger.info(
        "sky off the cluster, %.0f arcmin2: %.0f counts, blank sky %.0f, fitted sky %+.0f, cluster's tail %+.0f; norms "
        "per arcmin2: apec 0.2 keV %.3g +- %.2g, power law %.3g +- %.2g", area_arcmin2, counts, background, added, tail,
        *(value for pair in zip(fit.norms[:2], fit.errors[:2], strict=True) for value in pair),
    )  # fmt: skip
    write_sky_table(
        context.layout.sky_table,
        [
            SkyRow(name, float(norm), float(error), area_arcmin2, counts, background, added, tail)
            for name, norm, error in zip(
                COMPONENTS, fit.norms[: len(COMPONENTS)], fit.errors[: len(COMPONENTS)], strict=True
            )
        ],
    )
