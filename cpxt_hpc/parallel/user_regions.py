"""Fits of the user's own regions: any shapes of a DS9 or CIAO region file, one fit a shape."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import DataError
from cpxt_hpc.fitting.flags import flag_text
from cpxt_hpc.fitting.regions import RegionFitter
from cpxt_hpc.fitting.results import RESULT_DTYPE, Flag, Status, empty_result
from cpxt_hpc.io.atomic import write_text
from cpxt_hpc.io.region_files import read_region_file, sky_shapes
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.masks import shapes_mask

SHOWN_CHARACTERS = 48
"""Polygons are cut here in the table on the terminal; the CSV file has them whole."""

COLUMNS = (
    "region", "shape", "kT", "kT_lo", "kT_hi", "norm", "norm_lo", "norm_hi", "abundance", "abundance_lo",
    "abundance_hi", "nH", "nH_lo", "nH_hi", "kT_bkg_lo", "kT_bkg_hi", "norm_bkg_lo", "norm_bkg_hi", "stat", "dof",
    "stat_expected", "stat_sigma", "disagreement", "status", "flags", "n_obs", "net_counts", "background_counts",
    "exposure_s", "pixels", "area_arcmin2",
)  # fmt: skip

log = logging.getLogger("cpxt_hpc.fit")


def user_region_pixels(
    path: Path, grid: PixelGrid, *, image_grid: PixelGrid | None = None
) -> list[tuple[str, np.ndarray]]:
    """Pixels of each shape of a region file.

    Parameters
    ----------
    path : Path
    grid : PixelGrid
        That of the fit input.
    image_grid : PixelGrid, optional
        Grid of the image that ``image`` coordinates refer to; by default ``grid``.

    Returns
    -------
    list of (str, ndarray of int64)
        The shape as the file has it, and the flat indices of the pixels whose centre lies inside it and in no
        excluded shape.

    Raises
    ------
    MissingInput, DataError
        The file cannot be read, or has no shape with an area.
    """
    lines = read_region_file(path)
    shapes = sky_shapes(lines, grid, image_grid=image_grid)
    if not any(shape.include for shape in shapes):
        raise DataError(f"{path}: no shape to fit. Draw circles, ellipses, boxes, annuli or polygons.")
    cut = np.zeros(grid.shape, dtype=bool)
    for shape in shapes:
        if not shape.include:
            cut |= ~shapes_mask([shape], grid, mode="centre")
    return [
        (line.text.partition("#")[0].strip(), np.flatnonzero(shapes_mask([shape], grid, mode="centre") & ~cut))
        for line, shape in zip(lines, shapes, strict=True)
        if shape.include
    ]


def fit_user_regions(fitter: RegionFitter, pixels: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Fit each set of pixels.

    Returns
    -------
    ndarray of RESULT_DTYPE, shape (n,)
        Numbered from 1 in the order of the file.
    """
    rows = [
        fitter.fit_pixels(inside, number) if len(inside) else empty_result(number, 0, 0, 0.0, Status.NO_EXPOSURE)
        for number, (_, inside) in enumerate(pixels, start=1)
    ]
    return np.array(rows, dtype=RESULT_DTYPE)


def write_user_table(
    layout: ClusterLayout, region_file: Path, grid: PixelGrid, pixels: list[tuple[str, np.ndarray]], rows: np.ndarray
) -> Path:
    """Write the fits as CSV, named after the region file; returns the table's path.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row, (shape, inside) in zip(rows, pixels, strict=True):
        values = {name: row[name].item() for name in RESULT_DTYPE.names}
        values["status"] = Status(values["status"]).name
        values["flags"] = " ".join(flag.name for flag in Flag(values["flags"]))
        values |= {"shape": shape, "pixels": len(inside), "area_arcmin2": len(inside) * grid.pixel_area_arcmin2}
        table.writerow([f"{v:.8g}" if isinstance(v, float) else v for v in (values[name] for name in COLUMNS)])
    path = layout.table(f"regions_{region_file.stem}")
    write_text(path, text.getvalue())
    return path


def table_lines(pixels: list[tuple[str, np.ndarray]], rows: np.ndarray) -> list[str]:
    """The fits as a person reads them, one line each below a heading."""
    lines = [f"{'region':>6} {'kT [keV]':>9} {'limits':>17} {'norm':>10} {'net counts':>10}  status, shape"]
    for row, (shape, _) in zip(rows, pixels, strict=True):
        limits = f"{row['kT_lo']:.3f} to {row['kT_hi']:.3f}"
        told = [Status(row["status"]).name, *(flag_text(flag) for flag in Flag(int(row["flags"])))]
        lines.append(
            f"{row['region']:6d} {row['kT']:9.3f} {limits:>17} {row['norm']:10.4g} {row['net_counts']:10.0f}"
            f"  {', '.join(told)} {_shortened(shape)}"
        )
    return lines


def _shortened(shape: str) -> str:
    return shape if len(shape) <= SHOWN_CHARACTERS else f"{shape[:SHOWN_CHARACTERS]}..."
