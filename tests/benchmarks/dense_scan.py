"""Does a dense scan of kT find a lower minimum than the exact engine? Simulated regions, cstat and wstat.

In each interval between neighbouring temperature nodes, 40 temperatures; at each of them the best norm, by a search
that has nothing of the engine's: the zero of the plain formulas' derivative, in a bracket. A region fails
where the scan's minimum is below the engine's by more than rounding. The scan also knows where the profile of kT first
crosses the level on both sides: the engine's limits must lie between the same two points of the scan. wstat is scanned
in bins of 12 channels and, every other region, in single channels. --json prints one object.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import time

import numba
import numpy as np
from acis import ABUNDANCE, acis_nodes
from environment import environment
from simulated import SimulatedRegion, binned, simulate_region
from synthetic import temperature_nodes

from cpxt_hpc.fitting.limits import fit_kt_norm
from cpxt_hpc.fitting.statistics import STATISTICS, prepare

POINTS = 40
ROUNDING = 1e-7
"""Far above the rounding errors of sums over 2000 channels."""


@numba.njit(cache=False)
def cstat_slopes(counts, background, ratio, model, norm):
    """Half the first and second derivative of cstat in the norm."""
    first = second = 0.0
    for i in range(len(counts)):
        expected = background[i] + norm * model[i]
        first += model[i]
        if counts[i] > 0.0:
            first -= counts[i] * model[i] / expected
            second += counts[i] * (model[i] / expected) ** 2
    return first, second


@numba.njit(cache=False)
def cstat_value(counts, background, ratio, model, norm):
    total = 0.0
    for i in range(len(counts)):
        expected = background[i] + norm * model[i]
        total += expected - counts[i]
        if counts[i] > 0.0:
            total += counts[i] * np.log(counts[i] / expected)
    return 2.0 * total


@numba.njit(cache=False)
def fitted_background(s, b, r, m):
    """Background under the source that fits S and B best: the positive root of (1 + r) g^2 + ... = 0."""
    p = (1.0 + r) * m - s - b
    root = np.sqrt(p * p + 4.0 * (1.0 + r) * b * m)
    return 2.0 * b * m / (p + root) if p > 0.0 else (root - p) / (2.0 * (1.0 + r))


@numba.njit(cache=False)
def wstat_slopes(counts, blank, ratio, model, norm):
    """Half the first derivative of wstat in the norm, and half the second by a difference."""
    first = ahead = 0.0
    step = 1e-6 * norm + 1e-30
    for i in range(len(counts)):
        first += model[i]
        ahead += model[i]
        if counts[i] > 0.0:
            m = norm * model[i]
            first -= counts[i] * model[i] / (m + fitted_background(counts[i], blank[i], ratio[i], m))
            m += step * model[i]
            ahead -= counts[i] * model[i] / (m + fitted_background(counts[i], blank[i], ratio[i], m))
    return first, (ahead - first) / step


@numba.njit(cache=False)
def wstat_value(counts, blank, ratio, model, norm):
    total = 0.0
    for i in range(len(counts)):
        m = norm * model[i]
        g = fitted_background(counts[i], blank[i], ratio[i], m)
        total += m + (1.0 + ratio[i]) * g - counts[i] - blank[i]
        if counts[i] > 0.0:
            total += counts[i] * np.log(counts[i] / (m + g))
        if blank[i] > 0.0:
            total += blank[i] * np.log(blank[i] / (ratio[i] * g))
    return 2.0 * total


@numba.njit(cache=False)
def best_norm(slopes, counts, background, ratio, model, norm):
    """Norm >= 0 where the derivative of a convex statistic crosses 0: Newton's steps inside a bracket, else halving."""
    low, high = 0.0, max(4.0 * np.sum(counts) / max(np.sum(model), 1e-300), 1e-30)
    while slopes(counts, background, ratio, model, high)[0] < 0.0:
        high *= 2.0
    norm = min(max(norm, 0.01 * high), 0.99 * high)
    for _ in range(200):
        first, second = slopes(counts, background, ratio, model, norm)
        if first > 0.0:
            high = norm
        else:
            low = norm
        target = norm - first / second if second > 0.0 else -1.0
        if not low < target < high:
            target = 0.5 * (low + high)
        if abs(target - norm) <= 1e-9 * high or high <= 1e-12:
            return target
        norm = target
    return norm


