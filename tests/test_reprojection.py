"""Positions moved between tangent planes agree with spherical trigonometry all over the field, anywhere on the sky."""

import numpy as np
import pytest

from cpxt_hpc.science.grid import PixelGrid, grid_covering, reproject_sky, sky_wcs

STEP_ARCSEC = 0.492
LOOKS = {
    "equator": ((10.0, 0.0), (10.2, -0.1)),
    "across 0 h": ((359.95, 22.0), (0.1, 22.1)),
    "high declination": ((150.0, 78.6), (150.9, 78.5)),
    "over the pole": ((0.0, 89.95), (180.0, 89.9)),
    "south": ((250.0, -89.0), (260.0, -88.9)),
    "the same": ((194.95, 27.98), (194.95, 27.98)),
}


def direction(ra, dec):
    ra, dec = np.radians(ra), np.radians(dec)
    return np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def axes(ra, dec):
    """Unit vectors to the tangent point, to the East and to the North."""
    east = direction(ra + 90.0, 0.0)
    centre = direction(ra, dec)
    return centre, east, np.cross(centre, east)


def from_sky_pixels(plane, x, y):
    """Unit vectors, shape (3, n): x grows to the West, 4096.5 is the tangent point."""
    centre, east, north = axes(*plane)
    scale = np.radians(STEP_ARCSEC / 3600.0)
    xi, eta = -scale * (np.asarray(x) - 4096.5), scale * (np.asarray(y) - 4096.5)
    vector = centre[:, None] + xi * east[:, None] + eta * north[:, None]
    return vector / np.linalg.norm(vector, axis=0)


def to_sky_pixels(plane, vector):
    centre, east, north = axes(*plane)
    depth = centre @ vector
    scale = np.radians(STEP_ARCSEC / 3600.0)
    return 4096.5 - (east @ vector) / depth / scale, 4096.5 + (north @ vector) / depth / scale


@pytest.mark.parametrize("name", LOOKS)
def test_moved_positions_agree_with_trigonometry_to_a_thousandth_of_a_pixel(name):
    source, target = LOOKS[name]
    rng = np.random.default_rng(5)
    x, y = rng.uniform(0.5, 8192.5, (2, 20_000))  # the whole sky frame, 67 arcmin
    moved = reproject_sky(x, y, sky_wcs(*source), sky_wcs(*target))
    expected = to_sky_pixels(target, from_sky_pixels(source, x, y))
    assert np.max(np.hypot(*(np.array(moved) - expected))) < 1e-3
    back = reproject_sky(*moved, sky_wcs(*target), sky_wcs(*source))
    assert np.max(np.hypot(back[0] - x, back[1] - y)) < 1e-3


@pytest.mark.parametrize("name", LOOKS)
def test_an_images_two_coordinate_systems_name_the_same_place(name):
    plane = LOOKS[name][0]
    grid = PixelGrid(*plane, 0.5 + 4 * 700, 0.5 + 4 * 650, 500, 620)
    iy, ix = (axis.ravel() for axis in np.mgrid[0:620:31, 0:500:25])
    ra, dec = grid.wcs().all_pix2world(ix, iy, 0)
    expected = from_sky_pixels(plane, *grid.sky_from_image(ix, iy))
    off_pixel = np.linalg.norm(direction(ra, dec) - expected, axis=0) / np.radians(STEP_ARCSEC / 3600.0)
    assert off_pixel.max() < 1e-3


def test_a_position_keeps_its_pixel_whatever_grid_covers_it():
    rng = np.random.default_rng(6)
    x, y = (rng.uniform(3000.0, 5000.0, 5000).astype(np.float32) for _ in range(2))
    small, large = (grid_covering(150.0, 22.0, x, y, margin_pixel=margin) for margin in (1, 60))
    columns = [np.floor(np.array(grid.image_from_sky(x, y)) + 0.5) for grid in (small, large)]
    shift = columns[1] - columns[0]
    assert np.all(shift == shift[:, :1])
