"""The builtin toolchain: takes what chandra_repro, blanksky and the user left in place; needs no CIAO."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io.events import read_events
from cpxt_hpc.layout import ClusterLayout, ObservationLayout
from cpxt_hpc.science.detector import aimpoint_detector
from cpxt_hpc.toolchain.base import FoundSources, ResponseFiles

MAX_RESPONSE_AGE_YEARS = 1.5
"""Responses are borrowed from an observation no further away: the contaminant on ACIS grows over years."""


def refuse_interleaved(obsid: int, paths: Sequence[Path]) -> None:
    """Refuse an observation in interleaved mode, whose files come in pairs ``_e1_``, ``_e2_`` of two frame times.

    Raises
    ------
    DataError
        It is one.
    """
    names = [path.name for path in paths]
    pairs = [name for name in names if "_e1_" in name and name.replace("_e1_", "_e2_") in names]
    if pairs:
        raise DataError(
            f"ObsID {obsid} was taken in interleaved mode ({pairs[0]} and its _e2_ twin: two frame times, two sets of "
            "good times), which cannot be used. Leave it out of observation_ids."
        )


class BuiltinToolchain:
    """Files already in ``<obsid>/repro`` (events also in ``<obsid>/primary``); nothing is made."""

    def locate_events(self, observation: ObservationLayout) -> Path:
        """Level-2 event file: ``repro/acisf*_repro_evt2.fits[.gz]``, else ``primary/*_evt2.fits[.gz]``.

        Raises
        ------
        MissingInput
            There is none.
        DataError
            There are several, or those of an interleaved observation.
        """
        for folder, patterns in (
            (observation.repro, ("acisf*_repro_evt2.fits", "acisf*_repro_evt2.fits.gz")),
            (observation.primary, ("*_evt2.fits", "*_evt2.fits.gz")),
        ):
            found = sorted(path for pattern in patterns for path in folder.glob(pattern))
            if len(found) > 1:
                refuse_interleaved(observation.obsid, found)
                raise DataError(
                    f"{folder}: {len(found)} event files ({', '.join(path.name for path in found)}), expected one. "
                    "Move the others away."
                )
            if found:
                return found[0]
        raise MissingInput(
            f"ObsID {observation.obsid} has no event file: looked for {observation.repro}/acisf*_repro_evt2.fits[.gz] "
            f"and {observation.primary}/*_evt2.fits[.gz]. Download the observation and run chandra_repro on it."
        )

    def locate_blank_sky(self, observation: ObservationLayout) -> Path:
        """Blank-sky event file: ``repro/blanksky_<obsid>.fits[.gz]``.

        Raises
        ------
        MissingInput
            There is none.
        """
        found = _first_file(observation.repro, f"blanksky_{observation.obsid}.fits")
        if found is None:
            raise MissingInput(
                f"ObsID {observation.obsid} has no blank-sky file: looked for "
                f"{observation.repro}/blanksky_{observation.obsid}.fits[.gz]. Make it with CIAO's blanksky, in the "
                "observation's sky frame."
            )
        return found

    def locate_responses(self, layout: ClusterLayout, obsids: Sequence[int]) -> dict[int, ResponseFiles]:
        """ARF and RMF of every observation: ``repro/<obsid>.arf`` and ``.rmf``, plain or gzip'ed.

        An observation without takes those of the one nearest in time that has them, if it used the same array
        (ACIS-I or ACIS-S) and lies within `MAX_RESPONSE_AGE_YEARS`; their ``source_obsid`` says so.

        Raises
        ------
        MissingInput
            An observation has none, and none can be borrowed.
        """
        own: dict[int, ResponseFiles] = {}
        for obsid in obsids:
            folder = layout.observation(obsid).repro
            arf, rmf = (_first_file(folder, f"{obsid}.{kind}") for kind in ("arf", "rmf"))
            if arf is not None and rmf is not None:
                own[obsid] = ResponseFiles(arf, rmf, obsid)
            elif arf is not None or rmf is not None:
                has, lacks = ("arf", "rmf") if arf is not None else ("rmf", "arf")
                raise MissingInput(f"{folder}: has {obsid}.{has} but no {obsid}.{lacks}[.gz]. Bring both, or neither.")
        if len(own) == len(obsids):
            return own
        described = {obsid: self._array_and_date(layout.observation(obsid)) for obsid in obsids}
        return {obsid: own[obsid] if obsid in own else _borrowed(layout, obsid, own, described) for obsid in obsids}

    def download(self, layout: ClusterLayout, obsids: Sequence[int]) -> bool:
        """Nothing: the stages' own download does it."""
        return False

    def make_events(self, layout: ClusterLayout, obsids: Sequence[int], *, blank_sky: bool) -> None:
        """Nothing is made."""

    def make_responses(self, layout: ClusterLayout, obsids: Sequence[int]) -> None:
        """Nothing is made."""

    def find_sources(self, layout: ClusterLayout, obsids: Sequence[int]) -> FoundSources | None:
        """Nothing: the stages' own search does it."""
        return None

    def _array_and_date(self, observation: ObservationLayout) -> tuple[str, datetime.datetime]:
        path = self.locate_events(observation)
        events = read_events(path, obsid=observation.obsid)
        text = str(events.header.get("DATE-OBS", ""))
        try:
            return aimpoint_detector(events), datetime.datetime.fromisoformat(text).replace(tzinfo=None)
        except ValueError as error:
            raise DataError(f"{path}: DATE-OBS = {text!r}, expected a date such as 2016-09-11T16:53:20.") from error


def _first_file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _borrowed(
    layout: ClusterLayout,
    obsid: int,
    own: dict[int, ResponseFiles],
    described: dict[int, tuple[str, datetime.datetime]],
) -> ResponseFiles:
    array, date = described[obsid]
    years = {
        other: abs((described[other][1] - date).total_seconds()) / (365.25 * 86400.0)
        for other in own
        if described[other][0] == array
    }
    near = [other for other in years if years[other] <= MAX_RESPONSE_AGE_YEARS]
    if not near:
        raise MissingInput(
            f"ObsID {obsid} has no responses: looked for {obsid}.arf[.gz] and {obsid}.rmf[.gz] in "
            f"{layout.observation(obsid).repro}; no other observation of this cluster on {array} within "
            f"{MAX_RESPONSE_AGE_YEARS:g} years has any. Make them with CIAO's specextract and put them there."
        )
    return own[min(near, key=lambda other: years[other])]
