"""Region files that DS9 saves as XML: a VOTable with one row a shape, brought into the text grammar."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

LENGTH_SUFFIX = {"pix": "", "arcsec": '"', "arcmin": "'", "deg": "d"}


def xml_statements(content: bytes) -> Iterator[tuple[str, str]]:
    """Coordinate system and statement, as the text grammar has them, of each row.

    Parameters
    ----------
    content : bytes
        Of the file.

    Raises
    ------
    ValueError
        It is no XML, or no table of regions.
    """
    try:
        tree = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise ValueError(f"no well-formed XML ({error})") from error
    fields = {field.get("name", ""): field for field in tree.iter("FIELD")}
    missing = [name for name in ("shape", "x", "y", "r", "include") if name not in fields]
    if missing:
        raise ValueError(f"no table of regions: it has no field {', '.join(missing)}")
    frame = fields["x"].get("ref", "")
    unit = fields["r"].get("unit", "")
    if unit not in LENGTH_SUFFIX:
        raise ValueError(f"lengths in {unit!r}, expected {', '.join(LENGTH_SUFFIX)}")
    for row in tree.iter("TR"):
        cells = [(cell.text or "").strip() for cell in row.iter("TD")]
        try:
            yield frame, _statement(dict(zip(fields, cells, strict=False)), LENGTH_SUFFIX[unit])
        except LookupError as error:
            raise ValueError(f"a row is incomplete: {' '.join(cells)[:80]!r}") from error


def _statement(row: dict[str, str], suffix: str) -> str:
    """One row as a statement: only the cells that its shape uses are filled."""
    name = row["shape"].lower()
    corners = [
        value for pair in zip(row.get("xv", "").split(), row.get("yv", "").split(), strict=True) for value in pair
    ]
    angles = row.get("angv", "").split()
    across, along = (row.get(key, "").split() for key in ("rv", "rv2"))
    single = [row[key] + suffix for key in ("r", "r2") if row.get(key)]
    if along:
        lengths = [value + suffix for pair in zip(across, along, strict=True) for value in pair]
    else:
        lengths = [value + suffix for value in across] or single
    if "panda" in name:
        # Only the outermost of several angles and rims matter: the shape is their union.
        width = 2 if along else 1
        numbers = [angles[0], angles[-1], "1", *lengths[:width], *lengths[-width:], "1"]
    else:
        numbers = lengths
    turned = [row["ang"]] if row.get("ang") else []
    place = corners or [row["x"], row["y"]]
    sign = "-" if row["include"] == "0" else ""
    return f"{sign}{name.removesuffix('annulus') or 'annulus'}({','.join([*place, *numbers, *turned])})"
