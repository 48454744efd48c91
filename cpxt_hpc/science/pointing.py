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
    return float(np.degrees(np.arctan2(y, x)) % 360.0), float(np.degrees(np.arctan2(z, np.hypot(x, y))))
