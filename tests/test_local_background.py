"""A background from the observation itself: level by area, each event used once, no blank-sky file needed."""

import dataclasses

import numpy as np
import pytest
from acis_events import observation
from test_prep_stages import context_of, draw, put_observations, run

from cpxt_hpc.config import BackgroundSection
from cpxt_hpc.errors import ConfigError, DataError
from cpxt_hpc.io.background_model import read_background_model
from cpxt_hpc.io.events import read_events
from cpxt_hpc.io.images import read_image
from cpxt_hpc.science.background import background_scales, blank_sky_weights
from cpxt_hpc.science.background_groups import detector_groups
from cpxt_hpc.science.exposure import exposure_images_by_ccd
from cpxt_hpc.science.grid import grid_covering
from cpxt_hpc.science.local_background import local_blank_sky, local_scales
from cpxt_hpc.stages import clean, crop, merge

LOCAL = BackgroundSection(source="local", local_region="local.reg")


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(11)
    events = observation(rng, n=60_000)
    grid = grid_covering(events.ra_deg, events.dec_deg, events["x"], events["y"])
    exposures = exposure_images_by_ccd(events, grid)
    area = np.zeros(grid.shape, dtype=bool)
    area[:, : grid.nx // 3] = True
    return events, exposures, area, grid


def test_every_event_of_the_area_is_used_once(scene):
    events, exposures, area, grid = scene
    local = local_blank_sky(events, exposures, area, grid, np.random.default_rng(1))
    inside = area.ravel()[grid.pixel_index(events["x"], events["y"])]
    assert sorted(local["energy"].tolist()) == sorted(events["energy"][inside].tolist())
    assert not local.good_times
    exposed = sum(exposures.values()).ravel()[grid.pixel_index(local["x"], local["y"])]
    assert np.all(exposed > 0.0)


def test_level_is_the_ratio_of_the_exposed_areas(scene):
    events, exposures, area, grid = scene
    local = local_blank_sky(events, exposures, area, grid, np.random.default_rng(1))
    whole = sum(exposures.values())
    chosen = np.ones(len(local), dtype=bool)
    scale = local_scales(events, local, detector_groups(events.ccds), chosen)["FI"]
    assert scale.value * blank_sky_weights(events, local)[0] == pytest.approx(whole.sum() / whole[area].sum())
    assert scale.error / scale.value == pytest.approx(1.0 / np.sqrt(len(local)))
    # The field is even: the particle band says the same within its Poisson error.
    hard = background_scales(events, local)["FI"]
    assert scale.level == pytest.approx(1.0, abs=3.0 * hard.error / hard.value)


def test_expected_background_is_that_of_the_field(scene):
    events, exposures, area, grid = scene
    local = local_blank_sky(events, exposures, area, grid, np.random.default_rng(1))
    scale = local_scales(events, local, detector_groups(events.ccds), np.ones(len(local), dtype=bool))["FI"]
    # 20,000 events: 0.7 %.
    assert scale.value * len(local) == pytest.approx(len(events), rel=0.025)


def test_an_area_without_events_of_a_chip_group_is_refused(scene):
    events, exposures, area, grid = scene
    with pytest.raises(DataError, match=r"holds 0 events on CCD 0, 1, 2, 3 \(FI\); at least 100"):
        local_blank_sky(events, exposures, np.zeros_like(area), grid, np.random.default_rng(1))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    layout = put_observations(tmp_path_factory.mktemp("local"))
    for obsid in (7, 8):
        (layout.observation(obsid).repro / f"blanksky_{obsid}.fits").unlink()
    draw(layout, **{"local.reg": 'circle(150.1,22.1,300")\ncircle(149.92,21.93,300")'})
    context = context_of(layout, background=LOCAL)
    run(context, merge.STAGE, clean.STAGE, crop.STAGE)
    return context


def test_stages_need_no_blank_sky_file(prepared):
    for obsid in (7, 8):
        assert not prepared.layout.observation(obsid).background_events.exists()
        assert read_events(prepared.layout.observation(obsid).clean_background_events).ccds == (0, 1, 2, 3)


def test_local_background_equals_the_counts_of_a_field_of_background(prepared):
    counts, background = (read_image(path)[0].sum() for path in (prepared.layout.counts, prepared.layout.background))
    # Two areas of 300 arcsec hold 0.4 of the field, 17,000 events: 0.8 %, and the counts as much.
    assert counts == pytest.approx(background, rel=0.04)


def test_local_background_is_as_flat_as_the_exposure(prepared):
    for obsid in (7, 8):
        model = read_background_model(prepared.layout.observation(obsid).background_model)
        exposure, full, _ = read_image(prepared.layout.observation(obsid).clean_exposure)
        rows = round((model.grid.sky_y0 - full.sky_y0) / full.binning)
        columns = round((model.grid.sky_x0 - full.sky_x0) / full.binning)
        part = exposure[rows : rows + model.grid.ny, columns : columns + model.grid.nx]
        image = model.images["FI"]
        inside = image > 0.0
        np.testing.assert_allclose(image[inside] / part[inside], image[inside].sum() / part[inside].sum(), rtol=1e-4)


def test_a_local_background_without_a_region_file_says_what_to_draw(prepared):
    context = dataclasses.replace(
        prepared, config=dataclasses.replace(prepared.config, background=BackgroundSection(source="local"))
    )
    with pytest.raises(ConfigError, match=r"source = local needs local_region = FILE"):
        clean.STAGE.needs(context)
