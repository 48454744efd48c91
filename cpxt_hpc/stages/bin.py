"""Stage 5: draw the circles, fold the model, and pack everything that the fit needs into one file."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import ConfigError, DataError
from cpxt_hpc.fitting.model import FitInput, ObservationInput, RegionTable
from cpxt_hpc.io.command_list import write_command_list
from cpxt_hpc.io.fit_input import write_fit_input
from cpxt_hpc.io.images import read_image, write_image
from cpxt_hpc.science.binning import adaptive_radii, circle_sums, region_pixels, signal_to_noise
from cpxt_hpc.science.brightness_weights import brightness_weights
from cpxt_hpc.science.grid import PixelGrid, part_of
from cpxt_hpc.stages.base import Stage, StageContext
from cpxt_hpc.stages.fold import FoldedField, fold_field
from cpxt_hpc.stages.map_exposure import map_exposure_s
from cpxt_hpc.stages.pack import pack_observation
from cpxt_hpc.stages.sky import fit_sky_background
from cpxt_hpc.stages.tiles import laid_out_tiles

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class MapImages:
    """Images of stage 4, all observations together, all zero outside the mask; shape (ny, nx)."""

    grid: PixelGrid
    mask: np.ndarray
    counts: np.ndarray
    background: np.ndarray
    exposure_s: np.ndarray


def run(context: StageContext) -> None:
    """Make the regions, the command list, the maps of the binning and the fit's input."""
    layout, config = context.layout, context.config
    images = _read_images(context)
    radius = _circles(context, images)
    number, iy, ix = region_pixels(radius)
    n_regions = len(number)
    regions = RegionTable(
        number, iy, ix, radius[iy, ix], np.zeros(n_regions + 1, dtype=np.int64), np.empty(0, dtype=np.int64)
    )
    folded = fold_field(context, images.grid, images.mask)
    skies = fit_sky_background(context, images.grid, images.mask, folded)
    observations = tuple(
        pack_observation(
            layout.observation(obsid), images.grid, images.mask, folded.channel, responses, rates, config.background,
            sky, exact_edge=config.binning.edge == "exact",
        )
        for obsid, responses, rates, sky in zip(config.obsids, folded.responses, folded.rates, skies, strict=True)
    )
    weights = brightness_weights(
        images.counts, images.background, _vignetted_exposure_s(context, images, folded), images.mask,
        max_radius_pixel=config.binning.max_radius_pixel,
    )
    fit_input = FitInput(
        name=config.name,
        grid=images.grid,
        regions=regions,
        observations=observations,
        surface_brightness=weights.astype(np.float32),
        kt_nodes_kev=folded.nodes.kt_kev,
        nh_nodes_1e22=folded.nh_1e22,
        abundance=float(config.cluster.abundance),
        settings=_settings(context, folded, observations, weights),
        binning_digest=_binning_digest(context, images, radius),
    )
    _write_maps(context, images, radius)
    write_command_list(layout.commands, number, os.path.abspath(config.path))
    write_fit_input(layout.fit_input, fit_input)
    logger.info(
        "%s: %.1f MB, %d channels, %d temperatures", layout.fit_input, layout.fit_input.stat().st_size / 1e6,
        len(folded.channel), len(folded.nodes.kt_kev),
    )


def _read_images(context: StageContext) -> MapImages:
    layout = context.layout
    mask, grid, _ = read_image(layout.mask)
    others = []
    for path in (layout.counts, layout.background, layout.exposure):
        data, own_grid, _ = read_image(path)
        if own_grid != grid:
            raise DataError(f"{path}: not on the grid of {layout.mask}. Run stage 4 (crop) again.")
        others.append(np.where(mask > 0, data, 0))
    return MapImages(grid, mask > 0, *others)


def _circles(context: StageContext, images: MapImages) -> np.ndarray:
    """Radius of each pixel's circle; at least one must reach the target."""
    binning, target = context.config.binning, context.config.cluster.signal_to_noise
    if context.layout.imported_scale_map.is_file():
        return _imported_circles(context, images)
    radius = adaptive_radii(
        images.counts, images.background, images.mask,
        snr_target=target, max_radius_pixel=binning.max_radius_pixel, snr=binning.snr,
    )
    n_mask, found = np.count_nonzero(images.mask), radius[radius > 0]
    if found.size == 0:
        whole = signal_to_noise(images.counts.sum(), images.background.sum(), snr=binning.snr)
        raise ConfigError(
            f"[cluster] signal_to_noise = {target:g}: no circle of up to {binning.max_radius_pixel:g} pixels reaches "
            f"it; the whole map has {float(whole):.1f}. Lower it."
        )
    logger.info(
        "%d regions; %d of %d pixels in the mask reach a signal to noise of %g; radii %.3f to %.3f pixels, median %.3f",
        found.size, found.size, n_mask, target, found.min(), found.max(), np.median(found),
    )
    return radius


def _imported_circles(context: StageContext, images: MapImages) -> np.ndarray:
    """Circles of ClusterPyXT, on the pixels of the map."""
    path = context.layout.imported_scale_map
    radius, full_grid, _ = read_image(path)
    radius = np.where(images.mask, radius[part_of(full_grid, images.grid)], 0.0).astype(float)
    if not radius.any():
        raise DataError(f"{path}: has no circle inside the map. Import ClusterPyXT's acb folder again.")
    logger.info("%d circles of ClusterPyXT; signal_to_noise is not used", np.count_nonzero(radius))
    return radius


