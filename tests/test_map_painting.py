import numpy as np
import pytest

from cpxt_hpc.science import maps


def everywhere(shape):
    iy, ix = np.indices(shape)
    return iy.ravel(), ix.ravel()


@pytest.mark.parametrize(("resolution", "side"), [(1, 5), (2, 3), (3, 1)])
def test_every_pixel_shows_the_nearest_fitted_pixel(resolution, side):
    """An image of the fits' own coordinates comes back rounded to the fitted pixels: no shift or gap."""
    shape = (31, 46)
    iy, ix = everywhere(shape)
    fitted = maps.belongs_to_resolution(iy, ix, resolution)
    iy, ix = iy[fitted], ix[fitted]
    rows = maps.rows_of_pixels(iy, ix, np.ones(shape, bool), resolution=resolution)
    y, x = np.indices(shape)
    np.testing.assert_array_equal(maps.paint(iy, rows), side * ((y + side // 2) // side))
    np.testing.assert_array_equal(maps.paint(ix, rows), side * ((x + side // 2) // side))


def test_the_painted_block_has_the_fitted_pixel_in_its_centre():
    rows = maps.rows_of_pixels(np.array([6]), np.array([9]), np.ones((20, 20), bool))
    expected = np.full((20, 20), np.nan)
    expected[5:8, 8:11] = 4.5
    np.testing.assert_array_equal(maps.paint(np.array([4.5]), rows), expected)


def test_blocks_are_cut_at_the_border():
    rows = maps.rows_of_pixels(np.array([0, 5]), np.array([0, 5]), np.ones((7, 6), bool), resolution=1)
    image = maps.paint(np.array([1.0, 2.0]), rows)
    assert np.sum(image == 1.0) == 9
    assert np.sum(image == 2.0) == 12
    assert np.isnan(image).sum() == 42 - 21


def test_the_finest_resolution_wins_whatever_the_order_of_the_rows():
    mask = np.ones((31, 31), bool)
    iy, ix = np.array([15, 10, 9, 10, 7]), np.array([15, 10, 9, 11, 7])
    value = np.array([15.0, 10.0, 9.0, 10.11, 7.0])
    reference = maps.paint(value, maps.rows_of_pixels(iy, ix, mask))
    assert reference[10, 10] == 10.0
    assert reference[10, 9] == 9.0
    assert reference[10, 11] == 10.11
    assert reference[12, 12] == 10.0
    assert reference[8, 8] == 9.0
    assert reference[7, 7] == 7.0
    assert reference[13, 13] == 15.0
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(iy))
        rows = maps.rows_of_pixels(iy[order], ix[order], mask)
        np.testing.assert_array_equal(maps.paint(value[order], rows), reference)


def test_a_fitted_pixel_always_shows_its_own_fit():
    """Its own block of side 1 is the finest there is."""
    iy, ix = everywhere((16, 16))
    keep = maps.belongs_to_resolution(iy, ix, 1) | maps.belongs_to_resolution(iy, ix, 2)
    iy, ix = iy[keep], ix[keep]
    rows = maps.rows_of_pixels(iy, ix, np.ones((16, 16), bool))
    np.testing.assert_array_equal(rows[iy, ix], np.arange(len(iy)))


def test_finer_fits_than_the_asked_resolution_are_left_out():
    iy, ix = np.array([10, 12, 13]), np.array([10, 12, 13])
    rows = maps.rows_of_pixels(iy, ix, np.ones((20, 20), bool), resolution=1)
    assert set(np.unique(rows)) == {maps.NO_ROW, 0}


def test_nothing_is_painted_outside_the_mask_and_unknown_is_nan_and_never_zero():
    mask = np.ones((12, 12), bool)
    mask[3:5, 3:5] = False
    rows = maps.rows_of_pixels(np.array([3, 6]), np.array([3, 6]), mask)
    image = maps.paint(np.array([7.0, np.nan]), rows)
    assert np.isnan(image[~mask]).all()
    assert np.isnan(image[6, 6])
    assert np.nansum(image == 7.0) == 5
    assert not np.any(image == 0)
    np.testing.assert_array_equal(maps.paint_integers(np.array([0, 18]), rows, nothing=-1)[5:8, 5:8], 18)


@pytest.mark.parametrize(
    ("pixels", "resolution"),
    [([(0, 0), (5, 10)], 1), ([(15, 15), (3, 6)], 2), ([(15, 15)], 1), ([(5, 5), (3, 3)], 2), ([(1, 5)], 3)],
)
def test_the_resolution_of_fits_is_the_finest_that_is_needed(pixels, resolution):
    iy, ix = np.array(pixels).T
    assert maps.resolution_of(iy, ix) == resolution


def test_bad_arguments_are_refused():
    mask = np.ones((4, 4), bool)
    with pytest.raises(ValueError, match="row 4, column 0 lies outside the image of 4 x 4"):
        maps.rows_of_pixels(np.array([4]), np.array([0]), mask)
    with pytest.raises(ValueError, match="resolution 4: expected one of 1, 2, 3"):
        maps.rows_of_pixels(np.array([0]), np.array([0]), mask, resolution=4)
    with pytest.raises(ValueError, match="resolution 0"):
        maps.belongs_to_resolution(np.array([0]), np.array([0]), 0)
    with pytest.raises(ValueError, match="no fitted pixels"):
        maps.resolution_of(np.array([], int), np.array([], int))
