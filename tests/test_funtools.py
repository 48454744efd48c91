"""Spectra in exact circles against funtools' funhist, an independent program that cuts events as dmextract does.

``bash jobscripts/test.sh --system`` installs it where it can.
"""

import shutil
import subprocess

import numpy as np
import pytest

from cpxt_hpc.io.events import read_events, write_events
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.grid import PixelGrid
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
