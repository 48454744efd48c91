"""Before stage 1: download the observations that are not in place.

Files arrive in ``<obsid>/.download`` and move to their final names when all of an ObsID are whole: what stands in
``primary`` and ``secondary`` is finished.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from cpxt_hpc.config import ArchiveSection
from cpxt_hpc.errors import DataError, MissingInput, OutputError
from cpxt_hpc.io.archive import ArchiveFile, list_files
from cpxt_hpc.io.fits_check import check_fits
from cpxt_hpc.io.http_files import Patience, check_base_url, download, get_page
from cpxt_hpc.layout import ObservationLayout
from cpxt_hpc.stages.base import StageContext
from cpxt_hpc.stages.surroundings import batch_variable
from cpxt_hpc.toolchain.builtin import BuiltinToolchain

logger = logging.getLogger(__name__)

URL_VARIABLE = "CPXT_ARCHIVE_URL"
OFFLINE_VARIABLE = "CPXT_OFFLINE"
REPORT_EVERY_S = 10.0
CHECKS_THAT_FAIL = 2
"""Whole transfers of one file whose content turns out wrong, before it is given up."""
MOST_UNPACKED = 20
"""A gzip'ed file may unpack to this many times ``max_file_gb``; event files shrink to a third or a half."""


class Wanted(NamedTuple):
    """One file to be downloaded: where from, where it waits, and where it goes."""

    file: ArchiveFile
    waiting: Path
    final: Path


class Transfer:
    """What all threads of a download share: the request to stop, and bytes there for the report."""

    def __init__(self, settings: ArchiveSection, patience: Patience) -> None:
        self.max_bytes = int(settings.max_file_gb * 1e9)
        self.patience = patience
        self.stop = threading.Event()
        self.bytes_there: dict[Path, int] = {}

    def fetch(self, wanted: Wanted) -> int:
        """Bring one file, whole and verified, to its waiting place; number of HDUs with a checksum."""
        part = wanted.waiting.with_name(wanted.waiting.name + ".part")
        reason = None
        for _ in range(CHECKS_THAT_FAIL):
            download(
                wanted.file.url, part, self.patience, max_bytes=self.max_bytes, stop=self.stop,
                on_size=lambda size: self.bytes_there.__setitem__(wanted.waiting, size),
            )  # fmt: skip
            try:
                verified = check_fits(part, max_bytes=MOST_UNPACKED * self.max_bytes)
            except DataError as error:
                logger.warning("%s; it is fetched anew", error)
                part.unlink(missing_ok=True)
                reason = error
            else:
                os.replace(part, wanted.waiting)
                return verified
        raise DataError(
            f"{wanted.file.url}: came {CHECKS_THAT_FAIL} times and was never whole. The last time: {reason}"
        )


def fetch_observations(context: StageContext, *, patience: Patience | None = None) -> None:
    """Download the observations whose events are not in place; do nothing where they are.

    Parameters
    ----------
    context : StageContext
    patience : Patience, optional
        By default that of ``[archive] timeout_s``.

    Raises
    ------
    MissingInput
        Downloads are switched off or this is a batch job; the archive cannot be reached or lacks the ObsID.
    DataError
        What the archive sends cannot be used.
    ConfigError
        The archive's address is none.
    OutputError
        The files cannot be written.
    """
    absent = [each for each in map(context.layout.observation, context.config.obsids) if not is_in_place(each)]
    if not absent:
        return
    settings = context.config.archive
    _refuse_where_not_allowed(context, absent)
    if context.toolchain.download(context.layout, [each.obsid for each in absent]):
        return
    base_url = _base_url(settings)
    transfer = Transfer(settings, patience or Patience(settings.timeout_s))
    started = time.monotonic()
    wanted = [file for each in absent for file in _wanted_files(each, base_url, settings, transfer)]
    logger.info(
        "download of ObsID %s from %s: %d files", ", ".join(str(each.obsid) for each in absent), base_url, len(wanted)
    )
    _fetch_all(wanted, transfer, settings.connections)
    for each in absent:
        _move_in_place(each, [file for file in wanted if file.final.is_relative_to(each.folder)])
    total = sum(transfer.bytes_there.values())
    logger.info("download done: %.1f MB in %.0f s", total / 1e6, time.monotonic() - started)


def is_in_place(observation: ObservationLayout) -> bool:
    """Whether an observation's events are there and no download of it is unfinished."""
    try:
        events = BuiltinToolchain().locate_events(observation)
    except MissingInput:
        return False
    except DataError:
        return True  # several files: stage 1 says so
    return events.parent == observation.repro or not _waiting_room(observation).is_dir()


