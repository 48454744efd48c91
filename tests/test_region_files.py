import logging
from pathlib import Path

import numpy as np
import pytest
import regions
from astropy import units as u
from astropy.coordinates import SkyCoord

from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io.region_files import (
    read_region_file,
    region_mask,
    sky_shapes,
    summarize_regions,
    tell_regions,
    write_region_file,
)
from cpxt_hpc.science.grid import SKY_PIXEL_ARCSEC, PixelGrid
from cpxt_hpc.science.masks import Shape, inside_shapes, shapes_mask

GRID = PixelGrid(150.1163, 22.2058, 3896.5, 3796.5, 100, 120, 4)
FINE = PixelGrid(150.1163, 22.2058, 3896.5, 3796.5, 400, 480, 1)


def write(tmp_path, text, name="some.reg"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def celestial(x, y):
    return (float(value) for value in FINE.wcs().all_pix2world(*FINE.image_from_sky(x, y), 0))


RA, DEC = celestial(4100.0, 4050.0)


def sexagesimal(ra, dec):
    hours, minutes = divmod(ra / 15.0 * 60.0, 60.0)
    degrees, arcminutes = divmod(dec * 60.0, 60.0)
    return (
        f"{int(hours)}:{int(minutes):02d}:{minutes % 1 * 60:.6f}",
        f"+{int(degrees)}:{int(arcminutes):02d}:{arcminutes % 1 * 60:.5f}",
    )


RA_TEXT, DEC_TEXT = sexagesimal(RA, DEC)
HEADER = (
    "# Region file format: DS9 version 4.1\n"
    'global color=green dashlist=8 3 width=1 font="helvetica 10 normal roman" include=1 source=1\n'
)
SAME_CIRCLE = {
    "DS9 physical": f"{HEADER}physical\ncircle(4100,4050,30.3) # color=red text={{a; (b)}}\n",
    "DS9 image": f"{HEADER}image\ncircle(51.375,63.875,7.575)\n",
    "DS9 fk5 sexagesimal": f'{HEADER}fk5\ncircle({RA_TEXT},{DEC_TEXT},{30.3 * SKY_PIXEL_ARCSEC}")\n',
    "DS9 icrs degrees": f"{HEADER}icrs\ncircle({RA:.8f},{DEC:.8f},{30.3 * SKY_PIXEL_ARCSEC / 60}')\n",
    "DS9 icrs, length in degrees": (
        f"{HEADER}ICRS\nCircle({RA:.8f}, {DEC:.8f}, {30.3 * SKY_PIXEL_ARCSEC / 3600})\n"
    ),
    "frame on the line": "physical;circle(4100,4050,30.3)\r\n",
    "no brackets": "physical; circle 4100 4050 30.3\n",
    "CIAO physical": "# Region file format: CIAO version 1.0\ncircle(4100,4050,30.3)\n",
    "CIAO sexagesimal": f"circle({RA_TEXT},{DEC_TEXT},{30.3 * SKY_PIXEL_ARCSEC / 60}')\n",
    "CIAO degrees": f"circle({RA:.8f}d,{DEC:.8f}d,30.3)\n",
    "CIAO annulus without hole": "annulus(4100,4050,0,30.3)\n",
    "byte order mark": "\ufeffcircle(4100,4050,30.3)\n",
}


@pytest.mark.parametrize("text", SAME_CIRCLE.values(), ids=SAME_CIRCLE.keys())
def test_every_notation_of_a_circle_gives_the_same_pixels(tmp_path, text):
    x, y = np.meshgrid(FINE.sky_x0 + 0.5 + np.arange(FINE.nx), FINE.sky_y0 + 0.5 + np.arange(FINE.ny))
    expected = np.hypot(x - 4100.0, y - 4050.0) < 30.3
    found = region_mask(write(tmp_path, text), FINE, mode="centre", image_grid=GRID)
    # fk5 and icrs differ by 0.02 arcsec, and the text carries 1e-8 degrees: pixels on the rim may differ.
    assert np.count_nonzero(found != expected) <= 12


SKY_SHAPES = [
    'circle(150.12,22.20,20")',
    'ellipse(150.12,22.20,30",15",40)',
    "box(150.12,22.20,1',0.4',25)",
    'annulus(150.12,22.20,10",25")',
    "polygon(150.12,22.20,150.13,22.21,150.11,22.22)",
]


@pytest.mark.parametrize("shape", SKY_SHAPES)
def test_sky_shapes_agree_with_the_regions_package(tmp_path, shape):
    found = region_mask(write(tmp_path, f"icrs\n{shape}\n"), FINE, mode="centre")
    theirs = regions.Regions.parse(f"icrs\n{shape}", format="ds9")[0].to_pixel(FINE.wcs())
    expected = theirs.to_mask(mode="center").to_image(FINE.shape) > 0
    assert expected.sum() > 500
    # They take the local North and scale, we those of the tangent point: a part in 1e4 of the rim.
    assert np.count_nonzero(found != expected) < 0.02 * expected.sum()


AREAS = {
    "box(4100.3,4050.4,80,40)": 3200.0,
    "rotbox(4100.3,4050.4,80,40,30)": 3200.0,
    "rectangle(4060.3,4030.4,4140.3,4070.4)": 3200.0,
    "ellipse(4100,4050,60,30,20)": np.pi * 1800.0,
    "annulus(4100,4050,20,60)": np.pi * 3200.0,
    "ellipse(4100,4050,20,10,60,30,20)": np.pi * 1600.0,
    "box(4100,4050,20,10,80,40,20)": 3000.0,
    "pie(4100,4050,20,60,350,80)": np.pi * 800.0,
    "panda(4100,4050,0,90,3,20,60,2)": np.pi * 800.0,
    "panda(4100,4050,350,80,1,20,60,1)": np.pi * 800.0,
    "epanda(4100,4050,0,90,3,20,10,60,30,2,30)": np.pi * 400.0,
    "epanda(4100,4050,0,360,3,20,10,60,30,2)": np.pi * 1600.0,
    "bpanda(4100,4050,0,180,3,20,10,80,40,1,20)": 1500.0,
    "ellipse(4100,4050,20,10,40,20,60,30,20)": np.pi * 1600.0,
    "box(4100,4050,20,10,40,20,60,30,80,40,20)": 3000.0,
    "polygon(4000.3,4000.4,4100.3,4000.4,4000.3,4100.4)": 5000.0,
    "point(4100,4050)": 0.0,
    "circle(4100,4050,0)": 0.0,
    "field()": 192000.0,
    "-circle(4100,4050,30)": 192000.0 - np.pi * 900.0,
    "circle(4100,4050,60)-circle(4100,4050,30)": np.pi * 2700.0,
}


@pytest.mark.parametrize("line", AREAS)
def test_area_of_a_shape_is_the_analytic_one(tmp_path, line):
    area = region_mask(write(tmp_path, line), FINE, mode="centre").sum()
    # The number of lattice points in a smooth figure scatters by less than its perimeter.
    assert area == pytest.approx(AREAS[line], abs=60.0)


def test_sector_reaches_to_the_edge_of_the_image(tmp_path):
    mask = region_mask(write(tmp_path, "sector(3996.5,3916.5,0,90)"), GRID, mode="centre")
    assert mask[31:, 26:].all()
    assert not mask[:29].any()


def test_angles_count_from_x_towards_y(tmp_path):
    mask = region_mask(write(tmp_path, "ellipse(4100,4050,60,10,45)"), FINE, mode="centre")
    column, row = (int(value) for value in FINE.image_from_sky(4100.0, 4050.0))
    assert mask[row + 30, column + 30]
    assert not mask[row + 30, column - 30]


def test_an_excluded_shape_cuts_only_what_stands_before_it(tmp_path):
    cut = region_mask(write(tmp_path, "circle(4100,4050,40)\n-circle(4100,4050,20)\n"), FINE)
    refilled = region_mask(
        write(tmp_path, "circle(4100,4050,40)\n-circle(4100,4050,20)\ncircle(4100,4050,10)\n"), FINE
    )
    assert cut.sum() == pytest.approx(np.pi * 1200.0, rel=0.01)
    assert refilled.sum() == pytest.approx(np.pi * 1300.0, rel=0.01)


def test_a_file_of_the_header_alone_means_no_region(tmp_path):
    path = write(tmp_path, HEADER + "physical\n# nothing here\n")
    assert read_region_file(path) == []
    assert not region_mask(path, GRID).any()


def test_touch_takes_every_pixel_that_holds_an_inner_sky_pixel_and_centre_does_not(tmp_path):
    path = write(tmp_path, "circle(4100,4050,1.5)\n")
    touched = region_mask(path, GRID, mode="touch")
    assert touched.sum() == 2
    assert region_mask(path, GRID, mode="centre").sum() <= 1
    fine = region_mask(path, FINE, mode="centre").reshape(120, 4, 100, 4).any(axis=(1, 3))
    np.testing.assert_array_equal(touched, fine)


def test_mask_on_a_cropped_grid_is_the_cropped_mask(tmp_path):
    path = write(tmp_path, "physical\nellipse(4100,4050,60,30,20)\nimage\ncircle(40,70,5)\n")
    full = region_mask(path, GRID)
    part = region_mask(path, GRID.crop(20, 80, 30, 70), image_grid=GRID)
    np.testing.assert_array_equal(part, full[20:80, 30:70])


BAD_LINES = {
    "circle(4100,4050)": "circle takes 3 numbers, found 2",
    "circle(4100,4050,abc)": "'abc' is no length",
    "circle(4100,x4,3)": "'x4' is no coordinate",
    "circle(4100,4050,-3)": "must not be negative",
    "circle(4100,4050,30": "cannot be understood from 'circle",
    "annulus(4100,4050,30,10)": "must ascend",
    "polygon(1,2,3,4)": "polygon takes 6 or more numbers, found 4",
    "polygon(1,2,3,4,5,6,7)": "polygon takes 6 or more numbers, found 7",
    "star(4100,4050,30)": "'star' is unknown",
    "epanda(4100,4050,30)": "epanda takes 10 or 11 numbers, found 3",
    "ellipse(4100,4050,1,2,3,4,5,6)": "ellipse takes 4 or 5 or 7 or more numbers, found 8",
    "ellipse(4100,4050,9,9,3,4,5)": "inner size must not exceed",
    "circle(4100,4050,30)*circle(1,1,1)": "joined by '[*]' are not supported",
    "circle(10:00:00,4050,30)": "are in different systems",
    "fk5; circle(4100,4050,30)": "declination 4050 lies outside",
    "detector": "coordinate system 'detector' cannot be used",
    "box(1,2,3,4,5z)": "'5z' is no angle",
    "hello": "cannot be understood from 'hello'",
    "circle(1e999,4050,30)": "must be finite",
}


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_named_with_its_number(tmp_path, line):
    path = write(tmp_path, f"# header\ncircle(4100,4050,30)\n{line}\n")
    with pytest.raises(DataError, match=BAD_LINES[line]) as caught:
        read_region_file(path)
    assert f"{path}, line 3" in str(caught.value)


def test_a_position_on_the_other_side_of_the_sky_is_an_error(tmp_path):
    path = write(tmp_path, "icrs\ncircle(330.1,-22.2,30\")\n")
    with pytest.raises(DataError, match=r"line 2.*does not lie on the image"):
        region_mask(path, GRID)


@pytest.mark.parametrize("frame", ["fk4", "galactic", "ecliptic"])
def test_angles_count_from_the_axes_of_their_own_frame(tmp_path, frame):
    name = {"ecliptic": "barycentricmeanecliptic"}.get(frame, frame)
    place = SkyCoord(RA, DEC, unit=u.deg).transform_to(name).spherical
    angle = 40.0
    text = f'{frame}\nellipse({place.lon.deg:.9f},{place.lat.deg:.9f},30",10",{angle})\n'
    shape = sky_shapes(read_region_file(write(tmp_path, text)), GRID)[0]
    # The long axis, 20 arcsec from the centre: with North up it points to the right and 40 degrees up.
    centre = SkyCoord(place.lon, place.lat, frame=name)
    along = centre.directional_offset_by((angle - 90.0) * u.deg, 20.0 * u.arcsec).icrs
    x, y = FINE.sky_from_image(*FINE.wcs().all_world2pix(along.ra.deg, along.dec.deg, 0))
    found = np.degrees(np.arctan2(y - 4050.0, x - 4100.0))
    # DS9's angles, and so ours, are those at the tangent point: 0.01 degree away.
    assert (shape.parameters[4] - found + 180.0) % 360.0 - 180.0 == pytest.approx(0.0, abs=0.05)


XML = """<?xml version="1.0"?><VOTABLE version="1.1"><RESOURCE><TABLE>
<FIELD name="shape"/><FIELD name="x" ref="{frame}" unit="pix"/><FIELD name="y"/><FIELD name="xv"/><FIELD name="yv"/>
<FIELD name="r" unit="{unit}"/><FIELD name="include"/><DATA><TABLEDATA>{rows}</TABLEDATA></DATA>
</TABLE></RESOURCE></VOTABLE>
"""


def xml(*rows, frame="physical", unit="pix"):
    text = "".join("<TR>" + "".join(f"<TD>{cell}</TD>" for cell in row) + "</TR>" for row in rows)
    return XML.format(rows=text, frame=frame, unit=unit)


def test_ds9_xml_is_read(tmp_path):
    text = xml(
        ("circle", 4100, 4050, "", "", 30, 1),
        ("polygon", "", "", "1 5 1", "2 2 9", "", 1),
        ("text", 1, 2, "", "", "", 1),
        ("circle", 4100, 4050, "", "", 3, 0),
    )
    found = sky_shapes(read_region_file(write(tmp_path, text)), GRID)
    assert found == [
        Shape("circle", (4100.0, 4050.0, 30.0)),
        Shape("polygon", (1.0, 2.0, 5.0, 2.0, 1.0, 9.0)),
        Shape("circle", (4100.0, 4050.0, 3.0), include=False),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html></html>", "no table of regions: it has no field shape"),
        ("<VOTABLE>", "no well-formed XML"),
        (xml(("circle", 1, 2, "", "", 3, 1), frame="detector"), "coordinate system 'detector' cannot be used"),
        (xml(("circle", 1, 2, "", "", 3, 1), unit="km"), "lengths in 'km'"),
        (xml(("circle", 1, 2)), "circle takes 3 numbers|row is incomplete"),
        (xml(("panda", 1, 2, "", "", "", 1)), "row is incomplete"),
        (xml(("polygon", "", "", "1 5 1", "2 2", "", 1)), "shorter|zip"),
        ("<!DOCTYPE a [" + "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 20 if i else "x" * 99}">' for i in range(9))
         + "]><VOTABLE>&e8;</VOTABLE>", "no well-formed XML"),
    ],
)  # fmt: skip
def test_xml_that_is_no_table_of_regions_is_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=rf"(?s)({message}).*Save the regions in DS9's or CIAO's format"):
        read_region_file(write(tmp_path, text))


