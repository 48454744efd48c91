"""The blank sky is scaled once by counts, weighted by CCD, and smoothed without losing any."""

import dataclasses

import numpy as np
import pytest
from acis_events import START_S, blank_sky, observation

from cpxt_hpc.errors import DataError
from cpxt_hpc.science.background import (
    BackgroundScale,
    background_scales,
    band_residual,
    blank_sky_images,
    blank_sky_weights,
    ccds_with_own_level,
    ccds_with_own_shape,
    event_weights,
    scaled_blank_sky,
    smoothed_background,
)
from cpxt_hpc.science.background_groups import BackgroundGroup, ccd_groups, detector_groups, mixed_groups
from cpxt_hpc.science.grid import grid_covering
from cpxt_hpc.science.images import band_channels, bounding_box, flux_image


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(67)
    return observation(rng, n=40_000), blank_sky(rng, n=200_000)


def test_scale_is_the_ratio_of_counts(pair):
    events, blank = pair
    scale = background_scales(events, blank)["FI"]
    n, b = (np.count_nonzero((each["energy"] >= 9500) & (each["energy"] < 12_000)) for each in pair)
    assert (scale.n_observation, scale.n_blank) == (n, b)
    assert scale.value == n / b
    assert scale.error == pytest.approx(scale.value * np.sqrt(1 / n + 1 / b))
    # 40,000 in 19.7 ks to 200,000 in 100 ks.
    assert scale.level == pytest.approx(scale.value / (events.reference_exposure_s / 1e5))
    assert scale.is_usual
    assert not dataclasses.replace(scale, level=1.41).is_usual


def test_scale_counts_the_blank_skys_exposure_once(pair):
    events, blank = pair
    longer = dataclasses.replace(blank, exposure_s=dict.fromkeys(blank.exposure_s, 3e5))
    assert background_scales(events, longer)["FI"].value == background_scales(events, blank)["FI"].value


def test_scale_error_is_the_scatter_of_redraws():
    rng = np.random.default_rng(71)
    blank = blank_sky(rng, n=4000)
    weighted = {0: 1e5, 1: 5e4, 2: 1e5, 3: 1e5}
    blank = dataclasses.replace(blank, exposure_s=weighted)
    values, errors = [], []
    for _ in range(400):
        n, m = rng.poisson(2000), rng.poisson(4000)
        events = observation(np.random.default_rng(rng.integers(1 << 30)), n=n)
        draw = dataclasses.replace(blank_sky(np.random.default_rng(rng.integers(1 << 30)), n=m), exposure_s=weighted)
        scale = background_scales(events, draw)["FI"]
        values.append(scale.value)
        errors.append(scale.error)
    # A standard deviation of 400 values is good to 3.5 %.
    assert np.std(values) == pytest.approx(np.mean(errors), rel=0.12)


def test_back_illuminated_chips_are_groups_of_their_own():
    assert detector_groups((7, 5, 6, 8, 3)) == (
        BackgroundGroup("FI", (3, 6, 8), (3, 6, 8), (3, 6, 8)), BackgroundGroup("BI5", (5,), (5,), (5,)),
        BackgroundGroup("BI7", (7,), (7,), (7,)),
    )  # fmt: skip


def test_chips_alone_keep_their_detector_groups_name_where_it_is_theirs_alone():
    assert [group.name for group in ccd_groups((6, 7, 3))] == ["CCD3", "CCD6", "BI7"]
    assert [group.name for group in ccd_groups((3, 7))] == ["FI", "BI7"]


def test_chips_that_do_not_suffice_take_the_counts_of_their_whole_detector_group():
    front = (0, 1, 2, 3)
    assert mixed_groups((*front, 7), (0, 3), (1, 3)) == (
        BackgroundGroup("CCD0", (0,), (0,), front), BackgroundGroup("FI", (1, 2), front, front),
        BackgroundGroup("CCD3", (3,), (3,), (3,)), BackgroundGroup("BI7", (7,), (7,), (7,)),
    )  # fmt: skip


