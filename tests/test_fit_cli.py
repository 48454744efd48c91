"""``cpxt-fit`` and ``cpxt-status`` from the command line: what is refused, recorded, printed."""

import csv
import json
import re
import time

import numpy as np
import pytest
from fit_job import RunningFit, ready_to_fit, run_fit

from cpxt_hpc.cli.fit import main as fit_main
from cpxt_hpc.cli.status import fit_status, status_lines
from cpxt_hpc.cli.status import main as status_main
from cpxt_hpc.fitting.regions import RegionFitter
from cpxt_hpc.fitting.results import Status
from cpxt_hpc.io.checkpoint import read_results, read_settings
from cpxt_hpc.io.fit_input import read_fit_input
from cpxt_hpc.io.result_rows import bytes_without_seconds


@pytest.fixture
def layout(tmp_path):
    return ready_to_fit(tmp_path / "made_up")


def edit(layout, old, new):
    text = layout.ini.read_text()
    assert old in text
    layout.ini.write_text(text.replace(old, new))


def test_fits_of_other_settings_are_refused_and_another_label_or_restart_helps(layout):
    assert run_fit(layout, fake=True).returncode == 0
    edit(layout, "statistic = cstat", "statistic = chi2gehrels")
    refused = run_fit(layout, fake=True)
    assert refused.returncode == 7
    assert "statistic 'cstat', now 'chi2gehrels'" in refused.stderr
    assert "--restart" in refused.stderr
    edit(layout, "\nlabel =", "\nlabel = gehrels")
    assert run_fit(layout, fake=True).returncode == 0
    assert read_settings(layout.acb / "made_up_fits_gehrels.h5")["statistic"] == "chi2gehrels"
    edit(layout, "\nlabel = gehrels", "\nlabel =")
    assert run_fit(layout, "--restart", ranks=3, fake=True).returncode == 0
    assert read_settings(layout.fits)["statistic"] == "chi2gehrels"
    assert len(list(layout.acb.glob("made_up_fits.20*.h5"))) == 1


def test_a_fit_input_of_other_settings_is_refused_with_the_command_to_run(layout):
    edit(layout, "energy_max_kev = 8", "energy_max_kev = 7")
    for ranks in (0, 3):
        refused = run_fit(layout, ranks=ranks, fake=True)
        assert refused.returncode == 2
        assert "energy_max_kev 8.0, in cluster.ini 7.0" in refused.stderr
        assert f"cpxt-prep {layout.ini} --stage 5" in refused.stderr
        assert refused.stderr.count("was made with") == 1
    assert not layout.fits.exists()


def test_another_redshift_is_folded_once_for_all_ranks(layout):
    edit(layout, "redshift = 0.2", "redshift = 0.3")
    assert run_fit(layout, "--resolution", "1", ranks=3).returncode == 0
    assert len(list(layout.acb.glob("made_up_nodes_*.h5"))) == 1
    assert read_settings(layout.fits)["redshift"] == 0.3
    together = read_results(layout.fits)
    alone = run_fit(layout, "--resolution", "1", "--restart")
    assert alone.returncode == 0 and "folded anew" not in alone.stderr
    assert bytes_without_seconds(read_results(layout.fits)) == bytes_without_seconds(together)


def test_regions_that_crash_are_recorded_listed_and_never_tried_again(layout, tmp_path):
    ended = run_fit(layout, "--resolution", "3", ranks=3, fake=True, FAKE_CRASH="17 200")
    assert ended.returncode == 5
    assert "CRASHED: regions 17, 200" in ended.stderr
    assert "region 17 crashed (ValueError: made to crash at 17)" in ended.stderr
    rows = read_results(layout.fits)
    assert rows["region"][rows["status"] == Status.CRASHED].tolist() == [17, 200]
    assert np.isnan(rows["kT"][16])
    log = tmp_path / "fits"
    again = run_fit(layout, "--resolution", "3", fake=True, FAKE_LOG=str(log))
    assert again.returncode == 5
    assert not log.exists()


def test_srun_without_mpi_is_refused_before_any_work(layout):
    refused = run_fit(layout, fake=True, SLURM_STEP_NUM_TASKS="4", SLURM_PROCID="0")
    assert refused.returncode == 2
    assert "started 4 processes, but each finds itself alone" in refused.stderr
    assert "srun --mpi=pmi2" in refused.stderr
    assert not layout.fits.exists()


def test_a_missing_fit_input_is_told_once_by_all_ranks_together(layout):
    layout.fit_input.unlink()
    ended = run_fit(layout, ranks=3, fake=True)
    assert ended.returncode == 3
    assert ended.stderr.count("does not exist") == 1


def test_a_usage_error_is_told_once(layout):
    ended = run_fit(layout, "--resolution", "4", ranks=3, fake=True)
    assert ended.returncode == 2
    assert ended.stderr.count("invalid choice") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--region", "3", "--restart"], "not allowed with --restart"),
        (["--region", "3", "--resolution", "2"], "not allowed with --resolution"),
        (["--restart", "--continue"], "not allowed with argument --restart"),
        (["--num_cpus", "0"], "expected 1 or more"),
        (["--region", "999"], "has no such region; its numbers are 1 to 300"),
    ],
)
def test_options_that_make_no_sense_are_refused(layout, options, message):
    ended = run_fit(layout, *options, fake=True)
    assert ended.returncode == 2
    assert message in ended.stderr


def test_a_list_of_another_binning_is_refused(layout):
    layout.commands.write_text(layout.commands.read_text() + "cpxt-fit cluster.ini --region 5000\n")
    ended = run_fit(layout, fake=True)
    assert ended.returncode == 3
    assert "names 1 regions that made_up_fit_input.h5 does not have (the first: 5000)" in ended.stderr


