"""``cpxt-spectrum cluster.ini``: a region by number, place or shape; its fit is that of the map, with all its files."""

import dataclasses
import json

import acis_spectra
import numpy as np
import pytest
from acis_map import acis_fit_input
from fit_job import write_job

from cpxt_hpc.cli import spectrum
from cpxt_hpc.errors import ConfigError
from cpxt_hpc.fitting.regions import RegionFitter
from cpxt_hpc.io.fit_input import read_fit_input, write_fit_input
from cpxt_hpc.io.ogip import read_pha

pytestmark = pytest.mark.skipif(
    bool(acis_spectra.why_not()), reason="no XSPEC models or responses (bash jobscripts/setup.sh)"
)

NUMBER = 18


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    fit_input = acis_fit_input(3, counts=4000.0)
    layout = write_job(tmp_path_factory.mktemp("cluster") / "made_up", fit_input)
    settings = {**read_fit_input(layout.fit_input).settings, **fit_input.settings}
    write_fit_input(layout.fit_input, dataclasses.replace(fit_input, settings=settings))
    return layout


def told(capsys, layout, *options, code=2):
    assert spectrum.main([str(layout.ini), *map(str, options), "--no-files"]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("error:") == 1
    return printed.err


def found(capsys, layout, *options):
    assert spectrum.main([str(layout.ini), *map(str, options), "--json", "--no-files", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def place_of(layout, number):
    """Sky position of a region's pixel."""
    fit_input = read_fit_input(layout.fit_input)
    regions = fit_input.regions
    index = int(np.flatnonzero(regions.number == number)[0])
    return fit_input.grid.wcs().all_pix2world(float(regions.ix[index]), float(regions.iy[index]), 0)


def test_the_fit_is_that_of_the_map(layout, capsys):
    row = RegionFitter(read_fit_input(layout.fit_input)).fit(NUMBER - 1)
    fit = found(capsys, layout, "--region", NUMBER)
    assert (fit["region"], fit["iy"], fit["ix"]) == (NUMBER, row["iy"], row["ix"])
    for name in ("kT", "kT_lo", "kT_hi", "norm", "stat", "kT_bkg_lo", "kT_bkg_hi", "stat_expected", "net_counts"):
        assert fit[name] == row[name], name
    assert [each["obsid"] for each in fit["observations"]] == [90001, 90002]
    assert fit["settings"]["statistic"] == "cstat"
    ra, dec = place_of(layout, NUMBER)
    assert (fit["ra_deg"], fit["dec_deg"]) == pytest.approx((float(ra), float(dec)))


def test_a_place_means_the_nearest_region(layout, capsys):
    ra, dec = (float(value) for value in place_of(layout, NUMBER))
    fit = found(capsys, layout, "--at", f"{ra + 1e-4},{dec}")
    regions = read_fit_input(layout.fit_input).regions
    # Several regions may lie at one pixel.
    here = (regions.iy == regions.iy[NUMBER - 1]) & (regions.ix == regions.ix[NUMBER - 1])
    assert fit["region"] in regions.number[here]


def test_places_outside_the_map_are_refused(layout, capsys):
    assert "lie outside the map" in told(capsys, layout, "--at", "10.0,10.0")
    assert "expected RA,DEC" in told(capsys, layout, "--at", "somewhere")


def test_unknown_regions_are_refused(layout, capsys):
    assert "has no such region; its numbers are 1 to 40" in told(capsys, layout, "--region", "4000")


def test_a_shape_of_a_region_file_is_a_region(layout, capsys, tmp_path):
    ra, dec = (float(value) for value in place_of(layout, NUMBER))
    shapes = tmp_path / "mine.reg"
    shapes.write_text(f'fk5\ncircle({ra},{dec},4")\ncircle({ra},{dec},10")\n')
    fit = found(capsys, layout, "--regions", shapes, "--shape", "2")
    assert fit["net_counts"] > 2.0 * found(capsys, layout, "--regions", shapes)["net_counts"]
    assert "has the shapes 1 to 2" in told(capsys, layout, "--regions", shapes, "--shape", "3")
    shapes.write_text(f'fk5\ncircle({ra + 0.1},{dec},4")\n')
    assert "holds no pixel of the map" in told(capsys, layout, "--regions", shapes)


def test_files_lie_in_the_folder_of_the_region(layout, capsys):
    assert spectrum.main([str(layout.ini), "--region", str(NUMBER), "--quiet"]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"made_up, region {NUMBER}, engine exact: kT ")
    folder = layout.main_output / "spectra" / f"region_{NUMBER}"
    stem = f"made_up_region_{NUMBER}"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [f"{stem}_fit.json", f"{stem}_fit.png", f"{stem}.xcm", f"{stem}_sherpa.py"]
        + [f"{stem}_{obsid}{ending}" for obsid in (90001, 90002)
           for ending in (".pi", "_bg.pi", "_bgmodel.pi", ".arf", ".rmf")]
    )  # fmt: skip
    written = json.loads((folder / f"{stem}_fit.json").read_text())
    counts = sum(read_pha(folder / f"{stem}_{obsid}.pi").counts.sum() for obsid in (90001, 90002))
    assert counts == pytest.approx(written["net_counts"] + written["background_counts"], rel=1e-12)


def test_the_fit_may_be_another_one_than_that_of_the_map(layout, capsys):
    fit = found(capsys, layout, "--region", NUMBER, "--statistic", "wstat", "--delta-statistic", "2.706")
    assert fit["settings"]["statistic"] == "wstat"
    assert fit["observations"][0]["bins"] == 42


def test_sherpa_refuses_other_tables_than_those_of_the_model(layout):
    pytest.importorskip("sherpa")
    fit_input = read_fit_input(layout.fit_input)
    other = dataclasses.replace(fit_input, settings={**fit_input.settings, "atomdb": "1.3.1"})
    with pytest.raises(ConfigError, match=r"folded with AtomDB 1\.3\.1, here are the tables of 3\."):
        RegionFitter(other, engine="sherpa")


def test_sherpa_may_fit_the_same_region(layout, capsys):
    pytest.importorskip("sherpa")
    fit = found(capsys, layout, "--region", NUMBER, "--engine", "exact,sherpa", "--group-channels", "4")
    exact, sherpa = fit["engines"]["exact"], fit["engines"]["sherpa"]
    sigma = 0.5 * (exact["kT_hi"] - exact["kT_lo"])
    assert abs(sherpa["kT"] - exact["kT"]) < 0.01 * sigma
    assert abs(sherpa["kT_hi"] - exact["kT_hi"]) < 0.02 * sigma
    assert exact["stat"] <= sherpa["stat"] + 1e-6
    assert sherpa["stat"] == pytest.approx(exact["stat"], rel=1e-6)
