"""Where a person must draw, DS9 opens on the right image, or the person is told; nothing ever waits for it."""

import time

import numpy as np
import pytest
from ds9 import needs_ds9, run_ds9

from cpxt_hpc.io.images import write_image
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.io.region_files import read_region_file
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.stages.base import RegionRequest, StageContext
from cpxt_hpc.stages.clean import STAGE as CLEAN
from cpxt_hpc.stages.crop import CROP
from cpxt_hpc.stages.drawing import ask_to_draw, ds9_words, open_ds9
from cpxt_hpc.stages.surroundings import BATCH_VARIABLES

GRID = PixelGrid(150.1163, 22.2058, 3896.5, 3796.5, 100, 120, 4)


@pytest.fixture
def screen(monkeypatch, tmp_path):
    """A DISPLAY, and a DS9 that only writes down how it was called and then stays for ever."""
    for name in (*BATCH_VARIABLES, "CPXT_NO_DS9", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":99")
    program = tmp_path / "bin" / "ds9"
    program.parent.mkdir()
    called, ended = tmp_path / "called", tmp_path / "ended"
    program.write_text(
        f'#!/bin/sh\n{{ pwd; for word; do echo "$word"; done; }} > "{called}.new"\nmv "{called}.new" "{called}"\n'
        f'while [ ! -e "{ended}" ]; do sleep 0.1; done\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    yield called
    ended.touch()


@pytest.fixture
def context(tmp_path):
    folder = tmp_path / "my data [1]" / "A"
    layout = ClusterLayout(folder, "A")
    for path in (layout.broad_flux, layout.surface_brightness_nosrc):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, np.ones(GRID.shape), GRID, unit="count")
    layout.ini.write_text("[cluster]\nname = A\nobservation_ids = 1\n")
    return StageContext(read_config(layout.ini), layout, open_images=True)


def words_of(called):
    deadline = time.monotonic() + 60.0
    while not called.is_file():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return called.read_text().splitlines()


def test_ds9_opens_on_each_image_once_and_is_not_waited_for(screen, context):
    message = ask_to_draw("stage 2 (clean)", [*CLEAN.regions, CROP], context)
    assert "DS9 opens" in message
    folder, *words = words_of(screen)
    assert folder == str(context.layout.folder)
    assert words == ds9_words(["A_broad_flux.img", "main_output/A_xray_surface_brightness_nosrc.fits"])[1:]
    for request in (*CLEAN.regions, CROP):
        assert request.what in message
        assert f"save as: {request.target(context)}\n" in message
    assert isinstance(CROP, RegionRequest)


@pytest.mark.parametrize(
    ("name", "value"),
    [("CPXT_NO_DS9", "1"), ("DISPLAY", ""), ("PATH", "/nowhere"), *((name, "1") for name in BATCH_VARIABLES)],
)
def test_ds9_stays_closed_where_it_cannot_or_must_not_open(screen, context, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert "DS9 opens" not in ask_to_draw("stage 4 (crop)", [CROP], context)
    assert not screen.exists()


def test_ds9_stays_closed_where_it_is_not_wanted_or_has_nothing_to_show(screen, context):
    quiet = StageContext(context.config, context.layout)
    assert "DS9 opens" not in ask_to_draw("stage 4 (crop)", [CROP], quiet)
    context.layout.surface_brightness_nosrc.unlink()
    assert "DS9 opens" not in ask_to_draw("stage 4 (crop)", [CROP], context)
    assert not screen.exists()


def test_a_ds9_that_cannot_start_is_no_error(screen, context, tmp_path, caplog):
    assert not open_ds9([context.layout.broad_flux], tmp_path / "gone")
    assert "could not be started" in caplog.text


@needs_ds9
def test_what_is_drawn_in_the_ds9_that_opens_is_saved_in_sky_pixels(context):
    folder = context.layout.folder
    words = ds9_words(["A_broad_flux.img"])[1:]
    (folder / "drawn.reg").write_text("image\ncircle(51.375,63.875,7.575)\n")
    run_ds9(folder, *words, "-regions", "load", "drawn.reg", "-regions", "save", "x.reg")
    shape = read_region_file(folder / "x.reg")[0]
    assert shape.positions == (("physical", 4100.0, 4050.0),)
    assert shape.lengths == (("physical", 30.3),)
