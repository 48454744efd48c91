"""The fit statistics by name, and what every one of them offers: it can be prepared, and weigh any folded model.

A model enters in two steps: `weigh_model` gives every channel its pull and weight, from which all derivatives follow,
and `value_of_model` the statistic. With T the model's sum of expected counts (0 for chi-squared), the derivatives in
the amplitude of a part F of the model are 2 (T_F - sum(pull F)) and 2 sum(weight F F).

Every statistic is convex in the model. Its spectra are of a type of their own, so that only what is used is compiled.
"""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting import chi2, cstat, wstat
from cpxt_hpc.fitting.chi2 import Chi2Spectra
from cpxt_hpc.fitting.cstat import CstatSpectra
from cpxt_hpc.fitting.vectors import dot
from cpxt_hpc.fitting.wstat import WstatSpectra
from cpxt_hpc.science.compiled import REASSOCIATE, compiled
from cpxt_hpc.science.compiled_parts import chosen_by_type

__all__ = [
    "STATISTICS",
    "Spectra",
    "dot",
    "prepare",
    "statistic_derivatives",
    "statistic_value",
    "value_of_model",
    "weigh_model",
]

CSTAT, WSTAT, CHI2GEHRELS, CHI2DATAVAR, CHI2XSPECVAR = range(5)
STATISTICS = {
    "cstat": CSTAT,
    "wstat": WSTAT,
    "chi2gehrels": CHI2GEHRELS,
    "chi2datavar": CHI2DATAVAR,
    "chi2xspecvar": CHI2XSPECVAR,
}

Spectra = CstatSpectra | WstatSpectra | Chi2Spectra
_CHI2_ERRORS = {CHI2GEHRELS: chi2.GEHRELS, CHI2DATAVAR: chi2.DATAVAR, CHI2XSPECVAR: chi2.XSPECVAR}


def prepare(
    statistic_code: int,
    counts: np.ndarray,
    background: np.ndarray,
    blank_counts: np.ndarray,
    blank_scale: np.ndarray,
    rates: np.ndarray,
    exposure: np.ndarray,
    totals: np.ndarray | None = None,
) -> Spectra:
    """Spectra of one region as the fit needs them.

    Parameters
    ----------
    statistic_code : int
        A value of `STATISTICS`.
    counts : ndarray of float64, shape (n_channels,)
        Observed counts, all observations behind each other.
    background : ndarray of float64, shape (n_channels,)
        Expected background counts; only cstat uses it.
    blank_counts, blank_scale : ndarray of float64, shape (n_channels,)
        Counts of the background data, and the factor from these to the background in `counts`, BACKSCAL included;
        cstat does not use them.
    rates : ndarray of float64, shape (n_nodes, n_channels)
        Source count rates for norm 1 [count/s]; C order. Not copied.
    exposure : ndarray of float64, shape (n_channels,)
        Effective exposure [s]; 0 in the channels of observations that take no part.
    totals : ndarray of float64, shape (n_nodes,), optional
        Sums over the channels of `rates` times `exposure`, where they are known.

    Returns
    -------
    Spectra
        Holds on to the arrays given. Arrays must be writeable, or all is compiled once more.
    """
    if statistic_code == CSTAT:
        return cstat.prepare_cstat(counts, background, rates, exposure, totals)
    if statistic_code == WSTAT:
        return wstat.prepare_wstat(counts, blank_counts, blank_scale, rates, exposure, totals)
    errors = _CHI2_ERRORS[statistic_code]
    return chi2.prepare_chi2(errors, counts, blank_counts, blank_scale, rates, exposure)


@chosen_by_type({CstatSpectra: cstat.weigh, WstatSpectra: wstat.weigh, Chi2Spectra: chi2.weigh}, fastmath=REASSOCIATE)
def weigh_model(spectra: Spectra, model: np.ndarray) -> None:
    """Set ``spectra.pull`` and ``spectra.weight`` to those of any model, in the units of ``spectra.rates``."""


@chosen_by_type({CstatSpectra: cstat.value, WstatSpectra: wstat.value, Chi2Spectra: chi2.value}, fastmath=REASSOCIATE)
def value_of_model(spectra: Spectra, total: float) -> float:
    """The statistic of the model that was weighed last, whose terms linear in the model sum up to `total`."""


@compiled
def statistic_value(spectra: Spectra, k: int, a: float, b: float) -> float:
    """The statistic at the amplitudes a and b, both >= 0, of the nodes k and k + 1."""
    weigh_model(spectra, a * spectra.rates[k] + b * spectra.rates[k + 1])
    return value_of_model(spectra, a * spectra.totals[k] + b * spectra.totals[k + 1])


@compiled
def statistic_derivatives(spectra: Spectra, k: int, a: float, b: float) -> tuple[float, float, float, float, float]:
    """First (a, b) and second (aa, ab, bb) derivatives of the statistic there."""
    low, high = spectra.rates[k], spectra.rates[k + 1]
    weigh_model(spectra, a * low + b * high)
    slope_a, slope_b = spectra.totals[k] - dot(spectra.pull, low), spectra.totals[k + 1] - dot(spectra.pull, high)
    weighted_low, weighted_high = spectra.weight * low, spectra.weight * high
    return (
        2.0 * slope_a,
        2.0 * slope_b,
        2.0 * dot(weighted_low, low),
        2.0 * dot(weighted_low, high),
        2.0 * dot(weighted_high, high),
    )
