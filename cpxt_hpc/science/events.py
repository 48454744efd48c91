"""Lists of ACIS events: the columns, good times and exposures that the stages work on."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from cpxt_hpc.science.grid import sky_wcs

if TYPE_CHECKING:
    from astropy.wcs import WCS

PI_CHANNEL_EV = 14.6
"""Width of an ACIS PI channel [eV]; channel 1 holds 0 to 14.6 eV."""

FRONT_ILLUMINATED = "FI"


def detector_group(ccd_id: int) -> str:
    """Group of chips that share a particle background spectrum: ``FI``, or ``BI5`` and ``BI7`` alone."""
    return f"BI{ccd_id}" if ccd_id in (5, 7) else FRONT_ILLUMINATED


@dataclasses.dataclass(frozen=True)
class EventList:
    """Events of one observation, or of its blank-sky file.

    Attributes
    ----------
    obsid : int
        Observation that the events belong to (for a blank-sky file: that it stands for).
    columns : dict of str to ndarray, each of shape (n_events,)
        At least ``ccd_id``, ``x``, ``y`` (sky pixels), ``energy`` (eV), ``pi`` (channel); ``time`` (s) for
        observations; ``chipx``, ``chipy`` where the file has them. Native byte order.
    ra_deg, dec_deg : float
        Tangent point of the sky pixels [deg].
    reference_pixel, pixel_deg : tuple of float
        Sky pixel of the tangent point; size of a sky pixel [deg].
    good_times : dict of int to ndarray, shape (n, 2)
        Start and stop [s] of the good time intervals of each CCD; empty for a blank-sky file.
    exposure_s : dict of int to float
        Exposure of each CCD [s], dead time corrected.
    dtcor : float
        Dead-time correction: LIVETIME / ONTIME.
    header : dict of str to (str, int, float or bool)
        Keywords that describe the observation (OBJECT, DATE-OBS, DETNAM, DATAMODE, ...).
    """

    obsid: int
    columns: dict[str, np.ndarray]
    ra_deg: float
    dec_deg: float
    reference_pixel: tuple[float, float]
    pixel_deg: tuple[float, float]
    good_times: dict[int, np.ndarray]
    exposure_s: dict[int, float]
    dtcor: float = 1.0
    header: dict[str, str | int | float | bool] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["x"])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    @property
    def ccds(self) -> tuple[int, ...]:
        """CCDs in use, ascending."""
        return tuple(sorted(self.exposure_s))

    @property
    def reference_exposure_s(self) -> float:
        """Longest exposure of any CCD [s]: what relative exposure images refer to."""
        return max(self.exposure_s.values())

    def wcs(self) -> WCS:
        """Coordinate system of the ``x``, ``y`` columns."""
        return sky_wcs(self.ra_deg, self.dec_deg, reference_pixel=self.reference_pixel, pixel_deg=self.pixel_deg)

    def select(self, keep: np.ndarray) -> EventList:
        """The events where a boolean array of shape (n_events,) is true; times and exposures unchanged."""
        return dataclasses.replace(self, columns={name: column[keep] for name, column in self.columns.items()})

    def in_energy(self, low_ev: float, high_ev: float) -> np.ndarray:
        """Boolean array: low <= energy < high [eV]."""
        return (self.columns["energy"] >= low_ev) & (self.columns["energy"] < high_ev)
