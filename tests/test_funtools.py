"""Spectra in exact circles against funtools' funhist, an independent program that cuts events as dmextract does, and
counts in regions of all kinds against its fundisp and funcnts.

``bash jobscripts/test.sh --system`` installs it where it can.
"""

import shutil
import subprocess

import numpy as np
import pytest
from astropy.io import fits

from cpxt_hpc.io.events import read_events, write_events
from cpxt_hpc.io.region_files import read_region_file, sky_shapes
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.masks import inside_shapes
from cpxt_hpc.science.packing import sort_by_pixel
from cpxt_hpc.science.region_pixels import exact_circle
from cpxt_hpc.science.spectra import grouped_spectrum

pytestmark = pytest.mark.skipif(
    shutil.which("funhist") is None, reason="funhist is not installed (Debian package funtools)"
)

GRID = PixelGrid(150.0, 22.0, 3600.5, 3600.5, 250, 250)
N_CHANNELS = 1024
CIRCLES = [(125, 125, 30.0), (100, 140, 12.625), (61, 180, 47.375), (130, 120, 1.0), (124, 126, 5.0), (10, 245, 25.125)]
"""Row, column and radius of regions [image pixel]."""


@pytest.fixture(scope="module")
def event_file(tmp_path_factory):
    """A cluster's events, thousands of them within 0.01 sky pixel of the circles' rims, and some on them."""
    rng = np.random.default_rng(8)
    x, y = [rng.normal(4100.0, 150.0, 60_000)], [rng.normal(4100.0, 150.0, 60_000)]
    for iy, ix, radius in CIRCLES:
        centre_x, centre_y = GRID.sky_from_image(ix, iy)
        turn, distance = rng.uniform(0.0, 2.0 * np.pi, 5000), GRID.binning * radius + rng.uniform(-0.01, 0.01, 5000)
        x.append(centre_x + distance * np.cos(turn))
        y.append(centre_y + distance * np.sin(turn))
        # 3-4-5 triangles: exact in float32 for radii that are multiples of 5/8.
        across = GRID.binning * radius * np.array([[3, 4], [4, -3], [-4, 3], [0, 5], [-5, 0], [5, 0]]) / 5.0
        x.append(centre_x + across[:, 0])
        y.append(centre_y + across[:, 1])
    x, y = np.concatenate(x).astype(np.float32), np.concatenate(y).astype(np.float32)
    pi = rng.integers(1, N_CHANNELS + 1, len(x)).astype(np.int32)
    columns = {
        "time": np.linspace(1.0, 9999.0, len(x)), "ccd_id": np.zeros(len(x), np.int16), "x": x, "y": y, "pi": pi,
        "energy": (14.6 * (pi - 0.5)).astype(np.float32),
    }  # fmt: skip
    header = {"INSTRUME": "ACIS", "DETNAM": "ACIS-0", "READMODE": "TIMED", "DATAMODE": "FAINT", "OBS_ID": "7"}
    step_deg = 0.492 / 3600.0
    path = tmp_path_factory.mktemp("funtools") / "events.fits"
    write_events(path, EventList(
        7, columns, 150.0, 22.0, (4096.5, 4096.5), (-step_deg, step_deg), {0: np.array([[0.0, 10_000.0]])}, {0: 1e4},
        header=header,
    ))  # fmt: skip
    return path


@pytest.fixture(scope="module")
def packed(event_file):
    """The file's events as the fit input has them: start of each pixel, channels, places in the pixels."""
    events = read_events(event_file)
    pixel = GRID.pixel_index(events["x"], events["y"])
    places = GRID.place_in_pixel(events["x"], events["y"])
    return sort_by_pixel(pixel, GRID.nx * GRID.ny, (events["pi"] - 1).astype(np.uint16), *places)


def our_spectrum(packed, iy, ix, radius):
    pixel_start, channel, event_x, event_y = packed
    region = exact_circle(iy, ix, radius, GRID.shape)
    group = np.zeros(len(channel), np.uint8)
    return grouped_spectrum(
        region.start, region.stop, region.edge.pixel, *region.edge[2:], GRID.nx,
        pixel_start, channel, event_x, event_y, group, 1, N_CHANNELS,
    )[0]  # fmt: skip


def funhist_spectrum(path, iy, ix, radius):
    x, y = GRID.sky_from_image(ix, iy)
    # funhist counts all of the file; a map has no events outside its image.
    sides = [side - 0.5 for side in (0, GRID.nx, 0, GRID.ny)]
    (low_x, high_x), (low_y, high_y) = GRID.sky_from_image(sides[:2], sides[2:])
    inside = f"x>={low_x:g}&&x<{high_x:g}&&y>={low_y:g}&&y<{high_y:g}"
    selected = f"{path}[EVENTS][circle({x:.3f},{y:.3f},{GRID.binning * radius:.3f})&&{inside}]"
    told = subprocess.run(
        ["funhist", "-T", selected, "pi", f"1:{N_CHANNELS}:{N_CHANNELS}"], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in told.stdout.splitlines()]
    spectrum = np.array([int(row[1]) for row in rows if len(row) == 4 and row[0].isdigit()])
    assert len(spectrum) == N_CHANNELS, told.stdout[:500] + told.stderr
    return spectrum


