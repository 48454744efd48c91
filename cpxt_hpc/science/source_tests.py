"""Is a peak of an image a point source? Tests of one candidate on the pixels about it.

The counts in an aperture are compared with those around it. The background is taken close by; where it rises
towards the candidate (a gradient, the cusp of a cool core) the higher expectation counts. What remains must be
compact.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from scipy import special

APERTURES = (0.5, 1.0)
"""Radii of the apertures tried, in units of the point-spread function's 90 % radius."""

BACKGROUND_RADII = (2.0, 3.2, 5.0, 8.0, 13.0)
"""Edges of the rings for the local background, same units: the first two rings, the others where counts are few."""

BACKGROUND_COUNTS = 100
"""The background ring grows outwards until it holds this many counts."""

SIGNIFICANT_RISE = 2.0
"""Errors by which the inner ring must outshine the outer before the background is extrapolated to the centre."""

LARGEST_RING_SHARE = 0.3
"""A point source has less than this share of its counts between 1 and 2 PSF radii (King profile: 0.08)."""

_SECTORS = 8
_CENTROID_STEPS = 4
_SMALLEST_APERTURE_PIXEL = 1.5


@dataclasses.dataclass(frozen=True)
class Stamp:
    """The exposed pixels about a candidate, each array of shape (n,).

    Attributes
    ----------
    counts, exposure : ndarray
    dx, dy : ndarray
        Position relative to the candidate [pixel].
    """

    counts: np.ndarray
    exposure: np.ndarray
    dx: np.ndarray
    dy: np.ndarray

    @functools.cached_property
    def distance(self) -> np.ndarray:
        """Distance from the candidate [pixel]."""
        return np.hypot(self.dx, self.dy)

    def moved(self, x: float, y: float) -> Stamp:
        """The same pixels about a position that lies at (x, y) of this stamp."""
        return dataclasses.replace(self, dx=self.dx - x, dy=self.dy - y)

    def sector_sums(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Counts and exposure of the chosen pixels by direction, each of shape (8,)."""
        turns = np.arctan2(self.dy[chosen], self.dx[chosen]) / (2.0 * np.pi) + 1.0
        sector = (turns * _SECTORS).astype(int) % _SECTORS
        return tuple(
            np.bincount(sector, values[chosen], minlength=_SECTORS) for values in (self.counts, self.exposure)
        )


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What was measured of a candidate inside its PSF radius.

    Attributes
    ----------
    net_counts, background_counts : float
        [count]
    background_per_pixel : float
        [count/pixel]
    probability : float
        That chance makes at least these counts, in the better of the apertures.
    compact : bool
        Whether it fades outside as a point source does.
    """

    net_counts: float
    background_counts: float
    background_per_pixel: float
    probability: float
    compact: bool


def centroid(stamp: Stamp, psf_radius: float) -> tuple[float, float]:
    """Offset (x, y) [pixel] of the mean position of the excess; (0, 0) where that lies a PSF radius away."""
    x = y = 0.0
    around = (stamp.distance > 2.0 * psf_radius) & (stamp.distance <= 4.0 * psf_radius)
    level = float(stamp.counts[around].mean()) if around.any() else 0.0
    near = stamp.distance <= 2.0 * psf_radius + 2.0
    excess, dx, dy = stamp.counts[near] - level, stamp.dx[near], stamp.dy[near]
    for _ in range(_CENTROID_STEPS):
        inside = np.hypot(dx - x, dy - y) <= max(0.8 * psf_radius, 2.0)
        total = float(excess[inside].sum())
        if total <= 1.0:
            break
        x, y = (float((excess[inside] * offset[inside]).sum() / total) for offset in (dx, dy))
        if np.hypot(x, y) > psf_radius:
            return 0.0, 0.0
    return x, y


def has_background(stamp: Stamp, psf_radius: float, rings: int) -> bool:
    """Whether the first rings hold counts enough for a background."""
    low, high = BACKGROUND_RADII[0] * psf_radius, BACKGROUND_RADII[rings] * psf_radius
    distance = stamp.distance
    return float(stamp.counts[(distance > low) & (distance <= high)].sum()) >= BACKGROUND_COUNTS


def measure(stamp: Stamp, psf_radius: float) -> Measurement:
    """Measure a candidate at the origin of a stamp.

    Parameters
    ----------
    stamp : Stamp
        Pixels that belong to other sources are left out of it.
    psf_radius : float
        90 % radius of the point-spread function [pixel].
    """
    distance = stamp.distance
    rate, ring_counts = local_background(stamp, psf_radius)
    probability = 1.0
    for share in APERTURES:
        aperture = distance <= max(share * psf_radius, _SMALLEST_APERTURE_PIXEL)
        inside, expected = float(stamp.counts[aperture].sum()), rate * float(stamp.exposure[aperture].sum())
        probability = min(probability, chance_probability(inside, expected, ring_counts))
    aperture = distance <= max(psf_radius, _SMALLEST_APERTURE_PIXEL)
    background = rate * float(stamp.exposure[aperture].sum())
    net = float(stamp.counts[aperture].sum()) - background
    return Measurement(
        net, background, background / max(np.count_nonzero(aperture), 1), probability,
        _is_compact(stamp, psf_radius, rate, net),
    )


def local_background(stamp: Stamp, psf_radius: float) -> tuple[float, float]:
    """Counts per exposure expected at the origin, and the number of counts that this rests on."""
    distance = stamp.distance
    edges = np.array(BACKGROUND_RADII) * psf_radius
    ring_of = np.searchsorted(edges, distance, side="left") - 1
    n_rings = 2
    while n_rings < len(edges) - 1 and not has_background(stamp, psf_radius, n_rings):
        n_rings += 1
    chosen = (ring_of >= 0) & (ring_of < n_rings)
    total, weight = float(stamp.counts[chosen].sum()), float(stamp.exposure[chosen].sum())
    if weight <= 0.0:
        return 0.0, 0.0
    rate = total / weight
    return max(rate, _extrapolated(stamp, ring_of == 0, ring_of == 1), _brighter_side(stamp, chosen, rate)), total


def _extrapolated(stamp: Stamp, inner: np.ndarray, outer: np.ndarray) -> float:
    """Rate at the origin where two rings show that it rises inwards; else 0.

    A straight line in radius: right for a cusp, too high for a smooth core, so that neither makes a source. The
    median of the directions counts where it is lower, so that a neighbouring source does not hide this one.
    """
    rates, errors, radii = [], [], []
    for ring in (inner, outer):
        weight = float(stamp.exposure[ring].sum())
        if weight <= 0.0:
            return 0.0
        total = float(stamp.counts[ring].sum())
        rates.append(min(total / weight, float(np.median(_rates(*stamp.sector_sums(ring))))))
        errors.append(np.sqrt(total + 1.0) / weight)
        radii.append(float(np.mean(stamp.distance[ring])))
    rise = rates[0] - rates[1]
    if rise < SIGNIFICANT_RISE * np.hypot(*errors):
        return 0.0
    return rates[0] + rise * radii[0] / (radii[1] - radii[0])


def _brighter_side(stamp: Stamp, ring: np.ndarray, rate: float) -> float:
    """Rate of the brightest half of the ring where it is brighter than chance allows; else 0.

    A half's rate is the median of its directions: an edge of the gas fills them all, a neighbouring source one.
    """
    counts, exposure = stamp.sector_sums(ring)
    halves = (np.arange(_SECTORS)[:, np.newaxis] + np.arange(_SECTORS // 2)) % _SECTORS
    weight = exposure[halves].sum(axis=1)
    typical = np.array([np.median(_rates(counts[half], exposure[half])) for half in halves])
    bright = (typical - rate) * weight > 3.0 * np.sqrt(np.maximum(rate * weight, 1.0))
    return float(typical[bright].max()) if bright.any() else 0.0


def _rates(counts: np.ndarray, exposure: np.ndarray) -> np.ndarray:
    """Rate of each direction that is exposed; a single 0 where none is."""
    seen = exposure > 0.0
    return counts[seen] / exposure[seen] if seen.any() else np.zeros(1)


def chance_probability(inside: float, expected: float, ring_counts: float) -> float:
    """Probability of at least so many counts in an aperture, given what was counted around it.

    Parameters
    ----------
    inside : float
        Counts in the aperture.
    expected : float
        Background expected there.
    ring_counts : float
        Counts that this expectation rests on.

    Notes
    -----
    Binomial test of aperture against ring, Weisskopf et al. 2007, ApJ 657, 1026. Where nothing was counted
    around, the ring's expectation is taken as one count.
    """
    if inside <= 0.0:
        return 1.0
    if ring_counts <= 0.0 or expected <= 0.0:
        return float(special.gammainc(inside, max(expected, 0.1)))
    ratio = expected / ring_counts
    return float(special.betainc(inside, ring_counts + 1.0, ratio / (1.0 + ratio)))


def _is_compact(stamp: Stamp, psf_radius: float, rate: float, net_counts: float) -> bool:
    """Whether the excess fades outside the PSF radius, judged by the median direction.

    Extended clumps and cusps do not fade; a neighbouring source takes only some of the directions.
    """
    distance = stamp.distance
    counts, exposure = stamp.sector_sums((distance > psf_radius) & (distance <= 2.0 * psf_radius))
    seen = exposure > 0.0
    if not seen.any():
        return True
    excess = float(np.median(counts[seen] / exposure[seen] - rate)) * float(exposure.sum())
    # The median of few directions scatters about 1.25 times as much as their mean.
    noise = 1.25 * np.sqrt(max(float(counts.sum()), 1.0))
    return excess < LARGEST_RING_SHARE * net_counts + 2.0 * noise
