"""Simulated spectra of regions with known truth, as a fit gets them, for benchmarks of the fit alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from synthetic import background_templates, temperature_nodes

LOWEST_KT_KEV, HIGHEST_KT_KEV = 0.5, 15.0
BLANK_SCALES = (0.9, 0.35, 0.2, 0.1)
EXPOSURES_S = (4.0e4, 3.0e4, 2.5e4, 6.0e4)


class SimulatedRegion(NamedTuple):
    """Spectra of a region, all observations behind each other; shapes (n_obs * n_channels,) and (n_nodes, the same)."""

    counts: np.ndarray
    background: np.ndarray
    blank: np.ndarray
    scale: np.ndarray
    exposure: np.ndarray
    rates: np.ndarray
    n_obs: int
    kt_kev: float


def simulate_region(
    rng: np.random.Generator, nodes: np.ndarray, counts: float, background_share: float, n_obs: int
) -> SimulatedRegion:
    """Draw the spectra of one region.

    Parameters
    ----------
    rng : numpy.random.Generator
    nodes : ndarray, shape (n_nodes, n_channels)
        Count rates for norm 1 at ``synthetic.temperature_nodes()``.
    counts : float
        Expected counts of all observations, background included.
    background_share : float
        Part of these that is background; it differs by up to a factor of 1.5 between observations.
    n_obs : int
        1 to 4.

    Returns
    -------
    SimulatedRegion
        Its temperature is drawn from 0.5 to 15 keV, even in the logarithm.
    """
    n_channels = nodes.shape[1]
    kt = float(np.exp(rng.uniform(np.log(LOWEST_KT_KEV), np.log(HIGHEST_KT_KEV))))
    kt_nodes = temperature_nodes()
    k = int(np.searchsorted(kt_nodes, kt)) - 1
    part = (kt - kt_nodes[k]) / (kt_nodes[k + 1] - kt_nodes[k])
    exposure = np.repeat(EXPOSURES_S[:n_obs], n_channels)
    rates = np.concatenate([(1.0 - 0.07 * j) * nodes for j in range(n_obs)], axis=1)
    source = ((1.0 - part) * rates[k] + part * rates[k + 1]) * exposure
    source *= counts * (1.0 - background_share) / source.sum()
    templates = background_templates(n_channels)
    level = np.repeat(EXPOSURES_S[:n_obs] * rng.uniform(1.0, 1.5, n_obs), n_channels)
    background = level * np.concatenate([templates[j % 2] for j in range(n_obs)])
    background *= counts * background_share / background.sum()
    scale = np.repeat(BLANK_SCALES[:n_obs], n_channels)
    return SimulatedRegion(
        rng.poisson(source + background).astype(float), background, rng.poisson(background / scale).astype(float),
        scale, exposure, rates, n_obs, kt,
    )  # fmt: skip


def binned(region: SimulatedRegion, width: int) -> SimulatedRegion:
    """The region with so many channels in a bin; the last bin of an observation may have fewer."""
    n_channels = len(region.counts) // region.n_obs
    start = np.concatenate([np.arange(0, n_channels, width) + j * n_channels for j in range(region.n_obs)])

    def summed(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, start, axis=-1)

    return region._replace(
        counts=summed(region.counts), background=summed(region.background), blank=summed(region.blank),
        scale=region.scale[start], exposure=region.exposure[start], rates=np.ascontiguousarray(summed(region.rates)),
    )  # fmt: skip
