"""The blank-sky background of one observation on the map: its groups of CCDs, levels and images, and a report."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from cpxt_hpc.config import BackgroundSection
from cpxt_hpc.io.background_table import BackgroundRow
from cpxt_hpc.science.background import (
    PARTICLE_BAND_EV,
    USUAL_LEVEL,
    BackgroundScale,
    background_scales,
    band_residual,
    blank_sky_images,
    ccds_with_own_level,
    ccds_with_own_shape,
    smoothed_background,
)
from cpxt_hpc.science.background_groups import BackgroundGroup, ccd_groups, detector_groups, mixed_groups
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.local_background import local_scales

logger = logging.getLogger(__name__)

CONTINUUM_BAND_EV = (5000.0, 7000.0)
"""Between the lines of the camera and above most of a cluster's light: what is left here shows a wrong shape."""

OWN_TEMPLATE_COUNTS = 200
"""Blank-sky counts in the widest window from which on a CCD's own template is better than that of its detector group:
its noise shifts temperatures by less than 1 % at 50 % background (tests/benchmarks/template_noise.py), lines that are
20 % too strong by 7 %."""


class Field(NamedTuple):
    """What stage 4 has of one observation, on the full grid.

    Attributes
    ----------
    events, blank : EventList
        Cleaned.
    exposures_s : dict of str to ndarray, shape (ny, nx)
        By CCD: ``CCD0`` and so on.
    grid : PixelGrid
    mask, off_cluster : ndarray of bool, shape (ny, nx)
        Pixels of the map, and those that show background only.
    """

    events: EventList
    blank: EventList
    exposures_s: dict[str, np.ndarray]
    grid: PixelGrid
    mask: np.ndarray
    off_cluster: np.ndarray


def choose_groups(field: Field, settings: BackgroundSection, channels: tuple[int, int]) -> tuple[BackgroundGroup, ...]:
    """Groups of CCDs with a level and a template of their own, as ``[background] groups`` says."""
    events, blank = field.events, field.blank
    if settings.source == "local" or settings.groups == "detector":
        # A local background was spread evenly over the CCDs of a detector group: they do not differ.
        return detector_groups(events.ccds)
    if settings.groups == "ccd":
        return ccd_groups(events.ccds)
    own_shape = ccds_with_own_shape(
        blank, pixels_of(field.mask, blank, field.grid), channels,
        enough_counts=OWN_TEMPLATE_COUNTS, max_channels=settings.template_max_channels,
    )  # fmt: skip
    groups = mixed_groups(events.ccds, ccds_with_own_level(events, blank), own_shape)
    logger.info(
        "ObsID %d: own background level: %s; own template: %s", events.obsid, ", ".join(g.name for g in groups),
        ", ".join(g.name for g in groups if g.shape_ccds == g.ccds) or "none (that of the detector group)",
    )  # fmt: skip
    return groups


def background_images(
    field: Field,
    groups: tuple[BackgroundGroup, ...],
    scales: dict[str, BackgroundScale],
    channels: tuple[int, int],
    settings: BackgroundSection,
) -> dict[str, np.ndarray]:
    """Expected background [count/pixel] in the fitted band by group on the full grid, smoothed.

    Parameters
    ----------
    field : Field
    groups, scales
    channels : tuple of int
        First and last fitted PI channel.
    settings : BackgroundSection
    """
    longest = field.events.reference_exposure_s
    counts = blank_sky_images(field.events, field.blank, field.grid, in_channels(field.blank, channels), groups)
    images = {}
    for group in groups:
        footprint = np.sum([field.exposures_s[f"CCD{ccd}"] for ccd in group.ccds], axis=0) / longest
        if settings.source == "local":
            # Spread evenly by `local_blank_sky`: where its events happen to lie says nothing.
            smooth = counts[group.name].sum() * footprint / footprint.sum()
        else:
            sigma_pixel = settings.smoothing_arcsec / field.grid.pixel_arcsec
            smooth = smoothed_background(counts[group.name], footprint, sigma_pixel=sigma_pixel)
        images[group.name] = scales[group.name].value * smooth
    return images


