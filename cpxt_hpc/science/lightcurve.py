"""Light curves and the times that flares spoil.

Bins are judged by the Poisson probability of their counts, given the rate of the others and their own
exposure, so that a bin cut short by the good times is treated like any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from scipy import stats

from cpxt_hpc.errors import DataError
from cpxt_hpc.science.good_times import overlaps, within

MINIMUM_RUN = 3
"""Shortest run of good bins that the method ``sigma`` keeps (CIAO deflare's minlength)."""

MINIMUM_GOOD_FRACTION = 0.1
"""Smallest fraction of good bins that the method ``clean`` accepts (CIAO deflare's minfrac)."""

SHORT_BIN = 1.0 / 3.0
"""Bins exposed for less than this part of their length have no rate worth a name."""

_MAX_ITERATIONS = 100


@dataclasses.dataclass(frozen=True)
class LightCurve:
    """Counts in bins of time; bins without exposure are left out.

    Attributes
    ----------
    start, stop : ndarray, shape (n,)
        Edges of the bins [s].
    counts : ndarray of int, shape (n,)
    exposure_s : ndarray, shape (n,)
        Good time in each bin: the mean over the CCDs, weighted with their rates [s].
    """

    start: np.ndarray
    stop: np.ndarray
    counts: np.ndarray
    exposure_s: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    @property
    def rate(self) -> np.ndarray:
        """Counts per second of exposure, shape (n,)."""
        return self.counts / self.exposure_s

    @property
    def rate_error(self) -> np.ndarray:
        """Poisson error of the rate, sqrt(counts) / exposure [1/s]."""
        return np.sqrt(self.counts) / self.exposure_s


def light_curve(
    time: np.ndarray, ccd_id: np.ndarray, good_times: Mapping[int, np.ndarray], bin_length_s: float, *,
    origin_s: float | None = None,
) -> LightCurve:
    """Bin events in time.

    Parameters
    ----------
    time, ccd_id : ndarray, shape (n_events,)
        Events outside their CCD's good times do not count.
    good_times : mapping of int to ndarray, shape (n, 2)
        By CCD [s].
    bin_length_s : float
    origin_s : float, optional
        Where the first bin starts; by default at the start of the good times.

    Returns
    -------
    LightCurve
    """
    exposed = {ccd: intervals for ccd, intervals in good_times.items() if len(intervals)}
    if not exposed:
        return LightCurve(np.zeros(0), np.zeros(0), np.zeros(0, dtype=int), np.zeros(0))
    first = min(intervals[0, 0] for intervals in exposed.values())
    last = max(intervals[-1, 1] for intervals in exposed.values())
    origin = first if origin_s is None else origin_s
    n_bins = max(1, int(np.ceil((last - origin) / bin_length_s - 1e-9)))
    edges = origin + bin_length_s * np.arange(n_bins + 1)
    counts, by_ccd, rates = np.zeros(n_bins, dtype=int), [], []
    for ccd, intervals in exposed.items():
        own = time[ccd_id == ccd]
        own = own[within(own, intervals)]
        index = np.clip(((own - origin) / bin_length_s).astype(int), 0, n_bins - 1)
        counts += np.bincount(index, minlength=n_bins)
        by_ccd.append(overlaps(intervals, edges))
        rates.append(len(own) / by_ccd[-1].sum())
    weights = np.array(rates) if np.sum(rates) > 0.0 else np.ones(len(rates))
    exposure = np.average(by_ccd, axis=0, weights=weights)
    kept = exposure > 0.0
    return LightCurve(edges[:-1][kept], edges[1:][kept], counts[kept], exposure[kept])


def quiet_bins(
    curve: LightCurve, method: str, *, nsigma: float, scale: float, bin_length_s: float
) -> np.ndarray:
    """Tell which bins of a light curve are free of flares.

    Parameters
    ----------
    curve : LightCurve
    method : {'sigma', 'clean', 'none'}
        ``sigma``: bins whose counts are less probable than nsigma (one-sided, on either side) are clipped
        until nothing changes; then runs of fewer than `MINIMUM_RUN` good bins. ``clean``: bins are kept where
        mean/scale < rate < mean*scale, mean the rate after clipping; bins exposed for less than `SHORT_BIN` of
        their length are judged as by ``sigma``. ``none``: all bins.
    nsigma : float
    scale : float
    bin_length_s : float
        Nominal length of a bin.

    Returns
    -------
    ndarray of bool, shape (n,)

    Raises
    ------
    DataError
        Method ``clean`` finds fewer than `MINIMUM_GOOD_FRACTION` good bins, or no method leaves any bin.
    ValueError
        The method is unknown.

    References
    ----------
    CIAO's ``deflare`` (methods clean and sigma).
    """
    if method not in ("sigma", "clean", "none"):
        raise ValueError(f"method {method!r}: choose sigma, clean or none")
    if method == "none" or len(curve) == 0:
        return np.ones(len(curve), dtype=bool)
    probable, rate = _clipped(curve, nsigma)
    if method == "sigma":
        quiet = _without_short_runs(probable)
    else:
        in_range = (curve.rate > rate / scale) & (curve.rate < rate * scale)
        quiet = np.where(curve.exposure_s < SHORT_BIN * bin_length_s, probable, in_range)
        if np.mean(quiet) < MINIMUM_GOOD_FRACTION:
            raise DataError(
                f"flare cleaning with method = clean leaves {np.count_nonzero(quiet)} of {len(curve)} bins (rate "
                f"{rate:.4g}/s, allowed factor {scale:g}). Use method = sigma, longer bins or a larger scale in "
                "[clean]."
            )
    if not quiet.any():
        raise DataError(f"flare cleaning leaves no time (rate {rate:.4g}/s). Use method = none in [clean].")
    return quiet


def cut_times(curve: LightCurve, quiet: np.ndarray) -> np.ndarray:
    """Intervals of the bins that are not quiet, shape (n, 2) [s]."""
    return np.column_stack([curve.start[~quiet], curve.stop[~quiet]])


def _clipped(curve: LightCurve, nsigma: float) -> tuple[np.ndarray, float]:
    """Bins compatible with one rate, and that rate [1/s]; from the median, which a flare does not move.

    Of an even number of bins the lower middle one: some bin has its rate, and flares are bright.
    """
    threshold = stats.norm.sf(nsigma)
    rate = float(np.quantile(curve.rate, 0.5, method="lower"))
    kept = np.ones(len(curve), dtype=bool)
    for _ in range(_MAX_ITERATIONS):
        expected = rate * curve.exposure_s
        probable = (stats.poisson.sf(curve.counts - 1, expected) > threshold) & (
            stats.poisson.cdf(curve.counts, expected) > threshold
        )
        if not probable.any():
            return probable, rate
        rate = float(curve.counts[probable].sum() / curve.exposure_s[probable].sum())
        if np.array_equal(probable, kept):
            break
        kept = probable
    return kept, rate


def _without_short_runs(good: np.ndarray) -> np.ndarray:
    """Good bins in runs of at least `MINIMUM_RUN`, unless all are good."""
    if good.all():
        return good
    edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(np.int8), [0]])))
    kept = np.zeros_like(good)
    for first, end in edges.reshape(-1, 2):
        kept[first:end] = end - first >= MINIMUM_RUN
    return kept
