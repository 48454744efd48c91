"""Stage 2: remove point sources and flares, correct the exposures."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import DataError
from cpxt_hpc.io.events import read_events, write_events
from cpxt_hpc.io.good_times import write_good_times
from cpxt_hpc.io.images import read_image, read_images, write_image
from cpxt_hpc.io.light_curves import write_light_curves
from cpxt_hpc.io.region_files import region_mask, tell_regions
from cpxt_hpc.layout import ObservationLayout
from cpxt_hpc.science.background import scaled_blank_sky
from cpxt_hpc.science.detector import with_ccds
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.good_times import total_time, within, without
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.images import BROAD_BAND_EV, flux_image
from cpxt_hpc.science.lightcurve import LightCurve, cut_times, light_curve, quiet_bins
from cpxt_hpc.stages.base import RegionRequest, Stage, StageContext
from cpxt_hpc.stages.local_background import is_local, local_background, local_region

logger = logging.getLogger(__name__)

HARD_BAND_EV = (9000.0, 12_000.0)
FULL_BAND_EV = (300.0, 12_000.0)
"""Bands of the two passes: first where flares stand out of any cluster, then all energies without the cluster."""

FEWEST_COUNTS_A_BIN = 1.0
"""With fewer on average, the bins that happen to hold a count would be taken for flares, and all events cut."""


def run(context: StageContext) -> None:
    """Clean every observation and make the image on which the crop is drawn."""
    layout = context.layout
    _, grid, _ = read_image(layout.broad_flux)
    kept = ~region_mask(layout.sources, grid, mode="touch")
    bright = region_mask(layout.exclude, grid, mode="touch")
    for path in (layout.sources, layout.exclude):
        tell_regions(path, grid)
    if not kept.any():
        raise DataError(f"{layout.sources}: its shapes cover the whole image. Draw the point sources only.")
    write_image(layout.source_mask, kept, grid, unit="", header={"MASKED": (int((~kept).sum()), "source pixels")})
    logger.info("point sources: %d of %d pixels masked", np.count_nonzero(~kept), kept.size)
    counts, background, exposure = (np.zeros(grid.shape) for _ in range(3))
    for observation in map(layout.observation, context.config.obsids):
        own_counts, own_background, own_exposure = _clean(context, observation, grid, kept, bright)
        counts += own_counts
        background += own_background
        exposure += own_exposure
    write_image(
        layout.surface_brightness_nosrc, flux_image(counts, background, exposure), grid, unit="count/s/pixel",
        header={"ENERGYLO": (BROAD_BAND_EV[0] / 1e3, "keV"), "ENERGYHI": (BROAD_BAND_EV[1] / 1e3, "keV")},
        history=["flares cut, point sources masked; (counts - background) / exposure; 0 where not exposed or masked"],
    )


def _clean(
    context: StageContext, observation: ObservationLayout, grid: PixelGrid, kept: np.ndarray, bright: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clean one observation; its broad-band counts, scaled background [count/pixel] and exposure [s]."""
    events = _outside_mask(read_events(observation.events), kept, grid)
    before_s = dict(events.exposure_s)
    events = _without_flares(context, observation, events, ~bright[_pixel_of(events, grid)])
    write_events(observation.clean_events, events, ["point sources and flares removed"])
    write_good_times(observation.good_times, events.good_times, events.header)

    by_ccd, exposure_grid, _ = read_images(observation.exposure)
    if exposure_grid != grid:
        raise DataError(f"{observation.exposure}: not on the common grid. Run stage 1 (merge) again.")
    cleaned = {
        f"CCD{ccd}": by_ccd[f"CCD{ccd}"] * kept * (events.exposure_s[ccd] / before_s[ccd]) for ccd in events.ccds
    }
    exposure = np.sum(list(cleaned.values()), axis=0)
    write_image(observation.clean_exposure, exposure, grid, unit="s", parts=cleaned)
    blank = _background_events(context, observation, events, cleaned, kept, grid)
    broad = events.select(events.in_energy(*BROAD_BAND_EV))
    background = scaled_blank_sky(events, blank, grid, blank.in_energy(*BROAD_BAND_EV))
    return grid.counts_image(broad["x"], broad["y"]), background, exposure


def _background_events(
    context: StageContext,
    observation: ObservationLayout,
    events: EventList,
    exposures: dict[str, np.ndarray],
    kept: np.ndarray,
    grid: PixelGrid,
) -> EventList:
    """The blank sky outside the sources' areas, or what stands for it; written."""
    if is_local(context):
        blank = local_background(context, events, exposures, kept, grid)
        history = ["events of the local background, spread over the CCDs"]
    else:
        blank = with_ccds(_outside_mask(read_events(observation.background_events), kept, grid), events.ccds)
        history = ["blank sky: areas of point sources removed"]
    write_events(observation.clean_background_events, blank, history)
    return blank


