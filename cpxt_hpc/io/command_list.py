"""The command list ``acb/commands_<name>.lis``: one line a region, each a command that runs by itself.

As source of work only the ``--region N`` of a line counts: lines are never executed here, so the folder may
be moved and pieces of a list may be edited, joined or mixed.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import ConfigError, DataError, MissingInput
from cpxt_hpc.io.atomic import replacing

# Greedy up to the last --region: a quoted path before it may hold anything.
_COMMAND = re.compile(
    rb"^(?![ \t]*#)(?:[^\n]*[ \t])?--region[ \t=]+(\d{1,18})(?=[ \t\r\n;]|\Z)", re.MULTILINE
)
_NO_CONTENT = re.compile(rb"\n[ \t\r]*(?=[#\n]|\Z)")


def write_command_list(path: Path, region_numbers: Iterable[int], ini_path_text: str) -> None:
    """Write one command a region, after a few lines of comment.

    Parameters
    ----------
    path : Path
        The list.
    region_numbers : iterable of int
        Regions, in the order of the lines.
    ini_path_text : str
        Path of ``cluster.ini`` as the commands name it; it is quoted for the shell.

    Raises
    ------
    ConfigError
        The path holds a line break.
    OutputError
        The file cannot be written.
    """
    if "\n" in ini_path_text or "\r" in ini_path_text:
        raise ConfigError(
            f"the path {ini_path_text!r} holds a line break, but a command list has one command a line: "
            "rename the folder."
        )
    quoted = shlex.quote(ini_path_text)
    if quoted.startswith("-"):
        quoted = f"./{quoted}"
    numbers = [int(number) for number in region_numbers]
    command = f"cpxt-fit {quoted} --region "
    header = (
        f"# {len(numbers)} regions, one command each. Any part of the list may run, in any order, any number "
        "at once.\n# cpxt-fit without --region fits them all and is much faster.\n"
    )
    text = header + "".join([f"{command}{number}\n" for number in numbers])
    with replacing(path) as temporary:
        temporary.write_bytes(os.fsencode(text))


def read_command_list(path: Path) -> np.ndarray:
    """Region numbers that a list names.

    Comments (``#``) and blank lines are skipped, line ends may be those of any system, a number that
    stands there twice counts once.

    Returns
    -------
    ndarray of int64
        In the order of their first lines. Whether such regions exist is not known here.

    Raises
    ------
    MissingInput
        There is no such file, or it cannot be read.
    DataError
        A line names no region.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingInput(
            f"{path}: cannot be read ({error.strerror}). Name a command list; cpxt-prep --stage 5 writes "
            "acb/commands_<name>.lis."
        ) from error
    numbers = np.array(list(map(int, _COMMAND.findall(content))), dtype=np.int64)
    content = b"\n" + content
    if len(numbers) != content.count(b"\n") - len(_NO_CONTENT.findall(content)):
        raise DataError(_first_fault(path, content))
    _, first = np.unique(numbers, return_index=True)
    return numbers[np.sort(first)]


def _first_fault(path: Path, content: bytes) -> str:
    """Message about the first line that is neither blank, comment nor command."""
    for position, line in enumerate(content.split(b"\n")):
        if not _NO_CONTENT.match(b"\n" + line) and not _COMMAND.match(line):
            shown = line.strip()[:100].decode("utf-8", "replace")
            return (
                f"{path}, line {position}: {shown!r} names no region. "
                "Expected '... --region N' with N a number, or a comment that begins with #."
            )
    return f"{path} is no command list: expected one '... --region N' a line."
