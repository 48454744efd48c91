"""Stages run in order, once, and again only where something changed."""

import dataclasses
import fcntl
import json
import logging
import os
import shutil

import pytest

from cpxt_hpc.errors import ActionNeeded, CheckpointHeld, ConfigError, MissingInput, OutputError, ToolError
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.stages import state as state_module
from cpxt_hpc.stages.base import RegionRequest, Stage, StageContext
from cpxt_hpc.stages.driver import run_stages
from cpxt_hpc.stages.state import State

INI = """\
[cluster]
name = A
observation_ids = 1  ; kept
redshift = 0.1
abundance = 0.3
hydrogen_column_density = 0.04
"""


class Kitchen:
    """Three stages on small text files: raw -> image -> clean (with a region file) -> list."""

    def __init__(self, folder):
        self.folder = folder
        self.ran = []
        (folder / "cluster.ini").write_text(INI)
        (folder / "raw.txt").write_text("photons")

    def at(self, *names):
        return lambda context: [context.layout.folder / name for name in names]

    def step(self, name, source, target, key):
        def run(context):
            self.ran.append(name)
            folder = context.layout.folder
            section, _, setting = key.partition(".")
            value = getattr(getattr(context.config, section), setting)
            text = (folder / source).read_text()
            (folder / target).write_text(f"{name}({text},{value})")

        return run

    def stage(self, number, name, source, target, key, **more):
        return Stage(
            number=number,
            name=name,
            summary=f"Do {name}.",
            needs=self.at(source),
            makes=self.at(target),
            settings=(key,),
            run=self.step(name, source, target, key),
            **more,
        )

    def make_region(self, context):
        image = (context.layout.folder / "image.txt").read_text()
        (context.layout.folder / "sources.reg").write_text(f"made from {image}")

    @property
    def stages(self):
        region = RegionRequest(
            find=lambda context: next((p for p in self.at("sources.reg")(context) if p.is_file()), None),
            target=lambda context: self.at("sources.reg")(context)[0],
            image=lambda context: self.at("image.txt")(context)[0],
            what="Circles around the point sources.",
            make=self.make_region,
        )
        return (
            self.stage(1, "merge", "raw.txt", "image.txt", "cluster.observation_ids"),
            self.stage(2, "clean", "image.txt", "clean.txt", "clean.nsigma", regions=(region,)),
            self.stage(5, "bin", "clean.txt", "list.txt", "cluster.signal_to_noise"),
        )

    def context(self, folder=None):
        config = read_config((folder or self.folder) / "cluster.ini")
        return StageContext(config, ClusterLayout(config.path.parent, config.name), 1)

    def prepare(self, folder=None, stages=None, **options):
        """Names of the stages that ran."""
        self.ran.clear()
        options.setdefault("auto", True)
        outcome = run_stages(self.context(folder), stages or self.stages, **options)
        assert outcome.done == tuple(self.ran)
        return list(self.ran)

    def set(self, section, line):
        path = self.folder / "cluster.ini"
        path.write_text(path.read_text() + f"[{section}]\n{line}\n")


@pytest.fixture
def kitchen(tmp_path):
    folder = tmp_path / "A"
    folder.mkdir()
    return Kitchen(folder)


def test_finished_stages_are_not_done_again(kitchen):
    assert kitchen.prepare() == ["merge", "clean", "bin"]
    stamp = (kitchen.folder / "list.txt").stat().st_mtime_ns
    assert kitchen.prepare() == []
    assert (kitchen.folder / "list.txt").stat().st_mtime_ns == stamp


def test_a_changed_setting_redoes_its_stage_and_what_depends_on_it(kitchen, caplog):
    kitchen.prepare()
    kitchen.set("clean", "nsigma = 4")
    with caplog.at_level(logging.INFO, logger="cpxt_hpc"):
        assert kitchen.prepare() == ["clean", "bin"]
    assert "[clean] nsigma was 3, is 4" in caplog.text
    assert "stage 1 (merge): up to date" in caplog.text


def test_a_setting_of_the_last_stage_redoes_it_alone(kitchen):
    kitchen.prepare()
    path = kitchen.folder / "cluster.ini"
    path.write_text(path.read_text().replace("redshift", "signal_to_noise = 30\nredshift"))
    assert kitchen.prepare() == ["bin"]


def test_a_setting_that_no_stage_names_redoes_nothing(kitchen):
    kitchen.prepare()
    kitchen.set("maps", "line_of_sight_mpc = 2")
    assert kitchen.prepare() == []


