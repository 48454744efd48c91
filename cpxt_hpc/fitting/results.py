"""What a fit leaves: one row a region, and the meaning of its status."""

from __future__ import annotations

import enum

import numpy as np


class Status(enum.IntEnum):
    """Outcome of a region's fit. Up to 15 the row holds values; from 16 on it holds none (NaN)."""

    OK = 0
    KT_AT_LOWER_BOUND = 1
    """The best temperature lies at the lower end of the searched range."""
    KT_AT_UPPER_BOUND = 2
    """The best temperature lies at the upper end of the searched range."""
    KT_LO_UNBOUND = 3
    """The lower limit of kT reaches the searched range's end."""
    KT_HI_UNBOUND = 4
    """The upper limit of kT reaches the searched range's end (ClusterPyXT's "worst" fits)."""
    KT_UNCONSTRAINED = 5
    """Neither limit of kT lies inside the searched range, or no source counts are there."""
    NO_EXPOSURE = 16
    """No observation exposes enough of the region."""
    NOT_A_NUMBER = 17
    """The fit gave NaN."""
    CRASHED = 18
    """The fit raised an exception."""
    TIMED_OUT = 19
    """The fit exceeded its time limit."""


FAILURES = (Status.NOT_A_NUMBER, Status.CRASHED, Status.TIMED_OUT)
"""Statuses that end ``cpxt-fit`` with exit code 5."""

FIRST_STATUS_WITHOUT_VALUES = 16

RESULT_DTYPE = np.dtype(
    [
        ("region", "<i4"),
        ("iy", "<i4"),
        ("ix", "<i4"),
        ("radius", "<f8"),
        ("kT", "<f8"),
        ("kT_lo", "<f8"),
        ("kT_hi", "<f8"),
        ("norm", "<f8"),
        ("norm_lo", "<f8"),
        ("norm_hi", "<f8"),
        ("stat", "<f8"),
        ("dof", "<i4"),
        ("status", "<i2"),
        ("n_obs", "<i2"),
        ("observations_used", "<u8"),
        ("net_counts", "<f8"),
        ("background_counts", "<f8"),
        ("exposure_s", "<f8"),
        ("seconds", "<f4"),
    ]
)
"""A row of ``/results``. kT in keV, limits absolute (68 %), norm XSPEC's for the fully exposed region, radius in image
pixels, observations_used a bit mask by position in the fit input, exposure_s the sum of the effective exposures [s],
seconds the wall time of the fit (the one column that differs between runs)."""


def empty_result(region: int, iy: int, ix: int, radius: float, status: Status) -> np.ndarray:
    """A row (0-dimensional structured array) that holds a status and no values."""
    row = np.zeros((), dtype=RESULT_DTYPE)
    for name in (
        "kT",
        "kT_lo",
        "kT_hi",
        "norm",
        "norm_lo",
        "norm_hi",
        "stat",
        "net_counts",
        "background_counts",
    ):
        row[name] = np.nan
    row["region"], row["iy"], row["ix"], row["radius"] = region, iy, ix, radius
    row["status"] = status
    return row
