"""Positions on the sky as people type them."""

from __future__ import annotations

import math
import re

from cpxt_hpc.errors import ConfigError


def parse_position(text: str) -> tuple[float, float]:
    """Right ascension and declination [degree] from a text.

    Parameters
    ----------
    text : str
        Two values between which stands a comma, or blanks: both in degrees (``255.7, -1.25``), or both sexagesimal,
        hours and degrees, with colons, blanks or letters (``17:02:42.7,+34:03:43``, ``17h02m42.7s -1d15m``).

    Raises
    ------
    ConfigError
        It is no such position.
    """
    words = text.split(",") if "," in text else text.split()
    if len(words) == 6:
        words = [" ".join(words[:3]), " ".join(words[3:])]
    if len(words) == 2:
        plain = [_degrees(word) for word in words]
        ra, dec = plain if None not in plain else (_sexagesimal(words[0], 15.0), _sexagesimal(words[1], 1.0))
        if ra is not None and dec is not None and 0.0 <= ra < 360.0 and -90.0 <= dec <= 90.0:
            return ra, dec
    raise ConfigError(
        f"position {text!r}: expected RA,DEC in degrees (255.678,34.062), or sexagesimal (17:02:42.7,+34:03:43), "
        "RA from 0 to 360 degrees and DEC from -90 to 90."
    )


def _degrees(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _sexagesimal(word: str, degrees: float) -> float | None:
    """Degrees from hours or degrees, minutes and seconds; None where the word is no such thing."""
    parts = re.split(r"[:hdms\s\u00b0'\"]+", word.strip().lower().rstrip("hdms'\""))
    if not 2 <= len(parts) <= 3 or not all(re.fullmatch(r"\d+(\.\d*)?", part.lstrip("+-")) for part in parts):
        return None
    sign = -1.0 if parts[0].startswith("-") else 1.0
    whole, *smaller = (float(part.lstrip("+-")) for part in parts)
    if any(value >= 60.0 for value in smaller) or any(part[0] in "+-" for part in parts[1:]):
        return None
    return sign * degrees * (whole + sum(value / 60.0**power for power, value in enumerate(smaller, start=1)))
