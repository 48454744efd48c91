"""The sky of an observation beside that of the blank sky: what is left off the cluster after subtraction.

The blank sky is a mean over the sky: an observation has more or less of the Milky Way's soft glow, and of the
unresolved point sources, the more of which are masked the deeper it is. Both are corrections, of either sign: a plasma
of 0.2 keV and a power law of photon index 1.4 (Hickox & Markevitch 2006, ApJ 645, 95), fitted to all observations
together off the cluster. To bound a norm at zero would bias it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import linalg

PLASMA_KT_KEV = 0.2
PHOTON_INDEX = 1.4
COMPONENTS = ("sky 0.2 keV", "sky power law")

TAIL_POWER = 3.0
"""Cluster light far out falls as this power of the radius (a beta model of beta = 2/3)."""

_MAX_STEPS = 100
_CONVERGED = 1e-12


@dataclasses.dataclass(frozen=True)
class OffClusterSpectrum:
    """One observation's spectra off the cluster: the fitted channels, of one area or of several rings in a row.

    Attributes
    ----------
    counts : ndarray, shape (n_channels,)
    background : ndarray of float64, shape (n_channels,)
        Expected from the blank sky; strictly positive.
    blank_variance : ndarray of float64, shape (n_channels,)
        Variance of ``background`` that comes from the blank sky's own counts.
    scale_shift : ndarray of float64, shape (n_groups, n_channels)
        Change of ``background`` where the scale of a group of CCDs is larger by its error.
    components : ndarray of float64, shape (n_components, n_channels)
        Expected counts of each component for norm 1.
    """

    counts: np.ndarray
    background: np.ndarray
    blank_variance: np.ndarray
    scale_shift: np.ndarray
    components: np.ndarray


@dataclasses.dataclass(frozen=True)
class SkyFit:
    """Norms of the components.

    Attributes
    ----------
    norms : ndarray of float64, shape (n_components,)
    covariance : ndarray of float64, shape (n_components, n_components)
        From the counts, those of the blank sky, and the errors of its scales.
    log_likelihood : float
        Up to a constant of the counts.
    """

    norms: np.ndarray
    covariance: np.ndarray
    log_likelihood: float

    @property
    def errors(self) -> np.ndarray:
        """Standard deviation of each norm."""
        return np.sqrt(np.diag(self.covariance))


def power_law_photons(energy_edges_kev: np.ndarray, photon_index: float = PHOTON_INDEX) -> np.ndarray:
    """Photons of E^-index in each energy bin, 1 /cm2/s/keV at 1 keV; index not 1."""
    edges = np.asarray(energy_edges_kev, dtype=float)
    return np.diff(edges ** (1.0 - photon_index)) / (1.0 - photon_index)


def fit_sky(spectra: Sequence[OffClusterSpectrum]) -> SkyFit:
    """Fit the norms of the components to all observations together.

    Parameters
    ----------
    spectra : sequence of OffClusterSpectrum
        With the same components.

    Returns
    -------
    SkyFit

    Raises
    ------
    ValueError
        A component is nowhere exposed, or two have the same shape.

    Notes
    -----
    The Poisson likelihood of counts about background + components is concave in the norms: Newton's method from 0,
    each step short enough to keep all channels positive. The errors are those of the estimating equation (the
    "sandwich"): curvature^-1 (variance of the score) curvature^-1, in which the background's uncertainty enters.
    """
    counts, background, blank_variance = (
        np.concatenate([getattr(each, name) for each in spectra]).astype(float)
        for name in ("counts", "background", "blank_variance")
    )
    components = np.concatenate([each.components for each in spectra], axis=1)
    shifts = linalg.block_diag(*[each.scale_shift for each in spectra])
    norms = np.zeros(len(components))
    expected = background
    unit = components.sum(axis=1)
    if not np.all(unit > 0.0):
        raise ValueError("a component of the sky is nowhere exposed")
    for _ in range(_MAX_STEPS):
        score = components @ (counts / expected - 1.0)
        curvature = (components * (counts / expected**2)) @ components.T
        step = _solved(curvature, score, unit)
        length = 1.0
        while length > 1e-9 and not _improves(counts, expected, components.T @ (length * step)):
            length *= 0.5
        norms = norms + length * step
        expected = background + components.T @ norms
        if score @ step < _CONVERGED or length <= 1e-9:
            break
    curvature = (components / expected) @ components.T
    pull = components / expected
    spread = (pull * (expected + blank_variance)) @ pull.T
    shifted = shifts @ pull.T
    inverse = _solved(curvature, np.eye(len(norms)), unit)
    return SkyFit(
        norms, inverse @ (spread + shifted.T @ shifted) @ inverse, float(np.sum(counts * np.log(expected) - expected))
    )


def _improves(counts: np.ndarray, expected: np.ndarray, change: np.ndarray) -> bool:
    """Whether a change of the expected counts keeps them positive and does not lower the likelihood."""
    changed = expected + change
    if np.any(changed <= 0.0):
        return False
    return bool(np.sum(counts * np.log1p(change / expected) - change) >= -1e-9)


def _solved(matrix: np.ndarray, right: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Solution of a linear system whose unknowns differ by orders of magnitude."""
    scaled = matrix / np.outer(unit, unit)
    if np.linalg.cond(scaled) > 1e12:
        raise ValueError("the components of the sky cannot be told apart")
    scaled_right = (right.T / unit).T
    return (np.linalg.solve(scaled, scaled_right).T / unit).T


