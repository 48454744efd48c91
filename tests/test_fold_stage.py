"""Responses over the field of a small cluster: vignetting about each pointing, and where the ARFs were made."""

import logging
import shutil

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from test_bin_stage import LOOKS, _xspec_once, context_of, prepared  # noqa: F401

from cpxt_hpc.config import FitSection, ResponseSection
from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io.fit_input import read_fit_input
from cpxt_hpc.io.images import read_image
from cpxt_hpc.io.ogip import read_responses
from cpxt_hpc.io.vignetting_table import hrma_vignetting
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.vignetting import relative_area
from cpxt_hpc.stages import bin as binning
from cpxt_hpc.stages import respond
from cpxt_hpc.stages.fold import fold_field


@pytest.fixture
def copy(prepared, tmp_path):  # noqa: F811
    """The prepared cluster, to be spoiled."""
    shutil.copytree(prepared.folder, tmp_path / "copy")
    return ClusterLayout(tmp_path / "copy", "a")


def folded(layout, **sections):
    mask, grid, _ = read_image(layout.mask)
    return fold_field(context_of(layout, **sections), grid, mask > 0), grid, mask > 0


@pytest.fixture(scope="module")
def field(prepared):  # noqa: F811
    return folded(prepared)


def own_arf(layout, obsid):
    return read_responses(layout.observation(obsid).arf, layout.observation(obsid).rmf)[0]


def test_each_pixel_has_the_angle_from_its_observations_pointing(field):
    model, grid, _ = field
    iy, ix = np.indices(grid.shape)
    places = SkyCoord(*grid.wcs().all_pix2world(ix, iy, 0), unit="deg")
    for responses, look in zip(model.responses, LOOKS.values(), strict=True):
        expected = places.separation(SkyCoord(look.ra_deg, look.dec_deg, unit="deg")).to_value(u.arcmin)
        # The map begins at the axis of one pointing and not of the other, but within 1 arcmin of both.
        np.testing.assert_allclose(responses.index + responses.part, expected, atol=2e-6)
        at_cluster_energies = relative_area(hrma_vignetting(), 1.5, expected)
        np.testing.assert_allclose(responses.relative_area, at_cluster_energies, rtol=1e-9)


def test_responses_are_the_arf_times_the_vignetting(prepared, field):  # noqa: F811
    model, _, _ = field
    for obsid, responses in zip(LOOKS, model.responses, strict=True):
        area = own_arf(prepared, obsid)
        middle = 0.5 * (area.energy_edges_kev[:-1] + area.energy_edges_kev[1:])
        angles = np.arange(len(responses.area_cm2), dtype=float)
        assert len(angles) >= 4
        expected = area.area_cm2 * relative_area(hrma_vignetting(), middle, angles[:, None])
        np.testing.assert_allclose(responses.area_cm2, expected, rtol=1e-12)


def test_without_vignetting_there_is_the_arf_alone(prepared, field):  # noqa: F811
    model, _, _ = folded(prepared, response=ResponseSection(vignetting="none"))
    for obsid, responses, rates, vignetted in zip(LOOKS, model.responses, model.rates, field[0].rates, strict=True):
        assert np.array_equal(responses.area_cm2, own_arf(prepared, obsid).area_cm2[None])
        assert not responses.index.any() and not responses.part.any() and np.all(responses.relative_area == 1.0)
        assert np.array_equal(rates, vignetted[:1])


def test_hard_channels_lose_more_than_soft_ones(field):
    rates = field[0].rates[0][:, 0, 1, 20]
    lost = rates[-1] / rates[0]
    assert lost[:50].mean() > lost[-100:].mean() > 0.8
    assert np.all(np.diff(rates.sum(axis=-1)) < 0)


def test_without_a_region_file_the_arf_is_that_of_the_aimpoint(field):
    model, grid, _ = field
    for responses, look in zip(model.responses, LOOKS.values(), strict=True):
        ra, dec = grid.wcs().all_pix2world(responses.arf_ix, responses.arf_iy, 0)
        np.testing.assert_allclose([ra, dec], [look.ra_deg, look.dec_deg], atol=1e-9)


