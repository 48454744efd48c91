"""Make the region files that nobody drew: point sources, the bright part of the cluster, the crop of the map."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np

from cpxt_hpc.errors import DataError
from cpxt_hpc.io.events import read_events, read_pointing
from cpxt_hpc.io.images import read_image
from cpxt_hpc.io.region_files import region_mask, summarize_regions, write_region_file
from cpxt_hpc.layout import ObservationLayout
from cpxt_hpc.science.autoregions import bright_radius, cluster_peak, map_box, map_radius, radial_profile
from cpxt_hpc.science.background import scaled_blank_sky
from cpxt_hpc.science.grid import SKY_PIXEL_ARCSEC, PixelGrid
from cpxt_hpc.science.images import BROAD_BAND_EV, band_channels
from cpxt_hpc.science.psf import merged_psf_radius, psf_radius_arcsec
from cpxt_hpc.science.sources import PROBABILITY, find_point_sources
from cpxt_hpc.science.vignetting import off_axis_angles_arcmin
from cpxt_hpc.stages.base import StageContext

logger = logging.getLogger(__name__)

MADE_BY = "made by cpxt-prep --auto; edit it or draw your own: an existing file is never overwritten"

LARGEST_FINE_IMAGE = 30_000_000
"""Pixels of the image in which sources are sought; larger fields are binned by 2 sky pixels."""

SMALLEST_EXCLUDED_ARCSEC = 30.0
SMALLEST_MAP_ARCSEC = 60.0


def make_sources(context: StageContext) -> None:
    """Find the point sources on the observations of stage 1 and write ``sources.reg``.

    Raises
    ------
    MissingInput
        Stage 1 has not run.
    DataError
        An event file does not tell where the telescope pointed.
    """
    target = context.layout.sources
    if target.exists():
        logger.info("%s is there and stays as it is", target.name)
        return
    by_program = context.toolchain.find_sources(context.layout, context.config.obsids)
    if by_program is not None:
        write_region_file(target, by_program.shapes, comment=f"{by_program.told_by}\n{MADE_BY}")
        _, grid, _ = read_image(context.layout.merged_exposure)
        logger.info("%s; %s", by_program.told_by, summarize_regions(target, grid))
        return
    exposure, grid, _ = read_image(context.layout.merged_exposure)
    binning = 1 if grid.nx * grid.ny * grid.binning**2 <= LARGEST_FINE_IMAGE else 2
    parts = grid.binning // binning
    fine = dataclasses.replace(grid, nx=grid.nx * parts, ny=grid.ny * parts, binning=binning)
    counts, radii, exposures = np.zeros(fine.shape), [], []
    for observation in map(context.layout.observation, context.config.obsids):
        events = read_events(observation.events)
        broad = events.select(events.in_energy(*BROAD_BAND_EV))
        counts += fine.counts_image(broad["x"], broad["y"])
        radii.append(psf_radius_arcsec(_off_axis_arcmin(grid, observation)))
        exposures.append(read_image(observation.exposure)[0])
    psf_pixel = merged_psf_radius(np.array(radii), np.array(exposures)) / fine.pixel_arcsec
    found = find_point_sources(counts, _enlarged(exposure, parts), _enlarged(psf_pixel, parts))
    x, y = fine.sky_from_image(found["x"], found["y"])
    shapes = [("circle", *circle) for circle in zip(x, y, found["radius"] * binning, strict=True)]
    write_region_file(
        target, shapes,
        comment=f"{len(shapes)} point sources, by chance with p < {PROBABILITY:g} each, 0.5-7 keV\n{MADE_BY}",
    )
    logger.info(
        "%d point sources found, %.0f net counts; %s", len(found), found["counts"].sum(),
        summarize_regions(target, grid),
    )


def _off_axis_arcmin(grid: PixelGrid, observation: ObservationLayout) -> np.ndarray:
    """Angle of each image pixel from the optical axis [arcmin], shape (ny, nx)."""
    pointing = read_pointing(observation.events)
    if pointing is None:
        raise DataError(
            f"{observation.events}: the header has neither RA_PNT, DEC_PNT nor RA_NOM, DEC_NOM; expected where the "
            "telescope pointed. Draw the point sources yourself, or restore the keywords and run stage 1 again."
        )
    return off_axis_angles_arcmin(grid, *pointing)


def _enlarged(image: np.ndarray, parts: int) -> np.ndarray:
    return np.repeat(np.repeat(image, parts, axis=0), parts, axis=1)


def make_exclude(context: StageContext) -> None:
    """Write ``exclude.reg``: a circle about the bright part of the cluster, from the images of stage 1.

    Raises
    ------
    MissingInput
        Stage 1 has not run.
    DataError
        Nothing is exposed.
    """
    layout = context.layout
    if layout.exclude.exists():
        logger.info("%s is there and stays as it is", layout.exclude.name)
        return
    counts, grid, _ = read_image(layout.broad_counts)
    background, exposure = (read_image(path)[0] for path in (layout.broad_background, layout.merged_exposure))
    if layout.sources.is_file():
        exposure = np.where(region_mask(layout.sources, grid), 0.0, exposure)
    if not (exposure > 0.0).any():
        raise DataError(f"{layout.merged_exposure}: no pixel outside the point sources is exposed. Run stage 1 again.")
    centre = cluster_peak(counts, background, exposure)
    profile = radial_profile(counts, background, exposure, centre)
    radius_arcsec = max(bright_radius(profile, exposure, centre) * grid.pixel_arcsec, SMALLEST_EXCLUDED_ARCSEC)
    x, y = grid.sky_from_image(*centre)
    write_region_file(
        layout.exclude, [("circle", x, y, radius_arcsec / SKY_PIXEL_ARCSEC)],
        comment=f"bright part of the cluster, left out of the full-band light curve\n{MADE_BY}",
    )
    share = np.count_nonzero(region_mask(layout.exclude, grid) & (exposure > 0.0)) / np.count_nonzero(exposure > 0.0)
    logger.info(
        "bright part of the cluster: radius %.0f arcsec, %.0f %% of the field", radius_arcsec, 100.0 * share
    )


def make_crop(context: StageContext) -> None:
    """Write the crop: a box about the part of the cluster that is worth a map, from the clean events of stage 2.

    Raises
    ------
    MissingInput
        Stage 2 has not run.
    DataError
        Nothing is exposed.
    """
    layout, config = context.layout, context.config
    if layout.crop.exists() or layout.crop_alternative.exists():
        logger.info("%s is there and stays as it is", layout.crop.name)
        return
    _, grid, _ = read_image(layout.source_mask)
    counts, background, exposure = (np.zeros(grid.shape) for _ in range(3))
    first, last = band_channels(config.fit.energy_min_kev, config.fit.energy_max_kev)
    for observation in map(layout.observation, config.obsids):
        events, blank = read_events(observation.clean_events), read_events(observation.clean_background_events)
        chosen, blank_chosen = ((each["pi"] >= first) & (each["pi"] <= last) for each in (events, blank))
        counts += grid.counts_image(events["x"][chosen], events["y"][chosen])
        background += scaled_blank_sky(events, blank, grid, blank_chosen)
        exposure += read_image(observation.clean_exposure)[0]
    if not (exposure > 0.0).any():
        raise DataError(f"{layout.source_mask}: no pixel outside the point sources is exposed. Run stage 2 again.")
    centre = cluster_peak(counts, background, exposure)
    profile = radial_profile(counts, background, exposure, centre)
    radius = map_radius(
        profile, signal_to_noise=config.cluster.signal_to_noise, max_radius_pixel=config.binning.max_radius_pixel
    )
    smallest = SMALLEST_MAP_ARCSEC / grid.pixel_arcsec
    if radius < smallest:
        logger.warning(
            "the cluster is too faint for circles of signal to noise %g: the crop is a box of %.0f arcsec about its "
            "peak. Lower signal_to_noise, or draw %s yourself.",
            config.cluster.signal_to_noise, 2.0 * SMALLEST_MAP_ARCSEC, layout.crop.name,
        )
    iy0, iy1, ix0, ix1 = map_box(exposure, centre, max(radius, smallest))
    x, y = grid.sky_from_image(0.5 * (ix0 + ix1 - 1), 0.5 * (iy0 + iy1 - 1))
    width, height = ((ix1 - ix0) * grid.binning, (iy1 - iy0) * grid.binning)
    write_region_file(
        layout.crop, [("box", x, y, width, height, 0.0)], comment=f"area of the map\n{MADE_BY}"
    )
    logger.info(
        "crop: %.0f x %.0f arcsec about the peak of the cluster", width * SKY_PIXEL_ARCSEC, height * SKY_PIXEL_ARCSEC
    )
