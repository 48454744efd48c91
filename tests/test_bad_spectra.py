"""Bad PHA files and responses: one clear message that names the file, or a flag, and never a wrong number."""

import dataclasses
import json

import acis_spectra
import numpy as np
import pytest
from astropy.io import fits

from cpxt_hpc.cli import spectrum
from cpxt_hpc.io.ogip_write import write_arf, write_rmf
from cpxt_hpc.science.response import EffectiveArea

MODEL = ["--nH", "0.05", "--redshift", "0.2", "--abundance", "0.3"]

pytestmark = pytest.mark.skipif(
    bool(acis_spectra.why_not()), reason="no XSPEC models or responses (bash jobscripts/setup.sh)"
)


@pytest.fixture
def files(tmp_path):
    """A good spectrum with its background and responses, to be spoilt."""
    acis_spectra.write_spectrum(tmp_path, "a", seed=21, counts=2000.0)
    return tmp_path


def changed(path, extension="SPECTRUM", *, header=None, column=None, values=None):
    """Spoil a file: keywords, or a column."""
    with fits.open(path, mode="update") as hdus:
        for key, value in (header or {}).items():
            hdus[extension].header[key] = value
        if column is not None:
            hdus[extension].data[column] = values


def retyped(path, columns):
    """Replace the columns of a spectrum by others of other types."""
    with fits.open(path) as hdus:
        header = hdus["SPECTRUM"].header
        table = fits.BinTableHDU.from_columns(
            [fits.Column(name, form, array=values) for name, form, values in columns], name="SPECTRUM"
        )
        for key in ("EXPOSURE", "BACKSCAL", "AREASCAL", "RESPFILE", "ANCRFILE", "BACKFILE"):
            table.header[key] = header[key]
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)