def test_a_single_region_is_fitted_printed_and_not_done_twice(layout, tmp_path):
    log = tmp_path / "fits"
    for _ in range(2):
        ended = run_fit(layout, "--region", "7", fake=True, FAKE_LOG=str(log))
        assert ended.returncode == 0, ended.stderr
        assert re.match(r"region 7: kT -?\d+\.\d+ keV \(.*\), norm .*, OK\n", ended.stdout)
        assert run_fit(layout, "--resolution", "1", fake=True).returncode == 0
    assert log.read_text() == "7\n"
    left = next(number for number in range(1, 301) if number not in read_results(layout.fits)["region"])
    assert run_fit(layout, "--region", str(left), fake=True, FAKE_CRASH=str(left)).returncode == 5


def test_progress_comes_by_time_and_ends_with_a_summary_by_status(layout):
    ended = run_fit(layout, "--resolution", "3", ranks=3, fake=True, FAKE_CRASH="9")
    assert re.search(r"^\d\d:\d\d:\d\d fit: 300 of 300 regions done$", ended.stderr, re.MULTILINE)
    assert re.search(r"^\d\d:\d\d:\d\d fit: +299  OK$", ended.stderr, re.MULTILINE)
    assert re.search(r"^\d\d:\d\d:\d\d fit: +1  CRASHED$", ended.stderr, re.MULTILINE)
    assert f"Next: cpxt-maps {layout.ini} --resolution 3" in ended.stdout
    assert ended.stderr.count("\n") < 12


def test_status_before_any_fit_says_that_all_is_left(layout):
    status = fit_status(layout)
    assert (status["regions"], status["done"], status["left"]) == (300, 0, 300)
    assert status["last_written"] is status["job"] is None


def test_status_tells_of_a_running_job_and_does_not_disturb_it(layout):
    with RunningFit(layout, "--resolution", "3", ranks=3, FAKE_FAST="20", FAKE_SLEEP_S="0.3") as fit:
        fit.wait_for_results(10)
        status = fit_status(layout)
        assert status["done"] >= 10
        assert status["job"]["workers"] == 2
        assert status["job"]["pid"] in fit.processes()
        assert status["job"]["regions_per_s"] > 0
        assert status["job"]["seconds_left"] > 0
        text = "\n".join(status_lines(status))
        assert re.search(r"at work: process \d+ on \S+ since 20", text)
        assert re.search(r"2 workers, .*/s, about .* left", text)
    deadline = time.monotonic() + 30.0  # a killed process lasts until its parent has taken note of it
    while fit_status(layout)["job"] is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert fit_status(layout)["job"] is None


def test_status_counts_by_resolution_and_status(layout, capsys):
    assert run_fit(layout, "--resolution", "1", fake=True).returncode == 0
    coarse = len(read_results(layout.fits))
    assert run_fit(layout, "--resolution", "2", fake=True, FAKE_CRASH=" ".join(map(str, range(1, 40)))).returncode == 5
    assert status_main([str(layout.ini), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["resolutions"]["1"] == {"regions": coarse, "done": coarse, "left": 0}
    assert status["resolutions"]["2"]["left"] == 0
    assert status["resolutions"]["3"]["left"] == status["left"] == 300 - status["done"]
    assert sum(status["by_status"].values()) == status["done"]
    assert len(status["failed"]["CRASHED"]) == status["by_status"]["CRASHED"] > 0
    assert status_main([str(layout.ini)]) == 0
    assert f"made_up: {status['done']} of 300 regions fitted" in capsys.readouterr().out


def test_status_of_a_missing_fit_input_is_told(layout, capsys):
    layout.fit_input.unlink()
    assert status_main([str(layout.ini)]) == 3
    assert "does not exist" in capsys.readouterr().err


def test_the_users_own_regions_are_fitted_into_a_table(layout):
    fit_input = read_fit_input(layout.fit_input)
    x, y = fit_input.grid.sky_from_image(14, 15)
    regions = layout.folder / "mine.reg"
    regions.write_text(
        f"physical\ncircle({x},{y},25) # text={{core}}\nannulus({x},{y},25,49)\n"
        f"polygon({x - 40},{y - 40},{x + 40},{y - 40},{x},{y + 40})\n-circle({x},{y},5)\n"
    )
    assert fit_main([str(layout.ini), "--regions", str(regions)]) == 0
    with open(layout.acb / "made_up_regions_mine.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["shape"].partition("(")[0] for row in rows] == ["circle", "annulus", "polygon"]
    assert [row["region"] for row in rows] == ["1", "2", "3"]
    iy, ix = np.mgrid[:30, :30]
    distance = np.hypot(iy - 15, ix - 14)
    # No pixel's centre lies on the edge of these, in image pixels of 4 sky pixels.
    inside = np.flatnonzero((distance < 25 / 4) & (distance > 5 / 4))
    assert int(rows[0]["pixels"]) == len(inside)
    expected = RegionFitter(fit_input).fit_pixels(inside, 1)
    for name in ("kT", "kT_lo", "kT_hi", "norm", "net_counts"):
        assert float(rows[0][name]) == pytest.approx(float(expected[name]), rel=1e-7)
    assert not layout.fits.exists()


def test_a_region_file_without_shapes_is_refused(layout, capsys):
    regions = layout.folder / "empty.reg"
    regions.write_text("physical\n")
    assert fit_main([str(layout.ini), "--regions", str(regions)]) == 3
    assert "no shape to fit" in capsys.readouterr().err
