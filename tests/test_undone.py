"""What the machine failed to do is no property of a region: it stays undone, and the next run does it."""

import types

import numpy as np
import pytest
from fit_job import ready_to_fit, run_fit
from synthetic import make_fit_input
from test_silence import ScriptedLink

from cpxt_hpc.errors import ToolError
from cpxt_hpc.fitting.results import Status, empty_result
from cpxt_hpc.io.checkpoint import read_checkpoint, read_results
from cpxt_hpc.io.result_rows import bytes_without_seconds
from cpxt_hpc.parallel.messages import Left, Ready, Results, Work
from cpxt_hpc.parallel.serial import run_serial
from cpxt_hpc.parallel.stop import StopRequest
from cpxt_hpc.parallel.worker import MAX_UNDONE, UNDONE, fit_region, run_worker


@pytest.fixture(scope="module")
def regions():
    return make_fit_input(n_regions=20, ny=20, nx=20).regions


@pytest.fixture
def layout(tmp_path):
    return ready_to_fit(tmp_path / "made_up")


def fitter_that(raises, at):
    def fit(index):
        if index in at:
            raise raises
        return empty_result(index + 1, 0, 0, 1.0, Status.OK)

    return types.SimpleNamespace(fit=fit)


class Kept:
    def __init__(self):
        self.regions = []

    def append(self, rows):
        self.regions += rows["region"].tolist()
        return rows

    def tick(self):
        pass


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (MemoryError("no"), UNDONE),
        (np._core._exceptions._ArrayMemoryError((10,), np.dtype(float)), UNDONE),
        (OSError(24, "Too many open files"), UNDONE),
        (ToolError("Sherpa does not start"), UNDONE),
        (ValueError("no"), Status.CRASHED),
        (ZeroDivisionError(), Status.CRASHED),
    ],
)
def test_only_what_the_region_itself_causes_is_a_crash(regions, raised, status):
    row = fit_region(fitter_that(raised, [4]), regions, 4)
    assert row["status"] == status
    assert row["region"] == 5


def test_alone_what_is_undone_is_not_kept_and_the_rest_is(regions):
    kept = Kept()
    fitter = fitter_that(MemoryError(), [3, 4, 9])
    run_serial(fitter, regions, np.arange(20), kept, StopRequest(), types.SimpleNamespace(add=len, tick=list))
    assert kept.regions == [number for number in range(1, 21) if number not in (4, 5, 10)]


def test_alone_it_gives_up_after_several_in_a_row(regions):
    kept = Kept()
    fitter = fitter_that(MemoryError(), range(5, 20))
    run_serial(fitter, regions, np.arange(20), kept, StopRequest(), types.SimpleNamespace(add=len, tick=list))
    assert kept.regions == [1, 2, 3, 4, 5]


def test_a_worker_that_cannot_go_on_answers_and_leaves(regions):
    link = ScriptedLink((0, Work(1, np.arange(10))), (0, Work(2, np.arange(10, 20))))
    run_worker(link, fitter_that(MemoryError(), range(2, 20)), regions)
    ready, answer, left = (message for _, message in link.sent)
    assert isinstance(ready, Ready)
    assert isinstance(answer, Results)
    assert answer.rows["status"].tolist() == [Status.OK, Status.OK, *[UNDONE] * MAX_UNDONE]
    assert isinstance(left, Left)


@pytest.mark.parametrize("ranks", [0, 3])
def test_regions_that_lack_memory_are_told_left_out_and_done_by_the_next_run(layout, ranks):
    ended = run_fit(layout, "--resolution", "3", ranks=ranks, fake=True, FAKE_NO_MEMORY="17 200")
    assert ended.returncode == 3, ended.stderr
    assert "region 17 could not be fitted on this machine and is left undone (MemoryError" in ended.stderr
    assert "2 of 300 regions could not be fitted" in ended.stderr
    assert set(range(1, 301)) - set(read_results(layout.fits)["region"].tolist()) == {17, 200}
    assert run_fit(layout, "--resolution", "3", ranks=ranks, fake=True).returncode == 0
    rows = read_results(layout.fits)
    assert rows["region"].tolist() == list(range(1, 301))
    assert (rows["status"] == Status.OK).all()


def test_a_rank_without_memory_leaves_and_the_others_do_nearly_all(layout):
    environment = {"FAKE_NO_MEMORY_ON": "2", "FAKE_SLEEP_S": "0.005"}
    ended = run_fit(layout, "--resolution", "3", ranks=4, fake=True, **environment)
    assert ended.returncode == 3, ended.stderr
    assert "this process ends, others do the rest" in ended.stderr
    assert len(read_results(layout.fits)) == 300 - MAX_UNDONE


def test_a_single_region_without_memory_leaves_nothing(layout):
    ended = run_fit(layout, "--region", "7", fake=True, FAKE_NO_MEMORY="7")
    assert ended.returncode == 3
    assert "--region 7: nothing is kept of it" in ended.stderr
    assert run_fit(layout, "--region", "7", fake=True).returncode == 0


def test_failed_fits_are_done_again_on_request_only(layout):
    assert run_fit(layout, "--resolution", "3", fake=True, FAKE_CRASH="17 200 201").returncode == 5
    # In the spool, too, a failed fit may wait.
    assert run_fit(layout, "--resolution", "3", fake=True).returncode == 5
    again = run_fit(layout, "--resolution", "3", "--retry-failed", ranks=3, fake=True, FAKE_CRASH="200")
    assert again.returncode == 5, again.stderr
    assert "3 failed fits are done again" in again.stderr
    assert "3 regions to fit, 297 of 300 done before" in again.stderr
    rows = read_results(layout.fits)
    assert rows["region"][rows["status"] == Status.CRASHED].tolist() == [200]
    assert run_fit(layout, "--resolution", "3", "--retry-failed", fake=True).returncode == 0
    assert len(read_checkpoint(layout.fits).results) == 300


def test_fits_done_again_equal_those_of_an_undisturbed_run(layout, tmp_path):
    other = ready_to_fit(tmp_path / "other" / "made_up")
    assert run_fit(other, "--resolution", "3", fake=True).returncode == 0
    assert run_fit(layout, "--region", "5", fake=True, FAKE_CRASH="5").returncode == 5
    assert run_fit(layout, "--resolution", "3", "--retry-failed", fake=True).returncode == 0
    assert bytes_without_seconds(read_results(layout.fits)) == bytes_without_seconds(read_results(other.fits))


@pytest.mark.parametrize("option", ["--region", "--commands", "--regions"])
def test_a_part_of_the_map_is_not_retried(layout, option):
    ended = run_fit(layout, option, "7", "--retry-failed", fake=True)
    assert ended.returncode == 2
    assert "not allowed with --retry-failed" in ended.stderr


def test_one_region_on_many_ranks_is_refused_once(layout, tmp_path):
    log = tmp_path / "fits"
    ended = run_fit(layout, "--region", "9", ranks=3, fake=True, FAKE_LOG=str(log))
    assert ended.returncode == 2
    assert ended.stderr.count("--region 9 is the work of one process, but the MPI launcher has started 3") == 1
    assert not log.exists()
    assert run_fit(layout, "--region", "9", ranks=1, fake=True).returncode == 0
