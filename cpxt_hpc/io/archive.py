"""The Chandra archive tree: where the files of an ObsID lie, and which of their names are to be trusted.

``<base>/byobsid/<last digit>/<obsid>/{primary,secondary}/``, each folder a page that links to its files.
"""

from __future__ import annotations

import html.parser
import re
from collections.abc import Callable
from typing import NamedTuple

from cpxt_hpc.errors import DataError, MissingInput

FOLDERS = ("primary", "secondary")

FILE_KINDS = {
    "level2": frozenset({"evt2", "bpix1", "fov1", "asol1", "msk1", "mtl1", "pbk0", "flt1"}),
    "all": frozenset(
        {"evt2", "bpix1", "fov1", "asol1", "msk1", "mtl1", "pbk0", "flt1", "evt1", "stat1", "bias0", "eph1"}
    ),
}
"""Kinds of files by ``[archive] files``: what the stages read, or also what chandra_repro needs."""

MOST_FILES = 500

_NAME = re.compile(
    r"(?P<stem>(?:acis|pcad|orbit)f(?P<number>\d{5}|\d{9})(?:_e[12])?(?:_\d{3})?)N(?P<version>\d{3})(?P<part>(?:_e[12])?(?:_\d)?)"
    r"_(?P<kind>[a-z]{3,4}\d)\.fits(?:\.gz)?",
    re.ASCII,
)


class ArchiveFile(NamedTuple):
    """A file of an ObsID: folder (primary or secondary), name and address."""

    folder: str
    name: str
    url: str


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.targets += [value for name, value in attrs if name == "href" and value]


def observation_url(base_url: str, obsid: int) -> str:
    """Address of an ObsID's folder, with trailing slash."""
    return f"{base_url}/byobsid/{obsid % 10}/{obsid}/"


def list_files(get_page: Callable[[str], str | None], base_url: str, obsid: int, files: str) -> list[ArchiveFile]:
    """Files of an ObsID that are worth a download.

    Parameters
    ----------
    get_page : callable
        Text of the page at an address; None where there is none.
    base_url : str
        Without trailing slash.
    obsid : int
    files : str
        Key of `FILE_KINDS`.

    Returns
    -------
    list of ArchiveFile
        Of several versions of a file, the newest. Names are made of the letters and digits of Chandra's names only.

    Raises
    ------
    MissingInput
        The archive has no such ObsID.
    DataError
        It has no ACIS level-2 events, or lists more files than any observation has.
    """
    url = observation_url(base_url, obsid)
    found: dict[tuple[str, ...], tuple[str, ArchiveFile]] = {}
    other_camera = False
    for folder in FOLDERS:
        page = get_page(f"{url}{folder}/")
        if page is None and folder == FOLDERS[0]:
            raise MissingInput(
                f"ObsID {obsid}: {url}{folder}/ does not exist. Check the number; those of the last year may not "
                "be public yet."
            )
        for name in _names(page or ""):
            other_camera |= name.startswith("hrcf")
            match = _NAME.fullmatch(name)
            if match is None or match["kind"] not in FILE_KINDS[files] or not _is_of(match, obsid):
                continue
            key = (folder, match["stem"], match["part"], match["kind"])
            version = match["version"] + name  # a.fits.gz after a.fits: one of them is enough
            if key not in found or version > found[key][0]:
                found[key] = version, ArchiveFile(folder, name, f"{url}{folder}/{name}")
    chosen = [file for _, file in found.values()]
    if not any("_evt2." in file.name and file.folder == "primary" for file in chosen):
        camera = "it was made with the HRC, not ACIS" if other_camera else "there are no level-2 events of ACIS"
        raise DataError(f"ObsID {obsid}: {url}primary/ cannot be used: {camera}. Check the number.")
    if len(chosen) > MOST_FILES:
        raise DataError(f"ObsID {obsid}: {url} lists {len(chosen)} files, expected at most {MOST_FILES}.")
    return chosen


def _names(page: str) -> list[str]:
    links = _Links()
    links.feed(page)
    return links.targets


def _is_of(match: re.Match, obsid: int) -> bool:
    """Whether a file's number is the ObsID, where it is one and not a time."""
    return len(match["number"]) != 5 or int(match["number"]) == obsid
