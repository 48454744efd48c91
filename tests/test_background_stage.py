"""The background of stage 4: groups of CCDs as set, what is reported, and where it is off the cluster."""

import csv
import dataclasses

import numpy as np
import pytest
from test_prep_stages import context_of, draw, put_observations, run

from cpxt_hpc.config import BackgroundSection
from cpxt_hpc.io.background_model import read_background_model
from cpxt_hpc.io.images import read_image
from cpxt_hpc.io.region_files import region_mask
from cpxt_hpc.stages import background, clean, crop, merge

FAINT_CCD = 2


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """CCD 2 of the observation has three quarters of the background of the others."""

    def dim(events, blank):
        kept = (events["ccd_id"] != FAINT_CCD) | (np.arange(len(events)) % 4 != 0)
        header = {**blank.header, "CVSD0001": "2009-09-21T00:00:00"}
        return events.select(kept), dataclasses.replace(blank, header=header)

    layout = put_observations(tmp_path_factory.mktemp("uneven"), obsids=(8,), change=dim)
    draw(layout, **{"master_crop-ciaowcs.reg": 'box(150.03,22.02,400",400",20)'})
    run(context_of(layout, obsids=(8,)), merge.STAGE, clean.STAGE)
    return layout


def cropped(layout, **settings):
    context = context_of(layout, obsids=(8,), background=BackgroundSection(**settings))
    run(context, crop.STAGE)
    with open(layout.background_table, encoding="utf-8") as stream:
        return read_background_model(layout.observation(8).background_model), list(csv.DictReader(stream))


def test_each_ccd_has_its_own_level(prepared):
    model, rows = cropped(prepared, groups="ccd")
    assert list(model.images) == ["CCD0", "CCD1", "CCD2", "CCD3"]
    levels = {row["group"]: float(row["level"]) for row in rows}
    for name, level in levels.items():
        error = model.scales[name].error / model.scales[name].value
        expected = 0.75 if name == "CCD2" else 1.0
        # To the mean of the other three; 2.3 % from 3000 counts in the particle band.
        others = np.mean([levels[other] for other in levels if other not in (name, "CCD2")])
        assert level / others == pytest.approx(expected, abs=4.0 * error)
    assert float(rows[2]["level_ratio"]) == pytest.approx(levels["CCD2"] / levels["CCD0"], rel=1e-4)


def test_the_groups_of_ccds_do_not_overlap_and_fill_the_map(prepared):
    model, _ = cropped(prepared, groups="ccd")
    mask = read_image(prepared.mask)[0] > 0
    images = np.array(list(model.images.values()))
    assert np.array_equal(images.sum(axis=0) > 0.0, mask)
    # Only where the dither carries two chips over a pixel are there two.
    assert np.mean((images > 0.0).sum(axis=0)[mask] > 1) < 0.2


def test_auto_takes_a_ccds_own_level_and_template_where_its_counts_suffice(prepared, monkeypatch):
    model, _ = cropped(prepared)
    front = (0, 1, 2, 3)
    described = [(group.name, group.level_ccds, group.shape_ccds) for group in model.groups]
    assert described == [(f"CCD{ccd}", (ccd,), front) for ccd in front]
    # The map covers a corner of CCD 0 only.
    monkeypatch.setattr(background, "OWN_TEMPLATE_COUNTS", 20)
    model, rows = cropped(prepared)
    assert [group.shape_ccds for group in model.groups] == [front, (1,), (2,), (3,)]
    assert [row["shape_ccds"] for row in rows] == ["0 1 2 3", "1", "2", "3"]


def test_off_the_cluster_is_exposed_and_outside_of_crop_exclude_and_sources(prepared):
    cropped(prepared)
    off, grid, _ = read_image(prepared.off_cluster)
    off = off > 0
    for path in (prepared.crop, prepared.exclude):
        assert not off[region_mask(path, grid, mode="centre")].any()
    assert not off[read_image(prepared.source_mask)[0] == 0].any()
    exposure = read_image(prepared.observation(8).clean_exposure)[0]
    assert np.all(exposure[off] > 0.01 * exposure.max())
    assert off.sum() > 0.5 * np.count_nonzero(exposure)


def test_the_table_tells_what_a_referee_asks(prepared):
    _, (row,) = cropped(prepared, groups="detector")
    assert (row["obsid"], row["group"], row["ccds"], row["level_ccds"]) == ("8", "FI", "0 1 2 3", "0 1 2 3")
    assert (row["datamode"], row["vfaint_cleaned"], row["blank_epoch"]) == ("VFAINT", "no", "2009-09-21T00:00:00")
    assert float(row["blank_exposure_s"]) == pytest.approx(1e5)
    # The field is background only; the level is that of four chips, one of which is fainter.
    assert abs(float(row["sigma_5_7_kev"])) < 4.0
    assert abs(float(row["excess_9p5_12_kev"])) < 0.05
