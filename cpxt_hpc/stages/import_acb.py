"""In place of stages 1 to 3: take over what ClusterPyXT prepared, from its ``acb`` folder.

Its circles are kept, with their numbers; its effective times become an exposure image. Stages 4 and 5 then go on as
with data of our own. Nothing is written into ClusterPyXT's folder.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import ConfigError, DataError, MissingInput
from cpxt_hpc.io.acb_folder import AcbFolder, read_effective_time, read_radii
from cpxt_hpc.io.atomic import write_text
from cpxt_hpc.io.events import read_events, write_events
from cpxt_hpc.io.images import write_image
from cpxt_hpc.io.region_files import write_region_file
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.background import scaled_blank_sky
from cpxt_hpc.science.detector import with_ccds
from cpxt_hpc.science.effective_exposure import pixel_exposure_share
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.exposure import exposure_images_by_ccd
from cpxt_hpc.science.grid import SKY_PIXEL_ARCSEC, SKY_REFERENCE_PIXEL, PixelGrid, reproject_sky, sky_wcs
from cpxt_hpc.science.images import BROAD_BAND_EV, flux_image
from cpxt_hpc.stages.base import Stage, StageContext
from cpxt_hpc.stages.respond import check_responses, copy_uncompressed

logger = logging.getLogger(__name__)

LARGEST_SHARE = 1.02
"""Effective time over EXPOSURE of the event file; more, and they are not of the same cleaning."""

NOTABLE_SHARE_ERROR = 0.02


def begin_import(context: StageContext, folder: Path) -> None:
    """Note that this cluster comes from an acb folder, for this run and all later ones.

    Raises
    ------
    MissingInput
        The folder lacks a file.
    ConfigError
        The cluster's folder holds products already, of ours or of ClusterPyXT.
    OutputError
        The note cannot be written.
    """
    layout, obsids = context.layout, context.config.obsids
    folder = folder.expanduser().absolute()
    if not folder.is_dir():
        raise MissingInput(f"{folder}: no such folder. Expected ClusterPyXT's acb folder of {layout.name}.")
    missing = [path.name for path in AcbFolder(folder, layout.name).files(obsids) if not path.is_file()]
    if missing:
        raise MissingInput(
            f"{folder}: lacks {', '.join(missing)}. Expected what ClusterPyXT prepares for its spectral fits of "
            f"{layout.name}, ObsID {', '.join(map(str, obsids))}."
        )
    there = [path for path in _makes(context) if path.exists()]
    if there and imported_from(layout) is None:
        raise ConfigError(
            f"{there[0]} is there already and is kept. Import into a folder of its own: cpxt-init --data-dir ELSEWHERE."
        )
    write_text(layout.import_record, json.dumps({"acb": str(folder)}) + "\n")


def imported_from(layout: ClusterLayout) -> Path | None:
    """The acb folder that a cluster was imported from; None for other clusters.

    Raises
    ------
    DataError
        The note of it cannot be read.
    """
    try:
        return Path(json.loads(layout.import_record.read_text(encoding="utf-8"))["acb"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{layout.import_record}: cannot be read ({error}). Import again: cpxt-prep --import-acb DIR."
        ) from error


def import_stages(layout: ClusterLayout) -> tuple[Stage, ...]:
    """The stages of an imported cluster; once imported, the acb folder may go."""
    from cpxt_hpc.stages import bin as binning
    from cpxt_hpc.stages import crop

    folder = imported_from(layout)
    return (*((STAGE,) if folder is not None and folder.is_dir() else ()), crop.STAGE, binning.STAGE)


def run(context: StageContext) -> None:
    """Bring events, responses and exposures of the acb folder into the places where stages 4 and 5 look."""
    layout, acb = context.layout, _acb(context)
    radius, grid = read_radii(acb)
    counts, background, exposure = (np.zeros(grid.shape) for _ in range(3))
    for obsid in context.config.obsids:
        events, blank = _events_in_plane(acb, obsid, grid)
        own_exposure = _take_exposure(layout, acb, events, blank, radius, grid)
        events, blank = (_without_masked(each, own_exposure, grid) for each in (events, blank))
        observation = layout.observation(obsid)
        write_events(observation.clean_events, events, [f"from {acb.events(obsid).name} of ClusterPyXT"])
        write_events(observation.clean_background_events, blank, [f"from {acb.blank_sky(obsid).name} of ClusterPyXT"])
        _take_responses(layout, acb, obsid)
        broad = events.select(events.in_energy(*BROAD_BAND_EV))
        counts += grid.counts_image(broad["x"], broad["y"])
        background += scaled_blank_sky(events, blank, grid, blank.in_energy(*BROAD_BAND_EV))
        exposure += own_exposure
    lost = np.count_nonzero((radius > 0.0) & (exposure <= 0.0))
    if lost:
        logger.warning("%d circles of %s are not exposed: the numbers behind them shift", lost, acb.scale_map.name)
    flux = np.where(exposure > 0.0, flux_image(counts, background, exposure), 0.0)
    for path in (layout.broad_flux, layout.surface_brightness_nosrc):
        write_image(path, flux, grid, unit="count/s/pixel")
    write_image(layout.source_mask, exposure > 0.0, grid, unit="")
    write_image(layout.imported_scale_map, radius, grid, unit="pixel")
    centre = grid.sky_from_image(0.5 * (grid.nx - 1), 0.5 * (grid.ny - 1))
    size = grid.nx * grid.binning, grid.ny * grid.binning
    write_region_file(layout.crop, [("box", *centre, *size, 0.0)], comment="the whole of ClusterPyXT's map")
    logger.info("%s: %d circles on %d x %d pixels", acb.scale_map.name, np.count_nonzero(radius), grid.nx, grid.ny)


def _events_in_plane(acb: AcbFolder, obsid: int, grid: PixelGrid) -> tuple[EventList, EventList]:
    """Events and blank-sky events of an observation on the CCDs that both have."""
    events = _in_plane(read_events(acb.events(obsid), obsid=obsid), grid)
    blank = _in_plane(read_events(acb.blank_sky(obsid), obsid=obsid, blank_sky=True), grid)
    ccds = tuple(ccd for ccd in events.ccds if ccd in blank.exposure_s)
    if not ccds:
        raise DataError(f"{acb.blank_sky(obsid)}: has no CCD of {acb.events(obsid).name}. Prepare ObsID {obsid} again.")
    return with_ccds(events, ccds), with_ccds(blank, ccds)


def _without_masked(events: EventList, exposure: np.ndarray, grid: PixelGrid) -> EventList:
    """Events outside the map, which tell the background's level, and those on its exposed pixels.

    ClusterPyXT's files still hold events where its mask has none: without exposure they would only add to the rest.
    """
    pixel = grid.pixel_index(events["x"], events["y"])
    return events.select((pixel < 0) | (exposure.ravel()[pixel] > 0.0))


def _in_plane(events: EventList, grid: PixelGrid) -> EventList:
    """Positions in the tangent plane of the map."""
    x, y = reproject_sky(events["x"], events["y"], events.wcs(), sky_wcs(grid.ra_deg, grid.dec_deg))
    step_deg = SKY_PIXEL_ARCSEC / 3600.0
    return dataclasses.replace(
        events,
        columns={**events.columns, "x": x.astype(np.float32), "y": y.astype(np.float32)},
        ra_deg=grid.ra_deg, dec_deg=grid.dec_deg,
        reference_pixel=(SKY_REFERENCE_PIXEL, SKY_REFERENCE_PIXEL), pixel_deg=(-step_deg, step_deg),
    )  # fmt: skip


def _take_exposure(
    layout: ClusterLayout, acb: AcbFolder, events: EventList, blank: EventList, radius: np.ndarray, grid: PixelGrid
) -> np.ndarray:
    """Exposure of each pixel [s], from that of the circles; written, with its share of each CCD."""
    obsid, exposure_s = events.obsid, events.reference_exposure_s
    path = acb.effective_time(obsid, "data")
    time_s = read_effective_time(path, grid.shape)
    largest = float(time_s.max()) / exposure_s
    if not 0.0 < largest < LARGEST_SHARE:
        raise DataError(
            f"{path}: effective times of up to {time_s.max():.6g} s, but EXPOSURE of {acb.events(obsid).name} is "
            f"{exposure_s:.6g} s. They are not of the same cleaning: calculate the effective times again."
        )
    share, error = pixel_exposure_share(np.where(radius > 0.0, np.minimum(time_s / exposure_s, 1.0), 0.0), radius)
    worst = float(np.quantile(np.abs(error[share > 0.0]), 0.99))
    log = logger.warning if worst > NOTABLE_SHARE_ERROR else logger.info
    log("ObsID %d: exposures of 99 %% of the circles are ClusterPyXT's within %.2g %%", obsid, 100.0 * worst)
    background_s = read_effective_time(acb.effective_time(obsid, "background"), grid.shape)
    if background_s.max() > 0.0:
        logger.info(
            "ObsID %d: ClusterPyXT's background scale is %.4f", obsid, time_s.sum() / background_s.sum()
        )  # fmt: skip
    exposure = share * exposure_s
    by_ccd = exposure_images_by_ccd(events, grid, geometry=blank)
    total = np.sum(list(by_ccd.values()), axis=0)
    parts = {
        f"CCD{ccd}": exposure * np.where(total > 0.0, image / np.maximum(total, 1e-30), 1.0 / len(by_ccd))
        for ccd, image in by_ccd.items()
    }
    write_image(layout.observation(obsid).clean_exposure, exposure, grid, unit="s", parts=parts)
    return exposure


def _take_responses(layout: ClusterLayout, acb: AcbFolder, obsid: int) -> None:
    observation = layout.observation(obsid)
    arf, rmf = (acb.response(obsid, kind) for kind in ("arf", "rmf"))
    check_responses(arf, rmf)
    copy_uncompressed(arf, observation.arf)
    copy_uncompressed(rmf, observation.rmf)
    if acb.arf_region(obsid).is_file() and not observation.arf_region.exists():
        copy_uncompressed(acb.arf_region(obsid), observation.arf_region)


def _acb(context: StageContext) -> AcbFolder:
    folder = imported_from(context.layout)
    if folder is None:
        raise MissingInput(f"{context.layout.folder}: was not imported. Run: cpxt-prep --import-acb DIR.")
    return AcbFolder(folder, context.config.name)


def _needs(context: StageContext) -> list[Path]:
    return _acb(context).files(context.config.obsids)


def _makes(context: StageContext) -> list[Path]:
    layout = context.layout
    return [
        *(
            path
            for each in map(layout.observation, context.config.obsids)
            for path in (each.clean_events, each.clean_background_events, each.clean_exposure, each.arf, each.rmf)
        ),
        layout.broad_flux, layout.surface_brightness_nosrc, layout.source_mask, layout.imported_scale_map, layout.crop,
    ]  # fmt: skip


STAGE = Stage(
    number=3,
    name="import",
    summary="take over ClusterPyXT's acb folder",
    needs=_needs,
    makes=_makes,
    settings=("cluster.name", "cluster.observation_ids"),
    run=run,
)
