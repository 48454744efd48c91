"""Sums of images and events over regions, against numpy's over the same pixels."""

import numpy as np
import pytest

from cpxt_hpc.science.region_pixels import NO_EDGE, RegionPixels, circle_pixel_count, circle_runs, exact_circle
from cpxt_hpc.science.spectra import grouped_spectrum, mean_response, observe_region

NY, NX = SHAPE = (21, 17)
N_PIXELS, N_CHANNELS, N_GROUPS, N_RESPONSES = NY * NX, 12, 3, 4
ERRORS = np.array([0.1, 0.3])
CIRCLES = [(10, 8, 4.5), (0, 0, 9.0), (20, 16, 0.0), (10, 40, 3.0), (8, 8, 2.5), (10, 10, 30.0)]


@pytest.fixture(scope="module")
def field():
    """Events and images of one made-up observation."""
    rng = np.random.default_rng(3)
    # A grid of positions with many on pixel borders and on the rims of circles.
    x, y = (rng.integers(-2, 4 * side - 2, 20_000) / 4.0 for side in (NX, NY))
    ix, iy = (np.floor(place + 0.5).astype(int) for place in (x, y))
    order = np.argsort(iy * NX + ix, kind="stable")
    x, y, ix, iy = (column[order] for column in (x, y, ix, iy))
    pixel = iy * NX + ix
    return {
        "x": x, "y": y, "pixel": pixel,
        "pixel_start": np.searchsorted(pixel, np.arange(N_PIXELS + 1)),
        "channel": rng.integers(0, N_CHANNELS, len(x)).astype(np.uint16),
        "group": rng.integers(0, N_GROUPS, len(x)).astype(np.uint8),
        "event_x": (x - ix).astype(np.float32), "event_y": (y - iy).astype(np.float32),
        "exposure_fraction": rng.random(N_PIXELS, dtype=np.float32),
        "brightness": rng.random(N_PIXELS, dtype=np.float32),
        "index": rng.integers(0, N_RESPONSES - 1, N_PIXELS).astype(np.uint8),
        "part": rng.random(N_PIXELS, dtype=np.float32),
        "images": rng.random((2, N_PIXELS), dtype=np.float32) - np.float32([[0.0], [1.2]]),
        "shapes": rng.random((2, N_CHANNELS)),
    }  # fmt: skip


