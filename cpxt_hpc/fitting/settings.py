"""How spectra are fitted: what is free, the statistic, the level of the limits."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property

MIN_EXPOSURE_FRACTION = 0.09
"""ClusterPyXT leaves an observation out that exposes less of a region than this."""

WSTAT_GROUP_CHANNELS = 12
"""Ungrouped, wstat is far off where the background is sparse: many channels then have no background count at all."""


@dataclasses.dataclass(frozen=True)
class FitSettings:
    """Settings of the fits of a map, as ``[fit]`` of ``cluster.ini`` has them.

    Attributes
    ----------
    statistic : str
        cstat: Poisson likelihood, the background known from its template. wstat: the background's likelihood profiled
        in each bin. chi2gehrels (ClusterPyXT's recipe), chi2datavar, chi2xspecvar: blank-sky spectrum subtracted.
    engine : str
        exact or sherpa.
    group_channels : int
        Channels that make one bin; 0: `WSTAT_GROUP_CHANNELS` for wstat, 1 for the others.
    free : str
        none, or which of abundance and nH are free, comma separated.
    norms : str
        shared or per_observation.
    delta_statistic : float
        Rise of the statistic at the limits.
    min_exposure_fraction : float
        Observations that expose less of a region's pixels stay out of its fit.
    systematic : float
        Relative systematic error of the background's level.
    apec_root : str
        Prefix of the AtomDB tables for engine sherpa; empty for those of the set-up. Where they lie changes no number.
    region_timeout : float
        Longest time for the fit of a region [s]; 0: none.
    """

    statistic: str = "cstat"
    engine: str = "exact"
    group_channels: int = 0
    free: str = "none"
    norms: str = "shared"
    delta_statistic: float = 1.0
    min_exposure_fraction: float = MIN_EXPOSURE_FRACTION
    systematic: float = 0.03
    apec_root: str = ""
    region_timeout: float = 900.0

    @property
    def longest_silence_s(self) -> float:
        """How long a process may be busy with one region [s]; the exact engine needs milliseconds."""
        if self.engine == "exact":
            return 0.0
        return self.region_timeout or math.inf

    @cached_property
    def bin_channels(self) -> int:
        """Channels that make one bin."""
        return self.group_channels or (WSTAT_GROUP_CHANNELS if self.statistic == "wstat" else 1)

    @cached_property
    def free_abundance(self) -> bool:
        """Whether the abundance is free."""
        return "abundance" in self.free.split(",")

    @cached_property
    def free_nh(self) -> bool:
        """Whether nH is free."""
        return "nH" in self.free.split(",")

    @cached_property
    def norms_per_observation(self) -> bool:
        """Whether each observation has a norm of its own."""
        return self.norms == "per_observation"

    @cached_property
    def n_more_free(self) -> int:
        """Number of free parameters besides kT and the norms."""
        return int(self.free_abundance) + int(self.free_nh)

    @cached_property
    def free_engine(self) -> bool:
        """Whether more is free than kT and one norm."""
        return self.n_more_free > 0 or self.norms_per_observation
