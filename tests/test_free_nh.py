"""The model between folded hydrogen columns, against XSPEC at those columns."""

import numpy as np
import pytest

from cpxt_hpc.errors import CpxtError
from cpxt_hpc.fitting.free_nh import column_weights, nh_grid
from cpxt_hpc.fitting.nodes import hydrogen_columns, node_temperatures_kev
from cpxt_hpc.fitting.xspec import evaluate_additive
from cpxt_hpc.io import datafiles
from cpxt_hpc.io.ogip import read_responses
from cpxt_hpc.science.response import channels_in_band, fold

CROSS_SECTIONS = np.linspace(0.0, 6.4, 65)
"""Those of phabs from far above to 0.5 keV [10^-22 cm^2]."""


@pytest.mark.parametrize("expected", [0.0, 0.03, 0.2, 0.5, 1.1])
def test_exponentials_are_reproduced_between_the_columns(expected):
    grid = nh_grid(expected)
    assert grid[0] == 0.0
    assert grid[-1] >= max(1.0, 4.0 * expected)
    assert np.all(np.diff(grid) > 0.0)
    folded = np.exp(-np.outer(grid, CROSS_SECTIONS))
    for nh in np.linspace(0.0, grid[-1], 301):
        first, weights = column_weights(grid, nh)
        kept = folded[first : first + weights.shape[1]]
        exact = np.exp(-nh * CROSS_SECTIONS)
        # Even where e^-28 of the light is left.
        assert np.abs(weights[0] @ kept / exact - 1.0).max() < 5e-4
        # In what XSPEC's band holds, 0.7 keV and above, and where anything is left to be seen.
        seen = (CROSS_SECTIONS < 4.9) & (exact > 1e-4)
        assert np.abs(weights[0] @ kept / exact - 1.0)[seen].max() < 1e-5


def test_a_folded_column_is_itself():
    grid = nh_grid(0.1)
    for i, nh in enumerate(grid):
        first, weights = column_weights(grid, nh)
        expected = np.zeros(weights.shape[1])
        expected[i - first] = 1.0
        assert np.array_equal(weights[0], expected)


def test_a_grid_of_two_columns_will_do():
    first, weights = column_weights(np.array([0.0, 0.1]), 0.05)
    assert first == 0
    assert weights[0] @ np.exp(-3.0 * np.array([0.0, 0.1])) == pytest.approx(np.exp(-0.15), rel=1e-12)


def test_derivatives_are_those_of_the_interpolation():
    grid = nh_grid(0.1)
    folded = np.exp(-2.0 * grid) + 0.3 * np.exp(-5.0 * grid)
    step = 1e-5

    def model(nh):
        first, weights = column_weights(grid, nh)
        return weights @ folded[first : first + weights.shape[1]]

    for nh in (0.013, 0.2, 0.77):
        # Central differences: good to the square of the step, and to rounding over the step.
        assert model(nh)[1] == pytest.approx((model(nh + step)[0] - model(nh - step)[0]) / (2 * step), rel=1e-7)
        assert model(nh)[2] == pytest.approx((model(nh + step)[1] - model(nh - step)[1]) / (2 * step), rel=1e-7)


@pytest.mark.parametrize("nh", [-0.1, np.nan])
def test_a_negative_column_is_refused(nh):
    with pytest.raises(ValueError, match="the hydrogen column must not be negative"):
        nh_grid(nh)


@pytest.mark.parametrize(("absorption", "expected"), [("phabs", 0.05), ("phabs", 0.6), ("tbabs", 0.2)])
def test_every_channel_is_xspecs_at_the_exact_column(absorption, expected):
    try:
        kt = node_temperatures_kev()
        area, redistribution = read_responses(*datafiles.response_files())
        grid = hydrogen_columns(expected, is_free=True)
        between = 0.5 * (grid[1:] + grid[:-1])
        columns = np.concatenate([grid, between])
        nodes = evaluate_additive(
            area.energy_edges_kev, kt, redshift=0.2, nh_1e22=columns, absorption=absorption
        )  # fmt: skip
    except CpxtError as missing:
        pytest.skip(str(missing))
    band = channels_in_band(redistribution, 0.7, 8.0)
    folded = np.stack([fold(nodes.emitted * t, area, redistribution)[..., band] for t in nodes.transmission])
    at_nodes, exact = folded[: len(grid)], folded[len(grid) :]
    warm = kt > 0.4
    for nh, spectra in zip(between, exact, strict=True):
        first, weights = column_weights(grid, nh)
        deviation = np.abs(np.tensordot(weights[0], at_nodes[first : first + weights.shape[1]], axes=1) / spectra - 1)
        # The aim is 1e-4 in every channel. Below 0.4 keV soft light leaks into channels where there is none else.
        assert deviation.max() < 5e-5
        assert deviation[:, warm].max() < 5e-6
