"""Stages 1, 2 and 4 on small observations: every image agrees with the events, every number with the truth."""

import dataclasses
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from acis_events import START_S, blank_sky, observation, pointing

from cpxt_hpc.config import BackgroundSection, CleanSection, ClusterConfig, ClusterSection
from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io.background_model import read_background_model
from cpxt_hpc.io.events import read_events, write_events
from cpxt_hpc.io.images import read_image, read_images, write_images
from cpxt_hpc.io.light_curves import read_light_curves
from cpxt_hpc.io.region_files import region_mask
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.background import blank_sky_images
from cpxt_hpc.science.good_times import total_time
from cpxt_hpc.science.grid import sky_wcs
from cpxt_hpc.science.images import band_channels
from cpxt_hpc.science.pointing import angular_separation_deg, mean_direction
from cpxt_hpc.stages import clean, crop, merge
from cpxt_hpc.stages.base import StageContext

LOOKS = {7: pointing(ra=150.0, dec=22.0, roll=30.0), 8: pointing(ra=150.03, dec=22.02, roll=200.0)}
FLARE = (5000.0, 6400.0, 5.0)
SHAPES = {
    "sources.reg": 'circle(150.02,22.01,12")\ncircle(149.95,22.05,8.5")',
    "exclude.reg": 'circle(150.0,22.0,60")',
    "master_crop-ciaowcs.reg": 'box(150.01,22.01,700",600",20)',
}


def put_observations(folder, *, obsids=(7, 8), change=None):
    """Observation 7 has a flare and lost frames on CCD 1; both carry the columns of real files."""
    layout = ClusterLayout(folder, "a")
    for obsid in obsids:
        rng = np.random.default_rng(obsid)
        good_times = {ccd: START_S + np.array([[0.0, 20_000.0]]) for ccd in (3, 0, 1, 2)}
        if obsid == 7:
            good_times[1] = START_S + np.array([[0.0, 12_000.0], [12_500.0, 20_000.0]])
        events = observation(
            rng, obsid=obsid, n=60_000, look=LOOKS[obsid], good_times=good_times, flare=FLARE if obsid == 7 else None
        )
        blank = blank_sky(rng, obsid=obsid, n=150_000, look=LOOKS[obsid])
        if change is not None:
            events, blank = change(events, blank)
        repro = layout.observation(obsid).repro
        write_events(repro / f"acisf{obsid:05d}_repro_evt2.fits", events)
        write_events(repro / f"blanksky_{obsid}.fits", blank)
    return layout


def context_of(layout, *, obsids=(7, 8), **sections):
    sections = {"background": BackgroundSection(groups="detector"), **sections}
    return StageContext(ClusterConfig(layout.ini, ClusterSection("a", obsids), **sections), layout)


def draw(layout, **shapes):
    for name, text in {**SHAPES, **shapes}.items():
        (layout.folder / name).write_text(f"# Region file format: DS9 version 4.1\nfk5\n{text}\n")


def run(context, *stages):
    for stage in stages:
        needs = [*stage.needs(context), *(request.find(context) for request in stage.regions)]
        assert all(path.is_file() for path in needs)
        stage.run(context)
        assert all(path.is_file() for path in stage.makes(context))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    layout = put_observations(tmp_path_factory.mktemp("cluster"))
    draw(layout)
    context = context_of(layout)
    run(context, merge.STAGE, clean.STAGE, crop.STAGE)
    return context


def read_pair(layout, obsid, *, cleaned=True):
    each = layout.observation(obsid)
    paths = (each.clean_events, each.clean_background_events) if cleaned else (each.events, each.background_events)
    return tuple(read_events(path) for path in paths)


# --- stage 1


