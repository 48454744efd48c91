"""``cpxt-spectrum``: PHA files in, the fit of the maps out; headers are followed, options override them."""

import json
import shutil
from pathlib import Path

import acis_spectra
import numpy as np
import pytest
from astropy.io import fits

from cpxt_hpc.cli import spectrum
from cpxt_hpc.errors import ConfigError
from cpxt_hpc.fitting.results import RESULT_DTYPE
from cpxt_hpc.io.ogip import read_pha
from cpxt_hpc.io.sky_position import parse_position
from cpxt_hpc.products.spectrum_plot import point_starts
from cpxt_hpc.products.spectrum_report import PLACE_COLUMNS
from cpxt_hpc.science.template import background_template

SHARED = Path(__file__).resolve().parents[2] / "shared" / "spectra"
MODEL = ["--nH", str(acis_spectra.NH), "--redshift", str(acis_spectra.REDSHIFT), "--abundance", "0.3"]

needs_xspec = pytest.mark.skipif(
    bool(acis_spectra.why_not()), reason="no XSPEC models or responses (bash jobscripts/setup.sh)"
)
needs_spectra = pytest.mark.skipif(not SHARED.is_dir(), reason="no real spectra beside the repository")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spectra")
    acis_spectra.write_spectrum(folder, "a", seed=11, kt_kev=5.0, counts=4000.0)
    acis_spectra.write_spectrum(folder, "b", seed=12, kt_kev=5.0, counts=4000.0)
    acis_spectra.write_spectrum(folder, "alone", seed=13, kt_kev=3.0, counts=4000.0, background=False)
    return folder


@pytest.fixture
def fit(capsys):
    """Run the command; its JSON."""

    def run(*arguments, code=0, model=MODEL):
        assert spectrum.main([*map(str, arguments), *model, "--json", "--no-files", "--quiet"]) == code
        return json.loads(capsys.readouterr().out)

    return run


def complaint(capsys, *arguments, code=2, model=MODEL):
    assert spectrum.main([*map(str, arguments), *model, "--no-files"]) == code
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert printed.out == ""
    return printed.err


@needs_xspec
@pytest.mark.parametrize("statistic", ["wstat", "cstat"])
def test_the_true_temperature_is_found(folder, fit, statistic):
    found = fit("--pha", folder / "a.pi", folder / "b.pi", "--statistic", statistic)
    assert found["status"] == "OK"
    assert abs(found["kT"] - 5.0) < 3.0 * 0.5 * (found["kT_hi"] - found["kT_lo"])
    assert found["n_obs"] == 2
    assert abs(found["stat"] - found["dof"]) < 5.0 * np.sqrt(2.0 * found["dof"])


@needs_xspec
def test_the_keys_are_those_of_the_results(folder, fit):
    found = fit("--pha", folder / "a.pi")
    assert set(RESULT_DTYPE.names) - set(PLACE_COLUMNS) <= set(found)
    assert found["abundance_lo"] is None
    assert (found["status_code"], found["engine"]) == (0, "exact")
    assert found["settings"]["statistic"] == "wstat"
    assert set(found["versions"]) == {"cpxt_hpc", "xspec", "sherpa", "atomdb"}
    (observation,) = found["observations"]
    assert observation["background"] == str(folder / "a_bg.pi")
    assert observation["background_scale"] == pytest.approx(1.0 / acis_spectra.AREA_RATIO)
    assert observation["channels"] == 501
    assert observation["bins"] == 42
    assert observation["counts"] == found["net_counts"] + found["background_counts"]


@needs_xspec
def test_without_a_background_the_statistic_is_cstat(folder, fit):
    found = fit("--pha", folder / "alone.pi")
    assert found["settings"]["statistic"] == "cstat"
    assert found["observations"][0]["background"] is None
    assert found["background_counts"] == 0.0
    assert abs(found["kT"] - 3.0) < 3.0 * (found["kT_hi"] - found["kT_lo"])
    # As if the file named none:
    assert fit("--pha", folder / "a.pi", "--background", "none")["settings"]["statistic"] == "cstat"


@needs_xspec
def test_cstat_takes_the_background_file_as_a_template(folder, fit):
    found = fit("--pha", folder / "a.pi", "--statistic", "cstat")
    blank = read_pha(folder / "a_bg.pi")
    band = slice(47, 548)  # channels 48 to 548
    scaled = blank.counts[band].sum() / acis_spectra.AREA_RATIO
    assert found["background_counts"] == pytest.approx(scaled, rel=1e-12)
    template = background_template(blank.counts, enough_counts=400, max_channels=5)
    assert np.count_nonzero(template == 0.0) == 0


