"""The CIAO toolchain: what is in place is taken as it is; what is missing is made with CIAO's tools.

Files are found where the builtin toolchain finds them, so a cluster prepared with CIAO can go on without it. Each
call runs in a process, a working folder and a parameter folder of its own; its log and the record of what it made
stay in ``<obsid>/ciao``, those of calls for all observations together in ``ciao``.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence

from cpxt_hpc.errors import MissingInput
from cpxt_hpc.layout import ClusterLayout, ObservationLayout
from cpxt_hpc.toolchain import ciao_events, ciao_responses, ciao_sources
from cpxt_hpc.toolchain.base import FoundSources
from cpxt_hpc.toolchain.builtin import BuiltinToolchain, refuse_interleaved
from cpxt_hpc.toolchain.ciao_inputs import find_support_files, remove_old_working_folders
from cpxt_hpc.toolchain.ciao_products import must_be_made
from cpxt_hpc.toolchain.ciao_steps import Limits, Step, run_steps

logger = logging.getLogger(__name__)


def ciao_is_there() -> bool:
    """Whether ``ciao_contrib`` can be imported."""
    try:
        return importlib.util.find_spec("ciao_contrib.runtool") is not None
    except (ImportError, ValueError):
        return False


class CiaoToolchain(BuiltinToolchain):
    """Makes what is missing with CIAO.

    Parameters
    ----------
    limits : Limits
    vfaint_cleaning : bool
        chandra_repro's ``check_vf_pha``.
    tiles : bool
        Whether each tile of the CCDs gets an ARF of its own.
    """

    def __init__(self, limits: Limits, *, vfaint_cleaning: bool = False, tiles: bool = True) -> None:
        self.limits, self.vfaint_cleaning, self.tiles = limits, vfaint_cleaning, tiles

    def download(self, layout: ClusterLayout, obsids: Sequence[int]) -> bool:
        """Download observations with CIAO's ``download_chandra_obsids``; errors as of `download_observations`."""
        ciao_events.download_observations(layout, obsids, self.limits)
        return True

    def make_events(self, layout: ClusterLayout, obsids: Sequence[int], *, blank_sky: bool) -> None:
        """Reprocess what chandra_repro has not seen, and make the blank-sky files.

        Raises
        ------
        ToolError
            A tool failed, or left files that cannot be used.
        MissingInput, DataError, OutputError
            A file that the tools need is missing, cannot be read, or theirs cannot be written.
        """
        observations = [layout.observation(obsid) for obsid in obsids]
        for each in observations:
            remove_old_working_folders(each.tool_records)
        run_steps([step for each in observations for step in self._reprocessing(each)], self.limits)
        if blank_sky:
            steps = [ciao_events.blank_sky(each, self.locate_events(each)) for each in observations]
            run_steps([step for step in steps if must_be_made(step.product)], self.limits)

    def _reprocessing(self, observation: ObservationLayout) -> list[Step]:
        refuse_interleaved(observation.obsid, ciao_events.level_1_events(observation))
        if not ciao_events.level_1_events(observation):
            if not ciao_events.reprocessed_events(observation) and self._has_archived_events(observation):
                logger.warning(
                    "ObsID %d: no level-1 events in %s, so it cannot be reprocessed; the archive's level-2 events "
                    "are taken as they are", observation.obsid, observation.folder / "secondary",
                )  # fmt: skip
            return []
        step = ciao_events.reprocessing(observation, vfaint_cleaning=self.vfaint_cleaning)
        return [step] if must_be_made(step.product) else []

    def _has_archived_events(self, observation: ObservationLayout) -> bool:
        try:
            self.locate_events(observation)
        except MissingInput:
            return False
        return True

    def make_responses(self, layout: ClusterLayout, obsids: Sequence[int]) -> None:
        """ARF and RMF of every observation, and the ARFs of its tiles; errors as of `make_events`."""
        steps: list[Step] = []
        for observation in map(layout.observation, obsids):
            remove_old_working_folders(observation.tool_records)
            if self._responses_are_the_users(observation) or self._must_borrow(layout, obsids, observation):
                continue
            if not observation.clean_events.is_file():
                raise MissingInput(f"{observation.clean_events} is not there: responses need it. Run stage 2 first.")
            ciao_responses.make_response_region(layout, observation)
            whole, tiles = ciao_responses.response_steps(
                layout, observation, self.locate_events(observation), tiles=self.tiles
            )
            steps += [step for step in (whole, *tiles) if must_be_made(step.product)]
        if len(steps) > 1:
            logger.info("specextract: %d calls, %d at a time", len(steps), self.limits.processes)
        run_steps(steps, self.limits)

    def _responses_are_the_users(self, observation: ObservationLayout) -> bool:
        """Whether responses were handed in: the tiles' are then not made either."""
        if (observation.tool_records / "response.json").is_file():
            return False
        return any(observation.repro.glob(f"{observation.obsid}.[ar][rm]f*"))

    def _must_borrow(self, layout: ClusterLayout, obsids: Sequence[int], observation: ObservationLayout) -> bool:
        """Whether specextract lacks what it needs, and handed-in responses of another observation will do."""
        try:
            find_support_files(observation, self.locate_events(observation))
        except MissingInput as missing:
            try:
                self.locate_responses(layout, obsids)
            except MissingInput:
                raise missing from None
            logger.warning("%s Responses of another observation are taken.", missing)
            return True
        return False

    def find_sources(self, layout: ClusterLayout, obsids: Sequence[int]) -> FoundSources | None:
        """Point sources of the field by wavdetect; errors as of `make_events`.

        None, with a warning, where aspect solutions, bad pixels or masks are missing: data prepared without CIAO.
        """
        remove_old_working_folders(layout.tool_records)
        events = {obsid: self.locate_events(layout.observation(obsid)) for obsid in obsids}
        try:
            for obsid, path in events.items():
                find_support_files(layout.observation(obsid), path)
        except MissingInput as missing:
            logger.warning("%s Without it wavdetect cannot run: the program's own search is used.", missing)
            return None
        observations = ciao_sources.ccds_by_observation(layout, events)
        return ciao_sources.find_sources(layout, observations, self.limits)
