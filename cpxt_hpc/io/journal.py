"""The journal of a checkpoint: fits appended one record each, every record with its own CRC.

A file is a header and records of fixed size. The header is magic, format version, length and CRC of a JSON text that
holds the dtype of a row, the settings with their digest, and the binning digest. A record is a row of `RESULT_DTYPE`
and the CRC-32 of its bytes, started from the header's CRC so that records of another journal never pass.
Whatever kills the writer, all records before the first bad one count; the torn tail behind them is cut.

The format version is the rows' schema version. Journals of earlier ones are read (`cpxt_hpc.io.migration`), and
rewritten before they are continued.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import DataError, OutputError
from cpxt_hpc.fitting.results import RESULT_DTYPE
from cpxt_hpc.io.atomic import replacing
from cpxt_hpc.io.migration import SCHEMA_VERSION, migrated_provenance, migrated_rows, row_dtype
from cpxt_hpc.io.provenance import Provenance

MAGIC = b"CPXTJRNL"
_PREFIX = struct.Struct("<8sIII")
RECORD_DTYPE = np.dtype([("row", RESULT_DTYPE), ("crc", "<u4")])


@dataclasses.dataclass(frozen=True)
class JournalContent:
    """What a journal holds.

    Attributes
    ----------
    provenance : Provenance or None
        None where the file ends inside its header.
    rows : ndarray of RESULT_DTYPE, shape (n,)
        In the order in which they were written.
    valid_bytes, total_bytes : int
        Length up to the last good record, and of the file.
    version : int
        Schema version of the file's records; `provenance` and `rows` are this software's.
    """

    provenance: Provenance | None
    rows: np.ndarray
    valid_bytes: int
    total_bytes: int
    version: int = SCHEMA_VERSION


def encode_header(provenance: Provenance) -> bytes:
    """The first bytes of a journal."""
    text = json.dumps(
        {
            "dtype": RESULT_DTYPE.descr,
            "settings": provenance.settings,
            "settings_digest": provenance.settings_digest,
            "binning_digest": provenance.binning_digest,
        },
        sort_keys=True,
    ).encode()
    return _PREFIX.pack(MAGIC, SCHEMA_VERSION, len(text), zlib.crc32(text)) + text


def encode_rows(rows: np.ndarray, header_crc: int) -> bytes:
    """Records of rows (RESULT_DTYPE), ready to be appended."""
    records = np.empty(len(rows), dtype=RECORD_DTYPE)
    records["row"] = rows
    records["crc"] = [zlib.crc32(row.tobytes(), header_crc) for row in records["row"]]
    return records.tobytes()


def parse_journal(data: bytes, path: Path) -> JournalContent:
    """Rows of a journal's bytes, up to the first bad record.

    Raises
    ------
    DataError
        It is no journal, or of a later version.
    """
    empty = JournalContent(None, np.zeros(0, dtype=RESULT_DTYPE), 0, len(data))
    if len(data) < _PREFIX.size:
        if MAGIC.startswith(data[: len(MAGIC)]) or data.startswith(MAGIC) or not any(data):
            return empty
        raise DataError(f"{path}: is not a journal of fits. Move it away and run again.")
    magic, version, length, crc = _PREFIX.unpack_from(data)
    if not any(data):
        return empty
    if magic != MAGIC:
        raise DataError(f"{path}: is not a journal of fits. Move it away and run again.")
    dtype = row_dtype(version, path, "journal")
    start = _PREFIX.size + length
    text = data[_PREFIX.size : start]
    if len(text) < length:
        return empty
    if zlib.crc32(text) != crc:
        raise DataError(f"{path}: the journal's header is damaged. Move the file away; its fits will be done again.")
    header = json.loads(text)
    if [tuple(field) for field in header["dtype"]] != dtype.descr:
        raise DataError(f"{path}: its rows have other columns than those of schema version {version}. Use --restart.")
    record = np.dtype([("row", dtype), ("crc", "<u4")])
    records = np.frombuffer(data, dtype=record, offset=start, count=(len(data) - start) // record.itemsize)
    rows = records["row"]
    good = len(rows)
    for i, expected in enumerate(records["crc"].tolist()):
        if zlib.crc32(rows[i].tobytes(), crc) != expected:
            good = i
            break
    provenance = migrated_provenance(Provenance(header["settings"], header["binning_digest"]), version)
    rows = migrated_rows(rows[:good].copy(), provenance.settings)
    return JournalContent(provenance, rows, start + good * record.itemsize, len(data), version)


def read_journal(path: Path) -> JournalContent | None:
    """Read a journal, while another process may append to it; None where there is no such file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    return parse_journal(data, path)


