"""``<name>_background.csv``: how the background of each observation was scaled, and what is left off the cluster."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

from cpxt_hpc.io.atomic import write_text


@dataclasses.dataclass(frozen=True)
class BackgroundRow:
    """One observation and group of CCDs; field names are the columns.

    Attributes
    ----------
    obsid : int
    group : str
    ccds, level_ccds, shape_ccds : str
        CCDs of the group, those whose counts set the level, and those that set the template; separated by blanks.
    scale, scale_error : float
        Factor from weighted blank-sky counts to expected background counts, and its Poisson error.
    level : float
        The factor over the ratio of the exposures.
    level_ratio : float
        The level over that of the observation's first group.
    n_observation : int
    n_blank : float
        Counts in 9.5-12 keV of the observation, and weighted ones of the blank sky.
    excess_5_7_kev, excess_9p5_12_kev : float
        (Observed - expected)/expected off the cluster; NaN where there is nothing off it.
    sigma_5_7_kev, sigma_9p5_12_kev : float
        The same differences over their errors.
    datamode : str
        FAINT, VFAINT, ...
    vfaint_cleaned : str
        yes or no: whether VFAINT cleaning was applied to the observation, hence to the blank sky.
    blank_epoch : str
        When the blank sky begins to be valid, as its file says; else the date of its header; else empty.
    blank_exposure_s : float
    """

    obsid: int
    group: str
    ccds: str
    level_ccds: str
    shape_ccds: str
    scale: float
    scale_error: float
    level: float
    level_ratio: float
    n_observation: int
    n_blank: float
    excess_5_7_kev: float
    sigma_5_7_kev: float
    excess_9p5_12_kev: float
    sigma_9p5_12_kev: float
    datamode: str
    vfaint_cleaned: str
    blank_epoch: str
    blank_exposure_s: float


def write_background_table(path: Path, rows: Sequence[BackgroundRow]) -> None:
    """Write the table as CSV, whole or not at all; floats with six digits.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([field.name for field in dataclasses.fields(BackgroundRow)])
    for row in rows:
        table.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in dataclasses.astuple(row)])
    write_text(path, text.getvalue())
