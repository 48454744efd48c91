"""Open FITS files so that a missing, damaged or truncated one is one clear error."""

from __future__ import annotations

import contextlib
import gzip
import io
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyError, VerifyWarning
from astropy.utils.exceptions import AstropyUserWarning

from cpxt_hpc.errors import DataError, MissingInput

_BLOCK_BYTES = 2880


@contextlib.contextmanager
def open_fits(path: Path, what: str) -> Iterator[fits.HDUList]:
    """Open a FITS file, gzip'ed or not, for reading; data must be used (and copied) inside the block.

    Parameters
    ----------
    path : Path
    what : str
        What the file should be, for the messages: ``event file``, ``image``.

    Raises
    ------
    MissingInput
        There is no such file, or it may not be read.
    DataError
        It is no FITS file, damaged or truncated; also where that only shows on reading the data in the block.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            # Astropy only warns of a truncated file and goes on without the missing blocks.
            warnings.filterwarnings("error", category=AstropyUserWarning)
            warnings.filterwarnings("ignore", category=VerifyWarning)
            # A stream of our own: astropy leaves its one open where such a warning ends the reading.
            with (
                open(path, "rb") as stream,
                fits.open(_content(stream), memmap=False, lazy_load_hdus=False) as hdus,
            ):
                yield hdus
    except FileNotFoundError as error:
        raise MissingInput(f"{path}: this {what} does not exist.") from error
    except PermissionError as error:
        raise MissingInput(f"{path}: this {what} may not be read. Get read permission.") from error
    except (OSError, EOFError, zlib.error, AstropyUserWarning, VerifyError, TypeError, ValueError, KeyError) as error:
        raise DataError(
            f"{path}: not a readable FITS {what} ({error}); damaged or truncated? Fetch or make it again."
        ) from error


def _content(stream: BinaryIO) -> BinaryIO:
    """What astropy opens. Astropy takes a file that breaks off in a header, or a gzip stream, for a shorter one."""
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    content = io.BytesIO(gzip.decompress(stream.read())) if packed else stream
    size = content.seek(0, io.SEEK_END)
    content.seek(0)
    if size % _BLOCK_BYTES:
        raise ValueError(f"{size} bytes, expected a multiple of {_BLOCK_BYTES}")
    return content


def native(array: np.ndarray) -> np.ndarray:
    """Copy an array into contiguous memory in the machine's byte order."""
    array = np.asarray(array)
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
