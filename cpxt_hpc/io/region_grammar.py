"""The grammar of region files: what DS9 and CIAO write on one line.

Both formats are one grammar here: a frame line (``physical``, ``image``, ``fk5``, ``icrs``, ...) holds
until the next; without one, as in CIAO's files, numbers are physical sky pixels, and coordinates written
as 10:00:27.9 or 150.1d are on the sky. Lengths follow the frame unless they carry d, ' or ". It stands here
because the ``regions`` package skips what it does not know, physical coordinates among it.
"""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from cpxt_hpc.science.grid import SKY_PIXEL_ARCSEC, PixelGrid, sky_wcs
from cpxt_hpc.science.masks import Shape

SKY_FRAMES = {
    "fk5": "fk5",
    "j2000": "fk5",
    "icrs": "icrs",
    "fk4": "fk4",
    "b1950": "fk4",
    "galactic": "galactic",
    "ecliptic": "barycentricmeanecliptic",
}
"""Frames of DS9 on the sky and what astropy calls them."""

PIXEL_FRAMES = ("physical", "image")
OTHER_FRAMES = re.compile(r"(linear|amplifier|detector|tile|wcs[a-z0]?)$")

_TURNED_RINGS = tuple("P" + "LL" * rims + "A" for rims in range(2, 21))

# P a position (two numbers), L a length, A an angle, N a plain number; a trailing * repeats the last group.
TEMPLATES = {
    "circle": ("PL",),
    "ellipse": ("PLL", "PLLA", *_TURNED_RINGS),
    "box": ("PLL", "PLLA", *_TURNED_RINGS),
    "rotbox": ("PLLA",),
    "rectangle": ("PP",),
    "rotrectangle": ("PPA",),
    "annulus": ("PLL", "PLL*"),
    "polygon": ("PPP", "PPP*"),
    "pie": ("PLLAA",),
    "sector": ("PAA",),
    "panda": ("PAANLLN",),
    "epanda": ("PAANLLLLN", "PAANLLLLNA"),
    "bpanda": ("PAANLLLLN", "PAANLLLLNA"),
    "point": ("P",),
    "field": ("",),
}
WITHOUT_AREA = ("line", "text", "vector", "segment", "ruler", "compass", "projection")

_SHAPE_PATTERN = re.compile(
    r"\s*(?P<sign>[+\-!]?)\s*(?P<name>[a-z]+)\s*(?:\((?P<inside>[^()]*)\)|(?P<bare>(?:[\s,]+[-+.\d][^\s,()]*)+))"
)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_VALUE_PATTERN = re.compile(rf"({_NUMBER})([a-z'\"]?)$")
_SEXAGESIMAL_PATTERN = re.compile(r"([-+]?)(\d+)[:hd](\d+)[:m](\d+\.?\d*)s?$")


@dataclasses.dataclass(frozen=True)
class RegionLine:
    """One shape as a region file states it, before it is laid on a tangent plane.

    Attributes
    ----------
    kind : str
        Name in the file, lower case.
    include : bool
    positions : tuple of (str, float, float)
        Frame and coordinates: sky pixels, image pixels counted from 1, or degrees.
    lengths : tuple of (str, float)
        Unit (``physical``, ``image`` or ``arcsec``) and value.
    angles : tuple of float
        Degrees counter-clockwise from +x; in sky frames from where +x is if their own North is up.
    line_number : int
    text : str
        The line, for messages.
    """

    kind: str
    include: bool
    positions: tuple[tuple[str, float, float], ...]
    lengths: tuple[tuple[str, float], ...]
    angles: tuple[float, ...]
    line_number: int
    text: str


def is_frame(word: str) -> bool:
    """Whether a statement, lower case, sets a coordinate system that can be used."""
    return word in PIXEL_FRAMES or word in SKY_FRAMES


def statements(line: str) -> list[str]:
    """Parts of a line that state a frame or shapes: no comment, no property tail, no ``global`` line."""
    if re.match(r"\s*global(\s|$)", line, re.IGNORECASE):
        return []
    code = line.lstrip("\ufeff").split("#", 1)[0].replace("||", " ")
    return [part.strip() for part in code.split(";") if part.strip()]


