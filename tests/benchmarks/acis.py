"""Real spectra for the benchmarks: XSPEC's plasma through the ACIS-I response of cycle 18."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from synthetic import temperature_nodes

from cpxt_hpc.fitting.xspec import evaluate_additive
from cpxt_hpc.io.datafiles import response_files
from cpxt_hpc.io.ogip import read_responses
from cpxt_hpc.science.response import channels_in_band, fold

NH_1E22, REDSHIFT, ABUNDANCE, BAND_KEV = 0.05, 0.2, 0.3, (0.7, 8.0)


def acis_nodes() -> tuple[np.ndarray, np.ndarray]:
    """Folded nodes and the channels they are in.

    Returns
    -------
    nodes : ndarray, shape (2, n_nodes, n_channels)
        Count rates for norm 1 at abundance 0 and 1, at ``synthetic.temperature_nodes()`` [count/s].
    channel : ndarray of int
        Channel numbers.
    """
    area, redistribution = read_responses(*response_files("cy18"))
    photons = evaluate_additive(area.energy_edges_kev, temperature_nodes(), redshift=REDSHIFT, nh_1e22=NH_1E22).photons
    band = channels_in_band(redistribution, *BAND_KEV)
    return fold(photons, area, redistribution)[..., band], redistribution.channel[band]
