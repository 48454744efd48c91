"""The folded model: count spectra of an absorbed plasma at temperatures between which it is linear.

XSPEC's apec interpolates its spectra linearly in kT between the temperatures of AtomDB, and is linear in the
abundance. With absorption and redshift fixed, the spectra at these temperatures and at two abundances, folded
through the response, are therefore the exact model for any temperature, abundance and norm. Other plasma models are
tabulated densely enough (`node_choice`), and how exact they are is measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cpxt_hpc.fitting.free_nh import nh_grid
from cpxt_hpc.fitting.node_choice import choose_nodes, fine_temperatures_kev, relative_deviation
from cpxt_hpc.fitting.xspec import ATOMDB_MODELS, XspecNodes, apec_temperatures_kev, evaluate_additive
from cpxt_hpc.science.response import EffectiveArea, Redistribution, fold

LOWEST_KT_KEV, HIGHEST_KT_KEV = 0.1, 64.0
"""Range of temperatures that is searched [keV]; 64 is XSPEC's and Sherpa's upper limit of apec."""

ABUNDANCES = (0.0, 1.0)
TESTED_ABUNDANCE = 0.3
"""Where the linearity in abundance of a model is tested that is not known to be linear."""

SAME_COLUMN_1E22 = 1e-6
"""Columns closer than this are one: an interpolation between them would only amplify rounding."""

Response = tuple[EffectiveArea, Redistribution]


@dataclasses.dataclass(frozen=True)
class FoldedNodes:
    """Folded model spectra.

    Attributes
    ----------
    kt_kev : ndarray of float64, shape (n_nodes,)
        Temperatures [keV], ascending.
    rates : tuple of ndarray of float64, each of shape (n_nh, 2, n_nodes, n_channels)
        Count rates [count/s] for norm 1 by hydrogen column, abundance 0 and 1, and temperature; one array a response.
    versions : dict of str
        ``xspec``, ``sherpa``, ``atomdb``.
    model_error : float
        Largest relative error of a spectrum interpolated between the nodes, summed over the channels; 0 where the
        model is linear between them.
    """

    kt_kev: np.ndarray
    rates: tuple[np.ndarray, ...]
    versions: dict[str, str]
    model_error: float = 0.0


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


def hydrogen_columns(nh_1e22: float, *, is_free: bool) -> np.ndarray:
    """Columns to fold behind, ascending: the frozen one, and where it is free a grid that holds it [10^22 cm^-2]."""
    own = np.array([nh_1e22], dtype=float)
    if not is_free:
        return own
    grid = nh_grid(nh_1e22)
    return np.unique(np.concatenate([own, grid[np.abs(grid - nh_1e22) > SAME_COLUMN_1E22]]))


def fold_nodes(
    responses: Sequence[Response],
    channels: Sequence[np.ndarray],
    *,
    redshift: float,
    nh_1e22: float | np.ndarray,
    plasma: str = "apec",
    absorption: str = "phabs",
    abundance_table: str = "angr",
    cross_sections: str = "vern",
    apec_root: str | Path | None = None,
) -> FoldedNodes:
    """Evaluate the plasma model at its nodes and fold it through each response.

    Parameters
    ----------
    responses : sequence of (EffectiveArea, Redistribution)
        XSPEC runs once for each distinct energy grid among them.
    channels : sequence of ndarray of bool, each of shape (n_all_channels,)
        Channels to keep, one array a response.
    nh_1e22 : float or ndarray, shape (n_nh,)
        Hydrogen columns [10^22 cm^-2].
    plasma : str
        A key of `ADDITIVE_MODELS`. For those outside `ATOMDB_MODELS` the nodes are chosen behind the first hydrogen
        column and the first response of each energy grid.
    redshift, absorption, abundance_table, cross_sections, apec_root
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
    is_exact = plasma in ATOMDB_MODELS
    kt_kev = node_temperatures_kev(apec_root) if is_exact else fine_temperatures_kev(LOWEST_KT_KEV, HIGHEST_KT_KEV)
    folded_by = [_kept_part(response, kept) for response, kept in zip(responses, channels, strict=True)]
    first_of = {area.energy_edges_kev.tobytes(): (area, matrix) for area, matrix in reversed(folded_by)}
    evaluated: dict[bytes, XspecNodes] = {
        grid: evaluate_additive(
            area.energy_edges_kev,
            kt_kev,
            abundances=ABUNDANCES if is_exact else (*ABUNDANCES, TESTED_ABUNDANCE),
            redshift=redshift,
            nh_1e22=nh_1e22,
            absorption=absorption,
            model=plasma,
            abundance_table=abundance_table,
            cross_sections=cross_sections,
            apec_root=apec_root,
        )
        for grid, (area, _) in first_of.items()
    }
    error = 0.0
    if not is_exact:
        kept, error = _chosen_nodes(kt_kev, [fold(evaluated[grid].photons, *first_of[grid]) for grid in first_of])
        kt_kev = kt_kev[kept]
        evaluated = {
            grid: dataclasses.replace(spectra, emitted=spectra.emitted[: len(ABUNDANCES), kept])
            for grid, spectra in evaluated.items()
        }
    rates = tuple(_folded(evaluated[area.energy_edges_kev.tobytes()], area, matrix) for area, matrix in folded_by)
    versions = next(iter(evaluated.values())).versions
    return FoldedNodes(kt_kev, rates, versions, error)


def _kept_part(response: Response, kept: np.ndarray) -> Response:
    """A response that folds into the kept channels only."""
    area, redistribution = response
    return area, dataclasses.replace(
        redistribution,
        matrix=redistribution.matrix[:, np.flatnonzero(kept)],
        channel=redistribution.channel[kept],
        channel_low_kev=redistribution.channel_low_kev[kept],
        channel_high_kev=redistribution.channel_high_kev[kept],
    )


def _folded(spectra: XspecNodes, area: EffectiveArea, redistribution: Redistribution) -> np.ndarray:
    """Rates of one response, shape (n_nh, 2, n_nodes, n_channels)."""
    return np.array([fold(spectra.emitted * passed, area, redistribution) for passed in spectra.transmission])


def _chosen_nodes(kt_kev: np.ndarray, folded: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """Places of the nodes to keep, and the largest error in kT or abundance.

    Parameters
    ----------
    kt_kev : ndarray, shape (n_fine,)
    folded : list of ndarray, each of shape (3, n_fine, n_channels)
        Spectra at abundance 0, 1 and `TESTED_ABUNDANCE`, one array an energy grid.
    """
    per_grid = [choose_nodes(kt_kev, spectra) for spectra in folded]
    kept = np.unique(np.concatenate([places for places, _ in per_grid]))
    metals = TESTED_ABUNDANCE
    errors = [error for _, error in per_grid] + [
        relative_deviation((1.0 - metals) * plain + metals * solar, between) for plain, solar, between in folded
    ]
    return kept, max(errors)
