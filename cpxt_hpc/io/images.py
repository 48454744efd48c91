"""Images on the common pixel grid: FITS with celestial and physical coordinate systems.

The physical system (suffix P, and LTV/LTM) gives sky pixels of the common tangent plane, in which region
files are drawn; from it and the celestial system the `PixelGrid` is read back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from cpxt_hpc import __version__
from cpxt_hpc.errors import DataError
from cpxt_hpc.io.atomic import replacing
from cpxt_hpc.io.fits_files import native, open_fits
from cpxt_hpc.science.grid import SKY_PIXEL_ARCSEC, PixelGrid

HeaderCards = Mapping[str, object]


def write_image(
    path: Path,
    data: np.ndarray,
    grid: PixelGrid,
    *,
    unit: str,
    header: HeaderCards | None = None,
    history: Iterable[str] = (),
    parts: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write one image into the primary block of a FITS file.

    Parameters
    ----------
    path : Path
    data : ndarray, shape (ny, nx)
        Floats are stored as float32, booleans as uint8, 64-bit integers as int32.
    grid : PixelGrid
    unit : str
        BUNIT, for example ``count`` or ``s``.
    header : mapping, optional
        Further keywords: a value, or a pair (value, comment).
    history : iterable of str
    parts : mapping of str to ndarray, shape (ny, nx), optional
        Images of the same unit that the first one is the sum of; written as named extensions.

    Raises
    ------
    ValueError
        The shape is not that of the grid.
    OutputError
        The file cannot be written.
    """
    blocks = [fits.PrimaryHDU(_storable(data, grid), header=_image_header(grid, unit, header, history))]
    for name, part in (parts or {}).items():
        blocks.append(fits.ImageHDU(_storable(part, grid), header=_image_header(grid, unit, None, ()), name=name))
    with replacing(path) as temporary:
        fits.HDUList(blocks).writeto(temporary, overwrite=True)


def read_image(path: Path) -> tuple[np.ndarray, PixelGrid, fits.Header]:
    """Read the first image of a FITS file.

    Returns
    -------
    data : ndarray, shape (ny, nx)
    grid : PixelGrid
    header : Header

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        It is not a FITS image with the coordinate systems that `write_image` writes.
    """
    with open_fits(path, "image") as hdus:
        for block in hdus:
            if block.is_image and block.header.get("NAXIS") == 2:
                return native(block.data), _grid_of(block.header, path), block.header.copy()
    raise DataError(f"{path}: holds no two-dimensional image.")


def write_images(
    path: Path,
    images: Sequence[tuple[str, np.ndarray, str]],
    grid: PixelGrid,
    header: HeaderCards | None = None,
) -> None:
    """Write several images (name, data, unit) as named extensions; ``header`` goes into the primary block.

    Raises
    ------
    ValueError
        A shape is not that of the grid.
    OutputError
        The file cannot be written.
    """
    primary = fits.PrimaryHDU()
    _add_cards(primary.header, {"CREATOR": "cpxt_hpc", "CPXTVER": __version__, **(header or {})})
    blocks = [primary] + [
        fits.ImageHDU(_storable(data, grid), header=_image_header(grid, unit, None, ()), name=name)
        for name, data, unit in images
    ]
    with replacing(path) as temporary:
        fits.HDUList(blocks).writeto(temporary, overwrite=True)


def read_images(path: Path) -> tuple[dict[str, np.ndarray], PixelGrid, fits.Header]:
    """Read what `write_images` wrote, or the parts that `write_image` wrote.

    Returns
    -------
    images : dict of str to ndarray, shape (ny, nx)
        By extension name (upper case), in the order of the file.
    grid : PixelGrid
    header : Header
        Of the primary block.

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        It holds no image extension, or images on different grids.
    """
    images: dict[str, np.ndarray] = {}
    grids = []
    with open_fits(path, "image") as hdus:
        header = hdus[0].header.copy()
        for block in hdus[1:]:
            if block.is_image and block.header.get("NAXIS") == 2:
                images[block.name] = native(block.data)
                grids.append(_grid_of(block.header, path))
    if not images:
        raise DataError(f"{path}: holds no image extension.")
    if any(grid != grids[0] for grid in grids):
        raise DataError(f"{path}: its images lie on different grids. Make it again.")
    return images, grids[0], header


