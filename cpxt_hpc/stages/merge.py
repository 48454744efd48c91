"""Stage 1: bring all observations into one tangent plane and sum their broad-band images."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import DataError
from cpxt_hpc.io.events import read_events, read_tangent_point, write_events
from cpxt_hpc.io.images import write_image
from cpxt_hpc.layout import ObservationLayout
from cpxt_hpc.science.background import scaled_blank_sky
from cpxt_hpc.science.detector import aimpoint_detector, used_ccds, with_ccds
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.exposure import exposure_images_by_ccd, on_active_part
from cpxt_hpc.science.good_times import total_time, within
from cpxt_hpc.science.grid import (
    SKY_PIXEL_ARCSEC,
    SKY_REFERENCE_PIXEL,
    PixelGrid,
    grid_covering,
    reproject_sky,
    sky_wcs,
)
from cpxt_hpc.science.images import BROAD_BAND_EV, flux_image
from cpxt_hpc.science.pointing import angular_separation_deg, mean_direction
from cpxt_hpc.stages.base import Stage, StageContext
from cpxt_hpc.stages.fetch import fetch_observations
from cpxt_hpc.stages.local_background import is_local
from cpxt_hpc.toolchain.base import Toolchain

logger = logging.getLogger(__name__)

KEPT_ENERGY_EV = (50.0, 12_100.0)
"""Events outside serve nothing: the fit ends at 12 keV at most, the particle band is 9.5-12 keV."""

WORKING_COLUMNS = ("time", "ccd_id", "chipx", "chipy", "x", "y", "energy", "pi", "grade", "status")

MISPLACED_BLANK_SKY = 0.05
"""Share of blank-sky events off the CCDs from which on the file cannot be in the observation's sky frame."""

MISPLACED_BY_PIXEL = 1000.0
"""Blank-sky events this far outside the rectangle of the observation's events cannot be in its frame either."""

FARTHEST_POINTING_DEG = 2.0
"""Pointings further from their mean would make images of more than 50 million pixels."""

SKY_FRAME_PIXEL = (0.5, 8192.5)
"""Range of ACIS sky pixels; events far outside would make the common image as large."""

NOTABLE_SHARE = 0.01

CONTRADICTING_FACTOR = 2.0
"""Good times and EXPOSURE that differ by more cannot be of the same observation."""


def run(context: StageContext) -> None:
    """Merge the observations: events in the common tangent plane, exposure images, broad-band flux image."""
    toolchain = context.toolchain
    observations = [context.layout.observation(obsid) for obsid in context.config.obsids]
    ra_deg, dec_deg = _common_tangent_point(observations, toolchain)
    with_blank = not is_local(context)
    corners = [_bring_to_tangent_plane(each, toolchain, ra_deg, dec_deg, with_blank) for each in observations]
    x, y = (np.concatenate(values) for values in zip(*corners, strict=True))
    grid = grid_covering(ra_deg, dec_deg, x, y)
    logger.info(
        "common grid: %d x %d pixels of %.3f arcsec about RA %.5f, Dec %.5f",
        grid.nx, grid.ny, grid.pixel_arcsec, ra_deg, dec_deg,
    )
    counts, background, exposure = (np.zeros(grid.shape) for _ in range(3))
    for observation in observations:
        own_counts, own_background, own_exposure = _make_images(observation, grid, with_blank)
        counts += own_counts
        background += own_background
        exposure += own_exposure
    layout = context.layout
    band = {"ENERGYLO": (BROAD_BAND_EV[0] / 1e3, "keV"), "ENERGYHI": (BROAD_BAND_EV[1] / 1e3, "keV")}
    write_image(layout.broad_counts, counts.astype(np.int32), grid, unit="count", header=band)
    write_image(layout.broad_background, background, grid, unit="count", header=band)
    write_image(layout.merged_exposure, exposure, grid, unit="s")
    write_image(
        layout.broad_flux, flux_image(counts, background, exposure), grid, unit="count/s/pixel", header=band,
        history=["(counts - background) / exposure; 0 where not exposed; vignetting is not corrected"],
    )
    logger.info("%s: %d counts in 0.5-7 keV, %.0f of them background", layout.broad_flux.name, counts.sum(),
                background.sum())


