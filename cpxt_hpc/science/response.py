"""Instrument response: effective area and redistribution from photon energy to PI channel.

Conventions of OGIP memos CAL/GEN/92-002 and 92-002a (George et al.): a spectrum of photons in energy bins times
the effective area, times the redistribution matrix, is the spectrum of counts in channels.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.sparse import csr_array

N_PI_CHANNELS = 1024
"""Channels of ACIS PI spectra: 1 to 1024."""

_SINGLE_PRECISION = 1.2e-7


@dataclasses.dataclass(frozen=True)
class EffectiveArea:
    """Effective area of telescope and detector, as an ARF holds it.

    Attributes
    ----------
    energy_edges_kev : ndarray of float64, shape (n_energies + 1,)
        Bin edges, increasing.
    area_cm2 : ndarray of float64, shape (n_energies,)
    """

    energy_edges_kev: np.ndarray
    area_cm2: np.ndarray


@dataclasses.dataclass(frozen=True)
class Redistribution:
    """Probability that a photon of an energy is counted in a channel, as an RMF holds it.

    Attributes
    ----------
    energy_edges_kev : ndarray of float64, shape (n_energies + 1,)
        Photon energies, increasing.
    matrix : scipy.sparse.csr_array of float64, shape (n_energies, n_channels)
    channel : ndarray of int64, shape (n_channels,)
        Channel numbers, consecutive (for ACIS PI: 1 to 1024).
    channel_low_kev, channel_high_kev : ndarray of float64, shape (n_channels,)
        Nominal energies of the channels' edges (EBOUNDS).
    """

    energy_edges_kev: np.ndarray
    matrix: csr_array
    channel: np.ndarray
    channel_low_kev: np.ndarray
    channel_high_kev: np.ndarray


def fold(photons: np.ndarray, area: EffectiveArea, redistribution: Redistribution) -> np.ndarray:
    """Fold photon spectra to counts in channels.

    Parameters
    ----------
    photons : ndarray, shape (..., n_energies)
        Photons in each energy bin [photon/cm2/s].
    area : EffectiveArea
    redistribution : Redistribution
        On the same energy bins; see `same_energy_grid`.

    Returns
    -------
    ndarray of float64, shape (..., n_channels)
        Counts in each channel [count/s].

    Raises
    ------
    ValueError
        The energy bins differ.
    """
    photons = np.asarray(photons, dtype=float)
    n_energies = len(area.area_cm2)
    if photons.shape[-1] != n_energies or redistribution.matrix.shape[0] != n_energies:
        raise ValueError(
            f"spectra of {photons.shape[-1]} energy bins, an effective area of {n_energies} and a redistribution "
            f"of {redistribution.matrix.shape[0]}: they must agree"
        )
    detected = (photons * area.area_cm2).reshape(-1, n_energies)
    return (detected @ redistribution.matrix).reshape(*photons.shape[:-1], -1)


def same_energy_grid(first_edges_kev: np.ndarray, second_edges_kev: np.ndarray) -> bool:
    """Whether two sets of bin edges are the same, up to a hundredth of a bin: files hold them in single precision."""
    if len(first_edges_kev) != len(second_edges_kev):
        return False
    width = np.diff(first_edges_kev).min()
    return bool(np.all(np.abs(np.asarray(first_edges_kev) - second_edges_kev) <= 0.01 * width))


def channels_in_band(redistribution: Redistribution, low_kev: float, high_kev: float) -> np.ndarray:
    """Channels that a fit in an energy band uses: those that overlap it, as Sherpa's ``notice(low, high)`` takes them.

    Returns
    -------
    ndarray of bool, shape (n_channels,)

    Raises
    ------
    ValueError
        The band is empty, or no channel lies in it.
    """
    if not low_kev < high_kev:
        raise ValueError(f"the band {low_kev} to {high_kev} keV is empty: the lower end must be below the upper")
    # Files hold the edges in single precision: an edge that equals a limit so far only touches the band.
    touching = 1.0 + _SINGLE_PRECISION
    inside = (redistribution.channel_high_kev > low_kev * touching) & (
        redistribution.channel_low_kev * touching < high_kev
    )
    if not inside.any():
        raise ValueError(
            f"no channel lies in the band {low_kev} to {high_kev} keV; they run from "
            f"{redistribution.channel_low_kev.min():g} to {redistribution.channel_high_kev.max():g} keV"
        )
    return inside
