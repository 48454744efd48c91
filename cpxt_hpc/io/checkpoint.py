"""The checkpoint of a fit: one HDF5 file with a journal, a lock and a spool beside it.

    <stem>.h5        all fits of the last compaction; whole at any moment (`cpxt_hpc.io.fits_table`)
    <stem>.journal   fits since then, one record each (`cpxt_hpc.io.journal`)
    <stem>.lock, .owner   held by the one job that writes the two (`cpxt_hpc.io.lock`)
    <stem>.spool/    fits of single-region processes (`cpxt_hpc.io.spool`)

A fit counts once `Checkpoint.append` has returned. Every reader takes the union of the files; the first fit of a
region stays.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import os
import time
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import CpxtError, DataError, MissingInput, OutputError
from cpxt_hpc.fitting.results import FAILURES, RESULT_DTYPE, Status
from cpxt_hpc.io.atomic import remove_leftovers
from cpxt_hpc.io.fits_table import read_fits_table, write_fits_table
from cpxt_hpc.io.journal import Journal, read_journal, rewrite_earlier
from cpxt_hpc.io.lock import MainLock, Owner, current_owner
from cpxt_hpc.io.provenance import Provenance, Value
from cpxt_hpc.io.result_rows import merged_rows, rows_of_new_regions
from cpxt_hpc.io.spool import fold_spool, read_spool

SYNC_EVERY_S = 3.0
COMPACT_EVERY_S = 60.0
COMPACT_ABOVE_BYTES = 64 * 2**20

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class CheckpointFiles:
    """Where the parts of a checkpoint lie."""

    table: Path

    @property
    def journal(self) -> Path:
        """Fits since the last compaction."""
        return self.table.with_suffix(".journal")

    @property
    def lock(self) -> Path:
        """Locked with flock by the job that writes."""
        return self.table.with_suffix(".lock")

    @property
    def owner(self) -> Path:
        """Says which job that is."""
        return self.table.with_suffix(".owner")

    @property
    def spool(self) -> Path:
        """Folder of the journals of single-region processes."""
        return self.table.with_suffix(".spool")


@dataclasses.dataclass(frozen=True)
class CheckpointContent:
    """What a checkpoint holds, all its files together.

    Attributes
    ----------
    provenance : Provenance
    results : ndarray of RESULT_DTYPE, shape (n,)
        Ascending by region, each region once.
    last_written : float
        Time of the last change of any of its files [s since 1970].
    """

    provenance: Provenance
    results: np.ndarray
    last_written: float


def read_checkpoint(path: Path) -> CheckpointContent:
    """Read a checkpoint, also while a job writes it; takes no lock.

    Parameters
    ----------
    path : Path
        The HDF5 file, ``layout.fits``; it need not exist where a journal or spool does.

    Raises
    ------
    MissingInput
        There are no fits yet.
    DataError
        A file is damaged or of a later version.
    """
    files = CheckpointFiles(Path(path))
    # Rows move from spool to journal to HDF5 file: read in this order, none can slip through between two reads.
    journals = read_spool(files.spool)
    journal = read_journal(files.journal)
    if journal is not None and journal.provenance is not None:
        journals.insert(0, (files.journal, journal))
    table = read_fits_table(files.table)
    if table is not None:
        provenance, rows = table.provenance, table.rows
    elif journals:
        provenance, rows = journals[0][1].provenance, np.zeros(0, dtype=RESULT_DTYPE)
    else:
        raise MissingInput(f"{files.table}: there are no fits yet. Run: cpxt-fit cluster.ini")
    for journal_path, content in journals:
        if content.provenance == provenance:
            rows = merged_rows(rows, content.rows, journal_path)
        elif len(content.rows):
            log.warning("%s: fits of other settings or another binning, left out", journal_path)
    times = [p.stat().st_mtime for p in (files.table, *(p for p, _ in journals)) if p.exists()]
    return CheckpointContent(provenance, rows, max(times, default=0.0))


def read_results(path: Path) -> np.ndarray:
    """All fits of a checkpoint: structured array of `RESULT_DTYPE`, ascending by region; see `read_checkpoint`."""
    return read_checkpoint(path).results


def read_settings(path: Path) -> dict[str, Value]:
    """The settings that the fits of a checkpoint were made with; see `read_checkpoint`."""
    return read_checkpoint(path).provenance.settings


def job_at_work(path: Path) -> Owner | None:
    """Who writes a checkpoint now; None where nobody does, or the one who did is dead."""
    return current_owner(CheckpointFiles(Path(path)).owner)


class Checkpoint:
    """A checkpoint opened for writing; use as context manager.

    Opening takes the main lock, reads the HDF5 file, replays the journal and cuts its torn tail, folds the spool in and
    drops doubles by region. Closing compacts and lets go.

    Parameters
    ----------
    path : Path
        The HDF5 file, ``layout.fits``.
    provenance : Provenance
        What the fits are made with now.
    restart : bool
        Keep what is there under a name with the time of day, and start afresh.
    retry_failed : bool
        Forget the fits that crashed, timed out or gave NaN.
    break_lock : bool
        Take the lock from an owner on another machine.

    Attributes
    ----------
    results : ndarray of RESULT_DTYPE
        Fits of the HDF5 file at the last compaction, ascending by region.

    Raises
    ------
    CheckpointHeld
        Another job writes it.
    CheckpointMismatch
        It was made with other settings or another binning.
    DataError, OutputError
        It cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        provenance: Provenance,
        *,
        restart: bool = False,
        retry_failed: bool = False,
        break_lock: bool = False,
    ) -> None:
        self.files = CheckpointFiles(Path(path))
        self.provenance = provenance
        self._lock = MainLock(self.files.lock, self.files.owner, break_lock=break_lock)
        self._journal: Journal | None = None
        try:
            remove_leftovers(self.files.table)
            if restart:
                self._put_aside()
            self._load()
            if retry_failed:
                self._forget(FAILURES)
        except BaseException:
            self._let_go()
            raise

    def append(self, rows: np.ndarray) -> np.ndarray:
        """Add fits; returns those whose region was not there before.

        Raises
        ------
        OutputError
            Disk or quota are full; everything written before stays valid.
        """
        rows = rows_of_new_regions(rows, self._known)
        if len(rows):
            self._journal.append(rows)
            self._known.update(rows["region"].tolist())
            self._since_compaction.append(rows)
        return rows

    def tell(self, about: dict) -> None:
        """Let other processes know of this job: what stands here, `job_at_work` finds."""
        self._lock.tell(about)

    def tick(self) -> None:
        """What must happen every few seconds: heartbeat, sync, compaction. Cheap, to be called often.

        Raises
        ------
        CheckpointHeld
            Another job has broken the lock.
        OutputError
            The files cannot be written.
        """
        now = time.monotonic()
        self._lock.beat()
        if now - self._synced > SYNC_EVERY_S:
            self._journal.sync()
            self._synced = now
        large = self._journal.size > max(COMPACT_ABOVE_BYTES, self._table_bytes)
        if self._since_compaction and (large or now > self._compact_at):
            self.compact()

    def compact(self) -> None:
        """Bring the journal's rows into the HDF5 file, and empty the journal."""
        started = time.monotonic()
        self._lock.check()
        self._journal.sync()
        rows = merged_rows(self.results, self._pending(), self.files.journal)
        self._table_bytes = write_fits_table(self.files.table, self.provenance, rows)
        self.results = rows
        self._since_compaction = []
        self._journal.clear()
        now = time.monotonic()
        # At most a twentieth of the time goes into it, however large the file.
        self._compact_at = now + max(COMPACT_EVERY_S, 20.0 * (now - started))

    def all_results(self) -> np.ndarray:
        """Fits of HDF5 file and journal, ascending by region."""
        return merged_rows(self.results, self._pending(), self.files.journal)

    def close(self) -> None:
        """Compact if there is something to compact, and let go; the second time nothing happens."""
        if self._journal is None:
            return
        try:
            if self._since_compaction:
                self.compact()
        finally:
            self._let_go()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, CpxtError):
            # The disk is full or the lock is gone: a compaction would fail alike and hide the cause.
            self._let_go()
        else:
            self.close()

    def _load(self) -> None:
        table = read_fits_table(self.files.table)
        if table is not None:
            table.provenance.check_same(self.provenance, self.files.table)
            self.results = table.rows
            self._table_bytes = self.files.table.stat().st_size
        else:
            self.results = np.zeros(0, dtype=RESULT_DTYPE)
        rewrite_earlier(self.files.journal)
        self._journal = Journal(self.files.journal, self.provenance)
        if table is None:
            self._table_bytes = write_fits_table(self.files.table, self.provenance, self.results)
        self._known = set(self.results["region"].tolist())
        self._since_compaction = []
        now = time.monotonic()
        self._synced, self._compact_at = now, now + COMPACT_EVERY_S
        replayed = merged_rows(self.results[:0], self._journal.replayed, self.files.journal)
        self._since_compaction = [replayed] if len(replayed) else []
        self._known.update(replayed["region"].tolist())
        fold_spool(self.files.spool, self.provenance, self._append_and_sync)

    def _forget(self, statuses: tuple[Status, ...]) -> None:
        """Drop fits of these statuses; a crash half-way brings them back."""
        rows = self.all_results()
        dropped = np.isin(rows["status"], statuses)
        if dropped.any():
            log.info("%d failed fits are done again", int(dropped.sum()))
            self.results, self._since_compaction = rows[~dropped], []
            self._known = set(self.results["region"].tolist())
            self.compact()

    def _append_and_sync(self, rows: np.ndarray) -> None:
        doubles = rows[np.isin(rows["region"], list(self._known))] if len(rows) else rows
        if len(doubles):
            merged_rows(self.all_results(), doubles, self.files.spool)
        self.append(merged_rows(rows[:0], rows, self.files.spool))
        self._journal.sync()

    def _pending(self) -> np.ndarray:
        return np.concatenate([self.results[:0], *self._since_compaction])

    def _put_aside(self) -> None:
        """Rename all files of the checkpoint; together they remain a readable checkpoint of another name."""
        stem = self.files.table.stem
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        number = 0
        while True:
            suffix = f"{stamp}-{number}" if number else stamp
            aside = CheckpointFiles(self.files.table.with_name(f"{stem}.{suffix}.h5"))
            if not any(p.exists() for p in (aside.table, aside.journal, aside.spool)):
                break
            number += 1
        kept = False
        try:
            for old, new in (
                (self.files.spool, aside.spool),
                (self.files.journal, aside.journal),
                (self.files.table, aside.table),
            ):
                if old.exists():
                    os.rename(old, new)
                    kept = True
        except OSError as error:
            raise OutputError(f"{self.files.table}: cannot be renamed ({error.strerror}).") from error
        if kept:
            _fold_kept(aside)
            log.info("the fits so far are kept in %s", aside.table)

    def _let_go(self) -> None:
        journal, self._journal = self._journal, None
        try:
            if journal is not None:
                with contextlib.suppress(OutputError):
                    journal.close()
        finally:
            self._lock.release()


def _fold_kept(files: CheckpointFiles) -> None:
    """Bring what was put aside into its HDF5 file, so that one file can be kept; damaged files stay as they are."""
    try:
        content = read_checkpoint(files.table)
    except (DataError, MissingInput):
        return
    write_fits_table(files.table, content.provenance, content.results)
    files.journal.unlink(missing_ok=True)
