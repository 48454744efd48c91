"""Every call of a CIAO tool against CIAO's own table of parameters, and ClusterPyXT's known faults in such calls.

``data/ciao_tools.json`` holds the parameters of the tools that are called, as CIAO's runtool (ciao-contrib, commit in
the file) has them.
"""

import ast
import inspect
import json
import subprocess
import sys

import pytest
from ciao_observatory import STAND_IN, TABLE, stand_in_is_here

from cpxt_hpc.toolchain import ciao_calls

TOOLS = json.loads(TABLE.read_text())["tools"]
ARGUMENTS = {
    "reprocess": {"indir": "in", "outdir": "/w/out", "check_vf_pha": True},
    "blank_sky": {"evtfile": "evt2.fits[ccd_id=0,1]", "outfile": "b.fits", "asolfile": "a.fits,b.fits", "seed": 7,
                  "tmpdir": "/w"},
    "one_image": {"infile": "e.fits", "outroot": "image/", "binsize": 2, "asolfile": "a.fits", "badpixfile": "b.fits",
                  "maskfile": "m.fits", "tmpdir": "/w", "nproc": 2},
    "merged_image": {"infiles": "@i.lis", "outroot": "image/", "binsize": 2, "asolfiles": "@a.lis",
                     "badpixfiles": "@b.lis", "maskfiles": "@m.lis", "refcoord": "1 2", "tmpdir": "/w", "nproc": 1},
    "detect": {"root": "image/", "scales": "1 2 4", "sigthresh": 1e-6, "tmpdir": "/w"},
    "respond": {"infile": "e.fits[sky=region(r.reg)]", "outroot": "made", "asp": "a.fits", "mskfile": "m.fits",
                "badpixfile": "b.fits", "tmpdir": "/w"},
}  # fmt: skip
USED = {"chandra_repro", "blanksky", "fluximage", "mkpsfmap", "merge_obs", "wavdetect", "specextract"}
FORBIDDEN = {
    "acis_set_ardlib", "acis_process_events", "acis_bkgrnd_lookup", "reproject_events", "dmkeypar", "reproject_image",
    "dmcopy", "dmextract", "deflare", "dmimgcalc",
}  # fmt: skip
"""Calls of ClusterPyXT with known faults, or that our own code replaces."""


def fault_of(parameter, value):
    """What CIAO would refuse about a value; None where nothing."""
    kind, name = parameter["type"], parameter["name"]
    if "choices" in parameter:
        return None if value in parameter["choices"] else f"{name} = {value!r}: expected {parameter['choices']}"
    wanted = {"b": bool, "i": int, "r": (int, float), "s": str, "f": str}[kind]
    if not isinstance(value, wanted) or (kind != "b" and isinstance(value, bool)):
        return f"{name} = {value!r}: expected type {kind}"
    if kind in "ir":
        low, high = parameter.get("min"), parameter.get("max")
        if (low is not None and value < low) or (high is not None and value > high):
            return f"{name} = {value!r}: expected {low} to {high}"
    return None


class TableRuntool:
    """Stands for ciao_contrib.runtool: notes each call and what the table says against it."""

    def __init__(self, tools=TOOLS):
        self.tools, self.calls, self.faults = tools, [], []

    def __getattr__(self, tool):
        parameters = {each["name"]: each for each in self.tools[tool]["parameters"]}

        def call(**given):
            self.calls.append((tool, given))
            for name, value in given.items():
                if name not in parameters:
                    self.faults.append(f"{tool}: no parameter {name}")
                elif (fault := fault_of(parameters[name], value)) is not None:
                    self.faults.append(f"{tool}: {fault}")
            for name, each in parameters.items():
                if each["required"] and each["default"] is None and name not in given and name != "outdir":
                    self.faults.append(f"{tool}: {name} is required")

        return call


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_every_call_agrees_with_the_table_of_parameters(name):
    runtool = TableRuntool()
    ciao_calls.CALLS[name](runtool, **ARGUMENTS[name])
    assert runtool.calls and runtool.faults == []


