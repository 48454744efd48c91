"""The synthetic cluster: geometry, surface brightness, files, determinism."""

import hashlib
import itertools
import json

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from cpxt_hpc.cli import demo as command
from cpxt_hpc.demo import instrument, simulate
from cpxt_hpc.demo.cluster import demo_cluster
from cpxt_hpc.demo.compare import circles_inside, compare, consistent, independent_circles
from cpxt_hpc.demo.instrument import Pointing
from cpxt_hpc.errors import MissingInput
from cpxt_hpc.fitting.results import RESULT_DTYPE
from cpxt_hpc.io.datafiles import response_files
from cpxt_hpc.io.events import read_events

try:
    response_files("cy18")
    _responses = True
except MissingInput:
    _responses = False
needs_responses = pytest.mark.skipif(not _responses, reason="ACIS responses are not set up (jobscripts/setup.sh)")


def test_chip_and_detector_coordinates_are_inverse_on_every_chip():
    rng = np.random.default_rng(1)
    ccd = rng.integers(0, 4, 1000)
    chipx, chipy = rng.uniform(2, 1023, (2, 1000))
    found = instrument.chip_from_detector(*instrument.detector_from_chip(ccd, chipx, chipy))
    np.testing.assert_array_equal(found[0], ccd)
    np.testing.assert_allclose(found[1:], (chipx, chipy), atol=1e-9)


def test_chips_do_not_overlap_and_leave_gaps_of_eleven_arcsec():
    corners = np.array([2.0, 1023.0])
    boxes = []
    for ccd in instrument.CCDS:
        x, y = instrument.detector_from_chip(np.full(2, ccd), corners, corners)
        boxes.append((min(x), max(x), min(y), max(y)))
    lefts = sorted({round(box[0]) for box in boxes})
    rights = sorted({round(box[1]) for box in boxes})
    gap_arcsec = (lefts[-1] - rights[0]) * 0.492
    assert 10.0 < gap_arcsec < 13.0


def test_sky_and_detector_coordinates_are_inverse_under_roll_and_dither():
    pointing = Pointing(10.0, 20.0, 77.0, (0.3, 1.2))
    rng = np.random.default_rng(2)
    x, y = rng.uniform(3000, 5000, (2, 500))
    time = rng.uniform(0, 3000, 500)
    back = pointing.sky_from_detector(*pointing.detector_from_sky(x, y, time), time)
    np.testing.assert_allclose(back, (x, y), atol=1e-8)


def test_drawn_positions_follow_the_surface_brightness():
    cluster = demo_cluster(seed=3, radius_arcsec=400.0, counts=1.0)
    x, y = cluster.draw_positions(200_000, np.random.default_rng(3))
    radius = np.hypot(x, y)
    edges = np.array([0.0, 30.0, 60.0, 100.0, 200.0, 400.0])
    drawn = np.histogram(radius, edges)[0] / len(radius)
    middle = np.linspace(0.0, 400.0, 400_001)
    brightness = cluster.surface_brightness(middle, np.zeros_like(middle)) * 2.0 * np.pi * middle
    expected = [np.trapezoid(np.where((middle >= a) & (middle <= b), brightness, 0.0), middle) for a, b in
                itertools.pairwise(edges)]  # fmt: skip
    # 4 sigma of the multinomial, and 1e-4 of the numerical integral
    np.testing.assert_allclose(drawn, expected, atol=4 * np.sqrt(0.25 / len(radius)) + 1e-4)


def test_expected_counts_of_the_regions_sum_to_the_cluster():
    cluster = demo_cluster(seed=3, radius_arcsec=150.0, counts=1.0e5)
    counts = cluster.expected_counts()
    assert counts.sum() == pytest.approx(1.0e5)
    assert (counts > 3000).all()


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory):
    if not _responses:
        pytest.skip("ACIS responses are not set up (jobscripts/setup.sh)")
    folder = tmp_path_factory.mktemp("demo")
    assert command.main([str(folder), "--size", "60", "--exposure-ks", "3", "--seed", "7"]) == 0
    return folder


