"""Which of the files in place were made by a CIAO call of ours, from what, and whether they still hold.

For each product a small record lies beside its log, ``<obsid>/ciao/<product>.json``, written last: outputs without
a record, or other than it says, are the user's and never touched.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from cpxt_hpc.errors import DataError
from cpxt_hpc.io import atomic

FORMAT = 1

Stamp = tuple[int, int, str]
"""Size [byte], time of the last change [ns] and SHA-256 of a file."""


@dataclasses.dataclass(frozen=True)
class Product:
    """What one call leaves.

    Attributes
    ----------
    record : Path
        The record file.
    outputs : tuple of Path
        Final names.
    inputs : tuple of Path
        Files whose content they depend on.
    settings : dict of str to str
        What else they depend on.
    """

    record: Path
    outputs: tuple[Path, ...]
    inputs: tuple[Path, ...]
    settings: dict[str, str]


def must_be_made(product: Product) -> bool:
    """Whether a product is missing, or was made by us from what has changed since.

    False where it is up to date, and where its files are not ours.
    """
    there = [path for path in product.outputs if _as_found(path) is not None]
    record = _read(product.record)
    if not there or (record is not None and "unfinished" in record):
        return True
    if record is None or not _is_ours(product, record, there):
        return False
    if len(there) < len(product.outputs) or record["settings"] != product.settings:
        return True
    known = record["inputs"]
    present = {path.name: path for path in product.inputs}
    return known.keys() != present.keys() or any(not _is_same(present[name], known[name]) for name in known)


def note_unfinished(product: Product) -> None:
    """Record that files of ours are about to come into place: until `note_made`, they do not count."""
    atomic.write_text(product.record, json.dumps({"format": FORMAT, "unfinished": True}) + "\n")


def note_made(product: Product) -> None:
    """Record that a product was made from its inputs as they are now."""
    content = {
        "format": FORMAT,
        "settings": product.settings,
        "inputs": {path.name: _stamp(path) for path in product.inputs},
        "outputs": {path.name: _stamp(path) for path in product.outputs},
    }
    atomic.write_text(product.record, json.dumps(content, indent=1) + "\n")


def install(made: Mapping[Path, Path]) -> None:
    """Copy or move finished files to their final names, each whole or not at all.

    Parameters
    ----------
    made : mapping of Path to Path
        Final name, and the file in the working folder.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    for final, source in made.items():
        with atomic.replacing(final) as temporary:
            if source.is_symlink() or source.stat().st_dev != temporary.stat().st_dev:
                shutil.copyfile(source, temporary)
            else:
                os.replace(source, temporary)


def _is_ours(product: Product, record: Mapping, there: Iterable[Path]) -> bool:
    known = record["outputs"]
    return all(path.name in known and _is_same(path, known[path.name]) for path in there)


def _as_found(path: Path) -> Path | None:
    """The file, or its gzip'ed form."""
    return next((each for each in (path, path.with_name(path.name + ".gz")) if each.is_file()), None)


def _is_same(path: Path, stamp: Stamp) -> bool:
    size, changed_ns, digest = stamp
    try:
        status = path.stat()
    except OSError:
        return False
    if status.st_size != size:
        return False
    return status.st_mtime_ns == changed_ns or _digest(path) == digest


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, _digest(path)


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check the file and its permissions.") from error


def _read(path: Path) -> dict | None:
    """A record; None where there is none that can be used."""
    try:
        record = json.loads(path.read_bytes())
        usable = record["format"] == FORMAT and (
            "unfinished" in record or all(isinstance(record[key], dict) for key in ("settings", "inputs", "outputs"))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if usable else None
