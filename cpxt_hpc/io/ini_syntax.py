"""Lines of an ini file: entries with their line numbers; one line edited and the rest left alone."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io import atomic

_SECTION_LINE = re.compile(r"\[(?P<name>[^\]]*)\]\s*(?:[#;].*)?$")
_KEY_LINE = re.compile(r"(?P<key>[^=:]+?)\s*[=:]\s*(?P<value>.*)$")
_INLINE_COMMENT = re.compile(r"(?:^|\s)[#;].*$")


@dataclasses.dataclass
class IniEntry:
    """One ``key = value`` of an ini file, as found.

    Attributes
    ----------
    section, key, value : str
        Key in lower case; value without comment, lines of a continued value joined by a blank.
    line : int
        From 1.
    """

    section: str
    key: str
    value: str
    line: int


def read_ini_text(path: Path) -> str:
    """Read an ini file as text.

    Raises
    ------
    MissingInput, DataError
        It is not there; it cannot be read, or is not text.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingInput(
            f"{path}: no such file. Give the path of a cluster.ini; cpxt-init makes a new one."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}). Check the path and its permissions."
        ) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise DataError(f"{path}: not a text file (UTF-8). Expected a cluster.ini as cpxt-init makes it.")
    return text


def parse_ini(text: str) -> tuple[list[IniEntry], dict[str, int], list[tuple[int, str]]]:
    """Split an ini file into its entries, in the dialect of Python's configparser without interpolation.

    Own code because configparser stops at the first duplicate and forgets the line numbers, which a
    message to the user should have.

    Returns
    -------
    entries : list of IniEntry
    sections : dict
        Name and line of each section.
    faults : list of (int, str)
        Line and description of what is no section, key or comment, and of duplicates.
    """
    entries: list[IniEntry] = []
    sections: dict[str, int] = {}
    faults: list[tuple[int, str]] = []
    section: str | None = None
    seen: dict[tuple[str, str], int] = {}
    last: IniEntry | None = None
    last_indent = 0
    for number, raw in enumerate(text.splitlines(), start=1):
        line = _INLINE_COMMENT.sub("", raw).rstrip()
        if not line:
            if not raw.strip():
                last = None
            continue
        indent = len(line) - len(line.lstrip())
        if last is not None and indent > last_indent:
            last.value = f"{last.value} {line.strip()}".strip()
            continue
        line, last, last_indent = line.strip(), None, indent
        heading, setting = _SECTION_LINE.match(line), _KEY_LINE.match(line)
        if heading:
            section = heading["name"].strip()
            if section in sections:
                first = sections[section]
                faults.append((number, f"[{section}] stands twice, first in line {first}. Join them."))
            sections.setdefault(section, number)
        elif setting is None:
            faults.append((number, f"{line!r} is neither '[section]', 'key = value' nor '# comment'."))
        elif section is None:
            faults.append((number, f"{line!r} stands before the first [section]. Put it below [cluster]."))
        else:
            last = IniEntry(section, setting["key"].lower(), setting["value"], number)
            first = seen.setdefault((section, last.key), number)
            if first != number:
                fault = f"[{section}] {last.key} stands twice, first in line {first}. Delete one."
                faults.append((number, fault))
            else:
                entries.append(last)
    return entries, sections, faults


def set_last_step_completed(path: Path, number: int) -> None:
    """Edit the one line ``last_step_completed`` of a ``cluster.ini``; all else survives byte for byte.

    The line is added to ``[cluster]`` where it is not there. Nothing is written where it has the number.

    Raises
    ------
    MissingInput, DataError
        The file is gone, or is no text file with a section ``[cluster]``.
    OutputError
        It cannot be written.
    """
    path = Path(path).resolve()
    read_ini_text(path)
    raw = path.read_bytes()
    lines = raw.decode("utf-8").splitlines(keepends=True)
    inside, place = False, None
    for index, line in enumerate(lines):
        bare = line.lstrip("\ufeff").strip()
        heading = _SECTION_LINE.match(bare)
        if heading:
            inside = heading["name"].strip() == "cluster"
        if not inside or bare.startswith(("#", ";")):
            continue
        if bare:
            place = index
        found = re.match(r"(?i)(\s*last_step_completed\s*[=:][ \t]*)([^\s#;]*)", line)
        if found:
            lines[index] = f"{found[1]}{number}{line[found.end():]}"
            break
    else:
        if place is None:
            raise DataError(f"{path}: no section [cluster]. Expected a cluster.ini as cpxt-init makes it.")
        end = re.search(r"\r?\n?$", lines[place])[0] or "\n"
        lines[place] = re.sub(r"\r?\n?$", "", lines[place]) + end
        lines.insert(place + 1, f"last_step_completed = {number}{end}")
    edited = "".join(lines).encode("utf-8")
    if edited != raw:
        with atomic.replacing(path) as temporary:
            temporary.write_bytes(edited)
