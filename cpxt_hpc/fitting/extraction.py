"""Takes the spectra of regions, and what the model needs to know of them, out of the packed events and images."""

from __future__ import annotations

import dataclasses

import numpy as np

from cpxt_hpc.fitting.model import FitInput, ObservationInput
from cpxt_hpc.fitting.region_spectra import ObservationPart, RegionSpectra
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.science.spectra import exposure_sums, grouped_spectrum, mean_response, observed_spectrum, response_weights

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
    """

    def __init__(self, fit_input: FitInput, settings: FitSettings) -> None:
        self.settings = settings
        self._weight = _flat(fit_input.surface_brightness, np.float32)
        self._observations = [_packed(o) for o in fit_input.observations]
        self._nodes = [_fitted_nodes(o.nodes, fit_input.abundance, settings) for o in fit_input.observations]
        self._bins = [_bin_starts(o.nodes.shape[-1], settings.bin_channels) for o in fit_input.observations]
        self.start = np.cumsum([0, *(nodes.shape[-1] for nodes in self._nodes)])
        self._rates = np.concatenate([nodes[0] for nodes in self._nodes], axis=-1)

    def extract(self, start: np.ndarray, stop: np.ndarray, n_pixels: int) -> RegionSpectra:
        """Spectra of a region in the observations that expose enough of it.

        Parameters
        ----------
        start, stop : ndarray of int64, shape (n_runs,)
            Runs of the region's pixels inside the image.
        n_pixels : int
            Number of pixels of the whole region; those outside the image count as not exposed.

        Returns
        -------
        RegionSpectra
        """
        n_channels = int(self.start[-1])
        counts, background, exposure = np.zeros((3, n_channels))
        blank_counts, blank_scale = (NO_CHANNELS, NO_CHANNELS)
        if self.settings.statistic != "cstat":
            blank_counts, blank_scale = np.zeros((2, n_channels))
        parts = []
        level = variance = 0.0
        for position, observation in enumerate(self._observations):
            exposed, weighted, weights = exposure_sums(start, stop, observation.exposure_fraction, self._weight)
            if n_pixels == 0 or not exposed >= self.settings.min_exposure_fraction * n_pixels:
                continue
            channels = slice(self.start[position], self.start[position + 1])
            own, levels = self._observed(position, start, stop)
            counts[channels] = own[0]
            np.maximum(own[1], 0.0, out=background[channels])
            level += levels.sum()
            variance += float(np.sum((levels * observation.background_scale_error) ** 2))
            if self.settings.statistic != "cstat":
                blank_counts[channels], blank_scale[channels] = self._blank_sky(position, start, stop)
            source_factor = weighted / weights
            exposure[channels] = observation.exposure_s * source_factor
            share = self._mix_responses(position, start, stop)
            parts.append(ObservationPart(position, exposed / n_pixels, source_factor, share))
        error = np.sqrt(variance) / level if level > 0.0 else 0.0
        return RegionSpectra(
            parts, counts, background, blank_counts, blank_scale, exposure, self._rates, self.start, float(error)
        )

    def _observed(self, position: int, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Counts and expected background, shape (2, n_bins), and the background's level by group."""
        observation = self._observations[position]
        spectra = np.zeros((2, observation.background_template.shape[1]))
        levels = observed_spectrum(
            start,
            stop,
            observation.pixel_start,
            observation.channel,
            observation.background_counts,
            observation.background_template,
            *spectra,
        )
        return self._binned(position, spectra), levels

    def _mix_responses(self, position: int, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Fill the observation's part of the rates with the mean over the region; the share of each response."""
        observation, nodes = self._observations[position], self._nodes[position]
        if len(nodes) == 1:
            return np.ones(1)
        share = response_weights(
            start,
            stop,
            observation.exposure_fraction,
            self._weight,
            observation.response_index,
            observation.response_part,
            len(nodes),
        )
        mean_response(nodes, share, self._rates, self.start[position])
        return share

    def _blank_sky(self, position: int, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, float]:
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
            start,
            stop,
            observation.blank_pixel_start,
            observation.blank_channel,
            observation.blank_group,
            len(observation.blank_scale),
            observation.background_template.shape[1],
        )
        of_group = by_group.sum(axis=1)
        weights = of_group if of_group.any() else None
        scale = float(np.average(observation.blank_scale, weights=weights))
        return self._binned(position, by_group.sum(axis=0).astype(np.float64)), scale

    def _binned(self, position: int, spectra: np.ndarray) -> np.ndarray:
        """Spectra over channels, summed to the bins of the fit."""
        if self.settings.bin_channels == 1:
            return spectra
        return np.add.reduceat(spectra, self._bins[position], axis=-1)


def _bin_starts(n_channels: int, bin_channels: int) -> np.ndarray:
    """First channel of each bin; the last bin may have fewer channels."""
    return np.arange(0, n_channels, bin_channels)


def _fitted_nodes(nodes: np.ndarray, abundance: float, settings: FitSettings) -> np.ndarray:
    """Nodes in the bins of the fit, shape (n_responses, n_nh, n_abundances, n_nodes, n_bins)."""
    if not settings.n_more_free:
        # Exact: the plasma models are linear in the abundance.
        nodes = nodes[:, :, :1] + abundance * (nodes[:, :, 1:] - nodes[:, :, :1])
    if settings.bin_channels > 1:
        nodes = np.add.reduceat(nodes, _bin_starts(nodes.shape[-1], settings.bin_channels), axis=-1)
    return np.ascontiguousarray(nodes, dtype=np.float64)


def _packed(observation: ObservationInput) -> ObservationInput:
    """The observation with flat images, every array as the compiled loops want it (no copy if it is so)."""
    n_groups = len(observation.groups)
    return dataclasses.replace(
        observation,
        exposure_s=float(observation.exposure_s),
        pixel_start=_flat(observation.pixel_start, np.int64),
        channel=_flat(observation.channel, np.uint16),
        blank_pixel_start=_flat(observation.blank_pixel_start, np.int64),
        blank_channel=_flat(observation.blank_channel, np.uint16),
        blank_scale=np.array(observation.blank_scale, dtype=np.float64),
        blank_group=_flat(observation.blank_group, np.uint8),
        exposure_fraction=_flat(observation.exposure_fraction, np.float32),
        response_index=_flat(observation.response_index, np.uint8),
        response_part=_flat(observation.response_part, np.float32),
        background_counts=_flat(observation.background_counts, np.float32).reshape(n_groups, -1),
        background_template=np.array(observation.background_template, dtype=np.float64),
    )


def _flat(array: np.ndarray, dtype: type) -> np.ndarray:
    """A flat, read-only view: one type for arrays in memory and mapped ones, so that nothing compiles twice."""
    view = np.require(array, dtype=dtype, requirements=["C", "A"]).reshape(-1).view(np.ndarray)
    view.flags.writeable = False
    return view
