"""ACIS-I as the demo sees it: four chips in the focal plane, dither, point-spread function.

The chips lie as in the ACIS tiled detector coordinates (TDET, "ACIS-1.0" tiling), 22 pixels (10.8 arcsec)
apart. Detector coordinates DETX, DETY have the optical axis at 4096.5 and the pixel size of the sky.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cpxt_hpc.science.grid import SKY_PIXEL_ARCSEC

CCDS = (0, 1, 2, 3)
ACTIVE_PIXELS = (2, 1023)
"""First and last chip pixel in which events are kept, both axes."""
AXIS_PIXEL = 4096.5

DITHER_ARCSEC = 8.0
DITHER_PERIODS_S = (1000.0, 707.0)
"""Amplitude and periods of the Lissajous dither of ACIS."""

FRAME_S = 3.14104
DTCOR = 0.98693
"""Frame time with readout, and the fraction of it that is exposed (3.1 s frames)."""

_DETX_FROM_TDETX = -85.5
_DETY_FROM_TDETY = 8136.0


def chip_from_detector(detx: np.ndarray, dety: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chip and chip pixel that a detector position falls on.

    Parameters
    ----------
    detx, dety : ndarray, shape (n,)
        Detector coordinates [pixel].

    Returns
    -------
    ccd_id, chipx, chipy : ndarray, shape (n,)
        CCD (-1 where the position misses all chips) and continuous chip coordinates [pixel], centres at integers.
    """
    tdetx, tdety = detx - _DETX_FROM_TDETX, _DETY_FROM_TDETY - dety
    ccd_id = np.full(len(detx), -1)
    chipx, chipy = np.zeros(len(detx)), np.zeros(len(detx))
    for ccd in CCDS:
        x, y = _chip_from_tdet(ccd, tdetx, tdety)
        low, high = ACTIVE_PIXELS[0] - 0.5, ACTIVE_PIXELS[1] + 0.5
        on_chip = (x >= low) & (x < high) & (y >= low) & (y < high)
        ccd_id[on_chip], chipx[on_chip], chipy[on_chip] = ccd, x[on_chip], y[on_chip]
    return ccd_id, chipx, chipy


def _chip_from_tdet(ccd: int, tdetx: np.ndarray, tdety: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if ccd == 0:
        return 5131.0 - tdety, tdetx - 3061.0
    if ccd == 1:
        return tdety - 4106.0, 5131.0 - tdetx
    if ccd == 2:
        return 4085.0 - tdety, tdetx - 3061.0
    return tdety - 3061.0, 5131.0 - tdetx


def detector_from_chip(ccd_id: np.ndarray, chipx: np.ndarray, chipy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Detector coordinates [pixel] of chip positions: the inverse of `chip_from_detector`."""
    choose = [ccd_id == ccd for ccd in CCDS]
    tdetx = np.select(choose, [chipy + 3061.0, 5131.0 - chipy, chipy + 3061.0, 5131.0 - chipy])
    tdety = np.select(choose, [5131.0 - chipx, chipx + 4106.0, 4085.0 - chipx, chipx + 3061.0])
    return tdetx + _DETX_FROM_TDETX, _DETY_FROM_TDETY - tdety


def tdet_from_detector(detx: np.ndarray, dety: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tiled detector coordinates [pixel] of detector positions."""
    return detx - _DETX_FROM_TDETX, _DETY_FROM_TDETY - dety


@dataclasses.dataclass(frozen=True)
class Pointing:
    """Where an observation looks, and how it dithers.

    Attributes
    ----------
    ra_deg, dec_deg : float
        Optical axis [deg]: tangent point of the sky pixels.
    roll_deg : float
    dither_phase : tuple of float
        Phases of the two axes [rad].
    """

    ra_deg: float
    dec_deg: float
    roll_deg: float
    dither_phase: tuple[float, float]

    def dither_pixel(self, time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shift of the image on the detector [pixel] at times since the start."""
        amplitude = DITHER_ARCSEC / SKY_PIXEL_ARCSEC
        return tuple(
            amplitude * np.sin(2.0 * np.pi * time_s / period + phase)
            for period, phase in zip(DITHER_PERIODS_S, self.dither_phase, strict=True)
        )

    def detector_from_sky(self, x: np.ndarray, y: np.ndarray, time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Detector coordinates of sky pixels (x, y) at times [s] since the start."""
        cos, sin = np.cos(np.radians(self.roll_deg)), np.sin(np.radians(self.roll_deg))
        dx, dy = x - AXIS_PIXEL, y - AXIS_PIXEL
        shift_x, shift_y = self.dither_pixel(time_s)
        return AXIS_PIXEL + cos * dx - sin * dy + shift_x, AXIS_PIXEL + sin * dx + cos * dy + shift_y

    def sky_from_detector(
        self, detx: np.ndarray, dety: np.ndarray, time_s: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sky pixels (x, y) of detector coordinates at times [s] since the start."""
        cos, sin = np.cos(np.radians(self.roll_deg)), np.sin(np.radians(self.roll_deg))
        shift_x, shift_y = self.dither_pixel(time_s)
        dx, dy = detx - AXIS_PIXEL - shift_x, dety - AXIS_PIXEL - shift_y
        return AXIS_PIXEL + cos * dx + sin * dy, AXIS_PIXEL - sin * dx + cos * dy


def psf_sigma_arcsec(off_axis_arcmin: np.ndarray) -> np.ndarray:
    """Width of the Gaussian point-spread function [arcsec].

    The radius 1 + 10 (theta / 10 arcmin)^2 arcsec (Hickox & Markevitch 2006, ApJ 645, 95) is taken to hold 90 %.
    """
    return (1.0 + 10.0 * (np.asarray(off_axis_arcmin) / 10.0) ** 2) / np.sqrt(-2.0 * np.log(0.1))
