"""The exposure of one observation on the grid of the map."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.errors import DataError
from cpxt_hpc.io.images import read_image
from cpxt_hpc.layout import ObservationLayout
from cpxt_hpc.science.grid import PixelGrid, part_of


def map_exposure_s(observation: ObservationLayout, grid: PixelGrid, mask: np.ndarray) -> np.ndarray:
    """Exposure after the cleaning, vignetting left out, 0 outside the mask; shape (ny, nx) [s].

    Raises
    ------
    MissingInput, DataError
        The image of stage 2 is missing, damaged, or does not cover the map.
    """
    exposure, full_grid, _ = read_image(observation.clean_exposure)
    try:
        part = part_of(full_grid, grid)
    except ValueError as error:
        raise DataError(
            f"{observation.clean_exposure}: does not cover the map ({error}). Run stages 2 (clean) and 4 (crop) again."
        ) from error
    return np.where(mask, exposure[part], 0.0)
