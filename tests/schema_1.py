"""Checkpoints as the first version wrote them: HDF5 files, journals and spools of schema 1, byte by byte."""

from __future__ import annotations

import json
import struct
import zlib

import h5py
import numpy as np

from cpxt_hpc.io.migration import SCHEMA_1_DTYPE

SETTINGS = {
    "name": "A.1", "redshift": 0.2, "abundance": 0.3, "nH_1e22": 0.05, "model": "apec", "statistic": "cstat",
    "min_exposure_fraction": 0.09, "snr": "background",
}  # fmt: skip
BINNING_DIGEST = "abc"


def rows(numbers, seed=1):
    """Fits of the first version."""
    rng = np.random.default_rng(seed)
    made = np.zeros(len(numbers), dtype=SCHEMA_1_DTYPE)
    for name in ("kT", "kT_lo", "kT_hi", "norm", "norm_lo", "norm_hi", "stat", "net_counts", "background_counts"):
        made[name] = rng.normal(5.0, 1.0, len(made))
    made["region"], made["dof"], made["n_obs"], made["seconds"] = numbers, 497, 2, 0.001
    return made


def failed(row):
    """A copy of the fits with NaN for values, as fits without exposure have them."""
    row = row.copy()
    for name in ("kT", "kT_lo", "kT_hi", "norm", "norm_lo", "norm_hi", "stat", "net_counts", "background_counts"):
        row[name] = np.nan
    row["status"] = 16
    return row


def write_journal(path, made, settings=SETTINGS):
    """A journal, or one of a spool."""
    text = json.dumps(
        {
            "dtype": SCHEMA_1_DTYPE.descr,
            "settings": settings,
            "settings_digest": "not compared",
            "binning_digest": BINNING_DIGEST,
        },
        sort_keys=True,
    ).encode()
    crc = zlib.crc32(text)
    data = struct.pack("<8sIII", b"CPXTJRNL", 1, len(text), crc) + text
    for row in made:
        data += row.tobytes() + struct.pack("<I", zlib.crc32(row.tobytes(), crc))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_table(path, made, settings=SETTINGS):
    """An HDF5 file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "cpxt_hpc fits"
        file.attrs["schema_version"] = 1
        file.attrs["software"] = "cpxt_hpc"
        file.attrs["software_version"] = "0.1.0"
        file.attrs["written"] = "2026-11-01T12:00:00+00:00"
        file.attrs["settings_digest"] = "not compared"
        file.attrs["binning_digest"] = BINNING_DIGEST
        group = file.create_group("settings")
        for key, value in settings.items():
            group.attrs[key] = value
        results = file.create_dataset("results", data=made)
        results.attrs["units"] = json.dumps({"kT": "keV"})
        results.attrs["status_codes"] = json.dumps({"OK": 0})