def parse_shapes(statement: str, frame: str, line_number: int, text: str) -> list[RegionLine]:
    """Shapes of one statement: usually one; CIAO joins several by + and -.

    Parameters
    ----------
    statement : str
        Lower case, one of `statements`.
    frame : str
        Coordinate system in force.
    line_number, text
        Where it stands, kept for messages.

    Raises
    ------
    ValueError
        Says what cannot be understood.
    """
    lines, position = [], 0
    tail = re.search(r"#.*\binclude\s*=\s*0\b", text)
    while position < len(statement):
        match = _SHAPE_PATTERN.match(statement, position)
        if match is None:
            rest = statement[position:].strip()
            if rest[:1] in ("*", "&", "|"):
                raise ValueError(f"shapes joined by {rest[0]!r} are not supported, only + and -")
            raise ValueError(f"cannot be understood from {rest!r} on")
        name = match["name"]
        include = match["sign"] not in ("-", "!") and tail is None
        arguments = match["inside"] if match["inside"] is not None else match["bare"]
        position = match.end()
        if name in WITHOUT_AREA:
            continue
        if name not in TEMPLATES:
            raise ValueError(f"shape {name!r} is unknown; known are {', '.join(TEMPLATES)}")
        values = [value for value in re.split(r"[\s,]+", arguments) if value]
        lines.append(_parse_parameters(name, include, values, frame, line_number, text))
        _check_shape(lines[-1])
    return lines


def _check_shape(line: RegionLine) -> None:
    """Raise ValueError where the lengths make no shape, whatever the tangent plane."""
    nominal = [("physical", x, y) for _, x, y in line.positions]
    shape_on_plane(dataclasses.replace(line, positions=tuple(nominal)), None, None)


def _parse_parameters(
    name: str, include: bool, values: list[str], frame: str, line_number: int, text: str
) -> RegionLine:
    template = _matching_template(name, values)
    positions, lengths, angles = [], [], []
    index = 0
    for letter in template:
        if letter == "P":
            positions.append(_parse_position(values[index], values[index + 1], frame))
            index += 2
            continue
        if letter == "L":
            lengths.append(_parse_length(values[index], frame))
        elif letter == "A":
            angles.append(_parse_angle(values[index]))
        index += 1
    return RegionLine(name, include, tuple(positions), tuple(lengths), tuple(angles), line_number, text)


