import dataclasses

import astropy.units as u
import mapped_cluster
import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM
from astropy.io import fits as fits_files
from astropy.wcs import WCS
from synthetic import make_fit_input

from cpxt_hpc.fitting.regions import RegionFitter
from cpxt_hpc.fitting.results import Flag, Status
from cpxt_hpc.io.images import read_image
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.products.fitted import binning_fault, combine, region_areas, region_sums
from cpxt_hpc.products.maps import make_maps, write_maps
from cpxt_hpc.products.plots import write_pictures
from cpxt_hpc.products.quantities import NO_STATUS, QUANTITIES

FLOAT32 = 1e-6
"""Relative rounding of a value stored as float32."""


def combined(fit_input, rows):
    return combine(
        fit_input,
        rows,
        mapped_cluster.provenance_of(fit_input),
        redshift=mapped_cluster.REDSHIFT,
        line_of_sight_mpc=2.0,
    )


def images(fits):
    return {name: item.image for name, item in make_maps(fits, QUANTITIES).items()}


@pytest.fixture(scope="module")
def fit_input():
    return mapped_cluster.make_input()


@pytest.fixture(scope="module")
def exposed(fit_input):
    return np.any([o.exposure_fraction > 0 for o in fit_input.observations], axis=0)


def one_pixel(fits, maps, row):
    """Every map's value at the pixel of a fit."""
    return {name: image[fits.results["iy"][row], fits.results["ix"][row]] for name, image in maps.items()}


def test_each_map_holds_the_quantity_of_its_name(fit_input):
    rows = mapped_cluster.fits_of(fit_input, resolution=3)
    fits = combined(fit_input, rows)
    maps = images(fits)
    index = int(np.flatnonzero((rows["iy"] == 12) & (rows["ix"] == 14))[0])
    row, at = rows[index], one_pixel(fits, maps, index)
    y, x = np.indices(fit_input.grid.shape)
    n_pixels = np.sum((y - 12) ** 2 + (x - 14) ** 2 <= 3.0**2)
    area = n_pixels * (4 * 0.492 / 60) ** 2
    assert at["temperature_map"] == row["kT"] == 2 + 1.2 + 0.14
    assert at["temperature_error_map"] == pytest.approx(0.375)
    assert at["temperature_error_high_map"] == pytest.approx(0.5)
    assert at["temperature_error_low_map"] == pytest.approx(0.25)
    assert at["temperature_fractional_error_map"] == pytest.approx(0.375 / row["kT"])
    assert at["norm"] == pytest.approx(row["norm"] / area)
    assert at["norm_error"] == pytest.approx(0.03 * row["norm"] / area)
    assert (at["counts"], at["net_counts"], at["exposure"]) == (1000.0, 900.0, 6e4)
    assert at["reduced_statistic"] == pytest.approx(1.1)
    assert at["temperature_background_error_map"] == pytest.approx(0.2)
    assert (at["abundance"], at["abundance_error"]) == (0.3, pytest.approx(0.15))
    assert (at["nH"], at["nH_error"]) == (0.05, pytest.approx(0.015))
    assert (at["goodness"], at["disagreement"]) == (0.5, 0.6)
    assert at["radius"] == pytest.approx(3 * 4 * 0.492)
    assert (at["status"], at["region"]) == (0, row["region"])

    cosmology = FlatLambdaCDM(H0=70, Om0=0.3)
    distance = cosmology.angular_diameter_distance(0.2)
    volume = (area * u.arcmin**2).to_value(u.rad**2) * distance**2 * 2 * u.Mpc
    squared = 1.2 * 4 * np.pi * (distance * 1.2) ** 2 * 1e14 * row["norm"] / u.cm**5 / volume
    density = np.sqrt(squared).to_value(u.cm**-3)
    # Nothing but the order of multiplications differs.
    assert at["density"] == pytest.approx(density, rel=1e-9)
    assert at["pressure"] == pytest.approx(density * row["kT"], rel=1e-9)
    assert at["entropy"] == pytest.approx(row["kT"] * density ** (-2 / 3), rel=1e-9)
    kt_part, norm_part = 0.375 / row["kT"], 0.03
    assert at["density_error"] == pytest.approx(density * norm_part / 2, rel=1e-9)
    assert at["pressure_error"] == pytest.approx(at["pressure"] * np.hypot(kt_part, norm_part / 2), rel=1e-9)
    assert at["entropy_error"] == pytest.approx(at["entropy"] * np.hypot(kt_part, norm_part / 3), rel=1e-9)


