"""A ClusterPyXT acb folder becomes the input of our fit: the same circles, events, exposures; it is not touched."""

import shutil

import numpy as np
import pytest
from astropy.io import fits
from step_clusters import BINNED, assert_refused, contents

from cpxt_hpc.io.fit_input import read_fit_input
from cpxt_hpc.io.images import read_image
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.effective_exposure import pixel_exposure_share
from cpxt_hpc.science.grid import part_of

PYPELINE = """\
[cluster]
name = demo
observation_ids = 90001,90002
data_directory = /elsewhere
hydrogen_column_density = 0.05
redshift = 0.1
abundance = 0.3
signal_to_noise = 40
last_step_completed = 5
"""


def circle_means(image, radius):
    """Mean over each pixel's circle, pixel by pixel, as ClusterPyXT's loop has it."""
    iy, ix = np.indices(image.shape)
    means = np.zeros(image.shape)
    for y, x in zip(*np.nonzero(radius), strict=True):
        means[y, x] = image[np.hypot(iy - y, ix - x) <= radius[y, x]].mean()
    return means


@pytest.fixture
def acb(cluster, tmp_path):
    """What ClusterPyXT would have left of the demo cluster, in its own names and file formats."""
    ours = cluster(BINNED)
    folder = tmp_path / "clusterpyxt" / "demo" / "acb"
    folder.mkdir(parents=True)
    radius, grid, _ = read_image(ours.scale_map)
    with fits.open(ours.scale_map) as hdus:
        hdus[0].data = hdus[0].data.astype(float)
        hdus.writeto(folder / "demo_pype_scale_map.fits")
    # In ClusterPyXT's maps every pixel of the mask has a circle; what lies outside is not exposed.
    mask = radius > 0.0
    for obsid in (90001, 90002):
        observation = ours.observation(obsid)
        shutil.copy(observation.clean_events, folder / f"acisI_clean_{obsid}.fits")
        shutil.copy(observation.clean_background_events, folder / f"backI_clean_{obsid}.fits")
        for kind in ("arf", "rmf"):
            shutil.copy(getattr(observation, kind), folder / f"demo_{obsid}.{kind}")
        exposure, full_grid, _ = read_image(observation.clean_exposure)
        times = circle_means(np.where(mask, exposure[part_of(full_grid, grid)], 0.0), radius)
        np.save(folder / f"demo_effective_data_time_{obsid}.npy", times)
        np.save(folder / f"demo_effective_background_time_{obsid}.npy", 3.0 * times)
    (folder.parent / "demo_pypeline_config.ini").write_text(PYPELINE)
    return folder, read_fit_input(ours.fit_input)


@pytest.fixture
def imported(acb, run, tmp_path):
    folder, expected = acb
    outcome = run("init", folder.parent / "demo_pypeline_config.ini", "--data-dir", tmp_path / "new")
    assert outcome.code == 0, outcome.err
    before = contents(folder.parent)
    layout = ClusterLayout(tmp_path / "new" / "demo", "demo")
    outcome = run("prep", layout.ini, "--import-acb", folder, "--toolchain", "builtin")
    assert outcome.code == 0, outcome.err
    assert contents(folder.parent) == before
    return layout, expected, outcome


