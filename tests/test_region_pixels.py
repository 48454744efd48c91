"""The pixels of a region: whole ones, and the parts of those that an exact circle cuts."""

import numpy as np
import pytest

from cpxt_hpc.science.region_pixels import circle_pixel_count, circle_runs, exact_circle, pixel_runs

SHAPE = (21, 17)


def pixels_of(start, stop):
    return np.concatenate([np.zeros(0, dtype=int), *(np.arange(a, b) for a, b in zip(start, stop, strict=True))])


def brute_circle(iy, ix, radius, shape=SHAPE):
    row, column = np.mgrid[: shape[0], : shape[1]]
    return np.flatnonzero((row - iy) ** 2 + (column - ix) ** 2 <= radius * radius)


def part_image(region, shape):
    """Part of each pixel inside a region; no pixel may be named twice."""
    image = np.zeros(shape[0] * shape[1])
    np.add.at(image, pixels_of(region.start, region.stop), 1.0)
    assert not image[region.edge.pixel].any()
    assert len(np.unique(region.edge.pixel)) == len(region.edge.pixel)
    image[region.edge.pixel] = region.edge.part
    return image.reshape(shape)


@pytest.mark.parametrize(("iy", "ix"), [(10, 8), (0, 0), (20, 16), (3, 15), (-4, 8), (10, 40)])
def test_a_circle_holds_the_pixels_whose_centre_lies_within_the_radius(iy, ix):
    for radius in np.arange(0.0, 30.0, 0.125):
        start, stop = circle_runs(iy, ix, radius, SHAPE)
        assert np.array_equal(pixels_of(start, stop), brute_circle(iy, ix, radius))


def test_pixels_at_exactly_the_radius_belong_to_the_circle():
    assert circle_pixel_count(5.0) == 81  # 3-4-5 triangles on the rim
    assert circle_pixel_count(np.nextafter(5.0, 0.0)) == 69
    assert circle_pixel_count(np.sqrt(2.0)) == 9  # its square is rounded up, 2.0000000000000004


def test_the_pixel_count_knows_no_image_edge():
    for radius in (0.0, 0.5, 1.0, 1.375, 7.25, 100.0):
        expected = len(brute_circle(120, 120, radius, (241, 241)))
        assert circle_pixel_count(radius) == expected


@pytest.mark.parametrize("radius", [-1.0, np.nan])
def test_no_pixel_lies_in_a_circle_of_no_radius(radius):
    assert circle_pixel_count(radius) == 0
    assert len(circle_runs(5, 5, radius, SHAPE)[0]) == 0
    region = exact_circle(5, 5, radius, SHAPE)
    assert len(region.start) == len(region.edge.pixel) == region.n_pixels == 0


def test_runs_of_a_pixel_list_hold_each_pixel_once():
    pixels = np.array([7, 3, 4, 5, 5, 200, 199, 9])
    start, stop = pixel_runs(pixels)
    assert pixels_of(start, stop).tolist() == [3, 4, 5, 7, 9, 199, 200]
    assert len(start) == 4
    assert [len(part) for part in pixel_runs(np.array([], dtype=int))] == [0, 0]


@pytest.mark.parametrize("radius", [1e-3, 0.3, 0.5, 0.6, np.sqrt(0.5), 1.0, 1.375, 2.5, 3.7, 5.0, 12.125, 60.0, 100.0])
def test_parts_inside_an_exact_circle_are_those_of_photutils(radius):
    geometry = pytest.importorskip("photutils.geometry", reason="photutils is not installed")
    reach = int(radius) + 2
    side = 2 * reach + 1
    expected = geometry.circular_overlap_grid(
        -reach - 0.5, reach + 0.5, -reach - 0.5, reach + 0.5, side, side, radius, 1, 1
    )
    region = exact_circle(reach, reach, radius, (side, side))
    # Areas are differences of sectors of up to radius^2: both codes round at 1e-16 of these.
    assert part_image(region, (side, side)) == pytest.approx(expected, abs=1e-15 * max(radius, 1.0) ** 2)


def test_parts_add_up_to_the_area_of_the_circle():
    for radius in np.arange(0.125, 40.0, 0.125):
        region = exact_circle(45, 45, radius, (91, 91))
        total = np.sum(region.stop - region.start) + region.edge.part.sum()
        assert region.n_pixels == pytest.approx(np.pi * radius**2, rel=1e-15)
        # Some hundred parts, each rounded at 1e-16 of the area.
        assert total == pytest.approx(region.n_pixels, rel=1e-13)


@pytest.mark.parametrize(("iy", "ix"), [(0, 0), (20, 16), (3, 15), (-4, 8), (10, 40)])
def test_the_image_cuts_an_exact_circle(iy, ix):
    for radius in (0.4, 1.0, 3.625, 8.0, 27.5):
        region = exact_circle(iy, ix, radius, SHAPE)
        whole = part_image(exact_circle(iy + 80, ix + 80, radius, (180, 180)), (180, 180))
        assert np.array_equal(part_image(region, SHAPE), whole[80:101, 80:97])
        assert region.n_pixels == np.pi * radius**2


def test_pixels_that_a_circle_only_touches_are_named_since_an_event_may_lie_on_the_rim():
    region = exact_circle(10, 8, 2.5, SHAPE)
    touching = 10 * SHAPE[1] + 8 + 3
    assert region.edge.part[region.edge.pixel == touching] == 0.0