def test_relative_maps_run_from_zero_to_one(fit_input):
    maps = images(combined(fit_input, mapped_cluster.fits_of(fit_input)))
    for name in ("relative_density", "relative_pressure", "relative_entropy"):
        assert np.nanmin(maps[name]) == 0.0
        assert np.nanmax(maps[name]) == 1.0


def test_masked_pixels_are_unknown_in_every_map(fit_input, exposed):
    assert not exposed.all()
    for name, image in images(combined(fit_input, mapped_cluster.fits_of(fit_input, resolution=3))).items():
        if np.issubdtype(image.dtype, np.floating):
            assert np.isnan(image[~exposed]).all(), name
            assert np.isfinite(image[exposed]).all(), name
        else:
            assert np.all(image[~exposed] == (NO_STATUS if name in ("status", "flags") else 0)), name


def test_a_failed_fit_is_unknown_and_its_status_shown(fit_input):
    rows = mapped_cluster.fits_of(fit_input)
    index = int(np.flatnonzero((rows["iy"] == 12) & (rows["ix"] == 12))[0])
    rows[index] = mapped_cluster.without_values(rows[index], Status.CRASHED)
    rows["status"][index + 1] = Status.KT_HI_UNBOUND
    fits = combined(fit_input, rows)
    maps = images(fits)
    for name in ("temperature_map", "temperature_error_map", "norm", "density", "exposure", "radius"):
        painted = np.isfinite(maps[name][11:14, 11:14])
        assert painted.any() == (name == "radius"), name
    assert np.all(maps["status"][11:14, 11:14] == 18)
    assert one_pixel(fits, maps, index + 1)["status"] == 4
    assert one_pixel(fits, maps, index + 1)["temperature_map"] == rows["kT"][index + 1]
    assert (fits.n_flagged, fits.n_failed) == (1, 1)


def test_flags_are_shown_as_the_sum_of_their_bits(fit_input):
    rows = mapped_cluster.fits_of(fit_input)
    rows["flags"][5] = Flag.FEW_COUNTS | Flag.OBSERVATIONS_DISAGREE
    fits = combined(fit_input, rows)
    assert one_pixel(fits, images(fits), 5)["flags"] == 5
    assert one_pixel(fits, images(fits), 6)["flags"] == 0
    assert fits.n_flagged == 1


def test_maps_of_what_was_not_fitted_are_not_made_and_the_log_says_which(fit_input, caplog):
    rows = mapped_cluster.frozen(mapped_cluster.fits_of(fit_input))
    with caplog.at_level("INFO"):
        made = images(combined(fit_input, rows))
    missing = [
        "temperature_background_error_map", "abundance", "abundance_error", "nH", "nH_error", "disagreement",
    ]  # fmt: skip
    assert sorted(QUANTITIES.keys() - made.keys()) == sorted(missing)
    assert f"not made, for no fit has what they show: {', '.join(missing)}" in caplog.text
    # One fit that has it is enough.
    rows["disagreement"][3] = 1.5
    assert "disagreement" in images(combined(fit_input, rows))


def test_a_partial_checkpoint_gives_a_partial_map(fit_input):
    rows = mapped_cluster.fits_of(fit_input)
    whole, part = images(combined(fit_input, rows)), images(combined(fit_input, rows[::4]))
    known = np.isfinite(part["temperature_map"])
    assert 0.1 < known.sum() / np.isfinite(whole["temperature_map"]).sum() < 0.4
    np.testing.assert_array_equal(part["temperature_map"][known], whole["temperature_map"][known])
    assert np.all(part["status"][~known] == NO_STATUS)


def test_the_area_of_a_region_is_that_of_the_pixels_that_its_fit_uses(fit_input):
    fitter = RegionFitter(fit_input)
    areas = region_sums(np.ones(fit_input.grid.shape), fit_input.regions)
    for index in range(0, len(fit_input.regions), 37):
        start, stop, *_ = fitter.region_runs(index)
        assert areas[index] == np.sum(stop - start)


