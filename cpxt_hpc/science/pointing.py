"""Directions on the sky."""

from __future__ import annotations

import numpy as np


def mean_direction(ra_deg: np.ndarray, dec_deg: np.ndarray) -> tuple[float, float]:
    """Direction of the mean of unit vectors.

    Parameters
    ----------
    ra_deg, dec_deg : array_like, shape (n,)
        [deg]

    Returns
    -------
    ra_deg, dec_deg : float
        0 <= ra < 360 [deg].
    """
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    x, y, z = np.mean([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    # A negative angle next to zero is rounded up to 360 by the remainder.
    return float(np.degrees(np.arctan2(y, x)) % 360.0) % 360.0, float(np.degrees(np.arctan2(z, np.hypot(x, y))))


def angular_separation_deg(
    ra_deg: np.ndarray, dec_deg: np.ndarray, other_ra_deg: float, other_dec_deg: float
) -> np.ndarray:
    """Angle between directions on the sky [deg], by the haversine formula; shape of ``ra_deg``."""
    ra, dec, other_ra, other_dec = (np.radians(angle) for angle in (ra_deg, dec_deg, other_ra_deg, other_dec_deg))
    half = np.sin((dec - other_dec) / 2.0) ** 2
    half = half + np.cos(dec) * np.cos(other_dec) * np.sin((ra - other_ra) / 2.0) ** 2
    return np.degrees(2.0 * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0))))
