"""Files that appear whole or not at all: write beside the final name, sync, rename."""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cpxt_hpc.errors import OutputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it becomes ``path``, on any error it vanishes.

    Missing parent folders are made.

    Raises
    ------
    OutputError
        The folder or file cannot be written (permission, full disk, quota).
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp" + path.suffix, dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        if error.filename is not None and not _concerns(error.filename, path):
            raise
        # Astropy and numpy give no number, but sentences about how much room there was.
        reason = error.strerror or str(error).partition(". ")[0]
        raise OutputError(
            f"{path}: cannot be written ({reason}). Make room or get write permission, then run again."
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def remove_leftovers(path: Path) -> None:
    """Remove what a killed process left beside a file that it was writing; only for who alone writes this file."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp*"):
        with contextlib.suppress(OSError):
            left.unlink()


def _concerns(filename: object, path: Path) -> bool:
    """Whether an operating-system error speaks of the file being written or of a folder above it."""
    culprit = Path(os.fsdecode(filename)) if isinstance(filename, (str, bytes)) else path
    return culprit.parent == path.parent or culprit == path.parent or culprit in path.parents


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
