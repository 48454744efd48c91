"""What belongs to a user and not to a cluster: the usual data folder, and the cluster worked on last.

A file ``config.ini`` in the platform's configuration folder (``~/.config/cpxt_hpc``), or ``$CPXT_CONFIG``; made when a
cluster is first made or prepared. Without a place to write it everything works, only paths must be given.
"""

from __future__ import annotations

import configparser
import logging
import os
from pathlib import Path
from typing import NamedTuple

from cpxt_hpc.errors import ConfigError, OutputError
from cpxt_hpc.io.atomic import write_text

logger = logging.getLogger(__name__)

VARIABLE = "CPXT_CONFIG"
_TEMPLATE = """\
# Settings of one user of cpxt_hpc, for all clusters.

[user]
# Folder in which cpxt-init makes the folders of clusters; empty: the current one.
data_directory = {data_directory}
# cluster.ini that cpxt-prep takes where none is named. Written by the program.
current_cluster = {current_cluster}
"""


class UserConfig(NamedTuple):
    """Settings of a user; None where not set."""

    data_directory: Path | None = None
    current_cluster: Path | None = None


def user_config_path() -> Path:
    """Where the user's settings lie."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return platformdirs.user_config_path("cpxt_hpc", appauthor=False) / "config.ini"


def read_user_config() -> UserConfig:
    """Read the user's settings; all unset where there is no such file.

    Raises
    ------
    ConfigError
        The file cannot be read or understood.
    """
    path = user_config_path()
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8", errors="surrogateescape"), source=str(path))
    except (FileNotFoundError, NotADirectoryError):
        return UserConfig()
    except (OSError, configparser.Error) as error:
        reason = str(getattr(error, "strerror", None) or error).replace("\n", " ")
        raise ConfigError(f"{path}: cannot be used ({reason}). Edit it, or remove it: it is made anew.") from error
    unknown = [f"[{name}] {key}" for name in parser.sections() for key in parser[name] if key not in UserConfig._fields]
    if unknown or parser.sections() not in ([], ["user"]):
        raise ConfigError(
            f"{path}: {', '.join(unknown or parser.sections())}: unknown. "
            f"Known: [user] {', '.join(UserConfig._fields)}."
        )
    found = parser["user"] if parser.has_section("user") else {}
    return UserConfig(*(Path(found[key]).expanduser() if found.get(key) else None for key in UserConfig._fields))


def remember_cluster(ini: Path) -> None:
    """Note the ``cluster.ini`` worked on; what cannot be written is told and does no harm."""
    path = user_config_path()
    try:
        known = read_user_config()
        if known.current_cluster == ini:
            return
        write_text(path, _with_current_cluster(path, known, ini))
    except (ConfigError, OutputError, OSError, UnicodeError) as error:
        logger.debug("the current cluster is not remembered: %s", error)


def _with_current_cluster(path: Path, known: UserConfig, ini: Path) -> str:
    """The file's text with one line replaced: comments stay."""
    if not path.is_file():
        return _TEMPLATE.format(data_directory=known.data_directory or "", current_cluster=ini)
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.partition("=")[0].strip().lower() == "current_cluster":
            lines[number] = f"current_cluster = {ini}"
            break
    else:
        heads = [number for number, line in enumerate(lines) if line.strip() == "[user]"]
        lines[heads[0] + 1 if heads else len(lines):] = [
            *([] if heads else ["[user]"]), f"current_cluster = {ini}", *(lines[heads[0] + 1 :] if heads else [])
        ]  # fmt: skip
    return "\n".join(lines) + "\n"
