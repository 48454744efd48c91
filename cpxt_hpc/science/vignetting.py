"""Vignetting: the effective area falls off the optical axis, the more so the harder the photons.

A region's response is the mean over its pixels of their effective areas. These are interpolated between a few
off-axis angles, and folding is linear: so the mean of the folded models is the folded model of the mean.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.pointing import angular_separation_deg

BEYOND_KEV = 5.0
"""How far above its highest energy the table is continued [keV]; there the mirror has next to no area left."""

_STEP_KEV = 0.5

BRIGHTNESS_ENERGY_KEV = 1.5
"""Most cluster photons that ACIS counts have about this energy: its V stands for that of an image."""


@dataclasses.dataclass(frozen=True)
class VignettingTable:
    """Effective area of a mirror off its axis over that on its axis.

    Attributes
    ----------
    energy_kev : ndarray of float64, shape (n_energies,)
        Ascending.
    off_axis_arcmin : ndarray of float64, shape (n_angles,)
        Ascending from 0.
    relative_area : ndarray of float64, shape (n_energies, n_angles)
        Positive; 1 on the axis.
    """

    energy_kev: np.ndarray
    off_axis_arcmin: np.ndarray
    relative_area: np.ndarray


def relative_area(table: VignettingTable, energy_kev: np.ndarray, off_axis_arcmin: np.ndarray) -> np.ndarray:
    """Effective area over that on the axis, V(E, theta).

    Linear in energy and angle between the entries of the table: its ray traces carry 0.1 to 0.3 % of noise (which moves
    the temperature of a region 8 arcmin off axis by 0.1, 0.2, 0.3 % rms at 4, 6, 9 keV), and up to 8 keV it differs
    from a cubic spline by as much. Neither a smoother curve nor smoothing would know more. Below its lowest energy,
    where only geometry counts, V is that of the lowest; above its highest it goes on falling by the same factor a keV,
    for `BEYOND_KEV`; beyond its largest angle it is that of the largest.

    Parameters
    ----------
    table : VignettingTable
    energy_kev, off_axis_arcmin : array_like
        Of shapes that broadcast.

    Returns
    -------
    ndarray of float64
        Of the broadcast shape.
    """
    energies, values = _extended(table)
    i, e = between(energies, energy_kev)
    j, t = between(table.off_axis_arcmin, off_axis_arcmin)
    next_i, next_j = np.minimum(i + 1, len(energies) - 1), np.minimum(j + 1, values.shape[1] - 1)
    low = (1.0 - e) * values[i, j] + e * values[next_i, j]
    high = (1.0 - e) * values[i, next_j] + e * values[next_i, next_j]
    return (1.0 - t) * low + t * high


def _extended(table: VignettingTable) -> tuple[np.ndarray, np.ndarray]:
    """Energies and V of the table, continued above its highest energy by a constant factor a keV."""
    energies, values = table.energy_kev, table.relative_area
    further = np.arange(_STEP_KEV, BEYOND_KEV + _STEP_KEV / 2.0, _STEP_KEV)
    factor_per_kev = (values[-1] / values[-2]) ** (1.0 / (energies[-1] - energies[-2]))
    return (
        np.concatenate([energies, energies[-1] + further]),
        np.concatenate([values, values[-1] * factor_per_kev ** further[:, None]]),
    )


def between(grid: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where values lie on an ascending grid: (1 - part) x entry ``index`` + part x the next one.

    Returns
    -------
    index : ndarray of int64
    part : ndarray of float64
        0 to 1; 0 for the last entry, and outside the grid its nearest end.
    """
    grid, values = np.asarray(grid, dtype=float), np.asarray(values, dtype=float)
    index = np.clip(np.searchsorted(grid, values, side="right") - 1, 0, len(grid) - 1)
    width = np.append(np.diff(grid), np.inf)[index]
    return index, np.clip((values - grid[index]) / width, 0.0, 1.0)


def off_axis_angles_arcmin(grid: PixelGrid, ra_deg: float, dec_deg: float) -> np.ndarray:
    """Angle between every pixel of a grid and a pointing, along great circles, shape (ny, nx) [arcmin]."""
    iy, ix = np.indices(grid.shape)
    ra, dec = grid.wcs().all_pix2world(ix.ravel(), iy.ravel(), 0)
    return 60.0 * angular_separation_deg(ra, dec, ra_deg, dec_deg).reshape(grid.shape)


@dataclasses.dataclass(frozen=True)
class BasisAngles:
    """Off-axis angles between which the responses of a map's pixels are interpolated.

    Attributes
    ----------
    off_axis_arcmin : ndarray of float64, shape (n_responses,)
    index : ndarray of uint8, shape (ny, nx)
    part : ndarray of float32, shape (ny, nx)
        A pixel's response is (1 - part) x that of angle ``index`` + part x that of the next.
    """

    off_axis_arcmin: np.ndarray
    index: np.ndarray
    part: np.ndarray


def basis_angles(table: VignettingTable, pixels_arcmin: np.ndarray, used: np.ndarray) -> BasisAngles:
    """The angles of the table that the pixels in use need, and where each pixel lies between them.

    The table is linear between its angles, so nothing is lost but the rounding of ``part``.

    Parameters
    ----------
    table : VignettingTable
    pixels_arcmin : ndarray, shape (ny, nx)
        Off-axis angle of each pixel.
    used : ndarray of bool, shape (ny, nx)
        Pixels that carry light; the others get the nearest angle that these need.

    Returns
    -------
    BasisAngles
    """
    index, part = between(table.off_axis_arcmin, pixels_arcmin)
    if used.any():
        first, last = int(index[used].min()), int((index + (part > 0.0))[used].max())
    else:
        first = last = 0
    angles = table.off_axis_arcmin[first : last + 1]
    index, part = between(angles, pixels_arcmin)
    part = part.astype(np.float32)
    rounded_up = part == 1.0
    return BasisAngles(
        angles, np.where(rounded_up, index + 1, index).astype(np.uint8), np.where(rounded_up, 0.0, part).astype("f4")
    )


def vignetted_areas(
    table: VignettingTable,
    energy_edges_kev: np.ndarray,
    area_cm2: np.ndarray,
    off_axis_arcmin: np.ndarray,
    *,
    made_at_arcmin: float,
) -> np.ndarray:
    """Effective areas at off-axis angles, from the one that was made for another angle.

    Parameters
    ----------
    table : VignettingTable
    energy_edges_kev : ndarray, shape (n_energies + 1,)
    area_cm2 : ndarray, shape (n_energies,)
    off_axis_arcmin : ndarray, shape (n_responses,)
    made_at_arcmin : float
        Angle that ``area_cm2`` holds for.

    Returns
    -------
    ndarray of float64, shape (n_responses, n_energies)
        area x V(E, theta) / V(E, made_at).
    """
    edges = np.asarray(energy_edges_kev, dtype=float)
    energy_kev = 0.5 * (edges[:-1] + edges[1:])
    wanted = relative_area(table, energy_kev, np.asarray(off_axis_arcmin, dtype=float)[:, None])
    return area_cm2 * wanted / relative_area(table, energy_kev, made_at_arcmin)