def _waiting_room(observation: ObservationLayout) -> Path:
    return observation.folder / ".download"


def _refuse_where_not_allowed(context: StageContext, absent: Sequence[ObservationLayout]) -> None:
    choice, job = context.config.archive.download, batch_variable()
    if os.environ.get(OFFLINE_VARIABLE):
        reason = f"${OFFLINE_VARIABLE} is set"
    elif choice == "never":
        reason = "[archive] download = never"
    elif choice == "auto" and job:
        command = f"cpxt-prep {shlex.quote(str(context.config.path))} --stage 1"
        reason = f"this is a batch job ({job} is set). Where there is a network, run: {command}"
    else:
        return
    try:
        BuiltinToolchain().locate_events(absent[0])
    except MissingInput as error:
        others = f" (so with ObsID {', '.join(str(each.obsid) for each in absent[1:])})" if absent[1:] else ""
        raise MissingInput(f"{error}{others} Nothing is downloaded: {reason}.") from None
    raise MissingInput(
        f"{_waiting_room(absent[0])}: an unfinished download. It is not continued: {reason}. Remove the folder to "
        "go on with what is there."
    )


def _base_url(settings: ArchiveSection) -> str:
    from_environment = os.environ.get(URL_VARIABLE)
    if from_environment:
        return check_base_url(from_environment, f"${URL_VARIABLE}")
    return check_base_url(settings.base_url, "[archive] base_url")


def _wanted_files(
    observation: ObservationLayout, base_url: str, settings: ArchiveSection, transfer: Transfer
) -> list[Wanted]:
    """Files of an ObsID that are not in place yet."""
    listed = list_files(
        lambda url: get_page(url, transfer.patience, transfer.stop), base_url, observation.obsid, settings.files
    )
    room = _waiting_room(observation)
    wanted = [
        Wanted(file, room / file.folder / file.name, observation.folder / file.folder / file.name) for file in listed
    ]
    return [each for each in wanted if not _exists(each.final)]


def _exists(path: Path) -> bool:
    """Whether a file is there, packed or not."""
    return path.is_file() or path.with_name(path.name.removesuffix(".gz")).is_file()


def _fetch_all(wanted: Sequence[Wanted], transfer: Transfer, connections: int) -> None:
    """Bring all files to the waiting place; the first error stops the rest."""
    there_before = {each.waiting: size for each in wanted if (size := _size_there(each.waiting))}
    transfer.bytes_there.update(there_before)
    started = reported = time.monotonic()
    with ThreadPoolExecutor(connections, thread_name_prefix="download") as pool:
        running = {pool.submit(transfer.fetch, each): each for each in wanted if not each.waiting.is_file()}
        done, left = len(wanted) - len(running), set(running)
        try:
            while left:
                finished, left = wait(left, timeout=1.0, return_when=FIRST_COMPLETED)
                for each in finished:
                    verified = each.result()
                    done += 1
                    logger.debug("%s: whole, %d checksums right", running[each].file.name, verified)
                now = time.monotonic()
                if now - reported >= REPORT_EVERY_S:
                    size = sum(transfer.bytes_there.copy().values())
                    rate = (size - sum(there_before.values())) / (now - started)
                    logger.info(
                        "download: %d of %d files, %.1f MB, %.1f MB/s", done, len(wanted), size / 1e6, rate / 1e6
                    )
                    reported = now
        except BaseException:
            transfer.stop.set()
            for each in left:
                each.cancel()
            raise


def _size_there(waiting: Path) -> int:
    part = waiting.with_name(waiting.name + ".part")
    return next((path.stat().st_size for path in (waiting, part) if path.is_file()), 0)


def _move_in_place(observation: ObservationLayout, wanted: Sequence[Wanted]) -> None:
    try:
        # Events last: until then an interrupted move is seen and finished.
        for each in sorted(wanted, key=lambda each: "_evt2." in each.file.name):
            each.final.parent.mkdir(parents=True, exist_ok=True)
            if not _exists(each.final):
                os.replace(each.waiting, each.final)
        if _waiting_room(observation).is_dir():
            shutil.rmtree(_waiting_room(observation))
    except OSError as error:
        raise OutputError(
            f"{observation.folder}: cannot be written ({error.strerror}). Get write permission, then run again."
        ) from error
