"""Region files made by the program, on small observations of a cluster with point sources."""

import dataclasses
import logging

import numpy as np
import pytest
from acis_events import blank_sky, observation, pointing
from scipy.spatial import cKDTree

from cpxt_hpc.config import ClusterConfig, ClusterSection
from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io.events import read_events, write_events
from cpxt_hpc.io.images import read_image
from cpxt_hpc.io.region_files import read_region_file, region_mask, sky_shapes
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.grid import sky_wcs
from cpxt_hpc.science.psf import psf_radius_arcsec
from cpxt_hpc.stages import autoregions, clean, merge
from cpxt_hpc.stages.base import StageContext

CLUSTER = (150.02, 22.01)
SOURCES = ((150.05, 22.03, 150), (149.97, 22.0, 100), (150.10, 22.06, 200))
"""RA, Dec, counts in each observation."""

LOOKS = {7: pointing(ra=150.0, dec=22.0, roll=30.0), 8: pointing(ra=150.03, dec=22.02, roll=200.0)}


def with_photons(rng, events, x, y):
    """Photons of 0.5-7 keV at sky positions: chip, time and the rest are those of the nearest event that is there."""
    nearest = cKDTree(np.column_stack([events["x"], events["y"]])).query(np.column_stack([x, y]))[1]
    new = {name: column[nearest] for name, column in events.columns.items()}
    energy = rng.uniform(700.0, 6500.0, len(x)).astype(np.float32)
    new.update(x=x.astype(np.float32), y=y.astype(np.float32), energy=energy,
               pi=(np.floor(energy / 14.6) + 1).astype(np.int32))  # fmt: skip
    joined = {name: np.concatenate([column, new[name]]) for name, column in events.columns.items()}
    order = np.argsort(joined["time"], kind="stable")
    return dataclasses.replace(events, columns={name: column[order] for name, column in joined.items()})


def sky_photons(rng, look, n_cluster):
    """Sky pixels of a beta model of 25 arcsec core radius, cut at 300 arcsec, and of the sources."""
    wcs = sky_wcs(look.ra_deg, look.dec_deg)
    share = rng.uniform(0.0, 1.0 - (1.0 + (300.0 / 25.0) ** 2) ** -0.5, n_cluster)
    radius = 25.0 * np.sqrt((1.0 - share) ** -2 - 1.0) / 0.492
    angle = rng.uniform(0.0, 2.0 * np.pi, n_cluster)
    x0, y0 = wcs.all_world2pix(*CLUSTER, 1)
    x, y = [x0 + radius * np.cos(angle)], [y0 + radius * np.sin(angle)]
    for ra, dec, counts in SOURCES:
        x0, y0 = wcs.all_world2pix(ra, dec, 1)
        off_axis_arcmin = np.hypot(x0 - 4096.5, y0 - 4096.5) * 0.492 / 60.0
        sigma = psf_radius_arcsec(off_axis_arcmin) / 2.146 / 0.492
        x.append(x0 + sigma * rng.standard_normal(counts))
        y.append(y0 + sigma * rng.standard_normal(counts))
    return np.concatenate(x), np.concatenate(y)


def put_cluster(folder, *, n_cluster=40_000, keywords=("RA_PNT", "DEC_PNT")):
    layout = ClusterLayout(folder, "a")
    for obsid, look in LOOKS.items():
        rng = np.random.default_rng(obsid)
        events = observation(rng, obsid=obsid, n=40_000, look=look)
        header = {key: value for key, value in events.header.items() if key not in ("RA_PNT", "DEC_PNT")}
        header |= dict(zip(keywords, (look.ra_deg, look.dec_deg), strict=False))
        events = dataclasses.replace(events, header=header)
        events = with_photons(rng, events, *sky_photons(rng, look, n_cluster))
        repro = layout.observation(obsid).repro
        write_events(repro / f"acisf{obsid:05d}_repro_evt2.fits", events)
        write_events(repro / f"blanksky_{obsid}.fits", blank_sky(rng, obsid=obsid, n=200_000, look=look))
    context = StageContext(ClusterConfig(layout.ini, ClusterSection("a", tuple(LOOKS), signal_to_noise=20.0)), layout)
    merge.STAGE.run(context)
    return context


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    context = put_cluster(tmp_path_factory.mktemp("cluster"))
    autoregions.make_sources(context)
    autoregions.make_exclude(context)
    clean.STAGE.run(context)
    autoregions.make_crop(context)
    return context


def shapes_of(context, path):
    grid = read_image(context.layout.broad_flux)[1]
    return sky_shapes(read_region_file(path), grid), grid


