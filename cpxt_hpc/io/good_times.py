"""Good time intervals in FITS: one GTI block a CCD, the aimpoint's first."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits

from cpxt_hpc import __version__
from cpxt_hpc.errors import DataError
from cpxt_hpc.io.atomic import replacing

logger = logging.getLogger(__name__)

GoodTimes = dict[int, np.ndarray]
"""Start and stop [s], shape (n, 2), by CCD."""


def good_times_block(
    ccd: int, intervals: np.ndarray, number: int, keywords: Mapping[str, object] | None = None
) -> fits.BinTableHDU:
    """Make one GTI block as Chandra's event files have it: EXTNAME GTI, EXTVER its place, CCD_ID the chip."""
    block = fits.BinTableHDU.from_columns([
        fits.Column(name="START", format="D", unit="s", array=intervals[:, 0]),
        fits.Column(name="STOP", format="D", unit="s", array=intervals[:, 1]),
    ], name="GTI", ver=number)
    for key in ("TIMESYS", "MJDREF", "TIMEZERO", "TIMEUNIT", "TSTART", "TSTOP", "OBS_ID"):
        if keywords and key in keywords:
            block.header[key] = keywords[key]
    block.header["CCD_ID"] = ccd
    block.header["HDUNAME"] = f"GTI{ccd}"
    block.header["HDUCLASS"], block.header["HDUCLAS1"], block.header["HDUCLAS2"] = "OGIP", "GTI", "STANDARD"
    return block


def write_good_times(path: Path, good_times: GoodTimes, keywords: Mapping[str, object]) -> None:
    """Write the good times of all CCDs into one file, a GTI block each.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    primary = fits.PrimaryHDU()
    primary.header["CREATOR"], primary.header["CPXTVER"] = "cpxt_hpc", __version__
    blocks = [
        good_times_block(ccd, intervals, number, keywords)
        for number, (ccd, intervals) in enumerate(good_times.items(), start=1)
    ]
    with replacing(path) as temporary:
        fits.HDUList([primary, *blocks]).writeto(temporary, overwrite=True)


def read_good_times_blocks(hdus: fits.HDUList) -> dict[int | None, np.ndarray]:
    """Read all GTI blocks of an open file, in its order; None stands for a block that names no CCD.

    Archives name the blocks GTI with a keyword CCD_ID, or GTI7; intervals come back sorted, joined where
    they overlap, without empty ones.
    """
    found: dict[int | None, np.ndarray] = {}
    for block in hdus[1:]:
        name = block.name.upper()
        if not isinstance(block, fits.BinTableHDU) or not re.fullmatch(r"GTI\d*", name):
            continue
        by_name = {column.lower(): column for column in block.columns.names}
        if "start" not in by_name or "stop" not in by_name:
            continue
        digits = [
            re.fullmatch(r"GTI(\d)", str(text).strip().upper()) for text in (block.header.get("HDUNAME"), name)
        ]
        ccd = block.header.get("CCD_ID", next((int(match[1]) for match in digits if match), None))
        times = np.column_stack([block.data[by_name[edge]] for edge in ("start", "stop")]).astype(float)
        found[ccd] = _joined(times[np.isfinite(times).all(axis=1) & (times[:, 1] > times[:, 0])])
    return found


def good_times_by_ccd(intervals: dict[int | None, np.ndarray], ccds: list[int], path: Path) -> GoodTimes:
    """Assign good times to the CCDs in use, the aimpoint's (first block) first.

    A CCD without a block of its own takes the first block's times, with a warning where others have theirs.

    Raises
    ------
    DataError
        There is no good time at all.
    """
    if not any(len(times) for times in intervals.values()):
        raise DataError(f"{path}: has no good time intervals (GTI block). Reprocess the observation.")
    first = next(iter(intervals.values()))
    order = [ccd for ccd in intervals if ccd in ccds] + [ccd for ccd in ccds if ccd not in intervals]
    for ccd in order:
        if ccd not in intervals and None not in intervals:
            logger.warning("%s: CCD %d has no GTI block; the first block's times are taken.", path, ccd)
    return {ccd: intervals.get(ccd, first) for ccd in order}


def _joined(times: np.ndarray) -> np.ndarray:
    joined: list[list[float]] = []
    for start, stop in times[np.argsort(times[:, 0])]:
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], stop)
        else:
            joined.append([start, stop])
    return np.array(joined).reshape(-1, 2)
