"""One step with CIAO: link the inputs, make the call, check what it left, move that to its final names."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cpxt_hpc.errors import DataError, MissingInput, ToolError
from cpxt_hpc.io.fits_files import open_fits
from cpxt_hpc.toolchain.ciao_inputs import link_inputs, working_folder
from cpxt_hpc.toolchain.ciao_process import ToolCall, failure_message, run_all, run_call
from cpxt_hpc.toolchain.ciao_products import Product, install, note_made, note_unfinished

logger = logging.getLogger(__name__)

ONE_IN_MEMORY = threading.Lock()
"""Held while a step has an event file in memory: one observation's at a time, however many calls run."""

Job = Callable[[threading.Event], None]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What calls may take.

    Attributes
    ----------
    processes : int
        Calls at the same time.
    time_limit_s : float
        Of each call.
    """

    processes: int = 1
    time_limit_s: float = 86400.0


@dataclasses.dataclass(frozen=True)
class Step:
    """A call and what becomes of its outputs.

    Attributes
    ----------
    product : Product
    name : str
        A key of `cpxt_hpc.toolchain.ciao_calls.CALLS`.
    title : str
        For messages: ``ObsID 7: blanksky``.
    inputs : callable
        Links of the working folder: name, file. Called when the step runs, so that nothing is looked for, or made,
        for a step that is up to date.
    arguments : callable
        Arguments of the call; given the working folder.
    collect : callable
        Checks the outputs in the working folder and tells where each goes, the one that shows that all are there
        last; raises `DataError` or `MissingInput` where one cannot be used.
    """

    product: Product
    name: str
    title: str
    inputs: Callable[[Path], Mapping[str, Path]]
    arguments: Callable[[Path], dict[str, object]]
    collect: Callable[[Path], Mapping[Path, Path]]


def job_of(step: Step, limits: Limits) -> Job:
    """What `run_steps` runs for a step."""

    def job(stop: threading.Event) -> None:
        started = time.monotonic()
        record = step.product.record
        with working_folder(record.parent) as folder:
            link_inputs(folder, step.inputs(folder))
            call = ToolCall(step.name, step.arguments(folder), step.title, record.with_suffix(".log"))
            logger.info("%s (CIAO); its log: %s", step.title, call.log)
            run_call(call, folder, limits.time_limit_s, stop)
            try:
                outputs = step.collect(folder)
            except (DataError, MissingInput) as error:
                reason = str(error).replace(f"{folder}/", "")
                raise ToolError(
                    failure_message(call, f"ended as if all were well, but what it left cannot be used: {reason}")
                ) from error
            note_unfinished(step.product)
            install(outputs)
        note_made(dataclasses.replace(step.product, outputs=tuple(outputs)))
        logger.info("%s: done in %.0f s", step.title, time.monotonic() - started)

    return job


def run_steps(steps: Sequence[Step], limits: Limits) -> None:
    """Run steps beside each other.

    Raises
    ------
    ToolError, MissingInput, DataError, OutputError
        Of the first step that fails; the others are ended. What is finished stays.
    """
    run_all([job_of(step, limits) for step in steps], limits.processes)


def linked(path: Path, stem: str) -> str:
    """Name of the link to a file: a plain stem, with the file's ending, which tells CIAO's tools what it is."""
    return stem + "".join(suffix for suffix in (".fits", ".gz") if suffix in path.name[-8:])


def ccd_filter(ccds: Sequence[int]) -> str:
    """Filter of events by CCD, ranges where it can: ``[ccd_id=0:3]``; commas part the entries of CIAO's lists."""
    ranges: list[list[int]] = []
    for ccd in sorted(ccds):
        if ranges and ccd == ranges[-1][1] + 1:
            ranges[-1][1] = ccd
        else:
            ranges.append([ccd, ccd])
    return f"[ccd_id={','.join(str(low) if low == high else f'{low}:{high}' for low, high in ranges)}]"


def the_one(folder: Path, pattern: str, what: str) -> Path:
    """The only file of a pattern that a tool should have left.

    Raises
    ------
    MissingInput
        There is none, or there are several.
    """
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise MissingInput(f"it left {len(found) or 'no'} {what} ({pattern}), expected one")
    return found[0]


def check_blocks(path: Path, what: str, word: str) -> None:
    """Look whether a FITS file can be read whole and has a block whose name begins with a word.

    Raises
    ------
    MissingInput, DataError
        It has not.
    """
    with open_fits(path, what) as hdus:
        names = [block.name.upper() for block in hdus]
        for block in hdus:
            _ = block.data
    if not any(name.startswith(word) for name in names):
        raise DataError(f"{path}: has no block {word} ({', '.join(filter(None, names[1:])) or 'none at all'})")
