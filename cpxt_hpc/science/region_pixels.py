"""The pixels of a region: whole ones as runs of flat indices, and those at the edge of an exact circle one by one.

A run is a half-open range [start, stop) of iy * nx + ix.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cpxt_hpc.science.compiled import compiled


class CircleEdge(NamedTuple):
    """The pixels that a circle cuts; none where a region is a set of whole pixels.

    Attributes
    ----------
    pixel : ndarray of int64, shape (n_edge,)
        Flat indices of the pixels that are partly inside, and of those that the circle only touches.
    part : ndarray of float64, shape (n_edge,)
        Part of each one's area inside the circle, 0 to 1.
    iy, ix : int
        Pixel at whose centre the circle's centre lies.
    radius : float
        Radius [pixel].
    """

    pixel: np.ndarray
    part: np.ndarray
    iy: int
    ix: int
    radius: float


class RegionPixels(NamedTuple):
    """The pixels of a region that lie in the image.

    Attributes
    ----------
    start, stop : ndarray of int64, shape (n_runs,)
        Runs of the pixels that belong to it wholly.
    n_pixels : int or float
        Area of the whole region [pixel], that outside the image included.
    edge : CircleEdge
    """

    start: np.ndarray
    stop: np.ndarray
    n_pixels: float
    edge: CircleEdge


NO_EDGE = CircleEdge(np.zeros(0, dtype=np.int64), np.zeros(0), 0, 0, 0.0)


def exact_circle(iy: int, ix: int, radius_pixel: float, shape: tuple[int, int]) -> RegionPixels:
    """The pixels that a circle covers, those at its edge in part.

    Parameters
    ----------
    iy, ix : int
        Pixel at whose centre the circle's centre lies, zero-based; it may lie outside the image.
    radius_pixel : float
        Radius [pixel]. Below 0 (and NaN) nothing is covered.
    shape : tuple of int
        Shape (ny, nx) of the image, at whose edges the circle is cut.

    Returns
    -------
    RegionPixels
    """
    iy, ix, radius = int(iy), int(ix), float(radius_pixel)
    start, stop, pixel, part = _exact_circle(iy, ix, radius, int(shape[0]), int(shape[1]))
    area = math.pi * radius * radius if radius > 0.0 else 0.0
    return RegionPixels(start, stop, area, CircleEdge(pixel, part, iy, ix, radius))


def circle_runs(iy: int, ix: int, radius_pixel: float, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Runs of the pixels whose centre lies within a circle.

    Parameters
    ----------
    iy, ix : int
        Pixel at the circle's centre, zero-based; it may lie outside the image.
    radius_pixel : float
        Radius [pixel]; pixels at exactly this distance belong to the circle. Below 0 (and NaN) none does.
    shape : tuple of int
        Shape (ny, nx) of the image, at whose edges the circle is cut.

    Returns
    -------
    start, stop : ndarray of int64, shape (n_runs,)
    """
    return _circle_runs(int(iy), int(ix), float(radius_pixel), int(shape[0]), int(shape[1]))


def circle_pixel_count(radius_pixel: float) -> int:
    """Number of pixels of a circle about a pixel's centre, no image edge near."""
    return int(_circle_pixel_count(float(radius_pixel)))


