"""Events sorted by pixel, and parts of the pixel grid."""

import numpy as np
import pytest

from cpxt_hpc.science.grid import PixelGrid, part_of
from cpxt_hpc.science.packing import sort_by_pixel


def test_every_event_stands_in_the_slice_of_its_pixel():
    rng = np.random.default_rng(1)
    pixel = rng.integers(-1, 50, 2000)
    channel, serial = rng.integers(0, 99, 2000).astype(np.uint16), np.arange(2000)
    start, sorted_channel, sorted_serial = sort_by_pixel(pixel, 50, channel, serial)
    assert start[0] == 0 and start[-1] == np.count_nonzero(pixel >= 0) == len(sorted_channel)
    for p in range(50):
        own = slice(start[p], start[p + 1])
        assert np.array_equal(sorted_serial[own], np.flatnonzero(pixel == p))
        assert np.array_equal(sorted_channel[own], channel[pixel == p])
    assert start.dtype == np.int64 and sorted_channel.dtype == np.uint16


def test_no_events_make_empty_pixels():
    start, channel = sort_by_pixel(np.empty(0, int), 3, np.empty(0, np.uint16))
    assert start.tolist() == [0, 0, 0, 0] and channel.size == 0


@pytest.mark.parametrize("corner", [0.5, 3900.5, 0.5 - 4 * 700])
def test_a_place_in_its_pixel_holds_a_position_of_an_event_file_to_the_last_bit(corner):
    grid = PixelGrid(150.0, 22.0, corner, corner, 2000, 2000)
    rng = np.random.default_rng(2)
    low = max(corner, 1.0)
    x, y = rng.uniform(low, corner + 7999, (2, 100_000)).astype(np.float32)
    x[:1000] = np.rint(x[:1000]) + np.float32(0.5)  # on the borders of pixels
    pixel = grid.pixel_index(x, y)
    dx, dy = grid.place_in_pixel(x, y)
    assert dx.dtype == dy.dtype == np.float32
    assert np.all((dx >= -0.5) & (dx < 0.5) & (dy >= -0.5) & (dy < 0.5))
    back_x, back_y = grid.sky_from_image(pixel % grid.nx + dx.astype(float), pixel // grid.nx + dy.astype(float))
    assert np.array_equal(back_x, x.astype(float)) and np.array_equal(back_y, y.astype(float))


def test_a_part_of_a_grid_is_found_again():
    grid = PixelGrid(150.0, 22.0, 3900.5, 3812.5, 80, 60)
    assert part_of(grid, grid.crop(7, 30, 11, 80)) == (slice(7, 30), slice(11, 80))
    assert part_of(grid, grid) == (slice(0, 60), slice(0, 80))


@pytest.mark.parametrize(
    "other",
    [
        PixelGrid(150.0, 22.0, 3900.5, 3812.5, 81, 60),
        PixelGrid(150.1, 22.0, 3900.5, 3812.5, 20, 20),
        PixelGrid(150.0, 22.0, 3902.5, 3812.5, 20, 20),
        PixelGrid(150.0, 22.0, 3896.5, 3812.5, 20, 20),
    ],
)
def test_a_grid_that_is_no_part_is_refused(other):
    with pytest.raises(ValueError, match="part of"):
        part_of(PixelGrid(150.0, 22.0, 3900.5, 3812.5, 80, 60), other)
