"""Bias and coverage of kT, by statistic: spectra drawn from the model and fitted.

Each cell (true kT, counts, share of background) draws its regions anew from XSPEC's plasma in the ACIS-I response
and a background with lines; the statistics fit the same draws. Where the true kT is the question, judge by the
median and the coverage: the distribution of kT is skewed. --json prints one object with the rows.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from acis import ABUNDANCE, acis_nodes
from environment import environment
from synthetic import background_templates, temperature_nodes

from cpxt_hpc.fitting.limits import fit_kt_norm
from cpxt_hpc.fitting.statistics import prepare_chi2gehrels, prepare_cstat

EXPOSURE_S = 5.0e4


def rates_at(kt: float, kt_nodes: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """The folded model at a temperature for norm 1."""
    k = int(np.clip(np.searchsorted(kt_nodes, kt) - 1, 0, len(kt_nodes) - 2))
    part = (kt - kt_nodes[k]) / (kt_nodes[k + 1] - kt_nodes[k])
    return (1.0 - part) * rates[k] + part * rates[k + 1]


def cell(kt: float, counts: float, share: float, regions: int, blank_ratio: float, rng, kt_nodes, rates) -> list[dict]:
    """Fit draws of one kind of region with each statistic."""
    background = counts * share * background_templates(rates.shape[1])[0]
    source = rates_at(kt, kt_nodes, rates)
    source *= counts * (1.0 - share) / source.sum()
    scale = np.full(len(background), 1.0 / blank_ratio)
    exposure = np.full(len(background), EXPOSURE_S)
    found = {"cstat": [], "chi2gehrels": []}
    for _ in range(regions):
        drawn = rng.poisson(source + background).astype(float)
        blank = rng.poisson(background * blank_ratio).astype(float)
        found["cstat"].append(fit_kt_norm(prepare_cstat(drawn, background, rates, exposure), kt_nodes))
        found["chi2gehrels"].append(fit_kt_norm(prepare_chi2gehrels(drawn, blank, scale, rates, exposure), kt_nodes))
    rows = []
    for statistic, fits in found.items():
        best, low, high = np.array([fit[:3] for fit in fits]).T
        rows.append(
            {
                "background_share": share,
                "kt_kev": kt,
                "counts": counts,
                "statistic": statistic,
                "regions": regions,
                "mean_bias_percent": 100.0 * (np.nanmean(best) / kt - 1.0),
                "median_bias_percent": 100.0 * (np.nanmedian(best) / kt - 1.0),
                "coverage": float(np.mean((low <= kt) & (kt <= high))),
                "upper_limit_unbound": float(np.mean([not fit[8] for fit in fits])),
            }
        )
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=200, help="regions a cell (default 200; the README's: 1000)")
    parser.add_argument("--kt", type=float, nargs="+", default=[3.0, 6.0, 9.0], metavar="KEV")
    parser.add_argument("--counts", type=float, nargs="+", default=[1000.0, 2500.0])
    parser.add_argument("--share", type=float, nargs="+", default=[0.1, 0.5], help="share of background in the counts")
    parser.add_argument("--blank-ratio", type=float, default=5.0, help="blank-sky counts over background counts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    nodes, _ = acis_nodes()
    rates = np.ascontiguousarray(nodes[0] + ABUNDANCE * (nodes[1] - nodes[0]))
    kt_nodes = temperature_nodes()
    rng = np.random.default_rng(arguments.seed)
    began = time.perf_counter()
    rows = [
        row
        for share in arguments.share
        for kt in arguments.kt
        for counts in arguments.counts
        for row in cell(kt, counts, share, arguments.regions, arguments.blank_ratio, rng, kt_nodes, rates)
    ]
    result = {
        "bias": rows,
        "seed": arguments.seed,
        "channels": rates.shape[1],
        "seconds": time.perf_counter() - began,
        "environment": environment(),
    }
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"environment: {result['environment']}\nseed {arguments.seed}, {rates.shape[1]} channels, "
          f"{arguments.regions} regions a cell, {result['seconds']:.0f} s\n")  # fmt: skip
    print("| background | kT | counts | statistic | mean bias | median bias | 68 % interval holds | upper limit open |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['background_share']:.0%} | {row['kt_kev']:g} | {row['counts']:g} | {row['statistic']} "
            f"| {row['mean_bias_percent']:+.1f} % | {row['median_bias_percent']:+.1f} % | {row['coverage']:.2f} "
            f"| {row['upper_limit_unbound']:.2f} |"
        )


if __name__ == "__main__":
    main()
