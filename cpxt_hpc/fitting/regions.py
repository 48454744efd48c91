"""The fit of one region: its spectra out of the packed events, its best kT and norm with their limits."""

from __future__ import annotations

import math
import time

import numpy as np

from cpxt_hpc.fitting.extraction import RegionExtractor
from cpxt_hpc.fitting.limits import fit_kt_norm
from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.fitting.results import Status, empty_result
from cpxt_hpc.fitting.statistics import STATISTICS, Spectra, prepare_chi2gehrels, prepare_cstat
from cpxt_hpc.science.spectra import circle_pixel_count, circle_runs, pixel_runs

MIN_EXPOSURE_FRACTION = 0.09
"""ClusterPyXT leaves an observation out that exposes less of a region than this."""

SECONDS_PER_REGION, SECONDS_PER_CHANNEL, SECONDS_PER_PIXEL = 1e-4, 3e-7, 4e-9
"""What a fit takes, measured on one core of an AMD EPYC; only ratios between regions matter."""

FREE_PARAMETERS = 2

FITTED = ("kT", "kT_lo", "kT_hi", "norm", "norm_lo", "norm_hi", "stat")
"""Columns of a result in the order of `fit_kt_norm`."""


class RegionFitter:
    """Fits the regions of a map, one at a time; the result of a region depends on nothing but the fit input.

    Parameters
    ----------
    fit_input : FitInput
    statistic : str
        cstat: Poisson likelihood, the background known from its template. chi2gehrels: ClusterPyXT's recipe, the
        blank-sky spectrum subtracted and Gehrels' errors.
    min_exposure_fraction : float
        Observations that expose less of a region's pixels stay out of its fit.

    Raises
    ------
    ValueError
        The statistic is unknown, or there are fewer than two temperature nodes.
    """

    def __init__(
        self,
        fit_input: FitInput,
        *,
        statistic: str = "cstat",
        min_exposure_fraction: float = MIN_EXPOSURE_FRACTION,
    ) -> None:
        if statistic not in STATISTICS:
            raise ValueError(f"statistic {statistic!r} is unknown: choose one of {', '.join(STATISTICS)}")
        if len(fit_input.kt_nodes_kev) < 2:
            raise ValueError("a fit needs at least two temperature nodes")
        self.fit_input = fit_input
        self.statistic = statistic
        self.extractor = RegionExtractor(fit_input, min_exposure_fraction)
        self._kt = np.array(fit_input.kt_nodes_kev, dtype=np.float64)

    def fit(self, index: int) -> np.ndarray:
        """Fit a region of the map.

        Parameters
        ----------
        index : int
            Place of the region in ``fit_input.regions`` (not its number).

        Returns
        -------
        ndarray of RESULT_DTYPE, shape ()
            A spectrum that cannot be fitted gives a status, not an exception.
        """
        began = time.perf_counter()
        regions = self.fit_input.regions
        row = empty_result(
            regions.number[index], regions.iy[index], regions.ix[index], regions.radius[index], Status.NO_EXPOSURE
        )
        self._fill(row, *self.region_runs(index))
        row["seconds"] = time.perf_counter() - began
        return row

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
        began = time.perf_counter()
        ny, nx = self.fit_input.grid.shape
        pixels = np.unique(np.asarray(pixels, dtype=np.int64))
        if len(pixels) and not (pixels[0] >= 0 and pixels[-1] < ny * nx):
            raise ValueError(f"pixels {pixels[0]} to {pixels[-1]} are not all in the image, 0 to {ny * nx - 1}")
        iy, ix = (int(np.rint(np.mean(place))) for place in np.divmod(pixels, nx)) if len(pixels) else (0, 0)
        row = empty_result(number, iy, ix, 0.0, Status.NO_EXPOSURE)
        self._fill(row, *pixel_runs(pixels), len(pixels))
        row["seconds"] = time.perf_counter() - began
        return row

    def estimated_seconds(self, index: int) -> float:
        """Rough time that a region's fit takes [s], to share out the work; reads no events."""
        per_observation = SECONDS_PER_PIXEL * self._pixel_count(index)
        n_observations = len(self.fit_input.observations)
        return (
            SECONDS_PER_REGION + SECONDS_PER_CHANNEL * self.extractor.rates.shape[1] + per_observation * n_observations
        )

    def region_runs(self, index: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Runs (start, stop) of a region's pixels inside the image, and the number of pixels of the whole region."""
        regions = self.fit_input.regions
        first, last = int(regions.pixel_start[index]), int(regions.pixel_start[index + 1])
        if last > first:
            start, stop = pixel_runs(regions.pixels[first:last])
        else:
            place = int(regions.iy[index]), int(regions.ix[index])
            start, stop = circle_runs(*place, float(regions.radius[index]), self.fit_input.grid.shape)
        return start, stop, self._pixel_count(index)

    def _pixel_count(self, index: int) -> int:
        regions = self.fit_input.regions
        listed = int(regions.pixel_start[index + 1] - regions.pixel_start[index])
        return listed or circle_pixel_count(float(regions.radius[index]))

    def _fill(self, row: np.ndarray, start: np.ndarray, stop: np.ndarray, n_pixels: int) -> None:
        """Fit the region of these runs and write the outcome into its row."""
        parts, counts, background, exposure = self.extractor.extract(start, stop, n_pixels)
        if not parts:
            return
        channels = [self.extractor.channels[part.position] for part in parts]
        row["n_obs"] = len(parts)
        row["observations_used"] = sum(1 << part.position for part in parts)
        row["dof"] = sum(each.stop - each.start for each in channels) - FREE_PARAMETERS
        row["exposure_s"] = sum(
            self.fit_input.observations[part.position].exposure_s * part.exposed_fraction for part in parts
        )
        if self.statistic == "cstat":
            spectra = prepare_cstat(counts, background, self.extractor.rates, exposure)
        else:
            blank, scale = np.zeros((2, len(counts)))
            for part, each in zip(parts, channels, strict=True):
                blank[each], scale[each] = self.extractor.blank_sky(part.position, start, stop)
            background = scale * blank
            spectra = prepare_chi2gehrels(counts, blank, scale, self.extractor.rates, exposure)
        background_counts = float(background.sum())
        row["background_counts"] = background_counts
        row["net_counts"] = counts.sum() - background_counts
        # A sum is finite only if every term is.
        if math.isfinite(background_counts) and math.isfinite(exposure.sum()):
            self._fill_parameters(row, spectra)
        else:
            row["status"] = Status.NOT_A_NUMBER

    def _fill_parameters(self, row: np.ndarray, spectra: Spectra) -> None:
        *values, lower_found, upper_found = fit_kt_norm(spectra, self._kt)
        for name, value in zip(FITTED, values, strict=True):
            row[name] = value
        kt, _, _, norm, *_ = values
        if norm > 0.0 and not all(map(math.isfinite, values)):
            row["status"] = Status.NOT_A_NUMBER
        else:
            row["status"] = kt_status(kt, self._kt[0], self._kt[-1], lower_found, upper_found)


def kt_status(kt: float, lowest: float, highest: float, lower_found: bool, upper_found: bool) -> Status:
    """Status of a fit with values.

    Parameters
    ----------
    kt : float
        Best temperature [keV]; NaN where the best norm is 0.
    lowest, highest : float
        Searched range [keV].
    lower_found, upper_found : bool
        The limits lie inside the range.

    Returns
    -------
    Status
    """
    if not (lower_found or upper_found):
        return Status.KT_UNCONSTRAINED
    if kt == lowest:
        return Status.KT_AT_LOWER_BOUND
    if kt == highest:
        return Status.KT_AT_UPPER_BOUND
    if not lower_found:
        return Status.KT_LO_UNBOUND
    return Status.OK if upper_found else Status.KT_HI_UNBOUND
