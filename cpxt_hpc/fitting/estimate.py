"""How long fits will take: to share out the work, and to say how many processes make sense."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.fitting.settings import FitSettings

SECONDS_PER_REGION, SECONDS_PER_CHANNEL, SECONDS_PER_PIXEL = 1.2e-4, 8e-8, 4e-9
"""What a fit of kT and norm takes with ``cstat``, measured on one core of an AMD EPYC."""

SUBTRACTED_FACTOR, FREE_FACTOR, SHERPA_FACTOR = 3.0, 4.0, 4000.0
"""How many times as long the statistics take that read the blank sky's events, more free parameters, and Sherpa."""


def estimated_seconds(fit_input: FitInput, settings: FitSettings, index: np.ndarray) -> np.ndarray:
    """Rough time of fits [s]; reads no events.

    Circles hold about as many counts wherever they lie, so that counts do not come into it: observations, channels,
    pixels, the engine and what is free do.

    Parameters
    ----------
    fit_input : FitInput
    settings : FitSettings
    index : ndarray of int, shape (n,)
        Places in the region table.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    index = np.asarray(index, dtype=np.int64)
    regions = fit_input.regions
    listed = np.asarray(regions.pixel_start)[index + 1] - np.asarray(regions.pixel_start)[index]
    pixels = np.where(listed > 0, listed, np.pi * np.asarray(regions.radius)[index] ** 2)
    n_observations = len(fit_input.observations)
    n_channels = sum(each.nodes.shape[-1] for each in fit_input.observations)
    if settings.engine == "sherpa":
        factor = SHERPA_FACTOR
    else:
        factor = 1.0 if settings.statistic == "cstat" else SUBTRACTED_FACTOR
        factor *= FREE_FACTOR if settings.free_engine else 1.0
        factor *= n_observations if settings.norms_per_observation else 1.0
    extraction = SECONDS_PER_PIXEL * pixels * n_observations
    return factor * (SECONDS_PER_REGION + SECONDS_PER_CHANNEL * n_channels) + extraction