def _digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(small_demo, tmp_path):
    options = ["--size", "60", "--exposure-ks", "3"]
    assert command.main([str(tmp_path / "a"), *options, "--seed", "7"]) == 0
    assert command.main([str(tmp_path / "b"), *options, "--seed", "8"]) == 0
    first = _digests(small_demo)
    assert _digests(tmp_path / "a") == first
    other = _digests(tmp_path / "b")
    name = "demo/90001/repro/acisf90001_repro_evt2.fits"
    assert other.keys() == first.keys() and other[name] != first[name]


def test_event_file_has_the_blocks_and_keywords_of_a_level_2_file(small_demo):
    with fits.open(small_demo / "demo/90001/repro/acisf90001_repro_evt2.fits") as blocks:
        assert [(b.name, b.header.get("CCD_ID")) for b in blocks[2:]] == [
            ("GTI", 3),
            ("GTI", 0),
            ("GTI", 1),
            ("GTI", 2),
        ]
        header, data = blocks["EVENTS"].header, blocks["EVENTS"].data
        assert (header["TELESCOP"], header["INSTRUME"], header["READMODE"]) == ("CHANDRA", "ACIS", "TIMED")
        np.testing.assert_array_equal(data["pi"], np.floor(data["energy"] / 14.6).astype(int) + 1)
        assert np.all(np.diff(data["time"]) >= 0)
        lost = blocks[4].data
        inside = (data["ccd_id"] == 1) & (data["time"] > lost["stop"][0]) & (data["time"] < lost["start"][1])
        assert len(lost) == 2 and not inside.any()
        assert header["EXPOSUR1"] == pytest.approx(header["DTCOR"] * np.sum(lost["stop"] - lost["start"]))


def test_counts_of_the_core_match_the_truth(small_demo):
    truth = json.loads((small_demo / "demo_truth/truth.json").read_text())
    core = next(part for part in truth["components"] if part["region"] == "core")
    found = 0
    for obsid in (90001, 90002):
        events = read_events(small_demo / f"demo/{obsid}/repro/acisf{obsid}_repro_evt2.fits")
        x, y = events.wcs().all_world2pix(truth["ra"], truth["dec"], 1)
        found += np.sum(np.hypot(events["x"] - x, events["y"] - y) * 0.492 < core["outer_arcsec"])
    # The point-spread function moves less than 5 % over the edge; gaps may take some; Poisson 4 sigma.
    expected = core["expected_counts_0p3_12"]
    assert 0.75 * expected - 4 * np.sqrt(expected) < found < 1.05 * expected + 4 * np.sqrt(expected)


def test_photons_are_lost_to_vignetting_by_energy_and_angle():
    """Thinned photons follow V(E, theta) of the ray traces: 4 sigma of the binomial."""
    cluster = demo_cluster(seed=3, radius_arcsec=400.0, counts=1.0)
    look = Pointing(cluster.ra_deg, cluster.dec_deg + 8.0 / 60.0, 30.0, (0.3, 1.1))
    observation = simulate.Observation(7, look, 0.0, 1000.0, 1.0, 1.0)
    n = 40_000
    for channel, expected in ((103, 0.893), (439, 0.715)):  # 1.5 and 6.4 keV, 8 arcmin below the pointing
        kept = simulate._imaged(
            cluster, observation, np.zeros(n), np.zeros(n), np.full(n, channel), np.random.default_rng(channel)
        )
        assert len(kept.x) / n == pytest.approx(expected, abs=4 * np.sqrt(0.25 / n))
        assert np.all(kept.channel == channel)


