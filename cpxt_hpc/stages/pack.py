"""Pack one observation for the fit: its events by pixel, exposure, background and folded model."""

from __future__ import annotations

import logging

import numpy as np

from cpxt_hpc.config import BackgroundSection
from cpxt_hpc.errors import DataError
from cpxt_hpc.fitting.model import ObservationInput
from cpxt_hpc.io.background_model import read_background_model
from cpxt_hpc.io.events import read_events
from cpxt_hpc.io.images import read_images
from cpxt_hpc.layout import ObservationLayout
from cpxt_hpc.science.background import blank_sky_weights, detector_groups, event_weights
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.packing import sort_by_pixel
from cpxt_hpc.science.response import N_PI_CHANNELS
from cpxt_hpc.science.template import background_template
from cpxt_hpc.stages.fold import FieldResponses
from cpxt_hpc.stages.map_exposure import map_exposure_s

logger = logging.getLogger(__name__)

NOISY_WINDOW_COUNTS = 50
"""Blank-sky counts in the widest window of the template below which a warning is due: 14 % of noise in each channel,
which all regions share."""


NOTHING = np.zeros(0, dtype=np.float32)


def pack_observation(
    observation: ObservationLayout,
    grid: PixelGrid,
    mask: np.ndarray,
    channel: np.ndarray,
    responses: FieldResponses,
    rates: np.ndarray,
    settings: BackgroundSection,
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
    models, scales, model_grid = read_background_model(observation.background_model)
    groups = detector_groups(events.ccds)
    if model_grid != grid or set(models) != set(groups):
        raise DataError(
            f"{observation.background_model}: groups {', '.join(models)} on {model_grid.nx} x {model_grid.ny} pixels, "
            f"expected {', '.join(groups)} on {grid.nx} x {grid.ny}. Run stage 4 (crop) again."
        )
    weights = blank_sky_weights(events, blank)
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
    group_of = {ccd: group for group, ccds in groups.items() for ccd in ccds}

    inside = blank_pixel >= 0
    spectra = _group_spectra(blank.select(inside), event_weights(blank, weights)[inside], groups)
    templates = [_template(settings, spectra[group], channel, events.obsid, group) for group in groups]
    image_channel = _image_channels(observation)
    images = [
        np.where(mask, models[group], 0.0) * _band_ratio(spectra[group], channel, image_channel)
        for group in groups
    ]
    logger.info(
        "ObsID %d: %d events, %d blank-sky events in the map, %.0f background counts expected",
        events.obsid, len(event_channel), len(blank_channel), np.sum(images),
    )
    return ObservationInput(
        obsid=events.obsid,
        exposure_s=float(events.reference_exposure_s),
        pixel_start=pixel_start,
        channel=event_channel,
        blank_pixel_start=blank_start,
        blank_channel=blank_channel,
        blank_scale=np.array([scales[group_of[ccd]].value * weights[ccd] for ccd in events.ccds]),
        blank_group=blank_ccd,
        exposure_fraction=(map_exposure_s(observation, grid, mask) / events.reference_exposure_s).astype(np.float32),
        background_counts=np.array(images, dtype=np.float32),
        background_template=np.array(templates),
        background_scale_error=np.array([scales[group].error / scales[group].value for group in groups]),
        groups=tuple(groups),
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


def _group_spectra(
    blank: EventList, weights: np.ndarray, groups: dict[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Weighted spectrum of each detector group over all PI channels, 1 to 1024, at index 0 to 1023."""
    spectra = {}
    for group, ccds in groups.items():
        own = np.isin(blank["ccd_id"], ccds)
        counts = np.bincount(blank["pi"][own], weights=weights[own], minlength=N_PI_CHANNELS + 1)
        spectra[group] = counts[1 : N_PI_CHANNELS + 1]
    return spectra


def _template(
    settings: BackgroundSection, spectrum: np.ndarray, channel: np.ndarray, obsid: int, group: str
) -> np.ndarray:
    """Background template in the fitted channels; smoothed before the cut, so that its ends are like the rest."""
    whole = background_template(
        spectrum, enough_counts=settings.template_counts, max_channels=settings.template_max_channels
    )
    cut = whole[channel - 1]
    held = float(np.median(spectrum[channel - 1])) * settings.template_max_channels
    if held < NOISY_WINDOW_COUNTS and spectrum.any():
        logger.warning(
            "ObsID %d, %s: the blank sky has about %.1f counts in %d channels inside the map, so its template is "
            "noisy. A larger crop, or a blank-sky file of longer exposure, helps.",
            obsid, group, held, settings.template_max_channels,
        )
    return cut / cut.sum()


def _image_channels(observation: ObservationLayout) -> np.ndarray:
    """PI channels that the background model of stage 4 counts; an RMF's energies may choose others by one or two."""
    _, _, header = read_images(observation.background_model)
    try:
        return np.arange(int(header["CHANLO"]), int(header["CHANHI"]) + 1)
    except KeyError as error:
        raise DataError(f"{observation.background_model}: lacks {error}. Run stage 4 (crop) again.") from error


def _band_ratio(spectrum: np.ndarray, channel: np.ndarray, image_channel: np.ndarray) -> float:
    """Counts in the fitted channels over those in the channels of stage 4's images; 1 where there are none."""
    image_counts = spectrum[image_channel - 1].sum()
    return float(spectrum[channel - 1].sum() / image_counts) if image_counts > 0 else 1.0
