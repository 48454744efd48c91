import dataclasses
import subprocess
import sys

import mapped_cluster
import numpy as np
import pytest

from cpxt_hpc.cli.maps import main
from cpxt_hpc.fitting.results import Flag, Status
from cpxt_hpc.io.checkpoint import Checkpoint
from cpxt_hpc.io.fit_input import write_fit_input
from cpxt_hpc.io.images import read_image
from cpxt_hpc.io.tables import read_fits_csv
from cpxt_hpc.products.quantities import QUANTITIES


@pytest.fixture(scope="module")
def fit_input():
    return mapped_cluster.make_input()


@pytest.fixture
def rows(fit_input):
    rows = mapped_cluster.fits_of(fit_input)
    rows["status"][3] = Status.KT_HI_UNBOUND
    rows[8] = mapped_cluster.without_values(rows[8], Status.NO_EXPOSURE)
    return rows


def run(layout, *words):
    return main([str(layout.ini), "--quiet", *words])


def test_all_maps_and_tables_are_written_and_told(tmp_path, fit_input, rows, capsys):
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, rows)
    assert run(layout, "--no-pictures") == 0
    out = capsys.readouterr().out
    for name in QUANTITIES:
        assert layout.map_file(f"{name}.fits").is_file()
        assert name in out.split()
    assert f"{layout.main_output}/A1_*.fits ({len(QUANTITIES)} files):" in out
    assert f"{len(rows)} of {len(rows)} regions of resolution 2 (blocks of 3 x 3 pixels) are fitted" in out
    assert f"{len(rows) - 2:8d}  status  0  fitted well" in out
    assert "       1  status  4  upper limit of kT not constrained" in out
    assert "       1  status 16  too little exposure, no value" in out
    assert f"median kT {np.median(np.delete(rows['kT'], 8)):.3g} keV" in out
    assert read_fits_csv(layout.table("worst_spectral_fits"))["region"].tolist() == [rows["region"][3]]
    assert len(read_fits_csv(layout.table("all_spectral_fits"))) == len(rows) - 1
    assert not list(layout.main_output.glob("*.png"))


def test_flags_and_the_disagreement_of_all_observations_are_told(tmp_path, fit_input, rows, capsys):
    rows["flags"][:12] = Flag.FEW_COUNTS
    rows["flags"][10:13] += np.uint32(Flag.OBSERVATIONS_DISAGREE)
    rows["disagreement"] = 1.8
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, rows)
    assert run(layout, "--only", "goodness", "--no-pictures") == 0
    out = capsys.readouterr().out
    assert "flagged: 12 few counts, 3 observations disagree" in out
    assert "observations disagree by 1.8 sigma in the median (0.7 by chance). One of them may be bad" in out


def test_a_map_of_what_was_not_fitted_is_named_and_not_written(tmp_path, fit_input, rows, capsys):
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, mapped_cluster.frozen(rows))
    assert main([str(layout.ini), "--only", "abundance,norm", "--no-pictures"]) == 0
    assert "not made, for no fit has what they show: abundance" in capsys.readouterr().err
    assert [path.name for path in layout.main_output.iterdir()] == ["A1_norm.fits"]


def test_only_writes_the_named_maps_with_their_pictures(tmp_path, fit_input, rows):
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, rows)
    assert run(layout, "--only", "temperature_map", "norm,status") == 0
    names = sorted(path.name for path in layout.main_output.iterdir())
    assert names == sorted(f"A1_{n}.{e}" for n in ("temperature_map", "norm", "status") for e in ("fits", "png"))
    assert not layout.table("spectral_fits").exists()


def test_an_unknown_map_is_refused_with_the_nearest_name(tmp_path, fit_input, rows, capsys):
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, rows)
    assert run(layout, "--only", "temprature_map") == 2
    assert "'temprature_map' (did you mean temperature_map?)" in capsys.readouterr().err
    assert not layout.main_output.exists()


def test_fits_of_finer_resolutions_are_left_out_on_request(tmp_path, fit_input, capsys):
    rows = mapped_cluster.fits_of(fit_input, resolution=3)
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, rows)
    assert run(layout, "--only", "region", "--no-pictures") == 0
    fine, _, _ = read_image(layout.map_file("region.fits"))
    assert run(layout, "--only", "region", "--no-pictures", "--resolution", "1") == 0
    coarse, _, header = read_image(layout.map_file("region.fits"))
    assert np.unique(fine[fine > 0]).size == len(rows)
    assert np.unique(coarse[coarse > 0]).size == np.sum((rows["iy"] % 5 == 0) & (rows["ix"] % 5 == 0))
    assert header["MAPRESOL"] == 1


def test_maps_can_be_made_while_a_job_writes(tmp_path, fit_input, rows, capsys):
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, None)
    with Checkpoint(layout.fits, mapped_cluster.provenance_of(fit_input)) as checkpoint:
        checkpoint.append(rows[:20])
        assert run(layout, "--only", "temperature_map", "--no-pictures") == 0
    assert f"20 of {len(rows)} regions of resolution 2" in capsys.readouterr().out
    image, _, header = read_image(layout.map_file("temperature_map.fits"))
    assert header["NFITTED"] == 20
    assert np.isnan(image[rows["iy"][30], rows["ix"][30]])


def test_without_fits_the_message_names_the_command_to_run(tmp_path, fit_input, capsys):
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, None)
    assert run(layout) == 3
    assert f"Run: cpxt-fit {layout.ini} --resolution 2" in capsys.readouterr().err
    with Checkpoint(layout.fits, mapped_cluster.provenance_of(fit_input)):
        assert run(layout) == 3
    assert "no fit is there yet" in capsys.readouterr().err


def test_a_resolution_of_which_no_fit_is_there_is_told(tmp_path, fit_input, capsys):
    rows = mapped_cluster.fits_of(fit_input, resolution=3)
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, rows[rows["iy"] % 5 != 0])
    assert run(layout, "--resolution", "1") == 3
    assert "no fit is there yet at resolution 1, only" in capsys.readouterr().err


def test_without_a_fit_input_the_message_names_the_stage(tmp_path, fit_input, rows, capsys):
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, rows)
    layout.fit_input.unlink()
    assert run(layout) == 3
    assert "cpxt-prep" in capsys.readouterr().err


def test_a_checkpoint_of_another_binning_is_refused(tmp_path, fit_input, rows, capsys):
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, rows)
    write_fit_input(layout.fit_input, dataclasses.replace(fit_input, binning_digest="anew"))
    assert run(layout) == 7
    assert "belongs to another binning" in capsys.readouterr().err
    assert not layout.main_output.exists()


def test_a_bad_resolution_is_a_usage_error(tmp_path, capsys):
    assert main(["--resolution", "4"]) == 2
    assert "invalid choice: 4" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_made_is_one_clear_error(tmp_path, fit_input, rows, capsys):
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, rows)
    layout.main_output.write_text("a file in the way")
    assert run(layout, "--no-pictures") == 6
    assert "A1_temperature_map.fits: cannot be written" in capsys.readouterr().err


def test_neither_mpi_nor_xspec_is_needed():
    code = "import sys, cpxt_hpc.cli.maps; print([m for m in ('mpi4py', 'sherpa') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
