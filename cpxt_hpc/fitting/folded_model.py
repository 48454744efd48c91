"""The folded model at given values of its parameters, from the nodes."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq

from cpxt_hpc.fitting.free_nh import column_weights
from cpxt_hpc.fitting.region_spectra import RegionSpectra
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.spectral_model import SpectralModel
from cpxt_hpc.fitting.statistics import STATISTICS, prepare, statistic_derivatives

NH_STEP_1E22 = 1e-3
"""Step for the derivative in the hydrogen column."""


def rates_at(
    spectra: RegionSpectra, model: SpectralModel, *, kt_kev: float, abundance: float, nh_1e22: float
) -> np.ndarray:
    """Source count rates for norm 1 of the fully exposed region.

    Parameters
    ----------
    spectra : RegionSpectra
    model : SpectralModel
    kt_kev, abundance, nh_1e22 : float
        Inside the range of the nodes. A frozen abundance must be the one that the rates were made for.

    Returns
    -------
    ndarray of float64, shape (n_channels,)
    """
    k = _interval(model.kt_nodes_kev, kt_kev)
    rates = spectra.rates[:, :, k : k + 2]
    if len(model.nh_nodes_1e22) > 1:
        first, weights = column_weights(model.nh_nodes_1e22, nh_1e22)
        rates = np.tensordot(weights[0], rates[first : first + weights.shape[1]], axes=1)
    else:
        rates = rates[0]
    low, high = rates[0] if len(rates) == 1 else rates[0] + abundance * (rates[1] - rates[0])
    part = (kt_kev - model.kt_nodes_kev[k]) / (model.kt_nodes_kev[k + 1] - model.kt_nodes_kev[k])
    return (1.0 - part) * low + part * high


def observation_norms(
    spectra: RegionSpectra, model: SpectralModel, settings: FitSettings, row: np.ndarray
) -> tuple[float, ...]:
    """Norm of each observation that takes part, at the best values of a row; all 0 where the best norm is 0 or NaN.

    Where each observation has its own norm, a row holds their mean: with temperature, abundance and column at their
    best values, the norms are independent of each other.
    """
    n_parts = len(spectra.parts)
    if not has_model(row):
        return (0.0,) * n_parts
    if not settings.norms_per_observation:
        return (float(row["norm"]),) * n_parts
    rates = _best_rates(spectra, model, row)
    return tuple(_own_norm(spectra, settings, rates, part.position, float(row["norm"])) for part in spectra.parts)


def expected_source(spectra: RegionSpectra, model: SpectralModel, settings: FitSettings, row: np.ndarray) -> np.ndarray:
    """Expected source counts at the best values of a row, shape (n_channels,); 0 where the best norm is 0 or NaN."""
    if not has_model(row):
        return np.zeros(len(spectra.counts))
    expected = spectra.exposure * _best_rates(spectra, model, row)
    for part, norm in zip(spectra.parts, observation_norms(spectra, model, settings, row), strict=True):
        expected[_channels(spectra, part.position)] *= norm
    return expected


def gradients_at(
    spectra: RegionSpectra, model: SpectralModel, settings: FitSettings, row: np.ndarray, source: np.ndarray
) -> np.ndarray:
    """Derivatives of the expected source counts at the best values of a row.

    Parameters
    ----------
    spectra, model, settings, row
        As for `expected_source`, whose result is `source`.

    Returns
    -------
    ndarray of float64, shape (2 to 4, n_channels)
        In kT [1/keV], norm, and what is free of abundance and nH.
    """
    best = _best_rates(spectra, model, row)
    amplitude = np.divide(source, best, out=np.zeros(len(source)), where=best > 0.0)
    values = {"kt_kev": float(row["kT"]), "abundance": float(row["abundance"]), "nh_1e22": float(row["nH"])}
    k = _interval(model.kt_nodes_kev, values["kt_kev"])
    steps = [("kt_kev", float(model.kt_nodes_kev[k]), float(model.kt_nodes_kev[k + 1]))]
    if settings.free_abundance:
        steps.append(("abundance", 0.0, 1.0))
    if settings.free_nh:
        nh = values["nh_1e22"]
        low, high = model.nh_nodes_1e22[[0, -1]]
        steps.append(("nh_1e22", max(low, nh - NH_STEP_1E22), min(high, nh + NH_STEP_1E22)))
    rows = [
        (rates_at(spectra, model, **{**values, name: end}) - rates_at(spectra, model, **{**values, name: begin}))
        * amplitude / (end - begin)
        for name, begin, end in steps
    ]  # fmt: skip
    return np.array([rows[0], best * spectra.exposure, *rows[1:]])


def has_model(row: np.ndarray) -> bool:
    """Whether a row holds a source at all."""
    return float(row["norm"]) > 0.0 and math.isfinite(float(row["kT"]))


def _best_rates(spectra: RegionSpectra, model: SpectralModel, row: np.ndarray) -> np.ndarray:
    values = {"kt_kev": float(row["kT"]), "abundance": float(row["abundance"]), "nh_1e22": float(row["nH"])}
    return rates_at(spectra, model, **values)


def _own_norm(spectra: RegionSpectra, settings: FitSettings, rates: np.ndarray, position: int, start: float) -> float:
    """Norm that fits one observation best: where the slope of its statistic, which only rises, is 0."""
    channels = _channels(spectra, position)
    own = [
        np.array(each[channels] if len(each) else each)
        for each in (spectra.counts, spectra.background, spectra.blank_counts, spectra.blank_scale)
    ]
    one_shape = np.stack([rates[channels]] * 2)
    prepared = prepare(STATISTICS[settings.statistic], *own, one_shape, np.array(spectra.exposure[channels]))

    def slope(norm: float) -> float:
        return statistic_derivatives(prepared, 0, norm, 0.0)[0]

    if slope(0.0) >= 0.0:
        return 0.0
    above = start
    while slope(above) < 0.0:
        above *= 2.0
    return float(brentq(slope, 0.0, above, xtol=1e-14 * above, rtol=1e-14))


def _channels(spectra: RegionSpectra, position: int) -> slice:
    return slice(int(spectra.start[position]), int(spectra.start[position + 1]))


def _interval(nodes: np.ndarray, value: float) -> int:
    """The interval between neighbouring nodes that holds a value."""
    return min(max(int(np.searchsorted(nodes, value)) - 1, 0), len(nodes) - 2)
