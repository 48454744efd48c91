"""A small fit input with the ACIS-I responses of the set-up and XSPEC's nodes: others can fit what is exported."""

from __future__ import annotations

import dataclasses

import numpy as np
from acis_spectra import ABUNDANCE, NH, REDSHIFT, acis
from synthetic import make_fit_input

from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.science.response import channels_in_band

BAND_KEV = (0.7, 8.0)


def acis_fit_input(seed: int = 1, **options) -> FitInput:
    """The fit input of `synthetic.make_fit_input` with real responses, two for each observation.

    The second has less area, at high energies above all; the light of the pixels mixes them from left to right.
    """
    made = acis()
    inside = channels_in_band(made.redistribution, *BAND_KEV)
    channel = made.redistribution.channel[inside]
    plain = np.ascontiguousarray(made.nodes.rates[0][0][..., inside])
    drawn = make_fit_input(seed, plasma=plain, abundance=ABUNDANCE, **options)
    edges = made.area.energy_edges_kev
    falling = 1.0 / (1.0 + 0.08 * 0.5 * (edges[1:] + edges[:-1]))
    areas = np.stack([made.area.area_cm2, made.area.area_cm2 * falling])
    nodes = np.stack([plain, _folded(areas[1], inside)])[:, None]
    _, nx = drawn.grid.shape
    part = np.broadcast_to(np.linspace(0.0, 0.9, nx, dtype=np.float32), drawn.grid.shape)
    matrix = made.redistribution.matrix
    responses = {
        "response_index": np.zeros(drawn.grid.shape, dtype=np.uint8),
        "response_part": np.array(part),
        "arf_energy_edges_kev": edges,
        "rmf_start": matrix.indptr.astype(np.int64),
        "rmf_column": matrix.indices.astype(np.int32),
        "rmf_value": matrix.data.astype(np.float64),
        "channel_low_kev": made.redistribution.channel_low_kev,
        "channel_high_kev": made.redistribution.channel_high_kev,
        "first_rmf_channel": int(made.redistribution.channel[0]),
        "first_channel": int(channel[0]),
    }
    observations = []
    for each in drawn.observations:
        # The made-up observations differ by a factor of their response.
        factor = float(each.nodes[0, 0, 0, 0].sum() / plain[0, 0].sum())
        observations.append(dataclasses.replace(each, nodes=factor * nodes, arf_area_cm2=factor * areas, **responses))
    settings = {
        **drawn.settings, "nH_1e22": NH, "redshift": REDSHIFT, "abundance": ABUNDANCE, "plasma": "apec",
        "absorption": "phabs", "abundance_table": "angr", "cross_sections": "vern",
        **{name: made.nodes.versions[name] for name in ("xspec", "sherpa", "atomdb")},
    }  # fmt: skip
    return dataclasses.replace(
        drawn,
        observations=tuple(observations),
        kt_nodes_kev=made.nodes.kt_kev,
        nh_nodes_1e22=np.array([NH]),
        settings=settings,
    )


def _folded(area_cm2: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The nodes through another effective area, shape (2, n_nodes, n_channels)."""
    from cpxt_hpc.fitting.nodes import fold_nodes

    made = acis()
    area = dataclasses.replace(made.area, area_cm2=area_cm2)
    return fold_nodes([(area, made.redistribution)], [inside], redshift=REDSHIFT, nh_1e22=NH).rates[0][0]
