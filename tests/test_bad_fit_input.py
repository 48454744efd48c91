"""Bad input of ``cpxt-fit``, ``cpxt-maps``, ``cpxt-status``, ``cpxt-init``: one message, the documented exit code."""

from __future__ import annotations

import os
import shutil

import h5py
import numpy as np
import pytest
from spoiling import cut, edit_hdf5, ini_plus, ini_with, replace
from step_clusters import BINNED, FITTED, RAW, assert_refused, contents, run_process

from cpxt_hpc.io.checkpoint import Checkpoint
from cpxt_hpc.io.fit_input import read_fit_input
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.parallel.plan import fit_provenance


def fit_input_attribute(name, value):
    def spoil(layout):
        edit_hdf5(layout.fit_input, lambda file: file.attrs.__setitem__(name, value))

    return spoil


def external_link(file):
    del file["surface_brightness"]
    file["surface_brightness"] = h5py.ExternalLink("/etc/hostname", "/x")


def external_storage(file):
    values = file["surface_brightness"][()]
    del file["surface_brightness"]
    external = [("/etc/hostname", 0, values.nbytes)]
    file.create_dataset("surface_brightness", shape=values.shape, dtype=values.dtype, external=external)


def compressed_array(file):
    values = file["surface_brightness"][()]
    del file["surface_brightness"]
    file.create_dataset("surface_brightness", data=values, compression="gzip")


def flip_bit(file):
    file["observations/0000/channel"][7] ^= 1


def short_array(file):
    del file["regions/ix"]
    file["regions/ix"] = np.zeros(3, "<i4")


def foreign_checkpoint(layout):
    layout.fits.unlink()
    with h5py.File(layout.fits, "w") as file:
        file.attrs["format"] = "holiday pictures"


def command_list(text):
    """``--commands`` of this text; {line} stands for the list's own first command."""

    def words(layout):
        line = next(x for x in layout.commands.read_text().splitlines() if not x.startswith("#"))
        path = layout.acb / "piece.lis"
        path.write_bytes(text.replace("{line}", line).encode())
        return ["--commands", path]

    return words


def nothing(layout):
    pass


FIT_INPUT_CASES = [
    ("missing", lambda c: c.fit_input.unlink(), 3, r"fit_input.h5 does not exist. Run cpxt-prep up to stage 5"),
    ("empty", lambda c: replace(c.fit_input, b""), 3, "fit_input.h5 is truncated or no HDF5 file"),
    ("text", lambda c: replace(c.fit_input, b"hello" * 999), 3, "fit_input.h5 is truncated or no HDF5 file"),
    ("a folder", lambda c: (c.fit_input.unlink(), c.fit_input.mkdir()), 3, "fit_input.h5"),
    *((f"cut at {keep}", lambda c, keep=keep: cut(c.fit_input, keep), 3, r"fit_input.h5.*truncated.*--stage 5 again")
      for keep in (0.01, 0.2, 0.9, 0.999)),
    ("of another format", fit_input_attribute("format", "x"), 3, "format is 'x', expected 'cpxt_hpc fit input'"),
    ("of version 99", fit_input_attribute("version", 99), 3, "format version 99.*reads version 2"),
    ("of version text", fit_input_attribute("version", "one"), 3, "format version one"),
    ("without name", lambda c: edit_hdf5(c.fit_input, lambda f: f.attrs.__delitem__("name")), 3, "attribute name"),
    ("with a broken grid", fit_input_attribute("grid", "{"), 3, "attribute grid of / is not JSON"),
    ("with another grid", fit_input_attribute("grid", '{"nx": 3}'), 3, "grid is not described as expected"),
    ("with a grid of text", fit_input_attribute("grid", '"x"'), 3, "grid of / .*JSON dict"),
    ("with settings of text", fit_input_attribute("settings", '"x"'), 3, "settings of / .*JSON dict"),
    ("with abundance of text", fit_input_attribute("abundance", "x"), 3, "abundance of / is 'x', expected a num"),
    ("with an external link", lambda c: edit_hdf5(c.fit_input, external_link), 3, "is a link.*not followed"),
    ("with external storage", lambda c: edit_hdf5(c.fit_input, external_storage), 3, "another file; this is refused"),
    ("compressed", lambda c: edit_hdf5(c.fit_input, compressed_array), 3, "not one plain block"),
    ("without regions", lambda c: edit_hdf5(c.fit_input, lambda f: f.__delitem__("regions")), 3, "/regions is missing"),
    ("without observations",
     lambda c: edit_hdf5(c.fit_input, lambda f: [f["observations"].__delitem__(n) for n in list(f["observations"])]),
     3, "holds no observation"),
    ("of another shape", lambda c: edit_hdf5(c.fit_input, short_array), 3, "ix has the shape"),
]  # fmt: skip


