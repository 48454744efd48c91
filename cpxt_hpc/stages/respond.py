"""Stage 3: bring the responses of every observation and check that they can be used."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import DataError
from cpxt_hpc.io.atomic import replacing
from cpxt_hpc.io.ogip import read_responses
from cpxt_hpc.layout import ObservationLayout
from cpxt_hpc.science.response import N_PI_CHANNELS
from cpxt_hpc.stages.base import Stage, StageContext
from cpxt_hpc.stages.tiles import handed_in_tiles, laid_out_tiles
from cpxt_hpc.toolchain.base import ResponseFiles

logger = logging.getLogger(__name__)


def run(context: StageContext) -> None:
    """Check the responses and lay uncompressed copies beside the cleaned events."""
    for obsid, files in _located(context).items():
        if files.source_obsid != obsid:
            logger.warning(
                "ObsID %d has no responses of its own (%d.arf, %d.rmf in repro/): those of ObsID %d are taken.",
                obsid, obsid, obsid, files.source_obsid,
            )  # fmt: skip
        check_responses(files.arf, files.rmf)
        observation = context.layout.observation(obsid)
        copy_uncompressed(files.arf, observation.arf)
        copy_uncompressed(files.rmf, observation.rmf)
        logger.info("ObsID %d: responses %s, %s", obsid, files.arf.name, files.rmf.name)
        _lay_out_tiles(observation, files.rmf)


def _lay_out_tiles(observation: ObservationLayout, rmf: Path) -> None:
    """Lay copies of the tiles' ARFs and region files beside the cleaned events; what was handed in before goes."""
    for arf, region in laid_out_tiles(observation).values():
        arf.unlink()
        region.unlink(missing_ok=True)
    for arf, region in handed_in_tiles(observation).values():
        check_responses(arf, rmf)
        for source in (arf, region):
            copy_uncompressed(source, observation.analysis / "tiles" / source.name.removesuffix(".gz"))


def check_responses(arf: Path, rmf: Path) -> None:
    """Look whether an ARF and RMF are a pair for ACIS PI channels.

    Raises
    ------
    MissingInput, DataError
        As `read_responses`, and where the channels are not 1 to 1024.
    """
    _, redistribution = read_responses(arf, rmf)
    channel = redistribution.channel
    if not np.array_equal(channel, np.arange(1, N_PI_CHANNELS + 1)):
        raise DataError(
            f"{rmf}: its channels run from {channel[0]} to {channel[-1]}, expected 1 to {N_PI_CHANNELS}. "
            "Extract an RMF in PI channels (CIAO's mkacisrmf or specextract, not mkrmf)."
        )


def copy_uncompressed(source: Path, target: Path) -> None:
    """Copy a file, gzip'ed or not, as a plain one, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    content = source.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    with replacing(target) as temporary:
        temporary.write_bytes(content)


def _located(context: StageContext) -> dict[int, ResponseFiles]:
    return context.toolchain.locate_responses(context.layout, context.config.obsids)


def _fetch(context: StageContext) -> None:
    context.toolchain.make_responses(context.layout, context.config.obsids)


def _needs(context: StageContext) -> list[Path]:
    tiles = [path for each in _observations(context) for pair in handed_in_tiles(each).values() for path in pair]
    return [path for files in _located(context).values() for path in (files.arf, files.rmf)] + tiles


def _makes(context: StageContext) -> list[Path]:
    tiles = [
        each.analysis / "tiles" / path.name.removesuffix(".gz")
        for each in _observations(context)
        for pair in handed_in_tiles(each).values()
        for path in pair
    ]
    return [path for each in _observations(context) for path in (each.arf, each.rmf)] + tiles


def _observations(context: StageContext) -> list[ObservationLayout]:
    return [context.layout.observation(obsid) for obsid in context.config.obsids]


STAGE = Stage(
    number=3,
    name="respond",
    summary="bring the responses",
    needs=_needs,
    makes=_makes,
    settings=("cluster.observation_ids",),
    run=run,
    fetch=_fetch,
)