@pytest.mark.parametrize("circle", CIRCLES)
def test_every_channel_of_an_exact_circle_holds_what_funhist_counts(event_file, packed, circle):
    ours = our_spectrum(packed, *circle)
    assert ours.sum() > 500
    assert np.array_equal(ours, funhist_spectrum(event_file, *circle))


def test_events_on_the_rim_belong_to_the_circle_for_both(event_file, packed):
    circle, within = (125, 125, 30.0), (125, 125, 30.0 - 1.0 / 4096.0)
    events = read_events(event_file)
    x, y = GRID.sky_from_image(125, 125)
    distance2 = (events["x"].astype(float) - x) ** 2 + (events["y"].astype(float) - y) ** 2
    assert np.sum(distance2 == 120.0**2) >= 6
    assert our_spectrum(packed, *circle).sum() - our_spectrum(packed, *within).sum() >= 6
    assert funhist_spectrum(event_file, *circle).sum() == np.sum(distance2 <= 120.0**2)


# --- random regions of all kinds, each in a cell of its own: funcnts gives an event to the first region that holds it

CELL_PIXEL = 100.0
CELLS = (15, 14)
FIRST_PIXEL = 3300.5


def random_region(rng, kind, x, y):
    """A region file's statements; it stays within 50 pixels of (x, y)."""
    x, y = x + rng.uniform(-5.0, 5.0), y + rng.uniform(-5.0, 5.0)
    large, angle = rng.uniform(10.0, 40.0), rng.uniform(-180.0, 360.0)
    small, inner = large * rng.uniform(0.3, 0.9), rng.uniform(0.2, 0.8)
    at, first = f"{x:.3f},{y:.3f}", rng.uniform(0.0, 360.0)
    last = first + rng.uniform(20.0, 340.0)
    rims = f"{inner * large:.3f},{inner * small:.3f},{large:.3f},{small:.3f}"
    if kind == "polygon":
        turns = np.sort(rng.uniform(0.0, 2.0 * np.pi, rng.integers(3, 9)))
        reach = rng.uniform(10.0, 44.0, len(turns))
        corners = np.column_stack([x + reach * np.cos(turns), y + reach * np.sin(turns)])
        return [f"polygon({','.join(f'{value:.3f}' for value in corners.ravel())})"]
    cut = rng.uniform(-0.8, 0.8, 2) * large
    return {
        "circle": [f"circle({at},{large:.3f})"],
        "ellipse": [f"ellipse({at},{large:.3f},{small:.3f},{angle:.3f})"],
        "box": [f"box({at},{large:.3f},{1.5 * small:.3f},{angle:.3f})"],
        "annulus": [f"annulus({at},{inner * large:.3f},{large:.3f})"],
        "panda": [f"panda({at},{first:.3f},{last:.3f},1,{inner * large:.3f},{large:.3f},1)"],
        "elliptical annulus": [f"ellipse({at},{rims},{angle:.3f})"],
        "box annulus": [f"box({at},{rims},{angle:.3f})"],
        "epanda": [f"epanda({at},{first:.3f},{last:.3f},1,{rims},1,{angle:.3f})"],
        "bpanda": [f"bpanda({at},{first:.3f},{last:.3f},1,{rims},1,{angle:.3f})"],
        "circle without a circle": [
            f"circle({at},{large:.3f})", f"-circle({x + cut[0]:.3f},{y + cut[1]:.3f},{small:.3f})"
        ],
        "ellipse without two boxes": [
            f"ellipse({at},{large:.3f},{small:.3f},{angle:.3f})",
            f"-box({x + cut[0]:.3f},{y:.3f},{small:.3f},{small:.3f},{first:.3f})",
            f"-box({x:.3f},{y + cut[1]:.3f},{small:.3f},9.5,{last:.3f})",
        ],
    }[kind]  # fmt: skip


KINDS = [
    "circle", "ellipse", "box", "annulus", "polygon", "panda", "elliptical annulus", "box annulus", "epanda", "bpanda",
    "circle without a circle", "ellipse without two boxes", "polygon", "circle",
]  # fmt: skip