def test_events_move_to_the_mean_pointing_without_moving_on_the_sky(prepared):
    layout = prepared.layout
    tangent = mean_direction(*np.transpose([(look.ra_deg, look.dec_deg) for look in LOOKS.values()]))
    for obsid in (7, 8):
        before = read_events(layout.observation(obsid).repro / f"acisf{obsid:05d}_repro_evt2.fits")
        after, _ = read_pair(layout, obsid, cleaned=False)
        assert (after.ra_deg, after.dec_deg) == pytest.approx(tangent, abs=1e-9)
        assert after.reference_pixel == (4096.5, 4096.5)
        # Both files hold the same events in the same order, 0.05-12.1 keV: all of them.
        old, new = (np.array(each.wcs().all_pix2world(each["x"], each["y"], 1)) for each in (before, after))
        offset_pixel = np.hypot((old - new)[0] * np.cos(np.radians(22.0)), (old - new)[1]) * 3600.0 / 0.492
        assert offset_pixel.max() < 0.01


def test_one_observation_keeps_its_own_tangent_plane(tmp_path):
    layout = put_observations(tmp_path, obsids=(8,))
    run(context_of(layout, obsids=(8,)), merge.STAGE)
    events, _ = read_pair(layout, 8, cleaned=False)
    before = read_events(layout.observation(8).repro / "acisf00008_repro_evt2.fits")
    assert (events.ra_deg, events.dec_deg) == (150.03, 22.02)
    assert np.allclose(events["x"], before["x"], atol=0.001)


def test_all_images_share_one_grid_that_holds_every_event(prepared):
    layout = prepared.layout
    _, grid, _ = read_image(layout.broad_flux)
    paths = [layout.broad_counts, layout.broad_background, layout.merged_exposure, layout.source_mask]
    paths += [layout.surface_brightness_nosrc]
    paths += [p for o in (7, 8) for p in (layout.observation(o).exposure, layout.observation(o).clean_exposure)]
    assert all(read_image(path)[1] == grid for path in paths)
    for obsid in (7, 8):
        for events in read_pair(layout, obsid, cleaned=False):
            assert np.all(grid.pixel_index(events["x"], events["y"]) >= 0)


def test_flux_is_counts_less_background_over_exposure(prepared):
    layout = prepared.layout
    names = (layout.broad_flux, layout.broad_counts, layout.broad_background, layout.merged_exposure)
    flux, counts, background, exposure = (read_image(path)[0] for path in names)
    exposed = exposure > 0
    assert np.allclose(flux[exposed], ((counts - background) / np.where(exposed, exposure, 1.0))[exposed], rtol=1e-4)
    assert not flux[~exposed].any()
    # The field is nothing but background: what is left is noise.
    assert counts.sum() == pytest.approx(background.sum(), rel=0.03)


def test_events_outside_the_good_times_of_their_ccd_are_left_out(tmp_path, caplog):
    def lose_time(events, blank):
        times = dict(events.good_times)
        times[0] = START_S + np.array([[0.0, 15_000.0]])
        return dataclasses.replace(events, good_times=times), blank

    layout = put_observations(tmp_path, obsids=(8,), change=lose_time)
    with caplog.at_level(logging.INFO):
        run(context_of(layout, obsids=(8,)), merge.STAGE)
    events, _ = read_pair(layout, 8, cleaned=False)
    assert events["time"][events["ccd_id"] == 0].max() < START_S + 15_000.0
    assert "events outside the good times left out" in caplog.text
    assert "CCD 0: EXPOSURE is 19739 s, but good times x DTCOR 14804 s" in caplog.text


@pytest.mark.parametrize("applied", [True, False])
def test_vfaint_cleaning_of_the_blank_sky_follows_the_observation(tmp_path, applied):
    def mark(events, blank):
        status = (np.arange(len(blank)) % 3 == 0).astype(np.uint32)
        blank = dataclasses.replace(blank, columns={**blank.columns, "status": status})
        return dataclasses.replace(events, header={**events.header, "CHKVFPHA": applied}), blank

    layout = put_observations(tmp_path, obsids=(8,), change=mark)
    run(context_of(layout, obsids=(8,)), merge.STAGE)
    _, blank = read_pair(layout, 8, cleaned=False)
    assert len(blank) == (100_000 if applied else 150_000)