def test_every_source_is_found_where_it_is_and_no_other(prepared):
    shapes, grid = shapes_of(prepared, prepared.layout.sources)
    wcs = sky_wcs(grid.ra_deg, grid.dec_deg)
    assert len(shapes) == len(SOURCES)
    for ra, dec, _ in SOURCES:
        x, y = wcs.all_world2pix(ra, dec, 1)
        distance = [np.hypot(shape.parameters[0] - x, shape.parameters[1] - y) for shape in shapes]
        # 200 photons of sigma below 3 pixels: their mean is known to 0.2; 1 pixel would be a mistaken convention.
        assert min(distance) < 0.8


def test_hardly_any_photon_of_a_source_stays_after_the_cleaning(prepared):
    grid = read_image(prepared.layout.broad_flux)[1]
    wcs = sky_wcs(grid.ra_deg, grid.dec_deg)
    for obsid in LOOKS:
        events = read_events(prepared.layout.observation(obsid).clean_events)
        for ra, dec, _ in SOURCES:
            x, y = wcs.all_world2pix(ra, dec, 1)
            assert np.count_nonzero(np.hypot(events["x"] - x, events["y"] - y) < 4.0) == 0


def test_the_bright_part_is_a_circle_about_the_cluster(prepared):
    (shape,), grid = shapes_of(prepared, prepared.layout.exclude)
    x, y = sky_wcs(grid.ra_deg, grid.dec_deg).all_world2pix(*CLUSTER, 1)
    assert shape.kind == "circle"
    assert np.hypot(shape.parameters[0] - x, shape.parameters[1] - y) * 0.492 < 15.0
    exposed = read_image(prepared.layout.merged_exposure)[0] > 0.0
    assert 0.01 < region_mask(prepared.layout.exclude, grid)[exposed].mean() <= 0.41


def test_the_crop_is_a_box_about_the_cluster_inside_the_exposed_area(prepared):
    (shape,), grid = shapes_of(prepared, prepared.layout.crop)
    x, y = sky_wcs(grid.ra_deg, grid.dec_deg).all_world2pix(*CLUSTER, 1)
    assert shape.kind == "box"
    assert np.hypot(shape.parameters[0] - x, shape.parameters[1] - y) * 0.492 < 60.0
    assert 60.0 < 0.5 * shape.parameters[2] * 0.492 <= 310.0


def test_files_say_that_they_were_made_and_open_in_physical_coordinates(prepared):
    layout = prepared.layout
    for path in (layout.sources, layout.exclude, layout.crop):
        text = path.read_text()
        assert "made by cpxt-prep --auto" in text
        assert "\nphysical\n" in text


def test_a_file_that_is_there_is_never_overwritten(prepared):
    layout = prepared.layout
    drawn = "physical\ncircle(4000,4000,10)\n"
    before = {path: path.read_text() for path in (layout.sources, layout.exclude, layout.crop)}
    for path in before:
        path.write_text(drawn)
    for make in (autoregions.make_sources, autoregions.make_exclude, autoregions.make_crop):
        make(prepared)
    after = [path.read_text() for path in before]
    for path, text in before.items():
        path.write_text(text)
    assert after == [drawn] * 3


def test_the_same_events_give_the_same_sources(prepared):
    layout = prepared.layout
    before = layout.sources.read_bytes()
    layout.sources.unlink()
    autoregions.make_sources(prepared)
    assert layout.sources.read_bytes() == before


def test_a_faint_cluster_gets_a_small_crop_and_a_warning(prepared, caplog):
    faint = dataclasses.replace(
        prepared,
        config=dataclasses.replace(
            prepared.config, cluster=dataclasses.replace(prepared.config.cluster, signal_to_noise=5000.0)
        ),
    )
    text = prepared.layout.crop.read_text()
    prepared.layout.crop.unlink()
    try:
        with caplog.at_level(logging.WARNING):
            autoregions.make_crop(faint)
        (shape,), _ = shapes_of(prepared, prepared.layout.crop)
    finally:
        prepared.layout.crop.write_text(text)
    assert "too faint for circles of signal to noise 5000" in caplog.text
    assert shape.parameters[2] * 0.492 == pytest.approx(2 * autoregions.SMALLEST_MAP_ARCSEC, abs=6.0)


def test_events_without_pointing_are_a_data_error(tmp_path):
    context = put_cluster(tmp_path, n_cluster=1000, keywords=())
    with pytest.raises(DataError, match="neither RA_PNT"):
        autoregions.make_sources(context)


def test_regions_need_the_images_of_the_stage_before(tmp_path):
    layout = ClusterLayout(tmp_path, "a")
    context = StageContext(ClusterConfig(layout.ini, ClusterSection("a", (7,))), layout)
    for make in (autoregions.make_sources, autoregions.make_exclude, autoregions.make_crop):
        with pytest.raises(MissingInput):
            make(context)
