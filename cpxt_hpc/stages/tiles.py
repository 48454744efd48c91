"""ARFs of tiles of the field: one effective area for each tile in place of one for all.

A tile is a pair of files in ``<obsid>/repro/tiles``: ``NAME.arf[.gz]``, as specextract makes it for the tile, and
``NAME.reg``, the tile's area. Stage 3 lays copies into ``analysis/tiles``.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from scipy import ndimage

from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io.images import read_image
from cpxt_hpc.io.ogip import read_responses
from cpxt_hpc.io.region_files import region_mask
from cpxt_hpc.layout import ClusterLayout, ObservationLayout
from cpxt_hpc.science.grid import PixelGrid, part_of

logger = logging.getLogger(__name__)

MOST_TILES = 255
"""What the fit input's index of a pixel's response can tell apart."""


def handed_in_tiles(observation: ObservationLayout) -> dict[str, tuple[Path, Path]]:
    """ARF and region file of each tile in ``repro/tiles``, by the tile's name, in alphabetical order.

    Raises
    ------
    MissingInput
        An ARF without a region file, or a region file without an ARF.
    DataError
        Too many tiles.
    """
    folder = observation.repro / "tiles"
    arfs = {path.name.removesuffix(".gz").removesuffix(".arf"): path for path in sorted(folder.glob("*.arf*"))}
    regions = {path.stem: path for path in sorted(folder.glob("*.reg"))}
    alone = sorted(arfs.keys() ^ regions.keys())
    if alone:
        has, lacks = (".arf", ".reg") if alone[0] in arfs else (".reg", ".arf")
        raise MissingInput(f"{folder}: has {alone[0]}{has} but no {alone[0]}{lacks}. A tile needs both.")
    if len(arfs) > MOST_TILES:
        raise DataError(f"{folder}: {len(arfs)} tiles, expected at most {MOST_TILES}. Make larger ones.")
    return {name: (arfs[name], regions[name]) for name in arfs}


def laid_out_tiles(observation: ObservationLayout) -> dict[str, tuple[Path, Path]]:
    """As `handed_in_tiles`, of the copies that stage 3 made."""
    return {
        path.stem: (path, path.with_suffix(".reg")) for path in sorted((observation.analysis / "tiles").glob("*.arf"))
    }


def tile_areas(layout: ClusterLayout, observation: ObservationLayout, grid: PixelGrid) -> tuple[np.ndarray, np.ndarray]:
    """Effective area of each tile, and the tile of each pixel.

    Parameters
    ----------
    layout : ClusterLayout
    observation : ObservationLayout
        With tiles.
    grid : PixelGrid
        Of the map.

    Returns
    -------
    area_cm2 : ndarray of float64, shape (n_tiles, n_energies)
    index : ndarray of uint8, shape (ny, nx)
        The first tile that holds the pixel; the nearest one where none does.

    Raises
    ------
    DataError
        An ARF does not go with the observation's RMF, or a tile lies outside the image.
    """
    _, full_grid, _ = read_image(layout.broad_flux)
    areas, index = [], np.full(full_grid.shape, -1)
    for number, (arf, region) in enumerate(laid_out_tiles(observation).values()):
        areas.append(read_responses(arf, observation.rmf)[0].area_cm2)
        inside = region_mask(region, full_grid, mode="centre")
        if not inside.any():
            raise DataError(f"{region}: no pixel of {layout.broad_flux.name} lies inside. Draw the tile of {arf.name}.")
        index[inside & (index < 0)] = number
    nowhere = index < 0
    if nowhere.any():
        nearest = ndimage.distance_transform_edt(nowhere, return_distances=False, return_indices=True)
        index = index[tuple(nearest)]
    own = index[part_of(full_grid, grid)]
    logger.info("ObsID %d: ARFs of %d tiles, %d of them in the map", observation.obsid, len(areas), len(np.unique(own)))
    return np.array(areas), own.astype(np.uint8)
