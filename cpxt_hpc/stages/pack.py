"""Pack one observation for the fit: its events by pixel, exposure, background and folded model."""

from __future__ import annotations

import logging

import numpy as np

from cpxt_hpc.config import BackgroundSection
from cpxt_hpc.fitting.model import ObservationInput
from cpxt_hpc.io.events import read_events
from cpxt_hpc.layout import ObservationLayout
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.packing import sort_by_pixel
from cpxt_hpc.stages.fold import FieldResponses
from cpxt_hpc.stages.map_exposure import map_exposure_s
from cpxt_hpc.stages.pack_background import pack_background
from cpxt_hpc.stages.sky import SkyBackground

logger = logging.getLogger(__name__)

NOTHING = np.zeros(0, dtype=np.float32)


def pack_observation(
    observation: ObservationLayout,
    grid: PixelGrid,
    mask: np.ndarray,
    channel: np.ndarray,
    responses: FieldResponses,
    rates: np.ndarray,
    settings: BackgroundSection,
    sky: SkyBackground | None = None,
    *,
    exact_edge: bool = False,
) -> ObservationInput:
    """Everything that the fit needs of one observation.

    Parameters
    ----------
    observation : ObservationLayout
    grid : PixelGrid
        Of the map.
    mask : ndarray of bool, shape (ny, nx)
        True where a pixel belongs to the map.
    channel : ndarray of int, shape (n_channels,)
        Numbers of the fitted PI channels, consecutive.
    responses : FieldResponses
        The observation's responses over the map.
    rates : ndarray of float64, shape (n_responses, n_nh, 2, n_nodes, n_channels)
        The model folded through them.
    settings : BackgroundSection
        How the background template is smoothed.
    sky : SkyBackground, optional
        What the sky has beside the blank sky's: further groups of the background.
    exact_edge : bool
        Regions cut events at the true circle: the events' positions are kept.

    Returns
    -------
    ObservationInput
        Its groups of blank-sky events are the CCDs: a CCD that lost frames has a scale of its own.

    Raises
    ------
    MissingInput, DataError
        A file of stages 2 to 4 is missing, damaged, or does not go with the others.
    """
    events = read_events(observation.clean_events)
    blank = read_events(observation.clean_background_events, blank_sky=True)
    pixel, blank_pixel = (_map_pixel(each, grid, mask) for each in (events, blank))
    positions, blank_positions = (
        grid.place_in_pixel(each["x"], each["y"]) if exact_edge else () for each in (events, blank)
    )
    pixel_start, event_channel, *positions = _sorted_channels(events, pixel, channel, mask.size, *positions)
    blank_pixel = np.where(np.isin(blank["ccd_id"], events.ccds), blank_pixel, -1)
    ccd_index = np.searchsorted(events.ccds, blank["ccd_id"]).astype(np.uint8)
    blank_start, blank_channel, blank_ccd, *blank_positions = _sorted_channels(
        blank, blank_pixel, channel, mask.size, ccd_index, *blank_positions
    )
    background = pack_background(
        observation.background_model, events, blank, blank_pixel >= 0, grid, mask, channel, settings
    ).with_sky(sky)
    logger.info(
        "ObsID %d: %d events, %d blank-sky events in the map, %.0f background counts expected",
        events.obsid, len(event_channel), len(blank_channel), np.sum(background.images),
    )
    return ObservationInput(
        obsid=events.obsid,
        exposure_s=float(events.reference_exposure_s),
        pixel_start=pixel_start,
        channel=event_channel,
        blank_pixel_start=blank_start,
        blank_channel=blank_channel,
        blank_scale=background.blank_scale,
        blank_group=blank_ccd,
        exposure_fraction=(map_exposure_s(observation, grid, mask) / events.reference_exposure_s).astype(np.float32),
        background_counts=np.array(background.images, dtype=np.float32),
        background_template=background.templates,
        background_scale_error=background.scale_error,
        groups=background.groups,
        **dict(zip(("event_x", "event_y"), positions or (NOTHING, NOTHING), strict=True)),
        **dict(zip(("blank_x", "blank_y"), blank_positions or (NOTHING, NOTHING), strict=True)),
        response_index=responses.index,
        response_part=responses.part,
        nodes=rates,
        arf_iy=responses.arf_iy,
        arf_ix=responses.arf_ix,
        arf_energy_edges_kev=responses.energy_edges_kev.astype(np.float64),
        arf_area_cm2=responses.area_cm2.astype(np.float64),
        rmf_start=responses.redistribution.matrix.indptr.astype(np.int64),
        rmf_column=responses.redistribution.matrix.indices.astype(np.int32),
        rmf_value=responses.redistribution.matrix.data.astype(np.float64),
        channel_low_kev=responses.redistribution.channel_low_kev.astype(np.float64),
        channel_high_kev=responses.redistribution.channel_high_kev.astype(np.float64),
        first_rmf_channel=int(responses.redistribution.channel[0]),
        first_channel=int(channel[0]),
    )


def _map_pixel(events: EventList, grid: PixelGrid, mask: np.ndarray) -> np.ndarray:
    """Flat pixel of each event; -1 outside the map."""
    pixel = grid.pixel_index(events["x"], events["y"])
    return np.where((pixel >= 0) & mask.ravel()[pixel], pixel, -1)


def _sorted_channels(
    events: EventList, pixel: np.ndarray, channel: np.ndarray, n_pixels: int, *columns: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Start of each pixel's events, their channel indices, and further columns; events in the fitted channels only."""
    index = events["pi"].astype(np.int64) - channel[0]
    fitted = (index >= 0) & (index < len(channel))
    return sort_by_pixel(
        np.where(fitted, pixel, -1), n_pixels, np.where(fitted, index, 0).astype(np.uint16), *columns
    )
