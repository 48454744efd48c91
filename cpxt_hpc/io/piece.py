"""A piece of the work beside others: fits go to the spool, so that any number of pieces run at once."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import CheckpointHeld, CpxtError, MissingInput
from cpxt_hpc.fitting.results import RESULT_DTYPE
from cpxt_hpc.io.checkpoint import SYNC_EVERY_S, Checkpoint, CheckpointFiles, read_checkpoint
from cpxt_hpc.io.fits_table import find_row
from cpxt_hpc.io.provenance import Provenance
from cpxt_hpc.io.result_rows import merged_rows, rows_of_new_regions
from cpxt_hpc.io.spool import open_spool


class Piece:
    """The part of a checkpoint that one of many processes writes; use as context manager.

    It takes a slot of the spool, never the main lock. At the end, where nobody holds the main lock, the spool is folded
    into the HDF5 file; else its holder's successor will do it.

    Parameters
    ----------
    path : Path
        The HDF5 file of the checkpoint.
    provenance : Provenance

    Raises
    ------
    CheckpointMismatch
        The checkpoint was made with other settings or another binning.
    DataError, OutputError
        It cannot be read, or the spool cannot be written.
    """

    def __init__(self, path: Path, provenance: Provenance) -> None:
        self._path = Path(path)
        self._provenance = provenance
        self._rows = np.zeros(0, dtype=RESULT_DTYPE)
        with contextlib.suppress(MissingInput):
            content = read_checkpoint(self._path)
            content.provenance.check_same(provenance, self._path)
            self._rows = content.results
        self._known = set(self._rows["region"].tolist())
        self._journal = open_spool(CheckpointFiles(self._path).spool, provenance)
        self._synced = time.monotonic()

    def append(self, rows: np.ndarray) -> np.ndarray:
        """Add fits; returns those whose region was not there before.

        Raises
        ------
        OutputError
            Disk or quota are full; everything written before stays valid.
        """
        rows = rows_of_new_regions(rows, self._known)
        self._journal.append(rows)
        self._known.update(rows["region"].tolist())
        self._rows = merged_rows(self._rows, rows)
        return rows

    def tell(self, about: dict) -> None:
        """Nothing is told of a piece: only the main lock has an owner file."""

    def tick(self) -> None:
        """Bring what was appended to the disk every few seconds."""
        if time.monotonic() - self._synced > SYNC_EVERY_S:
            self._journal.sync()
            self._synced = time.monotonic()

    def all_results(self) -> np.ndarray:
        """Fits that were there at the start, and those of this piece, ascending by region."""
        return self._rows

    def __enter__(self) -> Piece:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, CpxtError):
            with contextlib.suppress(CpxtError):
                self._journal.close()
            return
        self._journal.close()
        with contextlib.suppress(CheckpointHeld), Checkpoint(self._path, self._provenance):
            pass


def keep_single(path: Path, provenance: Provenance, row: np.ndarray) -> None:
    """Leave the fit of one region in the spool of a checkpoint.

    Raises
    ------
    CheckpointMismatch, OutputError
        As `Piece`.
    """
    journal = open_spool(CheckpointFiles(Path(path)).spool, provenance)
    try:
        journal.append(row.reshape(1))
    finally:
        journal.close()


def find_single(path: Path, provenance: Provenance, region: int) -> np.ndarray | None:
    """The fit of one region in the HDF5 file, found without reading all of it; None where there is none yet.

    Raises
    ------
    CheckpointMismatch
        The file was made with other settings or another binning.
    """
    found = find_row(Path(path), region)
    if found is None:
        return None
    found[0].check_same(provenance, Path(path))
    return found[1]
