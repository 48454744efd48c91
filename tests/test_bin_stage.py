"""Stages 3 and 5 on a small cluster: what is packed is what the files of the stages before hold."""

import dataclasses
import gzip
import logging
import shutil

import numpy as np
import pytest
from acis_events import blank_sky, observation, pointing
from astropy.io import fits
from test_ogip import arf_block, rmf_blocks, save

from cpxt_hpc.config import BackgroundSection, BinningSection, ClusterConfig, ClusterSection, FitSection
from cpxt_hpc.errors import ConfigError, DataError
from cpxt_hpc.fitting import nodes
from cpxt_hpc.io import datafiles
from cpxt_hpc.io.command_list import read_command_list
from cpxt_hpc.io.events import read_events, write_events
from cpxt_hpc.io.fit_input import read_fit_input, verify_fit_input
from cpxt_hpc.io.images import read_image, write_image
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.binning import circle_sums
from cpxt_hpc.stages import bin as binning
from cpxt_hpc.stages import clean, crop, merge, respond
from cpxt_hpc.stages.base import StageContext

LOOKS = {7: pointing(ra=150.0, dec=22.0, roll=30.0), 8: pointing(ra=150.03, dec=22.02, roll=200.0)}
LOST_S = {7: (0.0, 3000.0), 8: (0.0, 0.0)}
REGIONS = {
    "sources.reg": 'circle(150.02,22.01,12")',
    "exclude.reg": 'circle(150.0,22.0,100")',
    "master_crop-ciaowcs.reg": 'box(150.0,22.0,330",270",0)',
}
TARGET = 15.0


def with_cluster(rng, obsid, look):
    """A flat background with a soft cluster at RA 150, Dec 22, sigma 60 arcsec, of some 5000 events."""
    events = observation(rng, obsid=obsid, n=200_000, look=look)
    x0, y0 = events.wcs().all_world2pix(150.0, 22.0, 1)
    square = (events["x"] - x0) ** 2 + (events["y"] - y0) ** 2
    background = np.arange(len(events)) % 5 == 0
    cluster = ~background & (rng.random(len(events)) < np.exp(-0.5 * square / 122.0**2))
    events.columns["energy"][cluster] = rng.uniform(600.0, 5000.0, np.count_nonzero(cluster))
    events.columns["pi"][cluster] = np.floor(events["energy"][cluster] / 14.6) + 1
    return events.select(background | cluster)


def lose_frames(events, start, stop):
    """CCD 1 loses a piece of time."""
    times = events.good_times[1]
    lost = (events["ccd_id"] == 1) & (events["time"] - times[0, 0] < stop)
    good_times = {**events.good_times, 1: np.array([[times[0, 0] + stop, times[0, 1]]])}
    exposure = {**events.exposure_s, 1: events.exposure_s[1] * (1 - (stop - start) / 20_000.0)}
    return dataclasses.replace(events.select(~lost), good_times=good_times, exposure_s=exposure)


@pytest.fixture(scope="module", autouse=True)
def _xspec_once():
    """XSPEC's answers are kept: many tests ask for the same spectra."""
    original, answers = nodes.evaluate_additive, {}

    def remembered(edges, kt, **settings):
        key = (edges.tobytes(), kt.tobytes(), repr(settings))
        if key not in answers:
            answers[key] = original(edges, kt, **settings)
        return answers[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "evaluate_additive", remembered)
        yield


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A cluster after stages 1 to 4; the responses are gzip'ed, and observation 8 has none."""
    layout = ClusterLayout(tmp_path_factory.mktemp("a cluster"), "a")
    for obsid, look in LOOKS.items():
        rng = np.random.default_rng(obsid)
        events = with_cluster(rng, obsid, look)
        if LOST_S[obsid][1]:
            events = lose_frames(events, *LOST_S[obsid])
        repro = layout.observation(obsid).repro
        write_events(repro / f"acisf{obsid:05d}_repro_evt2.fits", events)
        write_events(repro / f"blanksky_{obsid}.fits", blank_sky(rng, obsid=obsid, n=150_000, look=look))
    for kind, source in zip(("arf", "rmf"), datafiles.response_files(), strict=True):
        with open(source, "rb") as plain, gzip.open(layout.observation(7).repro / f"7.{kind}.gz", "wb") as packed:
            shutil.copyfileobj(plain, packed)
    for name, text in REGIONS.items():
        (layout.folder / name).write_text(f"fk5\n{text}\n")
    context = context_of(layout)
    for stage in (merge.STAGE, clean.STAGE, respond.STAGE, crop.STAGE):
        stage.run(context)
    return layout


