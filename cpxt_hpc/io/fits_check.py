"""Is a FITS file whole? Its gzip stream, its size, and the checksums in its headers tell."""

from __future__ import annotations

import errno
import gzip
import tempfile
import threading
import warnings
import zlib
from pathlib import Path
from typing import BinaryIO

from astropy.io import fits
from astropy.io.fits.verify import VerifyError, VerifyWarning
from astropy.utils.exceptions import AstropyUserWarning

from cpxt_hpc.errors import DataError, OutputError

_BLOCK_BYTES = 2880
_WARNINGS = threading.Lock()
"""Filters of warnings are the process's, and files are checked from several threads."""


def check_fits(path: Path, *, max_bytes: int) -> int:
    """Read a FITS file, gzip'ed or not, to its end and verify the checksums that it carries.

    Parameters
    ----------
    path : Path
    max_bytes : int
        Most that a gzip'ed file may unpack to. It is unpacked beside itself, for as long as the check lasts.

    Returns
    -------
    int
        Number of HDUs with a checksum.

    Raises
    ------
    DataError
        It is no FITS file, incomplete, altered, or unpacks to more.
    OutputError
        There is no room to unpack it.
    """
    try:
        with open(path, "rb") as stream:
            packed = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            if not packed:
                return _verified(path)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp") as unpacked:
                with gzip.GzipFile(fileobj=stream) as content:
                    _copy_at_most(content, unpacked, max_bytes)
                unpacked.flush()
                return _verified(Path(unpacked.name))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise OutputError(
                f"{path.parent}: {path.name} cannot be unpacked there ({error.strerror}). Make room, then run again."
            ) from error
        raise DataError(f"{path.name}: not a whole FITS file ({str(error).rstrip('.')}).") from error
    except (EOFError, zlib.error, AstropyUserWarning, VerifyError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path.name}: not a whole FITS file ({str(error).rstrip('.') or 'cut short'}).") from error


def _copy_at_most(content: BinaryIO, target: BinaryIO, max_bytes: int) -> None:
    while block := content.read(1 << 20):
        if target.tell() + len(block) > max_bytes:
            raise ValueError(f"unpacks to more than {max_bytes / 1e6:g} MB")
        target.write(block)


def _verified(path: Path) -> int:
    size = path.stat().st_size
    if size == 0 or size % _BLOCK_BYTES:
        raise ValueError(f"{size} bytes, expected a multiple of {_BLOCK_BYTES}")
    # A stream of our own: astropy leaves its one open where such a warning ends the reading.
    with open(path, "rb") as stream, _WARNINGS, warnings.catch_warnings():
        # Astropy only warns of wrong checksums and truncated files.
        warnings.filterwarnings("error", category=AstropyUserWarning)
        warnings.filterwarnings("ignore", category=VerifyWarning)
        with fits.open(stream, memmap=True, lazy_load_hdus=False, checksum=True) as hdus:
            return sum("CHECKSUM" in block.header or "DATASUM" in block.header for block in hdus)
