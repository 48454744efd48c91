"""A real DS9 puts our region files and images where they belong, and we read what it saves.

``bash jobscripts/test.sh --system`` installs it where it can.
"""

import numpy as np
import pytest
from astropy.io import fits
from ds9 import needs_ds9, run_ds9, saving
from step_clusters import CLEANED, FITTED

from cpxt_hpc.io.images import read_image, write_image
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.io.region_files import read_region_file, sky_shapes, write_region_file
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.masks import Shape
from cpxt_hpc.stages import autoregions
from cpxt_hpc.stages.base import StageContext

pytestmark = needs_ds9

GRID = PixelGrid(255.9, 78.64, 3896.5, 3796.5, 100, 120, 4)
"""Near the pole, where axes turn fast over the field."""

SHAPES = [
    Shape("circle", (4100.0, 4050.0, 30.3)),
    Shape("ellipse", (4100.25, 4050.5, 60.0, 30.0, 20.0)),
    Shape("box", (4000.0, 4000.0, 40.0, 20.0, 30.0)),
    Shape("annulus", (4100.0, 4050.0, 10.0, 20.0)),
    Shape("ellipse_annulus", (4100.0, 4050.0, 20.0, 10.0, 40.0, 20.0, 15.0)),
    Shape("box_annulus", (4100.0, 4050.0, 20.0, 10.0, 40.0, 20.0, 15.0)),
    Shape("pie", (4050.0, 4050.0, 5.0, 60.0, 10.0, 80.0)),
    Shape("ellipse_pie", (4100.0, 4050.0, 20.0, 10.0, 60.0, 30.0, 10.0, 90.0, 30.0)),
    Shape("box_pie", (4100.0, 4050.0, 20.0, 10.0, 60.0, 30.0, 10.0, 90.0, 30.0)),
    Shape("polygon", (4000.0, 4000.0, 4100.0, 4000.0, 4000.0, 4100.0)),
    Shape("point", (4050.0, 4060.0)),
    Shape("circle", (4090.0, 4040.0, 5.0), include=False),
]
IN_CIAO_TOO = ("circle", "ellipse", "box", "annulus", "pie", "polygon", "point")

SAVED = {
    "physical": ({}, 1e-3),
    "image": ({"system": "image"}, 1e-3),
    "fk5": ({"system": "wcs", "sky": "fk5"}, 2e-3),
    "fk5 sexagesimal": ({"system": "wcs", "sky": "fk5", "sky_format": "sexagesimal"}, 5e-3),
    "icrs": ({"system": "wcs", "sky": "icrs"}, 2e-3),
    "galactic": ({"system": "wcs", "sky": "galactic"}, 0.02),
    # DS9 and astropy differ by 0.02 arcsec in the ecliptic, and by 0.2 in how B1950 moves.
    "ecliptic": ({"system": "wcs", "sky": "ecliptic"}, 0.1),
    "fk4": ({"system": "wcs", "sky": "fk4", "sky_format": "sexagesimal"}, 1.0),
    "xml": ({"file_format": "xml"}, 1e-3),
    "xml fk5": ({"system": "wcs", "sky": "fk5", "file_format": "xml"}, 2e-3),
    "ciao": ({"file_format": "ciao"}, 1e-3),
    # CIAO's format names no system: DS9 writes fk5, CIAO and we read the image's own, which is ICRS.
    "ciao fk5": ({"system": "wcs", "sky": "fk5", "file_format": "ciao"}, 0.05),
}
"""How DS9 saves, and how far its numbers may be off [sky pixels, degrees]."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What DS9 makes of a region file of ours, in all its forms."""
    folder = tmp_path_factory.mktemp("ds9")
    write_image(folder / "image.fits", np.ones(GRID.shape), GRID, unit="count")
    write_region_file(folder / "ours.reg", SHAPES)
    words = ["image.fits", "-regions", "load", "ours.reg"]
    for name, (form, _) in SAVED.items():
        words += saving(file_name(name), **form)
    run_ds9(folder, *words)
    return folder