def test_a_format_whose_pixels_are_not_what_it_says_is_refused(tmp_path):
    with pytest.raises(DataError, match="SAOtng"):
        read_region_file(write(tmp_path, "# format: pixels (physical)\n+circle(51.375,63.875,7.575) # green\n"))


def test_a_missing_file_is_missing_input(tmp_path):
    with pytest.raises(MissingInput, match="cannot be read"):
        read_region_file(tmp_path / "none.reg")


def test_a_fits_file_is_refused(tmp_path):
    path = tmp_path / "fits.reg"
    path.write_bytes(b"SIMPLE  =                    T" + b" " * 50)
    with pytest.raises(DataError, match="FITS or binary"):
        read_region_file(path)


def test_written_shapes_read_back(tmp_path):
    shapes = [
        ("pie", 4100.0, 4050.0, 5.0, 60.0, 10.0, 80.0),
        ("ellipse_pie", 4100.0, 4050.0, 5.0, 6.0, 60.0, 40.0, 10.0, 80.0, 33.0),
        ("box_pie", 4100.0, 4050.0, 5.0, 6.0, 60.0, 40.0, 10.0, 80.0, 33.0),
        ("annulus", 4100.0, 4050.0, 5.0, 6.0),
        Shape("ellipse_annulus", (4100.0, 4050.0, 2.0, 3.0, 20.0, 30.0, 5.0)),
        ("circle", 4100.25, 4050.5, 30.0),
        ("ellipse", 4100.0, 4050.0, 60.0, 30.0, 20.0),
        Shape("box_annulus", (4100.0, 4050.0, 2.0, 3.0, 20.0, 30.0, 5.0)),
        Shape("circle", (4100.0, 4050.0, 10.0), include=False),
        ("polygon", 4000.0, 4000.0, 4100.0, 4000.0, 4000.0, 4100.0),
    ]
    path = tmp_path / "out.reg"
    write_region_file(path, shapes, comment="made by a test\nof two lines")
    found = sky_shapes(read_region_file(path), GRID)
    assert [(shape.kind, *shape.parameters) for shape in found] == [
        (shape.kind, *shape.parameters) if isinstance(shape, Shape) else shape for shape in shapes
    ]
    assert [shape.include for shape in found] == [*[True] * 8, False, True]
    assert "# made by a test\n# of two lines\n" in path.read_text()


