"""The fit of one region: its spectra out of the packed events, its best kT and norm with their limits."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np

from cpxt_hpc.fitting.estimate import estimated_seconds
from cpxt_hpc.fitting.extraction import RegionExtractor
from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.fitting.region_spectra import RegionSpectra
from cpxt_hpc.fitting.results import FAR_FROM_ARF_ARCMIN, RESULT_DTYPE, Flag, Status, empty_result
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.spectral_model import SpectralModel
from cpxt_hpc.fitting.spectrum_fit import fit_spectra
from cpxt_hpc.fitting.statistics import STATISTICS
from cpxt_hpc.fitting.time_limit import TimeLimitExceeded, time_limit
from cpxt_hpc.science.region_pixels import (
    NO_EDGE,
    RegionPixels,
    circle_pixel_count,
    circle_runs,
    exact_circle,
    pixel_runs,
)

FAR_FROM_ARF = int(Flag.FAR_FROM_ARF)


class RegionFitter:
    """Fits the regions of a map, one at a time; the result of a region depends on nothing but the fit input.

    Parameters
    ----------
    fit_input : FitInput
    settings : FitSettings, optional
    **changed
        Fields of `FitSettings` that differ from ``settings``.

    Raises
    ------
    ValueError
        The statistic is unknown, or there are fewer than two temperature nodes.
    """

    def __init__(self, fit_input: FitInput, settings: FitSettings | None = None, **changed: object) -> None:
        self.settings = dataclasses.replace(settings or FitSettings(), **changed)
        if self.settings.statistic not in STATISTICS:
            raise ValueError(f"statistic {self.settings.statistic!r} is unknown: choose one of {', '.join(STATISTICS)}")
        if len(fit_input.kt_nodes_kev) < 2:
            raise ValueError("a fit needs at least two temperature nodes")
        self.fit_input = fit_input
        self.extractor = RegionExtractor(fit_input, self.settings)
        self._exact_edge = fit_input.settings.get("edge") == "exact"
        nh_1e22 = float(fit_input.nh_nodes_1e22[self.extractor.nh_column])
        self.model = SpectralModel(
            kt_nodes_kev=np.array(fit_input.kt_nodes_kev, dtype=np.float64),
            nh_nodes_1e22=np.array(fit_input.nh_nodes_1e22 if self.settings.free_nh else [nh_1e22], dtype=np.float64),
            abundance=float(fit_input.abundance),
            nh_1e22=nh_1e22,
        )
        self._other_engine = None
        self._limit_s = self.settings.region_timeout
        if self.settings.engine == "sherpa":
            # It ends its child process when the time is over, which nothing can delay.
            self._limit_s = 0.0
            from cpxt_hpc.fitting.sherpa_fit import sherpa_for_map  # workers of the exact engine need none of it

            self._other_engine = sherpa_for_map(fit_input, self.settings)

    def fit(self, index: int) -> np.ndarray:
        """Fit a region of the map.

        Parameters
        ----------
        index : int
            Place of the region in ``fit_input.regions`` (not its number).

        Returns
        -------
        ndarray of RESULT_DTYPE, shape ()
            A spectrum that cannot be fitted, or not within ``region_timeout``, gives a status, not an exception.
        """
        regions = self.fit_input.regions
        row = empty_result(
            regions.number[index], regions.iy[index], regions.ix[index], regions.radius[index], Status.NO_EXPOSURE
        )
        return self._filled(row, lambda: self.region_runs(index))

    def fit_pixels(self, pixels: np.ndarray, number: int = 0) -> np.ndarray:
        """Fit any set of pixels of the image.

        Parameters
        ----------
        pixels : ndarray of int
            Flat pixel indices iy * nx + ix inside the image, in any order.
        number : int
            Region number of the result.

        Returns
        -------
        ndarray of RESULT_DTYPE, shape ()
            At the pixel nearest to the mean position of the set, with radius 0.

        Raises
        ------
        ValueError
            A pixel lies outside the image.
        """
        ny, nx = self.fit_input.grid.shape
        pixels = np.unique(np.asarray(pixels, dtype=np.int64))
        if len(pixels) and not (pixels[0] >= 0 and pixels[-1] < ny * nx):
            raise ValueError(f"pixels {pixels[0]} to {pixels[-1]} are not all in the image, 0 to {ny * nx - 1}")
        iy, ix = (int(np.rint(np.mean(place))) for place in np.divmod(pixels, nx)) if len(pixels) else (0, 0)
        row = empty_result(number, iy, ix, 0.0, Status.NO_EXPOSURE)
        return self._filled(row, lambda: RegionPixels(*pixel_runs(pixels), len(pixels), NO_EDGE))

    def estimated_seconds(self, index: np.ndarray) -> np.ndarray:
        """Rough times of the fits at these places of the region table [s]."""
        return estimated_seconds(self.fit_input, self.settings, index)

    def region_runs(self, index: int) -> RegionPixels:
        """The pixels of a region of the map: what `RegionExtractor.extract` takes."""
        regions = self.fit_input.regions
        first, last = int(regions.pixel_start[index]), int(regions.pixel_start[index + 1])
        if last > first:
            return RegionPixels(*pixel_runs(regions.pixels[first:last]), last - first, NO_EDGE)
        circle = int(regions.iy[index]), int(regions.ix[index]), float(regions.radius[index])
        if self._exact_edge:
            return exact_circle(*circle, self.fit_input.grid.shape)
        return RegionPixels(*circle_runs(*circle, self.fit_input.grid.shape), circle_pixel_count(circle[2]), NO_EDGE)

    def _filled(self, row: np.ndarray, pixels: Callable[[], RegionPixels]) -> np.ndarray:
        """The row with the outcome of the fit and its time."""
        began = time.perf_counter()
        nothing = row.tobytes()
        try:
            with time_limit(self._limit_s):
                self._fill(row, pixels())
        except TimeLimitExceeded:
            row = np.ndarray((), RESULT_DTYPE, bytearray(nothing))
            row["status"] = Status.TIMED_OUT
        row["seconds"] = time.perf_counter() - began
        return row

    def _fill(self, row: np.ndarray, pixels: RegionPixels) -> None:
        """Fit the region of these pixels and write the outcome into its row."""
        spectra = self.extractor.extract(*pixels)
        row["exposure_s"] = sum(
            self.fit_input.observations[part.position].exposure_s * part.exposed_fraction for part in spectra.parts
        )
        fit_spectra(row, spectra, self.model, self.settings, self._other_engine)
        if self._far_from_arf(row, spectra):
            row["flags"] = int(row["flags"]) | FAR_FROM_ARF

    def _far_from_arf(self, row: np.ndarray, spectra: RegionSpectra) -> bool:
        """Whether an observation with one response for the whole field had it made far from here."""
        for part in spectra.parts:
            observation = self.fit_input.observations[part.position]
            if len(observation.arf_area_cm2) == 1:
                away = math.hypot(int(row["iy"]) - observation.arf_iy, int(row["ix"]) - observation.arf_ix)
                if away * self.fit_input.grid.pixel_arcsec > 60.0 * FAR_FROM_ARF_ARCMIN:
                    return True
        return False
