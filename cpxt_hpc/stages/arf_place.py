"""Where on the sky, and how far off the mirror's axis, the ARF of an observation was made."""

from __future__ import annotations

import dataclasses
import logging
import math

import numpy as np

from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io.events import read_pointing
from cpxt_hpc.io.images import read_image
from cpxt_hpc.io.region_files import region_mask
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.pointing import angular_separation_deg
from cpxt_hpc.stages.base import StageContext

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ArfPlace:
    """Where an ARF was made.

    Attributes
    ----------
    off_axis_arcmin : float
        NaN where the pointing is not known.
    iy, ix : float
        Image pixel of the map; NaN where not known.
    told_by : str
        What says so, for the log.
    """

    off_axis_arcmin: float
    iy: float
    ix: float
    told_by: str


def arf_places(context: StageContext, grid: PixelGrid) -> dict[int, ArfPlace]:
    """Place of each observation's ARF: as ``cluster.ini`` says, else ``acisI_region_0.reg``, else the aimpoint.

    An ARF borrowed from another observation has that one's off-axis angle; where it lies in the borrower's field is
    not known unless it is the aimpoint.

    Raises
    ------
    DataError
        A region file cannot be used.
    """
    stated = context.config.response.arf_off_axis_arcmin
    return {
        obsid: _aimpoint(context, obsid, grid, "as [response] arf_off_axis_arcmin says")
        if stated == 0.0
        else ArfPlace(stated, math.nan, math.nan, "as [response] arf_off_axis_arcmin says")
        if stated > 0.0
        else _found_place(context, obsid, source, grid)
        for obsid, source in _sources(context).items()
    }


def _sources(context: StageContext) -> dict[int, int]:
    """Observation that each one's ARF comes from."""
    obsids = context.config.obsids
    try:
        found = context.toolchain.locate_responses(context.layout, obsids)
    except MissingInput:
        # The files handed in may be gone since stage 3 copied them.
        return {obsid: obsid for obsid in obsids}
    return {obsid: found[obsid].source_obsid for obsid in obsids}


def _found_place(context: StageContext, obsid: int, source: int, grid: PixelGrid) -> ArfPlace:
    path = context.layout.observation(source).arf_region
    if not path.is_file():
        return _aimpoint(context, obsid, grid, f"there is no {path.name}: the aimpoint is assumed")
    _, full_grid, _ = read_image(context.layout.broad_flux)
    inside = region_mask(path, full_grid, mode="touch")
    if not inside.any():
        raise DataError(
            f"{path}: no pixel of the image lies inside. Draw the area for which the ARF was made on "
            f"{context.layout.broad_flux}, or remove the file and set [response] arf_off_axis_arcmin."
        )
    iy, ix = (float(np.mean(places)) for places in np.nonzero(inside))
    ra, dec = full_grid.wcs().all_pix2world(ix, iy, 0)
    pointing = read_pointing(context.layout.observation(source).clean_events)
    angle = 60.0 * float(angular_separation_deg(ra, dec, *pointing)) if pointing else math.nan
    if source != obsid:
        return ArfPlace(angle, math.nan, math.nan, f"{path.name} of ObsID {source}")
    column, row = grid.image_from_sky(*full_grid.sky_from_image(ix, iy))
    return ArfPlace(angle, float(row), float(column), path.name)


def _aimpoint(context: StageContext, obsid: int, grid: PixelGrid, told_by: str) -> ArfPlace:
    pointing = read_pointing(context.layout.observation(obsid).clean_events)
    column, row = grid.wcs().all_world2pix(*pointing, 0) if pointing else (math.nan, math.nan)
    return ArfPlace(0.0, float(row), float(column), told_by)
