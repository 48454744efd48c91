"""Nodes of models that are linear between no temperatures: enough of them, and no more."""

import numpy as np
import pytest

from cpxt_hpc.fitting.node_choice import (
    FINE_STEPS,
    TOLERANCE,
    choose_nodes,
    fine_temperatures_kev,
    interpolation_error,
    relative_deviation,
)

KT = fine_temperatures_kev(0.1, 64.0)
ENERGY = np.linspace(0.7, 8.0, 60)


def between(kt, spectra, kept, wanted):
    """Spectra at the wanted places, interpolated between the kept ones."""
    k = np.clip(np.searchsorted(kept, wanted, side="right") - 1, 0, len(kept) - 2)
    low, high = kept[k], kept[k + 1]
    part = ((kt[wanted] - kt[low]) / (kt[high] - kt[low]))[:, None]
    return (1 - part) * spectra[low] + part * spectra[high]


def test_fine_grid_spans_the_range_exactly():
    assert (KT[0], KT[-1], len(KT)) == (0.1, 64.0, FINE_STEPS + 1)
    np.testing.assert_allclose(np.diff(np.log(KT)), np.log(640.0) / FINE_STEPS, rtol=1e-9)


def test_a_smooth_model_is_within_the_tolerance_everywhere():
    spectra = (KT[:, None] ** -0.5 * np.exp(-ENERGY / KT[:, None]))[None]
    kept, error = choose_nodes(KT, spectra)
    found = between(KT, spectra[0], kept, np.arange(FINE_STEPS + 1))
    measured = np.abs(found - spectra[0]).sum(axis=1) / spectra[0].sum(axis=1)
    assert measured.max() == pytest.approx(error, rel=1e-9)
    assert error <= TOLERANCE
    # A grid four times as dense as needed would have errors below a sixteenth of the tolerance.
    assert error > TOLERANCE / 16
    assert np.all(np.diff(kept) >= 2)


def test_a_piecewise_linear_model_needs_few_nodes():
    corners = KT[:: FINE_STEPS // 16]
    at_corners = np.exp(-ENERGY / corners[:, None])
    spectra = np.array([[np.interp(kt, corners, column) for column in at_corners.T] for kt in KT])[None]
    kept, error = choose_nodes(KT, spectra)
    assert error < 1e-12
    assert np.array_equal(kept, np.arange(0, FINE_STEPS + 1, FINE_STEPS // 16))


def test_a_jump_is_reported_and_not_hidden():
    spectra = np.where(KT[:, None] > 5.0, 1.01, 1.0)[None] * np.exp(-ENERGY / 4.0)
    kept, error = choose_nodes(KT, spectra)
    assert 0.003 < error < 0.01
    assert np.any(np.diff(kept) == 2)


def test_all_kinds_are_held_to_the_tolerance():
    smooth = np.ones((FINE_STEPS + 1, len(ENERGY)))
    steep = np.exp(-ENERGY / KT[:, None])
    alone, _ = choose_nodes(KT, steep[None])
    together, _ = choose_nodes(KT, np.stack([smooth, steep]))
    assert np.array_equal(alone, together)
    assert len(choose_nodes(KT, smooth[None])[0]) == 17


def test_deviations_are_relative_to_the_whole_spectrum():
    expected = np.array([[1.0, 3.0], [0.0, 0.0]])
    assert relative_deviation(np.array([[1.1, 2.9], [0.0, 0.0]]), expected) == pytest.approx(0.05)
    assert interpolation_error(np.array([1.0, 2.0, 3.0]), np.array([[[1.0], [2.5], [3.0]]]), 0, 2) == pytest.approx(0.2)
