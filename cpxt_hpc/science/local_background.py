"""A background from the observation itself: the events of an area off the cluster, in place of the blank sky.

Its events are spread over the CCDs in proportion to the exposure, each used once, so that they stand for a blank sky
whose exposure is that of the observation times the area's share of the exposed area. The level is that share, which is
known; the particle band, which sets the level of a real blank sky, would only add noise. The vignetting of the sky
that the area sees is not corrected: its level holds for the area's distance from the axis.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from cpxt_hpc.errors import DataError
from cpxt_hpc.science.background import BackgroundScale, background_scales
from cpxt_hpc.science.background_groups import BackgroundGroup, detector_groups
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.grid import PixelGrid

FEWEST_EVENTS = 100
"""Events of the area on the CCDs of a detector group; a template of fewer would be noise."""


def local_blank_sky(
    events: EventList,
    exposures_s: Mapping[int, np.ndarray],
    area: np.ndarray,
    grid: PixelGrid,
    rng: np.random.Generator,
) -> EventList:
    """Spread the events of an area over the whole field.

    Parameters
    ----------
    events : EventList
        Cleaned.
    exposures_s : mapping of int to ndarray, shape (ny, nx)
        Exposure by CCD, 0 where sources are masked.
    area : ndarray of bool, shape (ny, nx)
        Pixels that show background only.
    grid : PixelGrid
    rng : numpy.random.Generator

    Returns
    -------
    EventList
        As a blank sky: without times; the exposure of a CCD is the observation's times the share of the exposed area,
        summed over its detector group, that lies in the area.

    Raises
    ------
    DataError
        The area holds less than `FEWEST_EVENTS` events of a detector group.
    """
    pixel = grid.pixel_index(events["x"], events["y"])
    inside = (pixel >= 0) & area.ravel()[pixel]
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("ccd_id", "x", "y", "energy", "pi")}
    exposure_s = {}
    for group in detector_groups(events.ccds):
        own = inside & np.isin(events["ccd_id"], group.ccds)
        by_ccd = np.array([exposures_s[ccd] for ccd in group.ccds], dtype=float)
        n = int(np.count_nonzero(own))
        if n < FEWEST_EVENTS:
            raise DataError(
                f"ObsID {events.obsid}: the area of [background] local_region holds {n} events on CCD "
                f"{', '.join(map(str, group.ccds))} ({group.name}); at least {FEWEST_EVENTS} are needed. Draw it on "
                "these CCDs too, or set source = blanksky."
            )
        share = float(by_ccd[:, area].sum() / by_ccd.sum())
        exposure_s |= {ccd: events.exposure_s[ccd] * share for ccd in group.ccds}
        cumulative = np.cumsum(by_ccd.ravel())
        place = np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
        ccd_index, flat = np.divmod(place, grid.nx * grid.ny)
        iy, ix = np.divmod(flat, grid.nx)
        x, y = grid.sky_from_image(ix + rng.uniform(-0.5, 0.5, n), iy + rng.uniform(-0.5, 0.5, n))
        columns["ccd_id"].append(np.array(group.ccds, dtype=events["ccd_id"].dtype)[ccd_index])
        for name, values in (("x", x), ("y", y), ("energy", events["energy"][own]), ("pi", events["pi"][own])):
            columns[name].append(values.astype(events[name].dtype))
    return dataclasses.replace(
        events,
        columns={name: np.concatenate(values) for name, values in columns.items()},
        good_times={},
        exposure_s=exposure_s,
    )


def local_scales(
    events: EventList, local: EventList, groups: Sequence[BackgroundGroup], chosen: np.ndarray
) -> dict[str, BackgroundScale]:
    """Scale of each group by the exposed areas; the counts of the particle band only tell the level.

    Parameters
    ----------
    events, local : EventList
        As `local_blank_sky` takes and gives them.
    groups : sequence of BackgroundGroup
    chosen : ndarray of bool, shape (n_local_events,)
        Events in the fitted band: their number is what the level is uncertain by.

    Returns
    -------
    dict of str to BackgroundScale
        Its ``level`` is that of the particles over the field relative to the area: not 1 where they are not even.
    """
    value = events.reference_exposure_s / max(local.exposure_s[ccd] for ccd in events.ccds)
    scales = {}
    for name, scale in background_scales(events, local, groups).items():
        level_ccds = next(group.level_ccds for group in groups if group.name == name)
        n = np.count_nonzero(chosen & np.isin(local["ccd_id"], level_ccds))
        scales[name] = dataclasses.replace(scale, value=value, error=value / float(np.sqrt(max(n, 1))))
    return scales
