"""The folded model: count spectra of an absorbed plasma at temperatures between which it is linear.

XSPEC's apec interpolates its spectra linearly in kT between the temperatures of AtomDB, and is linear in the
abundance. With absorption and redshift fixed, the spectra at these temperatures and at two abundances, folded
through the response, are therefore the exact model for any temperature, abundance and norm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cpxt_hpc.fitting.xspec import apec_temperatures_kev, evaluate_additive
from cpxt_hpc.science.response import EffectiveArea, Redistribution, fold

LOWEST_KT_KEV, HIGHEST_KT_KEV = 0.1, 64.0
"""Range of temperatures that is searched [keV]; 64 is XSPEC's and Sherpa's upper limit of apec."""

ABUNDANCES = (0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class FoldedNodes:
    """Folded model spectra.

    Attributes
    ----------
    kt_kev : ndarray of float64, shape (n_nodes,)
        Temperatures [keV], ascending.
    rates : tuple of ndarray of float64, each of shape (2, n_nodes, n_channels)
        Count rates [count/s] for norm 1 at abundance 0 and 1, one array a response.
    versions : dict of str
        ``xspec``, ``sherpa``, ``atomdb``.
    """

    kt_kev: np.ndarray
    rates: tuple[np.ndarray, ...]
    versions: dict[str, str]


def node_temperatures_kev(apec_root: str | Path | None = None) -> np.ndarray:
    """Temperatures of AtomDB inside the searched range, and the ends of that range [keV].

    The ends lie between temperatures of AtomDB, where the model is linear: no accuracy is lost there.

    Raises
    ------
    MissingInput, DataError
        As `apec_temperatures_kev`.
    """
    tabulated = apec_temperatures_kev(apec_root)
    inside = tabulated[(tabulated > LOWEST_KT_KEV) & (tabulated < HIGHEST_KT_KEV)]
    return np.concatenate([[LOWEST_KT_KEV], inside, [HIGHEST_KT_KEV]])


def fold_nodes(
    responses: Sequence[tuple[EffectiveArea, Redistribution]],
    channels: Sequence[np.ndarray],
    *,
    redshift: float,
    nh_1e22: float,
    absorption: str = "phabs",
    abundance_table: str = "angr",
    cross_sections: str = "vern",
    apec_root: str | Path | None = None,
) -> FoldedNodes:
    """Evaluate the plasma model at its nodes and fold it through each response.

    Parameters
    ----------
    responses : sequence of (EffectiveArea, Redistribution)
        One pair an observation. XSPEC runs once for each distinct energy grid among them.
    channels : sequence of ndarray of bool, each of shape (n_all_channels,)
        Channels to keep, one array a response.
    redshift, nh_1e22, absorption, abundance_table, cross_sections, apec_root
        As `cpxt_hpc.fitting.xspec.evaluate_additive` takes them.

    Returns
    -------
    FoldedNodes

    Raises
    ------
    ValueError
        No response, an argument out of range, or responses whose energies do not fit.
    MissingInput, DataError, ToolError
        As `evaluate_additive`.
    """
    if len(responses) == 0 or len(responses) != len(channels):
        raise ValueError(f"{len(responses)} responses and {len(channels)} selections of channels were given")
    kt_kev = node_temperatures_kev(apec_root)
    photons: dict[bytes, np.ndarray] = {}
    versions: dict[str, str] = {}
    rates = []
    for (area, redistribution), kept in zip(responses, channels, strict=True):
        grid = area.energy_edges_kev.tobytes()
        if grid not in photons:
            evaluated = evaluate_additive(
                area.energy_edges_kev,
                kt_kev,
                abundances=ABUNDANCES,
                redshift=redshift,
                nh_1e22=nh_1e22,
                absorption=absorption,
                abundance_table=abundance_table,
                cross_sections=cross_sections,
                apec_root=apec_root,
            )
            photons[grid], versions = evaluated.photons, evaluated.versions
        rates.append(np.ascontiguousarray(fold(photons[grid], area, redistribution)[..., kept]))
    return FoldedNodes(kt_kev, tuple(rates), versions)