def test_a_changed_input_of_equal_size_is_noticed(kitchen):
    kitchen.prepare()
    raw = kitchen.folder / "raw.txt"
    before = raw.stat()
    raw.write_text("pho7ons")
    os.utime(raw, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert kitchen.prepare() == ["merge", "clean", "bin"]


def test_an_equal_product_ends_the_chain_of_reruns(kitchen):
    kitchen.prepare()
    assert kitchen.prepare(only=(1,)) == ["merge"]
    assert kitchen.prepare() == []


@pytest.mark.parametrize(("name", "expected"), [("clean.txt", ["clean"]), ("list.txt", ["bin"])])
def test_a_deleted_product_is_made_again(kitchen, name, expected):
    kitchen.prepare()
    (kitchen.folder / name).unlink()
    assert kitchen.prepare() == expected


def test_a_truncated_product_is_made_again(kitchen):
    kitchen.prepare()
    (kitchen.folder / "image.txt").write_text("torn")
    assert kitchen.prepare() == ["merge"]


def test_a_moved_or_copied_folder_needs_no_work(kitchen, tmp_path):
    kitchen.prepare()
    copied = tmp_path / "elsewhere" / "A"
    shutil.copytree(kitchen.folder, copied, copy_function=shutil.copy)  # new time stamps
    shutil.rmtree(kitchen.folder)
    assert kitchen.prepare(folder=copied) == []


def test_large_unchanged_files_are_not_read_again(kitchen, monkeypatch):
    monkeypatch.setattr(state_module, "SHORTCUT_ABOVE_BYTES", 0)
    kitchen.prepare()
    kitchen.prepare()  # products' digests are taken when a later stage first needs them

    def refuse(*arguments):
        raise AssertionError("read again")

    monkeypatch.setattr(state_module.hashlib, "file_digest", refuse)
    assert kitchen.prepare() == []


def test_only_the_stages_named_run_even_if_up_to_date(kitchen):
    kitchen.prepare()
    assert kitchen.prepare(only=(2,)) == ["clean"]
    assert kitchen.prepare(only=(1, 5)) == ["merge", "bin"]


def test_the_step_is_written_for_clusterpyxt_and_comments_stay(kitchen):
    kitchen.prepare(only=(1,))
    text = (kitchen.folder / "cluster.ini").read_text()
    assert read_config(kitchen.folder).cluster.last_step_completed == 1
    assert text == INI + "last_step_completed = 1\n"
    kitchen.prepare()
    assert read_config(kitchen.folder).cluster.last_step_completed == 5


def test_an_edit_during_the_run_survives(kitchen):
    first, *rest = kitchen.stages

    def run_and_edit(context):
        first.run(context)
        path = kitchen.folder / "cluster.ini"
        path.write_text(path.read_text() + "# edited meanwhile\n")

    kitchen.prepare(stages=(dataclasses.replace(first, run=run_and_edit), *rest))
    assert "# edited meanwhile" in (kitchen.folder / "cluster.ini").read_text()


def test_without_auto_a_person_is_told_what_to_draw_where_and_how(kitchen):
    with pytest.raises(ActionNeeded) as caught:
        kitchen.prepare(auto=False)
    message = str(caught.value)
    for part in (
        "stage 2 (clean)",
        "Circles around the point sources.",
        f"ds9 {kitchen.folder / 'image.txt'}",
        f"save as: {kitchen.folder / 'sources.reg'}",
        "--continue",
        "--auto",
    ):
        assert part in message
    assert kitchen.ran == ["merge"]
    (kitchen.folder / "sources.reg").write_text("circle(1,2,3)")
    assert kitchen.prepare(auto=False) == ["clean", "bin"]


def test_auto_keeps_a_region_file_that_a_person_drew(kitchen):
    (kitchen.folder / "sources.reg").write_text("circle(1,2,3)")
    kitchen.prepare()
    (kitchen.folder / "raw.txt").write_text("other photons")
    kitchen.prepare()
    assert (kitchen.folder / "sources.reg").read_text() == "circle(1,2,3)"


def test_auto_makes_its_own_region_file_again_where_the_image_changed(kitchen):
    kitchen.prepare()
    (kitchen.folder / "raw.txt").write_text("other photons")
    assert kitchen.prepare() == ["merge", "clean", "bin"]
    assert "other photons" in (kitchen.folder / "sources.reg").read_text()


def test_an_edited_automatic_region_file_belongs_to_the_person(kitchen):
    kitchen.prepare()
    (kitchen.folder / "sources.reg").write_text("edited")
    (kitchen.folder / "raw.txt").write_text("other photons")
    kitchen.prepare()
    assert (kitchen.folder / "sources.reg").read_text() == "edited"


def test_an_edited_region_file_redoes_the_stage(kitchen):
    kitchen.prepare()
    (kitchen.folder / "sources.reg").write_text("edited")
    assert kitchen.prepare(auto=False) == ["clean"]  # the toy's product does not depend on it


def test_a_missing_input_names_the_stage_that_makes_it(kitchen):
    kitchen.make_region = lambda context: (kitchen.folder / "sources.reg").write_text("x")
    with pytest.raises(MissingInput, match=r"stage 2 .* needs .*image.txt: not there. Run stage 1 \(merge\) first"):
        kitchen.prepare(only=(2,))


def test_a_missing_raw_file_is_asked_for(kitchen):
    (kitchen.folder / "raw.txt").unlink()
    with pytest.raises(MissingInput, match=r"raw\.txt: not there\. Bring the file"):
        kitchen.prepare()


def test_settings_are_demanded_by_the_stage_that_needs_them(kitchen):
    path = kitchen.folder / "cluster.ini"
    path.write_text(INI.replace("redshift = 0.1\n", "").replace("abundance = 0.3\n", ""))
    with pytest.raises(ConfigError, match=r"stage 5 \(bin\) needs redshift, abundance in \[cluster\]: not set"):
        kitchen.prepare()
    assert kitchen.ran == ["merge", "clean"]


def test_a_failed_stage_is_not_taken_for_done(kitchen):
    kitchen.prepare()
    first, second, third = kitchen.stages

    def fail_half_way(context):
        second.run(context)
        raise ToolError("broke")

    kitchen.set("clean", "nsigma = 4")
    with pytest.raises(ToolError, match="broke"):
        kitchen.prepare(stages=(first, dataclasses.replace(second, run=fail_half_way), third))
    path = kitchen.folder / "cluster.ini"
    path.write_text(path.read_text().replace("nsigma = 4", "nsigma = 3"))  # as recorded by the last good run
    assert kitchen.prepare()[:1] == ["clean"]


def test_what_a_killed_run_left_half_written_is_removed(kitchen):
    left, other = kitchen.folder / ".image.txt.k3j2.tmp.txt", kitchen.folder / ".fits.h5.k3j2.tmp.h5"
    for path in (left, other):
        path.write_text("half a fi")
    kitchen.prepare()
    assert not left.exists()
    assert other.exists()  # a fit may be writing it at this moment


def test_a_stage_that_does_not_make_what_it_declares_is_found_out(kitchen):
    first = dataclasses.replace(kitchen.stages[0], run=lambda context: kitchen.ran.append("merge"))
    with pytest.raises(ToolError, match=r"stage 1 \(merge\) ended without making .*image.txt"):
        kitchen.prepare(stages=(first,))


def test_a_region_file_that_auto_did_not_make_is_found_out(kitchen):
    kitchen.make_region = lambda context: None
    with pytest.raises(ToolError, match=r"sources.reg was not made"):
        kitchen.prepare()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\x00",
        b"[]",
        b"null",
        b"{}",
        b'{"format": 99}',
        b'{"format": 1, "stages": 3}',
        b'{"format": 1, "files": {"a": [1]}, "stages": {}, "made_regions": {}}',
        b'{"format": 1, "files": {}, "stages": {"merge": {"settings": 1}}, "made_regions": {}}',
    ],
)
def test_a_corrupt_state_counts_as_none_with_a_warning(kitchen, caplog, content):
    kitchen.prepare()
    path = kitchen.folder / ".cpxt" / "state.json"
    path.write_bytes(content)
    assert kitchen.prepare() == ["merge", "clean", "bin"]
    assert "cannot be used" in caplog.text
    assert json.loads(path.read_text())["format"] == state_module.FORMAT


def test_a_state_cut_anywhere_never_ends_in_a_traceback(kitchen):
    kitchen.prepare()
    path = kitchen.folder / ".cpxt" / "state.json"
    whole = path.read_bytes()
    for length in range(0, len(whole) - 2, 37):
        path.write_bytes(whole[:length])
        assert State.load(kitchen.folder, path).stages == {}


def test_a_second_run_on_the_same_cluster_is_refused(kitchen):
    kitchen.prepare()
    with open(kitchen.folder / ".cpxt" / "prep.lock") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(CheckpointHeld, match=f"another cpxt-prep works here .process {os.getpid()}"):
            kitchen.prepare()
    assert kitchen.prepare() == []


def test_a_file_system_without_locks_only_warns(kitchen, monkeypatch, caplog):
    def no_locks(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert kitchen.prepare() == ["merge", "clean", "bin"]
    assert "has no locks" in caplog.text


def test_a_folder_that_cannot_be_written_is_an_output_error(kitchen):
    (kitchen.folder / ".cpxt").write_text("a file in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        kitchen.prepare()
