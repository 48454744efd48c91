"""The blank-sky background: its level in an observation, and where it falls.

The particle background above 9.5 keV, where the mirrors reflect nothing, sets the level of each group of CCDs.
The factor is one on counts: it holds the ratio of the exposures, which must never be multiplied again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from cpxt_hpc.errors import DataError
from cpxt_hpc.science.background_groups import BackgroundGroup, detector_groups
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.images import weighted_counts_image
from cpxt_hpc.science.template import window_counts

PARTICLE_BAND_EV = (9500.0, 12000.0)

USUAL_LEVEL = (0.7, 1.4)
"""Range of the level relative to the blank sky's that needs no warning."""

LARGEST_SCALE_ERROR = 0.03
"""A CCD whose own scale is known worse than this takes that of its detector group: the usual systematic error."""


@dataclasses.dataclass(frozen=True)
class BackgroundScale:
    """Factor from weighted blank-sky counts to expected background counts of one group of CCDs.

    Attributes
    ----------
    value, error : float
        N_observation / N_blank and its Poisson error.
    n_observation : int
        Counts of the observation in the particle band.
    n_blank : float
        Weighted counts of the blank sky in the same band.
    level : float
        The factor over the ratio of the exposures: 1 where the background is as in the blank sky.
    """

    value: float
    error: float
    n_observation: int
    n_blank: float
    level: float

    @property
    def is_usual(self) -> bool:
        """Whether the level lies in `USUAL_LEVEL`."""
        return USUAL_LEVEL[0] <= self.level <= USUAL_LEVEL[1]


def blank_sky_weights(observation: EventList, blank: EventList) -> dict[int, float]:
    """Weight of the blank-sky events of each CCD of an observation.

    A CCD that lost frames collects less background than its neighbours: its weight is its exposure over the
    longest one of the observation, over the same ratio in the blank sky.

    Raises
    ------
    DataError
        The blank sky has no events on a CCD of the observation.
    """
    missing = [ccd for ccd in observation.ccds if ccd not in blank.exposure_s]
    if missing:
        raise DataError(
            f"ObsID {observation.obsid}: the blank-sky file has no events on CCD "
            f"{', '.join(map(str, missing))}. Bring a blank-sky file of the same CCDs."
        )
    ours, theirs = observation.exposure_s, blank.exposure_s
    longest, longest_blank = (max(times[ccd] for ccd in observation.ccds) for times in (ours, theirs))
    return {ccd: (ours[ccd] / longest) / (theirs[ccd] / longest_blank) for ccd in observation.ccds}


def event_weights(events: EventList, weights: Mapping[int, float]) -> np.ndarray:
    """Weight of each event by its CCD, shape (n_events,); 0 on CCDs without one."""
    table = np.zeros(max([*weights, int(events["ccd_id"].max(initial=0))]) + 1)
    for ccd, weight in weights.items():
        table[ccd] = weight
    return table[events["ccd_id"]]


def background_scales(
    observation: EventList, blank: EventList, groups: Sequence[BackgroundGroup] | None = None
) -> dict[str, BackgroundScale]:
    """Scale of each group: counts of the observation over weighted blank-sky counts in 9.5-12 keV.

    Parameters
    ----------
    observation, blank : EventList
        Over the whole field, with the same areas masked, flares cut.
    groups : sequence of BackgroundGroup, optional
        By default the detector groups.

    Returns
    -------
    dict of str to BackgroundScale

    Raises
    ------
    DataError
        A group has no counts in the band in one of the two.
    """
    weights = blank_sky_weights(observation, blank)
    in_band = observation.in_energy(*PARTICLE_BAND_EV)
    blank_in_band = blank.in_energy(*PARTICLE_BAND_EV)
    exposure_ratio = observation.reference_exposure_s / max(blank.exposure_s[ccd] for ccd in observation.ccds)
    scales = {}
    for group in detector_groups(observation.ccds) if groups is None else groups:
        ccds = group.level_ccds
        n_observation = int(np.count_nonzero(in_band & np.isin(observation["ccd_id"], ccds)))
        counts = np.array([np.count_nonzero(blank_in_band & (blank["ccd_id"] == ccd)) for ccd in ccds])
        weight = np.array([weights[ccd] for ccd in ccds])
        n_blank = float(weight @ counts)
        if n_observation == 0 or n_blank == 0.0:
            raise DataError(
                f"ObsID {observation.obsid}, {group.name}: {n_observation} counts in 9.5-12 keV, {n_blank:.0f} in the "
                "blank sky; the background cannot be scaled. Were the files cut in energy? They must reach 12 keV."
            )
        value = n_observation / n_blank
        variance = 1.0 / n_observation + float(weight**2 @ counts) / n_blank**2
        scales[group.name] = BackgroundScale(
            value, value * np.sqrt(variance), n_observation, n_blank, value / exposure_ratio
        )
    return scales


def ccds_with_own_level(observation: EventList, blank: EventList) -> tuple[int, ...]:
    """CCDs whose own counts in the particle band give a level with an error below `LARGEST_SCALE_ERROR`."""
    hard, blank_hard = (each.in_energy(*PARTICLE_BAND_EV) for each in (observation, blank))
    suffice = []
    for ccd in observation.ccds:
        n = np.count_nonzero(hard & (observation["ccd_id"] == ccd))
        n_blank = np.count_nonzero(blank_hard & (blank["ccd_id"] == ccd))
        if n and n_blank and np.sqrt(1.0 / n + 1.0 / n_blank) < LARGEST_SCALE_ERROR:
            suffice.append(ccd)
    return tuple(suffice)


