"""Exposure images from the events themselves: no aspect or bad-pixel file is needed.

An event has a sky position (x, y), corrected for the spacecraft's dither, and a chip pixel, which is not. The
mean relation chip = offset + matrix (x, y) of a CCD tells where its edges lie on the sky; the scatter about it
is the dither, which moves all CCDs together. A sky position is exposed for the share of the time in which the
dither puts it on the CCD's active pixels. Vignetting, bad pixels and columns are not part of it.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage, spatial

from cpxt_hpc.errors import DataError
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.grid import PixelGrid

NOMINAL_FIRST, NOMINAL_LAST = 2, 1023
"""Chip pixels in which ACIS keeps events, where too few events tell."""

MINIMUM_EVENTS = 100
"""Events away from the edges that fix the geometry of a CCD to about 1 pixel."""

EDGE_PIXEL = 40.0
"""Events this close to an edge stay out of the fit: the dither moves only some of their kind off the chip."""

LARGEST_SCALE_ERROR = 0.1
"""Chip and sky pixels are both 0.492 arcsec: their relation is a rotation, with or without a reflection."""

_MAX_DITHER_SAMPLE = 400_000
_HISTOGRAM_STEP_PIXEL = 0.5
_SMALLEST_SCATTER_PIXEL = 1.0
_MISSED_EDGE_FACTOR = 20.0


@dataclasses.dataclass(frozen=True)
class ChipGeometry:
    """How a CCD looks at the sky, in the mean over the dither.

    Attributes
    ----------
    matrix : ndarray, shape (2, 2)
    offset : ndarray, shape (2,)
        Chip pixel = offset + matrix @ (x, y), x and y in sky pixels.
    low, high : ndarray, shape (2,)
        Outer edges of the active pixels [chip pixel], pixel centres at integers.
    """

    matrix: np.ndarray
    offset: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def chip(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Chip coordinates, shape (n, 2), of sky positions."""
        return np.column_stack([x, y]) @ self.matrix.T + self.offset

    def corners(self) -> np.ndarray:
        """Sky positions, shape (4, 2), of the corners of the active pixels."""
        (x0, y0), (x1, y1) = self.low, self.high
        chip = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        return np.linalg.solve(self.matrix, (chip - self.offset).T).T


def exposure_image(events: EventList, grid: PixelGrid, *, geometry: EventList | None = None) -> np.ndarray:
    """Exposure of each image pixel, all CCDs together.

    Parameters
    ----------
    events : EventList
        Of one observation, positions in the tangent plane of the grid; ``exposure_s`` tells the CCDs.
    grid : PixelGrid
    geometry : EventList, optional
        Blank-sky events of the observation in the same tangent plane: they help where a CCD has few events.

    Returns
    -------
    ndarray of float64, shape (ny, nx)
        [s]

    Raises
    ------
    DataError
        The geometry of a CCD cannot be told.
    """
    return np.sum(list(exposure_images_by_ccd(events, grid, geometry=geometry).values()), axis=0)


