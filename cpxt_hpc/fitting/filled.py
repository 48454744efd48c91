"""The channels that have counts: all that a search for the minimum of a Poisson statistic looks at.

In a channel without counts the statistic is linear in the model, so the sums over all channels hold it. The rates in
the others are taken out of the region's and multiplied by the exposure, node by node as the search comes to them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cpxt_hpc.fitting import cstat, wstat
from cpxt_hpc.fitting.cstat import CstatSpectra, CstatWork
from cpxt_hpc.fitting.rows import EXPOSURE, FIRST_NODE, PULL
from cpxt_hpc.fitting.statistics import Spectra
from cpxt_hpc.fitting.vectors import dot, take
from cpxt_hpc.fitting.wstat import WstatSpectra, WstatWork
from cpxt_hpc.science.compiled import REASSOCIATE, compiled
from cpxt_hpc.science.compiled_parts import chosen_by_type

MOST = 0.85
"""Share of the channels that have counts from which on it does not pay to pick these out."""
SPARSE = 0.3
"""Share of the channels that have counts up to which it pays to pick these out of a node that is looked at once."""


Work = CstatWork | WstatWork


class Filled(NamedTuple):
    """The channels of one region that have counts.

    Attributes
    ----------
    work : CstatWork or WstatWork
        All that is needed to take derivatives at nodes that have been fetched.
    channel : ndarray of int64, shape (n,)
        Which channels of the spectra these are.
    all_rates : ndarray of float64, shape (n_nodes, n_channels)
        Source rates for norm 1 in all channels [count/s].
    present : ndarray of float64, shape (n_nodes,)
        1 for the nodes that have been fetched, 0 for the others.
    all_pulls : ndarray of float64, shape (n_channels,)
        Work space of `spread_pulls`.
    """

    work: Work
    channel: np.ndarray
    all_rates: np.ndarray
    present: np.ndarray
    all_pulls: np.ndarray


class Slopes(NamedTuple):
    """First (a, b) and second (aa, ab, bb) derivatives of the statistic in the amplitudes of two nodes."""

    a: float
    b: float
    aa: float
    ab: float
    bb: float


@chosen_by_type({CstatSpectra: cstat.work_space, WstatSpectra: wstat.work_space}, fastmath=REASSOCIATE)
def _work_space(spectra: Spectra, channel: np.ndarray) -> Work:
    """Take these channels out of the spectra; the rows of the nodes are left open."""


@chosen_by_type({CstatSpectra: cstat.expected_background, WstatSpectra: wstat.expected_background})
def expected_background(spectra: Spectra) -> np.ndarray:
    """Background counts to expect in every channel."""


@chosen_by_type({CstatWork: cstat.sums, WstatWork: wstat.sums}, fastmath=REASSOCIATE)
def _sums(work: Work, k: int, m: int, a: float, b: float) -> tuple[float, float, float, float, float]:
    """Sums of t F_k, t F_m, w F_k^2, w F_k F_m, w F_m^2 with the pulls t and weights w of the model a F_k + b F_m."""


@chosen_by_type({CstatWork: cstat.dual, WstatWork: wstat.dual}, fastmath=REASSOCIATE)
def _dual(work: Work, k: int, m: int, a: float, b: float, pulled: float) -> tuple[float, float]:
    """Value and slack of the dual of half the statistic at the pulls t of the model M; `pulled` is sum(t M)."""


@chosen_by_type({CstatWork: cstat.pull, WstatWork: wstat.pull}, fastmath=REASSOCIATE)
def pull(work: Work, k: int, m: int, a: float, b: float) -> None:
    """Set row `PULL` to the pulls of the model a F_k + b F_m."""


@compiled(part=True)
def filled_channels(spectra: Spectra) -> Filled:
    """Take the channels that have counts out of spectra of cstat or wstat; where most have, take all."""
    n_nodes, n_channels = spectra.rates.shape
    channel = np.empty(n_channels, dtype=np.int64)
    n = n_exposed = 0
    for i in range(n_channels):
        channel[n] = i
        n += spectra.observed[i] > 0.0 and spectra.exposure[i] > 0.0
        n_exposed += spectra.exposure[i] > 0.0
    if n > MOST * n_channels and n_exposed == n_channels:
        n = n_channels
        for i in range(n):
            channel[i] = i
    channel = channel[:n]
    return Filled(_work_space(spectra, channel), channel, spectra.rates, np.zeros(n_nodes), np.zeros(n_channels))


@compiled(part=True)
def fetch(filled: Filled, k: int) -> None:
    """Fill in the source counts for norm 1 at a node, where they are not yet."""
    if filled.present[k] == 0.0:
        filled.present[k] = 1.0
        rows = filled.work.rows
        take(filled.all_rates[k], filled.channel, rows[FIRST_NODE + k])
        for i in range(rows.shape[1]):
            rows[FIRST_NODE + k, i] *= rows[EXPOSURE, i]


@compiled(part=True)
def slopes(work: Work, k: int, m: int, a: float, b: float) -> Slopes:
    """Derivatives at the model a F_k + b F_m, a, b >= 0; both nodes have been fetched."""
    pull_a, pull_b, aa, ab, bb = _sums(work, k, m, a, b)
    return Slopes(2.0 * (work.totals[k] - pull_a), 2.0 * (work.totals[m] - pull_b), 2.0 * aa, 2.0 * ab, 2.0 * bb)


@compiled(part=True)
def value_and_dual(work: Work, k: int, m: int, a: float, b: float, at: Slopes) -> tuple[float, float, float]:
    """The statistic of the model a F_k + b F_m; half its dual's value there, and the dual's slack."""
    pulled = a * (work.totals[k] - 0.5 * at.a) + b * (work.totals[m] - 0.5 * at.b)
    dual, slack = _dual(work, k, m, a, b, pulled)
    return a * at.a + b * at.b + 2.0 * dual, dual, slack


@compiled(part=True)
def value(work: Work, k: int, m: int, a: float, b: float, at: Slopes) -> float:
    """The statistic of the model a F_k + b F_m, at which the slopes are `at`."""
    return value_and_dual(work, k, m, a, b, at)[0]


@compiled(part=True)
def pulled_counts(filled: Filled, m: int) -> float:
    """sum(t F_m) for the pulls t in row `PULL`."""
    fetch(filled, m)
    return dot(filled.work.rows[PULL], filled.work.rows[FIRST_NODE + m])


@compiled(part=True)
def spread_pulls(filled: Filled) -> bool:
    """Prepare `pulled_counts_once` for the pulls in row `PULL`; False where it does not pay."""
    rows, channel = filled.work.rows, filled.channel
    if len(channel) < SPARSE * len(filled.all_pulls):
        return False
    for i in range(len(channel)):
        filled.all_pulls[channel[i]] = rows[PULL, i] * rows[EXPOSURE, i]
    return True


@compiled(part=True)
def pulled_counts_once(filled: Filled, m: int, spread: bool) -> float:
    """sum(t F_m) for the pulls t in row `PULL`; a node of which nothing else is needed is not fetched if `spread`."""
    if spread and filled.present[m] == 0.0:
        return dot(filled.all_pulls, filled.all_rates[m])
    return pulled_counts(filled, m)