@pytest.mark.parametrize("command", ["fit", "maps", "status"])
@pytest.mark.parametrize(
    ("what", "spoil", "code", "message"), FIT_INPUT_CASES, ids=[case[0] for case in FIT_INPUT_CASES]
)
def test_a_fit_input_is_refused(what, spoil, code, message, command, cluster, run):
    layout = cluster(FITTED)
    spoil(layout)
    before = contents(layout.folder)
    assert_refused(run(command, layout.ini), command, code, message)
    assert contents(layout.folder) == before


FIT_CASES = [
    # What is broken, the step done before, how, words behind cluster.ini (or a function of the layout), code, message.
    ("before prep", RAW, nothing, [], 3, "fit_input.h5 does not exist. Run cpxt-prep"),
    ("a flipped bit in the events", BINNED, lambda c: edit_hdf5(c.fit_input, flip_bit), [], 3,
     "array /observations/0000/channel does not match its checksum.*--stage 5"),
    ("region 0", BINNED, nothing, ["--region", 0], 2, "--region: 0: expected a number from 1 on"),
    ("region -1", BINNED, nothing, ["--region", -1], 2, "--region"),
    ("region 999999", BINNED, nothing, ["--region", 999999], 2, "--region 999999: demo_fit_input.h5 has no.*1 to 730"),
    ("region beyond all integers", BINNED, nothing, ["--region", "9" * 30], 2, "from 1 on"),
    ("resolution 4", BINNED, nothing, ["--resolution", 4], 2, "invalid choice: 4"),
    ("resolution text", BINNED, nothing, ["--resolution", "fine"], 2, "invalid int value"),
    ("zero processes", BINNED, nothing, ["--num_cpus", 0], 2, "expected 1 or more"),
    ("unknown option", BINNED, nothing, ["--resolutoin", 2], 2, "unrecognized arguments"),
    ("region and list", BINNED, nothing, ["--region", 1, "--commands", "x"], 2, "not allowed with"),
    ("list missing", BINNED, nothing, ["--commands", "/none.lis"], 3, "/none.lis: cannot be read"),
    ("own list missing", BINNED, lambda c: c.commands.unlink(), [], 3, "commands_demo.lis: cannot be read"),
    ("list with garbage", BINNED, nothing, command_list("{line}\nrm -rf ~\n"), 3, "line 2: 'rm -rf ~' names no region"),
    ("list with unknown region", BINNED, nothing, command_list("{line}\ncpxt-fit x --region 88888\n"), 3, "88888"),
    ("list with region x", BINNED, nothing, command_list("{line}\r\n\r\ncpxt-fit x --region x\r\n"), 3, "line 3"),
    ("list binary", BINNED, nothing, command_list("\0\1\2"), 3, "line 1"),
    ("region file missing", BINNED, nothing, ["--regions", "/none.reg"], 3, "/none.reg: cannot be read"),
    ("region file empty", BINNED, nothing, ["--regions", os.devnull], 3, "no shape to fit"),
    ("log file nowhere", BINNED, nothing, ["--log-file", "/none/log"], 6, "/none/log: the log cannot be written"),
    ("other abundance", FITTED, ini_with("abundance = 0.3", "abundance = 0.4"), [], 7,
     "other settings: abundance 0.3, now 0.4.*label"),
    ("other band", FITTED, ini_plus("[fit]\nenergy_max_kev = 7\n"), [], 2,
     r"other settings.*energy_max_kev 8.0, in cluster.ini 7.0.*--stage 5"),
    ("other ObsIDs", FITTED, ini_with("90001, 90002", "90001"), [], 2, "obsids '90001,90002', in cluster.ini '90001'"),
    ("other statistic", FITTED, ini_plus("[fit]\nstatistic = chi2gehrels\n"), [], 7,
     "other settings: statistic 'cstat', now 'chi2gehrels'.*--restart"),
    ("other statistic, one region", FITTED, ini_plus("[fit]\nstatistic = chi2gehrels\n"), ["--region", 3], 7, "chi2ge"),
    ("other binning", FITTED, fit_input_attribute("binning_digest", "feed"), [], 7, "another binning.*--restart"),
    *((f"checkpoint cut at {keep}", FITTED, lambda c, keep=keep: cut(c.fits, keep), [], 3,
       "demo_fits.h5: cannot be read as a checkpoint.*--restart") for keep in (0.0, 0.1, 0.5, 0.98)),
    ("checkpoint is text", FITTED, lambda c: replace(c.fits, b"x" * 9999), [], 3, "cannot be read as a checkpoint"),
    ("checkpoint of others", FITTED, foreign_checkpoint, [], 3, "not a checkpoint of cpxt-fit"),
    ("checkpoint of version 99", FITTED,
     lambda c: edit_hdf5(c.fits, lambda f: f.attrs.__setitem__("schema_version", 99)), [], 3, "schema version 99"),
    ("checkpoint without rows", FITTED, lambda c: edit_hdf5(c.fits, lambda f: f.__delitem__("results")), [], 3,
     "demo_fits.h5: cannot be read"),
    ("checkpoint is a folder", FITTED, lambda c: (c.fits.unlink(), c.fits.mkdir()), [], 3, "demo_fits.h5"),
    ("journal of others", FITTED, lambda c: replace(c.fits.with_suffix(".journal"), b"dear diary, " * 9), [], 3,
     "is not a journal of fits"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "at", "spoil", "words", "code", "message"), FIT_CASES, ids=[case[0] for case in FIT_CASES]
)
def test_fit_refuses(what, at, spoil, words, code, message, cluster, run):
    layout = cluster(at)
    spoil(layout)
    words = words(layout) if callable(words) else words
    before = contents(layout.folder)
    assert_refused(run("fit", layout.ini, *words), "fit", code, message)
    assert contents(layout.folder) == before