@pytest.mark.parametrize("name", SAVED)
def test_what_ds9_loads_and_saves_is_what_we_wrote(saved, name):
    form, tolerance = SAVED[name]
    expected = [each for each in SHAPES if form.get("file_format") != "ciao" or each.kind in IN_CIAO_TOO]
    found = sky_shapes(read_region_file(saved / file_name(name)), GRID)
    assert [(each.kind, each.include) for each in found] == [(each.kind, each.include) for each in expected]
    for ours, theirs in zip(expected, found, strict=True):
        difference = np.array(theirs.parameters) - ours.parameters
        first_angle = {"pie": 4, "polygon": None}.get(ours.kind, 6 if "_pie" in ours.kind else -1)
        if first_angle is not None and ours.kind not in ("circle", "annulus", "point"):
            difference[first_angle:] = (difference[first_angle:] + 180.0) % 360.0 - 180.0
        np.testing.assert_allclose(difference, 0.0, atol=tolerance, err_msg=f"{ours}: {theirs}")


def file_name(name):
    return f"{name.replace(' ', '_')}.reg"  # DS9 does not save under names with blanks


def is_image(path):
    if path.suffix not in (".fits", ".img"):
        return False
    with fits.open(path) as hdus:
        return hdus[0].header["NAXIS"] == 2


def test_regions_lie_where_they_belong_on_every_image_that_we_write(cluster, run, tmp_path):
    layout = cluster(FITTED)
    assert run("maps", layout.ini).code == 0
    images = [path for path in sorted(layout.folder.rglob("*")) if is_image(path)]
    names = " ".join(path.name for path in images)
    for part in ("broad_flux", "xray_surface_brightness_nosrc", "scale_map", "temperature_map", "exposure", "mask"):
        assert part in names
    words = []
    for number, path in enumerate(images):
        _, grid, _ = read_image(path)
        x, y = grid.sky_from_image(0.4 * grid.nx, 0.6 * grid.ny)
        write_region_file(tmp_path / f"{number}.reg", [("box", x, y, 12.0, 6.0, 30.0)])
        words += [path, "-regions", "load", tmp_path / f"{number}.reg"]
        words += saving(tmp_path / f"{number}_image.reg", system="image")
        words += saving(tmp_path / f"{number}_fk5.reg", system="wcs", sky="fk5")
    run_ds9(tmp_path, *words)
    for number, path in enumerate(images):
        _, grid, _ = read_image(path)
        in_pixels = read_region_file(tmp_path / f"{number}_image.reg")[0]
        assert in_pixels.positions[0][1:] == pytest.approx((0.4 * grid.nx + 1.0, 0.6 * grid.ny + 1.0), abs=1e-3), path
        ours, theirs = (
            sky_shapes(read_region_file(tmp_path / name), grid)[0] for name in (f"{number}.reg", f"{number}_fk5.reg")
        )
        assert theirs.parameters == pytest.approx(ours.parameters, abs=0.01), path


def test_ds9_loads_every_region_that_auto_writes(cluster, tmp_path):
    layout = cluster(CLEANED)
    found = [layout.sources, layout.exclude, layout.crop]
    for path in found:
        path.unlink()
    context = StageContext(read_config(layout.ini), layout)
    autoregions.make_sources(context)
    autoregions.make_exclude(context)
    autoregions.make_crop(context)
    _, grid, _ = read_image(layout.broad_flux)
    words = [layout.broad_flux]
    for path in found:
        words += ["-regions", "delete", "all", "-regions", "load", path, *saving(tmp_path / path.name)]
    run_ds9(tmp_path, *words)
    for path in found:
        ours, theirs = (sky_shapes(read_region_file(each), grid) for each in (path, tmp_path / path.name))
        assert [each.kind for each in theirs] == [each.kind for each in ours]
        for mine, other in zip(ours, theirs, strict=True):
            assert other.parameters == pytest.approx(mine.parameters, abs=0.01)
    assert len(sky_shapes(read_region_file(layout.crop), grid)) == 1