@needs_xspec
def test_a_template_of_few_counts_is_warned_of(folder, capsys):
    arguments = ["--pha", str(folder / "a.pi"), *MODEL, "--no-files", "--statistic"]
    spectrum.main([*arguments, "cstat"])
    assert "a_bg.pi: about" in capsys.readouterr().err
    spectrum.main([*arguments, "wstat"])
    assert "template" not in capsys.readouterr().err


@needs_xspec
def test_options_override_the_files_of_the_header(folder, fit, tmp_path):
    expected = fit("--pha", folder / "a.pi")
    for name in ("a.pi", "a_bg.pi", "a.arf", "a.rmf"):
        shutil.copy(folder / name, tmp_path / f"other_{name}")
    given = [
        "--background",
        tmp_path / "other_a_bg.pi",
        "--arf",
        tmp_path / "other_a.arf",
        "--rmf",
        tmp_path / "other_a.rmf",
    ]
    found = fit("--pha", tmp_path / "other_a.pi", *given)
    assert found["kT"] == expected["kT"]
    assert found["observations"][0]["arf"] == str(tmp_path / "other_a.arf")


@needs_xspec
def test_files_of_the_header_are_found_beside_the_spectrum_whatever_their_old_folder(folder, fit, tmp_path):
    for name in ("a.pi", "a_bg.pi", "a.arf", "a.rmf"):
        shutil.copy(folder / name, tmp_path / name)
    with fits.open(tmp_path / "a.pi", mode="update") as hdus:
        header = hdus["SPECTRUM"].header
        header["ANCRFILE"], header["RESPFILE"] = "/home/x/spec/a.arf", "a.rmf[MATRIX]"
    assert fit("--pha", tmp_path / "a.pi")["kT"] == fit("--pha", folder / "a.pi")["kT"]


@needs_xspec
def test_bad_channels_take_no_part(folder, fit, tmp_path):
    quality = np.zeros(1024, dtype=int)
    quality[100:200] = 5
    acis_spectra.write_spectrum(tmp_path, "a", seed=11, kt_kev=5.0, counts=4000.0, quality=quality)
    found = fit("--pha", tmp_path / "a.pi")
    assert found["observations"][0]["channels"] == 401
    # Whatever they hold.
    with fits.open(tmp_path / "a.pi", mode="update") as hdus:
        hdus["SPECTRUM"].data["COUNTS"][100:200] = 1000
    assert fit("--pha", tmp_path / "a.pi")["stat"] == found["stat"]


@needs_xspec
def test_a_spectrum_of_rates_is_one_of_counts(folder, fit, tmp_path):
    for name in ("a.pi", "a_bg.pi", "a.arf", "a.rmf"):
        shutil.copy(folder / name, tmp_path / name)
    with fits.open(tmp_path / "a.pi") as hdus:
        table, header = hdus["SPECTRUM"].data, hdus["SPECTRUM"].header
        columns = [
            fits.Column("CHANNEL", "J", array=table["CHANNEL"]),
            fits.Column("RATE", "E", array=table["COUNTS"] / header["EXPOSURE"]),
        ]
        rates = fits.BinTableHDU.from_columns(columns, name="SPECTRUM")
        for key in ("EXPOSURE", "BACKSCAL", "AREASCAL", "RESPFILE", "ANCRFILE", "BACKFILE"):
            rates.header[key] = header[key]
    fits.HDUList([fits.PrimaryHDU(), rates]).writeto(tmp_path / "a.pi", overwrite=True)
    assert fit("--pha", tmp_path / "a.pi")["stat"] == fit("--pha", folder / "a.pi")["stat"]


@needs_xspec
def test_areascal_multiplies_the_effective_area(folder, fit, tmp_path):
    for name in ("a.pi", "a_bg.pi", "a.arf", "a.rmf"):
        shutil.copy(folder / name, tmp_path / name)
    for name in ("a.pi", "a_bg.pi"):
        with fits.open(tmp_path / name, mode="update") as hdus:
            hdus["SPECTRUM"].header["AREASCAL"] = 0.5
    found, plain = fit("--pha", tmp_path / "a.pi"), fit("--pha", folder / "a.pi")
    assert found["norm"] == pytest.approx(2.0 * plain["norm"], rel=1e-9)
    assert found["kT"] == pytest.approx(plain["kT"], rel=1e-9)
    assert found["observations"][0]["background_scale"] == plain["observations"][0]["background_scale"]


@needs_xspec
def test_a_level_of_the_limits_widens_them(folder, fit):
    narrow, wide = (fit("--pha", folder / "a.pi", "--delta-statistic", level) for level in ("1", "2.706"))
    assert narrow["kT"] == wide["kT"]
    ratio = (wide["kT_hi"] - wide["kT_lo"]) / (narrow["kT_hi"] - narrow["kT_lo"])
    assert ratio == pytest.approx(np.sqrt(2.706), rel=0.05)


