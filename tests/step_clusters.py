"""One small demo cluster as it was after each step, and commands run on copies of it.

The fixtures are those of ``conftest.py``. The copies are hard links: replace a file, never write into one (`spoiling`).
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits

from cpxt_hpc.errors import MissingInput
from cpxt_hpc.fitting.results import RESULT_DTYPE
from cpxt_hpc.io.checkpoint import Checkpoint
from cpxt_hpc.io.datafiles import response_files
from cpxt_hpc.io.fit_input import read_fit_input
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.parallel.plan import fit_provenance
from cpxt_hpc.science.maps import belongs_to_resolution

BIN = Path(sys.executable).parent
INI = """\
[cluster]
name = demo
observation_ids = 90001, 90002
hydrogen_column_density = 0.05
redshift = 0.1
abundance = 0.3
signal_to_noise = 25
"""
REGIONS = {
    "sources.reg": 'icrs\ncircle(194.93,27.99,3")\n',
    "exclude.reg": 'icrs\ncircle(194.95,27.98,60")\n',
    "master_crop-ciaowcs.reg": 'icrs\ncircle(194.95,27.98,30")\n',
}
RAW, MERGED, CLEANED, RESPONDED, CROPPED, BINNED, FITTED = range(7)
STAGE_NAMES = {1: "merge", 2: "clean", 3: "respond", 4: "crop", 5: "bin"}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command left on the screen."""

    code: int
    out: str
    err: str


@pytest.fixture
def process_as_before():
    """Commands of a process of their own set signal handlers, the log and variables."""
    logger = logging.getLogger("cpxt_hpc")
    handlers, level = list(logger.handlers), logger.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    variables = dict(os.environ)
    yield
    for number, handler in signals.items():
        signal.signal(number, handler)
    for handler in set(logger.handlers) - set(handlers):
        handler.close()
    logger.handlers[:], logger.level = handlers, level
    os.environ.clear()
    os.environ.update(variables)


@pytest.fixture
def run(capsys, process_as_before):
    """Call a command's ``main``: ``run("prep", ini)`` is ``cpxt-prep ini``."""

    def call(command, *words):
        capsys.readouterr()
        code = importlib.import_module(f"cpxt_hpc.cli.{command}").main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


def run_process(command, *words, prefix=(), **options):
    """The same in a process of its own."""
    done = subprocess.run(
        [*prefix, str(BIN / f"cpxt-{command}"), *map(str, words)],
        capture_output=True, text=True, timeout=120, env=dict(os.environ, OMP_NUM_THREADS="1"), **options,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


def assert_refused(outcome, command, code, message):
    """One message with this content, and this exit code."""
    told = f"exit code {outcome.code}\n{outcome.out}\n{outcome.err}"
    assert outcome.code == code, told
    assert "Traceback" not in outcome.err, told
    assert len(re.findall(rf"^cpxt-{command}: (?:error|action needed): ", outcome.err, re.MULTILINE)) == 1, told
    assert re.search(message, outcome.err, re.DOTALL), told


# --- the clusters


@pytest.fixture(scope="session")
def snapshots(tmp_path_factory):
    """The folder of one small cluster after each step; made once."""
    try:
        response_files("cy18")
    except MissingInput as error:
        pytest.skip(str(error))
    data = tmp_path_factory.mktemp("data")
    _succeed("demo", data, "--size", 50, "--exposure-ks", 8)
    folder = data / "demo"
    (folder / "cluster.ini").write_text(INI)
    for name, text in REGIONS.items():
        (folder / name).write_text(text)
    kept = {RAW: _snapshot(folder, tmp_path_factory)}
    for stage in STAGE_NAMES:
        _succeed("prep", "--stage", stage, folder / "cluster.ini", "--quiet")
        kept[stage] = _snapshot(folder, tmp_path_factory)
    _put_fits(ClusterLayout(folder, "demo"))
    kept[FITTED] = _snapshot(folder, tmp_path_factory)
    return kept


def _succeed(command, *words):
    outcome = run_process(command, *words)
    assert outcome.code == 0, outcome.err


def _put_fits(layout):
    """Results of the regions of resolution 1, as a job would leave them; made up: to compile a fit takes long."""
    config, regions = read_config(layout.ini), read_fit_input(layout.fit_input).regions
    chosen = np.flatnonzero(belongs_to_resolution(regions.iy, regions.ix, 1))
    rows = np.zeros(len(chosen), dtype=RESULT_DTYPE)
    for name in ("iy", "ix", "radius"):
        rows[name] = getattr(regions, name)[chosen]
    rows["region"] = regions.number[chosen]
    rows["kT_lo"], rows["kT"], rows["kT_hi"] = 4.0, 5.0, 6.0
    rows["norm_lo"], rows["norm"], rows["norm_hi"] = 1e-4, 2e-4, 3e-4
    rows["observations_used"], rows["n_obs"], rows["dof"] = 3, 2, 500
    with Checkpoint(layout.fits, fit_provenance(config, read_fit_input(layout.fit_input))) as checkpoint:
        checkpoint.append(rows)


def _snapshot(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("snapshot") / "demo"
    _link_tree(folder, target)
    return target


def _link_tree(source, target):
    """Copy by hard links; lock files are no part of a copy."""
    left = shutil.ignore_patterns("*.lock", "*.owner")
    shutil.copytree(source, target, copy_function=os.link, ignore=left)


@pytest.fixture
def cluster(snapshots, tmp_path):
    """``cluster(step)`` gives the layout of a fresh copy as it was after that step."""

    def copy(step):
        folder = tmp_path / "demo"
        _link_tree(snapshots[step], folder)
        return ClusterLayout(folder, "demo")

    return copy


def contents(folder):
    """What is in a folder: inode and time of change by file."""
    return {
        path.relative_to(folder): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".lock", ".owner")
    }


def assert_nothing_half_written(folder, before):
    """No temporary file, and whatever is new opens whole."""
    left = [path for path in folder.rglob("*") if ".tmp" in path.name]
    assert left == []
    for path in contents(folder).items() - before.items():
        path = folder / path[0]
        if path.suffix in (".fits", ".img"):
            with fits.open(path) as hdus:
                hdus.verify("exception")
        elif path.suffix == ".h5":
            h5py.File(path, "r", locking=False).close()


def assert_stage_left_nothing(layout, stage):
    """The stage is not recorded as done, and its last product is not there."""
    state = json.loads(layout.state.read_text())["stages"] if layout.state.is_file() else {}
    assert STAGE_NAMES[stage] not in state
    last_product = {
        1: layout.broad_flux,
        2: layout.surface_brightness_nosrc,
        3: layout.observation(90002).rmf,
        4: layout.mask,
        5: layout.fit_input,
    }
    for number, path in last_product.items():
        assert path.exists() == (number < stage), path
