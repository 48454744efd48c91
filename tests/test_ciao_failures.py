"""CIAO's tools fail in every way: one clear error each, nothing half done is taken for good, and on it goes."""

import os
import re
import signal
import subprocess
import time

import pytest
from astropy.io import fits
from ciao_observatory import misbehave, new_cluster, stand_in_is_here
from step_clusters import BIN

from cpxt_hpc.cli import prep
from cpxt_hpc.errors import MissingInput, ToolError
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.toolchain.choice import choose_toolchain

pytestmark = [stand_in_is_here(), pytest.mark.usefixtures("process_as_before")]


def prepare(layout, *words):
    return prep.main([str(layout.ini), "--auto", "--num_cpus", "1", "--quiet", *words])


def make(layout, tool):
    """What stages 1 and 3 ask the toolchain for, and no more."""
    toolchain = choose_toolchain(read_config(layout.ini))
    if tool == "specextract":
        toolchain.make_responses(layout, (90001, 90002))
    else:
        toolchain.make_events(layout, (90001, 90002), blank_sky=True)


def undo(layout, tool):
    """The cluster as it was before a tool ran for ObsID 90001."""
    names = {
        "chandra_repro": ["acisf90001_repro_evt2.fits"],
        "blanksky": ["blanksky_90001.fits"],
        "specextract": ["90001.arf", "90001.rmf"],
    }[tool]
    paths = [layout.observation(90001).repro / name for name in names]
    for path in paths:
        path.unlink()
    return paths


FAULTS = {
    "nothing": r"ended as if all were well, but what it left cannot be used: it left no ",
    "truncate": r"ended as if all were well, but what it left cannot be used: .*damaged or truncated",
    "complain": r"ended as if all were well, but said: # \w+ \(CIAO 4\.17\): ERROR: could not read the calibration",
    "die": r"failed",
}


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("tool", ["chandra_repro", "blanksky", "specextract"])
def test_a_tool_that_misbehaves_is_one_error_and_leaves_nothing(ciao_copy, monkeypatch, tool, how):
    layout = ciao_copy()
    missing = undo(layout, tool)
    misbehave(monkeypatch, tool, how)
    with pytest.raises(ToolError, match=rf"^ObsID 90001: {tool} \(CIAO\) {FAULTS[how]}") as caught:
        make(layout, tool)
    assert f"Its log, {layout.observation(90001).tool_records}" in str(caught.value)
    assert not any(path.exists() for path in missing)
    assert list(layout.folder.rglob(".call-*")) == []
    monkeypatch.delenv("CIAO_MISBEHAVE")
    make(layout, tool)
    assert all(path.exists() for path in missing)


def test_a_failed_tools_last_words_are_in_the_message(ciao_copy, monkeypatch, capfd):
    layout = ciao_copy()
    undo(layout, "blanksky")
    monkeypatch.setenv("STUB_FAIL", "blanksky=There is no available blank-sky map")
    assert prepare(layout) == 3
    message = capfd.readouterr().err
    assert "ObsID 90001: blanksky (CIAO) failed. Its log, " in message
    assert message.rstrip().endswith("# blanksky (stub): ERROR There is no available blank-sky map")


@pytest.mark.parametrize("tool", ["merge_obs", "wavdetect"])
@pytest.mark.parametrize("how", ["nothing", "truncate"])
def test_a_failed_search_for_sources_leaves_nothing(ciao_copy, monkeypatch, tool, how):
    layout = ciao_copy()
    for path in layout.tool_records.glob("*.json"):
        path.unlink()
        for made in layout.tool_records.glob("broad_*"):
            made.unlink()
        (layout.tool_records / "wavdetect.reg").unlink(missing_ok=True)
    misbehave(monkeypatch, tool, how)
    with pytest.raises(ToolError, match=rf"^a: {tool} \(CIAO\) ended as if all were well, but what it left cannot be"):
        choose_toolchain(read_config(layout.ini)).find_sources(layout, (90001, 90002))
    assert not (layout.tool_records / "wavdetect.reg").exists()


def test_a_tool_that_is_not_installed_is_named(ciao_copy, started, capfd):
    layout = ciao_copy()
    undo(layout, "blanksky")
    tool = started.folder / "bin" / "blanksky"
    tool.rename(tool.with_name("elsewhere"))
    try:
        assert prepare(layout) == 3
    finally:
        tool.with_name("elsewhere").rename(tool)
    assert re.search(r"blanksky \(CIAO\) failed.*FileNotFoundError.*blanksky", capfd.readouterr().err, re.DOTALL)