def test_chips_of_the_other_array_are_left_out(tmp_path):
    def with_s2(events, blank):
        ccd_id = np.where(np.arange(len(events)) % 50 == 0, 6, events["ccd_id"]).astype(np.int16)
        times = {**events.good_times, 6: events.good_times[0]}
        exposure = {**events.exposure_s, 6: events.exposure_s[0]}
        columns = {**events.columns, "ccd_id": ccd_id}
        return dataclasses.replace(events, columns=columns, good_times=times, exposure_s=exposure), blank

    layout = put_observations(tmp_path, obsids=(8,), change=with_s2)
    run(context_of(layout, obsids=(8,)), merge.STAGE)
    assert read_pair(layout, 8, cleaned=False)[0].ccds == (0, 1, 2, 3)


def test_blank_sky_in_another_frame_is_refused(tmp_path):
    def shift(events, blank):
        return events, dataclasses.replace(blank, columns={**blank.columns, "x": blank["x"] + 600.0})

    layout = put_observations(tmp_path, obsids=(8,), change=shift)
    with pytest.raises(DataError, match=r"% of the blank-sky events lie off the observation's CCDs"):
        run(context_of(layout, obsids=(8,)), merge.STAGE)


def test_blank_sky_that_was_never_reprojected_is_refused(tmp_path):
    def raw(events, blank):
        return events, dataclasses.replace(blank, ra_deg=0.0, dec_deg=0.0)

    layout = put_observations(tmp_path, obsids=(8,), change=raw)
    with pytest.raises(DataError, match=r"100 % of the blank-sky events lie off the observation's CCDs"):
        run(context_of(layout, obsids=(8,)), merge.STAGE)


def test_observation_of_another_part_of_the_sky_is_refused(tmp_path):
    def point_away(events, blank):
        return (dataclasses.replace(each, dec_deg=22.0 + 5.0 * (events.obsid - 7)) for each in (events, blank))

    layout = put_observations(tmp_path, change=point_away)
    with pytest.raises(DataError, match=r"points 2\.5 degrees away from the mean of all pointings"):
        run(context_of(layout), merge.STAGE)


@pytest.mark.parametrize("rows", [(385, 640), (897, 1023)], ids=["middle", "quarter at the top"])
def test_blank_sky_of_a_sub_array_is_cut_to_its_rows(tmp_path, rows):
    def read_out(events, blank):
        first, last = rows
        return events.select((events["chipy"] >= first) & (events["chipy"] <= last)), blank

    layout = put_observations(tmp_path, obsids=(8,), change=read_out)
    run(context_of(layout, obsids=(8,)), merge.STAGE)
    events, blank = read_pair(layout, 8, cleaned=False)
    assert (blank["chipy"].min(), blank["chipy"].max()) == (events["chipy"].min(), events["chipy"].max())
    background, exposure = (read_image(path)[0] for path in (layout.broad_background, layout.merged_exposure))
    # Both bands are counted on the same rows.
    hard, broad = (
        (np.count_nonzero(events.in_energy(*band)), np.count_nonzero(blank.in_energy(*band)))
        for band in ((9500.0, 12_000.0), (500.0, 7000.0))
    )
    assert background.sum() == pytest.approx(broad[1] * hard[0] / hard[1], rel=1e-3)
    assert background.sum() == pytest.approx(broad[0], rel=4 * np.sqrt(1 / hard[0] + 1 / hard[1] + 1 / broad[0]))
    area = exposure.sum() / exposure.max() * 16.0
    assert area == pytest.approx(4 * 1022 * (rows[1] - rows[0] + 1), rel=0.03)


def test_ccd_without_blank_sky_is_left_out_with_a_warning(tmp_path, caplog):
    def drop(events, blank):
        kept = blank.select(blank["ccd_id"] != 2)
        return events, dataclasses.replace(kept, exposure_s={0: 1e5, 1: 1e5, 3: 1e5})

    layout = put_observations(tmp_path, obsids=(8,), change=drop)
    run(context_of(layout, obsids=(8,)), merge.STAGE)
    assert read_pair(layout, 8, cleaned=False)[0].ccds == (0, 1, 3)
    assert "ObsID 8: CCD 2 left out" in caplog.text


def test_blank_sky_without_any_ccd_in_use_is_refused(tmp_path):
    def other(events, blank):
        columns = {**blank.columns, "ccd_id": np.full(len(blank), 7, dtype=np.int16)}
        return events, dataclasses.replace(blank, columns=columns, exposure_s={7: 1e5})

    layout = put_observations(tmp_path, obsids=(8,), change=other)
    with pytest.raises(DataError, match="no CCD can be used"):
        run(context_of(layout, obsids=(8,)), merge.STAGE)