def ccds_with_own_shape(
    blank: EventList,
    in_map: np.ndarray,
    channels: tuple[int, int],
    *,
    enough_counts: float,
    max_channels: int,
) -> tuple[int, ...]:
    """CCDs whose own blank sky gives a template whose widest window holds enough counts.

    Parameters
    ----------
    blank : EventList
    in_map : ndarray of bool, shape (n_blank_events,)
        Blank-sky events that the templates are made of.
    channels : tuple of int
        First and last fitted PI channel.
    enough_counts : float
    max_channels : int
        As `background_template` takes them.
    """
    fitted, suffice = slice(channels[0], channels[1] + 1), []
    for ccd in blank.ccds:
        own = in_map & (blank["ccd_id"] == ccd)
        spectrum = np.bincount(blank["pi"][own], minlength=channels[1] + max_channels + 1)
        if window_counts(spectrum, fitted, max_channels=max_channels) >= enough_counts:
            suffice.append(ccd)
    return tuple(suffice)


def band_residual(
    observation: EventList,
    blank: EventList,
    groups: Sequence[BackgroundGroup],
    scales: Mapping[str, BackgroundScale],
    chosen: np.ndarray,
    blank_chosen: np.ndarray,
) -> dict[str, tuple[float, float]]:
    """What an area of the field has above the scaled blank sky, by group.

    Parameters
    ----------
    observation, blank : EventList
    groups, scales
    chosen, blank_chosen : ndarray of bool, shape (n_events,)
        Events of the area and energy band.

    Returns
    -------
    dict of str to (float, float)
        Excess over the expected counts, and over its error (Poisson of both, and the scale's); NaN without counts.
    """
    weights = blank_sky_weights(observation, blank)
    residuals = {}
    for group in groups:
        scale = scales[group.name]
        n = np.count_nonzero(chosen & np.isin(observation["ccd_id"], group.ccds))
        factors = np.array([scale.value * weights[ccd] for ccd in group.ccds])
        counts = np.array([np.count_nonzero(blank_chosen & (blank["ccd_id"] == ccd)) for ccd in group.ccds])
        expected = float(factors @ counts)
        variance = n + float(factors**2 @ counts) + (expected * scale.error / scale.value) ** 2
        if expected > 0.0:
            residuals[group.name] = (n / expected - 1.0, (n - expected) / float(np.sqrt(variance)))
        else:
            residuals[group.name] = (float("nan"), float("nan"))
    return residuals


def blank_sky_images(
    observation: EventList,
    blank: EventList,
    grid: PixelGrid,
    chosen: np.ndarray,
    groups: Sequence[BackgroundGroup] | None = None,
) -> dict[str, np.ndarray]:
    """Weighted blank-sky counts in each pixel by group.

    Parameters
    ----------
    observation, blank : EventList
    grid : PixelGrid
    chosen : ndarray of bool, shape (n_blank_events,)
        Which blank-sky events count: an energy band.
    groups : sequence of BackgroundGroup, optional
        By default the detector groups.

    Returns
    -------
    dict of str to ndarray of float64, shape (ny, nx)
    """
    per_event = event_weights(blank, blank_sky_weights(observation, blank))
    images = {}
    for group in detector_groups(observation.ccds) if groups is None else groups:
        own = chosen & np.isin(blank["ccd_id"], group.ccds)
        images[group.name] = weighted_counts_image(blank.select(own), grid, per_event[own])
    return images


def scaled_blank_sky(observation: EventList, blank: EventList, grid: PixelGrid, chosen: np.ndarray) -> np.ndarray:
    """Expected background [count/pixel], unsmoothed: blank-sky counts times the scale of their group, summed."""
    scales = background_scales(observation, blank)
    images = blank_sky_images(observation, blank, grid, chosen)
    return np.sum([scales[group].value * image for group, image in images.items()], axis=0)


def smoothed_background(
    blank_counts: np.ndarray, footprint: np.ndarray, *, sigma_pixel: float
) -> np.ndarray:
    """Expected blank-sky counts of each pixel: G(N) / G(E) x E with G a Gaussian.

    Dividing by the smoothed footprint keeps the level right at the edges of the chips and beside masked sources.

    Parameters
    ----------
    blank_counts : ndarray, shape (ny, nx)
        Weighted blank-sky counts N.
    footprint : ndarray, shape (ny, nx)
        Relative exposure E of the same CCDs; 0 where masked.
    sigma_pixel : float
        Width of the Gaussian [image pixel].

    Returns
    -------
    ndarray of float64, shape (ny, nx)
        0 where the footprint is.
    """
    counts = ndimage.gaussian_filter(np.asarray(blank_counts, dtype=float), sigma_pixel, mode="constant")
    exposed = ndimage.gaussian_filter(np.asarray(footprint, dtype=float), sigma_pixel, mode="constant")
    model = np.zeros(np.shape(footprint))
    return np.divide(counts * footprint, exposed, out=model, where=(footprint > 0.0) & (exposed > 0.0))
