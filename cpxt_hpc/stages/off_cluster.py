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
from cpxt_hpc.science.sky_foreground import OffClusterSpectrum, flat_area
from cpxt_hpc.science.template import background_template
from cpxt_hpc.science.vignetting import between, off_axis_angles_arcmin, vignetted_areas
from cpxt_hpc.stages.arf_place import arf_places
from cpxt_hpc.stages.background import pixels_of
from cpxt_hpc.stages.base import StageContext
from cpxt_hpc.stages.fold import pointing_of

logger = logging.getLogger(__name__)

LEAST_COUNTS = 1000
"""Counts off the cluster in the fitted band, all observations together, that a fit needs."""

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


def flat_pixels(
    parts: list[OffCluster], off: np.ndarray, mask: np.ndarray, grid: PixelGrid, full_grid: PixelGrid
) -> np.ndarray:
    """Pixels off the cluster that hold none of its light, on the full grid."""
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
    iy, ix = np.nonzero(mask)
    rows, columns = part_of(full_grid, grid)
    y, x = np.indices(full_grid.shape)
    radius = np.hypot(y - rows.start - iy.mean(), x - columns.start - ix.mean())
    used = np.zeros(shape, dtype=bool)
    used[off] = flat_area(
        counts[off], background[off], variance[off], exposure[off], radius[off], least_counts=LEAST_COUNTS
    )
    left_out = 1.0 - used.sum() / max(off.sum(), 1)
    if used.any() and left_out > 0.0:
        logger.info("the cluster's light reaches beyond the crop: %.0f %% of the area off it left out", 100 * left_out)
    return used


def _blank_factors(part: OffCluster) -> np.ndarray:
    """Factor from each blank-sky event to expected background counts, shape (n_blank_events,)."""
    weights = blank_sky_weights(part.events, part.blank)
    scale_of = {ccd: part.model.scales[group.name].value for group in part.model.groups for ccd in group.ccds}
    return event_weights(part.blank, {ccd: scale_of[ccd] * weight for ccd, weight in weights.items()})


def off_cluster_spectrum(
    part: OffCluster,
    photons: np.ndarray,
    used: np.ndarray,
    grid: PixelGrid,
    channel: np.ndarray,
    settings: BackgroundSection,
) -> OffClusterSpectrum:
    """Counts, expected background and components of one observation in the pixels used."""
    inside, blank_inside = (pixels_of(used, each, grid) for each in (part.events, part.blank))
    counts = np.bincount(part.events["pi"][inside], minlength=N_PI_CHANNELS + 1)[channel]
    factor, own = (
        _blank_factors(part),
        tuple(dataclasses.replace(group, counted=group.ccds) for group in part.model.groups),
    )
    pi, ccd_id = part.blank["pi"][blank_inside], part.blank["ccd_id"][blank_inside]
    expected, variance = (
        group_spectra(pi, ccd_id, factor[blank_inside] ** power, own, N_PI_CHANNELS) for power in (1, 2)
    )
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
    weight = np.bincount(index, weights=exposure * (1.0 - step), minlength=n_angles)
    weight[1:] += np.bincount(index, weights=exposure * step, minlength=n_angles)[:-1]
    area = EffectiveArea(part.edges_kev, weight @ part.areas_cm2)
    return OffClusterSpectrum(
        counts, np.sum(smooth, axis=0), np.sum(spread, axis=0), np.array(shift),
        fold(photons, area, part.redistribution)[:, channel - part.redistribution.channel[0]],
    )  # fmt: skip
