"""The batch job under Slurm with Open MPI's mpiexec and ULFM: a killed worker costs no fit, and the job ends well."""

import os
import signal
from pathlib import Path

import pytest
from fit_job import ready_to_fit, run_fit
from job_clone import make_clone
from slurm_cluster import missing_programs, running_slurm, wait_until
from test_open_mpi import ENVIRONMENT, MPIEXEC, OPEN_MPI

from cpxt_hpc.errors import MissingInput
from cpxt_hpc.io.checkpoint import read_results
from cpxt_hpc.io.result_rows import bytes_without_seconds

pytestmark = pytest.mark.timeout(900)

LAUNCHER = f"{OPEN_MPI}/bin/mpiexec --bind-to none --with-ft ulfm"
QUICK = {"FAKE_FAST": "40", "FAKE_SLEEP_S": "0.15"}


@pytest.fixture(scope="module")
def slurm():
    missing = missing_programs()
    if missing or not Path(MPIEXEC[0]).exists():
        what = ", ".join(missing) if missing else "Open MPI (CPXT_OPENMPI)"
        pytest.skip(f"not installed: {what}; jobscripts/test.sh --system installs it")
    with running_slurm() as cluster:
        yield cluster


def process_of_rank(rank, folder):
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            here = os.readlink(process / "cwd") == str(folder)
            program = b"fake_fit.py" in (process / "cmdline").read_bytes()
        except OSError:
            continue
        if here and program and f"PMIX_RANK={rank}".encode() in environment:
            return int(process.name)
    raise AssertionError(f"no process has rank {rank}")


def n_results(layout):
    try:
        return len(read_results(layout.fits))
    except MissingInput:
        return 0


def test_the_others_do_the_regions_of_a_killed_worker(slurm, tmp_path):
    undisturbed = ready_to_fit(tmp_path / "undisturbed" / "made_up")
    assert run_fit(undisturbed, "--resolution", "3", fake=True).returncode == 0
    layout = ready_to_fit(tmp_path / "made_up")
    script = make_clone(tmp_path / "clone") / "fit.slurm"
    job = slurm.submit(
        "-n", 4, "--output=%j.log", script, "cluster.ini", "--resolution", 3,
        cwd=layout.folder, CPXT_LAUNCHER=LAUNCHER, MPI4PY_MPIABI="openmpi", **ENVIRONMENT, **QUICK,
    )  # fmt: skip
    wait_until(lambda: n_results(layout) > 75, "the first fits")
    before = set(read_results(layout.fits)["region"])
    os.kill(process_of_rank(2, layout.folder), signal.SIGKILL)
    ended = slurm.wait_for_end(job)
    log = (layout.folder / f"{job}.log").read_text()
    assert ended["JobState"] == "COMPLETED", log
    assert "rank 2 is dead: its regions go to others" in log, log
    assert "a rank was lost" not in log
    assert before <= set(read_results(layout.fits)["region"])
    assert bytes_without_seconds(read_results(layout.fits)) == bytes_without_seconds(read_results(undisturbed.fits))