def test_the_area_of_an_exact_circle_is_that_of_its_parts_in_the_image():
    fit_input = make_fit_input(n_regions=40, n_pixel_lists=5, edge="exact")
    fitter = RegionFitter(fit_input)
    areas = region_areas(fit_input)
    inside = 0
    for index, area in enumerate(areas):
        pixels = fitter.region_runs(index)
        assert area == pytest.approx(np.sum(pixels.stop - pixels.start) + pixels.edge.part.sum(), rel=1e-15)
        assert area <= pixels.n_pixels * (1.0 + 1e-12)
        inside += area == pytest.approx(np.pi * fit_input.regions.radius[index] ** 2, rel=1e-12)
    assert 0 < inside < 35


def test_surface_brightness_is_net_counts_over_exposure_of_each_circle(fit_input):
    fits = combined(fit_input, mapped_cluster.fits_of(fit_input))
    y, x = np.indices(fit_input.grid.shape)
    for iy, ix in ((12, 12), (20, 3), (23, 25)):
        disc = (y - iy) ** 2 + (x - ix) ** 2 <= 3.0**2
        net = exposure = 0.0
        for o in fit_input.observations:
            net += np.diff(o.pixel_start).reshape(disc.shape)[disc].sum() - o.background_counts[:, disc].sum()
            exposure += o.exposure_s * o.exposure_fraction[disc].sum(dtype=float)
        expected = net / exposure / (4 * 0.492 / 60) ** 2
        # The background is summed in another order, in single precision here.
        assert fits.surface_brightness[iy, ix] == pytest.approx(expected, rel=1e-5)


def test_surface_brightness_is_that_of_the_sky_where_the_area_falls_off_axis(fit_input):
    """With half the area on each pixel the same counts are twice the brightness."""
    halved = tuple(
        dataclasses.replace(
            o, arf_area_cm2=np.concatenate([o.arf_area_cm2, 0.4 * o.arf_area_cm2, 0.6 * o.arf_area_cm2]),
            response_index=np.full_like(o.response_index, 1), response_part=np.full_like(o.response_part, 0.5),
        )
        for o in fit_input.observations
    )  # fmt: skip
    fainter = dataclasses.replace(fit_input, observations=halved)
    rows = mapped_cluster.fits_of(fit_input)
    plain, vignetted = (combined(each, rows).surface_brightness for each in (fit_input, fainter))
    np.testing.assert_allclose(vignetted, 2.0 * plain, rtol=1e-6)


def test_regions_that_are_lists_of_pixels_are_painted_on_their_pixels(fit_input):
    lists = [np.array([100, 101, 130, 300]), np.array([310, 311, 312])]
    n = 3
    regions = dataclasses.replace(
        fit_input.regions,
        number=np.arange(1, n + 1, dtype=np.int32),
        iy=np.array([3, 12, 18], dtype=np.int32),
        ix=np.array([22, 0, 18], dtype=np.int32),
        radius=np.array([0.0, 0.0, 3.0]),
        pixel_start=np.array([0, 4, 7, 7]),
        pixels=np.concatenate(lists),
    )
    made = dataclasses.replace(fit_input, regions=regions)
    rows = mapped_cluster.fits_of(made, resolution=3)
    fits = combined(made, rows)
    image = images(fits)["temperature_map"]
    shown = np.flatnonzero(image == rows["kT"][0])
    exposed = np.any([o.exposure_fraction > 0 for o in made.observations], axis=0)
    np.testing.assert_array_equal(shown, lists[0][exposed.reshape(-1)[lists[0]]])
    assert image[18, 18] == rows["kT"][2]
    np.testing.assert_allclose(fits.area_arcmin2[:2], np.array([4, 3]) * made.grid.pixel_area_arcmin2)


def test_fits_of_another_binning_are_told(fit_input):
    rows = mapped_cluster.fits_of(fit_input)
    provenance = mapped_cluster.provenance_of(fit_input)
    assert binning_fault(provenance, rows, fit_input) == ""
    assert "binning other, now " in binning_fault(
        dataclasses.replace(provenance, binning_digest="other"), rows, fit_input
    )
    moved = rows.copy()
    moved["ix"][4] += 1
    assert f"its region {moved['region'][4]} stands at row" in binning_fault(provenance, moved, fit_input)
    grown = rows.copy()
    grown["radius"][5] = 3.125
    assert "with radius 3.125" in binning_fault(provenance, grown, fit_input)
    beyond = rows.copy()
    beyond["region"][-1] = 10**6
    assert "its region 1000000" in binning_fault(provenance, beyond, fit_input)


