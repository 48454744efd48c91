"""Text of ``cluster.ini`` to checked values and back, led by the metadata of `cpxt_hpc.config`."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from typing import Any

from cpxt_hpc.config import NAME_PATTERN, SECTIONS

NH_UNIT_BORDER = 1e3
"""Below: 10^22 cm^-2; above: cm^-2."""
NH_SMALLEST_CM2 = 1e17
"""No sight line out of the Galaxy has less hydrogen; smaller numbers above the border are a unit mixed up."""

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


class Refused(ValueError):
    """A value that does not fit its setting; the message says what was expected."""


def settings_of(section: str) -> dict[str, dataclasses.Field]:
    """Fields of a section's record by key."""
    return {field.name: field for field in dataclasses.fields(SECTIONS[section])}


def convert(field: dataclasses.Field, text: str) -> Any:
    """Value of a setting from its text.

    Raises
    ------
    Refused
        The text is no such value, or outside the setting's choices or limits.
    """
    kind = _kind_of(field)
    if not text and field.default in ("", None):
        return field.default
    if kind == tuple[int, ...]:
        return _obsids(text)
    if kind is str:
        _check_text(field, text)
        return text
    value = _number(text, kind)
    _check_limits(field, value)
    if field.name == "hydrogen_column_density":
        _check_nh_unit(value)
    return value


def _kind_of(field: dataclasses.Field) -> Any:
    """Type of a setting without its ``| None``."""
    for record in SECTIONS.values():
        if any(each is field for each in dataclasses.fields(record)):
            hint = typing.get_type_hints(record)[field.name]
            if isinstance(hint, types.UnionType):
                return next(part for part in typing.get_args(hint) if part is not type(None))
            return hint
    raise KeyError(field.name)


def _number(text: str, kind: type) -> float | int:
    if kind is int:
        if not _WHOLE_NUMBER.fullmatch(text):
            raise Refused("not a whole number.")
        return int(text)
    try:
        value = float(text.replace("_", "?"))  # Python takes 1_0 for 10
    except ValueError:
        swap = " Write the decimal point as '.'." if re.fullmatch(r"[+-]?\d+,\d+", text) else ""
        raise Refused(f"not a number.{swap}") from None
    if not math.isfinite(value):
        raise Refused("not a finite number.")
    return value


def _check_limits(field: dataclasses.Field, value: float) -> None:
    low, high, open_below = (field.metadata[key] for key in ("minimum", "maximum", "exclusive_minimum"))
    too_low = low is not None and (value <= low if open_below else value < low)
    if too_low or (high is not None and value > high):
        raise Refused(f"out of range. Expected a number {limits_text(field)}.")


def limits_text(field: dataclasses.Field) -> str:
    """Limits of a numeric setting in words; empty where it has none."""
    low, high, open_below = (field.metadata[key] for key in ("minimum", "maximum", "exclusive_minimum"))
    parts = []
    if low is not None:
        parts.append(f"above {low:g}" if open_below else f"of at least {low:g}")
    if high is not None:
        parts.append(f"at most {high:g}")
    return ", ".join(parts)


def _check_nh_unit(value: float) -> None:
    if NH_UNIT_BORDER <= value < NH_SMALLEST_CM2 or value >= NH_UNIT_BORDER * 1e22:
        raise Refused(
            "no column density in either unit. "
            "Expected cm^-2 (such as 4.1e20), or 10^22 cm^-2 (such as 0.041)."
        )


def _check_text(field: dataclasses.Field, text: str) -> None:
    if re.search(r"(^|\s)[#;]|[\r\n]", text):
        raise Refused("a blank with '#' or ';' behind it starts a comment, and a line end ends the value.")
    choices = field.metadata["choices"]
    if choices and text not in choices:
        close = difflib.get_close_matches(text.lower(), choices, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise Refused(f"unknown. Choose one of: {', '.join(choices)}.{hint}")
    if field.name in ("name", "label") and not NAME_PATTERN.fullmatch(text):
        raise Refused(
            "not usable in file names. Expected at most 64 letters, digits, '.', '_', '+', '-', "
            "the first a letter or digit."
        )


def _obsids(text: str) -> tuple[int, ...]:
    words = text.replace(",", " ").split()
    wrong = [word for word in words if not re.fullmatch(r"[0-9]{1,9}", word) or int(word) == 0]
    if wrong or not words:
        raise Refused(
            (f"{', '.join(repr(word[:30]) for word in wrong)}: no ObsID. " if wrong else "empty. ")
            + "Expected positive whole numbers, separated by commas."
        )
    numbers = tuple(int(word) for word in words)
    doubles = sorted({number for number in numbers if numbers.count(number) > 1})
    if doubles:
        raise Refused(f"{', '.join(map(str, doubles))} named more than once. Name each ObsID once.")
    return numbers


def value_text(value: Any) -> str:
    """Write a setting's value as the file has it; it reads back to the same value."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(str(each) for each in value)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


