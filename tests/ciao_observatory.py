"""CIAO's stand-in with a real observation behind it, and ways to make its tools misbehave.

The stand-in (``../shared/ciao_stand_in``) knows the tools' parameters and the order of things, but its events and
responses are made up. Here chandra_repro, blanksky and specextract first run as the stand-in has them, with all its
checks, and what they wrote is then replaced by the files of the demo cluster: so the stages behind have data.
"""

import functools
import importlib
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from astropy.io import fits
from step_clusters import run_process

from cpxt_hpc.cli import init, prep
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.chip_tiles import chip_tiles
from cpxt_hpc.toolchain import ciao_responses

STAND_IN = Path(__file__).parents[2] / "shared" / "ciao_stand_in"
TABLE = Path(__file__).parent / "data" / "ciao_tools.json"
OBSIDS = (90001, 90002)
CROP = 'icrs\ncircle(194.95,27.98,30")\n'
BEHIND = ("chandra_repro", "blanksky", "specextract", "wavdetect", "merge_obs", "fluximage", "mkpsfmap")

WRAPPER = '''\
#!{python} -sE
"""Run the stand-in's tool, put a real file in the place of what it made, then misbehave if asked to."""
import fcntl, json, os, re, shutil, signal, subprocess, sys, tempfile, time

tool, here = os.path.basename(sys.argv[0]), {folder!r}
wish = json.loads(os.environ.get("CIAO_MISBEHAVE", "{{}}"))
wish = wish if wish.get("tool") == tool and wish.get("text", "") in os.getcwd() + json.dumps(sys.argv) else {{}}
how = wish.get("how")
if how == "hang":
    open(wish["sign"], "w").write(str(os.getpid()))
    time.sleep(600)
if how == "die":
    os.kill(os.getpid(), signal.SIGKILL)
with tempfile.NamedTemporaryFile("r+") as note:
    code = subprocess.run([here + "/stubs/" + tool, *sys.argv[1:]], env=dict(os.environ, STUB_LOG=note.name)).returncode
    line = note.read()
call = json.loads(line)
with open(os.environ["STUB_LOG"], "a") as log:
    fcntl.flock(log, fcntl.LOCK_EX)
    log.write(line)
if code:
    sys.exit(code)
for path in call["outputs"]:
    name = os.path.basename(path)
    obsid = next((n for n in os.listdir(here + "/real") if n in json.dumps(call["params"]) + name), None)
    real = None
    if tool == "chandra_repro" and name.endswith("_repro_evt2.fits"):
        real = str(int(re.search(r"acisf(\\d+)", name)[1])) + "/evt2.fits"
    elif tool == "blanksky":
        real = str(call["params"]["random"]) + "/blanksky.fits"
    elif tool == "specextract" and name.endswith((".arf", ".rmf")):
        real = os.listdir(here + "/real")[0] + "/response" + name[-4:]
    if real:
        shutil.copyfile(here + "/real/" + real, path)
    if how == "truncate":
        os.truncate(path, os.path.getsize(path) * 6 // 10)
    if how == "nothing":
        os.remove(path)
if how == "complain":
    print("# " + tool + " (CIAO 4.17): ERROR: could not read the calibration", file=sys.stderr)
'''


class Ciao:
    """A stand-in in a folder of its own; `start` is what sourcing its set-up does."""

    def __init__(self, folder, demo=None):
        self.folder = folder
        subprocess.run(
            ["bash", str(STAND_IN / "make_stand_in.sh"), str(folder)],
            check=True, capture_output=True, env=dict(os.environ, PYTHON=sys.executable),
        )  # fmt: skip
        (folder / "stubs").mkdir()
        (folder / "real").mkdir()
        for tool in BEHIND:
            (folder / "bin" / tool).rename(folder / "stubs" / tool)
            path = folder / "bin" / tool
            path.write_text(WRAPPER.format(python=sys.executable, folder=str(folder)))
            path.chmod(0o755)
        self.log = folder / "calls.jsonl"
        if demo is not None:
            put_behind(folder / "real", demo)

    def start(self, monkeypatch):
        """Environment of a shell in which CIAO was started."""
        monkeypatch.delenv("CPXT_OFFLINE", raising=False)  # the stand-in's download asks no network
        monkeypatch.setenv("ASCDS_INSTALL", str(self.folder))
        monkeypatch.setenv("CALDB", str(self.folder / "CALDB"))
        monkeypatch.setenv("PFILES", f"{self.folder}/pfiles;{self.folder}/param")
        monkeypatch.setenv("PATH", f"{self.folder}/bin:{os.environ['PATH']}")
        monkeypatch.setenv("PYTHONPATH", str(self.folder / "python"))
        monkeypatch.setenv("CIAO_TOOLS_JSON", str(self.folder / "tools.json"))
        monkeypatch.setenv("STUB_LOG", str(self.log))
        monkeypatch.syspath_prepend(str(self.folder / "python"))
        package = importlib.import_module("ciao_contrib")
        del sys.modules["ciao_contrib"]
        monkeypatch.setitem(sys.modules, "ciao_contrib", package)  # so that it is gone afterwards
        # A tile a CCD in place of sixteen: that many calls of a tool take their time.
        monkeypatch.setattr(ciao_responses, "chip_tiles", functools.partial(chip_tiles, side_pixel=1024.0))

    def calls(self, tool=None):
        """Calls so far, as the stand-in logged them."""
        if not self.log.is_file():
            return []
        found = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [call for call in found if tool in (None, call["tool"])]