def _storable(data: np.ndarray, grid: PixelGrid) -> np.ndarray:
    data = np.asarray(data)
    if data.shape != grid.shape:
        raise ValueError(f"an image of shape {data.shape} does not fit a grid of shape {grid.shape}")
    if data.dtype.kind == "f":
        return data.astype(np.float32)
    if data.dtype.kind == "b":
        return data.astype(np.uint8)
    if data.dtype.itemsize == 8:
        return data.astype(np.int32)
    return data


def _image_header(
    grid: PixelGrid, unit: str, cards: HeaderCards | None, history: Iterable[str]
) -> fits.Header:
    """Describe the grid: celestial, and physical with sky = CRVALnP + CDELTnP (pixel - CRPIXnP)."""
    column, row = (float(value) for value in grid.wcs().wcs.crpix)
    header = fits.Header()
    _add_cards(header, {
        "BUNIT": (unit, "unit of the pixel values"),
        "CTYPE1": "RA---TAN", "CRVAL1": grid.ra_deg, "CRPIX1": column,
        "CDELT1": -grid.pixel_arcsec / 3600.0, "CUNIT1": "deg",
        "CTYPE2": "DEC--TAN", "CRVAL2": grid.dec_deg, "CRPIX2": row,
        "CDELT2": grid.pixel_arcsec / 3600.0, "CUNIT2": "deg",
        "RADESYS": "ICRS", "EQUINOX": 2000.0,
        "WCSNAMEP": "PHYSICAL",
        "CTYPE1P": "x", "CRVAL1P": grid.sky_x0, "CRPIX1P": 0.5, "CDELT1P": float(grid.binning),
        "CTYPE2P": "y", "CRVAL2P": grid.sky_y0, "CRPIX2P": 0.5, "CDELT2P": float(grid.binning),
        "LTM1_1": 1.0 / grid.binning, "LTM2_2": 1.0 / grid.binning, "LTM1_2": 0.0, "LTM2_1": 0.0,
        "LTV1": 0.5 - grid.sky_x0 / grid.binning, "LTV2": 0.5 - grid.sky_y0 / grid.binning,
        "CREATOR": "cpxt_hpc", "CPXTVER": (__version__, "version of cpxt_hpc"),
        **(cards or {}),
    })
    for line in history:
        header.add_history(line)
    return header


def _add_cards(header: fits.Header, cards: HeaderCards) -> None:
    for key, value in cards.items():
        header[key] = value


def _grid_of(header: fits.Header, path: Path) -> PixelGrid:
    """Read the grid that an image header describes.

    Raises
    ------
    DataError
        A keyword is missing, or the pixels are not square blocks of sky pixels of 0.492 arcsec.
    """
    try:
        binning = float(header["CDELT1P"])
        corner = [
            header[f"CRVAL{axis}P"] + (0.5 - header[f"CRPIX{axis}P"]) * header[f"CDELT{axis}P"]
            for axis in (1, 2)
        ]
        grid = PixelGrid(
            float(header["CRVAL1"]), float(header["CRVAL2"]), *corner,
            int(header["NAXIS1"]), int(header["NAXIS2"]), round(binning),
        )
        sides = (header["CDELT2P"], -header["CDELT1"] * 3600.0 / SKY_PIXEL_ARCSEC,
                 header["CDELT2"] * 3600.0 / SKY_PIXEL_ARCSEC)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path}: its header does not tell the pixel grid ({error}). Expected celestial (TAN) and "
            "physical (P) coordinate systems, as cpxt-prep writes them."
        ) from error
    if grid.binning < 1 or any(abs(side - grid.binning) > 1e-6 * grid.binning for side in (binning, *sides)):
        raise DataError(
            f"{path}: pixels of {binning:g} x {sides[0]:g} sky pixels, {sides[2] * SKY_PIXEL_ARCSEC:g} arcsec; "
            f"expected square blocks of sky pixels of {SKY_PIXEL_ARCSEC} arcsec."
        )
    return grid