def _matching_template(name: str, values: list[str]) -> str:
    """Spelled-out template of a shape for the number of values found."""
    sizes = []
    for template in TEMPLATES[name]:
        repeated = template.endswith("*")
        letters = template.rstrip("*")
        if repeated:
            weight = 2 if letters[-1] == "P" else 1
            missing = len(values) - len(letters) - letters.count("P")
            if missing > 0 and missing % weight == 0:
                return letters + letters[-1] * (missing // weight)
            sizes.append("more")
        else:
            size = len(letters) + letters.count("P")
            if size == len(values):
                return letters
            sizes.append(str(size))
    told = " or ".join(sizes if len(sizes) <= 3 else [*sizes[:3], "more"])
    raise ValueError(f"{name} takes {told} numbers, found {len(values)}")


def _parse_position(first: str, second: str, frame: str) -> tuple[str, float, float]:
    hour_based = frame not in ("galactic", "ecliptic")
    systems, numbers = [], []
    for axis, token in enumerate((first, second)):
        sexagesimal = _SEXAGESIMAL_PATTERN.match(token)
        value = _VALUE_PATTERN.match(token)
        if sexagesimal:
            sign, whole, minutes, seconds = sexagesimal.groups()
            degrees = float(whole) + float(minutes) / 60.0 + float(seconds) / 3600.0
            in_hours = "h" in token or (axis == 0 and hour_based and "d" not in token)
            numbers.append((-1.0 if sign == "-" else 1.0) * degrees * (15.0 if in_hours else 1.0))
            systems.append("sky")
        elif value and value[2] in ("", "d", "r", "i", "p"):
            number, suffix = float(value[1]), value[2]
            numbers.append(float(np.degrees(number)) if suffix == "r" else number)
            systems.append({"": frame, "d": "sky", "r": "sky", "i": "image", "p": "physical"}[suffix])
        else:
            raise ValueError(f"{token!r} is no coordinate (a number, 150.1d, or 10:00:27.9)")
    sky_frame = frame if frame in SKY_FRAMES else "icrs"
    first_system, second_system = (sky_frame if system == "sky" else system for system in systems)
    if first_system != second_system:
        raise ValueError(f"coordinates {first} and {second} are in different systems")
    if first_system in SKY_FRAMES and not -90.0 <= numbers[1] <= 90.0:
        raise ValueError(f"declination {second} lies outside -90 to 90 degrees: are these pixels?")
    return (first_system, numbers[0], numbers[1])


def _parse_length(token: str, frame: str) -> tuple[str, float]:
    arcsec = {"d": 3600.0, "'": 60.0, '"': 1.0, "r": float(np.degrees(1.0)) * 3600.0}
    match = _VALUE_PATTERN.match(token)
    if match is None or match[2] not in ("", "i", "p", *arcsec):
        raise ValueError(f"{token!r} is no length (a number, or one with \", ' or d)")
    value, suffix = float(match[1]), match[2]
    if suffix in arcsec:
        return ("arcsec", value * arcsec[suffix])
    if suffix:
        return ("image" if suffix == "i" else "physical", value)
    if frame in SKY_FRAMES:
        return ("arcsec", value * 3600.0)
    return (frame, value)


def _parse_angle(token: str) -> float:
    match = _VALUE_PATTERN.match(token)
    if match is None or match[2] not in ("", "d", "r"):
        raise ValueError(f"{token!r} is no angle [degree]")
    return float(np.degrees(float(match[1]))) if match[2] == "r" else float(match[1])


def shape_on_plane(line: RegionLine, grid: PixelGrid | None, image_grid: PixelGrid | None) -> Shape:
    """Lay one shape on the tangent plane.

    Parameters
    ----------
    line : RegionLine
    grid : PixelGrid or None
        Gives the tangent point; needed for positions on the sky.
    image_grid : PixelGrid or None
        Image that ``image`` coordinates refer to; needed for those.

    Raises
    ------
    ValueError
        A length is negative, radii do not ascend, or the position is more than 90 degrees off.
    """
    corners = [_physical_position(position, grid, image_grid) for position in line.positions]
    scales = {
        "physical": 1.0,
        "image": 1.0 if image_grid is None else float(image_grid.binning),
        "arcsec": 1.0 / SKY_PIXEL_ARCSEC,
    }
    lengths = [value * scales[unit] for unit, value in line.lengths]
    flat = [coordinate for corner in corners for coordinate in corner]
    frame = line.positions[0][0] if line.positions else "physical"
    turn = 0.0 if frame in PIXEL_FRAMES else _turn_of_frame(frame, grid.ra_deg, grid.dec_deg)
    angles = [angle + turn for angle in line.angles]
    kind, parameters = line.kind, [*flat, *lengths, *angles]
    if kind in ("ellipse", "box", "rotbox"):
        kind = {"rotbox": "box"}.get(kind, kind)
        parameters = [*flat, *lengths, *(angles or [turn])]
        if len(lengths) > 2:
            kind, parameters = f"{kind}_annulus", [*flat, *lengths[:2], *lengths[-2:], *angles]
    elif kind in ("rectangle", "rotrectangle"):
        (x1, y1), (x2, y2) = corners
        kind = "box"
        angle = angles[0] if angles else 0.0
        parameters = [0.5 * (x1 + x2), 0.5 * (y1 + y2), abs(x2 - x1), abs(y2 - y1), angle]
    elif kind == "annulus":
        if sorted(lengths) != lengths:
            raise ValueError("the radii of an annulus must ascend")
        parameters = [*flat, lengths[0], lengths[-1]]
    elif kind == "sector":
        # A wedge without outer radius: a million sky pixels (38 degrees) is beyond every image.
        kind, parameters = "pie", [*flat, 0.0, 1e6, *angles]
    elif kind == "panda":
        kind = "pie"
    elif kind in ("epanda", "bpanda"):
        kind = {"epanda": "ellipse_pie", "bpanda": "box_pie"}[kind]
        parameters = [*flat, *lengths, *angles, *([turn] if len(angles) == 2 else [])]
    return Shape(kind, tuple(parameters), line.include)


def _physical_position(
    position: tuple[str, float, float], grid: PixelGrid | None, image_grid: PixelGrid | None
) -> tuple[float, float]:
    system, first, second = position
    if system == "physical":
        return first, second
    if system == "image":
        x, y = image_grid.sky_from_image(first - 1.0, second - 1.0)
        return float(x), float(y)
    place = SkyCoord(first, second, unit=u.deg, frame=SKY_FRAMES[system]).icrs
    x, y = sky_wcs(grid.ra_deg, grid.dec_deg).all_world2pix(place.ra.deg, place.dec.deg, 1)
    return float(x), float(y)


@functools.lru_cache(maxsize=64)
def _turn_of_frame(system: str, ra_deg: float, dec_deg: float) -> float:
    """Angle from the plane's +x to that of a sky frame whose North is up [degree]; at the tangent point, as DS9."""
    here = SkyCoord(ra_deg, dec_deg, unit=u.deg).transform_to(SKY_FRAMES[system])
    step_deg = 1e-3 if here.spherical.lat.deg < 89.0 else -1e-3
    north = SkyCoord(here.spherical.lon, here.spherical.lat + step_deg * u.deg, frame=SKY_FRAMES[system]).icrs
    x, y = sky_wcs(ra_deg, dec_deg).all_world2pix([ra_deg, north.ra.deg], [dec_deg, north.dec.deg], 1)
    sign = np.sign(step_deg)
    return float(np.degrees(np.arctan2(sign * (y[1] - y[0]), sign * (x[1] - x[0])))) - 90.0
