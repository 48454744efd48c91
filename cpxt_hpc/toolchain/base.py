"""What a toolchain does for the stages: bring the files that need calibration data or tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from cpxt_hpc.layout import ClusterLayout, ObservationLayout
from cpxt_hpc.science.masks import Shape


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


class FoundSources(NamedTuple):
    """Point sources of a cluster's field.

    Attributes
    ----------
    shapes : list of Shape
        Sky pixels of the common tangent plane.
    told_by : str
        How they were found, for the region file.
    """

    shapes: list[Shape]
    told_by: str


class Toolchain(Protocol):
    """Astronomy verbs.

    ``locate_...`` tells where a file is, or raises `MissingInput`. The others make what is missing, each file whole
    and checked under the name where ``locate_...`` looks; they never touch a file that they did not make, and return
    at once where nothing is to be done.
    """

    def locate_events(self, observation: ObservationLayout) -> Path:
        """Level-2 event file."""

    def locate_blank_sky(self, observation: ObservationLayout) -> Path:
        """Blank-sky events in the observation's sky frame."""

    def locate_responses(self, layout: ClusterLayout, obsids: Sequence[int]) -> dict[int, ResponseFiles]:
        """ARF and RMF of every observation."""

    def download(self, layout: ClusterLayout, obsids: Sequence[int]) -> bool:
        """Download observations with a program of its own; False where the toolchain has none."""

    def make_events(self, layout: ClusterLayout, obsids: Sequence[int], *, blank_sky: bool) -> None:
        """Level-2 events and, where wanted, blank-sky events of every observation."""

    def make_responses(self, layout: ClusterLayout, obsids: Sequence[int]) -> None:
        """ARF and RMF of every observation, from its cleaned events."""

    def find_sources(self, layout: ClusterLayout, obsids: Sequence[int]) -> FoundSources | None:
        """Point sources of the field; None where the toolchain has no program for it."""
