"""The batch jobs under a real Slurm on this machine: ranks, wall time, scancel, arrays, and the chain to the maps."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fit_job import ready_to_fit, run_fit
from job_clone import make_clone
from slurm_cluster import missing_programs, running_slurm, wait_until

from cpxt_hpc.errors import MissingInput
from cpxt_hpc.fitting.results import Status
from cpxt_hpc.io.checkpoint import read_results
from cpxt_hpc.io.datafiles import response_files
from cpxt_hpc.io.result_rows import bytes_without_seconds

pytestmark = pytest.mark.timeout(900)

SLOW = {"FAKE_FAST": "20", "FAKE_SLEEP_S": "0.3"}
"""Every process fits 20 regions at once and then three a second: 300 are not done before a slow machine looks."""

N_REGIONS = 300


@pytest.fixture(scope="module")
def slurm():
    missing = missing_programs()
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (Debian: apt-get install slurm-wlm munge)")
    with running_slurm() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Job scripts beside an environment whose fitter is a fake one."""
    return make_clone(tmp_path_factory.mktemp("a clone"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Rows of the fake fitter in one process that nothing disturbed."""
    layout = ready_to_fit(tmp_path_factory.mktemp("undisturbed") / "made_up", n_regions=N_REGIONS)
    ended = run_fit(layout, "--resolution", "3", fake=True)
    assert ended.returncode == 0, ended.stderr
    return bytes_without_seconds(read_results(layout.fits))


@pytest.fixture
def layout(tmp_path):
    return ready_to_fit(tmp_path / "my clusters" / "made_up", n_regions=N_REGIONS)


@pytest.fixture(scope="module")
def short_jobs(slurm, clone, tmp_path_factory):
    """Two jobs of which Slurm says at once that their wall time ends; they run while other tests do."""
    folder = tmp_path_factory.mktemp("short jobs")
    jobs = {}
    for launcher in ("srun", "mpiexec"):
        layout = ready_to_fit(folder / launcher / "made_up", n_regions=N_REGIONS)
        options = ["-n", 3, "--time=1", "--signal=B:USR1@55"]
        jobs[launcher] = layout, submit(slurm, clone, layout, *options, CPXT_LAUNCHER=launcher, **SLOW)
    return jobs


@pytest.fixture(scope="module")
def real_chain(slurm, tmp_path_factory):
    """A small demo cluster's folder, and the jobs that the chain has submitted; they run while other tests do."""
    try:
        response_files("cy18")
    except MissingInput as error:
        return str(error)
    data = tmp_path_factory.mktemp("real data")
    scripts = make_clone(tmp_path_factory.mktemp("real clone"), fake=False)
    physics = ["--nH", "0.05", "--redshift", "0.1", "--abundance", "0.3", "--signal_to_noise", "30"]
    for words in (
        ["cpxt-demo", data, "--size", "60", "--exposure-ks", "15"],
        ["cpxt-init", "-n", "demo", "--obsids", "90001,90002", *physics, "--data-dir", data],
    ):
        subprocess.run([Path(sys.prefix, "bin", words[0]), *words[1:]], check=True, capture_output=True)
    options = ["--resolution", "1", "--all", "--time=20", "--prep", "-c 2", "--fit", "-n 3"]
    return data / "demo", submit_chain(slurm, scripts, data / "demo" / "cluster.ini", *options)


def submit_chain(slurm, scripts, ini, *options, **environment):
    """Run chain.sh; returns the rest of its lines by their first word."""
    ended = slurm.run("bash", scripts / "chain.sh", *options, ini, **environment)
    assert ended.returncode == 0, ended.stderr
    return dict(line.split(" ", 1) for line in ended.stdout.splitlines())


def submit(slurm, clone, layout, *options, script="fit.slurm", **environment):
    """Submit from the cluster's folder, with its configuration named as a user would there."""
    words = [*options, "--output=%j.log", clone / script, "cluster.ini", "--resolution", 3]
    return slurm.submit(*words, cwd=layout.folder, **environment)


def log(layout, job):
    return (layout.folder / f"{job}.log").read_text()


def n_results(layout):
    try:
        return len(read_results(layout.fits))
    except MissingInput:
        return 0


def process_of_rank(rank, layout):
    """Number of the process that has this rank among those that fit a cluster."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
            here = os.readlink(folder / "cwd") == str(layout.folder)
        except OSError:
            continue
        if here and any(w.endswith(b"fake_fit.py") for w in words) and f"PMI_RANK={rank}".encode() in environment:
            return int(folder.name)
    raise AssertionError(f"no process has rank {rank}")


@pytest.mark.usefixtures("short_jobs", "real_chain")
def test_3_ranks_and_8_on_two_nodes_by_srun_and_by_mpiexec_give_the_rows_of_one_process(
    slurm, clone, undisturbed, tmp_path
):
    jobs = []
    for ranks, size in ((3, ["-n", 3]), (8, ["-n", 8, "-N", 2])):
        for launcher in ("srun", "mpiexec"):
            layout = ready_to_fit(tmp_path / f"{launcher} {ranks}" / "made_up", n_regions=N_REGIONS)
            jobs.append((layout, launcher, ranks, submit(slurm, clone, layout, *size, CPXT_LAUNCHER=launcher)))
    for layout, launcher, ranks, job in jobs:
        ended = slurm.wait_for_end(job)
        assert (ended["JobState"], ended["ExitCode"]) == ("COMPLETED", "0:0"), log(layout, job)
        assert f"{ranks} tasks" in log(layout, job)
        assert f"started by: {'srun --mpi=pmi2' if launcher == 'srun' else '/'}" in log(layout, job)
        assert bytes_without_seconds(read_results(layout.fits)) == undisturbed


def test_an_array_of_20_tasks_fits_every_region_once(slurm, clone, layout, undisturbed):
    job = submit(slurm, clone, layout, "--array=0-19", script="fit_array.slurm")
    slurm.wait_for_end(job)
    assert slurm.states(job) == ["COMPLETED"] * 20
    logs = "".join(path.read_text() for path in layout.folder.glob("*.log"))
    assert logs.count("All 15 regions are done") == 20, logs
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed


def test_scancel_leaves_a_job_cancelled_and_its_fits_in_the_checkpoint(slurm, clone, layout, undisturbed):
    job = submit(slurm, clone, layout, "-n", 3, **SLOW)
    wait_until(lambda: n_results(layout) > 30, "the first fits")
    before = set(read_results(layout.fits)["region"])
    slurm.run("scancel", job)
    ended = slurm.wait_for_end(job)
    assert (ended["JobState"], ended["Restarts"]) == ("CANCELLED", "0")
    assert "requeued" not in log(layout, job)
    assert before <= set(read_results(layout.fits)["region"])
    again = submit(slurm, clone, layout, "-n", 3)
    assert slurm.wait_for_end(again)["JobState"] == "COMPLETED", log(layout, again)
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed
    assert slurm.job(job)["JobState"] == "CANCELLED"


def test_the_chain_is_submitted_once_and_crashed_regions_do_not_hold_up_the_maps(slurm, clone, layout):
    fit = {"FAKE_CRASH": "17", "FAKE_FAST": "20", "FAKE_SLEEP_S": "0.1"}
    first = submit_chain(slurm, clone, layout.ini, "--resolution", "3", "--fit", "-n 3", **fit)
    assert list(first) == ["prep", "fit", "maps"]
    wait_until(lambda: slurm.states(first["fit"]) == ["RUNNING"], "the fit")
    slurm.run("scancel", first["maps"])
    slurm.wait_for_end(first["maps"])
    again = submit_chain(slurm, clone, layout.ini)
    assert again.pop("fit") == f"{first['fit']} (submitted before)"
    assert list(again) == ["maps"]
    once_more = submit_chain(slurm, clone, layout.ini)
    assert once_more["maps"] == f"{again['maps']} (submitted before)"
    ended = slurm.wait_for_end(first["fit"])
    assert (ended["JobState"], ended["ExitCode"]) == ("FAILED", "5:0")
    rows = read_results(layout.fits)
    assert rows["region"][rows["status"] == Status.CRASHED].tolist() == [17]
    assert slurm.wait_for_end(again["maps"])["JobState"] == "COMPLETED"
    assert "made maps" in (layout.folder / "logs" / f"cpxt-maps-{again['maps']}.log").read_text()


def test_a_preprocessing_that_fails_cancels_what_waits_for_it(slurm, clone, layout):
    jobs = submit_chain(slurm, clone, layout.ini, "--array", "0-3", FAKE_PREP_CODE="4")
    ended = {step: slurm.wait_for_end(job) for step, job in jobs.items()}
    assert ended["prep"]["ExitCode"] == "4:0"
    assert {ended["fit"]["JobState"], ended["maps"]["JobState"]} == {"CANCELLED"}


def test_killed_ranks_cost_no_fit_and_the_job_ends_well(slurm, clone, undisturbed, tmp_path):
    quick = {"FAKE_FAST": "40", "FAKE_SLEEP_S": "0.15", "FAKE_SILENCE_S": "3"}
    # Only under srun the others live on, and MPICH hangs on what all ranks of a killed start left behind.
    kills = {
        ("srun", (0,)): "rank 0 has said nothing for 9 s",
        ("srun", (2,)): "rank 2 has not answered for 3 s: its regions go to others",
        ("mpiexec", (2,)): "a rank was lost. What is left starts again (1 of at most 3 times)",
        ("srun", (0, 1, 2, 3)): "restart 1 of at most 20",
    }
    jobs, before = {}, {}
    for launcher, ranks in kills:
        layout = ready_to_fit(tmp_path / f"{launcher} {ranks}" / "made_up", n_regions=N_REGIONS)
        jobs[launcher, ranks] = layout, submit(slurm, clone, layout, "-n", 4, CPXT_LAUNCHER=launcher, **quick)
    for key, (layout, job) in jobs.items():
        wait_until(lambda where=layout: n_results(where) > 75, "the first fits")
        before[key] = set(read_results(layout.fits)["region"])
        for process in [process_of_rank(rank, layout) for rank in key[1]]:
            os.kill(process, signal.SIGKILL)
        if len(key[1]) == 4:
            slurm.run("scontrol", "requeue", job)
    for key, (layout, job) in jobs.items():
        ended = slurm.wait_for_end(job)
        assert ended["JobState"] == "COMPLETED", log(layout, job)
        assert kills[key] in log(layout, job)
        assert before[key] <= set(read_results(layout.fits)["region"])
        assert bytes_without_seconds(read_results(layout.fits)) == undisturbed


@pytest.mark.parametrize("launcher", ["srun", "mpiexec"])
def test_at_the_wall_time_the_job_is_requeued_and_then_finishes(slurm, short_jobs, undisturbed, launcher):
    layout, job = short_jobs[launcher]
    ended = slurm.wait_for_end(job, timeout_s=240)
    assert ended["JobState"] == "COMPLETED", log(layout, job)
    assert int(ended["Restarts"]) >= 1
    written = log(layout, job)
    assert "Stopped by SIGUSR1" in written
    assert "stopped before its wall time and requeued (restart 1 of at most 20)" in written
    assert "restart 1 of at most 20" in written
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed


def test_the_chain_leads_from_events_to_maps(slurm, real_chain):
    if isinstance(real_chain, str):
        pytest.skip(real_chain)
    folder, jobs = real_chain
    assert list(jobs) == ["prep", "fit", "maps"]
    for step, job in jobs.items():
        ended = slurm.wait_for_end(job, timeout_s=400)
        assert ended["JobState"] == "COMPLETED", (folder / "logs" / f"cpxt-{step}-{job}.log").read_text()
    assert len(list((folder / "main_output").glob("demo_temperature_map.*"))) == 2
