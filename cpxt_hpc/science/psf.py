"""Size of Chandra's point-spread function, and how much of the image about a point source to cut out."""

from __future__ import annotations

import numpy as np


def psf_radius_arcsec(off_axis_arcmin: np.ndarray) -> np.ndarray:
    """Radius that holds about 90 % of a point source's counts [arcsec] (Hickox & Markevitch 2006, ApJ 645, 95)."""
    return 1.0 + 10.0 * (np.asarray(off_axis_arcmin, dtype=float) / 10.0) ** 2


def merged_psf_radius(radii: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Radius of the sum of several observations' point-spread functions: root of the weighted mean square.

    Parameters
    ----------
    radii, weights : ndarray, shape (n, ...)
        Radius and exposure of each observation at each position.

    Returns
    -------
    ndarray, shape (...)
        The smallest of the radii where all weights are zero.
    """
    total = np.sum(weights, axis=0)
    mean_square = np.divide(
        np.sum(weights * np.square(radii), axis=0), total, out=np.min(np.square(radii), axis=0), where=total > 0.0
    )
    return np.sqrt(mean_square)


def enclosed_share(radius: np.ndarray, psf_radius: np.ndarray) -> np.ndarray:
    """Share of a source's counts inside a radius, in units where ``psf_radius`` holds 90 %.

    A King profile 1 - 1/(1 + (r/a)^2): 97 % lie inside 1.9 times the 90 % radius, as in Chandra's wings.
    """
    return 1.0 - 1.0 / (1.0 + 9.0 * np.square(np.asarray(radius) / psf_radius))


def mask_radius(
    net_counts: float, psf_radius: float, background_per_area: float, *, share: float = 0.97, level: float = 0.1
) -> float:
    """Radius to cut out of the image about a point source.

    Parameters
    ----------
    net_counts : float
        Counts of the source.
    psf_radius : float
        90 % radius of the point-spread function; its unit is that of the result.
    background_per_area : float
        Surface brightness about the source [count per unit squared].
    share : float
        Least share of the source's counts inside, see `enclosed_share`.
    level : float
        The wings outside are fainter than this part of the background.

    Returns
    -------
    float
        Never more than 6 PSF radii.
    """
    scale = psf_radius / 3.0
    holds_share = scale * np.sqrt(share / (1.0 - share))
    centre = max(net_counts, 0.0) / (np.pi * scale**2)
    faint = max(level * background_per_area, 1e-300)
    fades = scale * np.sqrt(max(np.sqrt(centre / faint) - 1.0, 0.0))
    return float(min(max(holds_share, fades), 6.0 * psf_radius))
