"""The HDF5 file of a checkpoint: schema version 2; version 1 is read (`cpxt_hpc.io.migration`).

    /results         one row of `RESULT_DTYPE` a region, ascending by region
    /settings        attributes: every setting that changes the numbers
    attributes of /  format, schema_version, software, software_version, written, settings_digest, binning_digest
    attributes of /results: units, status_codes and flag_bits, as JSON

The file is made in memory and written beside its final name, so that the HDF5 library never has a half-written
file open: every file of this name is whole, whatever killed its writer, and can be read while a job runs.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import os
from pathlib import Path

import h5py
import numpy as np

import cpxt_hpc
from cpxt_hpc.errors import DataError
from cpxt_hpc.fitting.results import Flag, Status
from cpxt_hpc.io.atomic import replacing
from cpxt_hpc.io.migration import SCHEMA_VERSION, migrated_provenance, migrated_rows, row_dtype
from cpxt_hpc.io.provenance import Provenance, plain_value

FORMAT = "cpxt_hpc fits"

UNITS = {
    "iy": "pixel",
    "ix": "pixel",
    "radius": "pixel",
    "kT": "keV",
    "kT_lo": "keV",
    "kT_hi": "keV",
    "norm": "1e-14 cm^-5",
    "norm_lo": "1e-14 cm^-5",
    "norm_hi": "1e-14 cm^-5",
    "abundance": "solar",
    "abundance_lo": "solar",
    "abundance_hi": "solar",
    "nH": "1e22 cm^-2",
    "nH_lo": "1e22 cm^-2",
    "nH_hi": "1e22 cm^-2",
    "kT_bkg_lo": "keV",
    "kT_bkg_hi": "keV",
    "norm_bkg_lo": "1e-14 cm^-5",
    "norm_bkg_hi": "1e-14 cm^-5",
    "disagreement": "sigma",
    "net_counts": "count",
    "background_counts": "count",
    "exposure_s": "s",
    "seconds": "s",
}


@dataclasses.dataclass(frozen=True)
class FitsTable:
    """Content of the HDF5 file of a checkpoint.

    Attributes
    ----------
    provenance : Provenance
    rows : ndarray of RESULT_DTYPE, shape (n,)
        Ascending by region.
    written : str
        ISO time of the last compaction.
    """

    provenance: Provenance
    rows: np.ndarray
    written: str


def write_fits_table(path: Path, provenance: Provenance, rows: np.ndarray) -> int:
    """Write the file whole or not at all; returns its size [byte].

    Raises
    ------
    OutputError
        It cannot be written; the file before stays.
    """
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["software"] = "cpxt_hpc"
        file.attrs["software_version"] = cpxt_hpc.__version__
        file.attrs["written"] = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        file.attrs["settings_digest"] = provenance.settings_digest
        file.attrs["binning_digest"] = provenance.binning_digest
        settings = file.create_group("settings")
        for key, value in provenance.settings.items():
            settings.attrs[key] = value
        results = file.create_dataset("results", data=rows)
        results.attrs["units"] = json.dumps(UNITS)
        results.attrs["status_codes"] = json.dumps({status.name: status.value for status in Status})
        results.attrs["flag_bits"] = json.dumps({flag.name: flag.value for flag in Flag if flag})
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        stream.write(image.getbuffer())
    _sync_folder(path.parent)
    return image.getbuffer().nbytes


def read_fits_table(path: Path) -> FitsTable | None:
    """Read the file, also while a job replaces it; None where there is none.

    Raises
    ------
    DataError
        It is damaged, of a later schema version, or no checkpoint.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            version = _check_format(file, path)
            provenance = _provenance(file, version)
            rows = migrated_rows(file["results"][:], provenance.settings)
            return FitsTable(provenance, rows, str(file.attrs["written"]))
    except FileNotFoundError:
        return None
    except (OSError, KeyError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read as a checkpoint ({error}). Move it away, or use --restart.") from error


def find_row(path: Path, region: int) -> tuple[Provenance, np.ndarray | None] | None:
    """Look up one region without reading the whole table.

    Returns
    -------
    tuple of Provenance and (0-dimensional row or None), or None
        None where there is no file; the row is None where the region is not in it.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            version = _check_format(file, path)
            provenance = _provenance(file, version)
            results = file["results"]
            low, high = 0, len(results)
            while low < high:
                middle = (low + high) // 2
                if results[middle]["region"] < region:
                    low = middle + 1
                else:
                    high = middle
            rows = migrated_rows(results[low : low + 1], provenance.settings)
            return provenance, rows.reshape(()) if len(rows) and rows["region"][0] == region else None
    except FileNotFoundError:
        return None
    except (OSError, KeyError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read as a checkpoint ({error}). Move it away, or use --restart.") from error


def _check_format(file: h5py.File, path: Path) -> int:
    """The schema version of a file."""
    if file.attrs.get("format") != FORMAT:
        raise DataError(f"{path}: is not a checkpoint of cpxt-fit. Move it away and run again.")
    version = int(file.attrs["schema_version"])
    if file["results"].dtype != row_dtype(version, path, "checkpoint"):
        raise DataError(f"{path}: /results has other columns than those of schema version {version}. Use --restart.")
    return version


def _provenance(file: h5py.File, version: int) -> Provenance:
    settings = {key: plain_value(value) for key, value in file["settings"].attrs.items()}
    return migrated_provenance(Provenance(settings, str(file.attrs["binning_digest"])), version)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
