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
        Radius [image pixels]; a circle holds the pixels whose centre lies within it, or with ``edge = exact`` the
        events that do. 0 for a pixel list.
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
        Index into ``blank_scale`` of each blank-sky event.
    event_x, event_y, blank_x, blank_y : ndarray of float32, shape (n_events,) or (0,)
        Place of each event and blank-sky event in its pixel [pixel from the centre]: the positions of the event file to
        the last bit. Empty unless regions cut events at the true circle.
    exposure_fraction : ndarray of float32, shape (ny, nx)
        Exposure of each pixel over ``exposure_s``, vignetting left out; 0 where masked.
    background_counts : ndarray of float32, shape (n_groups, ny, nx)
        Expected background [count/pixel] in the fitted band by group; 0 where masked. Components that correct the
        blank sky may be negative.
    background_template : ndarray of float64, shape (n_groups, n_channels)
        Spectrum of the background in the fitted channels, sum 1, strictly positive.
    background_scale_error : ndarray of float64, shape (n_groups,)
        Relative statistical error of each group's level; 0 where it has none.
    groups : tuple of str
        Names of the background's groups: detector groups, and components of the sky.
    response_index : ndarray of uint8, shape (ny, nx)
    response_part : ndarray of float32, shape (ny, nx)
        The light of a pixel is folded with (1 - part) x response[index] + part x response[index + 1]; 0 in the last.
    nodes : ndarray of float64, shape (n_responses, n_nh, 2, n_nodes, n_channels)
        Folded model [count/s] for norm 1: by response, hydrogen column ``nh_nodes_1e22``, abundance 0 and 1, and
        temperature ``kt_nodes_kev``.
    arf_iy, arf_ix : float
        Image pixel of the place on the sky for which the ARF was made; NaN where not known.
    arf_energy_edges_kev : ndarray of float64, shape (n_energies + 1,)
    arf_area_cm2 : ndarray of float64, shape (n_responses, n_energies)
        Effective area of each response.
    rmf_start : ndarray of int64, shape (n_energies + 1,)
    rmf_column : ndarray of int32, shape (n_elements,)
    rmf_value : ndarray of float64, shape (n_elements,)
        Redistribution from energies to all channels: a sparse matrix, by rows.
    channel_low_kev, channel_high_kev : ndarray of float64, shape (n_all_channels,)
        Nominal energies of all channels.
    first_rmf_channel, first_channel : int
        Numbers of the first of all channels, and of the first fitted one.
    """

    obsid: int
    exposure_s: float
    pixel_start: np.ndarray
    channel: np.ndarray
    blank_pixel_start: np.ndarray
    blank_channel: np.ndarray
    blank_scale: np.ndarray
    blank_group: np.ndarray
    event_x: np.ndarray
    event_y: np.ndarray
    blank_x: np.ndarray
    blank_y: np.ndarray
    exposure_fraction: np.ndarray
    background_counts: np.ndarray
    background_template: np.ndarray
    background_scale_error: np.ndarray
    groups: tuple[str, ...]
    response_index: np.ndarray
    response_part: np.ndarray
    nodes: np.ndarray
    arf_iy: float
    arf_ix: float
    arf_energy_edges_kev: np.ndarray
    arf_area_cm2: np.ndarray
    rmf_start: np.ndarray
    rmf_column: np.ndarray
    rmf_value: np.ndarray
    channel_low_kev: np.ndarray
    channel_high_kev: np.ndarray
    first_rmf_channel: int
    first_channel: int


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
    nh_nodes_1e22 : ndarray of float64, shape (n_nh,)
        Hydrogen columns [10^22 cm^-2] at which the model was folded: the frozen one alone, or a grid.
    abundance : float
        Frozen abundance, or where a free one starts.
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
    nh_nodes_1e22: np.ndarray
    abundance: float
    settings: dict[str, str | int | float]
    binning_digest: str
