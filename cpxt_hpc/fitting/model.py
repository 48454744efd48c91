"""What a fit needs to know, as arrays: the content of ``fit_input.h5`` in memory."""

from __future__ import annotations

import dataclasses

import numpy as np

from cpxt_hpc.science.grid import PixelGrid


@dataclasses.dataclass(frozen=True)
class RegionTable:
    """The regions of a map: circles, or lists of pixels.

    Attributes
    ----------
    number : ndarray of int32, shape (n,)
        Region numbers, ascending from 1 for a whole map.
    iy, ix : ndarray of int32, shape (n,)
        Pixel that the region's result belongs to.
    radius : ndarray of float64, shape (n,)
        Radius [image pixels]; a circle holds the pixels whose centre lies within it. 0 for a pixel list.
    pixel_start : ndarray of int64, shape (n + 1,)
        Where each region's pixels start in ``pixels``; for circles start and end are equal.
    pixels : ndarray of int64
        Flat pixel indices iy * nx + ix of the pixel lists, ascending in each region.
    """

    number: np.ndarray
    iy: np.ndarray
    ix: np.ndarray
    radius: np.ndarray
    pixel_start: np.ndarray
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.number)


@dataclasses.dataclass(frozen=True)
class ObservationInput:
    """One observation, as the fit sees it. Images have the grid's shape (ny, nx).

    Attributes
    ----------
    obsid : int
    exposure_s : float
        Reference exposure [s]; ``nodes`` are rates for a region that is exposed this long.
    pixel_start : ndarray of int64, shape (ny * nx + 1,)
        Where the events of each pixel start in ``channel`` (masked pixels have none).
    channel : ndarray of uint16, shape (n_events,)
        Events sorted by pixel: index into the fitted channels.
    blank_pixel_start, blank_channel : ndarray
        The same for the blank-sky events.
    blank_scale : ndarray of float64, shape (n_blank_groups,)
        Factor from blank-sky counts to expected background counts, by group.
    blank_group : ndarray of uint8, shape (n_blank_events,)
        Detector group (index) of each blank-sky event.
    exposure_fraction : ndarray of float32, shape (ny, nx)
        Exposure of each pixel over ``exposure_s``; 0 where masked.
    background_counts : ndarray of float32, shape (n_groups, ny, nx)
        Expected background [count/pixel] in the fitted band by detector group; 0 where masked.
    background_template : ndarray of float64, shape (n_groups, n_channels)
        Spectrum of the background in the fitted channels, sum 1, strictly positive.
    groups : tuple of str
        Names of the detector groups.
    nodes : ndarray of float64, shape (2, n_nodes, n_channels)
        Folded model [count/s] for norm 1 at abundance 0 and 1, at the temperatures ``kt_nodes_kev``.
    """

    obsid: int
    exposure_s: float
    pixel_start: np.ndarray
    channel: np.ndarray
    blank_pixel_start: np.ndarray
    blank_channel: np.ndarray
    blank_scale: np.ndarray
    blank_group: np.ndarray
    exposure_fraction: np.ndarray
    background_counts: np.ndarray
    background_template: np.ndarray
    groups: tuple[str, ...]
    nodes: np.ndarray


@dataclasses.dataclass(frozen=True)
class FitInput:
    """Everything that ``cpxt-fit`` reads.

    Attributes
    ----------
    name : str
    grid : PixelGrid
        Of all images.
    regions : RegionTable
    observations : tuple of ObservationInput
    surface_brightness : ndarray of float32, shape (ny, nx)
        Smoothed, strictly positive weight of each pixel, masked ones included: what part of a region's norm
        lies in the pixels that an observation exposes.
    kt_nodes_kev : ndarray of float64, shape (n_nodes,)
        Temperatures [keV] between which the model is linear; the first and last bound the search.
    abundance : float
        Frozen abundance.
    settings : dict of str to (str, int, float)
        Every setting that changes the numbers (nH, redshift, statistic, energies, versions, ...), for the digest.
    binning_digest : str
        Names this binning: results of another one do not belong to these regions.
    """

    name: str
    grid: PixelGrid
    regions: RegionTable
    observations: tuple[ObservationInput, ...]
    surface_brightness: np.ndarray
    kt_nodes_kev: np.ndarray
    abundance: float
    settings: dict[str, str | int | float]
    binning_digest: str