def context_of(layout, *, target=TARGET, **sections):
    cluster = ClusterSection(
        "a", tuple(LOOKS), hydrogen_column_density=5e20, redshift=0.2, abundance=0.3, signal_to_noise=target
    )
    sections = {
        "binning": BinningSection(max_radius_pixel=30.0),
        "background": BackgroundSection(groups="detector"),
        **sections,
    }
    return StageContext(ClusterConfig(layout.ini, cluster, **sections), layout)


@pytest.fixture(scope="module")
def packed(prepared):
    context = context_of(prepared)
    assert all(path.is_file() for path in binning.STAGE.needs(context))
    binning.STAGE.run(context)
    assert all(path.is_file() for path in binning.STAGE.makes(context))
    verify_fit_input(prepared.fit_input)
    return read_fit_input(prepared.fit_input)


def fitted_channels(packed):
    return np.arange(packed.settings["first_channel"], packed.settings["last_channel"] + 1)


def histogram(events, grid, mask, channel, weights=None):
    """Counts by pixel and channel index, straight from the event list."""
    pixel = grid.pixel_index(events["x"], events["y"])
    kept = (pixel >= 0) & mask.ravel()[pixel] & np.isin(events["pi"], channel)
    cell = pixel[kept] * len(channel) + (events["pi"][kept] - channel[0])
    return cell, kept


def test_responses_are_plain_copies_and_shared_by_observations_without(prepared):
    for obsid in LOOKS:
        copies = prepared.observation(obsid).arf, prepared.observation(obsid).rmf
        for copy, source in zip(copies, datafiles.response_files(), strict=True):
            assert copy.read_bytes() == source.read_bytes()


def test_borrowed_responses_are_announced(prepared, caplog):
    with caplog.at_level("WARNING"):
        respond.run(context_of(prepared))
    assert "ObsID 8 has no responses of its own (8.arf, 8.rmf in repro/): those of ObsID 7 are taken." in caplog.text


def test_stage_3_needs_the_responses_as_they_were_handed_in(prepared):
    needs = respond.STAGE.needs(context_of(prepared))
    assert {path.name for path in needs} == {"7.arf.gz", "7.rmf.gz"}


def test_every_event_of_the_map_is_packed_in_its_pixel_and_channel(prepared, packed):
    mask = read_image(prepared.mask)[0] > 0
    channel = fitted_channels(packed)
    for stored in packed.observations:
        events = read_events(prepared.observation(stored.obsid).clean_events)
        expected, _ = histogram(events, packed.grid, mask, channel)
        pixel = np.repeat(np.arange(mask.size), np.diff(stored.pixel_start))
        found = pixel * len(channel) + stored.channel
        assert len(found) > 3000
        assert np.array_equal(np.sort(found), np.sort(expected))
        assert not np.diff(stored.pixel_start)[~mask.ravel()].any()


def test_blank_sky_events_are_packed_with_the_scale_of_their_ccd(prepared, packed):
    mask = read_image(prepared.mask)[0] > 0
    channel = fitted_channels(packed)
    for stored in packed.observations:
        observation = prepared.observation(stored.obsid)
        blank = read_events(observation.clean_background_events, blank_sky=True)
        _, kept = histogram(blank, packed.grid, mask, channel)
        by_ccd = np.bincount(blank["ccd_id"][kept], minlength=4)
        assert np.bincount(stored.blank_group, minlength=4).tolist() == by_ccd.tolist()
        # CCD 1 of the first observation lost 15 % of its time, of the quiet time a little more or less.
        relative = np.ones(4)
        relative[1] = 1.0 - (LOST_S[stored.obsid][1] - LOST_S[stored.obsid][0]) / 20_000.0
        np.testing.assert_allclose(stored.blank_scale / stored.blank_scale[0], relative, rtol=1e-3)


