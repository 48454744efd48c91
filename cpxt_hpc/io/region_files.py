"""Region files of DS9 and CIAO: read, turned into masks, and written."""

from __future__ import annotations

import collections
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io.atomic import write_text
from cpxt_hpc.io.region_grammar import (
    OTHER_FRAMES,
    RegionLine,
    is_frame,
    parse_shapes,
    shape_on_plane,
    statements,
)
from cpxt_hpc.io.region_xml import xml_statements
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.masks import Shape, shapes_mask

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RegionSummary:
    """What was understood of a region file; `str` gives one line for the log.

    Attributes
    ----------
    path : Path
    included, excluded : dict of str to int
        Number of shapes by kind.
    outside : int
        Shapes without any pixel on the grid: often a sign of mistaken coordinates.
    area_arcmin2 : float
        Area of the mask on the grid.
    """

    path: Path
    included: dict[str, int]
    excluded: dict[str, int]
    outside: int
    area_arcmin2: float

    @property
    def n_shapes(self) -> int:
        """Number of shapes, those without area included."""
        return sum(self.included.values()) + sum(self.excluded.values())

    def __str__(self) -> str:
        def count(kinds: dict[str, int]) -> str:
            return ", ".join(f"{number} {kind}" for kind, number in kinds.items())

        parts = [f"{self.path.name}: {self.n_shapes} shape{'s' if self.n_shapes != 1 else ''}"]
        if self.included:
            parts[0] += f" ({count(self.included)})"
        if self.excluded:
            parts.append(f"{sum(self.excluded.values())} cut out ({count(self.excluded)})")
        parts.append(f"{self.area_arcmin2:.3g} arcmin^2 on the image")
        if self.outside:
            parts.append(f"{self.outside} outside the image: check their coordinate system")
        return ", ".join(parts)


