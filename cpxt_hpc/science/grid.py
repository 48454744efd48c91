"""The pixel grid that all images of all observations of a cluster share.

Sky coordinates are Chandra's physical sky pixels (0.492 arcsec, FITS convention: the centre of the
first pixel is 1.0) of a tangent plane common to all observations. Image pixels are blocks of
``binning`` x ``binning`` sky pixels, counted from zero; their centres have integer coordinates.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from astropy.wcs import WCS

SKY_PIXEL_ARCSEC = 0.492
SKY_REFERENCE_PIXEL = 4096.5
DEFAULT_BINNING = 4


@dataclasses.dataclass(frozen=True)
class PixelGrid:
    """A rectangle of image pixels in a tangent plane.

    Attributes
    ----------
    ra_deg, dec_deg : float
        Tangent point [deg, ICRS]; it lies at sky pixel (4096.5, 4096.5).
    sky_x0, sky_y0 : float
        Sky coordinates of the outer lower left corner of image pixel (0, 0).
    nx, ny : int
        Size [image pixels].
    binning : int
        Sky pixels a side in one image pixel.
    """

    ra_deg: float
    dec_deg: float
    sky_x0: float
    sky_y0: float
    nx: int
    ny: int
    binning: int = DEFAULT_BINNING

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (ny, nx) of an image on this grid."""
        return (self.ny, self.nx)

    @property
    def pixel_arcsec(self) -> float:
        """Side of an image pixel [arcsec]."""
        return SKY_PIXEL_ARCSEC * self.binning

    @property
    def pixel_area_arcmin2(self) -> float:
        """Area of an image pixel [arcmin^2]."""
        return (self.pixel_arcsec / 60.0) ** 2

    def image_from_sky(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Image coordinates (ix, iy), zero-based, pixel centres at integers, of sky positions."""
        column = (np.asarray(x, dtype=float) - self.sky_x0) / self.binning - 0.5
        row = (np.asarray(y, dtype=float) - self.sky_y0) / self.binning - 0.5
        return column, row

    def sky_from_image(self, ix: np.ndarray, iy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sky coordinates (x, y) of image positions: the inverse of `image_from_sky`."""
        x = (np.asarray(ix, dtype=float) + 0.5) * self.binning + self.sky_x0
        y = (np.asarray(iy, dtype=float) + 0.5) * self.binning + self.sky_y0
        return x, y

    def pixel_index(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Flat index iy * nx + ix of the pixel that holds each sky position; -1 outside the grid."""
        ix = np.floor((np.asarray(x, dtype=float) - self.sky_x0) / self.binning).astype(np.int64)
        iy = np.floor((np.asarray(y, dtype=float) - self.sky_y0) / self.binning).astype(np.int64)
        inside = (ix >= 0) & (ix < self.nx) & (iy >= 0) & (iy < self.ny)
        return np.where(inside, iy * self.nx + ix, -1)

    def place_in_pixel(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance (dx, dy) of sky positions from the centre of their pixel [image pixel], float32, -0.5 to 0.5.

        Nothing of a position in float32, as event files have it, is lost: a float32 from the pixel's centre is finer.
        """
        column = (np.asarray(x, dtype=float) - self.sky_x0) / self.binning
        row = (np.asarray(y, dtype=float) - self.sky_y0) / self.binning
        return tuple((place - np.floor(place) - 0.5).astype(np.float32) for place in (column, row))

    def counts_image(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Number of positions in each pixel, shape (ny, nx), int64."""
        index = self.pixel_index(x, y)
        return np.bincount(index[index >= 0], minlength=self.nx * self.ny).reshape(self.shape)

    def crop(self, iy0: int, iy1: int, ix0: int, ix1: int) -> PixelGrid:
        """The part of the grid with rows iy0 <= iy < iy1 and columns ix0 <= ix < ix1.

        Raises
        ------
        ValueError
            The part is empty or reaches outside the grid.
        """
        if not (0 <= iy0 < iy1 <= self.ny and 0 <= ix0 < ix1 <= self.nx):
            raise ValueError(
                f"rows {iy0}:{iy1}, columns {ix0}:{ix1} are not a part of a grid of {self.ny} x {self.nx} pixels"
            )
        return dataclasses.replace(
            self,
            sky_x0=self.sky_x0 + ix0 * self.binning,
            sky_y0=self.sky_y0 + iy0 * self.binning,
            nx=ix1 - ix0,
            ny=iy1 - iy0,
        )

    def wcs(self) -> WCS:
        """Celestial coordinate system of an image on this grid (RA---TAN, DEC--TAN, ICRS)."""
        wcs = sky_wcs(self.ra_deg, self.dec_deg)
        column, row = self.image_from_sky(SKY_REFERENCE_PIXEL, SKY_REFERENCE_PIXEL)
        wcs.wcs.crpix = [column + 1.0, row + 1.0]
        wcs.wcs.cdelt = wcs.wcs.cdelt * self.binning
        wcs.wcs.set()
        return wcs


def part_of(full: PixelGrid, part: PixelGrid) -> tuple[slice, slice]:
    """Rows and columns of a grid that a part of it covers.

    Raises
    ------
    ValueError
        It is no part of the grid.
    """
    ix0 = round((part.sky_x0 - full.sky_x0) / full.binning)
    iy0 = round((part.sky_y0 - full.sky_y0) / full.binning)
    rows, columns = (iy0, iy0 + part.ny), (ix0, ix0 + part.nx)
    if full.crop(*rows, *columns) != part:
        raise ValueError(f"the grid {part} is no part of the grid {full}")
    return slice(*rows), slice(*columns)


def sky_wcs(
    ra_deg: float,
    dec_deg: float,
    *,
    reference_pixel: tuple[float, float] = (SKY_REFERENCE_PIXEL, SKY_REFERENCE_PIXEL),
    pixel_deg: tuple[float, float] = (-SKY_PIXEL_ARCSEC / 3600.0, SKY_PIXEL_ARCSEC / 3600.0),
) -> WCS:
    """Coordinate system of sky pixels (x, y) about a tangent point, as event files describe it."""
    from astropy.wcs import WCS  # here, so that the many workers of a fit need not load astropy

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = [ra_deg, dec_deg]
    wcs.wcs.crpix = list(reference_pixel)
    wcs.wcs.cdelt = np.array(pixel_deg, dtype=float)
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs


def reproject_sky(x: np.ndarray, y: np.ndarray, source: WCS, target: WCS) -> tuple[np.ndarray, np.ndarray]:
    """Move sky-pixel positions from one tangent plane to another (FITS pixel convention)."""
    ra, dec = source.all_pix2world(x, y, 1)
    return tuple(target.all_world2pix(ra, dec, 1))


def grid_covering(
    ra_deg: float,
    dec_deg: float,
    x: np.ndarray,
    y: np.ndarray,
    *,
    binning: int = DEFAULT_BINNING,
    margin_pixel: int = 4,
) -> PixelGrid:
    """The smallest grid about a tangent point that holds all sky positions, plus a margin [image pixels].

    Pixel edges lie at sky coordinates 0.5 + k * binning, where CIAO's ``[bin sky=4]`` puts them.
    """
    low_x, high_x, low_y, high_y = (float(f(v)) for v in (x, y) for f in (np.min, np.max))
    first_x, first_y = (int(np.floor((low - 0.5) / binning)) - margin_pixel for low in (low_x, low_y))
    last_x, last_y = (int(np.floor((high - 0.5) / binning)) + 1 + margin_pixel for high in (high_x, high_y))
    return PixelGrid(
        ra_deg,
        dec_deg,
        0.5 + first_x * binning,
        0.5 + first_y * binning,
        last_x - first_x,
        last_y - first_y,
        binning,
    )
