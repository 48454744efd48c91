"""``cpxt-fit`` as users start it: real processes, real mpiexec, real signals; the fitter is often a fake one."""

import dataclasses
import os
import re
import signal

import numpy as np
import pytest
from fit_job import RunningFit, ready_to_fit, run_fit

from cpxt_hpc.fitting.results import Status
from cpxt_hpc.io.checkpoint import read_results
from cpxt_hpc.io.fit_input import read_fit_input, write_fit_input
from cpxt_hpc.io.result_rows import bytes_without_seconds

SLOW = {"FAKE_FAST": "20", "FAKE_SLEEP_S": "0.3"}
"""Every process fits 20 regions at once and then three a second: 300 are not done before a slow machine looks."""


@pytest.fixture
def layout(tmp_path):
    return ready_to_fit(tmp_path / "made_up")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Rows of the fake fitter in one process that nothing disturbed."""
    layout = ready_to_fit(tmp_path_factory.mktemp("undisturbed") / "made_up")
    ended = run_fit(layout, "--resolution", "3", fake=True)
    assert ended.returncode == 0, ended.stderr
    rows = read_results(layout.fits)
    assert rows["region"].tolist() == list(range(1, 301))
    return bytes_without_seconds(rows)


def test_serial_and_1_3_4_ranks_and_local_processes_give_the_same_rows_to_the_last_bit(tmp_path):
    found = {}
    for ranks, options in ((0, ()), (1, ()), (3, ()), (4, ()), (0, ("--num_cpus", "2"))):
        layout = ready_to_fit(tmp_path / f"{ranks}{len(options)}")
        ended = run_fit(layout, "--resolution", "3", *options, ranks=ranks)
        assert ended.returncode == 0, ended.stderr
        rows = read_results(layout.fits)
        assert rows["region"].tolist() == list(range(1, 301))
        assert (rows["status"] == Status.OK).mean() > 0.9
        found[ranks, options] = bytes_without_seconds(rows)
    assert len(found) == 5
    assert len(set(found.values())) == 1


@pytest.mark.parametrize(("ranks", "kills", "more"), [(0, 2, 15), (3, 5, 30)])
def test_a_job_killed_again_and_again_ends_with_the_same_rows(layout, undisturbed, ranks, kills, more):
    done = 0
    for _ in range(kills):
        with RunningFit(layout, "--resolution", "3", ranks=ranks, **SLOW) as fit:
            fit.wait_for_results(done + more)
            fit.kill_all()
        assert len(read_results(layout.fits)) >= done + more
        done = len(read_results(layout.fits))
    assert done < 300, "it was to be killed before its end"
    ended = run_fit(layout, "--resolution", "3", ranks=ranks, fake=True)
    assert ended.returncode == 0, ended.stderr
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed


def test_a_killed_worker_ends_the_job_under_mpich_and_a_restart_loses_nothing(layout, undisturbed):
    with RunningFit(layout, "--resolution", "3", ranks=3, **SLOW) as fit:
        fit.wait_for_results(20)
        before = read_results(layout.fits)
        os.kill(fit.processes()[-1], signal.SIGKILL)
        code, _, _ = fit.end()
        assert code != 0
    assert set(before["region"]) <= set(read_results(layout.fits)["region"])
    assert run_fit(layout, "--resolution", "3", ranks=3, fake=True).returncode == 0
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed


def test_a_worker_that_falls_silent_is_given_up_and_its_regions_go_to_others(layout, undisturbed):
    quick = {"FAKE_FAST": "60", "FAKE_SLEEP_S": "0.1", "FAKE_SILENCE_S": "3"}
    with RunningFit(layout, "--resolution", "3", ranks=4, **quick) as fit:
        fit.wait_for_results(20)
        os.kill(fit.processes()[-1], signal.SIGSTOP)
        code, output, errors = fit.end()
    assert code == 0, errors
    assert re.search(r"rank \d has not answered for 3 s: its regions go to others", errors)
    assert "All 300 regions are done" in output
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed


@pytest.mark.parametrize(
    ("number", "ranks"),
    [(signal.SIGUSR1, 3), (signal.SIGTERM, 3), (signal.SIGINT, 3), (signal.SIGTERM, 0)],
)
def test_a_signal_stops_with_75_and_the_same_command_continues(layout, undisturbed, number, ranks):
    with RunningFit(layout, "--resolution", "3", ranks=ranks, **SLOW) as fit:
        fit.wait_for_results(10)
        before = read_results(layout.fits)
        fit.process.send_signal(number)
        code, output, errors = fit.end()
    assert code == 75, errors
    stopped = re.search(rf"Stopped by {number.name} with (\d+) of 300 regions done", output)
    done = read_results(layout.fits)
    assert int(stopped.group(1)) == len(done) < 300
    assert set(before["region"]) <= set(done["region"])
    assert not layout.fits.with_suffix(".owner").exists()
    ended = run_fit(layout, "--resolution", "3", "--continue", ranks=ranks, fake=True)
    assert ended.returncode == 0, ended.stderr
    assert f"{300 - len(done)} regions to fit, {len(done)} of 300 done before" in ended.stderr
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed


def test_a_second_job_is_refused_while_the_first_one_runs(layout):
    with RunningFit(layout, "--resolution", "3", ranks=3, **SLOW) as fit:
        fit.wait_for_results(10)
        for ranks in (0, 3):
            second = run_fit(layout, "--resolution", "3", ranks=ranks, fake=True)
            assert fit.process.poll() is None
            assert second.returncode == 7
            assert re.search(r"is held by process \d+ on \S+ since 20", second.stderr)
            assert second.stderr.count("is held by") == 1


def test_n_ranks_continue_with_m_and_a_finer_resolution_refits_nothing(layout, undisturbed, tmp_path):
    log = tmp_path / "fits"
    assert run_fit(layout, "--resolution", "1", ranks=4, fake=True, FAKE_LOG=str(log)).returncode == 0
    coarse = read_results(layout.fits)
    regions = read_fit_input(layout.fit_input).regions
    assert coarse["region"].tolist() == regions.number[(regions.iy % 5 == 0) & (regions.ix % 5 == 0)].tolist()
    log.unlink()
    # Serial: the one fit besides those that are to be done is the first, which warms up.
    assert run_fit(layout, "--resolution", "3", fake=True, FAKE_LOG=str(log)).returncode == 0
    fitted = [int(number) for number in log.read_text().split()]
    assert not set(fitted) & set(coarse["region"].tolist())
    assert len(fitted) == 300 - len(coarse) + 1
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed


def test_another_binning_never_takes_over_the_fits_of_its_region_numbers(layout, tmp_path):
    assert run_fit(layout, "--resolution", "3", fake=True).returncode == 0
    before = bytes_without_seconds(read_results(layout.fits))
    rebinned = read_fit_input(ready_to_fit(tmp_path / "rebinned", radius_pixel=5.0).fit_input)
    old_digest = read_fit_input(layout.fit_input).binning_digest
    for digest, told in ((rebinned.binning_digest, "belongs to another binning"), (old_digest, "do not lie where")):
        write_fit_input(layout.fit_input, dataclasses.replace(rebinned, binning_digest=digest))
        for ranks in (0, 3):
            refused = run_fit(layout, "--resolution", "3", ranks=ranks, fake=True)
            assert refused.returncode == 7
            assert refused.stderr.count(told) == 1, refused.stderr
    assert bytes_without_seconds(read_results(layout.fits)) == before
    assert run_fit(layout, "--resolution", "3", "--restart", fake=True).returncode == 0
    assert (read_results(layout.fits)["radius"] == rebinned.regions.radius).all()


def test_a_fit_input_that_is_replaced_between_the_looks_of_two_ranks_ends_the_job_before_any_fit(layout, tmp_path):
    # As cpxt-prep --stage 5 leaves it after another redshift was set: same events, same circles.
    fit_input = read_fit_input(layout.fit_input)
    new = tmp_path / "new.h5"
    write_fit_input(new, dataclasses.replace(fit_input, settings={**fit_input.settings, "redshift": 0.3}))
    ended = run_fit(layout, "--resolution", "3", ranks=2, fake=True, FAKE_REPLACE=str(new))
    assert ended.returncode == 3, ended.stderr
    assert "was replaced while the job started. Run it again when cpxt-prep has ended" in ended.stderr
    assert len(read_results(layout.fits)) == 0


@pytest.mark.parametrize("rank", [0, 2])
def test_an_exception_on_any_rank_ends_all_with_its_traceback(layout, rank):
    ended = run_fit(layout, ranks=3, fake=True, FAKE_RAISES_ON=str(rank))
    assert ended.returncode not in (0, 2, 3, 5, 6, 7, 75)
    assert f"rank {rank} on " in ended.stderr
    assert "RuntimeError: no fitter here" in ended.stderr
    assert "Traceback" in ended.stderr


@pytest.mark.parametrize("ranks", [0, 3])
def test_a_full_disk_ends_with_6_and_keeps_what_was_written(layout, undisturbed, ranks):
    ended = run_fit(layout, "--resolution", "3", ranks=ranks, fake=True, FAKE_FILE_BYTES="12000", FAKE_SLEEP_S="0.005")
    assert ended.returncode == 6, ended.stderr
    assert ended.stderr.count("cannot be written (File too large)") == 1
    assert "it continues" in ended.stderr
    assert 10 < len(read_results(layout.fits)) < 300
    assert run_fit(layout, "--resolution", "3", ranks=ranks, fake=True).returncode == 0
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed


def test_pieces_of_the_list_and_single_regions_run_at_once_and_lose_nothing(layout, undisturbed, tmp_path):
    numbers = np.random.default_rng(1).permutation(np.arange(1, 301))
    pieces = []
    for i, part in enumerate(np.array_split(numbers, 3)):
        piece = tmp_path / f"piece{i}.lis"
        piece.write_text("# a piece\r\n" + "".join(f"cpxt-fit x --region {number}\r\n" for number in part))
        pieces.append(RunningFit(layout, "--commands", str(piece)))
    pieces.append(RunningFit(layout, "--region", "42"))
    for piece in pieces:
        code, _, errors = piece.end()
        assert code == 0, errors
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed
    assert run_fit(layout, "--resolution", "3", fake=True).returncode == 0
    assert bytes_without_seconds(read_results(layout.fits)) == undisturbed
