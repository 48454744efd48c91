"""A cluster folder with a fit input and made-up fits of known values: what cpxt-maps starts from, no fit needed."""

import dataclasses
from pathlib import Path

import numpy as np
import synthetic

from cpxt_hpc.fitting.model import FitInput, RegionTable
from cpxt_hpc.fitting.results import RESULT_DTYPE, Status, empty_result
from cpxt_hpc.io.checkpoint import Checkpoint
from cpxt_hpc.io.fit_input import write_fit_input
from cpxt_hpc.io.provenance import Provenance
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.maps import belongs_to_resolution

NAME = "A1"
REDSHIFT = 0.2
INI = f"""[cluster]
name = {NAME}
observation_ids = 90001, 90002
hydrogen_column_density = 5e20
redshift = {REDSHIFT}
abundance = 0.3
"""


def make_input(*, ny: int = 24, nx: int = 26, radius: float = 3.0) -> FitInput:
    """A fit input with a circle of one radius at every exposed pixel, numbered row by row."""
    made = synthetic.make_fit_input(3, ny=ny, nx=nx, n_channels=16)
    iy, ix = np.nonzero(np.any([o.exposure_fraction > 0 for o in made.observations], axis=0))
    n = len(iy)
    regions = RegionTable(
        np.arange(1, n + 1, dtype=np.int32), iy.astype(np.int32), ix.astype(np.int32),
        np.full(n, radius), np.zeros(n + 1, dtype=np.int64), np.zeros(0, dtype=np.int64),
    )  # fmt: skip
    return dataclasses.replace(made, name=NAME, regions=regions)


def fits_of(fit_input: FitInput, *, resolution: int = 2) -> np.ndarray:
    """Fits at the pixels of a resolution, everything free: kT = 2 + iy/10 + ix/100 keV, norm = 1e-4 + 1e-6 region."""
    regions = fit_input.regions
    chosen = belongs_to_resolution(regions.iy, regions.ix, resolution)
    rows = np.zeros(chosen.sum(), dtype=RESULT_DTYPE)
    for column, values in (("region", regions.number), ("iy", regions.iy), ("ix", regions.ix)):
        rows[column] = values[chosen]
    rows["radius"] = regions.radius[chosen]
    rows["kT"] = 2.0 + rows["iy"] / 10.0 + rows["ix"] / 100.0
    rows["kT_lo"], rows["kT_hi"] = rows["kT"] - 0.25, rows["kT"] + 0.5
    rows["norm"] = 1e-4 + 1e-6 * rows["region"]
    rows["norm_lo"], rows["norm_hi"] = 0.98 * rows["norm"], 1.04 * rows["norm"]
    rows["abundance"], rows["abundance_lo"], rows["abundance_hi"] = 0.3, 0.2, 0.5
    rows["nH"], rows["nH_lo"], rows["nH_hi"] = 0.05, 0.03, 0.06
    rows["kT_bkg_lo"], rows["kT_bkg_hi"] = rows["kT"] - 0.1, rows["kT"] + 0.3
    rows["norm_bkg_lo"], rows["norm_bkg_hi"] = 0.99 * rows["norm"], 1.01 * rows["norm"]
    rows["stat"], rows["dof"] = 33.0, 30
    rows["stat_expected"], rows["stat_sigma"], rows["disagreement"] = 29.0, 8.0, 0.6
    rows["n_obs"], rows["observations_used"] = 2, 0b11
    rows["net_counts"], rows["background_counts"], rows["exposure_s"] = 900.0, 100.0, 6e4
    return rows


def frozen(rows: np.ndarray) -> np.ndarray:
    """The same fits by one observation each, with abundance and nH frozen and no look at the background's error."""
    rows = rows.copy()
    for name in ("abundance_lo", "abundance_hi", "nH_lo", "nH_hi", "kT_bkg_lo", "kT_bkg_hi", "disagreement"):
        rows[name] = np.nan
    return rows


def without_values(row: np.ndarray, status: Status) -> np.ndarray:
    """The same region's row of a fit that failed."""
    return empty_result(row["region"], row["iy"], row["ix"], row["radius"], status)


def write_cluster(folder: Path, fit_input: FitInput, rows: np.ndarray | None) -> ClusterLayout:
    """Write cluster.ini, the fit's input and, where rows are given, a checkpoint that holds them."""
    folder.mkdir(parents=True, exist_ok=True)
    layout = ClusterLayout(folder, NAME)
    layout.ini.write_text(INI)
    write_fit_input(layout.fit_input, fit_input)
    if rows is not None:
        with Checkpoint(layout.fits, provenance_of(fit_input)) as checkpoint:
            checkpoint.append(rows)
    return layout


def provenance_of(fit_input: FitInput) -> Provenance:
    return Provenance(fit_input.settings, fit_input.binning_digest)