def pixel_runs(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of a list of pixels.

    Parameters
    ----------
    pixels : ndarray of int, shape (n,)
        Flat pixel indices in any order; one that comes twice counts once.

    Returns
    -------
    start, stop : ndarray of int64, shape (n_runs,)
    """
    ordered = np.unique(np.asarray(pixels, dtype=np.int64))
    if len(ordered) == 0:
        return ordered, ordered.copy()
    breaks = np.flatnonzero(np.diff(ordered) > 1)
    start = ordered[np.concatenate([[0], breaks + 1])]
    stop = ordered[np.concatenate([breaks, [len(ordered) - 1]])] + 1
    return start, stop


@compiled(part=True)
def _half_width(dy: int, radius: float) -> int:
    """Largest dx with dx^2 + dy^2 <= radius^2, or -1."""
    rest = radius * radius - dy * dy
    if not (radius >= 0.0 and rest >= 0.0):
        return -1
    # The root may be rounded across an integer, the comparison of squares is exact.
    width = int(np.sqrt(rest))
    while width * width > rest:
        width -= 1
    while (width + 1) * (width + 1) <= rest:
        width += 1
    return width


@compiled
def _circle_runs(iy, ix, radius, ny, nx):
    reach = _half_width(np.int64(0), radius)
    first, last = max(iy - reach, 0), min(iy + reach, ny - 1)
    size = max(last - first + 1, 0) if reach >= 0 else 0
    start = np.empty(size, dtype=np.int64)
    stop = np.empty(size, dtype=np.int64)
    n = 0
    for y in range(first, first + size):
        width = _half_width(y - iy, radius)
        low, high = max(ix - width, 0), min(ix + width, nx - 1)
        if low <= high:
            start[n] = y * nx + low
            stop[n] = y * nx + high + 1
            n += 1
    return start[:n], stop[:n]


@compiled
def _circle_pixel_count(radius):
    reach = _half_width(np.int64(0), radius)
    total = 0
    for dy in range(-reach, reach + 1):
        total += 2 * _half_width(dy, radius) + 1
    return total if reach >= 0 else 0


@compiled
def _exact_circle(iy, ix, radius, ny, nx):
    reach = _outer_width(0, radius)
    first, last = max(iy - reach, 0), min(iy + reach, ny - 1)
    size = max(last - first + 1, 0) if reach >= 0 else 0
    start = np.empty(size, dtype=np.int64)
    stop = np.empty(size, dtype=np.int64)
    n_edge = 0
    for y in range(first, first + size):
        n_edge += 2 * (_outer_width(abs(y - iy), radius) - _inner_width(abs(y - iy), radius))
    pixel = np.empty(n_edge, dtype=np.int64)
    part = np.empty(n_edge)
    n_runs = n_edge = 0
    for y in range(first, first + size):
        dy = abs(y - iy)
        inner, outer = _inner_width(dy, radius), _outer_width(dy, radius)
        low, high = max(ix - inner, 0), min(ix + inner, nx - 1)
        if inner >= 0 and low <= high:
            start[n_runs] = y * nx + low
            stop[n_runs] = y * nx + high + 1
            n_runs += 1
        for dx in range(inner + 1, outer + 1):
            inside = _part_inside(dy, dx, radius)
            for side in range(1 if dx == 0 else 2):
                x = ix - dx if side == 0 else ix + dx
                if 0 <= x < nx:
                    pixel[n_edge] = y * nx + x
                    part[n_edge] = inside
                    n_edge += 1
    return start[:n_runs], stop[:n_runs], pixel[:n_edge], part[:n_edge]


@compiled(part=True)
def _inner_width(dy, radius):
    """Largest dx for which the pixel (dy, dx) lies wholly inside the circle, dy >= 0; or -1."""
    far = dy + 0.5
    rest = radius * radius - far * far
    if not (radius >= 0.0 and rest >= 0.25):
        return -1
    width = int(np.sqrt(rest) - 0.5)
    # The root may be rounded across a pixel's corner, the comparison of squares decides.
    while width >= 0 and (width + 0.5) * (width + 0.5) > rest:
        width -= 1
    while (width + 1.5) * (width + 1.5) <= rest:
        width += 1
    return width


@compiled(part=True)
def _outer_width(dy, radius):
    """Largest dx for which the circle touches the pixel (dy, dx), dy >= 0; or -1."""
    near = max(dy - 0.5, 0.0)
    rest = radius * radius - near * near
    if not (radius >= 0.0 and rest >= 0.0):
        return -1
    width = int(np.sqrt(rest) + 0.5)
    while width > 0 and (width - 0.5) * (width - 0.5) > rest:
        width -= 1
    while (width + 0.5) * (width + 0.5) <= rest:
        width += 1
    return width


@compiled(part=True)
def _part_inside(dy, dx, radius):
    """Part of the area of the pixel (dy, dx), both >= 0, inside a circle about the pixel (0, 0)."""
    y0, y1 = max(dy - 0.5, 0.0), dy + 0.5
    x0, x1 = max(dx - 0.5, 0.0), dx + 0.5
    quadrants = (2.0 if dy == 0 else 1.0) * (2.0 if dx == 0 else 1.0)
    return min(quadrants * _overlap(y0, y1, x0, x1, radius), 1.0)


@compiled(part=True)
def _overlap(y0, y1, x0, x1, radius):
    """Area of a rectangle of the first quadrant inside the circle about the origin."""
    square = radius * radius
    # Left of `full` the arc lies above the rectangle, right of `end` below it.
    full = np.sqrt(max(square - y1 * y1, 0.0))
    end = np.sqrt(max(square - y0 * y0, 0.0))
    low, high = min(max(x0, full), x1), min(x1, end)
    area = (y1 - y0) * (low - x0)
    if high > low:
        arc_low, arc_high = np.sqrt(max(square - low * low, 0.0)), np.sqrt(max(square - high * high, 0.0))
        turn = np.arctan2(high * arc_low - low * arc_high, low * high + arc_low * arc_high)
        area += 0.5 * (square * turn + high * arc_high - low * arc_low) - y0 * (high - low)
    return max(area, 0.0)