def test_a_second_job_is_turned_away(cluster, run):
    layout = cluster(FITTED)
    provenance = fit_provenance(read_config(layout.ini), read_fit_input(layout.fit_input))
    with Checkpoint(layout.fits, provenance):
        outcome = run_process("fit", layout.ini, "--resolution", 1)
        before = contents(layout.folder)
        assert_refused(outcome, "fit", 7, rf"demo_fits.h5 is held by process {os.getpid()} on")
        assert contents(layout.folder) == before
    assert run("fit", layout.ini, "--resolution", 1).code == 0


def test_a_list_of_any_line_ends_is_understood(cluster, run):
    layout = cluster(FITTED)
    numbers = [1, 6]
    text = "# a comment\r\n" + "".join(f"cpxt-fit 'somewhere else' --region {n}\r\n\r\n" for n in numbers)
    words = command_list(text)(layout)
    outcome = run("fit", layout.ini, *words)
    assert outcome.code == 0, outcome.err


MAPS_CASES = [
    ("before fit", BINNED, nothing, [], 3, "there are no fits to make maps from. Run: cpxt-fit"),
    ("before prep", RAW, nothing, [], 3, "fit_input.h5 does not exist"),
    ("unknown map", FITTED, nothing, ["--only", "temprature_map"], 2, "did you mean temperature_map"),
    ("resolution 0", FITTED, nothing, ["--resolution", 0], 2, "invalid choice"),
    ("checkpoint cut", FITTED, lambda c: cut(c.fits, 0.5), [], 3, "cannot be read as a checkpoint"),
    ("other binning", FITTED, fit_input_attribute("binning_digest", "feed"), [], 7, "another binning"),
    ("output is a file", FITTED, lambda c: (shutil.rmtree(c.main_output), c.main_output.touch()), ["--no-pictures"], 6,
     "main_output.*cannot be written"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "at", "spoil", "words", "code", "message"), MAPS_CASES, ids=[case[0] for case in MAPS_CASES]
)
def test_maps_refuse(what, at, spoil, words, code, message, cluster, run):
    layout = cluster(at)
    spoil(layout)
    before = contents(layout.folder)
    assert_refused(run("maps", layout.ini, *words), "maps", code, message)
    assert contents(layout.folder) == before


@pytest.mark.parametrize("command", ["fit", "maps", "status", "prep"])
@pytest.mark.parametrize(
    ("what", "spoil", "code", "message"),
    [
        ("missing", lambda c: c.ini.unlink(), 3, "cluster.ini: no such file"),
        ("a folder", lambda c: (c.ini.unlink(), c.ini.mkdir()), 3, "cluster.ini"),
        ("binary", lambda c: replace(c.ini, b"\x89HDF\r\n\0\0"), 3, "not a text file"),
        ("a FITS file", lambda c: replace(c.ini, c.mask.read_bytes()), 3, "not a text file"),
        ("with an unknown key", ini_plus("abundanse = 1\n"), 2, "Did you mean abundance"),
    ],
)
def test_every_command_refuses_a_bad_ini(what, spoil, code, message, command, cluster, run):
    layout = cluster(FITTED)
    spoil(layout)
    assert_refused(run(command, layout.ini), command, code, message)


def test_status_before_a_fit_is_no_error(cluster, run):
    outcome = run("status", cluster(BINNED).ini)
    assert outcome.code == 0
    assert "0 of 730 regions fitted" in outcome.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-n", "a/b", "--obsids", "1"], "name = 'a/b': not usable in file names"),
        (["-n", "..", "--obsids", "1"], "name = '..': not usable"),
        (["-n", "$(reboot)", "--obsids", "1"], "not usable in file names"),
        (["-n", "", "--obsids", "1"], "name"),
        (["-n", "A", "--obsids", "1,1"], "1 named more than once"),
        (["-n", "A", "--obsids", "-5"], "obsids|ObsID"),
        (["-n", "A"], r"observation_ids: missing"),
        (["-n", "A", "--obsids", "1", "-z", "abc"], "redshift = 'abc': not a number"),
        (["-n", "A", "--obsids", "1", "--nH", "-1"], "hydrogen_column_density = '-1'|--nH"),
        ([], "give at least"),
    ],
)
def test_init_refuses(words, message, run, tmp_path):
    outcome = run("init", *words, *(["--data-dir", tmp_path / "new"] if words else []))
    assert_refused(outcome, "init", 2, message)
    assert not (tmp_path / "new").exists()
