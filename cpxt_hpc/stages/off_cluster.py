"""One observation off the cluster: where it shows none of the cluster's light, and its spectrum there."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np

from cpxt_hpc.config import BackgroundSection
from cpxt_hpc.io.background_model import BackgroundModel, read_background_model
from cpxt_hpc.io.events import read_events
from cpxt_hpc.io.images import read_image
from cpxt_hpc.io.ogip import read_responses
from cpxt_hpc.io.vignetting_table import hrma_vignetting
from cpxt_hpc.science.background import blank_sky_weights, event_weights
from cpxt_hpc.science.background_groups import group_spectra
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.grid import PixelGrid, part_of
from cpxt_hpc.science.response import N_PI_CHANNELS, EffectiveArea, Redistribution, fold
from cpxt_hpc.science.sky_foreground import (
    OffClusterSpectrum,
    cluster_light_off_cluster,
    rings_of_equal_exposure,
)
from cpxt_hpc.science.template import background_template
from cpxt_hpc.science.vignetting import between, off_axis_angles_arcmin, vignetted_areas
from cpxt_hpc.stages.arf_place import arf_places
from cpxt_hpc.stages.background import pixels_of
from cpxt_hpc.stages.base import StageContext
from cpxt_hpc.stages.fold import pointing_of

logger = logging.getLogger(__name__)

LEAST_COUNTS = 1000
"""Counts off the cluster that a fit needs, all observations together."""

SIGNIFICANT = 2.0
"""Standard deviations from which on a tail of the cluster is fitted too: cheaper than its bias."""

NOTABLE_SHARE = 0.02
"""Cluster light, as part of the background, that is worth a tail: the particles are no flatter."""

LARGEST_SHARE_ERROR = 0.05
"""How well it must be known how much cluster light there is, as part of the background."""

N_RINGS = 4

FLAT_BAND_EV = (700.0, 5000.0)
"""Where a cluster's light would show against the particles."""


@dataclasses.dataclass(frozen=True)
class OffCluster:
    """One observation off the cluster, on the full grid. Images have the shape (ny, nx).

    Attributes
    ----------
    events, blank : EventList
    model : BackgroundModel
    exposure_s : ndarray
        Without vignetting.
    off_axis_arcmin : ndarray
    areas_cm2 : ndarray of float64, shape (n_angles, n_energies)
        Effective area at the angles of the vignetting table; the same at all of them without vignetting.
    redistribution : Redistribution
    edges_kev : ndarray
    """

    events: EventList
    blank: EventList
    model: BackgroundModel
    exposure_s: np.ndarray
    off_axis_arcmin: np.ndarray
    areas_cm2: np.ndarray
    redistribution: Redistribution
    edges_kev: np.ndarray


def read_off_cluster(context: StageContext, obsid: int, grid: PixelGrid, full_grid: PixelGrid) -> OffCluster:
    """Read what is needed of one observation; `grid` is that of the map, `full_grid` that of all images."""
    observation = context.layout.observation(obsid)
    area, redistribution = read_responses(observation.arf, observation.rmf)
    table = hrma_vignetting()
    if context.config.response.vignetting == "none":
        angles, areas = np.zeros(full_grid.shape), np.tile(area.area_cm2, (len(table.off_axis_arcmin), 1))
    else:
        angles = off_axis_angles_arcmin(full_grid, *pointing_of(observation))
        made_at = arf_places(context, grid)[obsid].off_axis_arcmin
        areas = vignetted_areas(
            table, area.energy_edges_kev, area.area_cm2, table.off_axis_arcmin, made_at_arcmin=made_at
        )
    return OffCluster(
        events=read_events(observation.clean_events),
        blank=read_events(observation.clean_background_events),
        model=read_background_model(observation.background_model),
        exposure_s=read_image(observation.clean_exposure)[0].astype(float),
        off_axis_arcmin=angles,
        areas_cm2=areas,
        redistribution=redistribution,
        edges_kev=area.energy_edges_kev,
    )


@dataclasses.dataclass(frozen=True)
class SkyArea:
    """The pixels off the cluster that are used, on the full grid. Images have the shape (ny, nx).

    Attributes
    ----------
    used : ndarray of bool
    ring : ndarray of int64
        Number of each pixel's ring about the cluster; one ring where there is no cluster light to be seen.
    n_rings : int
    radius : ndarray of float64
        From the map's centre [image pixel].
    map_radius : float
        Of a circle with the map's area [image pixel].
    """

    used: np.ndarray
    ring: np.ndarray
    n_rings: int
    radius: np.ndarray
    map_radius: float