def test_the_brightest_source_lies_where_the_truth_says(small_demo):
    truth = json.loads((small_demo / "demo_truth/truth.json").read_text())
    source = max(truth["point_sources"], key=lambda each: each["counts_0p3_12"])
    events = read_events(small_demo / "demo/90001/repro/acisf90001_repro_evt2.fits")
    x, y = events.wcs().all_world2pix(source["ra"], source["dec"], 1)
    dx, dy = events["x"] - x, events["y"] - y
    near = np.hypot(dx, dy) < 4.0
    # Some 500 counts with a spread of 1 pixel, on cluster emission that is flat over 4 pixels
    assert abs(np.mean(dx[near])) < 0.3 and abs(np.mean(dy[near])) < 0.3


def test_truth_image_shows_the_regions_where_they_are(small_demo):
    truth = json.loads((small_demo / "demo_truth/truth.json").read_text())
    with fits.open(small_demo / "demo_truth/demo_kT_truth.fits") as blocks:
        image, wcs = blocks[0].data, WCS(blocks[0].header)
    column, row = wcs.all_world2pix(truth["ra"], truth["dec"], 0)
    assert image[round(float(row)), round(float(column))] == 3.5
    # 30 arcsec at 80 degrees from the x axis (west) to north lies in the arc of a cluster of 60 arcsec radius
    ra = truth["ra"] - 30.0 * np.cos(np.radians(80)) / 3600.0 / np.cos(np.radians(truth["dec"]))
    column, row = wcs.all_world2pix(ra, truth["dec"] + 30.0 * np.sin(np.radians(80)) / 3600.0, 0)
    assert image[round(float(row)), round(float(column))] == 9.0


def test_an_existing_folder_is_not_overwritten(small_demo, capsys):
    assert command.main([str(small_demo)]) == 2
    assert "exists. Choose another directory or name" in capsys.readouterr().err


def test_bad_options_are_named_together(tmp_path, capsys):
    assert command.main([str(tmp_path / "x"), "--name", "../x", "--size", "5", "--obsids", "7", "7"]) == 2
    error = capsys.readouterr().err
    assert "--name '../x'" in error and "--size 5" in error and "--obsids 7 7" in error
    assert not (tmp_path / "x").exists()


def _rows(iy, ix, radius, kt, error):
    rows = np.zeros(len(iy), dtype=RESULT_DTYPE)
    rows["region"] = np.arange(1, len(iy) + 1)
    rows["iy"], rows["ix"], rows["radius"] = iy, ix, radius
    rows["kT"], rows["kT_lo"], rows["kT_hi"] = kt, np.asarray(kt) - error, np.asarray(kt) + error
    return rows


def test_circles_that_cross_an_edge_belong_to_no_region():
    truth = np.full((40, 40), 4.0)
    truth[:, 20:] = 8.0
    held = circles_inside(_rows([20, 20, 20], [8, 18, 30], 5.0, [4.0, 4.0, 8.0], 0.5), truth)
    np.testing.assert_array_equal(held, [4.0, np.nan, 8.0])


def test_independent_circles_never_overlap():
    rng = np.random.default_rng(5)
    rows = _rows(rng.integers(0, 100, 300), rng.integers(0, 100, 300), rng.uniform(2, 9, 300), np.ones(300), 0.1)
    picked = rows[independent_circles(rows)]
    distance = np.hypot(picked["iy"][:, None] - picked["iy"], picked["ix"][:, None] - picked["ix"])
    apart = distance > picked["radius"][:, None] + picked["radius"]
    assert len(picked) > 5 and np.all(apart | np.eye(len(picked), dtype=bool))


def test_comparison_counts_pulls_and_judges_the_medians():
    truth = np.full((40, 40), 4.0)
    rows = _rows([10, 10, 30], [10, 30, 20], 4.0, [3.8, 4.2, 4.6], 0.25)
    (result,) = compare(rows, truth)
    assert (result.n_circles, result.n_independent, result.median_kev) == (3, 3, 4.2)
    assert result.inside == pytest.approx(2 / 3)
    assert result.pull_mean == pytest.approx((-0.8 + 0.8 + 2.4) / 3)
    assert consistent([result])
    rows["kT"] += 2.0
    assert not consistent(compare(rows, truth))
