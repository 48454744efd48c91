"""Write spectra and responses in OGIP format, for XSPEC and Sherpa.

Memos OGIP/92-007 (spectra) and CAL/GEN/92-002, 92-002a (responses). Numbers are stored in single precision, as the
memos have it, where that loses nothing, and in double precision otherwise: both programs read either, and a file
must give back the statistic to the last digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits

import cpxt_hpc
from cpxt_hpc.io.atomic import replacing
from cpxt_hpc.science.response import EffectiveArea, Redistribution

BAD_CHANNEL = 5
"""QUALITY of channels that no fit may use (OGIP/92-007: set bad by the user)."""

_INSTRUMENT = {"TELESCOP": "CHANDRA", "INSTRUME": "ACIS", "FILTER": "NONE"}


def write_pha(
    path: Path,
    channel: np.ndarray,
    counts: np.ndarray,
    *,
    exposure_s: float,
    backscal: float = 1.0,
    quality: np.ndarray | None = None,
    grouping: np.ndarray | None = None,
    poisson: bool = True,
    role: str = "TOTAL",
    files: Mapping[str, str] | None = None,
    keywords: Mapping[str, str | int | float] | None = None,
    comments: tuple[str, ...] = (),
) -> None:
    """Write a spectrum of counts (PHA type I), whole or not at all.

    Parameters
    ----------
    path : Path
    channel : ndarray of int, shape (n,)
    counts : ndarray, shape (n,)
        Stored as whole numbers where `poisson`.
    exposure_s : float
    backscal : float
        BACKSCAL: area, in units that source and background share.
    quality : ndarray of int, shape (n,), optional
        0 good, `BAD_CHANNEL` not to be used; all good by default.
    grouping : ndarray of int, shape (n,), optional
        1 begins a group, -1 continues it; none by default.
    poisson : bool
        The counts are observed ones; otherwise expected ones without errors of their own.
    role : str
        HDUCLAS2: TOTAL of an observation, BKG of a background.
    files : mapping, optional
        RESPFILE, ANCRFILE, BACKFILE: names of files in the same folder.
    keywords : mapping, optional
        Further keywords of the table.
    comments : tuple of str
        What a reader of the header should know.

    Raises
    ------
    OutputError
        It cannot be written.
    ValueError
        Poisson counts that are negative or no whole numbers.
    """
    counts = np.asarray(counts, dtype=float)
    if poisson and not (np.all(counts >= 0) and np.array_equal(counts, np.rint(counts))):
        raise ValueError("counts must be whole numbers, none negative")
    columns = [
        fits.Column("CHANNEL", "J", array=channel),
        fits.Column("COUNTS", "J" if poisson else "D", array=counts, unit="count"),
    ]
    if not poisson:
        columns.append(fits.Column("STAT_ERR", "D", array=np.zeros(len(counts)), unit="count"))
    for name, values in (("QUALITY", quality), ("GROUPING", grouping)):
        if values is not None:
            columns.append(fits.Column(name, "I", array=values))
    header = {
        **_INSTRUMENT,
        **_classes("SPECTRUM", "1.2.1", role, "COUNT", "TYPE:I"),
        "PHAVERSN": "1992a",
        "CHANTYPE": "PI",
        "DETCHANS": len(channel),
        "TLMIN1": int(channel[0]),
        "TLMAX1": int(channel[-1]),
        "POISSERR": poisson,
        "EXPOSURE": float(exposure_s),
        "AREASCAL": 1.0,
        "BACKSCAL": float(backscal),
        "CORRSCAL": 0.0,
        "SYS_ERR": 0.0,
        **({"QUALITY": 0} if quality is None else {}),
        **({"GROUPING": 0} if grouping is None else {}),
        **dict.fromkeys(("BACKFILE", "CORRFILE", "RESPFILE", "ANCRFILE"), "none"),
        **(files or {}),
        **(keywords or {}),
    }
    _write(path, [_table("SPECTRUM", columns, header, comments)])


def write_arf(
    path: Path,
    area: EffectiveArea,
    *,
    keywords: Mapping[str, str | int | float] | None = None,
    comments: tuple[str, ...] = (),
) -> None:
    """Write an effective area, whole or not at all.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    edges = area.energy_edges_kev
    columns = [
        _real("ENERG_LO", edges[:-1], "keV"),
        _real("ENERG_HI", edges[1:], "keV"),
        _real("SPECRESP", area.area_cm2, "cm**2"),
    ]
    header = {**_INSTRUMENT, **_classes("RESPONSE", "1.1.0", "SPECRESP"), "ARFVERSN": "1992a", **(keywords or {})}
    _write(path, [_table("SPECRESP", columns, header, comments)])