def sky_area(
    parts: list[OffCluster], off: np.ndarray, mask: np.ndarray, grid: PixelGrid, full_grid: PixelGrid
) -> SkyArea | None:
    """Where the sky can be fitted, and whether the cluster's light reaches there; None where that cannot be told."""
    counts, background, variance, exposure = np.zeros((4, *full_grid.shape))
    shape, n_pixels = full_grid.shape, full_grid.nx * full_grid.ny
    for part in parts:
        in_band = part.events.in_energy(*FLAT_BAND_EV)
        pixel = full_grid.pixel_index(part.events["x"], part.events["y"])
        counts += np.bincount(pixel[in_band & (pixel >= 0)], minlength=n_pixels).reshape(shape)
        factor = _blank_factors(part) * part.blank.in_energy(*FLAT_BAND_EV)
        pixel = full_grid.pixel_index(part.blank["x"], part.blank["y"])
        inside = pixel >= 0
        for image, power in ((background, 1), (variance, 2)):
            image += np.bincount(pixel[inside], weights=factor[inside] ** power, minlength=n_pixels).reshape(shape)
        index, step = between(hrma_vignetting().off_axis_arcmin, part.off_axis_arcmin)
        total = part.areas_cm2.sum(axis=1) / part.areas_cm2[0].sum()
        vignetting = (1.0 - step) * total[index] + step * total[np.minimum(index + 1, len(total) - 1)]
        exposure += part.exposure_s * vignetting
    used = off & (exposure > 0.0)
    if counts[used].sum() < LEAST_COUNTS or background[used].sum() <= 0.0:
        return None
    iy, ix = np.nonzero(mask)
    rows, columns = part_of(full_grid, grid)
    y, x = np.indices(full_grid.shape)
    radius = np.hypot(y - rows.start - iy.mean(), x - columns.start - ix.mean())
    share, error = cluster_light_off_cluster(*(each[used] for each in (counts, background, variance, exposure, radius)))
    logger.info("off the cluster its own light is %.1f +- %.1f %% of the background", 100.0 * share, 100.0 * error)
    if not error <= LARGEST_SHARE_ERROR:
        return None
    n_rings = N_RINGS if share > max(NOTABLE_SHARE, SIGNIFICANT * error) else 1
    ring = np.zeros(shape, dtype=np.int64)
    ring[used] = rings_of_equal_exposure(radius[used], exposure[used], n_rings)
    return SkyArea(used, ring, n_rings, radius, float(np.sqrt(np.count_nonzero(mask) / np.pi)))


def _blank_factors(part: OffCluster) -> np.ndarray:
    """Factor from each blank-sky event to expected background counts, shape (n_blank_events,)."""
    weights = blank_sky_weights(part.events, part.blank)
    scale_of = {ccd: part.model.scales[group.name].value for group in part.model.groups for ccd in group.ccds}
    return event_weights(part.blank, {ccd: scale_of[ccd] * weight for ccd, weight in weights.items()})


def off_cluster_spectrum(
    part: OffCluster,
    photons: np.ndarray,
    brightness: list[np.ndarray],
    area: SkyArea,
    grid: PixelGrid,
    channel: np.ndarray,
    settings: BackgroundSection,
) -> OffClusterSpectrum:
    """Counts, expected background and components of one observation, ring by ring.

    Parameters
    ----------
    part : OffCluster
    photons : ndarray, shape (n_components, n_energies)
        Of each component for norm 1 [photon/cm2/s].
    brightness : list of ndarray, each of shape (ny, nx)
        Norm of each component per arcmin2, for its norm 1.
    area : SkyArea
    grid : PixelGrid
        The full one.
    channel : ndarray of int, shape (n_channels,)
    settings : BackgroundSection
    """
    rings = [
        _ring_spectrum(part, photons, brightness, area.used & (area.ring == number), grid, channel, settings)
        for number in range(area.n_rings)
    ]
    return OffClusterSpectrum(
        *(
            np.concatenate([getattr(ring, field.name) for ring in rings], axis=-1)
            for field in dataclasses.fields(OffClusterSpectrum)
        )
    )


def _ring_spectrum(
    part: OffCluster,
    photons: np.ndarray,
    brightness: list[np.ndarray],
    used: np.ndarray,
    grid: PixelGrid,
    channel: np.ndarray,
    settings: BackgroundSection,
) -> OffClusterSpectrum:
    inside, blank_inside = (pixels_of(used, each, grid) for each in (part.events, part.blank))
    counts = np.bincount(part.events["pi"][inside], minlength=N_PI_CHANNELS + 1)[channel]
    factor = _blank_factors(part)[blank_inside]
    own = tuple(dataclasses.replace(group, shape_ccds=group.ccds) for group in part.model.groups)
    pi, ccd_id = part.blank["pi"][blank_inside], part.blank["ccd_id"][blank_inside]
    expected, variance = (group_spectra(pi, ccd_id, factor**power, own, N_PI_CHANNELS) for power in (1, 2))
    smooth, spread, shift = [], [], []
    for group in own:
        spectrum, scale = expected[group.name], part.model.scales[group.name]
        shape = background_template(
            spectrum, enough_counts=settings.template_counts, max_channels=settings.template_max_channels
        )[channel - 1]
        smooth.append(spectrum.sum() * shape)
        spread.append(variance[group.name].sum() * shape)
        shift.append(smooth[-1] * scale.error / scale.value)
    index, step = between(hrma_vignetting().off_axis_arcmin, part.off_axis_arcmin[used])
    exposure, n_angles = part.exposure_s[used] * grid.pixel_area_arcmin2, len(part.areas_cm2)
    first = channel - part.redistribution.channel[0]
    components = []
    for spectrum, image in zip(photons, brightness, strict=True):
        light = exposure * image[used]
        weight = np.bincount(index, weights=light * (1.0 - step), minlength=n_angles)
        weight[1:] += np.bincount(index, weights=light * step, minlength=n_angles)[:-1]
        area = EffectiveArea(part.edges_kev, weight @ part.areas_cm2)
        components.append(fold(spectrum, area, part.redistribution)[first])
    if not any(spectrum.any() for spectrum in smooth):
        # Nothing is expected where the blank sky has nothing: such a ring says nothing.
        nothing = np.zeros(len(channel))
        return OffClusterSpectrum(
            nothing, nothing + np.finfo(float).tiny, nothing, np.array(shift), np.zeros((len(photons), len(channel)))
        )
    return OffClusterSpectrum(
        counts, np.sum(smooth, axis=0), np.sum(spread, axis=0), np.array(shift), np.array(components)
    )
