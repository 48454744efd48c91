"""With CIAO: download, chandra_repro and blanksky."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from cpxt_hpc.errors import DataError, MissingInput, OutputError, ToolError
from cpxt_hpc.io.atomic import write_text
from cpxt_hpc.io.events import read_events
from cpxt_hpc.io.fits_files import open_fits
from cpxt_hpc.layout import ClusterLayout, ObservationLayout
from cpxt_hpc.science.detector import used_ccds
from cpxt_hpc.toolchain.ciao_inputs import find_support_files
from cpxt_hpc.toolchain.ciao_process import ToolCall, failure_message, run_call
from cpxt_hpc.toolchain.ciao_products import Product
from cpxt_hpc.toolchain.ciao_steps import ONE_IN_MEMORY, Limits, Step, ccd_filter, check_blocks, linked, the_one


def download_observations(layout: ClusterLayout, obsids: Sequence[int], limits: Limits) -> None:
    """Download observations with CIAO's own program.

    They arrive in ``.download_ciao``, where a broken download goes on the next time, and move into place when all
    files of all ObsIDs can be read.

    Raises
    ------
    ToolError
        The program failed, or left files that cannot be used.
    OutputError
        The files cannot be written.
    """
    room = layout.folder / ".download_ciao"
    names = ", ".join(map(str, obsids))
    call = ToolCall(
        "download", {"obsids": list(obsids)}, f"download of ObsID {names}", layout.tool_records / "download.log"
    )
    try:
        room.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{room}: cannot be made ({error.strerror}). Get write permission.") from error
    run_call(call, room, limits.time_limit_s, threading.Event())
    try:
        for obsid in obsids:
            if not any((room / str(obsid)).glob("*/*_evt[12].fits*")):
                raise MissingInput(f"it left no event file of ObsID {obsid}")
            for path in sorted((room / str(obsid)).rglob("*.fits*")):
                _remove_where_broken(path)
    except (DataError, MissingInput) as error:
        raise ToolError(failure_message(call, f"ended as if all were well, but: {error}")) from error
    try:
        for obsid in obsids:
            # Events last: an ObsID with events counts as there.
            for path in sorted((room / str(obsid)).rglob("*"), key=lambda path: "_evt2." in path.name):
                if path.is_file():
                    final = layout.observation(obsid).folder / path.relative_to(room / str(obsid))
                    final.parent.mkdir(parents=True, exist_ok=True)
                    path.replace(final)
        shutil.rmtree(room)
    except OSError as error:
        raise OutputError(f"{layout.folder}: cannot be written ({error.strerror}). Get write permission.") from error


def _remove_where_broken(path: Path) -> None:
    """Look whether a downloaded file can be read; one that cannot goes, so that the next download brings it anew."""
    try:
        with open_fits(path, "file of the archive") as hdus:
            len(hdus)
    except DataError:
        path.unlink()
        raise


def level_1_events(observation: ObservationLayout) -> list[Path]:
    """Level-1 event files of the archive."""
    folder = observation.folder / "secondary"
    return sorted([*folder.glob("*_evt1.fits"), *folder.glob("*_evt1.fits.gz")])


def reprocessed_events(observation: ObservationLayout) -> list[Path]:
    """Level-2 event files of chandra_repro."""
    return sorted(
        [*observation.repro.glob("acisf*_repro_evt2.fits"), *observation.repro.glob("acisf*_repro_evt2.fits.gz")]
    )


def reprocessing(observation: ObservationLayout, *, vfaint_cleaning: bool) -> Step:
    """chandra_repro on what the archive has of an observation."""
    found = reprocessed_events(observation)
    product = Product(
        observation.tool_records / "chandra_repro.json",
        tuple(found) or (observation.repro / f"acisf{observation.obsid:05d}_repro_evt2.fits",),
        tuple(level_1_events(observation)),
        {"check_vf_pha": str(vfaint_cleaning)},
    )

    def inputs(folder: Path) -> Mapping[str, Path]:
        # Links one by one: chandra_repro unpacks .gz files where they lie and removes the packed ones.
        return {
            f"in/{name}/{path.name}": path
            for name in ("primary", "secondary")
            for path in sorted((observation.folder / name).glob("*"))
            if not path.name.startswith(".")
        }

    def collect(folder: Path) -> Mapping[Path, Path]:
        out = folder / "out"
        events = the_one(out, "*_repro_evt2.fits", "level-2 event file")
        with ONE_IN_MEMORY:
            read_events(events, obsid=observation.obsid)
        check_blocks(the_one(out, "*_repro_bpix1.fits", "bad-pixel file"), "bad-pixel file", "BADPIX")
        aspect = sorted(out.glob("pcadf*_repro_asol1.fits")) or sorted(out.glob("pcadf*_asol1.fits"))
        if not aspect:
            raise MissingInput("it left no aspect solution (pcadf*_asol1.fits)")
        for path in aspect:
            check_blocks(path, "aspect solution", "")
        for listed in out.glob("*_asol1.lis"):
            # Its paths end in the working folder.
            write_text(listed, "".join(f"{path.name}\n" for path in aspect))
        files = sorted((path for path in out.iterdir() if path.is_file()), key=lambda path: path == events)
        return {observation.repro / path.name: path for path in files}

    return Step(
        product, "reprocess", f"ObsID {observation.obsid}: chandra_repro", inputs,
        lambda folder: {"indir": "in", "outdir": str(folder / "out"), "check_vf_pha": vfaint_cleaning}, collect,
    )  # fmt: skip


def blank_sky(observation: ObservationLayout, events: Path) -> Step:
    """The blank-sky events of the CCDs that an observation uses."""
    final = observation.repro / f"blanksky_{observation.obsid}.fits"
    product = Product(observation.tool_records / "blanksky.json", (final,), (events,), {"weight_method": "particle"})
    name = linked(events, "evt2")
    ccds: list[int] = []
    aspect: list[str] = []

    def inputs(folder: Path) -> Mapping[str, Path]:
        with ONE_IN_MEMORY:
            ccds.extend(used_ccds(read_events(events, obsid=observation.obsid)))
        solutions = find_support_files(observation, events).aspect
        aspect.extend(path.name for path in solutions)
        return {name: events} | {path.name: path for path in solutions}

    def arguments(folder: Path) -> dict[str, object]:
        return {
            "evtfile": name + ccd_filter(ccds),
            "outfile": "blanksky.fits",
            "asolfile": ",".join(aspect),
            "seed": observation.obsid,
            "tmpdir": str(folder),
        }

    def collect(folder: Path) -> Mapping[Path, Path]:
        made = the_one(folder, "blanksky.fits", "blank-sky file")
        with ONE_IN_MEMORY:
            found = read_events(made, obsid=observation.obsid, blank_sky=True).ccds
        with open_fits(made, "blank-sky file") as hdus:
            scales = {ccd: hdus["EVENTS"].header.get(f"BKGSCAL{ccd}") for ccd in found}
        wrong = [f"BKGSCAL{ccd} = {value}" for ccd, value in scales.items() if not _is_scale(value)]
        if wrong:
            raise DataError(f"blanksky.fits: {', '.join(wrong)}; expected a number above 0 for each CCD")
        if not set(found) & set(ccds):
            raise DataError(f"blanksky.fits: has events on CCD {found} only; expected some of {ccds}")
        return {final: made}

    return Step(product, "blank_sky", f"ObsID {observation.obsid}: blanksky", inputs, arguments, collect)


def _is_scale(value: object) -> bool:
    return isinstance(value, (int, float)) and 0.0 < value < float("inf")
