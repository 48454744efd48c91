import dataclasses

import numpy as np
import pytest
from synthetic import make_fit_input, temperature_nodes

from cpxt_hpc.fitting.model_arrays import shape_fault
from cpxt_hpc.fitting.regions import RegionFitter
from cpxt_hpc.fitting.results import Flag, Status, kt_status


def untimed(row):
    """The bytes of a row, all columns but the one that differs between runs."""
    copy = row.copy()
    copy["seconds"] = 0.0
    return copy.tobytes()


@pytest.fixture(scope="module")
def fit_input():
    return make_fit_input(n_regions=30, n_pixel_lists=4)


@pytest.fixture(scope="module")
def fitter(fit_input):
    return RegionFitter(fit_input)


def pixels_of_region(fit_input, index):
    """Pixels inside the image, and the number of pixels of the whole region, without any of the code under test."""
    regions, (ny, nx) = fit_input.regions, fit_input.grid.shape
    listed = regions.pixels[regions.pixel_start[index] : regions.pixel_start[index + 1]]
    if len(listed):
        return listed, len(listed)
    dy, dx = np.mgrid[-40:41, -40:41]
    whole = np.count_nonzero(dy**2 + dx**2 <= regions.radius[index] ** 2)
    row, column = np.mgrid[:ny, :nx]
    distance2 = (row - regions.iy[index]) ** 2 + (column - regions.ix[index]) ** 2
    return np.flatnonzero(distance2 <= regions.radius[index] ** 2), whole


def counts_of(observation, pixels):
    events = [observation.channel[observation.pixel_start[p] : observation.pixel_start[p + 1]] for p in pixels]
    return np.bincount(np.concatenate(events), minlength=observation.nodes.shape[-1])


def test_rows_hold_what_the_definitions_say(fit_input, fitter):
    weight = fit_input.surface_brightness.reshape(-1).astype(float)
    for index in range(len(fit_input.regions)):
        row = fitter.fit(index)
        pixels, whole = pixels_of_region(fit_input, index)
        used, net, background, exposure, stat, n_channels = 0, 0.0, 0.0, 0.0, 0.0, 0
        for j, observation in enumerate(fit_input.observations):
            fraction = observation.exposure_fraction.reshape(-1).astype(float)
            if fraction[pixels].sum() / whole < 0.09:
                continue
            used |= 1 << j
            exposure += observation.exposure_s * fraction[pixels].sum() / whole
            per_group = observation.background_counts.reshape(len(observation.groups), -1)[:, pixels]
            expected = per_group.astype(float).sum(axis=1) @ observation.background_template
            counts = counts_of(observation, pixels)
            factor = (weight * fraction)[pixels].sum() / weight[pixels].sum()
            plain, solar = observation.nodes[0, 0]
            nodes = plain + 0.3 * (solar - plain)
            shape = np.array([np.interp(row["kT"], temperature_nodes(), channel) for channel in nodes.T])
            model = expected + observation.exposure_s * factor * row["norm"] * shape
            net += counts.sum() - expected.sum()
            background += expected.sum()
            n_channels += len(counts)
            logs = counts * np.log(np.maximum(counts, 1) / model)
            stat += 2.0 * np.sum(model - counts + logs)
        assert row["observations_used"] == used
        assert row["n_obs"] == bin(used).count("1")
        assert row["dof"] == n_channels - 2
        assert row["region"] == fit_input.regions.number[index]
        assert (row["iy"], row["ix"]) == (fit_input.regions.iy[index], fit_input.regions.ix[index])
        # The same sums in another order.
        assert row["net_counts"] == pytest.approx(net, rel=1e-12)
        assert row["background_counts"] == pytest.approx(background, rel=1e-12)
        assert row["exposure_s"] == pytest.approx(exposure, rel=1e-12)
        assert row["stat"] == pytest.approx(stat, rel=1e-11)
        assert row["kT_lo"] < row["kT"] < row["kT_hi"]
        assert row["norm_lo"] < row["norm"] < row["norm_hi"]
        assert row["status"] == Status.OK


