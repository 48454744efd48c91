"""Where the search for the minimum starts."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.filled import expected_background
from cpxt_hpc.fitting.statistics import Spectra
from cpxt_hpc.fitting.vectors import dot
from cpxt_hpc.science.compiled import REASSOCIATE, compiled

LEAST_NET = 0.05
"""Share of the counts that the source is taken to have where the background explains them all."""


@compiled(part=True)
def first_guess(spectra: Spectra) -> tuple[int, float, float]:
    """Interval and amplitudes of the mixture of two nodes that is about as hard and bright as the spectra.

    Hardness is the mean over the net counts of how much more of the hottest node's spectrum than of a cool one's is in
    their channels, relative to source and background. It rises with the temperature.
    """
    rates, totals = spectra.rates, spectra.totals
    background = expected_background(spectra)
    everything, net = _counts(spectra.observed, background, spectra.exposure)
    net = max(net, LEAST_NET * everything)
    low, high = 0, len(rates) - 1
    cool = high // 3
    if not (net > 0.0 and totals[cool] > 0.0 and totals[high] > 0.0):
        return high // 2, 0.0, 0.0
    contrast = np.empty(len(background))
    hardness = _contrast(
        rates[cool],
        rates[high],
        net / totals[cool],
        net / totals[high],
        spectra.observed,
        background,
        spectra.exposure,
        contrast,
    )
    hardness /= net
    low_hardness, high_hardness = -1.0, dot(contrast, rates[high]) / totals[high]
    while high - low > 1:
        middle = (low + high) // 2
        here = dot(contrast, rates[middle]) / totals[middle] if totals[middle] > 0.0 else -1.0
        if here > hardness:
            high, high_hardness = middle, here
        else:
            low, low_hardness = middle, here
    if not totals[low] > 0.0:
        return low, 0.0, net / totals[high]
    part = (hardness - low_hardness) / max(high_hardness - low_hardness, 1e-30)
    part = min(max(part, 0.05), 0.95)
    return low, (1.0 - part) * net / totals[low], part * net / totals[high]


@compiled(fastmath=REASSOCIATE, part=True)
def _counts(observed, background, exposure):
    everything = net = 0.0
    for i in range(len(observed)):
        taken = 1.0 if exposure[i] > 0.0 else 0.0
        everything += taken * observed[i]
        net += taken * (observed[i] - background[i])
    return everything, net


@compiled(fastmath=REASSOCIATE, part=True)
def _contrast(cool, hot, cool_scale, hot_scale, observed, background, exposure, contrast):
    """Set each channel's contrast (times the exposure) and return the sum of contrast times net counts."""
    hardness = 0.0
    for i in range(len(observed)):
        few, many = exposure[i] * cool[i] * cool_scale, exposure[i] * hot[i] * hot_scale
        share = (many - few) / max(few + many + 2.0 * background[i], 1e-150)
        contrast[i] = share * exposure[i]
        hardness += share * (observed[i] - background[i])
    return hardness