@pytest.fixture(scope="module")
def written(fit_input, tmp_path_factory):
    layout = ClusterLayout(tmp_path_factory.mktemp("maps"), mapped_cluster.NAME, "free")
    fits = combined(fit_input, mapped_cluster.fits_of(fit_input))
    maps = make_maps(fits, QUANTITIES)
    write_maps(maps.values(), fits, layout)
    return layout, fits, maps


def test_files_hold_the_maps_their_units_and_the_grid(written):
    layout, fits, maps = written
    for name, item in maps.items():
        data, grid, header = read_image(layout.map_file(f"{name}.fits"))
        assert grid == fits.grid
        assert header["BUNIT"] == item.quantity.unit
        u.Unit(header["BUNIT"], format="fits")
        np.testing.assert_allclose(data, item.image, rtol=FLOAT32)


def test_a_known_pixel_lies_where_the_grid_says_on_the_sky_and_in_physical_pixels(written):
    layout, fits, _ = written
    path = layout.map_file("temperature_map.fits")
    assert path.name == "A1_free_temperature_map.fits"
    header = fits_files.getheader(path)
    x, y = fits.grid.sky_from_image(20, 7)
    ra, dec = WCS(header).pixel_to_world_values(20, 7)
    # Independent of the grid's own wcs(): a tangent plane of 0.492 arcsec pixels about (4096.5, 4096.5).
    plane = WCS(naxis=2)
    plane.wcs.ctype, plane.wcs.crval = ["RA---TAN", "DEC--TAN"], [fits.grid.ra_deg, fits.grid.dec_deg]
    plane.wcs.crpix, plane.wcs.cdelt = [4096.5, 4096.5], [-0.492 / 3600, 0.492 / 3600]
    assert np.abs(np.array(plane.wcs_world2pix(ra, dec, 1)) - [x, y]).max() < 0.01 * 4
    np.testing.assert_allclose(WCS(header, key="P").wcs_pix2world(20, 7, 0), [x, y], atol=0.01)


def test_headers_tell_what_a_map_was_made_of(written):
    layout, fits, _ = written
    header = fits_files.getheader(layout.map_file("density.fits"))
    assert header["OBSIDS"] == "90001 90002"
    assert header["MAPRESOL"] == 2
    assert header["NFITTED"] == len(fits.results) == header["NREGIONS"]
    assert header["REDSHIFT"] == 0.2
    assert header["LOSMPC"] == 2.0
    assert fits.provenance.settings_digest.startswith(header["SETDIG"])
    assert header["BINDIG"] == fits.provenance.binning_digest
    history = " ".join(header["HISTORY"])
    assert "L = 2 Mpc" in history
    assert "L^(-1/2)" in history
    assert "statistic = cstat" in history


def test_there_is_a_picture_of_every_kind_of_map(written):
    layout, fits, maps = written
    some = {name: maps[name] for name in ("temperature_map", "temperature_error_map", "status", "density", "region")}
    paths = write_pictures(some, fits, layout)
    assert [path.name for path in paths] == [f"A1_free_{name}.png" for name in some]
    sizes = {path.stem.removeprefix("A1_free_"): _png_size(path) for path in paths}
    assert sizes["temperature_map"][0] == pytest.approx(2 * sizes["temperature_error_map"][0], abs=2)


def test_maps_of_failures_and_of_one_value_only_still_give_pictures(fit_input, tmp_path):
    rows = mapped_cluster.fits_of(fit_input, resolution=1)
    failed = rows.copy()
    for i in range(len(rows)):
        failed[i] = mapped_cluster.without_values(rows[i], Status.NO_EXPOSURE)
    for case, chosen in (("failed", failed), ("one", rows[:1])):
        fits = combined(fit_input, chosen)
        names = ("temperature_map", "temperature_error_map", "pressure", "status")
        assert len(write_pictures(make_maps(fits, names), fits, ClusterLayout(tmp_path / case, "A1"))) == 4


def _png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
