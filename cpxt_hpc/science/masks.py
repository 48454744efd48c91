"""Shapes in the sky plane and the pixel masks they make.

All lengths and positions are physical sky pixels of the common tangent plane (`PixelGrid`), angles
degrees counter-clockwise from the +x axis, as DS9 counts them. Shapes are applied in their order:
one that excludes cuts only what stands before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import astropy.units as u
import numpy as np
import regions

from cpxt_hpc.science.grid import PixelGrid

PARAMETERS = {
    "circle": 3,
    "ellipse": 5,
    "box": 5,
    "annulus": 4,
    "ellipse_annulus": 7,
    "box_annulus": 7,
    "pie": 6,
    "ellipse_pie": 9,
    "box_pie": 9,
    "polygon": None,
    "field": 0,
    "point": 2,
}
"""Kinds of shapes and how many parameters each takes (None: pairs x, y, at least three)."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """One shape in the sky plane.

    Attributes
    ----------
    kind : str
        ``circle`` (x, y, radius); ``ellipse`` (x, y, semi-axis, semi-axis, angle); ``box`` (x, y, width,
        height, angle); ``annulus`` (x, y, inner, outer radius); ``ellipse_annulus`` and ``box_annulus``
        (x, y, two inner, two outer sizes, angle); ``pie`` (x, y, inner, outer radius, first, last angle);
        ``ellipse_pie`` and ``box_pie`` (x, y, two inner, two outer sizes, first, last angle, angle), DS9's
        epanda and bpanda, whose first and last angles count from the shape's own axis; ``polygon``
        (x1, y1, x2, y2, ...); ``field`` (); ``point`` (x, y), which has no area.
    parameters : tuple of float
        Sky pixels and degrees.
    include : bool
        False where the shape is cut out of what stands before it.

    Raises
    ------
    ValueError
        The kind is unknown, or its parameters are too few, too many, not finite or negative lengths.
    """

    kind: str
    parameters: tuple[float, ...]
    include: bool = True

    def __post_init__(self) -> None:
        if self.kind not in PARAMETERS:
            raise ValueError(f"shape {self.kind!r} is unknown; known are {', '.join(PARAMETERS)}")
        expected, found = PARAMETERS[self.kind], len(self.parameters)
        if self.kind == "polygon" and (found < 6 or found % 2):
            raise ValueError(f"a polygon needs pairs x, y of at least 3 corners, found {found} numbers")
        if expected is not None and found != expected:
            raise ValueError(f"{self.kind} takes {expected} numbers, found {found}")
        if not np.all(np.isfinite(self.parameters)):
            raise ValueError(f"{self.kind}: every number must be finite, found {self.parameters}")
        lengths = self._lengths()
        if min(lengths, default=0.0) < 0.0:
            raise ValueError(f"{self.kind}: a length must not be negative, found {min(lengths):g}")
        if "annulus" in self.kind or "pie" in self.kind:
            half = len(lengths) // 2
            if any(inner > outer for inner, outer in zip(lengths[:half], lengths[half:], strict=True)):
                raise ValueError(f"{self.kind}: the inner size must not exceed the outer, found {lengths}")

    def _lengths(self) -> tuple[float, ...]:
        if self.kind in ("polygon", "field", "point"):
            return ()
        end = {"circle": 3, "annulus": 4, "pie": 4}.get(self.kind, 6 if "_" in self.kind else 4)
        return self.parameters[2:end]

    def _has_no_area(self) -> bool:
        lengths = self._lengths()
        outer = lengths[-1:] if self.kind in ("circle", "annulus", "pie") else lengths[-2:]
        return self.kind == "point" or min(outer, default=1.0) == 0.0

    def bounds(self) -> tuple[float, float, float, float]:
        """Box (x low, x high, y low, y high) that holds the shape [sky pixels]; infinite for a field."""
        if self.kind == "field":
            return (-np.inf, np.inf, -np.inf, np.inf)
        if self.kind == "polygon":
            x, y = self.parameters[0::2], self.parameters[1::2]
            return (min(x), max(x), min(y), max(y))
        x, y = self.parameters[:2]
        lengths = self._lengths()
        reach = max(lengths, default=0.0)
        if self.kind.startswith("box"):
            reach = 0.5 * float(np.hypot(*lengths[-2:]))
        return (x - reach, x + reach, y - reach, y + reach)

    def contains(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Boolean array: which positions [sky pixels] lie in the shape, whether it includes or excludes."""
        x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        if self.kind == "field":
            return np.ones(x.shape, dtype=bool)
        if self._has_no_area():
            return np.zeros(x.shape, dtype=bool)
        if self.kind == "pie":
            return self._pie_contains(x, y)
        if "_pie" in self.kind:
            inner, outer = self._rims()
            return outer.contains(x, y) & ~inner.contains(x, y) & self._lies_between_angles(x, y)
        if "annulus" in self.kind:
            inner, outer = self._rims()
            return outer.contains(x, y) & ~inner.contains(x, y)
        return np.asarray(self._pixel_region().contains(regions.PixCoord(x, y)))

    def _pixel_region(self) -> regions.PixelRegion:
        if self.kind == "polygon":
            return regions.PolygonPixelRegion(
                regions.PixCoord(np.array(self.parameters[0::2]), np.array(self.parameters[1::2]))
            )
        x, y, *sizes = self.parameters
        centre = regions.PixCoord(x, y)
        if self.kind == "circle":
            return regions.CirclePixelRegion(centre, sizes[0])
        angle = sizes[2] * u.deg
        if self.kind == "ellipse":
            return regions.EllipsePixelRegion(centre, 2.0 * sizes[0], 2.0 * sizes[1], angle=angle)
        return regions.RectanglePixelRegion(centre, sizes[0], sizes[1], angle=angle)

    def _rims(self) -> tuple[Shape, Shape]:
        """Inner and outer shape of an annulus or of a part of one."""
        x, y, *rest = self.parameters
        if self.kind == "annulus":
            return Shape("circle", (x, y, rest[0])), Shape("circle", (x, y, rest[1]))
        kind, angle = self.kind.partition("_")[0], rest[-1]
        return Shape(kind, (x, y, rest[0], rest[1], angle)), Shape(kind, (x, y, rest[2], rest[3], angle))

    def _pie_contains(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x0, y0, inner, outer, _, _ = self.parameters
        distance = np.hypot(x - x0, y - y0)
        return (distance >= inner) & (distance < outer) & self._lies_between_angles(x, y)

    def _lies_between_angles(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x0, y0 = self.parameters[:2]
        first, last, turn = (*self.parameters[4:6], 0.0) if self.kind == "pie" else self.parameters[6:9]
        width = (last - first) % 360.0 or 360.0
        return (np.degrees(np.arctan2(y - y0, x - x0)) - turn - first) % 360.0 < width


def inside_shapes(shapes: Sequence[Shape], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which positions lie inside a list of shapes, applied in their order.

    Parameters
    ----------
    shapes : sequence of Shape
        A list that starts with an excluded shape means "everything but", as in CIAO. Points have no area and
        do not count.
    x, y : ndarray
        Sky pixels.

    Returns
    -------
    ndarray of bool
        Shape of ``x``; all False for an empty list.
    """
    x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    inside = np.full(x.shape, starts_with_everything(shapes))
    for shape in shapes:
        contained = shape.contains(x, y)
        inside = inside | contained if shape.include else inside & ~contained
    return inside


def starts_with_everything(shapes: Sequence[Shape]) -> bool:
    """Whether a list of shapes begins with an excluded one, and so means "everything but"."""
    first = next((shape for shape in shapes if shape.kind != "point"), None)
    return first is not None and not first.include


def shapes_mask(shapes: Sequence[Shape], grid: PixelGrid, *, mode: str = "touch") -> np.ndarray:
    """Image pixels inside a list of shapes.

    Parameters
    ----------
    shapes : sequence of Shape
        Applied in their order, see `inside_shapes`.
    grid : PixelGrid
        Grid of the mask, which may be a part of the common grid.
    mode : {'touch', 'centre'}
        ``touch``: a pixel counts where the centre of any of its sky pixels lies inside (for what is cut out);
        ``centre``: where its own centre does (for what is kept).

    Returns
    -------
    ndarray of bool, shape (ny, nx)

    Raises
    ------
    ValueError
        The mode is unknown.
    """
    if mode not in ("touch", "centre"):
        raise ValueError(f"mask mode {mode!r} is unknown: 'touch' or 'centre'")
    parts = grid.binning if mode == "touch" else 1
    step = grid.binning / parts
    x = grid.sky_x0 + (np.arange(grid.nx * parts) + 0.5) * step
    y = grid.sky_y0 + (np.arange(grid.ny * parts) + 0.5) * step
    inside = np.full((y.size, x.size), starts_with_everything(shapes))
    for shape in shapes:
        x_low, x_high, y_low, y_high = shape.bounds()
        columns = slice(np.searchsorted(x, x_low, "left"), np.searchsorted(x, x_high, "right"))
        rows = slice(np.searchsorted(y, y_low, "left"), np.searchsorted(y, y_high, "right"))
        part = inside[rows, columns]
        if part.size:
            part[shape.contains(x[np.newaxis, columns], y[rows, np.newaxis])] = shape.include
    return inside.reshape(grid.ny, parts, grid.nx, parts).any(axis=(1, 3))
