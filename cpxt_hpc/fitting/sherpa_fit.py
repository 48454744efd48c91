"""What Sherpa found, as a row of results with the statuses and flags of the exact engine."""

from __future__ import annotations

import functools
import logging
import math

import numpy as np

from cpxt_hpc.errors import ConfigError, ToolError
from cpxt_hpc.fitting.binned_response import binned_response
from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.fitting.region_spectra import RegionSpectra
from cpxt_hpc.fitting.results import Flag, Status, kt_status
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.sherpa_engine import SherpaEngine, SherpaFault, SherpaKilled, SherpaTimeout, xspec_model
from cpxt_hpc.fitting.spectral_model import SpectralModel
from cpxt_hpc.fitting.spectrum_fit import OtherEngine
from cpxt_hpc.fitting.xspec import atomdb_version, checked_apec_root

logger = logging.getLogger(__name__)

BOUND_TOLERANCE = 1e-6
"""Relative distance from a bound of the search within which a best value counts as at the bound."""

MORE_FREE = {
    "abundance": (Flag.ABUNDANCE_AT_BOUND, Flag.ABUNDANCE_UNBOUND),
    "nH": (Flag.NH_AT_BOUND, Flag.NH_UNBOUND),
}
"""Flags of the parameters that may be free besides kT and norm: at a bound, a limit not found."""


def sherpa_for_map(fit_input: FitInput, settings: FitSettings) -> OtherEngine:
    """Sherpa as the engine for the regions of a map; its process ends when the engine is no longer referred to.

    Parameters
    ----------
    fit_input : FitInput
    settings : FitSettings

    Raises
    ------
    ConfigError
        The AtomDB tables are of another version than those that the model was folded with.
    MissingInput, ToolError
        There are no AtomDB tables, or no Sherpa with XSPEC.
    """
    here, then = atomdb_version(checked_apec_root(settings.apec_root or None)), fit_input.settings.get("atomdb")
    if then not in (None, here):
        raise ConfigError(
            f"engine sherpa: the model was folded with AtomDB {then}, here are the tables of {here}. Set [fit] "
            "apec_root to the former, or run cpxt-prep --stage 5 again."
        )
    kt_nodes, nh_nodes = fit_input.kt_nodes_kev, fit_input.nh_nodes_1e22
    engine = SherpaEngine(
        [binned_response(each, settings.bin_channels) for each in fit_input.observations],
        xspec_model(fit_input, settings.apec_root),
        settings,
        kt_range_kev=(kt_nodes[0], kt_nodes[-1]),
        nh_range_1e22=(nh_nodes[0], nh_nodes[-1]),
    )
    return functools.partial(fill_from_sherpa, engine=engine)


def fill_from_sherpa(row: np.ndarray, spectra: RegionSpectra, model: SpectralModel, engine: SherpaEngine) -> None:
    """Fit spectra with Sherpa and write values, limits, statistic and status into a row.

    A fit that raises an exception in Sherpa, kills its process or takes too long gives a status. Where each observation
    has a norm of its own, the row gets their mean, weighted with the counts expected from each, without limits.

    Parameters
    ----------
    row : ndarray of RESULT_DTYPE, shape ()
    spectra : RegionSpectra
    model : SpectralModel
    engine : SherpaEngine

    Raises
    ------
    ToolError, MemoryError
        The machine failed, not the fit: the process was killed, memory is out.
    """
    try:
        found = engine.fit(spectra)
    except SherpaKilled as fault:
        raise ToolError(f"Sherpa: {fault}") from fault
    except SherpaFault as fault:
        logger.warning("region %d: Sherpa: %s", row["region"], fault)
        row["status"] = Status.TIMED_OUT if isinstance(fault, SherpaTimeout) else Status.CRASHED
        return
    lowest, highest = float(model.kt_nodes_kev[0]), float(model.kt_nodes_kev[-1])
    row["stat"] = found.statistic
    kt, norm = found.values["kT"], float(np.average(found.norms, weights=found.counts_of_norm_1))
    row["norm"] = norm
    if len(set(found.norms)) == 1:
        row["norm_lo"], row["norm_hi"] = _limits(found.limits.get("norm"), 0.0, math.nan)
    if not norm > 0.0:
        row["kT_lo"], row["kT_hi"] = lowest, highest
        row["status"] = Status.KT_UNCONSTRAINED
        return
    kt = _snapped(kt, lowest, highest)
    row["kT"] = kt
    kt_limits = found.limits.get("kT", (None, None))
    row["kT_lo"], row["kT_hi"] = _limits(kt_limits, lowest, highest)
    flags = Flag(int(row["flags"]))
    for name, (at_bound, unbound) in MORE_FREE.items():
        row[name] = found.values[name]
        if name in found.limits:
            low, high = engine.ranges[name]
            row[f"{name}_lo"], row[f"{name}_hi"] = _limits(found.limits[name], low, high)
            if _snapped(found.values[name], low, high) in (low, high):
                flags |= at_bound
            if None in found.limits[name]:
                flags |= unbound
    row["flags"] = flags
    row["status"] = kt_status(kt, lowest, highest, kt_limits[0] is not None, kt_limits[1] is not None)
    if not all(math.isfinite(row[name]) for name in ("kT", "norm", "stat")):
        row["status"] = Status.NOT_A_NUMBER


def _limits(found: tuple[float | None, float | None] | None, low: float, high: float) -> tuple[float, float]:
    lower, upper = found or (None, None)
    return low if lower is None else lower, high if upper is None else upper


def _snapped(value: float, low: float, high: float) -> float:
    """The value, or the bound that it all but touches: Sherpa's optimisers stop just beside one."""
    for bound in (low, high):
        if abs(value - bound) <= BOUND_TOLERANCE * max(abs(bound), high - low):
            return bound
    return value