def _without_flares(
    context: StageContext, observation: ObservationLayout, events: EventList, faint: np.ndarray
) -> EventList:
    """Events and good times without flares: hard band first, then all energies away from bright areas."""
    settings = context.config.clean
    good_times = events.good_times
    origin = min(intervals[0, 0] for intervals in good_times.values() if len(intervals))
    curves: list[tuple[LightCurve, np.ndarray]] = []
    for band, chosen in ((HARD_BAND_EV, True), (FULL_BAND_EV, faint)):
        used = events.in_energy(*band) & chosen
        curve = light_curve(
            events["time"][used], events["ccd_id"][used], good_times, settings.bin_length_s, origin_s=origin
        )
        method = settings.method
        if method != "none" and curve.counts.sum() < FEWEST_COUNTS_A_BIN * len(curve):
            logger.warning(
                "ObsID %d, %g-%g keV: %d counts in %d bins of the light curve are too few to tell flares; none is cut "
                "in this band. Longer bins ([clean] bin_length_s) or a smaller exclude.reg may help.",
                events.obsid, band[0] / 1e3, band[1] / 1e3, curve.counts.sum(), len(curve),
            )
            method = "none"
        try:
            quiet = quiet_bins(
                curve, method, nsigma=settings.nsigma, scale=settings.scale, bin_length_s=settings.bin_length_s
            )
        except DataError as error:
            raise DataError(f"ObsID {events.obsid}, {band[0] / 1e3:g}-{band[1] / 1e3:g} keV: {error}") from error
        good_times = {ccd: without(intervals, cut_times(curve, quiet)) for ccd, intervals in good_times.items()}
        curves.append((curve, quiet))
    write_light_curves(
        observation.light_curve, curves, (HARD_BAND_EV, FULL_BAND_EV),
        {"METHOD": settings.method, "NSIGMA": settings.nsigma, "SCALE": settings.scale,
         "BINLEN": settings.bin_length_s, "OBS_ID": str(events.obsid)},
    )
    cleaned = _at_times(events, good_times)
    logger.info(
        "ObsID %d: %.2f of %.2f ks kept (method %s; %d and %d bins cut in 9-12 and 0.3-12 keV)", events.obsid,
        cleaned.reference_exposure_s / 1e3, events.reference_exposure_s / 1e3, settings.method,
        *(np.count_nonzero(~quiet) for _, quiet in curves),
    )
    return cleaned


def _at_times(events: EventList, good_times: dict[int, np.ndarray]) -> EventList:
    """Events inside the good times of their CCD; exposures are the sums of the good times x DTCOR."""
    exposure_s = {ccd: total_time(intervals) * events.dtcor for ccd, intervals in good_times.items()}
    lost = [ccd for ccd, seconds in exposure_s.items() if seconds <= 0.0]
    if lost:
        logger.warning("ObsID %d: no time is left on CCD %s", events.obsid, ", ".join(map(str, lost)))
    good = np.zeros(len(events), dtype=bool)
    for ccd, intervals in good_times.items():
        good |= (events["ccd_id"] == ccd) & within(events["time"], intervals)
    cleaned = dataclasses.replace(events.select(good), good_times=good_times, exposure_s=exposure_s)
    return with_ccds(cleaned, tuple(ccd for ccd in cleaned.ccds if ccd not in lost))


def _pixel_of(events: EventList, grid: PixelGrid) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each event; every event of stage 1 lies on the grid."""
    return np.divmod(grid.pixel_index(events["x"], events["y"]), grid.nx)


def _outside_mask(events: EventList, kept: np.ndarray, grid: PixelGrid) -> EventList:
    return events.select(kept[_pixel_of(events, grid)])


def _needs(context: StageContext) -> list[Path]:
    layout = context.layout
    observations = [layout.observation(obsid) for obsid in context.config.obsids]
    return [
        layout.broad_flux,
        *(path for each in observations for path in (each.events, each.exposure)),
        *([local_region(context)] if is_local(context) else [each.background_events for each in observations]),
    ]


def _makes(context: StageContext) -> list[Path]:
    layout = context.layout
    per_observation = [
        path
        for each in map(layout.observation, context.config.obsids)
        for path in (
            each.clean_events, each.clean_background_events, each.clean_exposure, each.light_curve, each.good_times
        )
    ]
    return [*per_observation, layout.source_mask, layout.surface_brightness_nosrc]


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _make_sources(context: StageContext) -> None:
    # Loads photutils, which whoever drew the regions does not need.
    from cpxt_hpc.stages.autoregions import make_sources

    make_sources(context)


def _make_exclude(context: StageContext) -> None:
    # Loads photutils, which whoever drew the regions does not need.
    from cpxt_hpc.stages.autoregions import make_exclude

    make_exclude(context)


SOURCES = RegionRequest(
    find=lambda context: _existing(context.layout.sources),
    target=lambda context: context.layout.sources,
    image=lambda context: context.layout.broad_flux,
    what="every point source: circles or ellipses that hold all of its light; nothing of the cluster itself.",
    make=_make_sources,
)

EXCLUDE = RegionRequest(
    find=lambda context: _existing(context.layout.exclude),
    target=lambda context: context.layout.exclude,
    image=lambda context: context.layout.broad_flux,
    what="the bright part of the cluster: it stays out of the light curve in all energies (not out of the map).",
    make=_make_exclude,
)

STAGE = Stage(
    number=2,
    name="clean",
    summary="remove point sources and flares",
    needs=_needs,
    makes=_makes,
    settings=(
        "cluster.observation_ids", "clean.method", "clean.bin_length_s", "clean.nsigma", "clean.scale",
        "background.source", "background.local_region",
    ),
    regions=(SOURCES, EXCLUDE),
    run=run,
)
