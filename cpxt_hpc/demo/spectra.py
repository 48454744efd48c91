"""Spectra of the demo's components, as probabilities over PI channels and count rates."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.xspec import evaluate_additive
from cpxt_hpc.science.events import PI_CHANNEL_EV
from cpxt_hpc.science.response import EffectiveArea, Redistribution, fold

N_CHANNELS = 1024
BAND_KEV = (0.3, 12.0)
"""Events outside are not telemetered: everything that the demo makes lies in this band."""

FLUORESCENCE_LINES_KEV = {
    "Al": (1.487, 0.02),
    "Si": (1.740, 0.03),
    "Au M": (2.15, 0.06),
    "Ni": (7.478, 0.05),
    "Au L": (9.70, 0.08),
}
"""Energy [keV] and share of the particle background's counts of its fluorescence lines."""

LINE_WIDTH_KEV = 0.06


def channel_energies_kev() -> np.ndarray:
    """Middle energy of the PI channels 1 to 1024 [keV]."""
    return (np.arange(N_CHANNELS) + 0.5) * PI_CHANNEL_EV / 1000.0


def _in_band(spectrum: np.ndarray) -> np.ndarray:
    energies = channel_energies_kev()
    return np.where((energies >= BAND_KEV[0]) & (energies < BAND_KEV[1]), spectrum, 0.0)


def plasma_rates(
    arf: EffectiveArea, rmf: Redistribution, kt_kev: np.ndarray, *, redshift: float, nh_1e22: float, abundance: float
) -> np.ndarray:
    """Folded phabs*apec spectra for norm 1, shape (n_kt, 1024) [count/s/channel], zero outside 0.3-12 keV."""
    nodes = evaluate_additive(
        arf.energy_edges_kev,
        np.asarray(kt_kev, dtype=float),
        abundances=(abundance,),
        redshift=redshift,
        nh_1e22=nh_1e22,
    )
    return np.array([_in_band(fold(photons, arf, rmf)) for photons in nodes.photons[0]])


def power_law_shape(arf: EffectiveArea, rmf: Redistribution, photon_index: float) -> np.ndarray:
    """Probability of each channel for a power law seen through the mirror, shape (1024,)."""
    edges = arf.energy_edges_kev
    photons = (0.5 * (edges[:-1] + edges[1:])) ** -photon_index * np.diff(edges)
    spectrum = _in_band(fold(photons, arf, rmf))
    return spectrum / spectrum.sum()


def particle_shape() -> np.ndarray:
    """Probability of each channel for the particle background, which the mirror does not shape, shape (1024,).

    A continuum that rises to both ends of the band, as ACIS shows it with the mirror out of view, plus
    fluorescence lines of the camera.
    """
    energies = channel_energies_kev()
    continuum = _in_band(0.9 * energies**-1.0 + 0.35 + 0.08 * np.clip(energies - 6.0, 0.0, None))
    share = sum(part for _, part in FLUORESCENCE_LINES_KEV.values())
    spectrum = (1.0 - share) * continuum / continuum.sum()
    for energy, part in FLUORESCENCE_LINES_KEV.values():
        line = _in_band(np.exp(-0.5 * ((energies - energy) / LINE_WIDTH_KEV) ** 2))
        spectrum += part * line / line.sum()
    return spectrum / spectrum.sum()


def flare_shape() -> np.ndarray:
    """Probability of each channel for a background flare: a flat spectrum with a hard tail, shape (1024,)."""
    energies = channel_energies_kev()
    spectrum = _in_band(energies**-0.15)
    return spectrum / spectrum.sum()


def draw_channels(shape: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """PI channels (1 to 1024) of n events, drawn from the probability of each channel."""
    cumulative = np.cumsum(shape)
    return 1 + np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")
