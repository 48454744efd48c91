"""Bias and coverage of kT, by statistic: spectra drawn from the model and fitted.

Each cell (true kT, counts, share of background) draws its regions anew from XSPEC's plasma in the ACIS-I response
and a background with lines; the statistics fit the same draws. Where the true kT is the question, judge by the
median and the coverage: the distribution of kT is skewed. --json prints one object with the rows.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import NamedTuple

import numpy as np
from acis import ABUNDANCE, NH_1E22, acis_nodes
from environment import environment
from synthetic import background_templates, temperature_nodes

from cpxt_hpc.fitting.region_spectra import ObservationPart, RegionSpectra
from cpxt_hpc.fitting.results import RESULT_DTYPE, Status, empty_result
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.spectral_model import SpectralModel
from cpxt_hpc.fitting.spectrum_fit import fit_spectra
from cpxt_hpc.fitting.statistics import STATISTICS

EXPOSURE_S = 5.0e4


class Cell(NamedTuple):
    """What all cells share."""

    regions: int
    statistics: list[str]
    kt_nodes: np.ndarray
    rates: np.ndarray
    rng: np.random.Generator


def rates_at(kt: float, kt_nodes: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """The folded model at a temperature for norm 1."""
    k = int(np.clip(np.searchsorted(kt_nodes, kt) - 1, 0, len(kt_nodes) - 2))
    part = (kt - kt_nodes[k]) / (kt_nodes[k + 1] - kt_nodes[k])
    return (1.0 - part) * rates[k] + part * rates[k + 1]


def cell(kt: float, counts: float, share: float, blank_ratio: float, spec: Cell) -> list[dict]:
    """Fit draws of one kind of region with each statistic."""
    background = counts * share * background_templates(spec.rates.shape[1])[0]
    source = rates_at(kt, spec.kt_nodes, spec.rates)
    source *= counts * (1.0 - share) / source.sum()
    model = SpectralModel(spec.kt_nodes, np.array([NH_1E22]), ABUNDANCE, NH_1E22)
    rows = {name: np.empty(spec.regions, dtype=RESULT_DTYPE) for name in spec.statistics}
    for number in range(spec.regions):
        drawn = spec.rng.poisson(source + background).astype(float)
        blank = spec.rng.poisson(background * blank_ratio).astype(float)
        for name in spec.statistics:
            settings = FitSettings(statistic=name)
            row = empty_result(number, 0, 0, 0.0, Status.NO_EXPOSURE)
            fit_spectra(row, spectra_of(drawn, background, blank, blank_ratio, spec.rates, settings), model, settings)
            rows[name][number] = row
    return [
        {
            "background_share": share,
            "kt_kev": kt,
            "counts": counts,
            "statistic": name,
            "regions": spec.regions,
            "mean_bias_percent": 100.0 * (np.nanmean(fits["kT"]) / kt - 1.0),
            "median_bias_percent": 100.0 * (np.nanmedian(fits["kT"]) / kt - 1.0),
            "coverage": float(np.mean((fits["kT_lo"] <= kt) & (kt <= fits["kT_hi"]))),
            "upper_limit_open": float(np.mean(fits["kT_hi"] >= spec.kt_nodes[-1])),
        }
        for name, fits in rows.items()
    ]


def spectra_of(
    counts: np.ndarray,
    background: np.ndarray,
    blank: np.ndarray,
    blank_ratio: float,
    rates: np.ndarray,
    settings: FitSettings,
) -> RegionSpectra:
    """Spectra of one observation in the bins of the fit."""
    starts = np.arange(0, len(counts), settings.bin_channels)
    if settings.bin_channels > 1:
        counts, background, blank, rates = (
            np.add.reduceat(each, starts, axis=-1) for each in (counts, background, blank, rates)
        )
    n = len(counts)
    part = ObservationPart(0, 1.0, 1.0, np.ones(1))
    return RegionSpectra(
        [part], counts, background, blank, np.full(n, 1.0 / blank_ratio), np.full(n, EXPOSURE_S), rates[None, None],
        np.array([0, n]), 0.0,
    )  # fmt: skip


def markdown(rows: list[dict], statistics: list[str]) -> str:
    """The table: one line a cell, a pair of columns a statistic."""
    heads = [f"{name}: median bias | coverage" for name in statistics]
    lines = ["| background | kT (keV) | counts | " + " | ".join(heads) + " |", "|---" * (3 + 2 * len(statistics)) + "|"]
    for first in range(0, len(rows), len(statistics)):
        cells = rows[first : first + len(statistics)]
        head = f"| {cells[0]['background_share']:.0%} | {cells[0]['kt_kev']:g} | {cells[0]['counts']:g} | "
        lines.append(
            head + " | ".join(f"{row['median_bias_percent']:+.1f} % | {row['coverage']:.3f}" for row in cells) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=10000, help="regions a cell; default: 10000")
    parser.add_argument("--kt", type=float, nargs="+", default=[2.0, 4.0, 8.0, 12.0], metavar="KEV")
    parser.add_argument("--counts", type=float, nargs="+", default=[500.0, 1000.0, 2500.0, 10000.0])
    parser.add_argument("--share", type=float, nargs="+", default=[0.1, 0.5], help="share of background in the counts")
    parser.add_argument("--statistics", nargs="+", default=["cstat", "chi2gehrels"], choices=list(STATISTICS))
    parser.add_argument("--blank-ratio", type=float, default=5.0, help="blank-sky counts over background counts")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    nodes, _ = acis_nodes()
    rates = np.ascontiguousarray(nodes[0] + ABUNDANCE * (nodes[1] - nodes[0]))
    spec = Cell(
        arguments.regions, arguments.statistics, temperature_nodes(), rates, np.random.default_rng(arguments.seed)
    )
    began = time.perf_counter()
    rows = [
        row
        for share in arguments.share
        for kt in arguments.kt
        for counts in arguments.counts
        for row in cell(kt, counts, share, arguments.blank_ratio, spec)
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
    print(markdown(rows, arguments.statistics))


if __name__ == "__main__":
    main()
