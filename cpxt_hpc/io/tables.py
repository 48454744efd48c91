"""Tables of fits as CSV files with ClusterPyXT's columns.

``T_err_-`` and ``Norm_err_-`` are negative, as Sherpa gives them. ``obs_id`` holds the ObsIDs joined by commas, quoted
where there are several, as ClusterPyXT writes them. A limit that is not constrained is ``nan``, which ClusterPyXT's
``float`` reads; fits without values (status 16 and above) stand in no table.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.fitting.results import FIRST_STATUS_WITHOUT_VALUES, Status
from cpxt_hpc.io.atomic import write_text

COLUMNS = ("region", "T", "T_err_+", "T_err_-", "Norm", "Norm_err_+", "Norm_err_-", "reduced_x2", "obs_id")

UPPER_LIMIT_OPEN = (Status.KT_AT_UPPER_BOUND, Status.KT_HI_UNBOUND, Status.KT_UNCONSTRAINED)
"""Statuses of fits whose upper kT limit is not constrained: ClusterPyXT's "worst" fits."""

LOWER_LIMIT_OPEN = (Status.KT_AT_LOWER_BOUND, Status.KT_LO_UNBOUND, Status.KT_UNCONSTRAINED)

FITS_TABLE_DTYPE = np.dtype([("region", "<i4"), *((name, "<f8") for name in COLUMNS[1:-1]), ("obs_id", object)])
"""A row of a table that was read; ``obs_id`` is a tuple of int."""


def upper_limit_is_open(results: np.ndarray) -> np.ndarray:
    """Whether each fit belongs into the table of worst fits, bool, shape (n,)."""
    return np.isin(results["status"], UPPER_LIMIT_OPEN)


def select_fits(results: np.ndarray, kind: str) -> np.ndarray:
    """The fits of one table: spectral_fits, worst_spectral_fits, or all_spectral_fits, which holds both.

    Raises
    ------
    ValueError
        Another kind.
    """
    results = results[results["status"] < FIRST_STATUS_WITHOUT_VALUES]
    worst = upper_limit_is_open(results)
    chosen = {"spectral_fits": ~worst, "worst_spectral_fits": worst, "all_spectral_fits": np.ones_like(worst)}
    if kind not in chosen:
        raise ValueError(f"table {kind!r}: expected one of {', '.join(chosen)}")
    return results[chosen[kind]]


def write_fits_csv(path: Path, results: np.ndarray, obsids: Sequence[int]) -> None:
    """Write fits as a CSV table, whole or not at all.

    Parameters
    ----------
    path : Path
    results : ndarray of RESULT_DTYPE
    obsids : sequence of int
        By position in the fit's input, as ``observations_used`` counts them.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in results:
        upper = np.nan if row["status"] in UPPER_LIMIT_OPEN else row["kT_hi"] - row["kT"]
        lower = np.nan if row["status"] in LOWER_LIMIT_OPEN else row["kT_lo"] - row["kT"]
        numbers = (
            row["kT"], upper, lower,
            row["norm"], row["norm_hi"] - row["norm"], row["norm_lo"] - row["norm"],
            row["stat"] / row["dof"] if row["dof"] > 0 else np.nan,
        )  # fmt: skip
        used = [str(obsid) for i, obsid in enumerate(obsids) if int(row["observations_used"]) >> i & 1]
        writer.writerow([int(row["region"]), *(repr(float(value)) for value in numbers), ",".join(used)])
    write_text(path, text.getvalue())


def read_fits_csv(path: Path) -> np.ndarray:
    """Read a table that `write_fits_csv` or ClusterPyXT wrote; an empty number is NaN.

    Returns
    -------
    ndarray of FITS_TABLE_DTYPE, shape (n,)
        In the order of the file.

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        A column is missing, or a line cannot be read.
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: no column {', '.join(missing)}. Expected: {','.join(COLUMNS)}")
            rows = [_parsed(line, reader.line_num, path) for line in reader]
    except FileNotFoundError as error:
        raise MissingInput(f"{path}: this table does not exist. Run cpxt-maps, which writes it.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable CSV table ({error}).") from error
    return np.array(rows, dtype=FITS_TABLE_DTYPE)


def _parsed(line: dict[str, str], number: int, path: Path) -> tuple:
    try:
        values = [float(line[name]) if line[name].strip() else np.nan for name in COLUMNS[1:-1]]
        obsids = tuple(int(obsid) for obsid in line["obs_id"].split(",") if obsid.strip())
        return (int(line["region"]), *values, obsids)
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path}, line {number}: cannot be read ({error}). Expected: {','.join(COLUMNS)}") from error
