"""Fitted temperatures held against a known truth.

Circles of neighbouring pixels overlap and share photons, so the table also counts circles that do not. A
circle belongs to a truth region where the truth has one temperature over all of it, point-spread function
included.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy import ndimage

from cpxt_hpc.errors import MissingInput
from cpxt_hpc.fitting.results import FIRST_STATUS_WITHOUT_VALUES
from cpxt_hpc.science.grid import PixelGrid

MARGIN_PIXEL = 2.0
"""Circles keep this distance [image pixels] from the truth's edges, which the point-spread function blurs."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How the fits in one truth region compare with its temperature.

    Attributes
    ----------
    kt_kev : float
    n_circles : int
        Fitted circles that lie wholly in the region.
    median_kev : float
    n_independent : int
        Circles among them that do not overlap.
    expected_scatter_kev : float
        Standard error of the median: the circles' error over sqrt(n_independent).
    inside : float
        Share of the circles whose 68 % interval holds the truth.
    inside_independent : float
        The same for those that do not overlap.
    pull_mean, pull_rms : float
        Of the circles that do not overlap: (kT - truth) / one-sided error.
    """

    kt_kev: float
    n_circles: int
    median_kev: float
    n_independent: int
    expected_scatter_kev: float
    inside: float
    inside_independent: float
    pull_mean: float
    pull_rms: float


def truth_on_grid(path: Path, grid: PixelGrid) -> np.ndarray:
    """Temperatures of a truth image [keV] at the pixels of a grid, shape (ny, nx); NaN outside it."""
    try:
        with fits.open(path) as blocks:
            image = np.asarray(blocks[0].data, dtype=float)
            wcs = WCS(blocks[0].header)
    except FileNotFoundError:
        raise MissingInput(f"{path} is missing: the temperature image that cpxt-demo writes.") from None
    iy, ix = np.indices(grid.shape)
    ra, dec = grid.wcs().all_pix2world(ix, iy, 0)
    column, row = wcs.all_world2pix(ra, dec, 0)
    values = ndimage.map_coordinates(image, [row, column], order=0, cval=np.nan)
    return np.where(values > 0, values, np.nan)


def circles_inside(results: np.ndarray, truth: np.ndarray, *, margin_pixel: float = MARGIN_PIXEL) -> np.ndarray:
    """Truth temperature of the region that holds each fitted circle; NaN where a circle crosses an edge.

    Parameters
    ----------
    results : ndarray of RESULT_DTYPE, shape (n,)
    truth : ndarray, shape (ny, nx)
        Temperature [keV], NaN outside the cluster.
    margin_pixel : float
        Distance that a circle keeps from an edge [pixel].

    Returns
    -------
    ndarray, shape (n,)
    """
    held = np.full(len(results), np.nan)
    for kt in np.unique(truth[np.isfinite(truth)]):
        padded = np.pad(truth == kt, 1, constant_values=False)
        distance = ndimage.distance_transform_edt(padded)[1:-1, 1:-1]
        inside = distance[results["iy"], results["ix"]] > results["radius"] + margin_pixel
        held[inside] = kt
    return held


def independent_circles(results: np.ndarray) -> np.ndarray:
    """Boolean array: circles picked, smallest first, so that none overlaps another."""
    picked = np.zeros(len(results), dtype=bool)
    for index in np.lexsort((results["region"], results["radius"])):
        row = results[index]
        others = results[picked]
        distance = np.hypot(others["iy"] - row["iy"], others["ix"] - row["ix"])
        picked[index] = bool(np.all(distance > others["radius"] + row["radius"] + 1.0))
    return picked


def compare(results: np.ndarray, truth: np.ndarray) -> list[Comparison]:
    """One `Comparison` for each temperature of the truth, ascending."""
    results = results[(results["status"] < FIRST_STATUS_WITHOUT_VALUES) & np.isfinite(results["kT"])]
    held = circles_inside(results, truth)
    comparisons = []
    for kt in np.unique(truth[np.isfinite(truth)]):
        here = results[held == kt]
        if not len(here):
            comparisons.append(_nothing_fitted(float(kt)))
            continue
        alone = here[independent_circles(here)]
        error = np.where(alone["kT"] > kt, alone["kT"] - alone["kT_lo"], alone["kT_hi"] - alone["kT"])
        pull = (alone["kT"] - kt) / error
        comparisons.append(
            Comparison(
                kt_kev=float(kt),
                n_circles=len(here),
                median_kev=float(np.median(here["kT"])),
                n_independent=len(alone),
                expected_scatter_kev=float(np.median(here["kT_hi"] - here["kT_lo"]) / 2.0 / math.sqrt(len(alone))),
                inside=_share_inside(here, kt),
                inside_independent=_share_inside(alone, kt),
                pull_mean=float(pull.mean()),
                pull_rms=float(np.sqrt(np.mean(pull**2))),
            )
        )
    return comparisons


def _nothing_fitted(kt: float) -> Comparison:
    nan = math.nan
    return Comparison(
        kt, n_circles=0, median_kev=nan, n_independent=0, expected_scatter_kev=nan,
        inside=nan, inside_independent=nan, pull_mean=nan, pull_rms=nan,
    )  # fmt: skip


def _share_inside(results: np.ndarray, kt: float) -> float:
    return float(np.mean((results["kT_lo"] <= kt) & (kt <= results["kT_hi"])))


def table(comparisons: Sequence[Comparison]) -> str:
    """The comparison as text."""
    lines = [
        "true kT  map median  difference  expected  circles  independent  truth in 68 % interval   pull of the",
        "  (keV)       (keV)                scatter                        all    independent   independent",
        "                                   (keV)                                              mean     rms",
    ]
    for row in comparisons:
        lines.append(
            f"{row.kt_kev:7.2f}  {row.median_kev:10.2f}  {100.0 * (row.median_kev / row.kt_kev - 1.0):+8.1f} %"
            f"  {row.expected_scatter_kev:8.2f}  {row.n_circles:7d}  {row.n_independent:11d}"
            f"  {row.inside:5.2f}  {row.inside_independent:13.2f}  {row.pull_mean:7.2f}  {row.pull_rms:6.2f}"
        )
    return "\n".join(lines)


def consistent(comparisons: Sequence[Comparison], *, sigma: float = 4.0, floor: float = 0.02) -> bool:
    """Whether every median lies within ``sigma`` expected scatters, plus a share of the truth, of the truth."""
    return all(
        row.n_circles > 0 and abs(row.median_kev - row.kt_kev) <= sigma * row.expected_scatter_kev + floor * row.kt_kev
        for row in comparisons
    )
