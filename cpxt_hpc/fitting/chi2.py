"""Chi-squared of background-subtracted counts: sum((N - M)^2 / sigma^2), with Sherpa's sigma from the data.

N = S - scale B, and sigma^2 = v(S) + scale^2 v(B) for S and B counts of source and background data, where

- chi2gehrels: v(n) = (1 + sqrt(n + 0.75))^2 (Gehrels 1986, ApJ 303, 336);
- chi2datavar: v(n) = n. Where sigma is 0 for want of any count, Sherpa takes the residual as it is, as if sigma were 1;
- chi2xspecvar: v(n) = n, and the smaller of 1 and scale^2 where neither data set has a count, as XSPEC.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cpxt_hpc.science.compiled import compiled

GEHRELS, DATAVAR, XSPECVAR = 0, 1, 2


class Chi2Spectra(NamedTuple):
    """The background-subtracted spectra of one region, all observations behind each other.

    Attributes
    ----------
    observed : ndarray of float64, shape (n,)
        Net count rates; 0 where the exposure is 0 [count/s].
    companion : ndarray of float64, shape (n,)
        1 / error^2 of these; 0 where the exposure is 0.
    rates : ndarray of float64, shape (n_nodes, n)
        Expected source for norm 1 at each node [count/s].
    totals : ndarray of float64, shape (n_nodes,)
        0: no term is linear in the model without being in the pulls.
    pull, weight : ndarray of float64, shape (n,)
        Of the model that was weighed last: residual / error^2 and 1 / error^2.
    """

    observed: np.ndarray
    companion: np.ndarray
    rates: np.ndarray
    totals: np.ndarray
    pull: np.ndarray
    weight: np.ndarray


def prepare_chi2(
    errors: int,
    counts: np.ndarray,
    blank_counts: np.ndarray,
    blank_scale: np.ndarray,
    rates: np.ndarray,
    exposure: np.ndarray,
) -> Chi2Spectra:
    """Spectra for chi-squared with errors `GEHRELS`, `DATAVAR` or `XSPECVAR`; see `statistics.prepare`."""
    observed, companion, pull, weight = np.empty((4, len(counts)))
    _subtract(errors, counts, blank_counts, blank_scale, exposure, observed, companion)
    return Chi2Spectra(observed, companion, rates, np.zeros(len(rates)), pull, weight)


@compiled
def _subtract(errors, counts, blank_counts, blank_scale, exposure, observed, companion):
    for i in range(len(counts)):
        observed[i] = companion[i] = 0.0
        if exposure[i] > 0.0:
            s, b, scale = counts[i], blank_counts[i], blank_scale[i]
            if errors == GEHRELS:
                source_error, blank_error = 1.0 + np.sqrt(s + 0.75), scale * (1.0 + np.sqrt(b + 0.75))
                variance = source_error * source_error + blank_error * blank_error
            else:
                variance = s + scale * scale * b
                if variance == 0.0:
                    variance = min(1.0, scale * scale) if errors == XSPECVAR and scale > 0.0 else 1.0
            observed[i] = (s - scale * b) / exposure[i]
            companion[i] = exposure[i] * exposure[i] / variance


def weigh(spectra: Chi2Spectra, model: np.ndarray) -> None:
    """Set ``spectra.pull`` and ``spectra.weight`` to those of a model [count/s]."""
    observed, companion, pull, weight = spectra.observed, spectra.companion, spectra.pull, spectra.weight
    for i in range(len(observed)):
        pull[i] = companion[i] * (observed[i] - model[i])
        weight[i] = companion[i]


def value(spectra: Chi2Spectra, total: float) -> float:
    """The statistic of the model that was weighed last; `total` does not matter."""
    chi2 = 0.0
    for i in range(len(spectra.pull)):
        chi2 += spectra.pull[i] * spectra.pull[i] / max(spectra.weight[i], 1e-300)
    return chi2
