"""Images on the common grid survive a round trip, with coordinates that other programs read."""

import gzip

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from cpxt_hpc.errors import DataError, MissingInput, OutputError
from cpxt_hpc.io.images import read_image, read_images, write_image, write_images
from cpxt_hpc.science.grid import PixelGrid, sky_wcs

GRID = PixelGrid(150.120050342, -22.204411068, 3308.5, 3292.5, 31, 23, 4)


def image():
    return np.arange(GRID.nx * GRID.ny, dtype=float).reshape(GRID.shape)


def test_data_grid_and_header_come_back(tmp_path):
    path = tmp_path / "a.fits"
    write_image(path, image(), GRID, unit="count/s", header={"MY_KEY": (3, "mine")}, history=["once upon a time"])
    data, grid, header = read_image(path)
    assert np.array_equal(data, image())
    assert grid == GRID
    assert (header["BUNIT"], header["MY_KEY"], header["HISTORY"][0]) == ("count/s", 3, "once upon a time")


@pytest.mark.parametrize("dec", [-0.012345678, 0.0, 89.99, -45.123456789])
def test_grid_comes_back_exactly_anywhere_on_the_sky(tmp_path, dec):
    grid = PixelGrid(359.999999999, dec, -1000.5, 4.5, 3, 2, 2)
    write_image(tmp_path / "a.fits", np.zeros(grid.shape), grid, unit="s")
    assert read_image(tmp_path / "a.fits")[1] == grid


def test_celestial_system_agrees_with_that_of_the_events(tmp_path):
    write_image(tmp_path / "a.fits", image(), GRID, unit="count")
    header = fits.getheader(tmp_path / "a.fits")
    x, y = GRID.sky_from_image(5.0, 7.0)
    from_events = sky_wcs(GRID.ra_deg, GRID.dec_deg).all_pix2world([[x, y]], 1)
    # CDELT is cut to the 20 characters of a FITS card: 1e-17 relative.
    assert WCS(header).all_pix2world([[6.0, 8.0]], 1) == pytest.approx(from_events, abs=1e-10)


def test_physical_systems_give_sky_pixels(tmp_path):
    write_image(tmp_path / "a.fits", image(), GRID, unit="count")
    header = fits.getheader(tmp_path / "a.fits")
    x, y = GRID.sky_from_image(5.0, 7.0)
    assert WCS(header, key="P").all_pix2world([[6.0, 8.0]], 1)[0] == pytest.approx([x, y])
    assert header["LTM1_1"] * x + header["LTV1"] == pytest.approx(6.0)
    assert header["LTM2_2"] * y + header["LTV2"] == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("given", "stored"), [(np.float64, np.float32), (np.int64, np.int32), (np.int16, np.int16), (bool, np.uint8)]
)
def test_types_are_stored_as_documented(tmp_path, given, stored):
    write_image(tmp_path / "a.fits", np.ones(GRID.shape, dtype=given), GRID, unit="")
    assert read_image(tmp_path / "a.fits")[0].dtype == stored


def test_several_images_and_parts_come_back_by_name(tmp_path):
    write_images(tmp_path / "a.fits", [("FI", image(), "count"), ("BI7", image() + 1, "count")], GRID, {"K": 1})
    images, grid, header = read_images(tmp_path / "a.fits")
    assert list(images) == ["FI", "BI7"]
    assert np.array_equal(images["BI7"], image() + 1)
    assert (grid, header["K"]) == (GRID, 1)
    write_image(tmp_path / "b.fits", 2 * image(), GRID, unit="s", parts={"CCD0": image(), "CCD1": image()})
    assert np.array_equal(read_image(tmp_path / "b.fits")[0], sum(read_images(tmp_path / "b.fits")[0].values()))


def test_same_image_gives_the_same_bytes(tmp_path):
    for name in ("a.fits", "b.fits"):
        write_image(tmp_path / name, image(), GRID, unit="count")
    assert (tmp_path / "a.fits").read_bytes() == (tmp_path / "b.fits").read_bytes()


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 2\) does not fit a grid of shape \(23, 31\)"):
        write_image("unused.fits", np.zeros((2, 2)), GRID, unit="count")


def test_missing_file_is_missing_input(tmp_path):
    with pytest.raises(MissingInput, match=r"none\.fits: this image does not exist"):
        read_image(tmp_path / "none.fits")


def test_unreadable_file_is_missing_input(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("cpxt_hpc.io.fits_files.open", refuse, raising=False)
    with pytest.raises(MissingInput, match="may not be read"):
        read_image(tmp_path / "a.fits")


@pytest.mark.parametrize("packed", [False, True])
def test_truncated_file_is_a_data_error(tmp_path, packed):
    path = tmp_path / ("a.fits.gz" if packed else "a.fits")
    write_images(tmp_path / "a.fits", [("A", image(), ""), ("B", image(), "")], GRID)
    whole = (tmp_path / "a.fits").read_bytes()
    whole = gzip.compress(whole) if packed else whole
    path.write_bytes(whole[: int(0.8 * len(whole))])
    with pytest.raises(DataError, match="damaged or truncated"):
        read_images(path)


def test_text_file_is_a_data_error(tmp_path):
    (tmp_path / "a.fits").write_text("no FITS\n")
    with pytest.raises(DataError, match="not a readable FITS image"):
        read_image(tmp_path / "a.fits")


def test_image_without_coordinates_is_a_data_error(tmp_path):
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "a.fits")
    with pytest.raises(DataError, match="does not tell the pixel grid"):
        read_image(tmp_path / "a.fits")


def test_image_with_other_pixels_is_a_data_error(tmp_path):
    write_image(tmp_path / "a.fits", image(), GRID, unit="count")
    fits.setval(tmp_path / "a.fits", "CDELT2P", value=3.0)
    with pytest.raises(DataError, match=r"expected square blocks of sky pixels of 0\.492 arcsec"):
        read_image(tmp_path / "a.fits")


def test_file_without_image_is_a_data_error(tmp_path):
    fits.PrimaryHDU().writeto(tmp_path / "a.fits")
    with pytest.raises(DataError, match="holds no two-dimensional image"):
        read_image(tmp_path / "a.fits")
    with pytest.raises(DataError, match="holds no image extension"):
        read_images(tmp_path / "a.fits")


def test_images_on_different_grids_are_a_data_error(tmp_path):
    write_images(tmp_path / "a.fits", [("A", image(), ""), ("B", image(), "")], GRID)
    fits.setval(tmp_path / "a.fits", "CRVAL1P", value=0.5, ext=2)
    with pytest.raises(DataError, match="different grids"):
        read_images(tmp_path / "a.fits")


def test_file_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "folder").write_text("a file in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        write_image(tmp_path / "folder" / "a.fits", image(), GRID, unit="count")