def put_behind(folder, demo):
    """Files of a demo cluster, with the keywords that chandra_repro and blanksky write."""
    for obsid in OBSIDS:
        own = folder / str(obsid)
        own.mkdir(parents=True)
        repro = demo / str(obsid) / "repro"
        with fits.open(repro / f"acisf{obsid}_repro_evt2.fits") as hdus:
            header = hdus["EVENTS"].header
            header["ASOLFILE"] = f"pcadf{obsid}_000N001_asol1.fits"
            header["BPIXFILE"] = f"acisf{obsid}_repro_bpix1.fits"
            header["MASKFILE"] = f"acisf{obsid}_000N001_msk1.fits"
            hdus.writeto(own / "evt2.fits")
        with fits.open(repro / f"blanksky_{obsid}.fits") as hdus:
            for ccd in range(4):
                hdus["EVENTS"].header[f"BKGSCAL{ccd}"] = 0.5
            hdus.writeto(own / "blanksky.fits")
        for kind in ("arf", "rmf"):
            shutil.copyfile(repro / f"{obsid}.{kind}", own / f"response.{kind}")


def stand_in_is_here():
    return pytest.mark.skipif(not STAND_IN.is_dir(), reason="../shared/ciao_stand_in is not here")


def misbehave(monkeypatch, tool, how, *, text="", sign=""):
    monkeypatch.setenv("CIAO_MISBEHAVE", json.dumps({"tool": tool, "how": how, "text": text, "sign": str(sign)}))


def new_cluster(data, obsids, name="a"):
    """A cluster of which nothing is there but its name, ObsIDs and the region of the map."""
    words = ["--nH", "0.05", "--redshift", "0.1", "--abundance", "0.3", "--signal_to_noise", "15"]
    assert init.main(["-n", name, "--obsids", *map(str, obsids), *words, "--data-dir", str(data)]) == 0
    layout = ClusterLayout(data / name, name)
    layout.crop.write_text(CROP)
    return layout


@pytest.fixture(scope="session")
def ciao_cluster(tmp_path_factory):
    """Two observations prepared from nothing to the input of the fit, and the stand-in with its calls."""
    data = tmp_path_factory.mktemp("demo")
    outcome = run_process("demo", data, "--size", 50, "--exposure-ks", 8)
    assert outcome.code == 0, outcome.err
    ciao = Ciao(tmp_path_factory.mktemp("ciao") / "ciao", data / "demo")
    layout = new_cluster(tmp_path_factory.mktemp("data"), OBSIDS)
    logger = logging.getLogger("cpxt_hpc")
    with pytest.MonkeyPatch.context() as patch:
        ciao.start(patch)
        # The command sets both.
        patch.setattr(logger, "level", logger.level)
        patch.setattr(logger, "handlers", list(logger.handlers))
        assert prep.main([str(layout.ini), "--auto", "--num_cpus", "2", "--quiet"]) == 0
    return layout, ciao


@pytest.fixture
def started(ciao_cluster, process_as_before, monkeypatch):
    """The stand-in, in an environment in which it was started; its log holds the calls of this test alone."""
    _, ciao = ciao_cluster
    ciao.start(monkeypatch)
    monkeypatch.setattr(ciao, "log", ciao.folder / "own_calls.jsonl")
    monkeypatch.setenv("STUB_LOG", str(ciao.log))
    yield ciao
    ciao.log.unlink(missing_ok=True)


@pytest.fixture
def ciao_copy(ciao_cluster, started, tmp_path):
    """``ciao_copy()`` gives the layout of a copy of the prepared cluster."""

    def copy():
        shutil.copytree(ciao_cluster[0].folder, tmp_path / "a", ignore=shutil.ignore_patterns("*.lock"))
        return ClusterLayout(tmp_path / "a", "a")

    return copy
