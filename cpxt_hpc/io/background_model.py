"""``background_model.fits``: expected background of one observation in the fitted band, by group of CCDs.

One image extension a group, named after it; the primary header has, for group number i from 1: GROUPi its name,
CCDSi its CCDs, LVLCi those whose counts set its level and SHPCi those that set its template (one digit each), BKGSCLi
and BKGERRi the scale from weighted blank-sky counts to background counts and its error, BKGLEVi the level relative to
the blank sky's, NOBSi and NBLANKi the counts in 9.5-12 keV that gave them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cpxt_hpc.errors import DataError
from cpxt_hpc.io.images import read_images, write_images
from cpxt_hpc.science.background import BackgroundScale
from cpxt_hpc.science.background_groups import BackgroundGroup
from cpxt_hpc.science.grid import PixelGrid


class BackgroundModel(NamedTuple):
    """The background of one observation.

    Attributes
    ----------
    images : dict of str to ndarray, shape (ny, nx)
        Expected background [count/pixel] by group, scaled; 0 where masked.
    scales : dict of str to BackgroundScale
    groups : tuple of BackgroundGroup
    grid : PixelGrid
    """

    images: dict[str, np.ndarray]
    scales: dict[str, BackgroundScale]
    groups: tuple[BackgroundGroup, ...]
    grid: PixelGrid


def write_background_model(
    path: Path,
    images: Mapping[str, np.ndarray],
    scales: Mapping[str, BackgroundScale],
    groups: Sequence[BackgroundGroup],
    grid: PixelGrid,
    header: Mapping[str, object] | None = None,
) -> None:
    """Write the background images of an observation.

    Parameters
    ----------
    path : Path
    images : mapping of str to ndarray, shape (ny, nx)
        Expected background [count/pixel] by group, scaled; 0 where masked.
    scales : mapping of str to BackgroundScale
    groups : sequence of BackgroundGroup
    grid : PixelGrid
    header : mapping, optional
        Further keywords of the primary block.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    cards: dict[str, object] = dict(header or {})
    for number, group in enumerate(groups, start=1):
        scale = scales[group.name]
        cards[f"GROUP{number}"] = (group.name, "group of CCDs")
        cards[f"CCDS{number}"] = ("".join(map(str, group.ccds)), "its CCDs")
        cards[f"LVLC{number}"] = ("".join(map(str, group.level_ccds)), "CCDs that set the level")
        cards[f"SHPC{number}"] = ("".join(map(str, group.shape_ccds)), "CCDs that set the template")
        cards[f"BKGSCL{number}"] = (float(scale.value), "factor on weighted blank-sky counts")
        cards[f"BKGERR{number}"] = (float(scale.error), "its Poisson error")
        cards[f"BKGLEV{number}"] = (float(scale.level), "factor over ratio of exposures")
        cards[f"NOBS{number}"] = (scale.n_observation, "counts of the observation, 9.5-12 keV")
        cards[f"NBLANK{number}"] = (float(scale.n_blank), "weighted blank-sky counts, 9.5-12 keV")
    write_images(path, [(group.name, images[group.name], "count/pixel") for group in groups], grid, cards)


def read_background_model(path: Path) -> BackgroundModel:
    """Read the background model of an observation.

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        It is not what `write_background_model` writes.
    """
    images, grid, header = read_images(path)
    scales, groups = {}, []
    try:
        for number, name in enumerate(images, start=1):
            if header[f"GROUP{number}"] != name:
                raise DataError(f"{path}: extension {name} stands where GROUP{number} says {header[f'GROUP{number}']}.")
            scales[name] = BackgroundScale(*(header[f"{key}{number}"] for key in _SCALE_KEYS))
            ccds = (tuple(map(int, str(header[f"{key}{number}"]))) for key in ("CCDS", "LVLC", "SHPC"))
            groups.append(BackgroundGroup(name, *ccds))
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: lacks the scale of a group of CCDs ({error}). Run stage 4 (crop) again.") from error
    return BackgroundModel(images, scales, tuple(groups), grid)


_SCALE_KEYS = ("BKGSCL", "BKGERR", "NOBS", "NBLANK", "BKGLEV")