def test_background_is_that_of_the_fitted_channels(prepared, packed):
    total = 0.0
    for stored in packed.observations:
        expected = stored.blank_scale[stored.blank_group].sum()
        # Smoothing (30 arcsec) carries counts over the edges of the map: the blank sky is flat, so few per cent.
        assert stored.background_counts[0].sum() == pytest.approx(expected, rel=0.05)
        total += stored.background_counts[0].sum(dtype=float)
    image = read_image(prepared.background)[0]
    # Stage 4 images the channels that are fitted.
    assert total == pytest.approx(image.sum(dtype=float), rel=1e-4)


def test_templates_are_positive_normalised_and_of_the_fitted_channels(packed):
    for stored in packed.observations:
        assert stored.groups == ("FI", "sky 0.2 keV", "sky power law")
        assert stored.background_template.shape == (3, len(fitted_channels(packed)))
        assert np.all(stored.background_template > 0)
        np.testing.assert_allclose(stored.background_template.sum(axis=1), 1.0, rtol=1e-12)


def test_exposure_is_relative_to_the_longest_ccd_and_zero_where_masked(prepared, packed):
    mask = read_image(prepared.mask)[0] > 0
    for stored in packed.observations:
        events = read_events(prepared.observation(stored.obsid).clean_events)
        assert stored.exposure_s == max(events.exposure_s.values())
        fraction = stored.exposure_fraction
        assert not fraction[~mask].any()
        assert 0.9 < fraction.max() <= 1.0 + 1e-6
    summed = sum(stored.exposure_s * stored.exposure_fraction.astype(float) for stored in packed.observations)
    np.testing.assert_allclose(summed, np.where(mask, read_image(prepared.exposure)[0], 0.0), rtol=1e-5)


def test_regions_are_the_pixels_of_the_scale_map_row_by_row(prepared, packed):
    radius, grid, _ = read_image(prepared.scale_map)
    regions = packed.regions
    assert grid == packed.grid
    assert np.array_equal(np.stack([regions.iy, regions.ix]), np.nonzero(radius))
    assert np.array_equal(regions.number, np.arange(1, len(regions) + 1))
    assert np.array_equal(regions.radius, radius[regions.iy, regions.ix])
    assert not regions.pixel_start.any() and regions.pixels.size == 0
    assert np.array_equal(read_command_list(prepared.commands), regions.number)
    assert str(prepared.ini) in prepared.commands.read_text()


def test_circles_reach_the_target_and_maps_tell_what_is_in_them(prepared):
    radius = read_image(prepared.scale_map)[0]
    counts, background, mask = (
        read_image(path)[0].astype(float) for path in (prepared.counts, prepared.background, prepared.mask)
    )
    c, b = (circle_sums(image * mask, radius.astype(float)) for image in (counts, background))
    found = radius > 0
    snr = read_image(prepared.snr_map)[0]
    assert snr[found].min() >= TARGET * (1 - 1e-6)
    assert np.isnan(snr[~found]).all()
    c, b = c[found], b[found]
    np.testing.assert_allclose(snr[found], (c - b) / np.sqrt(c + b), rtol=1e-5)


def test_weights_are_positive_on_every_pixel(packed):
    assert np.all(packed.surface_brightness > 0) and np.all(np.isfinite(packed.surface_brightness))


