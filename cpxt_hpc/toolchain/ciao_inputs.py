"""What CIAO's tools want beside an event file: aspect solutions, bad pixels, mask; found by name and by the header.

CIAO's tools find them by themselves where the header's names and folders are as they expect. They are handed on
explicitly here: each once, and with an error that says which one is missing. The parameter block (pbk) file is not
needed by any tool that is called.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cpxt_hpc.errors import DataError, MissingInput, OutputError
from cpxt_hpc.io.fits_files import open_fits
from cpxt_hpc.layout import ObservationLayout

_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+~-]+")


class SupportFiles(NamedTuple):
    """Files that belong to an observation's events.

    Attributes
    ----------
    aspect : tuple of Path
        Aspect solutions in the order of their times.
    bad_pixels, mask : Path
    """

    aspect: tuple[Path, ...]
    bad_pixels: Path
    mask: Path


def find_support_files(observation: ObservationLayout, events: Path) -> SupportFiles:
    """Find aspect solutions, bad pixels and mask of an event file.

    The names in its header (ASOLFILE, BPIXFILE, MASKFILE) come first; without them what looks like one: of
    chandra_repro where there is such, in ``repro``, ``primary`` and ``secondary``. The same file in two folders
    counts once.

    Raises
    ------
    MissingInput
        One is not there.
    DataError
        The event file cannot be read, or several bad-pixel or mask files would do.
    """
    folders = [events.parent, observation.repro, observation.primary, observation.folder / "secondary"]
    with open_fits(events, "event file") as hdus:
        header = hdus["EVENTS"].header if "EVENTS" in hdus else hdus[0].header
        named = {key: _names(header.get(key)) for key in ("ASOLFILE", "BPIXFILE", "MASKFILE")}
    aspect = _listed(named["ASOLFILE"], folders) or _aspect_by_name(folders)
    if not aspect:
        raise _missing(observation, "aspect solution", "pcadf*_asol1.fits[.gz]", named["ASOLFILE"], folders)
    bad_pixels = _listed(named["BPIXFILE"], folders) or _by_pattern(folders, ("*_repro_bpix1.fits", "*_bpix1.fits"))
    mask = _listed(named["MASKFILE"], folders) or _by_pattern(folders, ("*_msk1.fits",))
    for found, key, what, pattern in (
        (bad_pixels, "BPIXFILE", "bad-pixel file", "*_bpix1.fits[.gz]"),
        (mask, "MASKFILE", "mask file", "*_msk1.fits[.gz]"),
    ):
        if not found:
            raise _missing(observation, what, pattern, named[key], folders)
        if len(found) > 1:
            raise DataError(
                f"ObsID {observation.obsid}: {len(found)} {what}s ({', '.join(path.name for path in found)}) and no "
                f"{key} in {events} that tells which. Move the others away."
            )
    return SupportFiles(tuple(aspect), bad_pixels[0], mask[0])


def _names(value: object) -> list[str]:
    """File names of a header's list, each once; NONE stands for none."""
    words = [Path(word.strip()).name for word in str(value or "").split(",")]
    return [word for word in dict.fromkeys(words) if word and word.upper() != "NONE"]


def _listed(names: list[str], folders: list[Path]) -> list[Path]:
    """All the files with these names; none where one of them is nowhere."""
    found = [_first_there(folders, name) for name in names]
    return [] if None in found else [path for path in found if path is not None]


def _first_there(folders: list[Path], name: str) -> Path | None:
    plain = name.removesuffix(".gz")
    return next((f / n for f in folders for n in (plain, f"{plain}.gz") if (f / n).is_file()), None)


def _aspect_by_name(folders: list[Path]) -> list[Path]:
    """What chandra_repro made of the aspect solutions, else those of the archive."""
    return _by_pattern(folders, ("pcadf*_repro_asol1.fits", "pcadf*_asol1.fits"))


def _by_pattern(folders: list[Path], patterns: tuple[str, ...]) -> list[Path]:
    """Files of the first folder and pattern that has any, sorted by name."""
    for folder in folders:
        for pattern in patterns:
            paths = sorted([*folder.glob(pattern), *folder.glob(f"{pattern}.gz")])
            by_name = {path.name.removesuffix(".gz"): path for path in reversed(paths)}
            if by_name:
                return [by_name[name] for name in sorted(by_name)]
    return []


def _missing(
    observation: ObservationLayout, what: str, pattern: str, named: list[str], folders: list[Path]
) -> MissingInput:
    wanted = " and ".join(filter(None, [", ".join(named), pattern]))
    places = ", ".join(str(folder) for folder in dict.fromkeys(folders))
    return MissingInput(
        f"ObsID {observation.obsid} has no {what}: looked for {wanted} in {places}. Download the observation again "
        "(move its folder away before), or bring the file."
    )


@contextlib.contextmanager
def working_folder(beside: Path) -> Iterator[Path]:
    """Make an empty folder for a call; it and all in it is gone afterwards.

    Parameters
    ----------
    beside : Path
        Where it is made, on the disk on which the results will lie; in the folder for temporary files where this
        path holds blanks or other signs that CIAO's parameters have a meaning for.

    Raises
    ------
    OutputError
        It cannot be made.
    """
    try:
        beside.mkdir(parents=True, exist_ok=True)
        parent = beside if _PLAIN_PATH.fullmatch(str(beside.resolve())) else Path(tempfile.gettempdir())
        folder = Path(tempfile.mkdtemp(prefix=".call-", dir=parent)).resolve()
    except OSError as error:
        raise OutputError(
            f"{beside}: no working folder can be made ({error.strerror}). Get write permission, or make room."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def link_inputs(folder: Path, inputs: Mapping[str, Path]) -> None:
    """Link files or folders into a working folder under the names by which a call knows them."""
    for name, path in inputs.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.absolute())


def remove_old_working_folders(beside: Path) -> None:
    """Remove what a killed process left; only for who holds the cluster's lock."""
    for left in beside.glob(".call-*"):
        shutil.rmtree(left, ignore_errors=True)
