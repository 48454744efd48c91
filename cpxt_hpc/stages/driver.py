"""Preprocessing as a story: merge, clean, respond, crop, bin, each only where something changed."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import logging
import os
import shlex
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cpxt_hpc.config import SECTIONS
from cpxt_hpc.errors import ActionNeeded, CheckpointHeld, MissingInput, OutputError, ToolError
from cpxt_hpc.io import atomic
from cpxt_hpc.io.ini import require, set_last_step_completed
from cpxt_hpc.io.ini_values import settings_of, value_text
from cpxt_hpc.stages.base import RegionRequest, Stage, StageContext
from cpxt_hpc.stages.drawing import ask_to_draw
from cpxt_hpc.stages.state import State

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PrepOutcome:
    """What a call of `run_stages` did: names of the stages run, and of those found up to date."""

    done: tuple[str, ...]
    skipped: tuple[str, ...]


def preprocessing_stages() -> tuple[Stage, ...]:
    """The five stages in their order."""
    from cpxt_hpc.stages import bin as binning
    from cpxt_hpc.stages import clean, crop, merge, respond

    return (merge.STAGE, clean.STAGE, respond.STAGE, crop.STAGE, binning.STAGE)


def run_stages(
    context: StageContext,
    stages: Sequence[Stage],
    *,
    only: Sequence[int] = (),
    auto: bool = False,
) -> PrepOutcome:
    """Run the stages that are not up to date, in their order.

    Parameters
    ----------
    context : StageContext
    stages : sequence of Stage
    only : sequence of int
        Run these stages, whether up to date or not, and no others; empty: all that need it.
    auto : bool
        Make region files that are not there, in place of asking for them.

    Raises
    ------
    ActionNeeded
        A person must draw a region file.
    CheckpointHeld
        Another process prepares this cluster.
    MissingInput, DataError, ConfigError, ToolError, OutputError
        As the stages raise them. Stages finished before stay finished.
    """
    done: list[str] = []
    skipped: list[str] = []
    layout = context.layout
    with _only_one(layout.state.parent / "prep.lock"):
        state = State.load(layout.folder, layout.state)
        step = context.config.cluster.last_step_completed
        for stage in stages:
            if only and stage.number not in only:
                continue
            if _bring_up_to_date(stage, context, state, stages, forced=bool(only), auto=auto):
                done.append(stage.name)
                step = stage.number
            else:
                skipped.append(stage.name)
                step = max(step, stage.number)
            set_last_step_completed(context.config.path, step)
        state.save()
    return PrepOutcome(tuple(done), tuple(skipped))


def _bring_up_to_date(
    stage: Stage, context: StageContext, state: State, stages: Sequence[Stage], *, forced: bool, auto: bool
) -> bool:
    """Run one stage where it is needed; whether it ran."""
    title = stage_title(stage)
    require(context.config, _demanded_settings(stage), title)
    if stage.fetch is not None:
        stage.fetch(context)
    region_files = _region_files(stage, context, state, auto=auto)
    needs = [*stage.needs(context), *region_files]
    _check_needs(stage, needs, context, stages)
    settings = {name: _setting_text(context, name) for name in stage.settings}
    inputs = state.digests(needs)
    reason = state.why_outdated(stage.name, settings, inputs, stage.makes(context))
    if reason is None and not forced:
        logger.info("%s: up to date", title)
        return False
    logger.info("%s: %s (%s)", title, stage.summary, reason or "as asked")
    start = time.monotonic()
    state.forget(stage.name)
    for path in stage.makes(context):
        atomic.remove_leftovers(path)
    stage.run(context)
    outputs = list(stage.makes(context))
    for path in outputs:
        if not path.is_file():
            raise ToolError(f"{title} ended without making {path}. This is a fault of the program: report it.")
    state.finish(stage.name, settings, inputs, outputs)
    logger.info("%s: done in %.1f s", title, time.monotonic() - start)
    return True


def stage_title(stage: Stage) -> str:
    """``stage 2 (clean)``: a stage as messages name it."""
    return f"stage {stage.number} ({stage.name})"


def _demanded_settings(stage: Stage) -> list[str]:
    return [
        f"{section}.{key}"
        for section in SECTIONS
        for key, field in settings_of(section).items()
        if field.metadata["needed_by"] == stage_title(stage)
    ]


def _setting_text(context: StageContext, name: str) -> str:
    section, _, key = name.partition(".")
    return value_text(getattr(getattr(context.config, section), key))


def _check_needs(stage: Stage, needs: Sequence[Path], context: StageContext, stages: Sequence[Stage]) -> None:
    missing = [path for path in needs if not path.is_file()]
    if not missing:
        return
    makers = [each for each in stages if each.number < stage.number and missing[0] in each.makes(context)]
    advice = (
        f"Run {stage_title(makers[0])} first: cpxt-prep {shlex.quote(str(context.config.path))}"
        if makers
        else "Bring the file, then run again."
    )
    names = ", ".join(str(path) for path in missing)
    raise MissingInput(f"{stage_title(stage)} needs {names}: not there. {advice}")


def _region_files(stage: Stage, context: StageContext, state: State, *, auto: bool) -> list[Path]:
    """Region files of a stage; made where allowed, else all that are missing asked for at once."""
    found: list[Path] = []
    missing: list[RegionRequest] = []
    for request in stage.regions:
        path = request.find(context)
        if auto and path is not None and state.is_stale_made_region(path, request.image(context)):
            logger.info("%s: made before from another image, is made again", path.name)
            path.unlink()
            path = request.find(context)
        if path is None and auto:
            path = _make_region_file(request, context, state)
        if path is None:
            missing.append(request)
        else:
            found.append(path)
    if missing:
        raise ActionNeeded(ask_to_draw(stage_title(stage), missing, context))
    return found


def _make_region_file(request: RegionRequest, context: StageContext, state: State) -> Path:
    request.make(context)
    path = request.find(context)
    if path is None:
        raise ToolError(f"{request.target(context)} was not made. This is a fault of the program: report it.")
    state.note_made_region(path, request.image(context))
    return path


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Hold a lock, so that no second process prepares the same cluster at the same time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (held open for as long as the lock)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}). Get write permission for the cluster's folder."
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                logger.warning("%s: this file system has no locks (%s); go on without", path, error.strerror)
            else:
                stream.seek(0)
                holder = stream.read().strip() or "unknown process"
                raise CheckpointHeld(
                    f"{path.parent.parent}: another cpxt-prep works here ({holder}). Wait for it, or stop it."
                ) from error
        stream.seek(0)
        stream.truncate()
        stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        stream.flush()
        yield