def test_summary_counts_shapes_and_area_and_those_outside(tmp_path):
    path = write(tmp_path, "circle(4100,4050,30)\ncircle(20,30,5)\n-box(4100,4050,4,4)\npoint(4000,4000)\n")
    summary = summarize_regions(path, FINE)
    assert (summary.n_shapes, summary.outside) == (4, 1)
    assert summary.area_arcmin2 == pytest.approx((np.pi * 900 - 16) * (SKY_PIXEL_ARCSEC / 60) ** 2, rel=0.02)
    assert "4 shapes (2 circle, 1 point), 1 cut out (1 box)" in str(summary)
    assert "1 outside the image" in str(summary)


def test_shapes_outside_the_image_are_a_warning_in_the_log(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="cpxt_hpc"):
        tell_regions(write(tmp_path, "circle(4100,4050,30)\n", "good.reg"), FINE)
        tell_regions(write(tmp_path, "image\ncircle(4100,4050,30)\n", "bad.reg"), FINE)
    good, bad = caplog.records
    assert (good.levelname, bad.levelname) == ("INFO", "WARNING")
    assert good.getMessage().startswith("good.reg: 1 shape (1 circle), 0.189 arcmin^2 on the image")
    assert "1 outside the image: check their coordinate system" in bad.getMessage()