@pytest.fixture(scope="module")
def random_regions(tmp_path_factory):
    """An event file, 210 regions as their files say, and what funtools finds in them."""
    rng = np.random.default_rng(12)
    folder = tmp_path_factory.mktemp("regions")
    n = 300_000
    x, y = (rng.uniform(FIRST_PIXEL, FIRST_PIXEL + CELL_PIXEL * cells, n).astype(np.float32) for cells in CELLS)
    pi = rng.integers(1, N_CHANNELS + 1, n).astype(np.int32)
    columns = {
        "time": np.linspace(1.0, 9999.0, n), "ccd_id": np.zeros(n, np.int16), "x": x, "y": y, "pi": pi,
        "energy": (14.6 * (pi - 0.5)).astype(np.float32),
    }  # fmt: skip
    step_deg = 0.492 / 3600.0
    write_events(folder / "events.fits", EventList(
        7, columns, 150.0, 22.0, (4096.5, 4096.5), (-step_deg, step_deg), {0: np.array([[0.0, 10_000.0]])}, {0: 1e4},
        header={"INSTRUME": "ACIS", "DETNAM": "ACIS-0", "READMODE": "TIMED", "DATAMODE": "FAINT", "OBS_ID": "7"},
    ))  # fmt: skip
    with fits.open(folder / "events.fits", mode="update") as hdus:
        # funcnts makes a mask of the whole range of x and y for each region: 0.6 s where that is ACIS's.
        header, names = hdus["EVENTS"].header, hdus["EVENTS"].columns.names
        for name, cells in zip("xy", CELLS, strict=True):
            number = names.index(name) + 1
            header[f"TLMIN{number}"], header[f"TLMAX{number}"] = FIRST_PIXEL, FIRST_PIXEL + CELL_PIXEL * cells
    regions = []
    for number in range(CELLS[0] * CELLS[1]):
        row, column = divmod(number, CELLS[0])
        centre = FIRST_PIXEL + CELL_PIXEL * (np.array([column, row]) + 0.5)
        regions.append(random_region(rng, KINDS[number % len(KINDS)], *centre))
    theirs = "physical\n" + "\n".join("".join(region).replace(")-", ")&!") for region in regions) + "\n"
    (folder / "theirs.reg").write_text(theirs)
    return folder, regions


def funtools(folder, *words):
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def our_shapes(folder, region):
    path = folder / "ours.reg"
    path.write_text("physical\n" + "\n".join(region) + "\n")
    return sky_shapes(read_region_file(path), GRID)


def in_cell(number, x, y):
    """Which positions lie in the cell of a region: none of its events are elsewhere."""
    row, column = divmod(number, CELLS[0])
    low_x, low_y = FIRST_PIXEL + CELL_PIXEL * column, FIRST_PIXEL + CELL_PIXEL * row
    return np.flatnonzero((x >= low_x) & (x < low_x + CELL_PIXEL) & (y >= low_y) & (y < low_y + CELL_PIXEL))


def test_every_event_lies_in_the_region_in_which_funtools_puts_it(random_regions):
    folder, regions = random_regions
    events = read_events(folder / "events.fits")
    x, y = events["x"].astype(float), events["y"].astype(float)
    theirs = np.zeros(len(events), int)
    for words in funtools(folder, "fundisp", "events.fits[EVENTS][@theirs.reg]", "$n $region"):
        if len(words) == 2 and words[0].isdigit():
            theirs[int(words[0]) - 1] = int(words[1])
    ours = np.zeros(len(events), int)
    for number, region in enumerate(regions):
        near = in_cell(number, x, y)
        ours[near[inside_shapes(our_shapes(folder, region), x[near], y[near])]] = number + 1
    assert len(regions) >= 200
    assert np.count_nonzero(np.bincount(ours)) == len(regions) + 1
    np.testing.assert_array_equal(ours, theirs)


def test_funcnts_counts_what_lies_in_pixels_whose_centre_is_inside(random_regions):
    """On event files, too, funcnts takes whole sky pixels: events that differ lie in pixels that the rim crosses."""
    folder, regions = random_regions
    events = read_events(folder / "events.fits")
    x, y = events["x"].astype(float), events["y"].astype(float)
    counts, told = np.zeros(len(regions), int), False
    for words in funtools(folder, "funcnts", "events.fits[EVENTS]", "@theirs.reg"):
        told |= words == ["#", "source_data"]
        if told and len(words) == 3 and words[0].isdigit():
            counts[int(words[0]) - 1] = round(float(words[1]))
    centre_x, centre_y = np.floor(x + 0.5), np.floor(y + 0.5)
    ours, differing = np.zeros(len(regions), int), 0
    for number, region in enumerate(regions):
        near, shapes = in_cell(number, x, y), our_shapes(folder, region)
        by_event = inside_shapes(shapes, x[near], y[near])
        by_pixel = inside_shapes(shapes, centre_x[near], centre_y[near])
        ours[number] = by_pixel.sum()
        corners = [
            inside_shapes(shapes, centre_x[near] + dx, centre_y[near] + dy)
            for dx in np.linspace(-0.5, 0.5, 9) for dy in np.linspace(-0.5, 0.5, 9)
        ]  # fmt: skip
        crossed = np.any(corners, axis=0) & ~np.all(corners, axis=0)
        assert np.all(crossed[by_event != by_pixel]), region
        differing += np.count_nonzero(by_event != by_pixel)
        if region[0].startswith("polygon"):
            # Its polygons take some of the crossed pixels whose centre is outside.
            assert (by_pixel & ~crossed).sum() <= counts[number] <= (by_pixel | crossed).sum(), region
            ours[number] = counts[number]
    assert differing > 1000
    np.testing.assert_array_equal(ours, counts)
