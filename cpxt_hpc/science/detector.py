"""Which CCDs of ACIS an observation uses."""

from __future__ import annotations

import dataclasses

import numpy as np

from cpxt_hpc.science.events import EventList

ACIS_I, ACIS_S = "ACIS-I", "ACIS-S"
IMAGING_CCDS = (0, 1, 2, 3)
SPECTROSCOPIC_CCDS = (4, 5, 6, 7, 8, 9)

_SIM_Z_BETWEEN_MM = -212.0
"""Between the positions of the instrument table for the two aimpoints, ACIS-I -233.6 mm and ACIS-S -190.1 mm."""


def aimpoint_detector(events: EventList) -> str:
    """Array that holds the aimpoint, ``ACIS-I`` or ``ACIS-S``.

    Told by SIM_Z, the position of the instrument table; without it by the CCD whose good times come first in the
    file, which is the aimpoint's.
    """
    position = events.header.get("SIM_Z")
    if isinstance(position, (int, float)):
        return ACIS_I if position < _SIM_Z_BETWEEN_MM else ACIS_S
    return ACIS_I if next(iter(events.exposure_s)) in IMAGING_CCDS else ACIS_S


def used_ccds(events: EventList) -> tuple[int, ...]:
    """CCDs in use, ascending: 0 to 3 for an ACIS-I aimpoint, 4 to 9 for an ACIS-S one, as far as they have events."""
    usable = IMAGING_CCDS if aimpoint_detector(events) == ACIS_I else SPECTROSCOPIC_CCDS
    return tuple(ccd for ccd in events.ccds if ccd in usable)


def with_ccds(events: EventList, ccds: tuple[int, ...]) -> EventList:
    """The events, good times and exposures of some CCDs only."""
    selected = events.select(np.isin(events["ccd_id"], ccds))
    return dataclasses.replace(
        selected,
        good_times={ccd: times for ccd, times in events.good_times.items() if ccd in ccds},
        exposure_s={ccd: time for ccd, time in events.exposure_s.items() if ccd in ccds},
    )