def test_no_call_is_left_out():
    assert set(ARGUMENTS) == set(ciao_calls.CALLS) - {"download"}
    runtool = TableRuntool()
    for name, arguments in ARGUMENTS.items():
        ciao_calls.CALLS[name](runtool, **arguments)
    assert {tool for tool, _ in runtool.calls} == USED == set(TOOLS)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"evtfil": "a"}, "no parameter evtfil"),
        ({"weight_method": "counts"}, "expected ['particle', 'time', 'particle-rate']"),
        ({"random": -1}, "random = -1: expected 0 to None"),
        ({"random": "1"}, "expected type i"),
        ({"clobber": "yes"}, "expected type b"),
        ({"asolfile": None}, "expected type f"),
        ({}, "evtfile is required"),
    ],
)
def test_the_table_finds_what_is_wrong(given, fault):
    runtool = TableRuntool()
    runtool.blanksky(**given)
    assert any(fault in each for each in runtool.faults)


@stand_in_is_here()
def test_the_table_is_that_of_ciao():
    whole = json.loads((STAND_IN.parent / "ciao_tools.json").read_text())["tools"]
    for tool, described in TOOLS.items():
        reference = whole[tool]["parameters"]
        assert [each["name"] for each in reference] == [each["name"] for each in described["parameters"]]
        for own, its in zip(described["parameters"], reference, strict=True):
            assert own == {key: its[key] for key in own}


@stand_in_is_here()
def test_the_stand_ins_checker_is_content():
    done = subprocess.run(
        [sys.executable, str(STAND_IN / "check_calls.py"), str(STAND_IN.parent / "ciao_tools.json"),
         inspect.getsourcefile(ciao_calls)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert {tool for tool in USED if f" {tool}(" in done.stdout} == USED
    assert "BAD" not in done.stdout and "is a prefix of" not in done.stdout


# --- what ClusterPyXT's calls did wrong


def arguments_of(tool):
    """Parameters of all calls of a tool."""
    runtool = TableRuntool()
    for name, arguments in ARGUMENTS.items():
        ciao_calls.CALLS[name](runtool, **arguments)
    return [given for called, given in runtool.calls if called == tool]


def test_ardlib_is_never_set():
    # acis_set_ardlib in a pool: one observation's bad pixels end in another's responses.
    assert [given["set_ardlib"] for given in arguments_of("chandra_repro")] == [False]
    assert all(given["badpixfile"] for tool in ("specextract", "fluximage") for given in arguments_of(tool))


def test_no_call_is_made_whose_use_was_at_fault():
    # The inverted gain test stood before acis_process_events; DATAMODE was read by dmkeypar without echo;
    # reproject_image summed maps; dmcopy cut region-filtered images to different shapes.
    names = {
        node.func.attr
        for node in ast.walk(ast.parse(inspect.getsource(ciao_calls)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert names & FORBIDDEN == set()


def test_a_single_observation_has_a_psf_map_for_wavdetect():
    # ClusterPyXT's find_sources looked for files that merge_obs makes of several observations only.
    runtool = TableRuntool()
    ciao_calls.one_image(runtool, **ARGUMENTS["one_image"])
    ciao_calls.detect(runtool, **ARGUMENTS["detect"])
    (_, image), (_, psf), (_, found) = runtool.calls
    assert psf["infile"] == found["infile"] == image["outroot"] + "broad_thresh.img"
    assert psf["outfile"] == found["psffile"]


def test_blank_sky_scales_are_not_multiplied_by_the_exposures_again():
    (given,) = arguments_of("blanksky")
    assert given["weight_method"] == "particle" and given["bkgparams"] == "[energy=9000:12000]"


def test_responses_are_weighted_and_spectra_neither_grouped_nor_given_a_background():
    (given,) = arguments_of("specextract")
    assert (given["weight"], given["weight_rmf"], given["correctpsf"]) == (True, False, False)
    assert (given["bkgfile"], given["grouptype"]) == ("", "NONE")
