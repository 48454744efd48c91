"""Stage 4: cut the images of the fitted band to the area of the map and model the background on it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io.background_model import write_background_model
from cpxt_hpc.io.background_table import BackgroundRow, write_background_table
from cpxt_hpc.io.events import read_events
from cpxt_hpc.io.images import read_image, read_images, write_image
from cpxt_hpc.io.region_files import region_mask, tell_regions
from cpxt_hpc.layout import ObservationLayout
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.grid import PixelGrid, part_of
from cpxt_hpc.science.images import band_channels, bounding_box
from cpxt_hpc.stages.background import (
    Field,
    background_images,
    background_rows,
    choose_groups,
    in_channels,
    scales_of,
)
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
    full_mask, off_cluster = _masks(context, full_grid, exposure)
    iy0, iy1, ix0, ix1 = bounding_box(full_mask)
    rows, columns = slice(iy0, iy1), slice(ix0, ix1)
    grid, mask = full_grid.crop(iy0, iy1, ix0, ix1), full_mask[rows, columns]
    logger.info("map: %d x %d pixels, %d of them in the mask", grid.nx, grid.ny, np.count_nonzero(mask))

    counts, background = np.zeros(grid.shape, dtype=np.int64), np.zeros(grid.shape)
    table: list[BackgroundRow] = []
    for observation in observations:
        events, blank = read_events(observation.clean_events), read_events(observation.clean_background_events)
        exposures, _, _ = read_images(observation.clean_exposure)
        field = Field(events, blank, exposures, full_grid, full_mask, off_cluster)
        background += _model_background(context, observation, field, grid, table)
        counts += _band_counts(context, events, grid, mask)
    header = _band_cards(context)
    write_image(layout.counts, counts, grid, unit="count", header=header)
    write_image(layout.background, background, grid, unit="count", header=header)
    write_image(layout.exposure, np.where(mask, exposure[rows, columns], 0.0), grid, unit="s")
    write_image(layout.mask, mask, grid, unit="")
    write_image(layout.off_cluster, off_cluster, full_grid, unit="")
    write_background_table(layout.background_table, table)
    logger.info(
        "fitted band: %d counts, %.0f of them background (%.1f %%)", counts.sum(), background.sum(),
        100.0 * background.sum() / max(counts.sum(), 1),
    )


def _masks(context: StageContext, grid: PixelGrid, exposure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of the map (centre inside the crop), and those off the cluster; exposed, no source, on the full grid."""
    path = _crop_file(context)
    if path is None:
        raise MissingInput(f"{context.layout.crop}: the crop region is not there. Draw it, or run cpxt-prep --auto.")
    inside = region_mask(path, grid, mode="centre")
    tell_regions(path, grid, mode="centre")
    sources, source_grid, _ = read_image(context.layout.source_mask)
    if source_grid != grid or exposure.shape != grid.shape:
        raise DataError(f"{context.layout.source_mask}: not on the common grid. Run stage 2 (clean) again.")
    usable = (exposure > LEAST_EXPOSURE * exposure.max()) & (sources > 0)
    mask, bright = inside & usable, np.zeros(grid.shape, dtype=bool)
    if not mask.any():
        raise DataError(
            f"{path}: no exposed pixel of the image lies inside ({np.count_nonzero(inside)} pixels inside at all). "
            f"Draw the crop on {context.layout.surface_brightness_nosrc}, in physical or sky coordinates."
        )
    if context.layout.exclude.is_file():
        bright = region_mask(context.layout.exclude, grid, mode="touch")
    return mask, usable & ~inside & ~bright


def _model_background(
    context: StageContext,
    observation: ObservationLayout,
    field: Field,
    grid: PixelGrid,
    table: list[BackgroundRow],
) -> np.ndarray:
    """Expected background of one observation on the map [count/pixel]; writes its model, adds to the table."""
    settings, channels = context.config.background, _fitted_channels(context)
    groups = choose_groups(field, settings, channels)
    scales = scales_of(field, groups, channels, settings)
    table += background_rows(field, groups, scales)
    part = part_of(field.grid, grid)
    models = {
        name: np.where(field.mask, image, 0.0)[part]
        for name, image in background_images(field, groups, scales, channels, settings).items()
    }
    cards = {"OBS_ID": str(field.events.obsid), **_band_cards(context)}
    write_background_model(observation.background_model, models, scales, groups, grid, cards)
    return np.sum(list(models.values()), axis=0)


def _band_counts(context: StageContext, events: EventList, grid: PixelGrid, mask: np.ndarray) -> np.ndarray:
    """Counts in the fitted band on the map [count/pixel]."""
    chosen = events.select(in_channels(events, _fitted_channels(context)))
    return np.where(mask, grid.counts_image(chosen["x"], chosen["y"]), 0)


def _fitted_channels(context: StageContext) -> tuple[int, int]:
    return band_channels(context.config.fit.energy_min_kev, context.config.fit.energy_max_kev)


def _band_cards(context: StageContext) -> dict[str, object]:
    fit = context.config.fit
    first, last = _fitted_channels(context)
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
        *([layout.exclude] if layout.exclude.is_file() else []),
        *(
            path
            for each in observations
            for path in (each.clean_events, each.clean_background_events, each.clean_exposure)
        ),
    ]


def _makes(context: StageContext) -> list[Path]:
    layout = context.layout
    models = [layout.observation(obsid).background_model for obsid in context.config.obsids]
    maps = [layout.counts, layout.background, layout.exposure, layout.mask, layout.off_cluster]
    return [*models, *maps, layout.background_table]


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
        "background.source", "background.groups", "background.template_max_channels",
    ),
    regions=(CROP,),
    run=run,
)