def test_same_input_gives_the_same_bytes(tmp_path):
    layouts = [put_observations(tmp_path / name, obsids=(8,)) for name in ("one", "two")]
    for layout in layouts:
        run(context_of(layout, obsids=(8,)), merge.STAGE)
    for path in merge.STAGE.makes(context_of(layouts[0], obsids=(8,))):
        twin = layouts[1].folder / path.relative_to(layouts[0].folder)
        assert path.read_bytes() == twin.read_bytes(), path.name


def test_mean_direction_crosses_zero_hours_and_the_pole():
    assert mean_direction([359.0, 1.0], [0.0, 0.0]) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert mean_direction([10.0, 190.0], [89.0, 89.0])[1] == pytest.approx(90.0)
    assert angular_separation_deg([359.0, 10.0], [0.0, 90.0], 1.0, 0.0) == pytest.approx([2.0, 90.0])


# --- stage 2


def test_no_event_lies_in_a_masked_pixel_and_all_others_stay(prepared):
    layout = prepared.layout
    mask, grid, _ = read_image(layout.source_mask)
    assert np.array_equal(mask == 0, region_mask(layout.sources, grid, mode="touch"))
    assert np.count_nonzero(mask == 0) > 100
    for obsid in (7, 8):
        cleaned, blank = read_pair(layout, obsid)
        _, blank_before = read_pair(layout, obsid, cleaned=False)
        for each in (cleaned, blank):
            assert np.all(mask.ravel()[grid.pixel_index(each["x"], each["y"])] == 1)
        kept = mask.ravel()[grid.pixel_index(blank_before["x"], blank_before["y"])] == 1
        assert len(blank) == np.count_nonzero(kept)
        exposure = read_image(layout.observation(obsid).clean_exposure)[0]
        assert not exposure[mask == 0].any()
        assert np.all(exposure.ravel()[grid.pixel_index(cleaned["x"], cleaned["y"])] > 0.0)


def test_flare_is_cut_and_quiet_time_kept(prepared):
    layout = prepared.layout
    for obsid in (7, 8):
        before, _ = read_pair(layout, obsid, cleaned=False)
        cleaned, _ = read_pair(layout, obsid)
        flare = START_S + np.array(FLARE[:2]) if obsid == 7 else np.array([0.0, 0.0])
        for ccd, intervals in cleaned.good_times.items():
            inside = np.clip(intervals, *flare)
            assert total_time(inside) == 0.0
            quiet = total_time(before.good_times[ccd]) - (flare[1] - flare[0])
            assert total_time(intervals) >= 0.95 * quiet


def test_exposures_are_good_times_and_dead_time(prepared):
    for obsid in (7, 8):
        cleaned, _ = read_pair(prepared.layout, obsid)
        each = prepared.layout.observation(obsid)
        exposures, _, _ = read_images(each.clean_exposure)
        before, _, _ = read_images(each.exposure)
        mask = read_image(prepared.layout.source_mask)[0] == 1
        for ccd, seconds in cleaned.exposure_s.items():
            assert seconds == pytest.approx(total_time(cleaned.good_times[ccd]) * cleaned.dtcor)
            old = read_pair(prepared.layout, obsid, cleaned=False)[0].exposure_s[ccd]
            expected = before[f"CCD{ccd}"] * seconds / old * mask
            assert np.allclose(exposures[f"CCD{ccd}"], expected, rtol=1e-5)
        assert np.allclose(read_image(each.clean_exposure)[0], sum(exposures.values()), rtol=1e-5)


def test_lost_frames_stay_lost_on_their_ccd_alone(prepared):
    cleaned, _ = read_pair(prepared.layout, 7)
    assert cleaned.exposure_s[0] - cleaned.exposure_s[1] == pytest.approx(500.0 * cleaned.dtcor)


