"""``cluster.ini``: read and check it, generate it with its documentation, edit one line of it.

The file is the user's: comments, order and line ends survive whatever the program writes into it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cpxt_hpc.config import SECTIONS, ClusterConfig
from cpxt_hpc.errors import ConfigError
from cpxt_hpc.fitting.xspec import WITHOUT_METALS
from cpxt_hpc.io import atomic
from cpxt_hpc.io.ini_syntax import IniEntry, parse_ini, read_ini_text, set_last_step_completed
from cpxt_hpc.io.ini_values import Refused, convert, limits_text, settings_of, value_text

__all__ = ["make_config", "read_config", "require", "set_last_step_completed", "template", "write_config"]


def read_config(path: Path) -> ClusterConfig:
    """Read and validate a whole ``cluster.ini``.

    Parameters
    ----------
    path : Path
        The file, or the folder in which ``cluster.ini`` lies.

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        The file cannot be read, or is not a text file.
    ConfigError
        Anything wrong in it: all faults in one message, each with its line.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "cluster.ini"
    entries, sections, faults = parse_ini(read_ini_text(path))
    return _build_config(path, entries, sections, faults)


def make_config(path: Path, values: dict[str, str], *, where: str = "") -> ClusterConfig:
    """Validate settings given as text, by ``section.key``, for a file that is not yet there.

    Parameters
    ----------
    path : Path
        The file that is to be made.
    values : dict of str to str
    where : str, optional
        Where the values come from, for messages; by default the path.

    Raises
    ------
    ConfigError
        All faults in one message.
    """
    entries = [IniEntry(*name.split(".", 1), value.strip(), 0) for name, value in values.items()]
    return _build_config(Path(path), entries, {entry.section: 0 for entry in entries}, [], where=where)


def _build_config(
    path: Path,
    entries: list[IniEntry],
    sections: dict[str, int],
    faults: list[tuple[int, str]],
    *,
    where: str = "",
) -> ClusterConfig:
    faults = list(faults)
    faults.extend(
        (line, f"[{name}]: unknown section.{_nearest('[{}]', name, SECTIONS)}")
        for name, line in sections.items()
        if name not in SECTIONS
    )
    values: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    lines: dict[tuple[str, str], int] = {}
    for entry in entries:
        if entry.section not in SECTIONS:
            continue
        known = settings_of(entry.section)
        lines[entry.section, entry.key] = entry.line
        if entry.key not in known:
            faults.append((entry.line, f"[{entry.section}] {entry.key}: unknown key.{_hint(entry, known)}"))
            continue
        try:
            values[entry.section][entry.key] = convert(known[entry.key], entry.value)
        except Refused as refusal:
            faults.append((entry.line, f"[{entry.section}] {entry.key} = {entry.value!r}: {refusal}"))
    for name in SECTIONS:
        for key, field in settings_of(name).items():
            if field.default is dataclasses.MISSING and (name, key) not in lines:
                faults.append((0, f"[{name}] {key}: missing. {field.metadata['doc']}"))
    _check_together(values, lines, faults)
    if faults:
        raise ConfigError(_fault_message(where or str(path), faults))
    return ClusterConfig(path=path, **{name: record(**values[name]) for name, record in SECTIONS.items()})


def _hint(entry: IniEntry, known: dict[str, dataclasses.Field]) -> str:
    elsewhere = [name for name in SECTIONS if entry.key in settings_of(name)]
    if elsewhere:
        return f" It belongs to [{elsewhere[0]}]."
    return _nearest("{}", entry.key, known)


def _nearest(form: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {form.format(close[0])}?"
    return f" Known: {', '.join(form.format(each) for each in known)}."


def _fault_message(where: str, faults: list[tuple[int, str]]) -> str:
    ordered = sorted(faults, key=lambda fault: fault[0] or math.inf)
    told = [f"line {line}: {text}" if line else text for line, text in ordered]
    if len(told) == 1:
        return f"{where}: {told[0]}"
    return f"{where}: {len(told)} faults:\n" + "\n".join(f"  {each}" for each in told)


def _check_together(
    values: dict[str, dict[str, Any]], lines: dict[tuple[str, str], int], faults: list[tuple[int, str]]
) -> None:
    """Check one setting against another, defaults included."""
    known = settings_of("fit")
    low, high = (
        values["fit"].get(key, known[key].default) for key in ("energy_min_kev", "energy_max_kev")
    )
    if low >= high:
        line = max(lines.get(("fit", "energy_min_kev"), 0), lines.get(("fit", "energy_max_kev"), 0))
        faults.append((line, f"[fit] energy_min_kev = {low:g} is not below energy_max_kev = {high:g}."))
    free, plasma = (values["fit"].get(key, known[key].default) for key in ("free", "plasma"))
    if "abundance" in free.split(",") and plasma in WITHOUT_METALS:
        line = max(lines.get(("fit", "free"), 0), lines.get(("fit", "plasma"), 0))
        faults.append((line, f"[fit] free = {free}: the plasma model {plasma} has no abundance. Choose another."))


def require(config: ClusterConfig, keys: Iterable[str], step: str) -> None:
    """Insist on settings that may be left open until a step needs them.

    Parameters
    ----------
    config : ClusterConfig
    keys : iterable of str
        ``redshift``, or ``cluster.redshift``.
    step : str
        What needs them, for the message: ``stage 5 (bin)``.

    Raises
    ------
    ConfigError
        Some are not set: all of them in one message.
    """
    missing: dict[str, list[str]] = {}
    for name in keys:
        section, _, key = name.rpartition(".")
        section = section or "cluster"
        if getattr(getattr(config, section), key) in (None, "", ()):
            missing.setdefault(section, []).append(key)
    if missing:
        what = " and ".join(f"{', '.join(names)} in [{section}]" for section, names in missing.items())
        raise ConfigError(f"{config.path}: {step} needs {what}: not set. Set and run again.")


def template(config: ClusterConfig) -> str:
    """Text of a ``cluster.ini`` with every key, its value, its documentation and its default."""
    lines = [
        "# Configuration of cpxt_hpc for one galaxy cluster. Made by cpxt-init; edit it freely.",
        "# A comment starts with '#' or ';'. Products whose settings change are made again.",
    ]
    for section in SECTIONS:
        lines += ["", f"[{section}]"]
        record = getattr(config, section)
        for key, field in settings_of(section).items():
            lines.append(f"# {_documentation(field)}")
            lines.append(f"{key} = {value_text(getattr(record, key))}".rstrip())
    return "\n".join(lines) + "\n"


def _documentation(field: dataclasses.Field) -> str:
    parts = [field.metadata["doc"]]
    limits = limits_text(field)
    if field.metadata["choices"]:
        parts.append(f"One of: {', '.join(field.metadata['choices'])}.")
    if limits:
        parts.append(f"A number {limits}.")
    if field.metadata["needed_by"]:
        parts.append(f"Needed by {field.metadata['needed_by']}.")
    if field.default not in (dataclasses.MISSING, None, ""):
        parts.append(f"Default: {value_text(field.default)}.")
    return " ".join(parts)


def write_config(config: ClusterConfig) -> Path:
    """Write the commented template of a configuration to ``config.path``, whole or not at all.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    atomic.write_text(config.path, template(config))
    return config.path