def tail_brightness(radius: np.ndarray, core_radius: float) -> np.ndarray:
    """Brightness of a cluster far out, any unit: a beta model of beta = 2/3."""
    return (np.asarray(radius, dtype=float) ** 2 + core_radius**2) ** (-0.5 * TAIL_POWER)


def cluster_light_off_cluster(
    counts: np.ndarray, background: np.ndarray, blank_variance: np.ndarray, exposure: np.ndarray, radius: np.ndarray
) -> tuple[float, float]:
    """How much of the light off a cluster is the cluster's own, told by how it falls with the radius.

    The sky does not fall. The area is cut into a near and a far half; their difference in brightness tells how bright a
    tail is that falls with `TAIL_POWER`.

    Parameters
    ----------
    counts, background, blank_variance : ndarray, shape (n_pixels,)
        Observed counts, those expected from the blank sky, and the variance of these.
    exposure : ndarray, shape (n_pixels,)
        Vignetted exposure; somewhere above 0.
    radius : ndarray, shape (n_pixels,)
        From the cluster's centre.

    Returns
    -------
    share, error : float
        Mean light of the tail over the background, and its error; infinite where one radius only is exposed.
    """
    near = radius <= _radii_of_equal_exposure(radius, exposure, 2)[0]
    halves = near, ~near & (exposure > 0.0)
    exposures = np.array([exposure[half].sum() for half in halves])
    if not np.all(exposures > 0.0):
        return np.inf, np.inf
    excess = np.array([(counts - background)[half].sum() for half in halves]) / exposures
    variance = np.array([(counts + blank_variance)[half].sum() for half in halves]) / exposures**2
    near_light, far_light = (np.average(tail_brightness(radius[half], 0.0), weights=exposure[half]) for half in halves)
    mean_light = np.average(tail_brightness(radius[exposure > 0.0], 0.0), weights=exposure[exposure > 0.0])
    factor = mean_light / (near_light - far_light) * exposures.sum() / background[exposure > 0.0].sum()
    return float(factor * (excess[0] - excess[1])), float(factor * np.sqrt(variance.sum()))


def rings_of_equal_exposure(radius: np.ndarray, exposure: np.ndarray, n_rings: int) -> np.ndarray:
    """Number of each pixel's ring, from the inside, 0 to n_rings - 1; shape (n_pixels,)."""
    return np.searchsorted(_radii_of_equal_exposure(radius, exposure, n_rings), radius, side="left")


def _radii_of_equal_exposure(radius: np.ndarray, exposure: np.ndarray, n_rings: int) -> np.ndarray:
    """Radii between the rings, shape (n_rings - 1,)."""
    order = np.argsort(radius, kind="stable")
    summed = np.cumsum(exposure[order])
    return radius[order][np.searchsorted(summed, summed[-1] * np.arange(1, n_rings) / n_rings)]