def test_light_curve_table_tells_what_was_cut(prepared):
    each = prepared.layout.observation(7)
    table = read_light_curves(each.light_curve)
    cut = ~table["kept"]
    lost = total_time(read_pair(prepared.layout, 7, cleaned=False)[0].good_times[0]) - total_time(
        read_events(each.clean_events).good_times[0]
    )
    assert table["timedel"][cut].sum() == pytest.approx(lost)
    assert set(table["pass"]) == {1, 2}
    assert table["energy_lo"][table["pass"] == 2] == pytest.approx(0.3)


def test_flare_in_soft_energies_is_cut_by_the_second_pass(tmp_path):
    def soften(events, blank):
        flare = (events["time"] >= START_S + FLARE[0]) & (events["time"] < START_S + FLARE[1])
        # Four of five events of the flare, its excess over the quiet rate, move below 8.4 keV.
        moved = flare & (np.arange(len(events)) % 5 != 0)
        energy = np.where(moved, events["energy"] * 0.7, events["energy"]).astype(np.float32)
        return dataclasses.replace(events, columns={**events.columns, "energy": energy}), blank

    layout = put_observations(tmp_path, obsids=(7,), change=soften)
    draw(layout)
    run(context_of(layout, obsids=(7,), clean=CleanSection(nsigma=6.0)), merge.STAGE, clean.STAGE)
    table = read_light_curves(layout.observation(7).light_curve)
    assert np.count_nonzero(~table["kept"] & (table["pass"] == 2)) >= 4
    cleaned = read_events(layout.observation(7).clean_events)
    assert total_time(np.clip(cleaned.good_times[0], START_S + FLARE[0], START_S + FLARE[1])) < 300.0


def test_method_none_keeps_all_times(tmp_path):
    layout = put_observations(tmp_path, obsids=(7,))
    draw(layout)
    run(context_of(layout, obsids=(7,), clean=CleanSection(method="none")), merge.STAGE, clean.STAGE)
    before, _ = read_pair(layout, 7, cleaned=False)
    assert read_pair(layout, 7)[0].exposure_s == pytest.approx(before.exposure_s)


def test_method_clean_that_fails_names_observation_and_band(tmp_path):
    layout = put_observations(tmp_path, obsids=(8,))
    draw(layout)
    context = context_of(layout, obsids=(8,), clean=CleanSection(method="clean", bin_length_s=3.0, scale=1.01))
    run(context, merge.STAGE)
    with pytest.raises(DataError, match=r"ObsID 8, 9-12 keV: flare cleaning with method = clean leaves"):
        clean.STAGE.run(context)


def test_sources_over_the_whole_field_are_refused(tmp_path):
    layout = put_observations(tmp_path, obsids=(8,))
    draw(layout, **{"sources.reg": "circle(150.0,22.0,3000\")"})
    context = context_of(layout, obsids=(8,))
    run(context, merge.STAGE)
    with pytest.raises(DataError, match="cover the whole image"):
        clean.STAGE.run(context)


# --- stage 4


def test_cropped_images_agree_pixel_by_pixel(prepared):
    layout = prepared.layout
    mask, grid, _ = read_image(layout.mask)
    counts, background, exposure = (read_image(p)[0] for p in (layout.counts, layout.background, layout.exposure))
    assert all(read_image(p)[1] == grid for p in (layout.counts, layout.background, layout.exposure))
    inside = mask == 1
    assert np.all(exposure[inside] > 0.01 * exposure.max())
    for image in (counts, background, exposure):
        assert not image[~inside].any()
    assert np.all(background[inside] > 0.0)
    assert mask.any(axis=0)[[0, -1]].all()
    assert mask.any(axis=1)[[0, -1]].all()
    total = np.zeros(grid.shape)
    for obsid in (7, 8):
        events, _ = read_pair(layout, obsid)
        first, last = band_channels(0.7, 8.0)
        chosen = events.select((events["pi"] >= first) & (events["pi"] <= last))
        total += np.where(inside, grid.counts_image(chosen["x"], chosen["y"]), 0)
    assert np.array_equal(counts, total)


