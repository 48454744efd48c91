"""ClusterPyXT's ``<name>_pypeline_config.ini``: what of it goes into a ``cluster.ini``."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from cpxt_hpc.errors import ConfigError, DataError, MissingInput

LEFT_OPEN = "Update me!"
"""How the values begin that ClusterPyXT leaves to be filled in."""

NUMBERS = ("hydrogen_column_density", "redshift", "abundance", "signal_to_noise")
DATA_FOLDER = "data_directory"


def read_pypeline_config(path: Path) -> dict[str, str]:
    """Settings of a ClusterPyXT cluster as text, by the key that they have in ``[cluster]``.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to str
        ``name``, ``observation_ids``, ``data_directory`` and the numbers that are set. ClusterPyXT writes 0 or a
        request where a number is not known: those are left out. Its progress is its own.

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        It cannot be read.
    ConfigError
        It is no configuration of ClusterPyXT.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except FileNotFoundError as error:
        raise MissingInput(f"{path}: no such file. Name a ClusterPyXT <name>_pypeline_config.ini.") from error
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error
    except configparser.Error as error:
        raise ConfigError(f"{path}: no configuration file ({' '.join(str(error).split())}).") from error
    if not parser.has_section("cluster") or not parser["cluster"].get("name"):
        raise ConfigError(f"{path}: has no section [cluster] with a name. Expected ClusterPyXT's pypeline_config.ini.")
    found = parser["cluster"]
    values = {"name": found["name"].strip()}
    obsids = re.findall(r"[^\s,\[\]'\"]+", found.get("observation_ids", ""))
    if obsids:
        values["observation_ids"] = ",".join(obsids)
    if found.get(DATA_FOLDER):
        values[DATA_FOLDER] = found[DATA_FOLDER].strip()
    for key in NUMBERS:
        text = found.get(key, "").strip()
        if text and not text.startswith(LEFT_OPEN) and not re.fullmatch(r"0*\.?0*", text):
            values[key] = text
    return values