def test_positions_and_pixels_agree():
    shapes = [
        Shape("ellipse", (4100.0, 4050.0, 50.0, 20.0, 30.0)),
        Shape("circle", (4100.0, 4050.0, 9.0), include=False),
    ]
    x, y = np.meshgrid(FINE.sky_x0 + 0.5 + np.arange(FINE.nx), FINE.sky_y0 + 0.5 + np.arange(FINE.ny))
    np.testing.assert_array_equal(inside_shapes(shapes, x, y), shapes_mask(shapes, FINE, mode="centre"))


def test_an_unknown_mask_mode_or_shape_is_refused():
    with pytest.raises(ValueError, match="mask mode 'half' is unknown"):
        shapes_mask([], GRID, mode="half")
    with pytest.raises(ValueError, match="shape 'star' is unknown"):
        Shape("star", (1.0, 2.0))
    with pytest.raises(ValueError, match="circle takes 3 numbers, found 2"):
        Shape("circle", (1.0, 2.0))
    with pytest.raises(ValueError, match="pairs x, y"):
        Shape("polygon", (1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="no form in DS9's format"):
        write_region_file(Path("none.reg"), [("field",)])
    with pytest.raises(ValueError, match="must not exceed"):
        Shape("annulus", (1.0, 2.0, 5.0, 3.0))