def write_rmf(
    path: Path, redistribution: Redistribution, *, keywords: Mapping[str, str | int | float] | None = None
) -> None:
    """Write a redistribution matrix with its EBOUNDS, whole or not at all.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    edges, channel = redistribution.energy_edges_kev, redistribution.channel
    first_channel, starts, lengths, values = int(channel[0]), [], [], []
    matrix = redistribution.matrix
    for row in range(matrix.shape[0]):
        inside = slice(matrix.indptr[row], matrix.indptr[row + 1])
        order = np.argsort(matrix.indices[inside], kind="stable")
        columns_of_row = matrix.indices[inside][order]
        begins = np.flatnonzero(np.diff(columns_of_row, prepend=-2) != 1)
        starts.append((columns_of_row[begins] + first_channel).astype(np.int32))
        lengths.append(np.diff(np.append(begins, len(columns_of_row))).astype(np.int32))
        values.append(matrix.data[inside][order])
    real = "E" if _is_single(matrix.data) else "D"
    widest_groups, widest_row = max(1, *map(len, starts)), max(1, *map(len, values))
    columns = [
        _real("ENERG_LO", edges[:-1], "keV"),
        _real("ENERG_HI", edges[1:], "keV"),
        fits.Column("N_GRP", "J", array=np.array([len(each) for each in starts])),
        fits.Column("F_CHAN", f"PJ({widest_groups})", array=_ragged(starts)),
        fits.Column("N_CHAN", f"PJ({widest_groups})", array=_ragged(lengths)),
        fits.Column("MATRIX", f"P{real}({widest_row})", array=_ragged(values)),
    ]
    header = {
        **_INSTRUMENT,
        **_classes("RESPONSE", "1.3.0", "RSP_MATRIX", "REDIST"),
        "RMFVERSN": "1992a",
        "CHANTYPE": "PI",
        "DETCHANS": len(channel),
        "NUMGRP": sum(map(len, starts)),
        "NUMELT": int(matrix.nnz),
        "LO_THRES": 0.0,
        "TLMIN4": first_channel,
        "TLMAX4": int(channel[-1]),
        **(keywords or {}),
    }
    bounds = [
        fits.Column("CHANNEL", "J", array=channel),
        _real("E_MIN", redistribution.channel_low_kev, "keV"),
        _real("E_MAX", redistribution.channel_high_kev, "keV"),
    ]
    bounds_header = {
        **_INSTRUMENT,
        **_classes("RESPONSE", "1.2.0", "EBOUNDS"),
        "RMFVERSN": "1992a",
        "CHANTYPE": "PI",
        "DETCHANS": len(channel),
        "TLMIN1": first_channel,
        "TLMAX1": int(channel[-1]),
    }
    _write(path, [_table("MATRIX", columns, header), _table("EBOUNDS", bounds, bounds_header)])


def _classes(kind: str, version: str, *further: str) -> dict[str, str]:
    """The HDU classification keywords."""
    classes = {"HDUCLASS": "OGIP", "HDUCLAS1": kind, "HDUVERS": version}
    return classes | {f"HDUCLAS{number}": name for number, name in enumerate(further, start=2)}


def _is_single(values: np.ndarray) -> bool:
    return np.array_equal(np.asarray(values, dtype=np.float32), values)


def _real(name: str, values: np.ndarray, unit: str) -> fits.Column:
    return fits.Column(name, "E" if _is_single(values) else "D", array=values, unit=unit)


def _ragged(rows: list[np.ndarray]) -> np.ndarray:
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array


def _table(
    name: str,
    columns: list[fits.Column],
    header: Mapping[str, str | int | float],
    comments: tuple[str, ...] = (),
) -> fits.BinTableHDU:
    table = fits.BinTableHDU.from_columns(columns, name=name)
    for keyword, value in header.items():
        table.header[keyword] = value
    table.header["CREATOR"] = f"cpxt_hpc {cpxt_hpc.__version__}"
    for comment in comments:
        table.header["COMMENT"] = comment
    return table


def _write(path: Path, tables: list[fits.BinTableHDU]) -> None:
    with replacing(Path(path)) as temporary:
        fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(temporary, overwrite=True, checksum=True)
