"""What fits were made with: the settings that change their numbers, and the binning that their regions belong to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from cpxt_hpc.errors import CheckpointMismatch

Value = str | int | float

MEANINGS = {"data_digest": "events, backgrounds, exposures or responses are not those of these fits"}
"""What a difference means, for settings whose values tell a person nothing."""


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Settings and binning of a set of fits.

    Attributes
    ----------
    settings : dict of str to (str, int, float)
        Every setting that changes the numbers.
    binning_digest : str
        Names the binning; region numbers of another one mean other pixels.
    """

    settings: dict[str, Value]
    binning_digest: str

    def __post_init__(self) -> None:
        plain = {str(key): plain_value(value) for key, value in self.settings.items()}
        object.__setattr__(self, "settings", plain)
        object.__setattr__(self, "binning_digest", str(self.binning_digest))

    @property
    def settings_digest(self) -> str:
        """SHA-256 of the settings, whatever their order."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()

    def differing_settings(self, now: Provenance) -> list[str]:
        """One phrase a setting that differs: ``redshift 0.0197, now 0.0581``; sorted by key."""
        keys = sorted(self.settings.keys() | now.settings.keys())
        return [
            f"{key} {self._shown(key)}, now {now._shown(key)}" + (f" ({MEANINGS[key]})" if key in MEANINGS else "")
            for key in keys
            if self.settings.get(key) != now.settings.get(key) or (key in self.settings) != (key in now.settings)
        ]

    def check_same(self, now: Provenance, path: Path) -> None:
        """Raise `CheckpointMismatch`, naming what differs, if the fits in ``path`` do not go with now's."""
        differing = self.differing_settings(now)
        if differing:
            raise CheckpointMismatch(
                f"{path} was made with other settings: {'; '.join(differing)}. "
                "Restore the value, choose another [fit] label, or use --restart."
            )
        if self.binning_digest != now.binning_digest:
            raise CheckpointMismatch(
                f"{path} belongs to another binning ({self.binning_digest}, now {now.binning_digest}): "
                "its region numbers mean other pixels. Choose another [fit] label, or use --restart."
            )

    def _shown(self, key: str) -> str:
        return repr(self.settings[key]) if key in self.settings else "(absent)"


def plain_value(value: object) -> Value:
    """A setting as Python's own str, int or float, so that every file gives back the same digest.

    Raises
    ------
    TypeError
        It is none of these.
    """
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"a setting must be text or a number, found {value!r}")
