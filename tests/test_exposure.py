"""Exposure images made from events alone agree with the detector that made the events."""

import dataclasses

import numpy as np
import pytest
from acis_events import START_S, blank_sky, observation, pointing

from cpxt_hpc.demo import instrument
from cpxt_hpc.errors import DataError
from cpxt_hpc.science.exposure import chip_fraction_image, exposure_image, exposure_images_by_ccd, fit_chip_geometry
from cpxt_hpc.science.grid import grid_covering


@pytest.fixture(scope="module")
def events():
    return observation(np.random.default_rng(41), n=40_000)


@pytest.fixture(scope="module")
def grid(events):
    return grid_covering(events.ra_deg, events.dec_deg, events["x"], events["y"])


@pytest.fixture(scope="module")
def images(events, grid):
    return exposure_images_by_ccd(events, grid)


def true_fraction(grid, iy, ix, rng, ontime_s=20_000.0, n=40_000):
    """Share of the time that a random point of an image pixel is on each chip, by asking the detector."""
    column, row = ix + rng.uniform(-0.5, 0.5, n), iy + rng.uniform(-0.5, 0.5, n)
    time = rng.uniform(0.0, ontime_s, n)
    detx, dety = pointing().detector_from_sky(*grid.sky_from_image(column, row), time)
    ccd_id = instrument.chip_from_detector(detx, dety)[0]
    return {ccd: float(np.mean(ccd_id == ccd)) for ccd in instrument.CCDS}


def test_exposure_of_single_pixels_is_what_the_detector_does(events, grid, images):
    rng = np.random.default_rng(43)
    fraction = {ccd: image / events.exposure_s[ccd] for ccd, image in images.items()}
    for ccd in instrument.CCDS:
        edge = np.argwhere((fraction[ccd] > 0.05) & (fraction[ccd] < 0.95))
        inner = np.argwhere(fraction[ccd] > 0.999)
        for iy, ix in np.concatenate([rng.choice(edge, 15), rng.choice(inner, 3)]):
            truth = true_fraction(grid, iy, ix, rng)[ccd]
            # The geometry from 10,000 events is good to 0.2 pixel; the dither's smear is at least 16 pixels wide
            # and piles up to 3 times its mean density at its ends.
            assert fraction[ccd][iy, ix] == pytest.approx(truth, abs=0.04), (ccd, iy, ix)


def test_total_exposure_is_the_area_of_the_chips(events, grid, images):
    sky_pixels = 1022.0**2
    for ccd, image in images.items():
        total = image.sum() * grid.binning**2 / events.exposure_s[ccd]
        # A scale error of the fit of 3e-4 in both axes.
        assert total == pytest.approx(sky_pixels, rel=1e-3)


def test_hardly_an_event_lies_where_the_exposure_is_zero(events, grid, images):
    exposure = sum(images.values()).ravel()
    index = grid.pixel_index(events["x"], events["y"])
    assert np.mean(exposure[index] <= 0.0) < 0.001


def test_counts_over_exposure_are_flat_up_to_the_edges_and_gaps(events, grid, images):
    exposure = sum(images.values())
    blank = blank_sky(np.random.default_rng(47), n=400_000)
    counts = grid.counts_image(blank["x"], blank["y"])
    relative = exposure / exposure.max()
    mean = counts.sum() / relative.sum()
    for low, high in ((0.02, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.99), (0.99, 1.01)):
        ring = (relative > low) & (relative <= high)
        ratio = counts[ring].sum() / (mean * relative[ring].sum())
        # Poisson, and 4 % where an error of 0.2 pixel in the edge counts most.
        assert ratio == pytest.approx(1.0, abs=3.0 / np.sqrt(counts[ring].sum()) + 0.04)


def test_image_is_the_sum_over_the_ccds(events, grid, images):
    assert np.allclose(exposure_image(events, grid), sum(images.values()))


def test_lost_frames_of_one_ccd_lower_its_exposure_only(events, grid, images):
    less = dataclasses.replace(events, exposure_s={**events.exposure_s, 1: events.exposure_s[1] / 2})
    halved = exposure_images_by_ccd(less, grid)
    assert np.allclose(halved[1], images[1] / 2)
    assert np.allclose(halved[0], images[0])


