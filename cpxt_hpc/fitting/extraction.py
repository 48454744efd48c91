"""The spectra of a region and what the model needs to know of it, taken from the packed events and images."""

from __future__ import annotations

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np

from cpxt_hpc.fitting.model import FitInput, ObservationInput
from cpxt_hpc.science.spectra import exposure_sums, grouped_spectrum, observed_spectrum


class ObservationPart(NamedTuple):
    """One observation's part in a region.

    Attributes
    ----------
    position : int
        Place of the observation in the fit input.
    exposed_fraction : float
        Mean over the region's pixels of their exposure, relative to the observation's reference exposure.
    source_factor : float
        The same weighted with the surface brightness: the part of the region's norm that the observation sees.
    """

    position: int
    exposed_fraction: float
    source_factor: float


class RegionSpectra(NamedTuple):
    """The spectra of a region, all observations behind each other; 0 for those that take no part.

    Attributes
    ----------
    parts : list of ObservationPart
        Of the observations that take part, in the order of the fit input.
    counts : ndarray of float64, shape (n_channels,)
        Observed counts.
    background : ndarray of float64, shape (n_channels,)
        Expected background counts, from the templates.
    exposure : ndarray of float64, shape (n_channels,)
        Exposure times `source_factor` [s]: by it the rates of the fully exposed region are multiplied.
    """

    parts: list[ObservationPart]
    counts: np.ndarray
    background: np.ndarray
    exposure: np.ndarray


class RegionExtractor:
    """Takes the spectra of regions out of a fit input.

    Parameters
    ----------
    fit_input : FitInput
    min_exposure_fraction : float
        Observations that expose less of a region's pixels stay out.

    Attributes
    ----------
    rates : ndarray of float64, shape (n_nodes, n_channels)
        Source count rates for norm 1 of the fully exposed region, all observations behind each other [count/s].
    channels : tuple of slice
        The channels of each observation in `rates`.
    """

    def __init__(self, fit_input: FitInput, min_exposure_fraction: float) -> None:
        self.min_exposure_fraction = min_exposure_fraction
        self._weight = _flat(fit_input.surface_brightness, np.float32)
        self._observations = [_packed(o) for o in fit_input.observations]
        # Exact: the plasma models are linear in the abundance.
        rates = [o.nodes[0] + fit_input.abundance * (o.nodes[1] - o.nodes[0]) for o in fit_input.observations]
        self.rates = np.ascontiguousarray(np.concatenate(rates, axis=1), dtype=np.float64)
        ends = np.cumsum([0, *(part.shape[1] for part in rates)])
        self.channels = tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(ends))

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
        n_channels = self.rates.shape[1]
        parts, counts, background, exposure = [], *np.zeros((3, n_channels))
        for position, (observation, channels) in enumerate(zip(self._observations, self.channels, strict=True)):
            exposed, weighted, weights = exposure_sums(start, stop, observation.exposure_fraction, self._weight)
            if n_pixels == 0 or not exposed >= self.min_exposure_fraction * n_pixels:
                continue
            observed_spectrum(
                start,
                stop,
                observation.pixel_start,
                observation.channel,
                observation.background_counts,
                observation.background_template,
                counts[channels],
                background[channels],
            )
            source_factor = weighted / weights
            exposure[channels] = observation.exposure_s * source_factor
            parts.append(ObservationPart(position, exposed / n_pixels, source_factor))
        return RegionSpectra(parts, counts, background, exposure)

    def blank_sky(self, position: int, start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, float]:
        """Blank-sky spectrum of a region in one observation, all detector groups together, and its scale.

        Parameters
        ----------
        position : int
            Place of the observation in the fit input.
        start, stop : ndarray of int64, shape (n_runs,)
            The region.

        Returns
        -------
        counts : ndarray of float64, shape (n_channels,)
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
        return by_group.sum(axis=0).astype(np.float64), float(np.average(observation.blank_scale, weights=weights))


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
        background_counts=_flat(observation.background_counts, np.float32).reshape(n_groups, -1),
        background_template=np.array(observation.background_template, dtype=np.float64),
    )


def _flat(array: np.ndarray, dtype: type) -> np.ndarray:
    """A flat, read-only view: one type for arrays in memory and mapped ones, so that nothing compiles twice."""
    view = np.require(array, dtype=dtype, requirements=["C", "A"]).reshape(-1).view(np.ndarray)
    view.flags.writeable = False
    return view