def test_circles_events_and_exposures_are_clusterpyxts(imported, run, acb):
    layout, expected, outcome = imported
    found = read_fit_input(layout.fit_input)
    assert "Ready to fit" in outcome.out
    assert "exposures of 99 % of the circles are ClusterPyXT's" in outcome.err
    for field in ("number", "radius"):
        np.testing.assert_array_equal(getattr(found.regions, field), getattr(expected.regions, field))
    # Our map may begin at another pixel: at the first one that is exposed.
    places = [np.column_stack(each.grid.sky_from_image(each.regions.ix, each.regions.iy)) for each in (found, expected)]
    np.testing.assert_allclose(places[0], places[1], atol=1e-6)
    chosen = np.linspace(0, len(found.regions) - 1, 40).astype(int)
    for mine, other in zip(found.observations, expected.observations, strict=True):
        assert mine.obsid == other.obsid
        found_here, there = (
            np.array([circle_of(source, each, index) for index in chosen])
            for source, each in ((mine, found), (other, expected))
        )
        np.testing.assert_allclose(found_here[:, 0], there[:, 0], rtol=0.02, atol=3.0)
        np.testing.assert_allclose(found_here[:, 1], there[:, 1], rtol=0.02, atol=0.01)
        # No blank-sky events about the map are used here: the level is that of the few in it.
        assert mine.background_counts.sum() == pytest.approx(mine.blank_scale[mine.blank_group].sum(), rel=0.1)
        assert mine.background_counts.sum() == pytest.approx(
            other.background_counts.sum(), rel=3.0 / np.sqrt(len(mine.blank_group))
        )
    # All is up to date, and stays so without the acb folder.
    again = run("prep", layout.ini, "--continue", "--toolchain", "builtin")
    assert again.code == 0 and again.err.count("up to date") == 3
    shutil.rmtree(acb[0])
    again = run("prep", layout.ini, "--continue", "--toolchain", "builtin")
    assert again.code == 0 and again.err.count("up to date") == 2


def circle_of(observation, fit_input, index):
    """Counts and exposure of one region in an observation."""
    regions, grid = fit_input.regions, fit_input.grid
    iy, ix = np.indices(grid.shape)
    has_circle = np.zeros(grid.shape, bool)
    has_circle[regions.iy, regions.ix] = True
    in_circle = np.hypot(iy - regions.iy[index], ix - regions.ix[index]) <= regions.radius[index]
    inside = in_circle & has_circle
    n_events = np.diff(observation.pixel_start).reshape(grid.shape)
    return (
        n_events[inside].sum(),
        observation.exposure_fraction[inside].sum() / in_circle.sum(),
    )


def test_an_import_says_what_is_missing_or_wrong(acb, run, tmp_path):
    folder, _ = acb
    assert run("init", folder.parent / "demo_pypeline_config.ini", "--data-dir", tmp_path / "new").code == 0
    ini = tmp_path / "new" / "demo" / "cluster.ini"

    def refused(code, message):
        assert_refused(run("prep", ini, "--import-acb", folder, "--toolchain", "builtin"), "prep", code, message)

    path = folder / "demo_effective_data_time_90002.npy"
    times = np.load(path)
    path.unlink()
    refused(3, r"lacks demo_effective_data_time_90002\.npy")
    np.save(path, times[1:])
    refused(3, r"expected times \[s\] of shape")
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    refused(3, "no NumPy array")
    np.save(path, 2.0 * times)
    refused(3, "not of the same cleaning")
    np.save(path, times)
    with fits.open(folder / "demo_pype_scale_map.fits", mode="update") as hdus:
        hdus[0].header["CRPIX1"] += 5.0
    refused(3, "tangent point is at image pixel")
    assert_refused(run("prep", ini, "--import-acb", folder / "none"), "prep", 3, "no such folder")


def test_what_is_there_already_is_kept(acb, run, tmp_path):
    folder, _ = acb
    assert run("init", folder.parent / "demo_pypeline_config.ini", "--data-dir", folder.parent.parent).code == 0
    theirs = folder.parent / "90001" / "analysis" / "acisI_clean.fits"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"years of work")
    outcome = run("prep", folder.parent / "cluster.ini", "--import-acb", folder)
    assert_refused(outcome, "prep", 2, r"acisI_clean\.fits is there already and is kept\. Import into a folder")
    assert theirs.read_bytes() == b"years of work"


def test_pixels_get_exposures_whose_means_are_those_of_the_circles():
    """A field with an edge and two masked sources, under circles of 3 to 8 pixels."""
    rng = np.random.default_rng(4)
    share = np.zeros((60, 70))
    share[5:50, 8:64] = 1.0
    share[20:24, 30:34] = share[40:42, 15:17] = 0.0
    radius = np.where(share > 0.0, 0.125 * rng.integers(24, 64, share.shape), 0.0)
    found, error = pixel_exposure_share(circle_means(share, radius), radius)
    assert np.quantile(np.abs(error), 0.99) < 0.01
    np.testing.assert_allclose(circle_means(found, radius), circle_means(share, radius), atol=0.03)
