"""What the uncertainty of the background's level does to the best values: fits with a higher and a lower background."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cpxt_hpc.fitting.region_spectra import RegionSpectra
from cpxt_hpc.fitting.settings import FitSettings

LARGEST_ERROR = 0.95
"""A background known worse than this is not moved further: its level stays positive."""


def level_error(spectra: RegionSpectra, settings: FitSettings) -> float:
    """Relative error of a region's background: systematic and statistical, in quadrature."""
    return min(float(np.hypot(settings.systematic, spectra.background_error)), LARGEST_ERROR)


def fill_background_range(
    row: np.ndarray, kt_range: tuple[float, float], error: float, best_at: Callable[[float], tuple[float, float]]
) -> None:
    """Write the range of the best kT and norm while the background's level moves by its error into a row.

    Parameters
    ----------
    row : ndarray of RESULT_DTYPE, shape ()
        Holds the best values with the background as it is.
    kt_range : (float, float)
        Searched temperatures [keV]: the range of kT where a moved background leaves no source at all.
    error : float
        Relative.
    best_at : callable
        From a factor on the background to the best kT and norm.
    """
    kts, norms = [float(row["kT"])], [float(row["norm"])]
    for factor in (1.0 - error, 1.0 + error):
        kt, norm = best_at(factor)
        norms.append(norm)
        kts += [kt] if norm > 0.0 else kt_range
    row["kT_bkg_lo"], row["kT_bkg_hi"] = min(kts), max(kts)
    row["norm_bkg_lo"], row["norm_bkg_hi"] = min(norms), max(norms)