def rewrite_earlier(path: Path) -> None:
    """Write a journal of an earlier version anew as this one's, whole or not at all; only for who alone writes it.

    Raises
    ------
    DataError, OutputError
        It cannot be read, or not be written.
    """
    content = read_journal(path)
    if content is None or content.version == SCHEMA_VERSION or not len(content.rows):
        return
    header = encode_header(content.provenance)
    with replacing(path) as temporary:
        temporary.write_bytes(header + encode_rows(content.rows, _PREFIX.unpack_from(header)[3]))


class Journal:
    """A journal opened for appending.

    Parameters
    ----------
    path : Path
        Made where it does not exist.
    provenance : Provenance
        What the rows are made with; that of an existing file must be the same.
    descriptor : int, optional
        The file, already opened for reading and writing; closed with the journal.

    Attributes
    ----------
    replayed : ndarray of RESULT_DTYPE
        Rows that the file held when it was opened.
    size : int
        Bytes in the file.

    Raises
    ------
    CheckpointMismatch
        The file holds rows of other settings or of another binning.
    DataError
        The file is no journal, or holds rows of another version.
    OutputError
        The file cannot be opened or written.
    """

    def __init__(self, path: Path, provenance: Provenance, descriptor: int | None = None) -> None:
        self.path = path
        self._header = encode_header(provenance)
        self._crc = _PREFIX.unpack_from(self._header)[3]
        if descriptor is None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise _not_written(path, error) from error
        self._descriptor = descriptor
        try:
            content = parse_journal(_read_all(descriptor), path)
            if len(content.rows):
                content.provenance.check_same(provenance, path)
                if content.version != SCHEMA_VERSION:
                    raise DataError(f"{path}: journal of schema version {content.version}, which only can be read.")
            self.replayed = content.rows
            self._dirty = False
            if len(content.rows):
                self.size = content.valid_bytes
                os.ftruncate(descriptor, self.size)
            else:
                self.size = 0
                self.clear()
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError):
                raise _not_written(path, error) from error
            raise

    def append(self, rows: np.ndarray) -> None:
        """Add rows; they survive the death of this process as soon as this returns.

        Raises
        ------
        OutputError
            Disk or quota are full; what was written before stays valid.
        """
        self._write(encode_rows(rows, self._crc))

    def sync(self) -> None:
        """Bring everything appended to the disk."""
        if not self._dirty:
            return
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise _not_written(self.path, error) from error
        self._dirty = False

    def clear(self) -> None:
        """Forget all rows: they are safe elsewhere, or there were none."""
        try:
            os.ftruncate(self._descriptor, 0)
        except OSError as error:
            raise _not_written(self.path, error) from error
        self.size = 0
        self._write(self._header)
        self.sync()

    def close(self) -> None:
        """Sync and close; the second time nothing happens."""
        if self._descriptor < 0:
            return
        try:
            self.sync()
        finally:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], self.size + written)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
            raise _not_written(self.path, error) from error
        self.size += len(data)
        self._dirty = True


def _read_all(descriptor: int) -> bytes:
    parts = []
    offset = 0
    while part := os.pread(descriptor, 1 << 24, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def _not_written(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: cannot be written ({error.strerror or error}). Every fit written before is kept. "
        "Make room or get write permission, then run the same command again: it continues."
    )
