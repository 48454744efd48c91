"""The commands of the README on a small synthetic cluster, as a user runs them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cpxt_hpc.errors import MissingInput
from cpxt_hpc.fitting.results import RESULT_DTYPE
from cpxt_hpc.io.checkpoint import read_results
from cpxt_hpc.io.datafiles import response_files
from cpxt_hpc.layout import ClusterLayout

BIN = Path(sys.executable).parent
COLUMNS = [name for name in RESULT_DTYPE.names if name != "seconds"]


def _run(*words, code=0):
    done = subprocess.run([str(BIN / words[0]), *map(str, words[1:])], capture_output=True, text=True, timeout=600)
    assert done.returncode == code, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A preprocessed small demo cluster; tests work on copies of it."""
    try:
        response_files("cy18")
    except MissingInput as error:
        pytest.skip(str(error))
    data = tmp_path_factory.mktemp("data")
    _run("cpxt-demo", data, "--size", 100, "--exposure-ks", 25)
    physics = ["--nH", 0.05, "--redshift", 0.1, "--abundance", 0.3, "--signal_to_noise", 35]
    done = _run("cpxt-init", "-n", "demo", "--obsids", "90001,90002", *physics, "--data-dir", data)
    assert done.stdout.strip() == str(data / "demo" / "cluster.ini")
    _run("cpxt-prep", data / "demo" / "cluster.ini", "--auto")
    return data


@pytest.fixture
def cluster(prepared, tmp_path):
    """Layout of a copy in another place, without the archive's files: what is carried to a cluster of computers."""
    folder = tmp_path / "moved" / "demo"
    folder.mkdir(parents=True)
    shutil.copy(prepared / "demo" / "cluster.ini", folder)
    shutil.copytree(prepared / "demo" / "acb", folder / "acb")
    return ClusterLayout(folder, "demo")


def _same(first, second):
    return all(np.array_equal(first[name], second[name], equal_nan=True) for name in COLUMNS)


def test_a_second_preparation_does_nothing_again(prepared):
    folder = prepared / "demo"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.fits")}
    _run("cpxt-prep", folder / "cluster.ini", "--auto")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.fits")} == before


def test_a_new_signal_to_noise_redoes_the_binning_only(prepared, tmp_path):
    folder = tmp_path / "demo"
    shutil.copytree(prepared / "demo", folder)
    layout = ClusterLayout(folder, "demo")
    text = layout.ini.read_text()
    layout.ini.write_text(text.replace("signal_to_noise = 35", "signal_to_noise = 30"))
    assert layout.ini.read_text() != text
    before = layout.counts.stat().st_mtime_ns, layout.scale_map.stat().st_mtime_ns
    _run("cpxt-prep", layout.ini, "--auto")
    assert layout.counts.stat().st_mtime_ns == before[0]
    assert layout.scale_map.stat().st_mtime_ns > before[1]


def test_ranks_serial_and_single_regions_give_the_same_bits(cluster, tmp_path):
    _run("cpxt-fit", cluster.ini, "--resolution", 2)
    serial = read_results(cluster.fits)
    assert len(serial) > 50
    for ranks in (1, 3, 4):
        copy = ClusterLayout(tmp_path / f"ranks{ranks}", "demo")
        shutil.copytree(cluster.folder, copy.folder, ignore=shutil.ignore_patterns("*_fits*"))
        _run("mpiexec", "-n", ranks, BIN / "cpxt-fit", copy.ini, "--resolution", 2)
        assert _same(read_results(copy.fits), serial)
    alone = ClusterLayout(tmp_path / "alone", "demo")
    shutil.copytree(cluster.folder, alone.folder, ignore=shutil.ignore_patterns("*_fits*"))
    some = serial["region"][:: len(serial) // 3][:3]
    for number in some:
        _run("cpxt-fit", alone.ini, "--region", number)
    assert _same(read_results(alone.fits), serial[np.isin(serial["region"], some)])


def test_a_job_killed_five_times_ends_with_the_same_bits(cluster, tmp_path):
    whole = ClusterLayout(tmp_path / "whole", "demo")
    shutil.copytree(cluster.folder, whole.folder)
    _run("cpxt-fit", whole.ini, "--resolution", 3)
    expected = read_results(whole.fits)
    step, done, kills = len(expected) // 10 + 1, 0, 0
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    while kills < 5:
        job = subprocess.Popen(
            [str(BIN / "mpiexec"), "-n", "3", str(BIN / "cpxt-fit"), str(cluster.ini), "--resolution", "3"],
            start_new_session=True,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while job.poll() is None and _rows(cluster) < done + step:
            time.sleep(0.005)
        if job.poll() is not None:
            break
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        kills += 1
        done = _rows(cluster)
    assert kills >= 2  # five, unless the machine fits faster than this test looks
    _run("mpiexec", "-n", "3", BIN / "cpxt-fit", cluster.ini, "--resolution", 3)
    assert _same(read_results(cluster.fits), expected)


def _rows(layout):
    try:
        return len(read_results(layout.fits))
    except MissingInput:
        return 0


def test_maps_of_the_demo_show_its_truth(prepared):
    folder = prepared / "demo"
    _run("mpiexec", "-n", 3, BIN / "cpxt-fit", folder / "cluster.ini", "--resolution", 2)
    _run("cpxt-maps", folder / "cluster.ini")
    truth = prepared / "demo_truth" / "demo_kT_truth.fits"
    done = subprocess.run(
        [sys.executable, "-m", "cpxt_hpc.cli.compare", str(folder / "cluster.ini"), str(truth)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3.50" in done.stdout and "9.00" in done.stdout
