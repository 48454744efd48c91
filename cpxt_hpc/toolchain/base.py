"""What a toolchain does for the stages: bring the files that need calibration data or tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from cpxt_hpc.layout import ClusterLayout, ObservationLayout


class ResponseFiles(NamedTuple):
    """Responses of one observation.

    Attributes
    ----------
    arf, rmf : Path
    source_obsid : int
        Observation that they were made for.
    """

    arf: Path
    rmf: Path
    source_obsid: int


class Toolchain(Protocol):
    """Astronomy verbs; each brings files or raises `MissingInput`."""

    def locate_events(self, observation: ObservationLayout) -> Path:
        """Level-2 event file."""

    def locate_blank_sky(self, observation: ObservationLayout) -> Path:
        """Blank-sky events in the observation's sky frame."""

    def locate_responses(self, layout: ClusterLayout, obsids: Sequence[int]) -> dict[int, ResponseFiles]:
        """ARF and RMF of every observation."""