def test_the_region_file_says_where_the_arf_was_made(copy, caplog):
    # Observation 8 borrows the ARF: its angle is that of observation 7, wherever 8 looks.
    copy.observation(7).arf_region.write_text('fk5\ncircle(150.0,22.05,20")\n')
    with caplog.at_level(logging.INFO):
        model, grid, _ = folded(copy)
    assert "ObsID 7: ARF made 3.0 arcmin off axis (acisI_region_0.reg)" in caplog.text
    assert "ObsID 8: ARF made 3.0 arcmin off axis (acisI_region_0.reg of ObsID 7)" in caplog.text
    own, borrowed = model.responses
    ra, dec = grid.wcs().all_pix2world(own.arf_ix, own.arf_iy, 0)
    np.testing.assert_allclose([ra, dec], [150.0, 22.05], atol=grid.pixel_arcsec / 3600.0)
    assert np.isnan(borrowed.arf_ix)
    for obsid, responses in ((7, own), (8, borrowed)):
        # Made within 1 pixel of 3 arcmin: there the response is the ARF.
        np.testing.assert_allclose(responses.area_cm2[3], own_arf(copy, obsid).area_cm2, rtol=2e-3)
        assert np.all(responses.area_cm2[0] >= responses.area_cm2[3])
    assert copy.observation(7).arf_region in binning.STAGE.needs(context_of(copy))


def test_the_angle_of_the_arf_can_be_stated(prepared):  # noqa: F811
    model, _, _ = folded(prepared, response=ResponseSection(arf_off_axis_arcmin=2.0))
    for obsid, responses in zip(LOOKS, model.responses, strict=True):
        np.testing.assert_allclose(responses.area_cm2[2], own_arf(prepared, obsid).area_cm2, rtol=1e-12)
        assert np.isnan(responses.arf_iy) and np.isnan(responses.arf_ix)


def test_a_region_file_beside_the_image_is_refused(copy):
    copy.observation(7).arf_region.write_text('fk5\ncircle(151.0,25.0,20")\n')
    with pytest.raises(DataError, match=r"acisI_region_0\.reg: no pixel of the image lies inside.*arf_off_axis_arcmin"):
        folded(copy)


def test_an_event_file_without_pointing_is_refused_where_it_is_needed(copy):
    with fits.open(copy.observation(8).clean_events, mode="update") as blocks:
        del blocks["EVENTS"].header["RA_PNT"]
    with pytest.raises(DataError, match=r"8/analysis/acisI_clean\.fits: has neither RA_PNT.*vignetting = none"):
        folded(copy)
    model, _, _ = folded(copy, response=ResponseSection(vignetting="none"))
    assert np.isfinite(model.responses[0].arf_ix) and np.isnan(model.responses[1].arf_ix)


def test_pixels_beyond_the_table_are_told(copy, caplog):
    with fits.open(copy.observation(8).clean_events, mode="update") as blocks:
        blocks["EVENTS"].header["RA_PNT"] = 150.25
    with caplog.at_level(logging.WARNING):
        model, _, _ = folded(copy)
    assert "more than 12 arcmin off axis" in caplog.text and "ObsID 7" not in caplog.text
    assert len(model.responses[1].area_cm2) <= 13


def test_weights_are_the_brightness_of_the_sky_and_not_of_the_image(copy):
    weights = {}
    for vignetting in ("hrma", "none"):
        binning.STAGE.run(context_of(copy, response=ResponseSection(vignetting=vignetting)))
        weights[vignetting] = read_fit_input(copy.fit_input).surface_brightness
    model, _, mask = folded(copy)
    ratio = (weights["hrma"] / weights["none"])[mask]
    area = np.mean([each.relative_area for each in model.responses], axis=0)[mask]
    # Means over circles of 10 sigma: what they average differs a little from the pixel's own.
    np.testing.assert_allclose(ratio, 1.0 / area, rtol=0.03)
    assert np.corrcoef(ratio, 1.0 / area)[0, 1] > 0.9


