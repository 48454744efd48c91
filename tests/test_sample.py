"""The whole road on event files that another simulator (SOXS) made, held against their truth.

Needs ``../shared/sample`` beside the repository.
"""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

from cpxt_hpc.demo.compare import compare, truth_on_grid
from cpxt_hpc.fitting.regions import RegionFitter
from cpxt_hpc.io.checkpoint import read_results
from cpxt_hpc.io.events import read_events
from cpxt_hpc.io.fit_input import read_fit_input
from cpxt_hpc.io.images import read_image
from cpxt_hpc.layout import ClusterLayout

SAMPLE = Path(__file__).parents[2] / "shared" / "sample"
pytestmark = pytest.mark.skipif(not SAMPLE.is_dir(), reason="../shared/sample is not here")

OBSIDS = (80101, 80102)
CENTRE = (150.1163, 22.2058)


def _run(*words):
    command = [str(Path(sys.executable).parent / words[0]), *map(str, words[1:])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    for obsid in OBSIDS:
        shutil.copytree(SAMPLE / str(obsid), data / "sample" / str(obsid))
    for path in data.rglob("*"):
        path.chmod(path.stat().st_mode | 0o200)
    physics = ["--nH", 0.03, "--redshift", 0.08, "--abundance", 0.3, "--signal_to_noise", 50]
    _run("cpxt-init", "--cluster_name", "sample", "--obsids", *OBSIDS, *physics, "--data-dir", data)
    layout = ClusterLayout(data / "sample", "sample")
    # That simulator left vignetting out.
    layout.ini.write_text(layout.ini.read_text().replace("vignetting = hrma", "vignetting = none"))
    _run("cpxt-prep", layout.ini, "--auto")
    _run("mpiexec", "-n", 3, Path(sys.executable).parent / "cpxt-fit", layout.ini, "--resolution", 2)
    return layout


@pytest.fixture(scope="module")
def truth(layout):
    return truth_on_grid(SAMPLE / "truth" / "sample_kT_truth.fits.gz", read_fit_input(layout.fit_input).grid)


@pytest.fixture(scope="module")
def masked(layout):
    """Connected patches of masked pixels, the true sources' pixels, the distance from the centre [arcsec], the grid."""
    kept, grid, _ = read_image(layout.source_mask)
    with open(SAMPLE / "truth" / "point_sources.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    wcs = grid.wcs()
    column, row = wcs.all_world2pix([float(r["ra"]) for r in rows], [float(r["dec"]) for r in rows], 0)
    patches, _ = ndimage.label(kept == 0, structure=np.ones((3, 3)))
    iy, ix = np.indices(grid.shape)
    x0, y0 = wcs.all_world2pix(*CENTRE, 0)
    distance = np.hypot(ix - x0, iy - y0) * grid.pixel_arcsec
    return patches, (np.rint(row).astype(int), np.rint(column).astype(int)), distance, grid


def test_all_point_sources_are_masked(masked):
    patches, sources, _, _ = masked
    assert (patches[sources] > 0).all()


def test_false_sources_cost_little_near_the_cluster_and_nothing_at_its_peak(layout, masked):
    patches, sources, distance, grid = masked
    false = (patches > 0) & ~np.isin(patches, patches[sources])
    counts = np.zeros(grid.shape)
    for obsid in OBSIDS:
        events = read_events(layout.observation(obsid).events)
        band = events.in_energy(700.0, 8000.0)
        counts += grid.counts_image(events["x"][band], events["y"][band])
    near = distance < 200.0
    assert false[near].mean() <= 0.01
    assert counts[false & near].sum() <= 0.02 * counts[near].sum()
    assert not false[distance < 20.0].any()


def test_the_flare_is_cut_and_the_quiet_time_kept(layout):
    truth = json.loads((SAMPLE / "truth" / "truth.json").read_text())
    for observation in truth["observations"]:
        flare = observation.get("flare_met") or (0.0, 0.0)
        kept = read_events(layout.observation(observation["obsid"]).clean_events).good_times
        before = {int(ccd): np.array(times) for ccd, times in observation["gti"].items()}
        for ccd, times in before.items():
            inside = _overlap(kept[ccd], np.array([flare]))
            quiet_before = np.diff(times).sum() - _overlap(times, np.array([flare]))
            quiet_kept = np.diff(kept[ccd]).sum() - inside
            # A flare's edge may share a bin of 259 s with quiet time on either side.
            assert inside <= 259.28
            assert quiet_kept >= 0.95 * quiet_before


def _overlap(first, second):
    """Seconds that lie in both lists of intervals."""
    start = np.maximum(first[:, None, 0], second[None, :, 0])
    stop = np.minimum(first[:, None, 1], second[None, :, 1])
    return np.clip(stop - start, 0.0, None).sum()


def test_joint_fits_of_the_whole_regions_hold_the_truth(layout, truth):
    fit_input = read_fit_input(layout.fit_input)
    fitter = RegionFitter(fit_input)
    centre = fit_input.grid.wcs().all_world2pix(*CENTRE, 0)
    for kt in (4.0, 6.5, 9.0):
        inside = ndimage.binary_erosion(truth == kt, iterations=2)  # the point-spread function blurs the edges
        row = fitter.fit_pixels(np.flatnonzero(inside))
        error = row["kT"] - row["kT_lo"] if row["kT"] > kt else row["kT_hi"] - row["kT"]
        assert abs(row["kT"] - kt) < 3.0 * error, (kt, row, centre)
        assert row["n_obs"] == 2


def test_circles_scatter_about_the_truth_as_their_errors_say(layout, truth):
    comparisons = compare(read_results(layout.fits), truth)
    assert [row.kt_kev for row in comparisons] == [4.0, 6.5, 9.0]
    for row, tolerance in zip(comparisons, (0.08, 0.08, 0.14), strict=True):
        assert abs(row.median_kev / row.kt_kev - 1.0) < tolerance
    n = sum(row.n_independent for row in comparisons)
    mean = sum(row.pull_mean * row.n_independent for row in comparisons) / n
    rms = np.sqrt(sum(row.pull_rms**2 * row.n_independent for row in comparisons) / n)
    assert n >= 10
    assert abs(mean) < 3.0 / np.sqrt(n)
    assert abs(rms - 1.0) < 3.0 / np.sqrt(2.0 * n)


def test_maps_lie_where_the_sky_is(layout):
    _run("cpxt-maps", layout.ini)
    with fits.open(layout.map_file("temperature_map.fits")) as blocks:
        data, header = blocks[0].data, blocks[0].header
    grid = read_fit_input(layout.fit_input).grid
    assert data.shape == grid.shape
    assert header["BUNIT"] == "keV"
    assert np.isfinite(data).mean() > 0.5
    assert layout.map_file("temperature_map.png").stat().st_size > 10_000