def exposure_images_by_ccd(
    events: EventList, grid: PixelGrid, *, geometry: EventList | None = None
) -> dict[int, np.ndarray]:
    """Exposure of each image pixel by CCD [s]; parameters and errors as of `exposure_image`.

    Without chip coordinates a CCD's footprint is the convex hull of its events, sharp at the edges.
    """
    samples = [source for source in (events, geometry) if source is not None]
    with_chips = [source for source in samples if "chipx" in source.columns and "chipy" in source.columns]
    if not with_chips:
        return {
            ccd: exposure * _hull_fraction(samples, ccd, grid) for ccd, exposure in events.exposure_s.items()
        }
    fitted = {ccd: _first_fit(with_chips, ccd) for ccd in events.ccds}
    dither = np.concatenate([offsets for _, offsets in fitted.values()])
    stride = -(-len(dither) // _MAX_DITHER_SAMPLE)
    return {
        ccd: events.exposure_s[ccd] * chip_fraction_image(geometry_of_ccd, dither[::stride], grid)
        for ccd, (geometry_of_ccd, _) in fitted.items()
    }


def fit_chip_geometry(
    x: np.ndarray, y: np.ndarray, chipx: np.ndarray, chipy: np.ndarray
) -> tuple[ChipGeometry, np.ndarray]:
    """Fit the mean relation from sky to chip pixels of one CCD.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
        Sky positions [sky pixel].
    chipx, chipy : ndarray, shape (n,)
        Chip pixels.

    Returns
    -------
    geometry : ChipGeometry
    dither : ndarray, shape (m, 2)
        Offsets [sky pixel] of the events away from the edges: at an event's time the CCD sees at its mean
        position what lies at the sky position minus the offset.

    Raises
    ------
    DataError
        Fewer than `MINIMUM_EVENTS` events lie away from the edges, or chip and sky positions do not belong together.
    """
    chip = np.column_stack([chipx, chipy]).astype(float)
    low, high = _active_edges(chip)
    centre = np.array([np.median(x), np.median(y)]) if len(x) else np.zeros(2)
    terms = np.column_stack([np.ones(len(x)), x - centre[0], y - centre[1]])
    chosen = np.ones(len(x), dtype=bool)
    # Three rounds: all events, then those whose mean position is inside, then again with the better positions.
    for _ in range(3):
        if np.count_nonzero(chosen) < MINIMUM_EVENTS:
            raise DataError(
                f"{np.count_nonzero(chosen)} events tell where the chip lies; at least {MINIMUM_EVENTS} are needed"
            )
        solution = np.linalg.lstsq(terms[chosen], chip[chosen], rcond=None)[0]
        predicted = terms @ solution
        residual = chip - predicted
        middle = np.median(residual[chosen], axis=0)
        scatter = np.maximum(1.4826 * np.median(np.abs(residual[chosen] - middle), axis=0), _SMALLEST_SCATTER_PIXEL)
        inside = np.all((predicted > low + EDGE_PIXEL) & (predicted < high - EDGE_PIXEL), axis=1)
        chosen = inside & np.all(np.abs(residual - middle) < 5.0 * scatter, axis=1)
    matrix = solution[1:].T
    area_ratio = abs(np.linalg.det(matrix))
    if not abs(area_ratio - 1.0) < LARGEST_SCALE_ERROR:
        raise DataError(f"its chip positions do not follow the sky positions (chip pixel/sky pixel: {area_ratio:.3g})")
    geometry = ChipGeometry(matrix, solution[0] - matrix @ centre, low, high)
    return geometry, np.linalg.solve(matrix, residual[chosen].T).T


def on_active_part(blank: EventList, events: EventList) -> np.ndarray:
    """Which blank-sky events lie on the rows and columns of each CCD that an observation read out.

    Blank-sky files are of whole CCDs; a sub-array is a part of their rows.

    Parameters
    ----------
    blank, events : EventList

    Returns
    -------
    ndarray of bool, shape (n_events,)
        All True where a list has no chip coordinates.
    """
    kept = np.ones(len(blank), dtype=bool)
    if any(name not in each.columns for each in (blank, events) for name in ("chipx", "chipy")):
        return kept
    for ccd in events.ccds:
        own, seen = blank["ccd_id"] == ccd, events["ccd_id"] == ccd
        low, high = _active_edges(np.column_stack([events["chipx"][seen], events["chipy"][seen]]).astype(float))
        chip = np.column_stack([blank["chipx"][own], blank["chipy"][own]])
        kept[own] = np.all((chip > low) & (chip < high), axis=1)
    return kept


def chip_fraction_image(geometry: ChipGeometry, dither: np.ndarray, grid: PixelGrid) -> np.ndarray:
    """Share of the time in which each image pixel lies on a CCD's active pixels, averaged over its sky pixels.

    Parameters
    ----------
    geometry : ChipGeometry
    dither : ndarray, shape (n, 2)
        Offsets, evenly sampled in time [sky pixel].
    grid : PixelGrid

    Returns
    -------
    ndarray of float64, shape (ny, nx)
        0 to 1.
    """
    offsets = dither @ geometry.matrix.T
    reach = float(np.abs(offsets).max()) + 2.0 * _HISTOGRAM_STEP_PIXEL
    n_bins = 2 * int(np.ceil(reach / _HISTOGRAM_STEP_PIXEL))
    edges = (np.arange(n_bins + 1) - n_bins // 2) * _HISTOGRAM_STEP_PIXEL
    histogram = np.histogram2d(offsets[:, 0], offsets[:, 1], bins=(edges, edges))[0]
    cumulative = np.zeros((n_bins + 1, n_bins + 1))
    cumulative[1:, 1:] = histogram.cumsum(axis=0).cumsum(axis=1) / histogram.sum()

    corners = geometry.corners()
    margin = np.abs(dither).max() + grid.binning
    column, row = grid.image_from_sky(corners[:, 0], corners[:, 1])
    reach_pixel = margin / grid.binning + 1.0
    ix0, ix1 = _clip_range(column.min() - reach_pixel, column.max() + reach_pixel, grid.nx)
    iy0, iy1 = _clip_range(row.min() - reach_pixel, row.max() + reach_pixel, grid.ny)
    image = np.zeros(grid.shape)
    if ix1 <= ix0 or iy1 <= iy0:
        return image
    row, column = (axis.ravel() for axis in np.mgrid[iy0:iy1, ix0:ix1])
    x, y = grid.sky_from_image(column, row)
    half_pixel = 0.5 * grid.binning * np.abs(geometry.matrix).sum(axis=1)
    chip = geometry.chip(x, y)
    below, above = geometry.low - chip, geometry.high - chip
    image[row, column] = np.all((below < -reach - half_pixel) & (above > reach + half_pixel), axis=1)
    near = np.all((below < reach + half_pixel) & (above > -reach - half_pixel), axis=1) & (image[row, column] == 0.0)

    # Only near an edge do the sky pixels of an image pixel differ.
    steps = np.arange(grid.binning) - 0.5 * (grid.binning - 1)
    offset_x, offset_y = (axis.ravel() for axis in np.meshgrid(steps, steps))
    chip = geometry.chip((x[near, None] + offset_x).ravel(), (y[near, None] + offset_y).ravel())
    (x_low, y_low), (x_high, y_high) = (geometry.low - chip).T, (geometry.high - chip).T
    share = np.zeros(len(chip))
    for sign, dx, dy in ((1, x_high, y_high), (-1, x_low, y_high), (-1, x_high, y_low), (1, x_low, y_low)):
        position = np.array([dx, dy]) / _HISTOGRAM_STEP_PIXEL + n_bins // 2
        share += sign * ndimage.map_coordinates(cumulative, position, order=1, mode="nearest")
    image[row[near], column[near]] = np.clip(share.reshape(-1, grid.binning**2).mean(axis=1), 0.0, 1.0)
    return image


def _first_fit(sources: list[EventList], ccd: int) -> tuple[ChipGeometry, np.ndarray]:
    """Geometry from the first list that has events enough on this CCD."""
    problem: DataError | None = None
    for source in sources:
        own = source["ccd_id"] == ccd
        try:
            return fit_chip_geometry(*(source[name][own] for name in ("x", "y", "chipx", "chipy")))
        except DataError as error:
            problem = error
    raise DataError(
        f"ObsID {sources[0].obsid}, CCD {ccd}: {problem}. Leave the CCD out of the event file, or bring a blank-sky "
        "file with chip coordinates."
    ) from problem


def _active_edges(chip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outer edges of the active pixels: as seen, or the nominal ones where a gap may be chance."""
    if len(chip) == 0:
        return np.full(2, NOMINAL_FIRST - 0.5), np.full(2, NOMINAL_LAST + 0.5)
    first, last = chip.min(axis=0), chip.max(axis=0)
    chance = _MISSED_EDGE_FACTOR * (NOMINAL_LAST - NOMINAL_FIRST + 1) / len(chip)
    first = np.where(first > NOMINAL_FIRST + chance, first, np.minimum(first, NOMINAL_FIRST))
    last = np.where(last < NOMINAL_LAST - chance, last, np.maximum(last, NOMINAL_LAST))
    return first - 0.5, last + 0.5


def _clip_range(low: float, high: float, size: int) -> tuple[int, int]:
    return max(0, int(np.floor(low))), min(size, int(np.ceil(high)) + 1)


def _hull_fraction(sources: list[EventList], ccd: int, grid: PixelGrid) -> np.ndarray:
    """1 in the convex hull of a CCD's events, 0 outside, averaged over the sky pixels of each image pixel."""
    for source in sources:
        own = source["ccd_id"] == ccd
        if np.count_nonzero(own) >= MINIMUM_EVENTS:
            hull = spatial.ConvexHull(np.column_stack([source["x"][own], source["y"][own]]).astype(float))
            break
    else:
        raise DataError(
            f"ObsID {sources[0].obsid}, CCD {ccd}: fewer than {MINIMUM_EVENTS} events and no chip coordinates; its "
            "place on the sky cannot be told. Leave the CCD out of the event file."
        )
    x = grid.sky_x0 + 0.5 + np.arange(grid.nx * grid.binning)
    y = grid.sky_y0 + 0.5 + np.arange(grid.ny * grid.binning)
    inside = np.ones((len(y), len(x)), dtype=bool)
    for normal_x, normal_y, offset in hull.equations:
        inside &= normal_x * x[None, :] + normal_y * y[:, None] + offset <= 0.0
    return inside.reshape(grid.ny, grid.binning, grid.nx, grid.binning).mean(axis=(1, 3))