@needs_xspec
def test_picture_and_json_are_written(folder, tmp_path, capsys):
    arguments = ["--pha", str(folder / "a.pi"), str(folder / "b.pi"), *MODEL, "--output", str(tmp_path / "new")]
    assert spectrum.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("a and 1 more, engine exact: kT ")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a_fit.json", "a_fit.png"]
    assert (tmp_path / "new" / "a_fit.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((tmp_path / "new" / "a_fit.json").read_text())
    assert f"kT {written['kT']:.3f} keV" in printed


def test_points_of_the_picture_hold_enough_counts():
    expected = np.concatenate([np.full(50, 3.0), np.full(50, 0.1)])
    low = np.linspace(0.7, 8.0, 101)
    starts = point_starts(expected, low[:-1], low[1:], 20.0)
    held = np.add.reduceat(expected, starts)
    assert held.min() >= 20.0
    assert held.sum() == pytest.approx(expected.sum())


@needs_spectra
@needs_xspec
@pytest.mark.parametrize(
    ("statistic", "group", "kt"), [("wstat", "1", 10.2), ("chi2gehrels", "1", 6.28), (None, "12", 10.1)]
)
def test_the_real_spectrum_of_3c186_has_its_known_temperatures(fit, statistic, group, kt):
    chosen = ["--statistic", statistic] if statistic else []
    model = ["--nH", "0.05", "-z", "1.067", "--abundance", "0.3"]
    found = fit("--pha", SHARED / "9774.pi", "--group-channels", group, *chosen, model=model)
    assert found["kT"] == pytest.approx(kt, rel=0.005)
    assert found["settings"]["statistic"] == (statistic or "wstat")


@needs_spectra
@needs_xspec
def test_four_real_spectra_with_hardly_any_counts_are_fitted_jointly(fit):
    model = ["--nH", "0.05", "-z", "0.719", "--abundance", "0.3"]
    files = [SHARED / f"obs{number}.pi" for number in (1, 2, 3, 4)]
    found = fit("--pha", *files, model=model)
    assert found["n_obs"] == 4
    assert 70 < found["net_counts"] < 100
    assert found["norm_lo"] < found["norm"] < found["norm_hi"]
    assert "FEW_COUNTS" in found["flags"]


# --- the command line ------------------------------------------------------------------------------------


def test_missing_parameters_are_named_together(capsys):
    told = complaint(capsys, "--pha", "a.pi", "--nH", "0.05", model=[])
    assert "--pha needs --redshift, --abundance" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--statistic", "chi3"], "--statistic chi3: unknown. Choose one of: cstat, wstat"),
        (["--engine", "xspec"], "--engine xspec: unknown. Choose one of: exact, sherpa"),
        (["--redshift", "abc"], "--redshift abc: not a number"),
        (["--abundance", "-1"], "--abundance -1: out of range"),
        (["--free", "kT"], "--free kT: unknown"),
        (["--energy-min", "5", "--energy-max", "2"], "--energy-min 5: not below --energy-max, 2 keV"),
        (["--arf", "x.arf", "y.arf"], "--arf names 2 files, --pha 1"),
    ],
)
def test_wrong_options_are_one_clear_message(capsys, arguments, message):
    assert message in complaint(capsys, "--pha", "a.pi", model=[*MODEL, *arguments])


def test_all_faults_are_told_at_once(capsys):
    told = complaint(capsys, "--pha", "a.pi", "--statistic", "chi3", "--free", "kT")
    assert "--statistic chi3" in told
    assert "--free kT" in told


def test_one_thing_is_asked_for(capsys):
    assert "required" in complaint(capsys, model=[])
    assert "not allowed" in complaint(capsys, "--pha", "a.pi", "--region", "3")
    assert "not allowed with --pha" in complaint(capsys, "cluster.ini", "--pha=a.pi")


def test_files_and_band_belong_to_spectra_of_files(capsys):
    told = complaint(capsys, "--region", "3", "--energy-max", "7", "--arf", "x.arf", model=[])
    assert "--energy-max, --arf: for --pha only" in told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("255.7,-1.25", (255.7, -1.25)),
        ("255.7 -1.25", (255.7, -1.25)),
        ("17:02:42.7,+34:03:43", (255.677917, 34.061944)),
        ("17 02 42.7 -00 30 00", (255.677917, -0.5)),
        ("17h02m42.7s,-0d30m", (255.677917, -0.5)),
        ("0:0:0,-89:59:59.9", (0.0, -89.999972)),
    ],
)
def test_positions_are_read_as_people_type_them(text, expected):
    assert parse_position(text) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "text", ["", "12", "abc,def", "361,0", "10,91", "1,2,3", "nan,1", "17:62:00,1:00:00", "1:2:3,4"]
)
def test_what_is_no_position_is_refused(text):
    with pytest.raises(ConfigError, match="expected RA,DEC in degrees"):
        parse_position(text)