def test_mask_is_the_crop_where_exposed_without_sources(prepared):
    layout = prepared.layout
    mask, grid, _ = read_image(layout.mask)
    full_mask, full_grid, _ = read_image(layout.source_mask)
    x, y = grid.sky_from_image(*np.meshgrid(np.arange(grid.nx), np.arange(grid.ny)))
    index = full_grid.pixel_index(x, y)
    exposure = sum(read_image(layout.observation(o).clean_exposure)[0] for o in (7, 8))
    expected = (
        region_mask(layout.crop, grid, mode="centre")
        & (full_mask.ravel()[index] == 1)
        & (exposure.ravel()[index] > 0.01 * exposure.max())
    )
    assert np.array_equal(mask == 1, expected)


def test_background_model_sums_to_the_scaled_blank_sky(prepared):
    layout = prepared.layout
    mask, grid, _ = read_image(layout.mask)
    combined = read_image(layout.background)[0]
    first, last = band_channels(0.7, 8.0)
    total = np.zeros(grid.shape)
    for obsid in (7, 8):
        events, blank = read_pair(layout, obsid)
        images, scales, _, model_grid = read_background_model(layout.observation(obsid).background_model)
        assert (list(images), model_grid) == (["FI"], grid)
        chosen = (blank["pi"] >= first) & (blank["pi"] <= last)
        blank_counts = np.where(mask, blank_sky_images(events, blank, grid, chosen)["FI"], 0.0).sum()
        assert images["FI"].sum() == pytest.approx(scales["FI"].value * blank_counts, rel=3.0 / np.sqrt(blank_counts))
        total += images["FI"]
    assert np.allclose(combined, total, rtol=1e-5)


def test_background_equals_the_counts_of_a_field_of_background(prepared):
    layout = prepared.layout
    counts, background = (read_image(path)[0].sum() for path in (layout.counts, layout.background))
    # 0.8 % Poisson, 1.5 % from the scale.
    assert counts == pytest.approx(background, rel=0.04)


def test_chips_of_acis_s_get_a_scale_and_a_model_by_group(tmp_path):
    renamed = {0: 6, 1: 7, 2: 8, 3: 5}
    table = np.array([6, 7, 8, 5], dtype=np.int16)

    def to_acis_s(*pair):
        for each in pair:
            kept = each["ccd_id"] >= 0
            if each.good_times:
                # The back-illuminated chips have half the background here: their scale must say so.
                kept = ~np.isin(each["ccd_id"], (1, 3)) | (np.arange(len(each)) % 2 == 0)
            columns = {name: column[kept] for name, column in each.columns.items()}
            columns["ccd_id"] = table[columns["ccd_id"]]
            yield dataclasses.replace(
                each, columns=columns, header={**each.header, "SIM_Z": -190.14},
                good_times={renamed[ccd]: times for ccd, times in each.good_times.items()},
                exposure_s={renamed[ccd]: time for ccd, time in each.exposure_s.items()},
            )  # fmt: skip

    layout = put_observations(tmp_path, obsids=(8,), change=to_acis_s)
    draw(layout)
    run(context_of(layout, obsids=(8,)), merge.STAGE, clean.STAGE, crop.STAGE)
    images, scales, _, _ = read_background_model(layout.observation(8).background_model)
    assert list(images) == ["BI5", "FI", "BI7"]
    level = (60_000 / (20_000 * 0.98693)) / (150_000 / 100_000)
    for group, expected in (("FI", level), ("BI5", level / 2), ("BI7", level / 2)):
        error = scales[group].error * scales[group].level / scales[group].value
        assert scales[group].level == pytest.approx(expected, abs=3.5 * error)
    total = sum(images.values())
    assert np.array_equal(total > 0.0, read_image(layout.mask)[0] == 1)
    assert read_image(layout.counts)[0].sum() == pytest.approx(total.sum(), rel=0.05)


def test_scale_is_the_true_level_after_the_flare_is_cut(prepared):
    for obsid in (7, 8):
        scales = read_background_model(prepared.layout.observation(obsid).background_model).scales
        # 60,000 counts in 20 ks x DTCOR against 150,000 in 100 ks.
        truth = (60_000 / (20_000 * 0.98693)) / (150_000 / 100_000)
        scale = scales["FI"]
        assert scale.level == pytest.approx(truth, abs=3.5 * scale.error * scale.level / scale.value)