def test_settings_name_all_that_changes_the_numbers(packed):
    expected = {
        "name": "a", "obsids": "7,8", "nH_1e22": 0.05, "redshift": 0.2, "abundance": 0.3, "energy_min_kev": 0.7,
        "energy_max_kev": 8.0, "absorption": "phabs", "abundance_table": "angr", "cross_sections": "vern",
        "plasma": "apec", "atomdb": "3.0.3",
    }  # fmt: skip
    assert expected.items() <= packed.settings.items()
    assert {"xspec", "sherpa", "data_digest", "first_channel", "last_channel"} <= packed.settings.keys()


def test_the_same_files_give_the_same_bytes(prepared, packed):
    before = {path: path.read_bytes() for path in binning.STAGE.makes(context_of(prepared))}
    binning.STAGE.run(context_of(prepared))
    for path, content in before.items():
        if path.suffix != ".fits":  # these carry no date either, but astropy's checksums are not ours to promise
            assert path.read_bytes() == content, path.name


@pytest.fixture
def copy(prepared, packed, tmp_path):
    """The prepared cluster, to be spoiled."""
    shutil.copytree(prepared.folder, tmp_path / "copy")
    return ClusterLayout(tmp_path / "copy", "a")


def test_another_target_is_another_binning_of_the_same_data(copy, packed):
    binning.STAGE.run(context_of(copy, target=20.0))
    other = read_fit_input(copy.fit_input)
    assert other.binning_digest != packed.binning_digest
    assert {**other.settings, "signal_to_noise": 0.0} == {**packed.settings, "signal_to_noise": 0.0}
    assert other.settings["signal_to_noise"] == 20.0
    assert 0 < len(other.regions) < len(packed.regions)


def test_another_redshift_changes_the_settings_and_not_the_binning(copy, packed):
    context = context_of(copy)
    cluster = dataclasses.replace(context.config.cluster, redshift=0.21)
    binning.STAGE.run(dataclasses.replace(context, config=dataclasses.replace(context.config, cluster=cluster)))
    other = read_fit_input(copy.fit_input)
    assert other.binning_digest == packed.binning_digest
    assert other.settings["redshift"] == 0.21
    assert not np.array_equal(other.observations[0].nodes, packed.observations[0].nodes)


def test_counts_alone_can_be_the_measure(copy):
    binning.STAGE.run(context_of(copy, binning=BinningSection(snr="counts", max_radius_pixel=30.0)))
    radius, snr = read_image(copy.scale_map)[0], read_image(copy.snr_map)[0]
    counts = circle_sums(read_image(copy.counts)[0] * read_image(copy.mask)[0].astype(float), radius.astype(float))
    found = radius > 0
    np.testing.assert_allclose(snr[found] ** 2, counts[found], rtol=1e-5)


def test_an_exact_edge_packs_the_positions_of_the_event_files(copy, packed):
    binning.STAGE.run(context_of(copy, binning=BinningSection(edge="exact", max_radius_pixel=30.0)))
    other = read_fit_input(copy.fit_input)
    assert other.settings["edge"] == "exact"
    mask, channel, grid = read_image(copy.mask)[0] > 0, fitted_channels(packed), packed.grid
    for stored, before in zip(other.observations, packed.observations, strict=True):
        assert len(before.event_x) == len(before.event_y) == len(before.blank_x) == len(before.blank_y) == 0
        files = copy.observation(stored.obsid)
        for name, place, events in (
            ("", "event_", read_events(files.clean_events)),
            ("blank_", "blank_", read_events(files.clean_background_events, blank_sky=True)),
        ):
            pixel = np.repeat(np.arange(mask.size), np.diff(getattr(stored, f"{name}pixel_start")))
            x, y = grid.sky_from_image(
                pixel % grid.nx + getattr(stored, f"{place}x").astype(float),
                pixel // grid.nx + getattr(stored, f"{place}y").astype(float),
            )
            _, kept = histogram(events, grid, mask, channel)
            found = np.stack([x, y, getattr(stored, f"{name}channel") + float(channel[0])])
            expected = np.stack([events[column][kept].astype(float) for column in ("x", "y", "pi")])
            assert np.array_equal(found[:, np.lexsort(found)], expected[:, np.lexsort(expected)])