@pytest.mark.parametrize("statistic", ["cstat", "chi2gehrels"])
def test_an_exact_edge_takes_the_events_inside_the_circle_and_parts_of_its_pixels(statistic):
    geometry = pytest.importorskip("photutils.geometry", reason="photutils is not installed")
    fit_input = make_fit_input(n_regions=30, n_pixel_lists=4, edge="exact")
    fitter = RegionFitter(fit_input, statistic=statistic)
    ny, nx = fit_input.grid.shape
    weight = fit_input.surface_brightness.astype(float)

    def inside(observation, name, iy, ix, radius):
        pixel = np.repeat(np.arange(ny * nx), np.diff(getattr(observation, f"{name}pixel_start")))
        position = "event_" if name == "" else name
        x = pixel % nx + getattr(observation, f"{position}x").astype(float)
        y = pixel // nx + getattr(observation, f"{position}y").astype(float)
        return getattr(observation, f"{name}channel")[(x - ix) ** 2 + (y - iy) ** 2 <= radius**2]

    for index in range(26):
        circle = (fit_input.regions.iy[index], fit_input.regions.ix[index], fit_input.regions.radius[index])
        iy, ix, radius = circle
        spectra = fitter.extractor.extract(*fitter.region_runs(index))
        part = geometry.circular_overlap_grid(-ix - 0.5, nx - ix - 0.5, -iy - 0.5, ny - iy - 0.5, nx, ny, radius, 1, 1)
        exposed = [np.sum(part * o.exposure_fraction) / (np.pi * radius**2) for o in fit_input.observations]
        assert [p.position for p in spectra.parts] == [j for j, each in enumerate(exposed) if each >= 0.09]
        for found in spectra.parts:
            observation, own = fit_input.observations[found.position], spectra.start[found.position :]
            n_channels = observation.nodes.shape[-1]
            expected = np.bincount(inside(observation, "", *circle), minlength=n_channels)
            assert np.array_equal(spectra.counts[own[0] : own[1]], expected)
            if statistic != "cstat":
                blank = np.bincount(inside(observation, "blank_", *circle), minlength=n_channels)
                assert np.array_equal(spectra.blank_counts[own[0] : own[1]], blank)
            # The same sums in another order, and areas of two codes.
            levels = (part * observation.background_counts).sum(axis=(1, 2))
            background = spectra.background[own[0] : own[1]]
            assert background == pytest.approx(levels @ observation.background_template, rel=1e-11)
            assert found.exposed_fraction == pytest.approx(exposed[found.position], rel=1e-12)
            light = np.sum(part * weight * observation.exposure_fraction) / np.sum(part * weight)
            assert found.source_factor == pytest.approx(light, rel=1e-12)
        assert fitter.fit(index)["status"] == Status.OK


def test_an_exact_edge_leaves_lists_of_pixels_as_they_are(fit_input, fitter):
    exact = RegionFitter(make_fit_input(n_regions=30, n_pixel_lists=4, edge="exact"))
    for index in range(26, 30):
        assert untimed(exact.fit(index)) == untimed(fitter.fit(index))


def test_fit_input_has_regions_with_one_and_with_two_observations(fit_input, fitter):
    assert {int(fitter.fit(i)["n_obs"]) for i in range(len(fit_input.regions))} == {1, 2}


@pytest.mark.parametrize("statistic", ["cstat", "chi2gehrels"])
def test_results_do_not_depend_on_the_order_of_fits_or_the_fitter(fit_input, statistic):
    there = RegionFitter(fit_input, statistic=statistic)
    back = RegionFitter(fit_input, statistic=statistic)
    forwards = [untimed(there.fit(i)) for i in range(30)]
    backwards = [untimed(back.fit(i)) for i in reversed(range(30))][::-1]
    assert forwards == backwards


def test_mapped_read_only_arrays_give_the_same_result(fit_input, fitter, tmp_path):
    def mapped(array):
        if not array.size:
            return array
        path = tmp_path / f"{id(array)}.npy"
        np.save(path, array)
        return np.load(path, mmap_mode="r")

    observations = tuple(
        dataclasses.replace(
            o,
            **{
                field.name: mapped(getattr(o, field.name))
                for field in dataclasses.fields(o)
                if isinstance(getattr(o, field.name), np.ndarray)
            },
        )
        for o in fit_input.observations
    )
    other = RegionFitter(dataclasses.replace(fit_input, observations=observations))
    for index in (0, 15, 29):
        assert untimed(other.fit(index)) == untimed(fitter.fit(index))


def test_a_pixel_set_gives_what_its_region_gives(fit_input, fitter):
    for index in (12, 15, 27):
        pixels, whole = pixels_of_region(fit_input, index)
        if len(pixels) < whole:
            continue
        row = fitter.fit_pixels(pixels[::-1], number=fit_input.regions.number[index])
        expected = fitter.fit(index)
        for name in ("kT", "kT_lo", "kT_hi", "norm", "norm_lo", "norm_hi", "stat", "net_counts", "region"):
            assert row[name] == expected[name]
        assert row["radius"] == 0.0