def scales_of(
    field: Field, groups: tuple[BackgroundGroup, ...], channels: tuple[int, int], settings: BackgroundSection
) -> dict[str, BackgroundScale]:
    """Scale of each group; what it is goes to the log, and a warning where it is unusual."""
    if settings.source == "local":
        scales = local_scales(field.events, field.blank, groups, in_channels(field.blank, channels))
    else:
        scales = background_scales(field.events, field.blank, groups)
    for name, scale in scales.items():
        logger.info(
            "ObsID %d, %s: background scale %.4f +- %.4f, %.3f times the blank sky's level", field.events.obsid, name,
            scale.value, scale.error, scale.level,
        )  # fmt: skip
        if not scale.is_usual:
            logger.warning(
                "ObsID %d, %s: the background is %.2f times the blank sky's (usual: %.1f to %.1f). Is a flare left in "
                "the light curve of stage 2, or is the blank-sky file of another epoch?",
                field.events.obsid, name, scale.level, *USUAL_LEVEL,
            )  # fmt: skip
    return scales


def background_rows(
    field: Field, groups: tuple[BackgroundGroup, ...], scales: dict[str, BackgroundScale]
) -> list[BackgroundRow]:
    """The report of one observation; what is left off the cluster goes to the log too."""
    events, blank = field.events, field.blank
    off, blank_off = (pixels_of(field.off_cluster, each, field.grid) for each in (events, blank))
    residuals = [
        band_residual(events, blank, groups, scales, off & events.in_energy(*band), blank_off & blank.in_energy(*band))
        for band in (CONTINUUM_BAND_EV, PARTICLE_BAND_EV)
    ]
    header, rows = events.header, []
    for group in groups:
        scale, (medium, hard) = scales[group.name], (residual[group.name] for residual in residuals)
        logger.info(
            "ObsID %d, %s: off the cluster %+.1f %% (%+.1f sigma) of the background are left in 5-7 keV, %+.1f %% "
            "(%+.1f sigma) in 9.5-12 keV", events.obsid, group.name, 100 * medium[0], medium[1], 100 * hard[0], hard[1],
        )  # fmt: skip
        rows.append(
            BackgroundRow(
                obsid=events.obsid,
                group=group.name,
                ccds=" ".join(map(str, group.ccds)),
                level_ccds=" ".join(map(str, group.level_ccds)),
                shape_ccds=" ".join(map(str, group.shape_ccds)),
                scale=float(scale.value),
                scale_error=float(scale.error),
                level=float(scale.level),
                level_ratio=float(scale.level / scales[groups[0].name].level),
                n_observation=scale.n_observation,
                n_blank=float(scale.n_blank),
                excess_5_7_kev=medium[0],
                sigma_5_7_kev=medium[1],
                excess_9p5_12_kev=hard[0],
                sigma_9p5_12_kev=hard[1],
                datamode=str(header.get("DATAMODE", "")),
                vfaint_cleaned="yes" if header.get("CHKVFPHA", False) else "no",
                blank_epoch=str(blank.header.get("CVSD0001", blank.header.get("DATE-OBS", ""))),
                blank_exposure_s=float(blank.reference_exposure_s),
            )
        )
    return rows


def in_channels(events: EventList, channels: tuple[int, int]) -> np.ndarray:
    """Whether each event lies in the channels from the first to the last, shape (n_events,)."""
    return (events["pi"] >= channels[0]) & (events["pi"] <= channels[1])


def pixels_of(image: np.ndarray, events: EventList, grid: PixelGrid) -> np.ndarray:
    """Whether each event lies in a pixel of a boolean image, shape (n_events,)."""
    pixel = grid.pixel_index(events["x"], events["y"])
    return (pixel >= 0) & image.ravel()[pixel]
