"""Pack the background of one observation: an image, a template and the level's error for each group of CCDs."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np

from cpxt_hpc.config import BackgroundSection
from cpxt_hpc.errors import DataError
from cpxt_hpc.io.background_model import read_background_model
from cpxt_hpc.io.images import read_images
from cpxt_hpc.science.background import blank_sky_weights, event_weights
from cpxt_hpc.science.background_groups import group_spectra
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.response import N_PI_CHANNELS
from cpxt_hpc.science.template import NOISY_WINDOW_COUNTS, background_template, window_counts
from cpxt_hpc.stages.sky import SkyBackground

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PackedBackground:
    """The background of one observation. Names and shapes as in `ObservationInput`.

    Attributes
    ----------
    images : ndarray of float64, shape (n_groups, ny, nx)
        Expected background [count/pixel].
    templates : ndarray of float64, shape (n_groups, n_channels)
    scale_error : ndarray of float64, shape (n_groups,)
    groups : tuple of str
    blank_scale : ndarray of float64, shape (n_ccds,)
        Factor from blank-sky counts to background counts, by CCD.
    """

    images: np.ndarray
    templates: np.ndarray
    scale_error: np.ndarray
    groups: tuple[str, ...]
    blank_scale: np.ndarray

    def with_sky(self, sky: SkyBackground | None) -> PackedBackground:
        """The background with the components of the sky as further groups."""
        if sky is None:
            return self
        return PackedBackground(
            np.concatenate([self.images, sky.images]),
            np.concatenate([self.templates, sky.templates]),
            np.concatenate([self.scale_error, sky.scale_error]),
            self.groups + sky.groups,
            self.blank_scale,
        )


def pack_background(
    model_file: Path,
    events: EventList,
    blank: EventList,
    in_map: np.ndarray,
    grid: PixelGrid,
    mask: np.ndarray,
    channel: np.ndarray,
    settings: BackgroundSection,
) -> PackedBackground:
    """Background of one observation in the fitted channels.

    Parameters
    ----------
    model_file : Path
        The background model of stage 4.
    events, blank : EventList
    in_map : ndarray of bool, shape (n_blank_events,)
        Blank-sky events that the templates are made of.
    grid : PixelGrid
    mask : ndarray of bool, shape (ny, nx)
    channel : ndarray of int, shape (n_channels,)
        Numbers of the fitted PI channels, consecutive.
    settings : BackgroundSection

    Raises
    ------
    MissingInput, DataError
        The model is missing, damaged, or does not go with the observation.
    """
    model = read_background_model(model_file)
    covered = sorted(ccd for group in model.groups for ccd in group.ccds)
    if model.grid != grid or covered != list(events.ccds):
        raise DataError(
            f"{model_file}: CCDs {', '.join(map(str, covered))} on {model.grid.nx} x {model.grid.ny} pixels, "
            f"expected {', '.join(map(str, events.ccds))} on {grid.nx} x {grid.ny}. Run stage 4 (crop) again."
        )
    weights = blank_sky_weights(events, blank)
    # A local background was spread evenly over the field: all of it is as good as what happens to lie in the map.
    chosen = blank if settings.source == "local" else blank.select(in_map)
    spectra = group_spectra(chosen["pi"], chosen["ccd_id"], event_weights(chosen, weights), model.groups, N_PI_CHANNELS)
    image_channel = _image_channels(model_file)
    names = tuple(group.name for group in model.groups)
    scale_of = {ccd: model.scales[group.name].value for group in model.groups for ccd in group.ccds}
    return PackedBackground(
        images=np.array(
            [
                np.where(mask, model.images[name], 0.0) * _band_ratio(spectra[name], channel, image_channel)
                for name in names
            ]
        ),
        templates=np.array([_template(settings, spectra[name], channel, events.obsid, name) for name in names]),
        scale_error=np.array([model.scales[name].error / model.scales[name].value for name in names]),
        groups=names,
        blank_scale=np.array([scale_of[ccd] * weights[ccd] for ccd in events.ccds]),
    )


def _template(
    settings: BackgroundSection, spectrum: np.ndarray, channel: np.ndarray, obsid: int, group: str
) -> np.ndarray:
    """Background template in the fitted channels; smoothed before the cut, so that its ends are like the rest."""
    whole = background_template(
        spectrum, enough_counts=settings.template_counts, max_channels=settings.template_max_channels
    )
    cut = whole[channel - 1]
    fitted = slice(int(channel[0]) - 1, int(channel[-1]))
    held = window_counts(spectrum, fitted, max_channels=settings.template_max_channels)
    if held < NOISY_WINDOW_COUNTS and spectrum.any():
        logger.warning(
            "ObsID %d, %s: the blank sky has about %.1f counts in %d channels inside the map, so its template is "
            "noisy and temperatures come out too high. Use [fit] statistic = wstat, a larger crop, or a blank-sky file "
            "of longer exposure.",
            obsid, group, held, settings.template_max_channels,
        )  # fmt: skip
    return cut / cut.sum()


def _image_channels(model_file: Path) -> np.ndarray:
    """PI channels that the background model of stage 4 counts; an RMF's energies may choose others by one or two."""
    _, _, header = read_images(model_file)
    try:
        return np.arange(int(header["CHANLO"]), int(header["CHANHI"]) + 1)
    except KeyError as error:
        raise DataError(f"{model_file}: lacks {error}. Run stage 4 (crop) again.") from error


def _band_ratio(spectrum: np.ndarray, channel: np.ndarray, image_channel: np.ndarray) -> float:
    """Counts in the fitted channels over those in the channels of stage 4's images; 1 where there are none."""
    image_counts = spectrum[image_channel - 1].sum()
    return float(spectrum[channel - 1].sum() / image_counts) if image_counts > 0 else 1.0