def test_weights_follow_the_exposure_of_each_ccd(pair):
    events, blank = pair
    events = dataclasses.replace(events, exposure_s={0: 100.0, 1: 80.0, 2: 100.0, 3: 50.0})
    assert blank_sky_weights(events, blank) == {0: 1.0, 1: 0.8, 2: 1.0, 3: 0.5}
    blank = dataclasses.replace(blank, exposure_s={0: 10.0, 1: 8.0, 2: 5.0, 3: 10.0})
    assert blank_sky_weights(events, blank) == {0: 1.0, 1: 1.0, 2: 2.0, 3: 0.5}
    assert event_weights(blank, {0: 2.0, 1: 3.0})[blank["ccd_id"] == 1].tolist()[:2] == [3.0, 3.0]
    assert not event_weights(blank, {0: 2.0})[blank["ccd_id"] == 3].any()


def test_lost_frames_of_one_ccd_lower_its_background_only():
    rng = np.random.default_rng(73)
    whole = START_S + np.array([[0.0, 20_000.0]])
    half = START_S + np.array([[0.0, 10_000.0]])
    events = observation(rng, n=80_000, good_times={0: whole, 1: half, 2: whole, 3: whole})
    blank = blank_sky(rng, n=400_000)
    grid = grid_covering(events.ra_deg, events.dec_deg, blank["x"], blank["y"])
    per_ccd = {}
    for ccd in events.ccds:
        model = scaled_blank_sky(events, blank, grid, blank["ccd_id"] == ccd).sum()
        per_ccd[ccd] = np.count_nonzero(events["ccd_id"] == ccd) / model
    # 10,000 to 20,000 counts a CCD, and the scale from 20 % of them: 1 %. Unweighted, CCD 1 would be off by 40 %.
    assert np.array(list(per_ccd.values())) == pytest.approx(1.0, abs=0.04)


def test_missing_ccd_is_refused(pair):
    events, blank = pair
    without = dataclasses.replace(blank, exposure_s={0: 1.0, 1: 1.0})
    with pytest.raises(DataError, match="no events on CCD 2, 3"):
        blank_sky_weights(events, without)


def test_scale_of_a_ccd_does_not_depend_on_its_weight(pair):
    events, blank = pair
    lost = dataclasses.replace(events, exposure_s={0: 100.0, 1: 50.0, 2: 100.0, 3: 100.0})
    groups = ccd_groups(events.ccds)
    for case in (events, lost):
        scales, weights = background_scales(case, blank, groups), blank_sky_weights(case, blank)
        for group in groups:
            n, b = (np.count_nonzero(each.in_energy(9500, 12_000) & (each["ccd_id"] == group.ccds[0])) for each in pair)
            assert scales[group.name].value * weights[group.ccds[0]] == pytest.approx(n / b)
    # The level is the ratio of the rates: half the time, twice the rate.
    whole, half = (background_scales(case, blank, groups)["CCD1"].level for case in (events, lost))
    assert half / whole == pytest.approx(2.0 * max(events.exposure_s.values()) / 100.0)


def test_a_ccd_has_its_own_level_where_its_counts_tell_it_to_3_percent(pair):
    events, blank = pair
    # 2160 of 10,000 events of a CCD lie in 9.5-12 keV, 10,800 of its blank sky: 2.4 %; with half of them 3.2 %.
    assert ccds_with_own_level(events, blank) == (0, 1, 2, 3)
    fewer = events.select((events["ccd_id"] != 1) | (np.arange(len(events)) % 2 == 0))
    assert ccds_with_own_level(fewer, blank) == (0, 2, 3)
    assert ccds_with_own_level(events.select(events["energy"] < 9500.0), blank) == ()


def test_a_ccd_has_its_own_template_where_a_window_holds_enough_counts(pair):
    _, blank = pair
    # 50,000 blank-sky events a CCD over 795 channels: 314 in 5 channels.
    settings = {"channels": (48, 548), "max_channels": 5}
    in_map = np.ones(len(blank), dtype=bool)
    assert ccds_with_own_shape(blank, in_map, enough_counts=290.0, **settings) == (0, 1, 2, 3)
    assert ccds_with_own_shape(blank, in_map, enough_counts=340.0, **settings) == ()
    half = (blank["ccd_id"] != 2) | (np.arange(len(blank)) % 2 == 0)
    assert ccds_with_own_shape(blank, half, enough_counts=290.0, **settings) == (0, 1, 3)