def test_a_pixel_set_outside_the_image_is_refused(fitter):
    with pytest.raises(ValueError, match="pixels -1 to 3 are not all in the image, 0 to 575"):
        fitter.fit_pixels([3, -1])


def test_an_empty_pixel_set_has_no_exposure(fitter):
    row = fitter.fit_pixels([])
    assert row["status"] == Status.NO_EXPOSURE
    assert np.isnan(row["kT"])


def test_an_unknown_statistic_is_refused(fit_input):
    with pytest.raises(ValueError, match="'chi3' is unknown: choose one of cstat, wstat, chi2gehrels"):
        RegionFitter(fit_input, statistic="chi3")


def test_one_temperature_node_is_not_enough(fit_input):
    with pytest.raises(ValueError, match="at least two temperature nodes"):
        RegionFitter(dataclasses.replace(fit_input, kt_nodes_kev=fit_input.kt_nodes_kev[:1]))


def test_masked_pixels_have_no_exposure(fit_input, fitter):
    nowhere = np.flatnonzero(sum(o.exposure_fraction for o in fit_input.observations).reshape(-1) == 0)
    assert len(nowhere) > 3
    row = fitter.fit_pixels(nowhere)
    assert row["status"] == Status.NO_EXPOSURE
    assert row["n_obs"] == 0


def test_observations_that_expose_too_little_stay_out(fit_input):
    strict = RegionFitter(fit_input, min_exposure_fraction=0.8)
    lax = RegionFitter(fit_input, min_exposure_fraction=0.0)
    rows = [(strict.fit(i), lax.fit(i)) for i in range(30)]
    assert any(a["n_obs"] < b["n_obs"] for a, b in rows)
    assert all(b["n_obs"] == 2 for _, b in rows)


def test_pixels_beyond_the_image_count_as_not_exposed(fit_input):
    corner = dataclasses.replace(
        fit_input.regions,
        iy=np.full_like(fit_input.regions.iy, 23),
        ix=np.full_like(fit_input.regions.ix, 23),
        radius=np.full_like(fit_input.regions.radius, 6.0),
        pixel_start=np.zeros_like(fit_input.regions.pixel_start),
    )
    fitter = RegionFitter(dataclasses.replace(fit_input, regions=corner), min_exposure_fraction=0.35)
    assert fitter.fit(0)["status"] == Status.NO_EXPOSURE
    start, stop, whole, _ = fitter.region_runs(0)
    assert whole == 113
    assert (stop - start).sum() / whole < 0.35


def test_a_background_that_is_no_number_gives_a_status(fit_input):
    broken = dataclasses.replace(
        fit_input.observations[0],
        background_counts=np.full_like(fit_input.observations[0].background_counts, np.nan),
    )
    row = RegionFitter(dataclasses.replace(fit_input, observations=(broken,))).fit(15)
    assert row["status"] == Status.NOT_A_NUMBER
    assert np.isnan(row["kT"])


def test_without_events_there_is_no_norm_and_no_temperature(fit_input):
    empty = tuple(
        dataclasses.replace(o, pixel_start=np.zeros_like(o.pixel_start), channel=o.channel[:0])
        for o in fit_input.observations
    )
    row = RegionFitter(dataclasses.replace(fit_input, observations=empty)).fit(15)
    assert row["status"] == Status.KT_UNCONSTRAINED
    assert np.isnan(row["kT"])
    assert (row["kT_lo"], row["kT_hi"]) == (0.1, 64.0)
    assert row["norm"] == 0.0
    assert row["norm_hi"] > 0.0
    assert row["stat"] == pytest.approx(2 * row["background_counts"], rel=1e-12)