def test_unusual_level_is_warned_of(prepared, caplog):
    # The level is 2.03: these observations have twice the blank sky's background.
    crop.STAGE.run(prepared)
    assert "the background is 2.0" in caplog.text


def test_crop_in_the_combined_folder_is_accepted(prepared, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(prepared.layout.folder, folder)
    layout = ClusterLayout(folder, "a")
    os.replace(layout.crop, layout.crop_alternative)
    crop.STAGE.run(context_of(layout))
    assert layout.mask.read_bytes() == prepared.layout.mask.read_bytes()


def test_crop_off_the_field_is_refused(prepared, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(prepared.layout.folder, folder)
    layout = ClusterLayout(folder, "a")
    draw(layout, **{"master_crop-ciaowcs.reg": 'circle(151.0,22.0,30")'})
    with pytest.raises(DataError, match="no exposed pixel of the image lies inside"):
        crop.STAGE.run(context_of(layout))
    layout.crop.unlink()
    with pytest.raises(MissingInput, match="the crop region is not there"):
        crop.STAGE.run(context_of(layout))


def test_image_on_another_grid_is_refused(prepared, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(prepared.layout.folder, folder)
    layout = ClusterLayout(folder, "a")
    images, grid, _ = read_images(layout.observation(7).exposure)
    moved = dataclasses.replace(grid, sky_x0=grid.sky_x0 + 4)
    write_images(layout.observation(7).exposure, [(name, image, "s") for name, image in images.items()], moved)
    with pytest.raises(DataError, match=r"not on the common grid\. Run stage 1"):
        clean.STAGE.run(context_of(layout))


def test_background_model_with_a_missing_scale_is_refused(prepared, tmp_path):
    path = tmp_path / "model.fits"
    images, _, _, grid = read_background_model(prepared.layout.observation(7).background_model)
    write_images(path, [(name, image, "count") for name, image in images.items()], grid)
    with pytest.raises(DataError, match=r"lacks the scale of a group of CCDs.*Run stage 4"):
        read_background_model(path)
    write_images(path, [(name, image, "count") for name, image in images.items()], grid, {"GROUP1": "BI7"})
    with pytest.raises(DataError, match="extension FI stands where GROUP1 says BI7"):
        read_background_model(path)


# --- the sample of an independent simulator

SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "sample"


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="needs ../shared/sample, which is not part of the repository")
def test_sample_is_cleaned_and_scaled_to_its_truth(tmp_path):
    folder = tmp_path / "sample"
    for obsid in (80101, 80102):
        shutil.copytree(SAMPLE / str(obsid), folder / str(obsid), copy_function=shutil.copyfile)
    layout = ClusterLayout(folder, "sample")
    shutil.copyfile(SAMPLE / "truth" / "point_sources.reg", layout.sources)
    for path, size in ((layout.exclude, 150), (layout.crop, 400)):
        path.write_text(f'fk5\ncircle(150.1163,22.2058,{size}")\n')
    background = BackgroundSection(groups="detector")
    config = ClusterConfig(layout.ini, ClusterSection("sample", (80101, 80102)), background=background)
    run(StageContext(config, layout), merge.STAGE, clean.STAGE, crop.STAGE)
    flare = np.array([590_012_000.0, 590_013_400.0])
    for obsid, quiet_s, level in ((80101, 28_600.0, 1.05), (80102, 19_999.0, 0.96)):
        cleaned = read_events(layout.observation(obsid).clean_events)
        assert total_time(cleaned.good_times[3]) >= 0.95 * quiet_s
        if obsid == 80101:
            assert total_time(np.clip(cleaned.good_times[3], *flare)) == 0.0
        _, scales, _, grid = read_background_model(layout.observation(obsid).background_model)
        error = scales["FI"].error * scales["FI"].level / scales["FI"].value
        assert scales["FI"].level == pytest.approx(level, abs=3.0 * error)
    centre = sky_wcs(grid.ra_deg, grid.dec_deg).all_world2pix([[150.1163, 22.2058]], 1)[0]
    mask = read_image(layout.mask)[0]
    assert mask.ravel()[grid.pixel_index(*centre)] == 1