def observe(field, region, *, least=0.0, n_responses=N_RESPONSES, bin_channels=1):
    counts, background = np.full((2, -(-N_CHANNELS // bin_channels)), np.nan)
    share = np.full(n_responses, np.nan)
    shapes = np.add.reduceat(field["shapes"], np.arange(0, N_CHANNELS, bin_channels), axis=1)
    sums = observe_region(
        region.start, region.stop, *region.edge, NX, least,
        field["exposure_fraction"], field["brightness"], field["index"], field["part"],
        field["pixel_start"], field["channel"], field["event_x"], field["event_y"],
        field["images"], shapes, ERRORS, N_CHANNELS, bin_channels, counts, background, share,
    )  # fmt: skip
    return sums, counts, background, share


def whole_pixels(iy, ix, radius):
    return RegionPixels(*circle_runs(iy, ix, radius, SHAPE), circle_pixel_count(radius), NO_EDGE)


def weights_and_events(field, kind, iy, ix, radius):
    """Part of each pixel in the region, and which events are; without the code under test."""
    if kind is whole_pixels:
        row, column = np.mgrid[:NY, :NX]
        weight = ((row - iy) ** 2 + (column - ix) ** 2 <= radius**2).reshape(-1).astype(float)
        return weight, weight[field["pixel"]] > 0
    geometry = pytest.importorskip("photutils.geometry", reason="photutils is not installed")
    corners = (-ix - 0.5, NX - ix - 0.5, -iy - 0.5, NY - iy - 0.5)
    weight = geometry.circular_overlap_grid(*corners, NX, NY, radius, 1, 1) if radius else np.zeros(SHAPE)
    return weight.reshape(-1), (field["x"] - ix) ** 2 + (field["y"] - iy) ** 2 <= radius**2


def region_of(kind, iy, ix, radius):
    return whole_pixels(iy, ix, radius) if kind is whole_pixels else exact_circle(iy, ix, radius, SHAPE)


@pytest.mark.parametrize("kind", [whole_pixels, exact_circle])
@pytest.mark.parametrize("circle", CIRCLES)
def test_a_region_gets_the_events_and_the_parts_of_the_images_inside_it(field, kind, circle):
    region = region_of(kind, *circle)
    weight, inside = weights_and_events(field, kind, *circle)
    (exposed, light, whole_light, level, variance), counts, background, share = observe(field, region)
    exposure, brightness, part = (field[name].astype(float) for name in ("exposure_fraction", "brightness", "part"))
    assert np.array_equal(counts, np.bincount(field["channel"][inside], minlength=N_CHANNELS))
    # Sums in double precision of fewer than 400 numbers of about 1, in another order; photutils' areas: 1e-14.
    close = {"rel": 1e-12, "abs": 1e-12}
    assert exposed == pytest.approx(weight @ exposure, **close)
    assert whole_light == pytest.approx(weight @ brightness, **close)
    assert light == pytest.approx(weight @ (exposure * brightness), **close)
    levels = field["images"].astype(float) @ weight
    assert level == pytest.approx(levels.sum(), **close)
    assert variance == pytest.approx(np.sum((levels * ERRORS) ** 2), **close)
    assert background == pytest.approx(np.maximum(levels @ field["shapes"], 0.0), **close)
    expected = np.zeros(N_RESPONSES)
    each = weight * exposure * brightness
    np.add.at(expected, field["index"], each * (1.0 - part))
    np.add.at(expected, field["index"] + 1, each * part)
    if expected.any():
        assert share == pytest.approx(expected / expected.sum(), **close)
    else:
        assert share.tolist() == [1.0, 0.0, 0.0, 0.0]
    by_group = grouped_spectrum(
        region.start, region.stop, region.edge.pixel, *region.edge[2:], NX, field["pixel_start"], field["channel"],
        field["event_x"], field["event_y"], field["group"], N_GROUPS, N_CHANNELS,
    )  # fmt: skip
    for g in range(N_GROUPS):
        of_group = np.bincount(field["channel"][inside & (field["group"] == g)], minlength=N_CHANNELS)
        assert np.array_equal(by_group[g], of_group)


def test_some_events_lie_on_the_rim_and_belong_to_the_circle(field):
    distance2 = (field["x"] - 8) ** 2 + (field["y"] - 8) ** 2
    assert np.sum(distance2 == 2.5**2) > 10
    counts = observe(field, exact_circle(8, 8, 2.5, SHAPE))[1].sum()
    within = observe(field, exact_circle(8, 8, np.nextafter(2.5, 0.0), SHAPE))[1].sum()
    assert counts - within == np.sum(distance2 == 2.5**2)


@pytest.mark.parametrize("kind", [whole_pixels, exact_circle])
def test_one_response_gets_all_the_light(field, kind):
    region = region_of(kind, 10, 8, 4.5)
    alone = field | {name: np.zeros_like(field[name]) for name in ("index", "part")}
    sums, *_, share = observe(alone, region, n_responses=1)
    assert share.tolist() == [1.0]
    assert sums == pytest.approx(observe(field, region)[0], rel=1e-13)


def test_where_too_little_is_exposed_nothing_is_counted(field):
    region = whole_pixels(10, 8, 4.5)
    exposed = observe(field, region)[0][0]
    assert observe(field, region, least=exposed)[1].any()
    sums, counts, *_ = observe(field, region, least=np.nextafter(exposed, np.inf))
    assert sums == (exposed, 0.0, 0.0, 0.0, 0.0)
    assert np.isnan(counts).all()


@pytest.mark.parametrize("kind", [whole_pixels, exact_circle])
def test_bins_hold_the_sums_of_their_channels_and_the_last_one_may_have_fewer(field, kind):
    region = region_of(kind, 10, 8, 4.5)
    by_channel, by_bin = (observe(field, region, bin_channels=size) for size in (1, 5))
    assert by_bin[1].tolist() == [by_channel[1][i : i + 5].sum() for i in (0, 5, 10)]
    levels = field["images"].astype(float) @ weights_and_events(field, kind, 10, 8, 4.5)[0]
    in_bins = [field["shapes"][:, i : i + 5].sum(axis=1) for i in (0, 5, 10)]
    assert by_bin[2] == pytest.approx(np.maximum(in_bins @ levels, 0.0), rel=1e-12)
    assert by_bin[0] == by_channel[0]


def test_responses_are_averaged_with_their_shares():
    rng = np.random.default_rng(4)
    nodes, rates = rng.random((3, 2, 1, 5, 7)), np.full((2, 1, 5, 20), -1.0)
    mean_response(nodes, np.array([0.25, 0.0, 0.75]), rates, 6)
    assert rates[..., 6:13] == pytest.approx(0.25 * nodes[0] + 0.75 * nodes[2], rel=1e-15)
    assert np.all(rates[..., :6] == -1.0) and np.all(rates[..., 13:] == -1.0)