def told(capsys, folder, *options, code=3):
    assert spectrum.main(["--pha", str(folder / "a.pi"), *MODEL, *options, "--no-files", "--json"]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert printed.err.count("error:") == 1
    return printed.err


def fitted(capsys, folder, *options):
    assert spectrum.main(["--pha", str(folder / "a.pi"), *MODEL, *options, "--no-files", "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


CHANNEL = np.arange(1, 1025)


def test_channels_that_do_not_match_the_matrix(files, capsys):
    retyped(files / "a.pi", [("CHANNEL", "J", np.arange(1, 513)), ("COUNTS", "J", np.ones(512))])
    message = told(capsys, files)
    assert "a.pi has 512 channels from 1 to 512" in message
    assert "a.rmf has 1024 from 1 to 1024" in message


def test_channels_numbered_otherwise_than_those_of_the_matrix(files, capsys):
    changed(files / "a.pi", column="CHANNEL", values=CHANNEL - 1)
    assert "from 0 to 1023" in told(capsys, files)


def test_a_background_of_another_detector(files, capsys):
    retyped(files / "a_bg.pi", [("CHANNEL", "J", np.arange(1, 513)), ("COUNTS", "J", np.ones(512))])
    assert "a_bg.pi has 512 channels" in told(capsys, files)


def test_channels_in_disorder(files, capsys):
    changed(files / "a.pi", column="CHANNEL", values=CHANNEL[::-1])
    assert "channels are not consecutive" in told(capsys, files)


def test_an_area_on_another_grid(files, capsys):
    with fits.open(files / "a.arf") as hdus:
        table = hdus["SPECRESP"].data[:500].copy()
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(table, name="SPECRESP")]).writeto(
            files / "a.arf", overwrite=True
        )
    message = told(capsys, files)
    assert "they do not belong together" in message
    assert "500 energy bins" in message


@pytest.mark.parametrize("statistic", ["wstat", "cstat", "chi2gehrels"])
def test_no_counts_at_all(files, capsys, statistic):
    changed(files / "a.pi", column="COUNTS", values=np.zeros(1024))
    found = fitted(capsys, files, "--statistic", statistic)
    assert found["status"] == "KT_UNCONSTRAINED"
    assert found["kT"] is None
    assert found["norm"] == 0.0
    assert "FEW_COUNTS" in found["flags"]


def test_a_background_without_counts(files, capsys):
    changed(files / "a_bg.pi", column="COUNTS", values=np.zeros(1024))
    found = fitted(capsys, files, "--statistic", "cstat")
    assert found["background_counts"] == 0.0
    assert found["status"] == "OK"


@pytest.mark.parametrize("exposure", [0.0, -1.0])
@pytest.mark.parametrize("name", ["a.pi", "a_bg.pi"])
def test_no_exposure(files, capsys, name, exposure):
    changed(files / name, header={"EXPOSURE": exposure})
    message = told(capsys, files)
    assert f"{name}: EXPOSURE is {exposure}" in message


def test_a_negative_background(files, capsys):
    values = np.ones(1024)
    values[3] = -1
    changed(files / "a_bg.pi", column="COUNTS", values=values)
    assert "a_bg.pi: has counts that are negative" in told(capsys, files)


@pytest.mark.parametrize("name", ["a.pi", "a_bg.pi"])
def test_counts_that_are_no_number(files, capsys, name):
    values = np.ones(1024)
    values[100] = np.nan
    retyped(files / name, [("CHANNEL", "J", CHANNEL), ("COUNTS", "D", values)])
    assert f"{name}: has counts that are negative or no number" in told(capsys, files)


def test_a_background_that_was_subtracted_before(files, capsys):
    retyped(files / "a.pi", [("CHANNEL", "J", CHANNEL), ("RATE", "E", np.full(1024, 1.234e-4))])
    assert "a.pi: its counts are no whole numbers" in told(capsys, files)


def test_several_spectra_in_a_file(files, capsys):
    rows = np.ones((2, 1024))
    retyped(files / "a.pi", [("CHANNEL", "1024J", [CHANNEL, CHANNEL]), ("COUNTS", "1024J", rows)])
    assert "holds several spectra (PHA type II)" in told(capsys, files)


def test_expected_background_counts_go_with_cstat_only(files, capsys):
    retyped(files / "a_bg.pi", [("CHANNEL", "J", CHANNEL), ("COUNTS", "D", np.full(1024, 0.25))])
    assert fitted(capsys, files)["settings"]["statistic"] == "cstat"
    assert "holds expected counts" in told(capsys, files, "--statistic", "wstat", code=2)


def test_wstat_without_a_background(files, capsys):
    assert "has no background spectrum" in told(capsys, files, "--background", "none", "--statistic", "wstat", code=2)


def test_a_matrix_without_its_extension(files, capsys):
    with fits.open(files / "a.rmf") as hdus:
        fits.HDUList([fits.PrimaryHDU(), hdus["EBOUNDS"].copy()]).writeto(files / "a.rmf", overwrite=True)
    message = told(capsys, files)
    assert "a.rmf: has no table extension MATRIX or SPECRESP MATRIX; it has: EBOUNDS" in message


def test_energies_below_the_response(files, capsys):
    message = told(capsys, files, "--energy-min", "0.15", code=2)
    assert "the band 0.15 to 8 keV is wider than the response" in message
    assert "a.rmf" in message


def test_energies_above_the_response(files, capsys):
    made = acis_spectra.acis()
    edges = made.area.energy_edges_kev
    kept = int(np.searchsorted(edges, 7.0))
    area = EffectiveArea(edges[: kept + 1], made.area.area_cm2[:kept])
    short = dataclasses.replace(
        made.redistribution, energy_edges_kev=edges[: kept + 1], matrix=made.redistribution.matrix[:kept]
    )
    write_arf(files / "a.arf", area)
    write_rmf(files / "a.rmf", short)
    assert "which knows energies from" in told(capsys, files, code=2)
    assert fitted(capsys, files, "--energy-max", "6.5")["status"] == "OK"


def test_only_bad_channels(files, capsys):
    acis_spectra.write_spectrum(files, "a", seed=21, counts=2000.0, quality=np.full(1024, 5))
    assert "QUALITY marks all 501 channels" in told(capsys, files)


@pytest.mark.parametrize("key", ["BACKSCAL", "AREASCAL"])
def test_an_area_of_nothing(files, capsys, key):
    changed(files / "a_bg.pi", header={key: 0.0})
    assert "AREASCAL and BACKSCAL must be above 0" in told(capsys, files)


@pytest.mark.parametrize("missing", ["a.pi", "a_bg.pi", "a.arf", "a.rmf"])
def test_a_missing_file(files, capsys, missing):
    (files / missing).unlink()
    assert missing in told(capsys, files)


@pytest.mark.parametrize(("key", "option"), [("RESPFILE", "--rmf"), ("ANCRFILE", "--arf")])
def test_a_header_that_names_no_response(files, capsys, key, option):
    changed(files / "a.pi", header={key: "none"})
    assert f"{key} names no file. Give it by {option}." in told(capsys, files)


@pytest.mark.parametrize("name", ["a.pi", "a_bg.pi", "a.arf", "a.rmf"])
def test_a_truncated_file(files, capsys, name):
    content = (files / name).read_bytes()
    (files / name).write_bytes(content[: len(content) // 2])
    assert name in told(capsys, files)


def test_a_file_of_another_kind(files, capsys):
    (files / "a.pi").write_text("no FITS file")
    assert "not a readable FITS spectrum" in told(capsys, files)