@numba.njit(cache=False)
def profile(slopes, value, counts, background, ratio, rates, points):
    """Statistic at the best norm, at `points` temperatures in each interval of nodes and at the last node."""
    n_nodes = len(rates)
    found = np.empty((n_nodes - 1) * points + 1)
    norm = 0.0
    for place in range(len(found)):
        k = min(place // points, n_nodes - 2)
        part = (place - k * points) / points
        model = (1.0 - part) * rates[k] + part * rates[k + 1]
        norm = best_norm(slopes, counts, background, ratio, model, norm)
        found[place] = min(value(counts, background, ratio, model, norm), value(counts, background, ratio, model, 0.0))
    return found


def scan(region: SimulatedRegion, statistic: str) -> np.ndarray:
    """The profile of kT."""
    counts, rates = region.counts, region.rates * region.exposure
    ratio = 1.0 / region.scale
    if statistic == "cstat":
        return profile(cstat_slopes, cstat_value, counts, region.background, ratio, rates, POINTS)
    return profile(wstat_slopes, wstat_value, counts, region.blank, ratio, rates, POINTS)


def scanned_temperatures(kt_nodes: np.ndarray) -> np.ndarray:
    """Temperatures of a scan [keV]."""
    parts = np.arange(POINTS) / POINTS
    inside = kt_nodes[:-1, None] * (1.0 - parts) + kt_nodes[1:, None] * parts
    return np.concatenate([inside.ravel(), kt_nodes[-1:]])


def compare(region: SimulatedRegion, statistic: str, kt_nodes: np.ndarray) -> tuple[float, bool]:
    """How far the scan's minimum lies below the engine's, and whether the limits lie where the scan crosses."""
    spectra = prepare(
        STATISTICS[statistic], region.counts, region.background, region.blank, region.scale, region.rates,
        region.exposure,
    )  # fmt: skip
    kt, kt_lo, kt_hi, _, _, _, best, _, _ = fit_kt_norm(spectra, kt_nodes)
    scanned = scan(region, statistic)
    below = best - scanned.min()
    if np.isnan(kt):
        return below, True
    temperatures = scanned_temperatures(kt_nodes)
    allowed = scanned <= best + 1.0
    above = np.searchsorted(temperatures, kt)
    limits_agree = True
    for limit, outwards in ((kt_lo, range(above - 1, -1, -1)), (kt_hi, range(above, len(temperatures)))):
        inner = outer = kt
        for i in outwards:
            outer = temperatures[i]
            if not allowed[i]:
                break
            inner = outer
        limits_agree &= min(inner, outer) * (1 - 1e-6) <= limit <= max(inner, outer) * (1 + 1e-6)
    return below, bool(limits_agree)


def main() -> None:
    """Print how many regions the scan finds something lower in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=5000)
    parser.add_argument("--counts", type=float, nargs=2, default=(300.0, 20000.0), metavar=("LEAST", "MOST"))
    parser.add_argument("--background", type=float, nargs=2, default=(0.05, 0.6), metavar=("LEAST", "MOST"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    nodes = acis_nodes()[0]
    rates = nodes[0] + ABUNDANCE * (nodes[1] - nodes[0])
    kt_nodes = temperature_nodes()
    began = time.perf_counter()
    result = {}
    for statistic in ("cstat", "wstat"):
        rng = np.random.default_rng(arguments.seed)
        below, agree, worst = [], [], []
        for index in range(arguments.regions):
            counts = float(np.exp(rng.uniform(*np.log(arguments.counts))))
            region = simulate_region(rng, rates, counts, rng.uniform(*arguments.background), 1 + index % 4)
            if statistic == "wstat" and index // 4 % 2:
                region = binned(region, 12)
            found = compare(region, statistic, kt_nodes)
            below.append(found[0])
            agree.append(found[1])
            if found[0] > ROUNDING or not found[1]:
                worst.append(index)
        result[statistic] = {
            "regions": arguments.regions,
            "scan_lower": int(np.sum(np.array(below) > ROUNDING)),
            "largest_amount_lower": float(np.max(below)),
            "limits_elsewhere": int(np.sum(~np.array(agree))),
            "failed": worst[:20],
        }
    result["seconds"] = time.perf_counter() - began
    result["environment"] = environment()
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"environment: {result['environment']}")
    for statistic in ("cstat", "wstat"):
        row = result[statistic]
        print(
            f"{statistic}: of {row['regions']} regions (seed {arguments.seed}) the scan is lower in "
            f"{row['scan_lower']} (by {row['largest_amount_lower']:.1e} at most), limits elsewhere in "
            f"{row['limits_elsewhere']} {row['failed'] or ''}"
        )


if __name__ == "__main__":
    main()
