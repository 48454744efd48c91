"""``<name>_sky.csv``: the sky that was fitted off the cluster beside the blank sky."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

from cpxt_hpc.io.atomic import write_text


@dataclasses.dataclass(frozen=True)
class SkyRow:
    """One component; field names are the columns.

    Attributes
    ----------
    component : str
    norm_per_arcmin2, norm_error : float
        XSPEC's norm of apec; photon/cm2/s/keV at 1 keV of the power law.
    area_arcmin2 : float
        Sky used, all observations together.
    counts, blank_sky_counts, sky_counts, tail_counts : float
        In the fitted band: observed, expected from the blank sky, fitted for all components together, and for the
        cluster's own light there.
    """

    component: str
    norm_per_arcmin2: float
    norm_error: float
    area_arcmin2: float
    counts: float
    blank_sky_counts: float
    sky_counts: float
    tail_counts: float


def write_sky_table(path: Path, rows: Sequence[SkyRow]) -> None:
    """Write the table as CSV, whole or not at all; without rows where nothing was fitted.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([field.name for field in dataclasses.fields(SkyRow)])
    for row in rows:
        name, *values = dataclasses.astuple(row)
        table.writerow([name, *(f"{value:.6g}" for value in values)])
    write_text(path, text.getvalue())
