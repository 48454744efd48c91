"""How long fits will take: to share out the work, and to say how many processes make sense."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.fitting.settings import FitSettings

SECONDS_PER_REGION, SECONDS_PER_CHANNEL, SECONDS_PER_PIXEL = 5e-5, 1.5e-7, 4e-9
"""What a fit of kT and norm takes with ``cstat``, measured on one core of an AMD EPYC."""

FREE_FACTOR, SHERPA_FACTOR = 6.0, 4000.0
"""How many times as long more free parameters take, and Sherpa."""


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
    n_channels = sum(-(-each.nodes.shape[-1] // settings.bin_channels) for each in fit_input.observations)
    factor = FREE_FACTOR if settings.free_engine else 1.0
    if settings.engine == "sherpa":
        factor = SHERPA_FACTOR
    extraction = SECONDS_PER_PIXEL * pixels * len(fit_input.observations)
    return factor * (SECONDS_PER_REGION + SECONDS_PER_CHANNEL * n_channels) + extraction