def test_another_band_is_packed_with_its_own_background(copy, packed):
    # The images of stage 4 are still those of 0.7 to 8 keV: the expected background follows the fitted channels.
    binning.STAGE.run(context_of(copy, fit=FitSection(energy_min_kev=1.0, energy_max_kev=5.0)))
    other = read_fit_input(copy.fit_input)
    for wide, narrow in zip(packed.observations, other.observations, strict=True):
        share = narrow.background_counts.sum(dtype=float) / wide.background_counts.sum(dtype=float)
        n_narrow, n_wide = narrow.background_template.shape[1], wide.background_template.shape[1]
        # The blank sky of these tests is flat in energy.
        assert share == pytest.approx(n_narrow / n_wide, rel=0.03)


def test_a_target_out_of_reach_names_what_the_map_has(copy):
    with pytest.raises(ConfigError, match=r"signal_to_noise = 5000: no circle of up to 30 pixels.*Lower it"):
        binning.STAGE.run(context_of(copy, target=5000.0))


def test_few_blank_sky_counts_are_warned_of(copy, caplog):
    path = copy.observation(7).clean_background_events
    blank = read_events(path, blank_sky=True)
    write_events(path, blank.select(np.arange(len(blank)) % 20 == 0))
    with caplog.at_level(logging.WARNING):
        binning.STAGE.run(context_of(copy))
    assert "ObsID 7, FI: the blank sky has about" in caplog.text


def test_images_on_different_grids_are_refused(copy):
    shutil.copy(copy.merged_exposure, copy.exposure)
    with pytest.raises(DataError, match=r"a_exposure_cropped\.fits: not on the grid"):
        binning.STAGE.run(context_of(copy))


def test_a_background_model_of_another_grid_is_refused(copy):
    (copy.folder / "master_crop-ciaowcs.reg").write_text('fk5\nbox(150.0,22.0,200",200",0)\n')
    model = copy.observation(8).background_model.read_bytes()
    crop.STAGE.run(context_of(copy))
    copy.observation(8).background_model.write_bytes(model)
    with pytest.raises(DataError, match=r"background_model\.fits: CCDs 0, 1, 2, 3 on .*Run stage 4"):
        binning.STAGE.run(context_of(copy))


def test_a_background_model_without_its_channels_is_refused(copy):
    with fits.open(copy.observation(7).background_model, mode="update") as hdus:
        del hdus[0].header["CHANLO"]
    with pytest.raises(DataError, match=r"background_model\.fits: lacks .*CHANLO.*Run stage 4"):
        binning.STAGE.run(context_of(copy))


def test_an_exposure_image_that_does_not_cover_the_map_is_refused(copy):
    grid_of_map = read_image(copy.mask)[1]
    write_image(copy.observation(7).clean_exposure, np.ones((20, 20)), grid_of_map.crop(0, 20, 0, 20), unit="s")
    with pytest.raises(DataError, match=r"exposure_clean\.fits: does not cover the map"):
        binning.STAGE.run(context_of(copy))


def change_ebounds(path, change):
    with fits.open(path, mode="update") as hdus:
        change(hdus["EBOUNDS"])


def test_responses_with_other_channel_energies_are_refused(copy):
    def stretch(bounds):
        bounds.data["E_MIN"] *= 1.1
        bounds.data["E_MAX"] *= 1.1

    change_ebounds(copy.observation(8).rmf, stretch)
    with pytest.raises(DataError, match=r"8\.rmf: channels .*All responses must have the same EBOUNDS"):
        binning.STAGE.run(context_of(copy))


def test_responses_without_1024_channels_are_refused(copy):
    repro = copy.observation(8).repro
    save(repro / "8.arf", arf_block())
    save(repro / "8.rmf", *rmf_blocks())
    with pytest.raises(DataError, match=r"8\.rmf: its channels run from 1 to 8, expected 1 to 1024"):
        respond.STAGE.run(context_of(copy))
