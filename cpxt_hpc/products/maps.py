"""Maps as FITS files, each telling what it was made of."""

from __future__ import annotations

import dataclasses
import logging
import textwrap
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cpxt_hpc.io.images import write_image
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.products.fitted import FittedRegions
from cpxt_hpc.products.quantities import QUANTITIES, Quantity
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.maps import BLOCK_SIDE

log = logging.getLogger(__name__)

HISTORY_CHARACTERS = 72
"""What a HISTORY card holds; FITS would break longer lines inside words."""


@dataclasses.dataclass(frozen=True)
class Map:
    """A finished map.

    Attributes
    ----------
    name : str
        Key of `QUANTITIES`.
    quantity : Quantity
    image : ndarray, shape (ny, nx)
    grid : PixelGrid
    """

    name: str
    quantity: Quantity
    image: np.ndarray
    grid: PixelGrid


def make_maps(fits: FittedRegions, names: Iterable[str]) -> dict[str, Map]:
    """Compute maps, by name, in the order asked for; the log names those that the fits do not have."""
    names = list(names)
    unknown = [name for name in names if not QUANTITIES[name].is_known(fits)]
    if unknown:
        log.info("not made, for no fit has what they show: %s", ", ".join(unknown))
    return {
        name: Map(name, QUANTITIES[name], QUANTITIES[name].make(fits), fits.grid)
        for name in names
        if name not in unknown
    }


def write_maps(maps: Iterable[Map], fits: FittedRegions, layout: ClusterLayout) -> list[Path]:
    """Write each map to ``layout.map_file``, whole or not at all; returns the files.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    cards, settings = _provenance_cards(fits), _settings_lines(fits)
    written = []
    for item in maps:
        path = layout.map_file(f"{item.name}.fits")
        history = [*_quantity_lines(item.quantity, fits), *settings]
        history = [part for line in history for part in textwrap.wrap(line, HISTORY_CHARACTERS)]
        write_image(path, item.image, item.grid, unit=item.quantity.unit, header=cards, history=history)
        written.append(path)
    return written


def _provenance_cards(fits: FittedRegions) -> dict[str, object]:
    """Keywords that every map of these fits carries."""
    side = BLOCK_SIDE[fits.resolution]
    return {
        "OBJECT": fits.name,
        "TELESCOP": "CHANDRA",
        "INSTRUME": "ACIS",
        "OBSIDS": (" ".join(map(str, fits.obsids)), "observations fitted jointly"),
        "REDSHIFT": (fits.redshift, "of the fits"),
        "LOSMPC": (fits.line_of_sight_mpc, "assumed depth of the gas [Mpc]"),
        "MAPRESOL": (fits.resolution, f"finest resolution shown: blocks of {side} x {side} pixels"),
        "NREGIONS": (fits.n_regions, "regions of a whole map of this resolution"),
        "NFITTED": (len(fits.results), "regions fitted, of all resolutions"),
        "NFLAGGED": (fits.n_flagged, "of these with values, not OK or with flags"),
        "NFAILED": (fits.n_failed, "of these crashed, NaN or timed out"),
        "SETDIG": (fits.provenance.settings_digest[:16], "digest of the settings of the fits"),
        "BINDIG": (fits.provenance.binning_digest[:64], "digest of the binning"),
    }


def _settings_lines(fits: FittedRegions) -> list[str]:
    return [f"fit {key} = {value}" for key, value in sorted(fits.provenance.settings.items())]


def _quantity_lines(quantity: Quantity, fits: FittedRegions) -> list[str]:
    lines = [quantity.title, *([quantity.note] if quantity.note else [])]
    if quantity.depends_on_depth:
        lines.append(
            f"Gas uniform over each region and a depth of L = {fits.line_of_sight_mpc:g} Mpc; "
            f"scales with {quantity.depends_on_depth}. n_e = 1.2 n_H; H0 = 70, Omega_m = 0.3, flat."
        )
    return lines