def test_a_ciao_that_cannot_be_imported_is_one_error(ciao_copy, monkeypatch, capfd):
    layout = ciao_copy()
    undo(layout, "blanksky")
    monkeypatch.delenv("CIAO_TOOLS_JSON")
    assert prepare(layout) == 3
    message = capfd.readouterr().err
    assert "found no working CIAO: start it (conda activate, or . ciao.sh), or use --toolchain builtin" in message
    assert "ciao_contrib.runtool cannot be imported: KeyError" in message


def test_a_tool_that_hangs_is_ended_at_the_time_limit(ciao_copy, monkeypatch, capfd, tmp_path):
    layout = ciao_copy()
    undo(layout, "blanksky")
    text = layout.ini.read_text()
    layout.ini.write_text(text.replace("time_limit_h = 24", "time_limit_h = 0.0005"))
    assert layout.ini.read_text() != text
    misbehave(monkeypatch, "blanksky", "hang", sign=tmp_path / "sign")
    assert prepare(layout) == 3
    assert "took longer than 0.0005 h ([tools] time_limit_h) and was ended" in capfd.readouterr().err
    sign = tmp_path / "sign"
    if sign.is_file() and sign.read_text():  # on a busy machine it may have been ended before it began
        assert_ends(int(sign.read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_tools_end_with_the_program_and_the_stage_goes_on(ciao_copy, monkeypatch, tmp_path, number):
    layout = ciao_copy()
    (missing,) = undo(layout, "blanksky")
    sign = tmp_path / "sign"
    misbehave(monkeypatch, "blanksky", "hang", sign=sign)
    program = subprocess.Popen(
        [str(BIN / "cpxt-prep"), str(layout.ini)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not (sign.is_file() and sign.read_text()):
        assert program.poll() is None, program.stderr.read()
        time.sleep(0.02)
    program.send_signal(number)
    program.communicate()
    assert program.returncode == (75 if number == signal.SIGTERM else -number)
    assert_ends(int(sign.read_text()))
    assert not missing.exists()
    monkeypatch.delenv("CIAO_MISBEHAVE")
    make(layout, "blanksky")
    assert missing.exists()
    assert list(layout.folder.rglob(".call-*")) == []


def assert_ends(process):
    """Wait until a process is gone (a zombie is: nobody here is its parent)."""
    for _ in range(3000):
        try:
            with open(f"/proc/{process}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except FileNotFoundError:
            return
        time.sleep(0.02)
    pytest.fail(f"process {process} still runs")


def test_one_failed_observation_leaves_what_the_other_has(tmp_path, started, monkeypatch, capfd):
    layout = new_cluster(tmp_path, (90001, 90002))
    monkeypatch.setenv("STUB_FAIL", "blanksky~90002=no calibration")
    assert prepare(layout, "--stage", "1") == 3
    assert "ObsID 90002: blanksky (CIAO) failed" in capfd.readouterr().err
    assert (layout.observation(90001).repro / "blanksky_90001.fits").is_file()
    n_calls = len(started.calls())
    monkeypatch.delenv("STUB_FAIL")
    make(layout, "blanksky")
    assert [call["tool"] for call in started.calls()[n_calls:]] == ["blanksky"]


def test_an_observation_that_chandra_repro_skips_is_an_error(ciao_copy, capfd):
    # It ends well and says "Skipping it" where there is not exactly one level-1 file.
    layout = ciao_copy()
    undo(layout, "chandra_repro")
    first = next((layout.observation(90001).folder / "secondary").glob("*_evt1.fits"))
    first.with_name("acisf90001_001N001_evt1.fits").write_bytes(first.read_bytes())
    assert prepare(layout) == 3
    message = capfd.readouterr().err
    assert (
        "chandra_repro (CIAO) ended as if all were well, but" in message and "it left no level-2 event file" in message
    )
    assert "Unable to locate level=1 event file" in message


def test_a_missing_download_is_an_error_and_is_tried_again(tmp_path, started, monkeypatch, capfd):
    layout = new_cluster(tmp_path, (90001,))
    monkeypatch.setenv("STUB_FAIL", "download_chandra_obsid=no network")
    assert prepare(layout, "--stage", "1") == 3
    message = capfd.readouterr().err
    assert "download of ObsID 90001 (CIAO) failed" in message and "no network" in message
    assert not layout.observation(90001).primary.exists()
    monkeypatch.delenv("STUB_FAIL")
    choose_toolchain(read_config(layout.ini)).download(layout, (90001,))
    assert list(layout.observation(90001).primary.glob("*_evt2.fits"))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("pcadf*_asol1.fits", r"ObsID 90001 has no aspect solution: looked for pcadf90001_000N001_asol1\.fits and pc"),
        ("*_bpix1.fits", r"ObsID 90001 has no bad-pixel file: looked for acisf90001_repro_bpix1\.fits and"),
        ("*_msk1.fits", r"ObsID 90001 has no mask file: looked for acisf90001_000N001_msk1\.fits and"),
    ],
)
def test_support_files_that_are_missing_are_named(ciao_copy, pattern, message):
    layout = ciao_copy()
    undo(layout, "specextract")
    layout.observation(90002).repro.joinpath("90002.arf").unlink()
    layout.observation(90002).repro.joinpath("90002.rmf").unlink()
    for path in layout.observation(90001).folder.rglob(pattern):
        path.unlink()
    with pytest.raises(MissingInput, match=message):
        make(layout, "specextract")


def test_ciao_is_asked_for_where_it_is_not(tmp_path, capfd):
    layout = new_cluster(tmp_path, (90001,))
    assert prepare(layout, "--toolchain", "ciao") == 3
    assert "toolchain ciao: Python cannot import ciao_contrib. Start CIAO" in capfd.readouterr().err
    text = layout.ini.read_text()
    layout.ini.write_text(text.replace("toolchain = auto", "toolchain = ciao"))
    assert layout.ini.read_text() != text
    assert prepare(layout) == 3
    assert "cannot import ciao_contrib" in capfd.readouterr().err


def test_a_file_that_came_broken_is_fetched_anew_and_the_others_are_kept(tmp_path, started):
    layout = new_cluster(tmp_path, (90001,))
    room = layout.folder / ".download_ciao"
    toolchain = choose_toolchain(read_config(layout.ini))
    tool = started.folder / "bin" / "download_chandra_obsid"
    (started.folder / "stubs" / tool.name).symlink_to("../libexec/ciao_stub")
    target = os.readlink(tool)
    tool.unlink()
    tool.write_text(
        f'#!/bin/sh\n{started.folder}/stubs/{tool.name} "$@" && truncate -s 2000 90001/primary/*_bpix1.fits\n'
    )
    tool.chmod(0o755)
    try:
        with pytest.raises(
            ToolError, match=r"download of ObsID 90001 \(CIAO\) ended as if all were well, but: .*bpix1"
        ):
            toolchain.download(layout, (90001,))
        assert not list(room.glob("90001/primary/*_bpix1.fits")) and list(room.glob("90001/primary/*_evt2.fits"))
        assert not layout.observation(90001).primary.exists()
    finally:
        tool.unlink()
        tool.symlink_to(target)
    toolchain.download(layout, (90001,))
    assert list(layout.observation(90001).primary.glob("*_bpix1.fits")) and not room.exists()


def test_a_search_that_was_broken_off_goes_on_with_the_images_that_are_there(ciao_copy, started):
    layout = ciao_copy()
    (layout.tool_records / "wavdetect.reg").unlink()
    toolchain = choose_toolchain(read_config(layout.ini))
    assert len(toolchain.find_sources(layout, (90001, 90002)).shapes) == 2
    assert [call["tool"] for call in started.calls()] == ["wavdetect"]


def without_scale(path):
    with fits.open(path, mode="update") as hdus:
        del hdus["EVENTS"].header["BKGSCAL2"]


def with_zero_scale(path):
    fits.setval(path, "BKGSCAL2", value=0.0, extname="EVENTS")


def of_another_observation(path):
    fits.setval(path, "OBS_ID", value="90002", extname="EVENTS")


def without_area(path):
    with fits.open(path, mode="update") as hdus:
        hdus["SPECRESP"].data["SPECRESP"] = 0.0


def of_other_ccds(path):
    with fits.open(path, mode="update") as hdus:
        hdus["EVENTS"].data["ccd_id"] = 6
        hdus["EVENTS"].header["BKGSCAL6"] = 1.0


@pytest.mark.parametrize(
    ("tool", "name", "spoil", "message"),
    [
        ("chandra_repro", "evt2.fits", of_another_observation, r"holds ObsID 90002, expected 90001"),
        ("blanksky", "blanksky.fits", without_scale, r"BKGSCAL2 = None; expected a number above 0 for each CCD"),
        ("blanksky", "blanksky.fits", with_zero_scale, r"BKGSCAL2 = 0\.0; expected a number above 0"),
        ("blanksky", "blanksky.fits", of_other_ccds, r"has events on CCD \(6,\) only; expected some of \[0, 1, 2, 3\]"),
        ("specextract", "response.arf", without_area, r"SPECRESP runs from 0 to 0 cm\^2"),
    ],
)
def test_whole_files_that_hold_the_wrong_thing_are_refused(ciao_copy, started, tool, name, spoil, message):
    layout = ciao_copy()
    missing = undo(layout, tool)
    behind = [folder / name for folder in (started.folder / "real").iterdir()]
    kept = {path: path.read_bytes() for path in behind}
    try:
        for path in behind:
            spoil(path)
        with pytest.raises(ToolError, match=rf"ObsID 90001: {tool} \(CIAO\) ended as if all were well, but.*{message}"):
            make(layout, tool)
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    assert not any(path.exists() for path in missing)