def test_pulls_of_norm_and_temperature_are_standard_normal():
    """60 independent clusters, one circle each."""
    pulls = []
    for seed in range(60):
        fit_input = make_fit_input(seed, ny=14, nx=14, n_channels=96, n_regions=1, counts=1200.0)
        fitter = RegionFitter(fit_input)
        row, column = np.mgrid[:14, :14]
        pixels = np.flatnonzero(np.hypot(row - 6.5, column - 6.5) <= 4.0)
        fit = fitter.fit_pixels(pixels)
        truth = fit_input.surface_brightness.reshape(-1)[pixels].sum(dtype=float)
        for name, true in (("kT", 6.0), ("norm", truth)):
            side = fit[f"{name}_hi"] - fit[name] if true > fit[name] else fit[name] - fit[f"{name}_lo"]
            pulls.append((fit[name] - true) / side)
    for pull in (np.array(pulls[::2]), np.array(pulls[1::2])):
        # 60 draws: the mean scatters by 0.13, the rms by 0.09, the coverage by 0.06; three times that.
        assert abs(pull.mean()) < 0.39
        assert abs(pull.std() - 1.0) < 0.28
        assert 0.50 < np.mean(np.abs(pull) < 1.0) < 0.86


def test_status_names_the_end_of_the_range_that_is_reached():
    assert kt_status(5.0, 0.1, 64.0, True, True) == Status.OK
    assert kt_status(5.0, 0.1, 64.0, True, False) == Status.KT_HI_UNBOUND
    assert kt_status(5.0, 0.1, 64.0, False, True) == Status.KT_LO_UNBOUND
    assert kt_status(0.1, 0.1, 64.0, False, True) == Status.KT_AT_LOWER_BOUND
    assert kt_status(64.0, 0.1, 64.0, True, False) == Status.KT_AT_UPPER_BOUND
    assert kt_status(64.0, 0.1, 64.0, False, False) == Status.KT_UNCONSTRAINED
    assert kt_status(np.nan, 0.1, 64.0, False, False) == Status.KT_UNCONSTRAINED


def test_estimated_time_grows_with_the_region(fit_input, fitter):
    order = np.argsort(fit_input.regions.radius[:26])
    estimates = np.array([fitter.estimated_seconds(int(i)) for i in order])
    assert np.all(estimates > 0)
    assert np.all(np.diff(estimates) >= 0)
    assert fitter.estimated_seconds(29) > 0


def test_regions_far_from_where_the_one_arf_was_made_are_flagged(fit_input):
    first = dataclasses.replace(fit_input.observations[0], arf_iy=5.0, arf_ix=-90.0)
    far = RegionFitter(dataclasses.replace(fit_input, observations=(first,)))
    distance = np.hypot(fit_input.regions.iy - 5.0, fit_input.regions.ix + 90.0) * fit_input.grid.pixel_arcsec / 60.0
    assert distance.min() < 3.0 < distance.max()
    for index in range(len(fit_input.regions)):
        assert bool(far.fit(index)["flags"] & Flag.FAR_FROM_ARF) == (distance[index] > 3.0)


def test_more_observations_than_a_result_can_name_are_refused(fit_input):
    many = dataclasses.replace(fit_input, observations=fit_input.observations[:1] * 65)
    assert "65 observations, expected at most 64" in shape_fault(many)


def test_the_range_with_a_moved_background_holds_the_best_fit_and_widens_with_the_error(fit_input):
    widths = []
    for systematic in (0.0, 0.03, 0.1):
        rows = np.array([RegionFitter(fit_input, systematic=systematic).fit(index) for index in range(8)])
        assert np.all(rows["kT_bkg_lo"] <= rows["kT"]) and np.all(rows["kT"] <= rows["kT_bkg_hi"])
        assert np.all(rows["norm_bkg_lo"] <= rows["norm"]) and np.all(rows["norm"] <= rows["norm_bkg_hi"])
        widths.append(rows["kT_bkg_hi"] - rows["kT_bkg_lo"])
    assert np.all(widths[0] < 1e-6) and np.all(widths[1] < widths[2]) and np.all(widths[1] > 0.0)


@pytest.mark.parametrize("statistic", ["cstat", "wstat", "chi2datavar"])
def test_a_moved_background_gives_the_fit_of_an_input_with_that_background(fit_input, statistic):
    lower = tuple(
        dataclasses.replace(o, background_counts=np.float32(0.9) * o.background_counts, blank_scale=0.9 * o.blank_scale)
        for o in fit_input.observations
    )
    moved = RegionFitter(dataclasses.replace(fit_input, observations=lower), statistic=statistic)
    asked = RegionFitter(fit_input, statistic=statistic, systematic=0.1)
    for index in range(5):
        here, there = asked.fit(index), moved.fit(index)
        assert here["kT_bkg_hi"] == pytest.approx(there["kT"], rel=1e-5)
        assert here["norm_bkg_hi"] == pytest.approx(there["norm"], rel=1e-5)
