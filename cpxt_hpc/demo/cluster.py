"""The synthetic cluster: its surface brightness, its temperatures, its point sources.

Positions are offsets from the centre [arcsec], x to the west and y to the north, as sky pixels grow.
One temperature a line of sight, with sharp edges, so that the truth of a region is one number.
"""

from __future__ import annotations

import dataclasses

import numpy as np

CORE_RADIUS_ARCSEC = 60.0
BETA = 2.0 / 3.0
"""Surface brightness (1 + r^2/rc^2)^(0.5 - 3 beta), continuous over the edges of the regions."""


@dataclasses.dataclass(frozen=True)
class TruthRegion:
    """A part of the cluster with one temperature: a sector of an annulus.

    Attributes
    ----------
    name : str
    kt_kev : float
    inner_arcsec, outer_arcsec : float
        Radii.
    angles_deg : tuple of float
        First and last angle, from the x axis towards the y axis.
    """

    name: str
    kt_kev: float
    inner_arcsec: float = 0.0
    outer_arcsec: float = np.inf
    angles_deg: tuple[float, float] = (0.0, 360.0)

    def contains(self, x_arcsec: np.ndarray, y_arcsec: np.ndarray) -> np.ndarray:
        """Boolean array: positions inside the region."""
        radius = np.hypot(x_arcsec, y_arcsec)
        first, last = self.angles_deg
        turned = np.mod(np.degrees(np.arctan2(y_arcsec, x_arcsec)) - first, 360.0)
        return (radius >= self.inner_arcsec) & (radius < self.outer_arcsec) & (turned < last - first)


@dataclasses.dataclass(frozen=True)
class PointSource:
    """A point source: offset [arcsec] and expected counts (0.3-12 keV, all observations together)."""

    x_arcsec: float
    y_arcsec: float
    counts: float


@dataclasses.dataclass(frozen=True)
class DemoCluster:
    """The truth of a simulation.

    Attributes
    ----------
    ra_deg, dec_deg : float
        Centre.
    redshift, nh_1e22, abundance : float
    radius_arcsec : float
        The cluster ends here.
    counts : float
        Expected cluster counts (0.3-12 keV) of all observations together, were there neither gaps between the chips nor
        vignetting.
    regions : tuple of TruthRegion
        Searched in order: the first that contains a position gives its temperature.
    sources : tuple of PointSource
    """

    ra_deg: float
    dec_deg: float
    redshift: float
    nh_1e22: float
    abundance: float
    radius_arcsec: float
    counts: float
    regions: tuple[TruthRegion, ...]
    sources: tuple[PointSource, ...]

    def region_index(self, x_arcsec: np.ndarray, y_arcsec: np.ndarray) -> np.ndarray:
        """Index of the region at each position; -1 outside the cluster."""
        index = np.full(np.shape(x_arcsec), -1)
        for number in reversed(range(len(self.regions))):
            index[self.regions[number].contains(x_arcsec, y_arcsec)] = number
        return np.where(np.hypot(x_arcsec, y_arcsec) < self.radius_arcsec, index, -1)

    def surface_brightness(self, x_arcsec: np.ndarray, y_arcsec: np.ndarray) -> np.ndarray:
        """Expected counts per arcsec^2, all observations together."""
        power, core2 = 3.0 * BETA - 0.5, CORE_RADIUS_ARCSEC**2
        total = np.pi * core2 / (power - 1.0) * (1.0 - (1.0 + self.radius_arcsec**2 / core2) ** (1.0 - power))
        radius2 = np.asarray(x_arcsec) ** 2 + np.asarray(y_arcsec) ** 2
        shape = np.where(radius2 < self.radius_arcsec**2, (1.0 + radius2 / core2) ** -power, 0.0)
        return self.counts / total * shape

    def draw_positions(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Positions [arcsec] of n photons, drawn from the surface brightness."""
        power = 3.0 * BETA - 0.5
        end = (1.0 + (self.radius_arcsec / CORE_RADIUS_ARCSEC) ** 2) ** (1.0 - power)
        radius = CORE_RADIUS_ARCSEC * np.sqrt((1.0 - rng.random(n) * (1.0 - end)) ** (1.0 / (1.0 - power)) - 1.0)
        angle = rng.random(n) * 2.0 * np.pi
        return radius * np.cos(angle), radius * np.sin(angle)

    def expected_counts(self, step_arcsec: float = 0.5) -> np.ndarray:
        """Expected counts of each region, shape (n_regions,), by summing the surface brightness on a fine grid."""
        axis = np.arange(-self.radius_arcsec + step_arcsec / 2.0, self.radius_arcsec, step_arcsec)
        x, y = np.meshgrid(axis, axis)
        brightness = self.surface_brightness(x, y) * step_arcsec**2
        index = self.region_index(x, y)
        sums = np.array([brightness[index == number].sum() for number in range(len(self.regions))])
        return sums * self.counts / sums.sum()


def demo_cluster(*, seed: int, radius_arcsec: float, counts: float) -> DemoCluster:
    """The demo's cluster: a cool core, ambient gas and a hot arc; point sources at places drawn from the seed.

    The regions scale with the radius, so that a small field holds the same scene.
    """
    rng = np.random.default_rng([seed, 1])
    scale = radius_arcsec / 400.0
    regions = (
        TruthRegion("core", 3.5, 0.0, 60.0 * scale),
        TruthRegion("arc", 9.0, 100.0 * scale, 300.0 * scale, (20.0, 140.0)),
        TruthRegion("ambient", 6.0),
    )
    n_sources = max(3, round(8 * scale))
    radii = radius_arcsec * np.sqrt(rng.uniform(0.15**2, 0.95**2, n_sources))
    angles = rng.uniform(0.0, 2.0 * np.pi, n_sources)
    fluxes = np.geomspace(1000.0, 120.0, n_sources)
    sources = tuple(
        PointSource(float(r * np.cos(a)), float(r * np.sin(a)), float(c))
        for r, a, c in zip(radii, angles, fluxes, strict=True)
    )
    return DemoCluster(194.95, 27.98, 0.1, 0.05, 0.3, radius_arcsec, counts, regions, sources)