def test_a_free_hydrogen_column_folds_a_grid_and_keeps_the_frozen_one(copy):
    packed = {}
    for free in ("none", "nH"):
        binning.STAGE.run(context_of(copy, fit=FitSection(free=free)))
        packed[free] = read_fit_input(copy.fit_input)
    frozen, grid = packed["none"], packed["nH"]
    assert frozen.nh_nodes_1e22.tolist() == [0.05]
    assert grid.nh_nodes_1e22[0] == 0.0 and np.all(np.diff(grid.nh_nodes_1e22) > 0)
    (own,) = np.flatnonzero(grid.nh_nodes_1e22 == 0.05)
    for one, many in zip(frozen.observations, grid.observations, strict=True):
        assert np.array_equal(one.nodes[:, 0], many.nodes[:, own])
    # A fit with the frozen column is the same fit on both.
    assert frozen.settings == grid.settings and frozen.binning_digest == grid.binning_digest


def test_the_error_of_a_tabulated_model_is_stored_and_told(copy, caplog):
    with caplog.at_level(logging.WARNING):
        binning.STAGE.run(context_of(copy, fit=FitSection(plasma="zbremss")))
    packed = read_fit_input(copy.fit_input)
    assert 0.001 < packed.settings["model_error"] < 0.01
    assert f"zbremss is not linear in kT: tabulated at {len(packed.kt_nodes_kev)} temperatures" in caplog.text


def hand_in_tiles(layout, *names):
    """Tiles of observation 7: a strip in the west with half of the area, and the rest."""
    folder = layout.observation(7).repro / "tiles"
    folder.mkdir(parents=True)
    with fits.open(layout.observation(7).arf) as arf:
        for name, factor, region in (
            ("east", 1.0, "box(150.03,22.0,216\",720\",0)"),
            ("west", 0.5, "box(149.97,22.0,216\",720\",0)"),
        ):  # fmt: skip
            arf["SPECRESP"].data["SPECRESP"] *= factor
            arf.writeto(folder / f"{name}.arf.gz")
            (folder / f"{name}.reg").write_text(f"fk5\n{region}\n")
    return folder


def test_each_tile_has_its_own_arf(copy):
    hand_in_tiles(copy)
    assert copy.observation(7).repro / "tiles" / "west.reg" in respond.STAGE.needs(context_of(copy))
    respond.run(context_of(copy))
    assert copy.observation(7).analysis / "tiles" / "west.arf" in binning.STAGE.needs(context_of(copy))
    model, grid, _ = folded(copy)
    tiled, vignetted = model.responses
    whole = own_arf(copy, 7).area_cm2
    np.testing.assert_allclose(tiled.area_cm2, [whole, 0.5 * whole], rtol=1e-6)
    ra, _ = grid.wcs().all_pix2world(*np.indices(grid.shape)[::-1], 0)
    away = np.abs(ra - 150.0) > 3e-3  # the boxes overlap a little: their width is in arcsec on the sky
    assert np.array_equal(tiled.index[away], (ra < 150.0)[away])
    assert not tiled.part.any() and len(vignetted.area_cm2) > 3
    np.testing.assert_allclose(model.rates[0][1], 0.5 * model.rates[0][0], rtol=1e-6)
    np.testing.assert_allclose(tiled.relative_area, np.where(tiled.index == 0, 1.0, 0.5), rtol=1e-6)
    one, _, _ = folded(copy, response=ResponseSection(tiles="1"))
    assert len(one.responses[0].area_cm2) > 3


def test_tiles_that_were_taken_away_are_forgotten(copy):
    folder = hand_in_tiles(copy)
    respond.run(context_of(copy))
    shutil.rmtree(folder)
    respond.run(context_of(copy))
    model, _, _ = folded(copy)
    assert model.responses[0].part.any()


def test_a_tile_without_an_area_is_refused(copy):
    (hand_in_tiles(copy) / "east.reg").unlink()
    with pytest.raises(MissingInput, match=r"has east\.arf but no east\.reg"):
        respond.run(context_of(copy))
