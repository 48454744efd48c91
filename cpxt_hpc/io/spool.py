"""The spool of a checkpoint: fits of processes that run beside each other and never take the main lock.

Each process appends to a journal of its own choice in ``<stem>.spool``: slot NN of 64, found from its host and number,
under a lock that does not wait; the next slot where that is taken. Where the file system has no locks the process
writes a file of its own name. Readers take the union; only the holder of the main lock folds the spool in.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import CheckpointMismatch, DataError, OutputError
from cpxt_hpc.io.journal import Journal, JournalContent, parse_journal, read_journal
from cpxt_hpc.io.provenance import Provenance

SLOTS = 64
_TAKEN = (errno.EAGAIN, errno.EACCES)

log = logging.getLogger(__name__)


def open_spool(folder: Path, provenance: Provenance) -> Journal:
    """A journal in the spool that no other process writes; closing it gives its slot back.

    Raises
    ------
    OutputError
        The spool cannot be written.
    """
    own = f"{socket.gethostname()}.{os.getpid()}"
    first = int.from_bytes(hashlib.sha256(own.encode()).digest()[:4], "little") % SLOTS
    for step in range(SLOTS):
        path = folder / f"{(first + step) % SLOTS:02d}.journal"
        try:
            descriptor = _open_locked(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            if error.errno in _TAKEN:
                continue
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                break
            raise OutputError(f"{path}: cannot be written ({error.strerror}). Get write permission.") from error
        try:
            return Journal(path, provenance, descriptor)
        except (CheckpointMismatch, DataError):
            # Left by fits with other settings, or by an earlier version: theirs, not ours to touch.
            continue
    path = folder / f"{own}.journal"
    try:
        # Locked as well: a job that folds the spool in must not remove it between two rows.
        return Journal(path, provenance, _open_locked(path, os.O_RDWR | os.O_CREAT))
    except OSError:  # no locks here; then nobody folds either
        return Journal(path, provenance)


def read_spool(folder: Path) -> list[tuple[Path, JournalContent]]:
    """All journals of a spool that hold at least their header, by name."""
    if not folder.is_dir():
        return []
    read = [(path, read_journal(path)) for path in sorted(folder.glob("*.journal"))]
    return [(path, content) for path, content in read if content is not None and content.provenance is not None]


def fold_spool(folder: Path, provenance: Provenance, keep: Callable[[np.ndarray], None]) -> int:
    """Move the rows of a spool into a checkpoint. Only for the holder of the main lock.

    Parameters
    ----------
    folder : Path
    provenance : Provenance
        Journals of other settings or another binning are left alone.
    keep : callable
        Takes rows, and returns when they are safe; then their journal is removed.

    Returns
    -------
    int
        Number of journals folded in. Those that a living process writes wait for the next time.
    """
    folded = 0
    if not folder.is_dir():
        return folded
    for path in sorted(folder.glob("*.journal")):
        try:
            descriptor = _open_locked(path, os.O_RDWR)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno not in _TAKEN:
                log.warning("%s: left in the spool (%s)", path, error.strerror)
            continue
        try:
            # Read through this descriptor: closing another one of the same file would drop the lock.
            with open(descriptor, "rb", closefd=False) as stream:
                content = parse_journal(stream.read(), path)
            if content.provenance is not None and content.provenance != provenance:
                log.warning("%s: fits of other settings or another binning, left in the spool", path)
                continue
            keep(content.rows)
            os.unlink(path)
            folded += 1
        finally:
            os.close(descriptor)
    return folded


def _open_locked(path: Path, flags: int) -> int:
    """Open and lock a file that still has this name once the lock is held."""
    if flags & os.O_CREAT:
        path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            # Folded in and removed between the two looks.
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
