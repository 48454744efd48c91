"""The folded nodes: interpolated, they are Sherpa's full model at any temperature and abundance."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cpxt_hpc.fitting import nodes as module
from cpxt_hpc.fitting.nodes import fold_nodes, node_temperatures_kev
from cpxt_hpc.fitting.xspec import ATOMDB_MODELS, apec_temperatures_kev, child_environment, evaluate_additive
from cpxt_hpc.io import datafiles
from cpxt_hpc.io.ogip import read_responses
from cpxt_hpc.io.vignetting_table import hrma_vignetting
from cpxt_hpc.science.response import EffectiveArea, channels_in_band, fold
from cpxt_hpc.science.vignetting import vignetted_areas

MODEL = {"redshift": 0.2, "nh_1e22": 0.05}


@pytest.fixture(scope="module")
def response():
    return read_responses(*datafiles.response_files())


@pytest.fixture(scope="module")
def folded(response):
    kept = channels_in_band(response[1], 0.7, 8.0)
    return kept, fold_nodes([response], [kept], **MODEL)


def test_nodes_are_those_of_atomdb_between_the_ends_of_the_search():
    kt = node_temperatures_kev()
    tabulated = apec_temperatures_kev()
    assert kt[0] == 0.1 and kt[-1] == 64.0
    assert np.all(np.diff(kt) > 0)
    assert np.array_equal(kt[1:-1], tabulated[(tabulated > 0.1) & (tabulated < 64.0)])


def test_interpolated_nodes_are_the_folded_model_of_sherpa(folded, tmp_path):
    kept, nodes = folded
    rng = np.random.default_rng(3)
    kt = np.concatenate([10 ** rng.uniform(-1, np.log10(64.0), 20), [0.1, 0.105, 60.0, 64.0]])
    points = np.column_stack([kt, rng.uniform(0.0, 1.5, len(kt))])
    arf, rmf = datafiles.response_files()
    request, answer = tmp_path / "request.npz", tmp_path / "answer.npz"
    np.savez(
        request, arf=str(arf), rmf=str(rmf), apec_root=str(datafiles.apec_root()), nh=MODEL["nh_1e22"],
        redshift=MODEL["redshift"], points=points,
    )
    script = Path(__file__).with_name("sherpa_folded_model.py")
    ended = subprocess.run(
        [sys.executable, script, request, answer], env=child_environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    expected = np.load(answer)["rates"][:, kept]

    (rates,) = nodes.rates[0]
    for (kt_kev, abundance), spectrum in zip(points, expected, strict=True):
        k = min(np.searchsorted(nodes.kt_kev, kt_kev, side="right") - 1, len(nodes.kt_kev) - 2)
        t = (kt_kev - nodes.kt_kev[k]) / (nodes.kt_kev[k + 1] - nodes.kt_kev[k])
        at_nodes = rates[0, k : k + 2] + abundance * (rates[1, k : k + 2] - rates[0, k : k + 2])
        found = (1 - t) * at_nodes[0] + t * at_nodes[1]
        # XSPEC keeps AtomDB's temperatures in single precision, which steep spectra of cold gas feel.
        np.testing.assert_allclose(found, spectrum, rtol=1e-6, atol=1e-6 * spectrum.max())
        assert found.sum() == pytest.approx(spectrum.sum(), rel=1e-6)


@pytest.mark.parametrize("plasma", [*ATOMDB_MODELS, "zbremss"])
def test_models_are_as_exact_between_their_nodes_as_they_state(response, plasma):
    kept = channels_in_band(response[1], 0.7, 8.0)
    nodes = fold_nodes([response], [kept], plasma=plasma, **MODEL)
    kt = np.random.default_rng(8).uniform(nodes.kt_kev[:-1], nodes.kt_kev[1:])
    direct = evaluate_additive(response[0].energy_edges_kev, kt, abundances=(0.4,), model=plasma, **MODEL)
    expected = fold(direct.photons[0], *response)[:, kept]
    at_nodes = nodes.rates[0][0, 0] + 0.4 * (nodes.rates[0][0, 1] - nodes.rates[0][0, 0])
    part = ((kt - nodes.kt_kev[:-1]) / np.diff(nodes.kt_kev))[:, None]
    found = (1 - part) * at_nodes[:-1] + part * at_nodes[1:]
    error = np.max(np.abs(found - expected).sum(axis=1) / expected.sum(axis=1))
    if plasma in ATOMDB_MODELS:
        assert nodes.model_error == 0.0
        assert error < 1e-6  # XSPEC keeps AtomDB's temperatures in single precision
    else:
        # XSPEC's bremsstrahlung jumps where its Gaunt factor changes its formula: 0.9 %, measured and stored.
        assert 0.0 < error <= 1.1 * nodes.model_error < 0.011


def test_hydrogen_columns_are_folded_each(response):
    kept = channels_in_band(response[1], 0.7, 2.0)
    columns = np.array([0.0, 0.05, 0.4])
    together = fold_nodes([response], [kept], redshift=0.2, nh_1e22=columns).rates[0]
    assert together.shape[:2] == (3, 2)
    for rates, nh in zip(together, columns, strict=True):
        alone = fold_nodes([response], [kept], redshift=0.2, nh_1e22=nh).rates[0][0]
        np.testing.assert_array_equal(rates, alone)


def test_the_rates_of_a_region_are_those_of_its_mean_area(response):
    """Folding is linear: a mean of folded responses is the folded mean response."""
    area, redistribution = response
    table = hrma_vignetting()
    areas = vignetted_areas(table, area.energy_edges_kev, area.area_cm2, table.off_axis_arcmin, made_at_arcmin=0.0)
    weights = np.random.default_rng(4).dirichlet(np.ones(len(areas)))
    kept = channels_in_band(redistribution, 0.7, 8.0)
    mean = EffectiveArea(area.energy_edges_kev, weights @ areas)
    pairs = [*((EffectiveArea(area.energy_edges_kev, each), redistribution) for each in areas), (mean, redistribution)]
    *basis, expected = fold_nodes(pairs, [kept] * len(pairs), **MODEL).rates
    found = np.tensordot(weights, np.array(basis), axes=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)


def test_xspec_runs_once_for_equal_energy_grids(response, monkeypatch):
    calls = []
    original = module.evaluate_additive

    def counted(edges, *arguments, **keywords):
        calls.append(len(edges))
        return original(edges, *arguments, **keywords)

    monkeypatch.setattr(module, "evaluate_additive", counted)
    old = read_responses(*datafiles.response_files("cy0"))
    responses = [response, old, response]
    kept = [channels_in_band(each[1], 2.0, 3.0) for each in responses]
    nodes = fold_nodes(responses, kept, **MODEL)
    grids = {each[0].energy_edges_kev.tobytes() for each in responses}
    assert len(calls) == len(grids)
    assert np.array_equal(nodes.rates[0], nodes.rates[2])
    assert not np.array_equal(nodes.rates[0], nodes.rates[1])
    assert set(nodes.versions) == {"xspec", "sherpa", "atomdb"}


def test_rates_are_positive_and_have_the_shape_of_the_contract(folded):
    kept, nodes = folded
    assert nodes.rates[0].shape == (1, 2, len(nodes.kt_kev), np.count_nonzero(kept))
    assert nodes.rates[0].flags.c_contiguous
    assert np.all(nodes.rates[0] >= 0) and np.all(nodes.rates[0][..., 10:, :] > 0)


def test_a_selection_is_needed_for_each_response(response):
    with pytest.raises(ValueError, match="1 responses and 2 selections"):
        fold_nodes([response], [None, None], **MODEL)
    with pytest.raises(ValueError, match="0 responses"):
        fold_nodes([], [], **MODEL)
