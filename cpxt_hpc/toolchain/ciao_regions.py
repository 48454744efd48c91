"""Region files for CIAO's tools: in the sky pixels of one observation's own event file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import DataError
from cpxt_hpc.io.atomic import write_text
from cpxt_hpc.science.grid import reproject_sky, sky_wcs
from cpxt_hpc.science.masks import Shape

Move = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Sky pixels (x, y) of one tangent plane to those of another."""

_NAMES = {"circle": "circle", "ellipse": "ellipse", "box": "rotbox", "annulus": "annulus", "pie": "pie",
          "polygon": "polygon", "field": "field"}  # fmt: skip
_ANGLES = {"ellipse": 1, "box": 1, "pie": 2}
"""How many angles stand last among the parameters."""


def plane_change(
    common_ra_deg: float, common_dec_deg: float, ra_deg: float, dec_deg: float,
    reference_pixel: tuple[float, float], pixel_deg: tuple[float, float],
) -> Move:  # fmt: skip
    """Change from the common tangent plane to that of an event file, as `cpxt_hpc.io.events.sky_coordinates` tells."""
    source = sky_wcs(common_ra_deg, common_dec_deg)
    own = sky_wcs(ra_deg, dec_deg, reference_pixel=reference_pixel, pixel_deg=pixel_deg)
    return lambda x, y: reproject_sky(x, y, source, own)


def moved_shape(shape: Shape, move: Move) -> Shape:
    """A shape in another tangent plane: its place, corners and angles; sizes stay.

    The planes of observations of one cluster differ by less than 2e-4 in scale.
    """
    numbers = np.array(shape.parameters, dtype=float)
    if shape.kind == "polygon":
        numbers[0::2], numbers[1::2] = move(numbers[0::2], numbers[1::2])
    elif shape.kind != "field":
        x, y = move(np.array([numbers[0], numbers[0] + 1.0]), np.array([numbers[1], numbers[1]]))
        numbers[:2] = x[0], y[0]
        turn = np.degrees(np.arctan2(y[1] - y[0], x[1] - x[0]))
        n_angles = _ANGLES.get(shape.kind, 0)
        numbers[len(numbers) - n_angles :] += turn
    return Shape(shape.kind, tuple(map(float, numbers)), shape.include)


def write_ciao_region(path: Path, shapes: Sequence[Shape], source: Path) -> None:
    """Write shapes in CIAO's format, physical sky pixels.

    Parameters
    ----------
    path : Path
    shapes : sequence of Shape
    source : Path
        The file they come from, for the message.

    Raises
    ------
    DataError
        There is none with an area, or one that CIAO does not know.
    """
    lines = []
    for shape in shapes:
        if shape.kind == "point":
            continue
        if shape.kind not in _NAMES:
            raise DataError(
                f"{source}: the shape {shape.kind} cannot be handed to CIAO. Draw circles, ellipses, boxes, annuli, "
                "pies or polygons."
            )
        numbers = ",".join(f"{value:.4f}" for value in shape.parameters)
        lines.append(f"{'' if shape.include else '-'}{_NAMES[shape.kind]}({numbers})")
    if not any(not line.startswith("-") for line in lines):
        raise DataError(f"{source}: holds no shape with an area. Draw the area for which the ARF is to be made.")
    write_text(path, "\n".join(lines) + "\n")