def test_cluster_and_sources_do_not_bend_the_geometry(events, grid, images):
    rng = np.random.default_rng(53)
    n = 60_000
    time = START_S + rng.uniform(0.0, 20_000.0, n)
    x, y = 4300.0 + rng.normal(0.0, 120.0, n), 4200.0 + rng.normal(0.0, 120.0, n)
    ccd_id, chipx, chipy = instrument.chip_from_detector(*pointing().detector_from_sky(x, y, time - START_S))
    seen = ccd_id >= 0
    bright = {
        "time": time, "ccd_id": ccd_id, "chipx": np.rint(chipx), "chipy": np.rint(chipy), "x": x, "y": y,
        "energy": np.full(n, 1000.0), "pi": np.full(n, 69),
    }  # fmt: skip
    columns = {name: np.concatenate([events[name], bright[name][seen]]) for name in events.columns}
    with_cluster = exposure_images_by_ccd(dataclasses.replace(events, columns=columns), grid)
    for ccd in events.ccds:
        difference = np.abs(with_cluster[ccd] - images[ccd]) / events.exposure_s[ccd]
        assert difference.max() < 0.06
        assert difference.mean() < 0.001


def test_subarray_is_seen_in_the_events(events, grid):
    sub = events.select((events["chipy"] >= 385) & (events["chipy"] <= 640))
    exposure = exposure_images_by_ccd(sub, grid)
    for ccd in sub.ccds:
        area = exposure[ccd].sum() * grid.binning**2 / sub.exposure_s[ccd]
        assert area == pytest.approx(1022.0 * 256.0, rel=0.01)


def test_ccd_with_few_events_takes_its_geometry_from_the_blank_sky(events, grid, images):
    few = events.select((events["ccd_id"] != 2) | (np.arange(len(events)) % 400 == 0))
    with pytest.raises(DataError, match=r"CCD 2: .* events tell where the chip lies; at least 100"):
        exposure_images_by_ccd(few, grid)
    helped = exposure_images_by_ccd(few, grid, geometry=blank_sky(np.random.default_rng(59)))
    difference = np.abs(helped[2] - images[2]) / events.exposure_s[2]
    assert difference.max() < 0.06


def test_events_without_chip_coordinates_give_their_hull(events, grid, images):
    bare = dataclasses.replace(
        events, columns={name: column for name, column in events.columns.items() if "chip" not in name}
    )
    hull = exposure_images_by_ccd(bare, grid)
    for ccd in events.ccds:
        inner = images[ccd] > 0.999 * events.exposure_s[ccd]
        assert np.all(hull[ccd][inner] == events.exposure_s[ccd])
        assert np.all(images[ccd][hull[ccd] > 0.0] > 0.0)
    with pytest.raises(DataError, match="CCD 0: fewer than 100 events and no chip coordinates"):
        exposure_images_by_ccd(bare.select(bare["ccd_id"] != 0), grid)


def test_exposure_without_dither_has_sharp_edges(grid):
    rng = np.random.default_rng(61)
    x, y = rng.uniform(3900.0, 4922.0, 5000), rng.uniform(3900.0, 4922.0, 5000)
    geometry, dither = fit_chip_geometry(x, y, np.rint(x - 3898.0), np.rint(y - 3898.0))
    image = chip_fraction_image(geometry, dither, grid)
    partly = (image > 0.0) & (image < 1.0)
    # At most two pixels wide along a perimeter of 4 x 1022 / 4 pixels.
    assert np.count_nonzero(partly) <= 2 * 1022
    assert image.sum() * grid.binning**2 == pytest.approx(1022.0**2, rel=1e-3)


def test_chip_off_the_image_has_no_exposure(events, grid):
    own = events["ccd_id"] == 0
    geometry, dither = fit_chip_geometry(*(events[name][own] for name in ("x", "y", "chipx", "chipy")))
    far = dataclasses.replace(grid, sky_x0=grid.sky_x0 + 20_000.0)
    assert not chip_fraction_image(geometry, dither, far).any()


@pytest.mark.parametrize("factor", [0.0, 1.3])
def test_chip_positions_that_do_not_follow_the_sky_are_refused(factor):
    rng = np.random.default_rng(62)
    x, y, chipx, chipy = rng.uniform(3900.0, 4922.0, (4, 5000))
    chipx, chipy = (factor * sky + (1.0 - factor) * own - 3898.0 for sky, own in ((x, chipx), (y, chipy)))
    with pytest.raises(DataError, match="its chip positions do not follow the sky positions"):
        fit_chip_geometry(x, y, np.rint(chipx), np.rint(chipy))
