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


class Flag(enum.IntFlag):
    """What to look at before a fit with values is believed; bits of the column ``flags``."""

    NONE = 0
    FEW_COUNTS = 1
    """Fewer counts than `FEW_COUNTS_BELOW`: temperatures scatter asymmetrically."""
    POOR_FIT = 2
    """The statistic lies more than `POOR_FIT_SIGMA` from its expectation."""
    OBSERVATIONS_DISAGREE = 4
    """The observations' own kT and norm differ by more than `DISAGREEMENT_SIGMA`."""
    FAR_FROM_ARF = 8
    """One response serves the whole field, and was made more than `FAR_FROM_ARF_ARCMIN` from here."""
    ABUNDANCE_AT_BOUND = 16
    """The best abundance lies at an end of the searched range."""
    ABUNDANCE_UNBOUND = 32
    """A limit of the abundance is not constrained."""
    NH_AT_BOUND = 64
    """The best nH lies at an end of the searched range."""
    NH_UNBOUND = 128
    """A limit of nH is not constrained."""
    BACKGROUND_UNCERTAIN = 256
    """The uncertainty of the background's level moves kT by more than its statistical error."""


FEW_COUNTS_BELOW = 500
POOR_FIT_SIGMA = 5.0
DISAGREEMENT_SIGMA = 4.0
"""Expected by chance in 6 of 100,000 regions."""
FAR_FROM_ARF_ARCMIN = 3.0

FAILURES = (Status.NOT_A_NUMBER, Status.CRASHED, Status.TIMED_OUT)
"""Statuses that end ``cpxt-fit`` with exit code 5."""

FIRST_STATUS_WITHOUT_VALUES = 16

VALUE_COLUMNS = (
    "kT", "kT_lo", "kT_hi", "norm", "norm_lo", "norm_hi", "abundance", "abundance_lo", "abundance_hi",
    "nH", "nH_lo", "nH_hi", "kT_bkg_lo", "kT_bkg_hi", "norm_bkg_lo", "norm_bkg_hi",
    "stat", "stat_expected", "stat_sigma", "disagreement", "net_counts", "background_counts",
)  # fmt: skip
"""Columns that are NaN where nothing is known."""

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
        ("abundance", "<f8"),
        ("abundance_lo", "<f8"),
        ("abundance_hi", "<f8"),
        ("nH", "<f8"),
        ("nH_lo", "<f8"),
        ("nH_hi", "<f8"),
        ("kT_bkg_lo", "<f8"),
        ("kT_bkg_hi", "<f8"),
        ("norm_bkg_lo", "<f8"),
        ("norm_bkg_hi", "<f8"),
        ("stat", "<f8"),
        ("stat_expected", "<f8"),
        ("stat_sigma", "<f8"),
        ("disagreement", "<f8"),
        ("dof", "<i4"),
        ("status", "<i2"),
        ("n_obs", "<i2"),
        ("flags", "<u4"),
        ("observations_used", "<u8"),
        ("net_counts", "<f8"),
        ("background_counts", "<f8"),
        ("exposure_s", "<f8"),
        ("seconds", "<f4"),
    ]
)
"""A row of ``/results``.

kT in keV; norm XSPEC's for the fully exposed region; abundance solar; nH in 10^22 cm^-2. ``_lo`` and ``_hi`` are
absolute limits of the statistic's profile, NaN for a frozen parameter; ``_bkg_lo``, ``_bkg_hi`` the range of best
values with the background's level moved by its uncertainty. ``stat_expected`` and ``stat_sigma``: what the statistic
should be were the model true. ``disagreement``: between the observations of a joint fit, in Gaussian sigma. Radius in
image pixels, observations_used a bit mask by position in the fit input, exposure_s the sum of the effective exposures
[s], seconds the wall time of the fit (the one column that differs between runs)."""


def empty_result(region: int, iy: int, ix: int, radius: float, status: Status) -> np.ndarray:
    """A row (0-dimensional structured array) that holds a status and no values."""
    # A copy of the bytes: numpy copies a row field by field, which took longer than the extraction of a spectrum.
    row = np.ndarray((), RESULT_DTYPE, bytearray(_EMPTY_BYTES))
    row["region"], row["iy"], row["ix"], row["radius"] = region, iy, ix, radius
    row["status"] = status
    return row


def _empty_bytes() -> bytes:
    row = np.zeros((), dtype=RESULT_DTYPE)
    for name in VALUE_COLUMNS:
        row[name] = np.nan
    return row.tobytes()


_EMPTY_BYTES = _empty_bytes()


def kt_status(kt: float, lowest: float, highest: float, lower_found: bool, upper_found: bool) -> Status:
    """Status of a fit with values.

    Parameters
    ----------
    kt : float
        Best temperature [keV]; NaN where the best norm is 0.
    lowest, highest : float
        Searched range [keV].
    lower_found, upper_found : bool
        The limits lie inside the range.

    Returns
    -------
    Status
    """
    if not (lower_found or upper_found):
        return Status.KT_UNCONSTRAINED
    if kt == lowest:
        return Status.KT_AT_LOWER_BOUND
    if kt == highest:
        return Status.KT_AT_UPPER_BOUND
    if not lower_found:
        return Status.KT_LO_UNBOUND
    return Status.OK if upper_found else Status.KT_HI_UNBOUND
