"""Fits that earlier versions wrote: their columns, and what is made of them.

Schema 1 had kT, norm and the statistic of a fit with everything else frozen. Its rows get NaN in the columns that came
later, the frozen abundance and nH from the settings, and no flags; its settings get the later keys, with the values
that say what was done then. So its maps can be made, and it can be continued with settings that say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

import cpxt_hpc
from cpxt_hpc.errors import DataError
from cpxt_hpc.fitting.results import RESULT_DTYPE, VALUE_COLUMNS
from cpxt_hpc.io.provenance import Provenance, Value

SCHEMA_VERSION = 2
"""Of the rows, wherever they are written: HDF5 file, journal, spool."""

SCHEMA_1_DTYPE = np.dtype(
    [
        ("region", "<i4"),
        ("iy", "<i4"),
        ("ix", "<i4"),
        ("radius", "<f8"),
        ("kT", "<f8"),
        ("kT_lo", "<f8"),
        ("kT_hi", "<f8"),
        ("norm", "<f8"),
        ("norm_lo", "<f8"),
        ("norm_hi", "<f8"),
        ("stat", "<f8"),
        ("dof", "<i4"),
        ("status", "<i2"),
        ("n_obs", "<i2"),
        ("observations_used", "<u8"),
        ("net_counts", "<f8"),
        ("background_counts", "<f8"),
        ("exposure_s", "<f8"),
        ("seconds", "<f4"),
    ]
)

ROW_DTYPES = {1: SCHEMA_1_DTYPE, SCHEMA_VERSION: RESULT_DTYPE}
"""Columns of a row by schema version: all that can be read."""

SETTINGS_SINCE_SCHEMA_1: dict[str, Value] = {
    "engine": "exact",
    "group_channels": 0,
    "free": "none",
    "norms": "shared",
    "delta_statistic": 1.0,
    "systematic": 0.0,
    "edge": "pixel",
    "source": "blanksky",
    "local_region": "",
    "groups": "detector",
    "sky": "none",
    "tiles": "1",
    "vignetting": "none",
    "arf_off_axis_arcmin": -1.0,
    "plasma": "apec",
    "model_error": 0.0,
}
"""Settings that schema 1 did not have, with the values that mean what was done then."""

RENAMED_SINCE_SCHEMA_1 = {"model": "plasma"}


def row_dtype(version: int, path: Path, what: str) -> np.dtype:
    """Columns of the rows of a file.

    Parameters
    ----------
    version : int
        The file's schema version.
    path : Path
    what : str
        What it is, for the message.

    Raises
    ------
    DataError
        A later version wrote the file, or none did.
    """
    if version not in ROW_DTYPES:
        raise DataError(
            f"{path}: {what} of schema version {version}; this software ({cpxt_hpc.__version__}) reads up to "
            f"{SCHEMA_VERSION}. Use the version that wrote it, choose another [fit] label, or use --restart."
        )
    return ROW_DTYPES[version]


def migrated_rows(rows: np.ndarray, settings: Mapping[str, Value]) -> np.ndarray:
    """Rows as this version has them.

    Parameters
    ----------
    rows : ndarray of one of `ROW_DTYPES`, shape (n,)
    settings : mapping
        What the rows were made with.

    Returns
    -------
    ndarray of RESULT_DTYPE, shape (n,)
        The same array where it is of this version.
    """
    if rows.dtype == RESULT_DTYPE:
        return rows
    migrated = np.zeros(len(rows), dtype=RESULT_DTYPE)
    for name in VALUE_COLUMNS:
        migrated[name] = np.nan
    for name in rows.dtype.names:
        migrated[name] = rows[name]
    # Rows without values have neither counts nor a model.
    with_values = np.isfinite(migrated["stat"])
    for name, key in (("abundance", "abundance"), ("nH", "nH_1e22")):
        migrated[name] = np.where(with_values, float(settings.get(key, np.nan)), np.nan)
    return migrated


def migrated_provenance(provenance: Provenance, version: int) -> Provenance:
    """Provenance of fits of a schema version, as this version states it."""
    if version == SCHEMA_VERSION:
        return provenance
    settings = {RENAMED_SINCE_SCHEMA_1.get(key, key): value for key, value in provenance.settings.items()}
    return Provenance({**SETTINGS_SINCE_SCHEMA_1, **settings}, provenance.binning_digest)
