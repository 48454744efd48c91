"""The spectra of one region: what every engine fits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class ObservationPart(NamedTuple):
    """One observation's part in a region.

    Attributes
    ----------
    position : int
        Place of the observation in the fit input.
    exposed_fraction : float
        Mean over the region's pixels of their exposure, relative to the observation's reference exposure.
    source_factor : float
        The same weighted with the surface brightness: the part of the region's norm that the observation sees.
    response_weight : ndarray of float64, shape (n_responses,)
        Share of each response in the region's light, sum 1.
    """

    position: int
    exposed_fraction: float
    source_factor: float
    response_weight: np.ndarray


class RegionSpectra(NamedTuple):
    """The spectra of a region, all observations behind each other; 0 for those that take no part.

    Channels are those of the fit: bins, where channels are grouped.

    Attributes
    ----------
    parts : list of ObservationPart
        Of the observations that take part, in the order of the fit input.
    counts : ndarray of float64, shape (n_channels,)
        Observed counts.
    background : ndarray of float64, shape (n_channels,)
        Expected background counts, from the templates.
    blank_counts, blank_scale : ndarray of float64, shape (n_channels,)
        Blank-sky counts, and the factor from these to the background; empty for cstat, which does not use them.
    exposure : ndarray of float64, shape (n_channels,)
        Exposure times `source_factor` [s]: by it the rates of the fully exposed region are multiplied.
    rates : ndarray of float64, shape (n_nh, n_abundances, n_nodes, n_channels)
        Source count rates for norm 1 of the fully exposed region [count/s]; n_abundances is 1 (the frozen one) or 2
        (0 and 1). It may be overwritten by the next extraction.
    start : ndarray of int64, shape (n_observations + 1,)
        Where each observation's channels start.
    background_error : float
        Relative statistical error of the background's level.
    """

    parts: list[ObservationPart]
    counts: np.ndarray
    background: np.ndarray
    blank_counts: np.ndarray
    blank_scale: np.ndarray
    exposure: np.ndarray
    rates: np.ndarray
    start: np.ndarray
    background_error: float
