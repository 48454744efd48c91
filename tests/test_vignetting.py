"""Vignetting: the table, what lies between its entries, and the angles that a map needs."""

import numpy as np
import pytest

from cpxt_hpc.io.vignetting_table import hrma_vignetting
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.pointing import angular_separation_deg
from cpxt_hpc.science.vignetting import (
    VignettingTable,
    basis_angles,
    between,
    off_axis_angles_arcmin,
    relative_area,
    vignetted_areas,
)

GRID = PixelGrid(150.0, 22.0, 3096.5, 3296.5, 300, 200)


@pytest.fixture(scope="module")
def table():
    return hrma_vignetting()


@pytest.fixture(scope="module")
def falling():
    """V = exp(-0.01 E theta) at a few energies and angles."""
    energy, angle = np.array([1.0, 4.0, 7.0]), np.arange(4.0)
    return VignettingTable(energy, angle, np.exp(-0.01 * energy[:, None] * angle))


def test_the_packaged_table_is_that_of_the_ray_traces(table):
    assert table.relative_area.shape == (15, 13) == (len(table.energy_kev), len(table.off_axis_arcmin))
    assert np.all(table.relative_area[:, 0] == 1.0)
    assert np.all(np.diff(table.relative_area, axis=1) < 0.0)
    # What the project's notes on Chandra's mirror quote for 8 arcmin.
    quoted = relative_area(table, np.array([1.5, 6.4, 8.0]), 8.0)
    np.testing.assert_allclose(quoted, [0.89, 0.72, 0.70], atol=0.005)


def test_entries_of_the_table_come_back(table):
    found = relative_area(table, table.energy_kev[:, None], table.off_axis_arcmin)
    np.testing.assert_allclose(found, table.relative_area, rtol=1e-15)


def test_between_entries_it_is_linear_in_energy_and_angle(falling):
    corners = falling.relative_area[1:3, 2:4]
    assert relative_area(falling, 5.5, 2.5) == pytest.approx(corners.mean(), rel=1e-15)
    assert relative_area(falling, 4.0, 2.25) == pytest.approx(0.75 * corners[0, 0] + 0.25 * corners[0, 1], rel=1e-15)


def test_outside_the_table_it_is_held_and_above_it_falls_on(falling):
    assert relative_area(falling, 0.2, 1.5) == relative_area(falling, 1.0, 1.5)
    assert relative_area(falling, 4.0, 50.0) == relative_area(falling, 4.0, 3.0)
    # exp(-0.01 E theta) falls by a constant factor a keV: continued exactly at the steps of the continuation.
    assert relative_area(falling, 9.0, 2.0) == pytest.approx(np.exp(-0.18), rel=1e-14)
    assert relative_area(falling, 99.0, 2.0) == relative_area(falling, 12.0, 2.0)


def test_area_stays_positive_and_falls_outwards_up_to_the_end_of_the_telemetered_band(table):
    energy = np.linspace(0.1, 12.0, 200)
    values = relative_area(table, energy, np.linspace(0.0, 15.0, 61)[:, None])
    assert values.shape == (61, 200)
    assert np.all(values > 0.0) and np.all(np.diff(values, axis=0) <= 0.0)


def test_places_on_a_grid():
    index, part = between(np.array([0.0, 1.0, 3.0]), np.array([-1.0, 0.0, 0.25, 1.0, 2.0, 3.0, 9.0]))
    assert index.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert part.tolist() == [0.0, 0.0, 0.25, 0.0, 0.5, 0.0, 0.0]


def test_off_axis_angles_are_great_circles_about_the_pointing():
    ra, dec = 150.05, 21.97
    angles = off_axis_angles_arcmin(GRID, ra, dec)
    assert angles.shape == GRID.shape
    iy, ix = np.unravel_index(np.argmin(angles), GRID.shape)
    # In a small field the tangent plane is flat: the pixel that holds the pointing is known to a pixel.
    found = np.hypot(iy - 50, ix - 40) * GRID.pixel_arcsec / 60.0
    assert angles[50, 40] == pytest.approx(found, abs=GRID.pixel_arcsec / 60.0)
    centre = GRID.wcs().all_pix2world(123, 45, 0)
    assert angles[45, 123] == pytest.approx(60.0 * angular_separation_deg(*centre, ra, dec), rel=1e-12)


def test_basis_has_only_the_angles_that_are_needed(table):
    angles = off_axis_angles_arcmin(GRID, 150.1, 22.0)
    used = (angles > 3.2) & (angles < 5.7)
    basis = basis_angles(table, angles, used)
    assert basis.off_axis_arcmin.tolist() == [3.0, 4.0, 5.0, 6.0]
    assert (basis.index.dtype, basis.part.dtype) == (np.uint8, np.float32)
    assert np.all((basis.part >= 0.0) & (basis.part < 1.0))
    # One angle needs one response: nothing lies beyond the last.
    assert np.all(basis.index + (basis.part > 0) < 4)
    assert not basis.index[angles < 3.0].any()
    assert np.all(basis.index[angles > 6.0] == 3)


@pytest.mark.parametrize(("angles", "expected"), [([[2.0, 2.0]], [2.0]), ([[11.5, 14.0]], [11.0, 12.0])])
def test_basis_ends_where_the_angles_do(table, angles, expected):
    basis = basis_angles(table, np.array(angles), np.ones((1, 2), dtype=bool))
    assert basis.off_axis_arcmin.tolist() == expected


def test_without_a_pixel_in_use_there_is_one_response(table):
    basis = basis_angles(table, np.full((2, 3), 4.0), np.zeros((2, 3), dtype=bool))
    assert len(basis.off_axis_arcmin) == 1 and not basis.part.any() and not basis.index.any()


def test_responses_between_basis_angles_are_those_of_the_pixels(table):
    """The interpolated area is the area at the pixel's own angle: far below the 0.1 % that the table's noise allows."""
    edges = np.linspace(0.3, 11.0, 300)
    area = np.exp(-0.5 * ((edges[1:] - 2.0) / 3.0) ** 2) * 500.0
    angles = off_axis_angles_arcmin(GRID, 150.08, 21.95)
    basis = basis_angles(table, angles, np.ones(GRID.shape, dtype=bool))
    areas = vignetted_areas(table, edges, area, basis.off_axis_arcmin, made_at_arcmin=2.5)
    some = np.random.default_rng(1).integers(0, angles.size, 500)
    index, part = basis.index.ravel()[some], basis.part.ravel()[some][:, None].astype(float)
    found = (1.0 - part) * areas[index] + part * areas[np.minimum(index + 1, len(areas) - 1)]
    expected = vignetted_areas(table, edges, area, angles.ravel()[some], made_at_arcmin=2.5)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_area_is_its_own_where_it_was_made(table):
    edges = np.linspace(0.3, 11.0, 300)
    area = np.linspace(1.0, 600.0, 299)
    areas = vignetted_areas(table, edges, area, np.array([0.0, 4.3, 8.0]), made_at_arcmin=4.3)
    np.testing.assert_allclose(areas[1], area, rtol=1e-15)
    assert np.all(areas[0] > area) and np.all(areas[2] < area)
