"""Stage 4: cut the images of the fitted band to the area of the map and model the background on it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io.background_model import write_background_model
from cpxt_hpc.io.events import read_events
from cpxt_hpc.io.images import read_image, read_images, write_image
from cpxt_hpc.io.region_files import region_mask
from cpxt_hpc.layout import ObservationLayout
from cpxt_hpc.science.background import (
    USUAL_LEVEL,
    BackgroundScale,
    background_scales,
    blank_sky_images,
    detector_groups,
    smoothed_background,
)
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.grid import PixelGrid, part_of
from cpxt_hpc.science.images import band_channels, bounding_box
from cpxt_hpc.stages.base import RegionRequest, Stage, StageContext

logger = logging.getLogger(__name__)

LEAST_EXPOSURE = 0.01
"""Pixels exposed for less than this share of the longest exposure do not belong to the map: their few counts say
nothing, and their exposure is the least certain."""


def run(context: StageContext) -> None:
    """Write the cropped images of all observations together, and the background model of each."""
    layout = context.layout
    observations = [layout.observation(obsid) for obsid in context.config.obsids]
    _, full_grid, _ = read_image(layout.broad_flux)
    exposure = np.sum([read_image(each.clean_exposure)[0] for each in observations], axis=0, dtype=float)
    mask = _map_mask(context, full_grid, exposure)
    iy0, iy1, ix0, ix1 = bounding_box(mask)
    rows, columns = slice(iy0, iy1), slice(ix0, ix1)
    grid, mask = full_grid.crop(iy0, iy1, ix0, ix1), mask[rows, columns]
    logger.info("map: %d x %d pixels, %d of them in the mask", grid.nx, grid.ny, np.count_nonzero(mask))

    counts, background = np.zeros(grid.shape, dtype=np.int64), np.zeros(grid.shape)
    for observation in observations:
        own_counts, own_background = _band_images(context, observation, full_grid, grid, mask)
        counts += own_counts
        background += own_background
    header = _band_cards(context)
    write_image(layout.counts, counts, grid, unit="count", header=header)
    write_image(layout.background, background, grid, unit="count", header=header)
    write_image(layout.exposure, np.where(mask, exposure[rows, columns], 0.0), grid, unit="s")
    write_image(layout.mask, mask, grid, unit="")
    logger.info(
        "fitted band: %d counts, %.0f of them background (%.1f %%)", counts.sum(), background.sum(),
        100.0 * background.sum() / max(counts.sum(), 1),
    )


def _map_mask(context: StageContext, grid: PixelGrid, exposure: np.ndarray) -> np.ndarray:
    """Pixels of the map on the full grid: centre inside the crop, exposed, no source."""
    path = _crop_file(context)
    if path is None:
        raise MissingInput(f"{context.layout.crop}: the crop region is not there. Draw it, or run cpxt-prep --auto.")
    inside = region_mask(path, grid, mode="centre")
    sources, source_grid, _ = read_image(context.layout.source_mask)
    if source_grid != grid or exposure.shape != grid.shape:
        raise DataError(f"{context.layout.source_mask}: not on the common grid. Run stage 2 (clean) again.")
    mask = inside & (exposure > LEAST_EXPOSURE * exposure.max()) & (sources > 0)
    if not mask.any():
        raise DataError(
            f"{path}: no exposed pixel of the image lies inside ({np.count_nonzero(inside)} pixels inside at all). "
            f"Draw the crop on {context.layout.surface_brightness_nosrc}, in physical or sky coordinates."
        )
    return mask


def _band_images(
    context: StageContext, observation: ObservationLayout, full_grid: PixelGrid, grid: PixelGrid, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Counts and expected background [count/pixel] of one observation on the cropped grid; writes the latter."""
    events, blank = read_events(observation.clean_events), read_events(observation.clean_background_events)
    scales = background_scales(events, blank)
    first, last = band_channels(context.config.fit.energy_min_kev, context.config.fit.energy_max_kev)
    in_band, blank_in_band = ((each["pi"] >= first) & (each["pi"] <= last) for each in (events, blank))
    exposures, _, _ = read_images(observation.clean_exposure)
    sigma_pixel = context.config.background.smoothing_arcsec / full_grid.pixel_arcsec
    part = part_of(full_grid, grid)
    models = {}
    for group, image in blank_sky_images(events, blank, full_grid, blank_in_band).items():
        footprint = np.sum([exposures[f"CCD{ccd}"] for ccd in detector_groups(events.ccds)[group]], axis=0)
        blank_model = smoothed_background(
            image, footprint / events.reference_exposure_s, sigma_pixel=sigma_pixel
        )
        models[group] = np.where(mask, scales[group].value * blank_model[part], 0.0)
        _report_scale(events, group, scales[group])
    write_background_model(
        observation.background_model, models, scales, grid, {"OBS_ID": str(events.obsid), **_band_cards(context)}
    )
    chosen = events.select(in_band)
    counts = np.where(mask, grid.counts_image(chosen["x"], chosen["y"]), 0)
    return counts, np.sum(list(models.values()), axis=0)


def _report_scale(events: EventList, group: str, scale: BackgroundScale) -> None:
    logger.info(
        "ObsID %d, %s: background scale %.4f +- %.4f, %.3f times the blank sky's level", events.obsid, group,
        scale.value, scale.error, scale.level,
    )
    if not scale.is_usual:
        logger.warning(
            "ObsID %d, %s: the background is %.2f times the blank sky's (usual: %.1f to %.1f). Is a flare left in the "
            "light curve of stage 2, or is the blank-sky file of another epoch?",
            events.obsid, group, scale.level, *USUAL_LEVEL,
        )


def _band_cards(context: StageContext) -> dict[str, object]:
    fit = context.config.fit
    first, last = band_channels(fit.energy_min_kev, fit.energy_max_kev)
    return {
        "ENERGYLO": (fit.energy_min_kev, "keV"), "ENERGYHI": (fit.energy_max_kev, "keV"),
        "CHANLO": (first, "first PI channel"), "CHANHI": (last, "last PI channel"),
    }


def _crop_file(context: StageContext) -> Path | None:
    candidates = (context.layout.crop, context.layout.crop_alternative)
    return next((path for path in candidates if path.is_file()), None)


def _needs(context: StageContext) -> list[Path]:
    layout = context.layout
    observations = map(layout.observation, context.config.obsids)
    return [
        layout.broad_flux,
        layout.source_mask,
        *(
            path
            for each in observations
            for path in (each.clean_events, each.clean_background_events, each.clean_exposure)
        ),
    ]


def _makes(context: StageContext) -> list[Path]:
    layout = context.layout
    models = [layout.observation(obsid).background_model for obsid in context.config.obsids]
    return [*models, layout.counts, layout.background, layout.exposure, layout.mask]


def _make_crop(context: StageContext) -> None:
    # Loads photutils, which whoever drew the region does not need.
    from cpxt_hpc.stages.autoregions import make_crop

    make_crop(context)


CROP = RegionRequest(
    find=_crop_file,
    target=lambda context: context.layout.crop,
    image=lambda context: context.layout.surface_brightness_nosrc,
    what="the area of the map: one box or circle about the part of the cluster that is to be fitted.",
    make=_make_crop,
)

STAGE = Stage(
    number=4,
    name="crop",
    summary="cut the images of the fitted band to the map and model the background",
    needs=_needs,
    makes=_makes,
    settings=(
        "cluster.observation_ids", "fit.energy_min_kev", "fit.energy_max_kev", "background.smoothing_arcsec",
    ),
    regions=(CROP,),
    run=run,
)