def _vignetted_exposure_s(context: StageContext, images: MapImages, folded: FoldedField) -> np.ndarray:
    """Exposure that a source on the axis would need for the same counts, all observations together [s].

    With it the weights are the brightness of the sky, and not that of the image.
    """
    exposures = [
        responses.relative_area * map_exposure_s(context.layout.observation(obsid), images.grid, images.mask)
        for obsid, responses in zip(context.config.obsids, folded.responses, strict=True)
    ]
    return np.sum(exposures, axis=0)


def _write_maps(context: StageContext, images: MapImages, radius: np.ndarray) -> None:
    layout, grid = context.layout, images.grid
    cards = {
        "SNRGOAL": (context.config.cluster.signal_to_noise, "signal to noise that circles reach"),
        "SNRTYPE": (context.config.binning.snr, "background: (C-B)/sqrt(C+B); counts: sqrt(C)"),
    }
    counts, background = (circle_sums(image, radius) for image in (images.counts, images.background))
    found = radius > 0
    reached = signal_to_noise(counts, background, snr=context.config.binning.snr)
    write_image(layout.scale_map, radius, grid, unit="pixel", header=cards)
    write_image(layout.snr_map, np.where(found, reached, np.nan), grid, unit="", header=cards)


def _settings(
    context: StageContext,
    folded: FoldedField,
    observations: tuple[ObservationInput, ...],
    weights: np.ndarray,
) -> dict[str, str | int | float]:
    """Everything that the numbers of a fit depend on, as far as a user sets it, and a digest of the data."""
    config, fit = context.config, context.config.fit
    return {
        "name": config.name,
        "signal_to_noise": float(config.cluster.signal_to_noise),
        **dataclasses.asdict(config.binning),
        **{key: value for key, value in dataclasses.asdict(config.background).items() if key != "systematic"},
        **dataclasses.asdict(config.response),
        "obsids": ",".join(map(str, config.obsids)),
        "nH_1e22": float(config.nh_1e22),
        "redshift": float(config.cluster.redshift),
        "abundance": float(config.cluster.abundance),
        "energy_min_kev": float(fit.energy_min_kev),
        "energy_max_kev": float(fit.energy_max_kev),
        "first_channel": int(folded.channel[0]),
        "last_channel": int(folded.channel[-1]),
        "plasma": fit.plasma,
        "absorption": fit.absorption,
        "abundance_table": fit.abundance_table,
        "cross_sections": fit.cross_sections,
        "model_error": float(folded.nodes.model_error),
        **{key: folded.nodes.versions[key] for key in sorted(folded.nodes.versions)},
        "data_digest": _data_digest(observations, weights),
    }


def _data_digest(observations: tuple[ObservationInput, ...], weights: np.ndarray) -> str:
    """Digest of events, backgrounds, exposures and responses: of what the settings do not name.

    The folded model follows from responses and settings. Left out, it may be folded anew without making the data
    others, and fits with and without free nH share their input.
    """
    digest = hashlib.sha256(np.ascontiguousarray(weights, dtype=np.float32))
    for observation in observations:
        for field in dataclasses.fields(observation):
            if field.name == "nodes":
                continue
            value = getattr(observation, field.name)
            digest.update(np.ascontiguousarray(value) if isinstance(value, np.ndarray) else repr(value).encode())
    return digest.hexdigest()[:16]


def _binning_digest(context: StageContext, images: MapImages, radius: np.ndarray) -> str:
    binning, target = context.config.binning, float(context.config.cluster.signal_to_noise)
    described = repr((images.grid, target, binning.snr, float(binning.max_radius_pixel)))
    return hashlib.sha256(described.encode() + np.ascontiguousarray(radius).tobytes()).hexdigest()[:16]


def _needs(context: StageContext) -> list[Path]:
    layout = context.layout
    return [
        layout.counts, layout.background, layout.exposure, layout.mask, layout.off_cluster,
        *([layout.imported_scale_map] if layout.imported_scale_map.is_file() else []),
        *(
            path
            for each in map(layout.observation, context.config.obsids)
            for path in (
                each.arf, each.rmf, each.clean_events, each.clean_background_events, each.clean_exposure,
                each.background_model,
            )
        ),
        *(
            path
            for each in map(layout.observation, context.config.obsids)
            for pair in laid_out_tiles(each).values()
            for path in pair
        ),
        *(each.arf_region for each in map(layout.observation, context.config.obsids) if each.arf_region.is_file()),
    ]


def _makes(context: StageContext) -> list[Path]:
    layout = context.layout
    background = context.config.background
    sky = [layout.sky_table] if background.sky == "fit" and background.source == "blanksky" else []
    return [layout.scale_map, layout.snr_map, layout.commands, *sky, layout.fit_input]


STAGE = Stage(
    number=5,
    name="bin",
    summary="draw the circles and pack the fit's input",
    needs=_needs,
    makes=_makes,
    settings=(
        "cluster.name", "cluster.observation_ids", "cluster.hydrogen_column_density", "cluster.redshift",
        "cluster.abundance", "cluster.signal_to_noise", "binning.snr", "binning.max_radius_pixel",
        "background.template_counts", "background.template_max_channels", "background.source", "background.groups",
        "background.sky", "background.local_region", "response.tiles", "response.vignetting",
        "response.arf_off_axis_arcmin", "fit.plasma", "fit.free", "binning.edge", "fit.energy_min_kev",
        "fit.energy_max_kev", "fit.absorption", "fit.abundance_table", "fit.cross_sections", "fit.apec_root",
    ),
    run=run,
)
