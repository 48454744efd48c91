"""Copies of event files for other programs: all columns and keywords kept, rows and good times as cleaned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from cpxt_hpc.errors import DataError
from cpxt_hpc.io.atomic import replacing
from cpxt_hpc.io.fits_files import open_fits
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.good_times import within


def write_cleaned_copy(path: Path, source: Path, cleaned: EventList) -> int:
    """Copy an event file without the times and CCDs that the cleaning dropped.

    The blocks keep their names and headers, so that the data subspace (time TABLE :GTI7) still refers to the right
    good times; ONTIME, LIVETIME and EXPOSURE, of each CCD too, are those of the cleaned events. Point sources stay.

    Parameters
    ----------
    path : Path
    source : Path
        Level-2 events, plain or gzip'ed.
    cleaned : EventList
        Gives the CCDs in use and their good times.

    Returns
    -------
    int
        Number of events.

    Raises
    ------
    MissingInput, DataError
        The source cannot be read, or no event is left.
    OutputError
        The file cannot be written.
    """
    with open_fits(source, "event file") as hdus:
        blocks: list[fits.PrimaryHDU | fits.BinTableHDU | fits.ImageHDU] = [fits.PrimaryHDU(header=hdus[0].header)]
        n_events = 0
        for block in hdus[1:]:
            ccd = _ccd_of_good_times(block)
            if block.name.upper() == "EVENTS":
                rows = block.data[_kept(block, cleaned)]
                n_events = len(rows)
                blocks.append(fits.BinTableHDU(rows, header=_with_exposures(block.header, cleaned)))
            elif ccd is None:
                blocks.append(block.copy())
            elif ccd in cleaned.good_times:
                blocks.append(_with_times(block, cleaned.good_times[ccd]))
        if n_events == 0:
            raise DataError(f"{source}: none of its events lies in the good times that the cleaning left.")
        with replacing(path) as temporary:
            fits.HDUList(blocks).writeto(temporary, overwrite=True)
    return n_events


def _ccd_of_good_times(block: fits.BinTableHDU | fits.ImageHDU) -> int | None:
    """CCD of a GTI block; -1 for one that names none, None for any other block."""
    name = block.name.upper()
    if not isinstance(block, fits.BinTableHDU) or not name.startswith("GTI"):
        return None
    text = str(block.header.get("CCD_ID", str(block.header.get("HDUNAME", name))[3:])).strip()
    return int(text) if text.isdigit() else -1


def _kept(block: fits.BinTableHDU, cleaned: EventList) -> np.ndarray:
    names = {name.lower(): name for name in block.columns.names}
    ccd_id, time = (np.asarray(block.data[names[name]]) for name in ("ccd_id", "time"))
    kept = np.zeros(len(time), dtype=bool)
    for ccd, intervals in cleaned.good_times.items():
        kept |= (ccd_id == ccd) & within(time.astype(float), intervals)
    return kept


def _with_exposures(header: fits.Header, cleaned: EventList) -> fits.Header:
    header = header.copy()
    aimpoint = next(iter(cleaned.exposure_s))
    for ccd, suffix in [(aimpoint, ""), *((ccd, str(ccd)) for ccd in cleaned.exposure_s)]:
        exposure, ontime = cleaned.exposure_s[ccd], float(np.diff(cleaned.good_times[ccd]).sum())
        header[f"ONTIME{suffix}"] = ontime
        header[f"LIVTIME{suffix}" if suffix else "LIVETIME"] = exposure
        header[f"EXPOSUR{suffix}" if suffix else "EXPOSURE"] = exposure
    return header


def _with_times(block: fits.BinTableHDU, intervals: np.ndarray) -> fits.BinTableHDU:
    names = {name.lower(): name for name in block.columns.names}
    columns = [
        fits.Column(name=names[edge], format="D", unit="s", array=intervals[:, number])
        for number, edge in enumerate(("start", "stop"))
    ]
    return fits.BinTableHDU.from_columns(columns, header=block.header)
