"""Takes the spectra of regions, and what the model needs to know of them, out of the packed events and images."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

from cpxt_hpc.fitting.model import FitInput, ObservationInput
from cpxt_hpc.fitting.region_spectra import ObservationPart, RegionSpectra
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.science.region_pixels import NO_EDGE, CircleEdge
from cpxt_hpc.science.spectra import grouped_spectrum, mean_response, observe_region

NO_CHANNELS = np.zeros(0)


class RegionExtractor:
    """Takes the spectra of regions out of a fit input.

    Parameters
    ----------
    fit_input : FitInput
    settings : FitSettings

    Attributes
    ----------
    start : ndarray of int64, shape (n_observations + 1,)
        Where the channels (bins, where grouped) of each observation start.
    nh_column : int
        Place of the frozen hydrogen column among those folded.
    """

    def __init__(self, fit_input: FitInput, settings: FitSettings) -> None:
        self.settings = settings
        self._nx = int(fit_input.grid.nx)
        self._observations = [_packed(o, settings.bin_channels) for o in fit_input.observations]
        self.nh_column = frozen_column(fit_input)
        self._nodes = [
            fitted_nodes(o.nodes, fit_input.abundance, settings, self.nh_column) for o in fit_input.observations
        ]
        self._bins = [bin_starts(o.nodes.shape[-1], settings.bin_channels) for o in fit_input.observations]
        self.start = np.cumsum([0, *(nodes.shape[-1] for nodes in self._nodes)])
        self._channels = [slice(int(a), int(b)) for a, b in itertools.pairwise(self.start)]
        brightness = _flat(fit_input.surface_brightness, np.float32)
        self._arrays = [_arrays_of(o, brightness, settings.bin_channels) for o in self._observations]
        self._rates = np.concatenate([nodes[0] for nodes in self._nodes], axis=-1)

    def extract(
        self, start: np.ndarray, stop: np.ndarray, n_pixels: float, edge: CircleEdge = NO_EDGE
    ) -> RegionSpectra:
        """Spectra of a region in the observations that expose enough of it.

        Parameters
        ----------
        start, stop : ndarray of int64, shape (n_runs,)
            Runs of the region's whole pixels inside the image.
        n_pixels : float
            Area of the whole region [pixel]; what lies outside the image counts as not exposed.
        edge : CircleEdge
            The pixels that belong to it in part.

        Returns
        -------
        RegionSpectra
        """
        n_channels = int(self.start[-1])
        counts, background, exposure = np.zeros(n_channels), np.zeros(n_channels), np.zeros(n_channels)
        blank_counts, blank_scale = NO_CHANNELS, NO_CHANNELS
        if self.settings.statistic != "cstat":
            blank_counts, blank_scale = np.zeros(n_channels), np.zeros(n_channels)
        least_exposed = float(self.settings.min_exposure_fraction * n_pixels)
        parts = []
        level = variance = 0.0
        for position, arrays in enumerate(self._arrays if n_pixels > 0 else ()):
            channels, n_responses = self._channels[position], len(self._nodes[position])
            share = np.empty(n_responses)
            exposed, light, whole_light, own_level, own_variance = observe_region(
                start, stop, *edge, self._nx, least_exposed, *arrays, counts[channels], background[channels], share
            )
            if not exposed >= least_exposed:
                continue
            level += own_level
            variance += own_variance
            if self.settings.statistic != "cstat":
                blank_counts[channels], blank_scale[channels] = self._blank_sky(position, start, stop, edge)
            source_factor = light / whole_light
            exposure[channels] = self._observations[position].exposure_s * source_factor
            if n_responses > 1:
                mean_response(self._nodes[position], share, self._rates, self.start[position])
            parts.append(ObservationPart(position, exposed / n_pixels, source_factor, share))
        error = math.sqrt(variance) / level if level > 0.0 else 0.0
        return RegionSpectra(
            parts, counts, background, blank_counts, blank_scale, exposure, self._rates, self.start, error
        )

    def _blank_sky(
        self, position: int, start: np.ndarray, stop: np.ndarray, edge: CircleEdge
    ) -> tuple[np.ndarray, float]:
        """Blank-sky spectrum of a region in one observation, all groups together, and its scale.

        Returns
        -------
        counts : ndarray of float64, shape (n_bins,)
        scale : float
            Factor from these counts to the expected background: the groups' factors, weighted with their counts
            in the region (their mean where there are none).
        """
        observation = self._observations[position]
        by_group = grouped_spectrum(
            start, stop, edge.pixel, edge.iy, edge.ix, edge.radius, self._nx,
            observation.blank_pixel_start, observation.blank_channel, observation.blank_x, observation.blank_y,
            observation.blank_group, len(observation.blank_scale), observation.nodes.shape[-1],
        )  # fmt: skip
        of_group = by_group.sum(axis=1)
        weights = of_group if of_group.any() else None
        scale = float(np.average(observation.blank_scale, weights=weights))
        return self._binned(position, by_group.sum(axis=0)), scale

    def _binned(self, position: int, spectrum: np.ndarray) -> np.ndarray:
        """A spectrum over channels, summed to the bins of the fit."""
        return spectrum if self.settings.bin_channels == 1 else np.add.reduceat(spectrum, self._bins[position])


def bin_starts(n_channels: int, bin_channels: int) -> np.ndarray:
    """First channel of each bin; the last bin may have fewer channels."""
    return np.arange(0, n_channels, bin_channels)


def frozen_column(fit_input: FitInput) -> int:
    """Place of the frozen hydrogen column among those at which the model was folded."""
    columns = np.asarray(fit_input.nh_nodes_1e22)
    return int(np.argmin(np.abs(columns - float(fit_input.settings.get("nH_1e22", columns[0])))))


def fitted_nodes(nodes: np.ndarray, abundance: float, settings: FitSettings, nh_column: int = 0) -> np.ndarray:
    """Nodes in the bins of the fit, shape (n_responses, n_nh, n_abundances, n_nodes, n_bins)."""
    if not settings.free_nh:
        nodes = nodes[:, nh_column : nh_column + 1]
    if not settings.free_engine:
        # Exact: the plasma models are linear in the abundance.
        nodes = nodes[:, :, :1] + abundance * (nodes[:, :, 1:] - nodes[:, :, :1])
    if settings.bin_channels > 1:
        nodes = np.add.reduceat(nodes, bin_starts(nodes.shape[-1], settings.bin_channels), axis=-1)
    return np.ascontiguousarray(nodes, dtype=np.float64)


def _packed(observation: ObservationInput, bin_channels: int) -> ObservationInput:
    """The observation with flat images and binned templates, every array as the compiled loops want it.

    Arrays that are so are not copied.
    """
    n_groups = len(observation.groups)
    template = np.array(observation.background_template, dtype=np.float64)
    if bin_channels > 1:
        template = np.add.reduceat(template, bin_starts(template.shape[1], bin_channels), axis=1)
    return dataclasses.replace(
        observation,
        exposure_s=float(observation.exposure_s),
        pixel_start=_flat(observation.pixel_start, np.int64),
        channel=_flat(observation.channel, np.uint16),
        blank_pixel_start=_flat(observation.blank_pixel_start, np.int64),
        blank_channel=_flat(observation.blank_channel, np.uint16),
        blank_scale=np.array(observation.blank_scale, dtype=np.float64),
        blank_group=_flat(observation.blank_group, np.uint8),
        **{
            name: _flat(getattr(observation, name), np.float32) for name in ("event_x", "event_y", "blank_x", "blank_y")
        },
        exposure_fraction=_flat(observation.exposure_fraction, np.float32),
        response_index=_flat(observation.response_index, np.uint8),
        response_part=_flat(observation.response_part, np.float32),
        background_counts=_flat(observation.background_counts, np.float32).reshape(n_groups, -1),
        background_template=template,
        background_scale_error=np.array(observation.background_scale_error, dtype=np.float64),
    )


def _arrays_of(observation: ObservationInput, brightness: np.ndarray, bin_channels: int) -> tuple:
    """What `observe_region` takes of an observation, in its order."""
    return (
        observation.exposure_fraction,
        brightness,
        observation.response_index,
        observation.response_part,
        observation.pixel_start,
        observation.channel,
        observation.event_x,
        observation.event_y,
        observation.background_counts,
        observation.background_template,
        observation.background_scale_error,
        observation.nodes.shape[-1],
        bin_channels,
    )


def _flat(array: np.ndarray, dtype: type) -> np.ndarray:
    """A flat, read-only view: one type for arrays in memory and mapped ones, so that nothing compiles twice."""
    view = np.require(array, dtype=dtype, requirements=["C", "A"]).reshape(-1).view(np.ndarray)
    view.flags.writeable = False
    return view
