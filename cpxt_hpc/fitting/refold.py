"""A fit input with another model: its own responses, folded anew with other settings.

Hydrogen column, redshift, plasma, absorption and the tables behind them change the folded model and nothing else, so
that a map with another one of them needs no preprocessing, only XSPEC.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_array

from cpxt_hpc.fitting.model import FitInput, ObservationInput
from cpxt_hpc.fitting.nodes import FoldedNodes, Response, fold_nodes, hydrogen_columns
from cpxt_hpc.science.response import EffectiveArea, Redistribution


def refolded(
    fit_input: FitInput, settings: Mapping[str, object], *, free_nh: bool, apec_root: str | None = None
) -> FitInput:
    """The fit input with the model of other settings.

    Parameters
    ----------
    fit_input : FitInput
    settings : mapping
        nH_1e22, redshift, plasma, absorption, abundance_table, cross_sections.
    free_nh : bool
        Fold at a grid of hydrogen columns.
    apec_root : str, optional
        Prefix of the AtomDB tables.

    Returns
    -------
    FitInput

    Raises
    ------
    MissingInput, DataError, ToolError
        As `cpxt_hpc.fitting.nodes.fold_nodes`: above all where there is no XSPEC.
    """
    nh_1e22 = hydrogen_columns(float(settings["nH_1e22"]), is_free=free_nh)
    pairs, kept, counts = [], [], []
    for observation in fit_input.observations:
        own = observation_responses(observation)
        counts.append(len(own))
        pairs += own
        inside = np.zeros(len(observation.channel_low_kev), dtype=bool)
        first = observation.first_channel - observation.first_rmf_channel
        inside[first : first + observation.nodes.shape[-1]] = True
        kept += [inside] * len(own)
    folded = fold_nodes(
        pairs,
        kept,
        redshift=float(settings["redshift"]),
        nh_1e22=nh_1e22,
        plasma=str(settings["plasma"]),
        absorption=str(settings["absorption"]),
        abundance_table=str(settings["abundance_table"]),
        cross_sections=str(settings["cross_sections"]),
        apec_root=apec_root,
    )
    return _with_model(fit_input, folded, np.cumsum([0, *counts]), nh_1e22, settings)


def observation_responses(observation: ObservationInput) -> list[Response]:
    """The responses of an observation of a fit input, to all channels."""
    n_channels = len(observation.channel_low_kev)
    edges = np.array(observation.arf_energy_edges_kev)
    matrix = csr_array(
        (np.array(observation.rmf_value), np.array(observation.rmf_column), np.array(observation.rmf_start)),
        shape=(len(edges) - 1, n_channels),
    )
    redistribution = Redistribution(
        energy_edges_kev=edges,
        matrix=matrix,
        channel=observation.first_rmf_channel + np.arange(n_channels),
        channel_low_kev=np.array(observation.channel_low_kev),
        channel_high_kev=np.array(observation.channel_high_kev),
    )
    return [(EffectiveArea(edges, np.array(area)), redistribution) for area in observation.arf_area_cm2]


def _with_model(
    fit_input: FitInput, folded: FoldedNodes, ends: np.ndarray, nh_1e22: np.ndarray, settings: Mapping[str, object]
) -> FitInput:
    observations = tuple(
        dataclasses.replace(observation, nodes=np.stack(folded.rates[first:last]))
        for observation, (first, last) in zip(fit_input.observations, itertools.pairwise(ends), strict=True)
    )
    described = {**settings, **folded.versions, "model_error": folded.model_error}
    return dataclasses.replace(
        fit_input,
        observations=observations,
        kt_nodes_kev=folded.kt_kev,
        nh_nodes_1e22=nh_1e22,
        settings={**fit_input.settings, **described},
    )
