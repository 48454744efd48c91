"""The checkpoint is read by every program at any moment while a real job writes it, and the job does not notice."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from fit_job import RunningFit, clean_environment, ready_to_fit, run_fit

from cpxt_hpc.io.checkpoint import read_results


@pytest.fixture
def running(tmp_path):
    """A job of real fits that compacts its checkpoint five times a second."""
    layout = ready_to_fit(tmp_path / "made_up")
    with RunningFit(
        layout, "--resolution", "3", ranks=3, more={"program": "killed_fit.py"},
        ACKNOWLEDGED=str(tmp_path / "acknowledged"), SLOW_S="1", OMP_NUM_THREADS="1",
    ) as fit:  # fmt: skip
        fit.wait_for_results(5)
        yield fit


def run(*words):
    return subprocess.run(words, env=clean_environment(), capture_output=True, text=True, timeout=120)


def assert_undisturbed(running):
    assert running.process.poll() is None, "the job was to run on while it was read"
    running.process.send_signal(signal.SIGUSR1)
    code, _, errors = running.end()
    assert code == 75, errors
    assert run_fit(running.layout, "--resolution", "3").returncode == 0
    assert read_results(running.layout.fits)["region"].tolist() == list(range(1, 301))


def test_h5py_and_the_status_read_while_the_job_runs(running):
    seen = 0
    for _ in range(40):
        at_least = len(read_results(running.layout.fits))
        with h5py.File(running.layout.fits) as file:
            regions = file["results"]["region"]
        assert (regions[1:] > regions[:-1]).all()
        assert len(regions) >= seen
        seen = len(regions)
    status = run(Path(sys.prefix, "bin", "cpxt-status"), str(running.layout.ini), "--json")
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["done"] >= at_least
    assert_undisturbed(running)


def test_h5dump_and_the_maps_read_while_the_job_runs(running):
    if shutil.which("h5dump") is None:
        pytest.skip("not installed: h5dump (Debian: apt-get install hdf5-tools)")
    for _ in range(10):
        dumped = run("h5dump", "-d", "/results", str(running.layout.fits))
        assert dumped.returncode == 0, dumped.stderr
        assert "DATASPACE  SIMPLE" in dumped.stdout
    maps = run(Path(sys.prefix, "bin", "cpxt-maps"), str(running.layout.ini), "--resolution", "3", "--no-pictures")
    assert maps.returncode == 0, maps.stderr
    assert list((running.layout.folder / "main_output").glob("*_temperature_map.fits"))
    assert_undisturbed(running)
