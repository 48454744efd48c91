"""A map with another model needs no preprocessing: the responses of the fit input are folded anew."""

import dataclasses

import h5py
import numpy as np
import pytest
from synthetic import make_fit_input

from cpxt_hpc.config import ClusterConfig, ClusterSection, FitSection
from cpxt_hpc.errors import DataError, ToolError
from cpxt_hpc.fitting import refold
from cpxt_hpc.fitting.nodes import fold_nodes
from cpxt_hpc.io.datafiles import response_files
from cpxt_hpc.io.nodes_file import read_nodes, write_nodes
from cpxt_hpc.io.ogip import read_responses
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.parallel.chosen_model import with_chosen_model
from cpxt_hpc.science.response import EffectiveArea, channels_in_band

MODEL = {
    "nH_1e22": 0.05, "redshift": 0.2, "plasma": "apec", "absorption": "phabs", "abundance_table": "angr",
    "cross_sections": "vern",
}  # fmt: skip
ARGUMENTS = {key: value for key, value in MODEL.items() if key != "nH_1e22"}


@pytest.fixture(scope="module")
def response():
    area, redistribution = read_responses(*response_files("cy18"))
    areas = [area, EffectiveArea(area.energy_edges_kev, 0.8 * area.area_cm2)]
    return [(each, redistribution) for each in areas], channels_in_band(redistribution, 0.7, 8.0)


@pytest.fixture(scope="module")
def fit_input(response):
    """Two observations with the two ARFs as responses of the field."""
    pairs, band = response
    folded = fold_nodes(pairs, [band, band], nh_1e22=MODEL["nH_1e22"], **ARGUMENTS)
    made_up = make_fit_input(2, n_regions=4, n_channels=np.count_nonzero(band))
    redistribution = pairs[0][1]
    own = {
        "nodes": np.stack(folded.rates),
        "arf_energy_edges_kev": redistribution.energy_edges_kev,
        "arf_area_cm2": np.stack([area.area_cm2 for area, _ in pairs]),
        "rmf_start": redistribution.matrix.indptr.astype(np.int64),
        "rmf_column": redistribution.matrix.indices.astype(np.int32),
        "rmf_value": redistribution.matrix.data.astype(np.float64),
        "channel_low_kev": redistribution.channel_low_kev.astype(np.float64),
        "channel_high_kev": redistribution.channel_high_kev.astype(np.float64),
        "first_rmf_channel": 1,
        "first_channel": int(redistribution.channel[band][0]),
    }
    observations = tuple(dataclasses.replace(observation, **own) for observation in made_up.observations)
    settings = {**made_up.settings, **MODEL, "data_digest": "0"}
    return dataclasses.replace(made_up, observations=observations, settings=settings, kt_nodes_kev=folded.kt_kev)


def config_with(tmp_path, **fit):
    cluster = {"hydrogen_column_density": 0.05, "redshift": 0.2, "abundance": 0.3}
    cluster |= {key: fit.pop(key) for key in list(fit) if key in cluster}
    section = ClusterSection("a", (1, 2), **cluster)
    return ClusterConfig(tmp_path / "cluster.ini", section, fit=FitSection(**fit))


def layout_at(tmp_path):
    layout = ClusterLayout(tmp_path, "a")
    layout.acb.mkdir()
    return layout


def test_the_same_settings_give_the_same_model_to_the_last_bit(fit_input):
    again = refold.refolded(fit_input, MODEL, free_nh=False)
    for one, other in zip(again.observations, fit_input.observations, strict=True):
        assert np.array_equal(one.nodes, other.nodes)
    assert np.array_equal(again.kt_nodes_kev, fit_input.kt_nodes_kev)


def test_other_settings_give_what_stage_5_would_fold(fit_input, response):
    pairs, band = response
    wanted = {**MODEL, "nH_1e22": 0.3, "redshift": 0.25, "absorption": "tbabs"}
    again = refold.refolded(fit_input, wanted, free_nh=False)
    expected = fold_nodes(pairs, [band, band], nh_1e22=0.3, **{**ARGUMENTS, "redshift": 0.25, "absorption": "tbabs"})
    assert np.array_equal(again.observations[1].nodes, np.stack(expected.rates))
    assert again.settings["nH_1e22"] == 0.3 and again.settings["absorption"] == "tbabs"
    assert again.settings["data_digest"] == "0"


def test_free_nh_is_folded_on_a_grid_that_holds_the_frozen_one(fit_input):
    again = refold.refolded(fit_input, MODEL, free_nh=True)
    here = np.flatnonzero(again.nh_nodes_1e22 == 0.05)
    assert len(here) == 1 and len(again.nh_nodes_1e22) > 5
    assert np.array_equal(again.observations[0].nodes[:, here], fit_input.observations[0].nodes)


def test_another_abundance_needs_no_folding(fit_input, tmp_path, monkeypatch):
    monkeypatch.setattr(refold, "fold_nodes", None)
    found, path = with_chosen_model(config_with(tmp_path, abundance=0.7), layout_at(tmp_path), fit_input)
    assert path is None
    assert found.abundance == found.settings["abundance"] == 0.7


def test_the_folded_model_is_kept_beside_the_fit_input(fit_input, tmp_path, monkeypatch):
    layout, config = layout_at(tmp_path), config_with(tmp_path, redshift=0.1)
    first, path = with_chosen_model(config, layout, fit_input)
    assert path.parent == layout.acb and path.name.startswith("a_nodes_")
    monkeypatch.setattr(refold, "fold_nodes", None)
    second, same = with_chosen_model(config, layout, fit_input)
    assert same == path
    assert np.array_equal(first.observations[1].nodes, second.observations[1].nodes)
    assert not np.array_equal(first.observations[1].nodes, fit_input.observations[1].nodes)
    assert second.settings == first.settings and second.settings["redshift"] == 0.1


def test_without_xspec_the_command_to_run_is_named(fit_input, tmp_path, monkeypatch):
    def none_here(*_, **__):
        raise ToolError("no XSPEC models here.")

    monkeypatch.setattr(refold, "fold_nodes", none_here)
    layout = layout_at(tmp_path)
    with pytest.raises(ToolError, match=r"redshift 0\.2, in cluster\.ini 0\.1.*no XSPEC.*cpxt-prep .* --stage 5"):
        with_chosen_model(config_with(tmp_path, redshift=0.1), layout, fit_input)
    assert list(layout.acb.iterdir()) == []


@pytest.mark.parametrize("fault", ["truncated", "of another observation", "not a number"])
def test_a_spoiled_folded_model_is_refused(fit_input, tmp_path, fault):
    path = tmp_path / "nodes.h5"
    write_nodes(path, fit_input)
    if fault == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    else:
        with h5py.File(path, "r+") as file:
            nodes = file["nodes/0001"][()]
            del file["nodes/0001"]
            file["nodes/0001"] = nodes[:1] if fault == "of another observation" else nodes * np.nan
    with pytest.raises(DataError, match="Remove it"):
        read_nodes(path, fit_input)
