"""Spectra and responses in OGIP format: ARF, RMF and PHA files, gzip'ed or not."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.sparse import csr_array

from cpxt_hpc.errors import DataError
from cpxt_hpc.io.fits_files import native, open_fits
from cpxt_hpc.science.response import EffectiveArea, Redistribution, same_energy_grid

logger = logging.getLogger(__name__)

LOWEST_ENERGY_KEV = 1e-10
"""Stands for a lower edge of 0 keV, where models may not be finite (the value that Sherpa takes)."""

MATRIX_NAMES = ("MATRIX", "SPECRESP MATRIX")

WHOLE_NUMBER_TOLERANCE = 1e-3
"""How far a rate in single precision times the exposure may lie from a number of counts."""


@dataclasses.dataclass(frozen=True)
class PhaSpectrum:
    """A spectrum of counts, as a PHA type I file holds it.

    Attributes
    ----------
    channel : ndarray of int64, shape (n,)
        Consecutive numbers.
    counts : ndarray of float64, shape (n,)
        Observed counts, or expected ones where the file holds no whole numbers.
    quality : ndarray of int64, shape (n,)
        0 where a channel is good.
    exposure_s : float
    backscal : float or ndarray of shape (n,)
    areascal : float or ndarray of shape (n,)
    background_file, response_file, area_file : str
        BACKFILE, RESPFILE and ANCRFILE as the header names them; empty where none.
    """

    channel: np.ndarray
    counts: np.ndarray
    quality: np.ndarray
    exposure_s: float
    backscal: float | np.ndarray
    areascal: float | np.ndarray
    background_file: str
    response_file: str
    area_file: str

    @property
    def holds_whole_numbers(self) -> bool:
        """Whether the counts can be observed ones."""
        return bool(np.array_equal(self.counts, np.rint(self.counts)))


def read_arf(path: Path) -> EffectiveArea:
    """Read an effective area.

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        It has no SPECRESP extension or columns, energies out of order, or areas that are negative or no number.
    """
    path = Path(path)
    with open_fits(path, "ARF") as hdus:
        table = _extension(hdus, ("SPECRESP",), path)
        edges = _energy_edges(table, path)
        area = _column(table, "SPECRESP", path)
    if not (np.all(np.isfinite(area)) and np.all(area >= 0) and np.any(area > 0)):
        raise DataError(
            f"{path}: SPECRESP runs from {area.min():g} to {area.max():g} cm^2; expected finite areas, none negative "
            "and not all zero. Extract the ARF again."
        )
    return EffectiveArea(edges, area)


def read_rmf(path: Path) -> Redistribution:
    """Read a redistribution matrix.

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        It lacks the matrix or EBOUNDS, its channels do not fit together, or it holds values that are negative or
        no number.
    """
    path = Path(path)
    with open_fits(path, "RMF") as hdus:
        table = _extension(hdus, MATRIX_NAMES, path)
        bounds = _extension(hdus, ("EBOUNDS",), path)
        channel = _channel_numbers(bounds, path)
        low, high = _column(bounds, "E_MIN", path), _column(bounds, "E_MAX", path)
        if not (np.all(np.isfinite(low)) and np.all(np.isfinite(high)) and np.all(low < high)):
            raise DataError(f"{path}: EBOUNDS has channels with E_MIN not below E_MAX.")
        edges = _energy_edges(table, path)
        matrix = _matrix(table, int(channel[0]), len(channel), path)
    return Redistribution(edges, matrix, channel, low, high)


def read_responses(arf_path: Path, rmf_path: Path) -> tuple[EffectiveArea, Redistribution]:
    """Read an ARF and an RMF that belong together.

    Raises
    ------
    MissingInput, DataError
        As `read_arf` and `read_rmf`, and where their energy bins differ.
    """
    area, redistribution = read_arf(arf_path), read_rmf(rmf_path)
    if not same_energy_grid(redistribution.energy_edges_kev, area.energy_edges_kev):
        raise DataError(
            f"{arf_path} has {len(area.area_cm2)} energy bins from {area.energy_edges_kev[0]:g} to "
            f"{area.energy_edges_kev[-1]:g} keV, {rmf_path} has {redistribution.matrix.shape[0]} from "
            f"{redistribution.energy_edges_kev[0]:g} to {redistribution.energy_edges_kev[-1]:g} keV: they do not "
            "belong together. Extract both with the same energy grid."
        )
    return area, redistribution


def read_pha(path: Path) -> PhaSpectrum:
    """Read a PHA type I spectrum.

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        It has no SPECTRUM extension, neither COUNTS nor RATE, no EXPOSURE, or counts that are negative or no number.
    """
    path = Path(path)
    with open_fits(path, "spectrum") as hdus:
        table = _extension(hdus, ("SPECTRUM",), path)
        header = table.header
        exposure = header.get("EXPOSURE")
        if not (isinstance(exposure, (int, float)) and np.isfinite(exposure) and exposure > 0):
            raise DataError(f"{path}: EXPOSURE is {exposure!r}, expected a positive number of seconds.")
        channel = _column(table, "CHANNEL", path)
        if "COUNTS" in _names(table):
            counts = _column(table, "COUNTS", path)
        else:
            counts = _whole_numbers(_column(table, "RATE", path) * exposure)
        if counts.ndim != 1 or "SPEC_NUM" in _names(table):
            raise DataError(f"{path}: holds several spectra (PHA type II); extract one of them first.")
        if not (len(channel) and np.all(np.diff(channel) == 1) and channel[0] == int(channel[0])):
            raise DataError(f"{path}: its channels are not consecutive whole numbers. Extract the spectrum again.")
        if not (np.all(np.isfinite(counts)) and np.all(counts >= 0)):
            raise DataError(f"{path}: has counts that are negative or no number.")
        quality = _quality(table, len(counts), path)
        scales = [_scale(table, name, path) for name in ("BACKSCAL", "AREASCAL")]
        files = [_file_name(header.get(key)) for key in ("BACKFILE", "RESPFILE", "ANCRFILE")]
    return PhaSpectrum(channel.astype(np.int64), counts, quality, float(exposure), *scales, *files)


def _extension(hdus: fits.HDUList, names: tuple[str, ...], path: Path) -> fits.BinTableHDU:
    for block in hdus:
        if isinstance(block, fits.BinTableHDU) and block.name in names:
            return block
    found = ", ".join(block.name or "(no name)" for block in hdus[1:]) or "none"
    raise DataError(f"{path}: has no table extension {' or '.join(names)}; it has: {found}.")


def _names(table: fits.BinTableHDU) -> list[str]:
    return [name.upper() for name in table.columns.names]


def _raw_column(table: fits.BinTableHDU, name: str, path: Path) -> np.ndarray:
    if name not in _names(table):
        raise DataError(f"{path}: extension {table.name} has no column {name}.")
    return table.data[name]


def _column(table: fits.BinTableHDU, name: str, path: Path) -> np.ndarray:
    return native(_raw_column(table, name, path)).astype(np.float64)


def _channel_numbers(bounds: fits.BinTableHDU, path: Path) -> np.ndarray:
    """Channel numbers of EBOUNDS, consecutive.

    Real files exist whose column was damaged by a change of its type (that of ObsID 9774 in Sherpa's test data):
    there the column's legal range, TLMIN and TLMAX, tells the numbers.
    """
    channel = _column(bounds, "CHANNEL", path)
    if len(channel) and np.all(np.diff(channel) == 1) and channel[0] == int(channel[0]):
        return channel.astype(np.int64)
    position = _names(bounds).index("CHANNEL") + 1
    first, last = (bounds.header.get(f"{key}{position}") for key in ("TLMIN", "TLMAX"))
    if first is None or last is None or len(channel) == 0 or int(last) - int(first) + 1 != len(channel):
        raise DataError(f"{path}: the channels of EBOUNDS are not consecutive whole numbers. Extract the RMF again.")
    logger.warning(
        "%s: the CHANNEL column of EBOUNDS is damaged; channels are numbered from %d to %d as its TLMIN and TLMAX say.",
        path,
        int(first),
        int(last),
    )
    return np.arange(int(first), int(last) + 1, dtype=np.int64)


def _energy_edges(table: fits.BinTableHDU, path: Path) -> np.ndarray:
    low, high = _column(table, "ENERG_LO", path), _column(table, "ENERG_HI", path)
    if len(low) == 0 or not (np.all(np.isfinite(low)) and np.all(np.isfinite(high)) and np.all(low < high)):
        raise DataError(f"{path}: {table.name} has energy bins with ENERG_LO not below ENERG_HI.")
    width = (high - low).min()
    if low[0] < 0 or np.any(np.abs(low[1:] - high[:-1]) > 0.01 * width):
        raise DataError(f"{path}: the energy bins of {table.name} have gaps, overlap or begin below 0 keV.")
    edges = np.append(low, high[-1])
    edges[0] = max(edges[0], LOWEST_ENERGY_KEV)
    return edges


def _matrix(table: fits.BinTableHDU, first_channel: int, n_channels: int, path: Path) -> csr_array:
    """Sparse matrix from the groups of adjacent channels that each row lists."""
    n_groups = _column(table, "N_GRP", path).astype(np.int64)
    starts, lengths = _raw_column(table, "F_CHAN", path), _raw_column(table, "N_CHAN", path)
    rows = _raw_column(table, "MATRIX", path)
    offset = table.header.get(f"TLMIN{_names(table).index('F_CHAN') + 1}", 1)
    if offset != first_channel:
        raise DataError(
            f"{path}: F_CHAN counts channels from {offset} (TLMIN), EBOUNDS from {first_channel}; expected the same."
        )
    columns, values, row_start = [], [], [0]
    for row, groups in enumerate(n_groups):
        first = np.atleast_1d(starts[row])[:groups].astype(np.int64) - offset
        length = np.atleast_1d(lengths[row])[:groups].astype(np.int64)
        content = np.atleast_1d(rows[row]).astype(np.float64)
        if len(first) < groups or len(length) < groups or length.sum() > len(content):
            raise DataError(f"{path}: row {row + 1} of {table.name} lists more channels than it has values.")
        used = length > 0
        if np.any(first[used] < 0) or np.any((first + length)[used] > n_channels):
            raise DataError(
                f"{path}: row {row + 1} of {table.name} reaches beyond the {n_channels} channels of EBOUNDS."
            )
        columns += [np.arange(a, a + n) for a, n in zip(first, length, strict=True)]
        values.append(content[: length.sum()])
        row_start.append(row_start[-1] + int(length.sum()))
    data = np.concatenate(values)
    if not (np.all(np.isfinite(data)) and np.all(data >= 0) and np.any(data > 0)):
        raise DataError(f"{path}: {table.name} has values that are negative or no number, or none at all.")
    indices = np.concatenate(columns) if columns else np.empty(0, np.int64)
    matrix = csr_array((data, indices, np.array(row_start)), shape=(len(n_groups), n_channels))
    matrix.sum_duplicates()
    return matrix


def _whole_numbers(counts: np.ndarray) -> np.ndarray:
    """Counts from rates: rounded, if that is all that keeps them from being whole numbers."""
    rounded = np.rint(counts)
    near = np.all(np.abs(counts - rounded) <= WHOLE_NUMBER_TOLERANCE * np.maximum(1.0, 1e-3 * np.abs(counts)))
    return rounded if near else counts


def _quality(table: fits.BinTableHDU, n_channels: int, path: Path) -> np.ndarray:
    """QUALITY: a column where the file has one, else the keyword, else good."""
    if "QUALITY" in _names(table):
        return _column(table, "QUALITY", path).astype(np.int64)
    return np.full(n_channels, int(table.header.get("QUALITY", 0)), dtype=np.int64)


def _scale(table: fits.BinTableHDU, name: str, path: Path) -> float | np.ndarray:
    """BACKSCAL or AREASCAL: a column where the file has one, else the keyword, else 1."""
    values = _column(table, name, path) if name in _names(table) else float(table.header.get(name, 1.0))
    if not (np.all(np.isfinite(values)) and np.all(np.asarray(values) >= 0)):
        raise DataError(f"{path}: {name} has values that are negative or no number.")
    return values


def _file_name(value: object) -> str:
    text = str(value or "").strip()
    return "" if text.lower() == "none" else text
