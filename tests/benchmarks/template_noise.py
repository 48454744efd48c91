"""When is a background template too noisy? cstat with the smoothed template of a map against wstat in bins.

A map has a number of regions that do not overlap; its blank sky gives one template for all of them (cstat), or each its
own background spectrum (wstat). A noisy template is wrong for the whole map in the same way: "common" is the scatter
from map to map of the median bias of a map, beyond what the regions' own noise gives. --json prints one object.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from acis import ABUNDANCE, NH_1E22, acis_nodes
from bias import rates_at, spectra_of
from environment import environment
from synthetic import background_templates, temperature_nodes

from cpxt_hpc.fitting.results import Status, empty_result
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.spectrum_fit import SpectralModel, fit_spectra
from cpxt_hpc.science.template import background_template, window_counts

ENOUGH_COUNTS, MAX_CHANNELS = 400, 5
STATISTICS = ("known", "cstat", "wstat")
"""cstat with the true background, with the template, and wstat with the region's own blank sky."""


def one_map(
    kt: float, arguments: argparse.Namespace, rates: np.ndarray, ratio: float, rng: np.random.Generator
) -> tuple[float, dict[str, np.ndarray]]:
    """Counts in the template's window, and the rows of all regions of one map by statistic."""
    background = arguments.counts * arguments.share * background_templates(rates.shape[1])[0]
    source = rates_at(kt, temperature_nodes(), rates)
    source = source * arguments.counts * (1.0 - arguments.share) / source.sum()
    blanks = rng.poisson(background * ratio, (arguments.regions, len(background))).astype(float)
    total = blanks.sum(axis=0)
    template = background_template(total, enough_counts=ENOUGH_COUNTS, max_channels=MAX_CHANNELS)
    held = window_counts(total, slice(None), max_channels=MAX_CHANNELS)
    model = SpectralModel(temperature_nodes(), np.array([NH_1E22]), ABUNDANCE, NH_1E22)
    rows: dict[str, list[np.ndarray]] = {name: [] for name in STATISTICS}
    for blank in blanks:
        counts = rng.poisson(source + background).astype(float)
        for name in STATISTICS:
            settings = FitSettings(statistic="wstat" if name == "wstat" else "cstat")
            expected = background.sum() * template if name == "cstat" else background
            row = empty_result(1, 0, 0, 0.0, Status.NO_EXPOSURE)
            fit_spectra(row, spectra_of(counts, expected, blank, ratio, rates, settings), model, settings)
            rows[name].append(row)
    return held, {name: np.array(values) for name, values in rows.items()}


def cell(kt: float, arguments: argparse.Namespace, rates: np.ndarray, ratio: float, seed: list[int]) -> list[dict]:
    """One row a statistic."""
    rng = np.random.default_rng(seed)
    maps = [one_map(kt, arguments, rates, ratio, rng) for _ in range(arguments.maps)]
    own = np.var([np.nanmedian(rows["known"]["kT"]) / kt for _, rows in maps])
    result = []
    for name in STATISTICS:
        medians = np.array([np.nanmedian(rows[name]["kT"]) / kt for _, rows in maps])
        fits = np.concatenate([rows[name] for _, rows in maps])
        result.append(
            {
                "blank_over_background": ratio,
                "window_counts": float(np.mean([held for held, _ in maps])),
                "kt_kev": kt,
                "background_share": arguments.share,
                "statistic": name,
                "median_bias_percent": 100.0 * float(np.nanmedian(fits["kT"]) / kt - 1.0),
                "common_percent": 100.0 * float(np.sqrt(max(np.var(medians) - own, 0.0))),
                "scatter_percent": 100.0 * float(np.nanstd(np.clip(fits["kT"] / kt, 0.0, 3.0))),
                "coverage": float(np.mean((fits["kT_lo"] <= kt) & (kt <= fits["kT_hi"]))),
            }
        )
    return result


def markdown(rows: list[dict]) -> str:
    """The table."""
    lines = [
        "| blank sky / background | counts in 5 channels | kT (keV) | statistic | median bias | common | coverage |",
        "|---" * 7 + "|",
    ]
    lines += [
        f"| {row['blank_over_background']:g} | {row['window_counts']:.0f} | {row['kt_kev']:g} | {row['statistic']} | "
        f"{row['median_bias_percent']:+.1f} % | {row['common_percent']:.1f} % | {row['coverage']:.3f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=40, help="maps a cell [%(default)s]")
    parser.add_argument("--regions", type=int, default=20, help="regions of a map [%(default)s]")
    parser.add_argument("--kt", type=float, nargs="+", default=[6.0], metavar="KEV")
    parser.add_argument("--counts", type=float, default=2500.0, help="of a region [%(default)s]")
    parser.add_argument("--share", type=float, default=0.5, help="of background in the counts [%(default)s]")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    nodes, _ = acis_nodes()
    rates = np.ascontiguousarray(nodes[0] + ABUNDANCE * (nodes[1] - nodes[0]))
    began = time.perf_counter()
    rows = [
        row
        for kt in arguments.kt
        for number, ratio in enumerate(arguments.ratios)
        for row in cell(kt, arguments, rates, ratio, [arguments.seed, number])
    ]
    result = {"template": rows, "seed": arguments.seed, "seconds": time.perf_counter() - began, **environment()}
    if arguments.json:
        print(json.dumps(result))
        return
    print(", ".join(f"{key} {value}" for key, value in environment().items()), "\n")
    print(markdown(rows))
    print(f"\n{arguments.maps} maps of {arguments.regions} regions a cell; {result['seconds']:.0f} s")


if __name__ == "__main__":
    main()