def read_region_file(path: Path) -> list[RegionLine]:
    """Read a region file of DS9 (its own format, or XML) or CIAO.

    Parameters
    ----------
    path : Path
        Comments, ``global`` lines and annotations without area are passed over; a file without
        shapes is valid.

    Returns
    -------
    list of RegionLine
        In the order of the file, which matters where shapes are excluded.

    Raises
    ------
    MissingInput
        There is no such file, or it cannot be read.
    DataError
        A line cannot be understood; the message names it.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingInput(
            f"{path}: cannot be read ({error.strerror}). Draw the regions and save them there."
        ) from error
    kind = _other_format(content)
    if kind:
        raise DataError(f"{path}: {kind}, expected DS9's or CIAO's text format. Save the regions in one of them.")
    if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return _xml_lines(path, content)
    found: list[RegionLine] = []
    frame = "physical"
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
        for statement in statements(line):
            word = statement.lower().strip()
            if is_frame(word):
                frame = word
            elif OTHER_FRAMES.match(word):
                raise DataError(
                    f"{path}, line {number}: coordinate system {word!r} cannot be used. "
                    "Save the regions in physical, image, fk5 or icrs coordinates."
                )
            else:
                try:
                    found.extend(parse_shapes(word, frame, number, line.strip()))
                except ValueError as error:
                    raise DataError(
                        f"{path}, line {number}: {line.strip()!r}: {error}. Expected a shape such as "
                        "circle(x,y,radius), ellipse, box, annulus or polygon in DS9's or CIAO's format."
                    ) from error
    return found


def _xml_lines(path: Path, content: bytes) -> list[RegionLine]:
    found: list[RegionLine] = []
    try:
        for number, (frame, statement) in enumerate(xml_statements(content), start=1):
            if not is_frame(frame):
                raise ValueError(f"coordinate system {frame!r} cannot be used")
            found.extend(parse_shapes(statement, frame, number, statement))
    except ValueError as error:
        raise DataError(
            f"{path}: {error}. Save the regions in DS9's or CIAO's format, in physical or fk5 coordinates."
        ) from error
    return found


def _other_format(content: bytes) -> str | None:
    """What a file is that looks like a region file and is none that can be trusted."""
    if content.startswith(b"SIMPLE  =") or b"\0" in content:
        return "a FITS or binary file"
    if content.startswith(b"# format: "):
        # DS9 8.4 writes sizes and positions in image pixels there and calls them physical.
        return "a file in SAOtng format, whose pixels are not what it says"
    return None


def sky_shapes(lines: Sequence[RegionLine], grid: PixelGrid, *, image_grid: PixelGrid | None = None) -> list[Shape]:
    """Lay the shapes of a region file on the common tangent plane.

    Parameters
    ----------
    lines : sequence of RegionLine
    grid : PixelGrid
        Gives the tangent point.
    image_grid : PixelGrid, optional
        Full grid of the image on which ``image`` coordinates were drawn; by default ``grid``.

    Returns
    -------
    list of Shape
        Sky pixels of the tangent plane.

    Raises
    ------
    DataError
        A position is more than 90 degrees from the tangent point.
    """
    shapes = []
    for line in lines:
        try:
            shapes.append(shape_on_plane(line, grid, image_grid or grid))
        except ValueError as error:
            raise DataError(
                f"region file, line {line.line_number}: {line.text!r} does not lie on the image: {error}"
            ) from error
    return shapes


def region_mask(path: Path, grid: PixelGrid, *, mode: str = "touch", image_grid: PixelGrid | None = None) -> np.ndarray:
    """Image pixels inside the shapes of a region file.

    Parameters
    ----------
    path : Path
    grid : PixelGrid
        Grid of the mask.
    mode : {'touch', 'centre'}
        ``touch``: the centre of any of the pixel's sky pixels lies inside; ``centre``: its own does.
    image_grid : PixelGrid, optional
        Full grid that ``image`` coordinates refer to; needed only where ``grid`` is a cropped one.

    Returns
    -------
    ndarray of bool, shape (ny, nx)
        All False for a file without shapes.

    Raises
    ------
    MissingInput, DataError
        As `read_region_file`.
    """
    return shapes_mask(sky_shapes(read_region_file(path), grid, image_grid=image_grid), grid, mode=mode)


def summarize_regions(
    path: Path, grid: PixelGrid, *, mode: str = "touch", image_grid: PixelGrid | None = None
) -> RegionSummary:
    """Tell what was understood of a region file: shapes by kind and the area they cover on a grid.

    Parameters and errors are those of `region_mask`.
    """
    shapes = sky_shapes(read_region_file(path), grid, image_grid=image_grid)
    included = collections.Counter(shape.kind for shape in shapes if shape.include)
    excluded = collections.Counter(shape.kind for shape in shapes if not shape.include)
    x_high, y_high = grid.sky_x0 + grid.nx * grid.binning, grid.sky_y0 + grid.ny * grid.binning
    outside = 0
    for shape in shapes:
        low_x, last_x, low_y, last_y = shape.bounds()
        outside += last_x < grid.sky_x0 or low_x > x_high or last_y < grid.sky_y0 or low_y > y_high
    area = float(shapes_mask(shapes, grid, mode=mode).sum()) * grid.pixel_area_arcmin2
    return RegionSummary(Path(path), dict(included), dict(excluded), int(outside), area)


def tell_regions(path: Path, grid: PixelGrid, *, mode: str = "touch") -> None:
    """Log what was understood of a region file, as a warning where a shape lies outside the image.

    Parameters and errors are those of `region_mask`.
    """
    summary = summarize_regions(path, grid, mode=mode)
    logger.log(logging.WARNING if summary.outside else logging.INFO, "%s", summary)


def write_region_file(path: Path, shapes: Sequence[Shape | tuple], *, comment: str = "") -> None:
    """Write shapes as a DS9 region file in physical coordinates, which opens over every image of the cluster.

    Parameters
    ----------
    path : Path
    shapes : sequence of Shape or tuple
        Tuples are (kind, *parameters), for example ``("circle", x, y, radius)`` or
        ``("box", x, y, width, height, angle)``; sky pixels and degrees. An empty list makes
        a file of the header alone.
    comment : str
        Written as comment lines below the header.

    Raises
    ------
    ValueError
        A shape is none, or a field, which DS9's format lacks.
    OutputError
        The file cannot be written.
    """
    lines = ["# Region file format: DS9 version 4.1"]
    lines += [f"# {line}" for line in comment.splitlines()]
    lines += ["global color=green", "physical"]
    for shape in shapes:
        if not isinstance(shape, Shape):
            shape = Shape(str(shape[0]), tuple(float(value) for value in shape[1:]))
        lines.append(f"{'' if shape.include else '-'}{_in_ds9_format(shape)}")
    write_text(Path(path), "\n".join(lines) + "\n")


def _in_ds9_format(shape: Shape) -> str:
    """The shape by DS9's name: DS9 passes over CIAO's pie and field without a word."""
    if shape.kind == "field":
        raise ValueError("a field has no form in DS9's format")
    numbers = [f"{value:.4f}" for value in shape.parameters]
    if shape.kind == "pie":
        x, y, inner, outer, first, last = numbers
        return f"panda({x},{y},{first},{last},1,{inner},{outer},1)"
    if shape.kind in ("ellipse_pie", "box_pie"):
        x, y, *sizes, first, last, angle = numbers
        return f"{shape.kind[0]}panda({x},{y},{first},{last},1,{','.join(sizes)},1,{angle})"
    return f"{shape.kind.removesuffix('_annulus')}({','.join(numbers)})"
