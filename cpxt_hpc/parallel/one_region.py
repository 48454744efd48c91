"""One region of a map, chosen by its number, by a place on the sky, or as a shape of a region file."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import ConfigError
from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.fitting.regions import RegionFitter
from cpxt_hpc.io.images import read_image
from cpxt_hpc.io.sky_position import parse_position
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.parallel.user_regions import user_region_pixels
from cpxt_hpc.parallel.work import positions_of
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.region_pixels import NO_EDGE, RegionPixels, pixel_runs

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class OneRegion:
    """A region of the map by its place in the table, or the pixels of a user's shape.

    Attributes
    ----------
    name : str
        For file names.
    title : str
        For people.
    index : int or None
        Place in the region table.
    inside : ndarray of int64 or None
        Flat indices of the pixels of a shape, ascending.
    """

    name: str
    title: str
    index: int | None
    inside: np.ndarray | None

    def fit(self, fitter: RegionFitter) -> np.ndarray:
        """Fit it."""
        return fitter.fit(self.index) if self.inside is None else fitter.fit_pixels(self.inside)

    def pixels(self, fitter: RegionFitter) -> RegionPixels:
        """Its pixels, as an extractor takes them."""
        if self.inside is None:
            return fitter.region_runs(self.index)
        return RegionPixels(*pixel_runs(self.inside), len(self.inside), NO_EDGE)


def numbered_region(number: int, layout: ClusterLayout, fit_input: FitInput) -> OneRegion:
    """The region of a number.

    Raises
    ------
    ConfigError
        There is none.
    """
    regions = fit_input.regions
    positions, unknown = positions_of(regions, np.array([number]))
    if len(unknown):
        known = f"; its numbers are {regions.number[0]} to {regions.number[-1]}." if len(regions) else "s at all."
        raise ConfigError(f"--region {number}: {layout.fit_input.name} has no such region{known}")
    return _of_table(int(positions[0]), fit_input)


def region_at(text: str, fit_input: FitInput) -> OneRegion:
    """The region whose pixel is nearest to a place on the sky.

    Parameters
    ----------
    text : str
        As `cpxt_hpc.io.sky_position.parse_position` takes it.
    fit_input : FitInput

    Raises
    ------
    ConfigError
        It is no position, or lies outside the map.
    """
    ra, dec = parse_position(text)
    grid, regions = fit_input.grid, fit_input.regions
    ix, iy = (float(value) for value in grid.wcs().all_world2pix(ra, dec, 0))
    if not (-0.5 <= ix <= grid.nx - 0.5 and -0.5 <= iy <= grid.ny - 0.5) or not len(regions):
        raise ConfigError(f"--at {text}: {ra:.5f}, {dec:.5f} degrees lie outside the map, {_described(grid)}.")
    distance = np.hypot(np.asarray(regions.iy) - iy, np.asarray(regions.ix) - ix)
    index = int(np.argmin(distance))
    logger.info(
        "region %d is nearest to %s: its pixel lies %.1f arcsec away",
        regions.number[index], text, distance[index] * grid.pixel_arcsec,
    )  # fmt: skip
    return _of_table(index, fit_input)


def shape_of_file(path: Path, shape: int, layout: ClusterLayout, fit_input: FitInput) -> OneRegion:
    """A shape of a DS9 or CIAO region file.

    Parameters
    ----------
    path : Path
    shape : int
        Which of its shapes, from 1.
    layout : ClusterLayout
    fit_input : FitInput

    Raises
    ------
    ConfigError
        There is no such shape, or it holds no pixel of the map.
    MissingInput, DataError
        The file cannot be read.
    """
    full_grid = read_image(layout.broad_flux)[1] if layout.broad_flux.is_file() else None
    shapes = user_region_pixels(path, fit_input.grid, image_grid=full_grid)
    if not 1 <= shape <= len(shapes):
        raise ConfigError(f"--shape {shape}: {path} has the shapes 1 to {len(shapes)}.")
    text, inside = shapes[shape - 1]
    if not len(inside):
        raise ConfigError(f"--shape {shape}: {text} holds no pixel of the map. Choose another shape.")
    return OneRegion(f"{path.stem}_{shape}", f"{path.name}: {text}", None, inside)


def _of_table(index: int, fit_input: FitInput) -> OneRegion:
    number = int(fit_input.regions.number[index])
    return OneRegion(f"region_{number}", f"region {number}", index, None)


def _described(grid: PixelGrid) -> str:
    ra, dec = grid.wcs().all_pix2world(0.5 * (grid.nx - 1), 0.5 * (grid.ny - 1), 0)
    arcmin = grid.pixel_arcsec / 60.0
    return f"{grid.nx * arcmin:.1f} x {grid.ny * arcmin:.1f} arcmin about {float(ra):.5f}, {float(dec):.5f}"