def test_residual_is_the_excess_over_the_scaled_blank_sky(pair):
    events, blank = pair
    groups = detector_groups(events.ccds)
    scales = background_scales(events, blank, groups)
    medium, blank_medium = (each.in_energy(5000.0, 7000.0) for each in pair)
    excess, sigma = band_residual(events, blank, groups, scales, medium, blank_medium)["FI"]
    assert abs(sigma) < 3.0
    # One in 48 events of other energies counts as one of the band.
    more = medium | (np.cumsum(~medium) * (~medium) % 48 == 1)
    added = np.count_nonzero(more) / np.count_nonzero(medium) - 1.0
    higher, significant = band_residual(events, blank, groups, scales, more, blank_medium)["FI"]
    assert higher == pytest.approx((1.0 + excess) * (1.0 + added) - 1.0)
    assert significant > sigma + 3.0
    nothing = np.zeros(len(blank), dtype=bool)
    assert np.isnan(band_residual(events, blank, groups, scales, medium, nothing)["FI"]).all()


def test_file_cut_in_energy_is_refused(pair):
    events, blank = pair
    with pytest.raises(DataError, match=r"0 counts in 9\.5-12 keV"):
        background_scales(events.select(events["energy"] < 9500.0), blank)


def test_smoothing_keeps_a_flat_background_flat_up_to_edges_and_holes():
    footprint = np.zeros((80, 90))
    footprint[10:70, 15:80] = 1.0
    footprint[10:70, 45:47] = 0.4
    footprint[30:36, 20:26] = 0.0
    model = smoothed_background(3.0 * footprint, footprint, sigma_pixel=6.0)
    assert model == pytest.approx(3.0 * footprint, abs=1e-9)


def test_smoothing_keeps_the_sum_within_noise():
    rng = np.random.default_rng(79)
    footprint = np.zeros((200, 200))
    footprint[20:180, 20:180] = 1.0
    footprint[95:105] *= 0.5
    counts = rng.poisson(0.3 * footprint)
    model = smoothed_background(counts, footprint, sigma_pixel=15.0)
    assert model.sum() == pytest.approx(counts.sum(), abs=np.sqrt(counts.sum()))
    assert not model[footprint == 0.0].any()


def test_images_by_group_hold_every_weighted_event(pair):
    events, blank = pair
    grid = grid_covering(events.ra_deg, events.dec_deg, blank["x"], blank["y"])
    chosen = blank.in_energy(700.0, 8000.0)
    images = blank_sky_images(events, blank, grid, chosen)
    assert list(images) == ["FI"]
    assert images["FI"].sum() == pytest.approx(np.count_nonzero(chosen))


def test_flux_is_zero_where_not_exposed():
    flux = flux_image(np.array([[5, 3]]), np.array([[1.0, 1.0]]), np.array([[2.0, 0.0]]))
    assert flux.tolist() == [[2.0, 0.0]]


def test_band_holds_the_channels_that_overlap_it():
    assert band_channels(0.7, 8.0) == (48, 548)
    # Edges of channels: 14.6 eV x 50 and 14.6 eV x 100 only touch the neighbours.
    assert band_channels(0.73, 1.46) == (51, 100)


def test_bounding_box_is_the_smallest():
    mask = np.zeros((10, 12), dtype=bool)
    mask[3, 4] = mask[7, 9] = True
    assert bounding_box(mask) == (3, 8, 4, 10)
    with pytest.raises(ValueError, match="no pixel"):
        bounding_box(np.zeros((3, 3), dtype=bool))


def test_scale_record_knows_what_is_usual():
    assert not BackgroundScale(0.1, 0.01, 100, 1000.0, 0.69).is_usual
