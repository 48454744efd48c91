"""Density, pressure and entropy of the gas: physical from the norm, relative from the surface brightness.

XSPEC defines the norm of apec as ``norm = 1e-14 / (4 pi (D_A (1 + z))^2) * integral n_e n_H dV`` with D_A in
cm and densities in cm^-3 (XSPEC manual, apec). With n_e = 1.2 n_H, uniform over a region of area A on the sky
and depth L, the integral is n_e^2 A L / 1.2, hence
``n_e = sqrt(1.2 * 4 pi D_A^2 (1 + z)^2 * 1e14 * norm / (A L))``. As A is a solid angle times D_A^2, the
distance drops out: the cosmology enters the density only through what is taken for L.
"""

from __future__ import annotations

import numpy as np
from astropy.cosmology import FlatLambdaCDM

COSMOLOGY = FlatLambdaCDM(H0=70.0, Om0=0.3)
"""Flat, H0 = 70 km/s/Mpc, Omega_m = 0.3."""

ELECTRONS_PER_HYDROGEN = 1.2
"""n_e / n_H of fully ionised gas of cluster abundances."""

CM_PER_MPC = 3.0856775814913673e24
"""IAU 2015 resolution B2."""

RADIAN_PER_ARCMIN = np.pi / 180.0 / 60.0

XSPEC_NORM_UNIT = 1e14
"""An apec norm of 1 is 1e14 cm^-5 of emission measure over 4 pi (D_A (1 + z))^2."""


def angular_diameter_distance_cm(redshift: float) -> float:
    """Angular diameter distance [cm] in `COSMOLOGY`."""
    return float(COSMOLOGY.angular_diameter_distance(redshift).value) * CM_PER_MPC


def kpc_per_arcmin(redshift: float) -> float:
    """Proper length seen under one arcmin [kpc]."""
    return angular_diameter_distance_cm(redshift) * RADIAN_PER_ARCMIN / CM_PER_MPC * 1e3


def region_area_cm2(area_arcmin2: np.ndarray, redshift: float) -> np.ndarray:
    """Area of a region at the cluster's distance [cm^2]."""
    cm_per_arcmin = RADIAN_PER_ARCMIN * angular_diameter_distance_cm(redshift)
    return np.asarray(area_arcmin2, dtype=float) * cm_per_arcmin**2


def electron_density(
    norm: np.ndarray, area_arcmin2: np.ndarray, *, redshift: float, line_of_sight_mpc: float
) -> np.ndarray:
    """Electron density of gas that fills a region's area uniformly along the line of sight.

    Parameters
    ----------
    norm : ndarray
        XSPEC's apec norm of the whole region.
    area_arcmin2 : ndarray
        Area of the region [arcmin^2], broadcastable to ``norm``.
    redshift : float
    line_of_sight_mpc : float
        Depth L [Mpc]; the density scales with L^(-1/2).

    Returns
    -------
    ndarray
        n_e [cm^-3]; NaN where the norm is negative or NaN, or the area is not positive.
    """
    norm, area = np.broadcast_arrays(np.asarray(norm, dtype=float), region_area_cm2(area_arcmin2, redshift))
    distance = angular_diameter_distance_cm(redshift) * (1.0 + redshift)
    emission_measure = 4.0 * np.pi * distance**2 * XSPEC_NORM_UNIT * norm
    volume = area * line_of_sight_mpc * CM_PER_MPC
    known = (norm >= 0) & (area > 0)
    squared = np.divide(ELECTRONS_PER_HYDROGEN * emission_measure, volume, out=np.full(norm.shape, np.nan), where=known)
    return np.sqrt(squared)


def electron_density_error(density: np.ndarray, norm: np.ndarray, norm_error: np.ndarray) -> np.ndarray:
    """Error of n_e [cm^-3] to first order: half the norm's fractional error."""
    return density * 0.5 * _fraction(norm_error, norm)


def pressure(density: np.ndarray, kt_kev: np.ndarray) -> np.ndarray:
    """Electron pressure n_e kT [keV cm^-3]."""
    return np.asarray(density, dtype=float) * kt_kev


def pressure_error(
    density: np.ndarray, kt_kev: np.ndarray, norm: np.ndarray, norm_error: np.ndarray, kt_error: np.ndarray
) -> np.ndarray:
    """Error of the pressure [keV cm^-3] to first order; the correlation of kT and norm is ignored."""
    fraction = np.hypot(0.5 * _fraction(norm_error, norm), _fraction(kt_error, kt_kev))
    return pressure(density, kt_kev) * fraction


def entropy(density: np.ndarray, kt_kev: np.ndarray) -> np.ndarray:
    """Entropy index kT n_e^(-2/3) [keV cm^2]; NaN where there is no gas."""
    density, kt_kev = np.broadcast_arrays(np.asarray(density, dtype=float), np.asarray(kt_kev, dtype=float))
    power = np.power(density, -2.0 / 3.0, out=np.full(density.shape, np.nan), where=density > 0)
    return kt_kev * power


def entropy_error(
    density: np.ndarray, kt_kev: np.ndarray, norm: np.ndarray, norm_error: np.ndarray, kt_error: np.ndarray
) -> np.ndarray:
    """Error of the entropy [keV cm^2] to first order; the correlation of kT and norm is ignored."""
    fraction = np.hypot(_fraction(norm_error, norm) / 3.0, _fraction(kt_error, kt_kev))
    return entropy(density, kt_kev) * fraction


def scaled_to_unit(values: np.ndarray) -> np.ndarray:
    """Scale to (x - min) / (max - min) over the finite values; others become NaN, and so do all if all are equal."""
    values = np.asarray(values, dtype=float)
    known = np.isfinite(values)
    scaled = np.full(values.shape, np.nan)
    if known.any():
        low, high = values[known].min(), values[known].max()
        if high > low:
            scaled[known] = (values[known] - low) / (high - low)
    return scaled


def relative_density(surface_brightness: np.ndarray) -> np.ndarray:
    """Square root of the surface brightness, as emission goes with density squared; NaN where negative."""
    brightness = np.asarray(surface_brightness, dtype=float)
    return np.sqrt(brightness, out=np.full(brightness.shape, np.nan), where=brightness >= 0)


def relative_pressure(surface_brightness: np.ndarray, kt_kev: np.ndarray) -> np.ndarray:
    """Relative density times kT, scaled to 0..1, as ClusterPyXT."""
    return scaled_to_unit(pressure(relative_density(surface_brightness), kt_kev))


def relative_entropy(surface_brightness: np.ndarray, kt_kev: np.ndarray) -> np.ndarray:
    """Temperature times relative density to the power -2/3, scaled to 0..1, as ClusterPyXT."""
    return scaled_to_unit(entropy(relative_density(surface_brightness), kt_kev))


def _fraction(error: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Fractional error; NaN where the value is not positive."""
    error, value = np.broadcast_arrays(np.asarray(error, dtype=float), np.asarray(value, dtype=float))
    return np.divide(error, value, out=np.full(value.shape, np.nan), where=value > 0)