def _common_tangent_point(observations: list[ObservationLayout], toolchain: Toolchain) -> tuple[float, float]:
    """Tangent point of one observation, mean direction of several [deg]; rounded so that headers hold it exactly."""
    points = [read_tangent_point(toolchain.locate_events(each)) for each in observations]
    ra_deg, dec_deg = points[0] if len(points) == 1 else mean_direction(*np.transpose(points))
    far = angular_separation_deg(*np.transpose(points), ra_deg, dec_deg)
    if far.max() > FARTHEST_POINTING_DEG:
        raise DataError(
            f"ObsID {observations[int(far.argmax())].obsid} points {far.max():.1f} degrees away from the mean of all "
            f"pointings, at most {FARTHEST_POINTING_DEG:g} can be mapped together. Do all belong to this cluster?"
        )
    return round(ra_deg, 9) % 360.0, round(dec_deg, 9)


def _bring_to_tangent_plane(
    observation: ObservationLayout, toolchain: Toolchain, ra_deg: float, dec_deg: float, with_blank: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Write the events and blank-sky events in use in the common plane; extreme positions x, y of both."""
    events = _in_sky_frame(read_events(toolchain.locate_events(observation), obsid=observation.obsid))
    blank = None
    if with_blank:
        blank = read_events(toolchain.locate_blank_sky(observation), obsid=observation.obsid, blank_sky=True)
    events, blank = _in_use(events, blank)
    events = _reprojected(_working_part(events, "observed"), ra_deg, dec_deg)
    write_events(observation.events, events, ["CCDs in use, good times, common tangent plane"])
    logger.info(
        "ObsID %d: %s, CCDs %s, %.1f ks, %d events", events.obsid, aimpoint_detector(events),
        ",".join(map(str, events.ccds)), events.reference_exposure_s / 1e3, len(events),
    )
    lists = [events]
    if blank is not None:
        blank = _working_part(_on_sub_array(_status_cleaned(blank, events), events), "blank-sky")
        blank = _reprojected(blank, ra_deg, dec_deg)
        if not _lies_about(blank, events):
            raise _misplaced_blank_sky(events.obsid, 1.0)
        write_events(observation.background_events, blank, ["blank sky: CCDs in use, common tangent plane"])
        logger.info(
            "ObsID %d: %d blank-sky events (%.1f ks)", events.obsid, len(blank), blank.reference_exposure_s / 1e3
        )
        lists.append(blank)
    return tuple(
        np.array([edge(each[axis]) for each in lists for edge in (np.min, np.max)]) for axis in ("x", "y")
    )


def _in_sky_frame(events: EventList) -> EventList:
    low, high = SKY_FRAME_PIXEL
    inside = np.all([(events[axis] > low) & (events[axis] < high) for axis in ("x", "y")], axis=0)
    if inside.all():
        return events
    logger.warning(
        "ObsID %d: %d events outside the sky frame (%g to %g pixels) left out", events.obsid,
        np.count_nonzero(~inside), low, high,
    )
    return events.select(inside)


def _in_use(events: EventList, blank: EventList | None) -> tuple[EventList, EventList | None]:
    """Events of the CCDs in use inside their good times, and the blank-sky events of the same CCDs."""
    ccds = used_ccds(events)
    without_blank = [ccd for ccd in ccds if blank is not None and ccd not in blank.exposure_s]
    if without_blank:
        logger.warning(
            "ObsID %d: CCD %s left out: the blank-sky file has no events on it", events.obsid,
            ", ".join(map(str, without_blank)),
        )
    ccds = tuple(ccd for ccd in ccds if ccd not in without_blank)
    if not ccds:
        raise DataError(
            f"ObsID {events.obsid}: no CCD can be used (aimpoint on {aimpoint_detector(events)}, events on CCDs "
            f"{', '.join(map(str, events.ccds))}, blank sky on "
            f"{'none' if blank is None else ', '.join(map(str, blank.ccds))})."
        )
    events, blank = with_ccds(events, ccds), None if blank is None else with_ccds(blank, ccds)
    if "time" not in events.columns:
        raise DataError(f"ObsID {events.obsid}: its event file has no column time. Expected level-2 events.")
    good = np.zeros(len(events), dtype=bool)
    for ccd, intervals in events.good_times.items():
        good |= (events["ccd_id"] == ccd) & within(events["time"], intervals)
        from_times, stated = total_time(intervals) * events.dtcor, events.exposure_s[ccd]
        if not 1.0 / CONTRADICTING_FACTOR < from_times / stated < CONTRADICTING_FACTOR:
            raise DataError(
                f"ObsID {events.obsid}, CCD {ccd}: the event file's EXPOSURE is {stated:.6g} s, but its good times x "
                f"DTCOR are {from_times:.6g} s. Reprocess the observation."
            )
        if abs(from_times / stated - 1.0) > NOTABLE_SHARE:
            logger.warning(
                "ObsID %d, CCD %d: EXPOSURE is %.0f s, but good times x DTCOR %.0f s", events.obsid, ccd, stated,
                from_times,
            )
    if not good.any():
        raise DataError(
            f"ObsID {events.obsid}: none of its {len(events)} events lies in the good times (GTI blocks) of its event "
            "file. Reprocess the observation."
        )
    if not good.all():
        logger.info("ObsID %d: %d events outside the good times left out", events.obsid, np.count_nonzero(~good))
    return events.select(good), blank


def _status_cleaned(blank: EventList, observation: EventList) -> EventList:
    """Blank-sky events with status 0 where the observation was cleaned in VFAINT mode, all of them otherwise."""
    if not bool(observation.header.get("CHKVFPHA", False)):
        return blank
    if "status" not in blank.columns:
        logger.warning(
            "ObsID %d was cleaned in VFAINT mode (CHKVFPHA), but its blank-sky file has no status column for that",
            observation.obsid,
        )
        return blank
    kept = blank["status"] == 0
    logger.info("ObsID %d: VFAINT cleaning drops %.1f %% of the blank-sky events", observation.obsid,
                100.0 * np.mean(~kept))
    return blank.select(kept)


def _on_sub_array(blank: EventList, events: EventList) -> EventList:
    """Blank-sky events on the part of the CCDs that the observation read out."""
    kept = on_active_part(blank, events)
    if not kept.all():
        logger.info("ObsID %d: sub-array: %.1f %% of the blank-sky events lie outside and are dropped", events.obsid,
                    100.0 * np.mean(~kept))  # fmt: skip
    return blank.select(kept)


def _working_part(events: EventList, what: str) -> EventList:
    kept = events.select(events.in_energy(*KEPT_ENERGY_EV))
    if len(kept) == 0:
        raise DataError(
            f"ObsID {events.obsid}: no {what} event of {KEPT_ENERGY_EV[0] / 1e3:g} to {KEPT_ENERGY_EV[1] / 1e3:g} keV "
            "is left on the CCDs in use. Fetch or make the file again."
        )
    columns = {name: column for name, column in kept.columns.items() if name in WORKING_COLUMNS}
    return dataclasses.replace(kept, columns=columns)


def _reprojected(events: EventList, ra_deg: float, dec_deg: float) -> EventList:
    """Positions in the common plane, as float32 like the file has them, so that no event changes its pixel later."""
    x, y = reproject_sky(events["x"], events["y"], events.wcs(), sky_wcs(ra_deg, dec_deg))
    step_deg = SKY_PIXEL_ARCSEC / 3600.0
    return dataclasses.replace(
        events,
        columns={**events.columns, "x": x.astype(np.float32), "y": y.astype(np.float32)},
        ra_deg=ra_deg, dec_deg=dec_deg,
        reference_pixel=(SKY_REFERENCE_PIXEL, SKY_REFERENCE_PIXEL), pixel_deg=(-step_deg, step_deg),
    )


def _make_images(
    observation: ObservationLayout, grid: PixelGrid, with_blank: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Broad-band counts, scaled background [count/pixel] and exposure [s] of one observation; writes the exposure."""
    events = read_events(observation.events)
    blank = read_events(observation.background_events) if with_blank else None
    if all("chipx" not in each.columns for each in (events, blank) if each is not None):
        logger.warning("ObsID %d: no chip coordinates; the CCDs' edges are taken from the events", events.obsid)
    by_ccd = exposure_images_by_ccd(events, grid, geometry=blank)
    exposure = np.sum(list(by_ccd.values()), axis=0)
    write_image(observation.exposure, exposure, grid, unit="s",
                parts={f"CCD{ccd}": image for ccd, image in by_ccd.items()})
    _check_footprint(events, blank, exposure, grid)
    broad = events.select(events.in_energy(*BROAD_BAND_EV))
    # A local background is only known after stage 2: until then the image shows the observation as it is.
    background = np.zeros(grid.shape)
    if blank is not None:
        background = scaled_blank_sky(events, blank, grid, blank.in_energy(*BROAD_BAND_EV))
    return grid.counts_image(*_positions(broad)), background, exposure


def _positions(events: EventList) -> tuple[np.ndarray, np.ndarray]:
    return events["x"], events["y"]


def _check_footprint(events: EventList, blank: EventList | None, exposure: np.ndarray, grid: PixelGrid) -> None:
    off, blank_off = (
        0.0 if each is None else float(np.mean(exposure.ravel()[grid.pixel_index(*_positions(each))] <= 0.0))
        for each in (events, blank)
    )
    if blank_off > MISPLACED_BLANK_SKY:
        raise _misplaced_blank_sky(events.obsid, blank_off)
    if off > NOTABLE_SHARE:
        logger.warning("ObsID %d: %.1f %% of the events lie where the exposure is zero", events.obsid, 100 * off)


def _lies_about(blank: EventList, events: EventList) -> bool:
    """Whether every blank-sky event has a position in or near the rectangle of the observation's events."""
    return all(
        np.all(np.isfinite(blank[axis]))
        and blank[axis].min() > events[axis].min() - MISPLACED_BY_PIXEL
        and blank[axis].max() < events[axis].max() + MISPLACED_BY_PIXEL
        for axis in ("x", "y")
    )


def _misplaced_blank_sky(obsid: int, share: float) -> DataError:
    return DataError(
        f"ObsID {obsid}: {100 * share:.0f} % of the blank-sky events lie off the observation's CCDs. Bring the file to "
        "the observation's sky frame (CIAO's blanksky or reproject_events)."
    )


def _fetch(context: StageContext) -> None:
    fetch_observations(context)
    context.toolchain.make_events(context.layout, context.config.obsids, blank_sky=not is_local(context))


def _needs(context: StageContext) -> list[Path]:
    toolchain = context.toolchain
    observations = [context.layout.observation(obsid) for obsid in context.config.obsids]
    locators = [toolchain.locate_events, *([] if is_local(context) else [toolchain.locate_blank_sky])]
    return [locate(each) for each in observations for locate in locators]


def _makes(context: StageContext) -> list[Path]:
    layout = context.layout
    per_observation = [
        path
        for each in map(layout.observation, context.config.obsids)
        for path in (each.events, *([] if is_local(context) else [each.background_events]), each.exposure)
    ]
    return [*per_observation, layout.broad_counts, layout.broad_background, layout.merged_exposure, layout.broad_flux]


STAGE = Stage(
    number=1,
    name="merge",
    summary="bring the observations to one tangent plane and sum them",
    needs=_needs,
    makes=_makes,
    settings=("cluster.observation_ids", "background.source"),
    run=run,
    fetch=_fetch,
)
