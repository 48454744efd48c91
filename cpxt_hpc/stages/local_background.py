"""``[background] source = local``: the region file, and the events that stand for a blank sky."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import ConfigError
from cpxt_hpc.io.region_files import region_mask
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.local_background import local_blank_sky
from cpxt_hpc.stages.base import StageContext

logger = logging.getLogger(__name__)

SEED = 20


def is_local(context: StageContext) -> bool:
    """Whether the observations themselves give the background."""
    return context.config.background.source == "local"


def local_region(context: StageContext) -> Path:
    """The region file; a relative path starts at the cluster's folder.

    Raises
    ------
    ConfigError
        None is set.
    """
    name = context.config.background.local_region
    if not name:
        raise ConfigError(
            "[background] source = local needs local_region = FILE: draw an area that shows background only on "
            f"{context.layout.broad_flux}."
        )
    return context.layout.folder / name


def local_background(
    context: StageContext, events: EventList, exposures: dict[str, np.ndarray], kept: np.ndarray, grid: PixelGrid
) -> EventList:
    """Events of the area, spread over the CCDs: what stands for a blank sky.

    Parameters
    ----------
    context : StageContext
    events : EventList
        Cleaned.
    exposures : dict of str to ndarray, shape (ny, nx)
        By CCD: ``CCD0`` and so on.
    kept : ndarray of bool, shape (ny, nx)
        False where sources are masked.
    grid : PixelGrid

    Raises
    ------
    ConfigError, MissingInput, DataError
        The region file is not set, missing, or covers too little.
    """
    path = local_region(context)
    area = region_mask(path, grid, mode="centre") & kept
    by_ccd = {ccd: exposures[f"CCD{ccd}"] for ccd in events.ccds}
    local = local_blank_sky(events, by_ccd, area, grid, np.random.default_rng([SEED, events.obsid]))
    logger.info("ObsID %d: the background is that of %d events inside %s", events.obsid, len(local), path)
    return local
