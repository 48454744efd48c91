"""``background_model.fits``: expected background of one observation in the fitted band, by detector group.

One image extension a group, named after it; the primary header has, for group number i from 1: GROUPi its name,
BKGSCLi and BKGERRi the scale from weighted blank-sky counts to background counts and its error, BKGLEVi the level
relative to the blank sky's, NOBSi and NBLANKi the counts in 9.5-12 keV that gave them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import DataError
from cpxt_hpc.io.images import read_images, write_images
from cpxt_hpc.science.background import BackgroundScale
from cpxt_hpc.science.grid import PixelGrid


def write_background_model(
    path: Path,
    images: Mapping[str, np.ndarray],
    scales: Mapping[str, BackgroundScale],
    grid: PixelGrid,
    header: Mapping[str, object] | None = None,
) -> None:
    """Write the background images of an observation.

    Parameters
    ----------
    path : Path
    images : mapping of str to ndarray, shape (ny, nx)
        Expected background [count/pixel] by detector group, scaled; 0 where masked.
    scales : mapping of str to BackgroundScale
        Of the same groups.
    grid : PixelGrid
    header : mapping, optional
        Further keywords of the primary block.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    cards: dict[str, object] = dict(header or {})
    for number, group in enumerate(images, start=1):
        scale = scales[group]
        cards[f"GROUP{number}"] = (group, "detector group")
        cards[f"BKGSCL{number}"] = (float(scale.value), "factor on weighted blank-sky counts")
        cards[f"BKGERR{number}"] = (float(scale.error), "its Poisson error")
        cards[f"BKGLEV{number}"] = (float(scale.level), "factor over ratio of exposures")
        cards[f"NOBS{number}"] = (scale.n_observation, "counts of the observation, 9.5-12 keV")
        cards[f"NBLANK{number}"] = (float(scale.n_blank), "weighted blank-sky counts, 9.5-12 keV")
    write_images(path, [(group, image, "count/pixel") for group, image in images.items()], grid, cards)


def read_background_model(path: Path) -> tuple[dict[str, np.ndarray], dict[str, BackgroundScale], PixelGrid]:
    """Read the images and scales by detector group, and their grid.

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        It is not what `write_background_model` writes.
    """
    images, grid, header = read_images(path)
    scales = {}
    try:
        for number, name in enumerate(images, start=1):
            if header[f"GROUP{number}"] != name:
                raise DataError(f"{path}: extension {name} stands where GROUP{number} says {header[f'GROUP{number}']}.")
            scales[name] = BackgroundScale(*(header[f"{key}{number}"] for key in _SCALE_KEYS))
    except KeyError as error:
        raise DataError(f"{path}: lacks the scale of a detector group ({error}). Run stage 4 (crop) again.") from error
    return images, scales, grid


_SCALE_KEYS = ("BKGSCL", "BKGERR", "NOBS", "NBLANK", "BKGLEV")
