"""Regions fitted a second on one core, limits of kT and norm included, and the same in Sherpa.

The regions are circles of a simulated cluster (XSPEC's plasma, ACIS-I response) in one and in three observations;
a fit includes the extraction of its spectra. Sherpa does ClusterPyXT's recipe on some of the same spectra in the
same run (without the dmextract runs that ClusterPyXT needs). --json prints one object.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from acis import ABUNDANCE, BAND_KEV, NH_1E22, REDSHIFT, acis_nodes
from environment import environment
from synthetic import make_fit_input

from cpxt_hpc.fitting.regions import RegionFitter
from cpxt_hpc.fitting.xspec import child_environment
from cpxt_hpc.io.datafiles import apec_root, response_files

RATES = ("regions_per_s", "chi2gehrels_regions_per_s", "free_abundance_regions_per_s")


def regions_per_second(fitter: RegionFitter, repeats: int) -> float:
    """Median over repeats of the rate at which all regions are fitted, by the CPU time that it takes."""
    n_regions = len(fitter.fit_input.regions)
    for index in range(min(n_regions, 3)):
        fitter.fit(index)
    rates = []
    for _ in range(repeats):
        began = time.process_time()
        for index in range(n_regions):
            fitter.fit(index)
        rates.append(n_regions / (time.process_time() - began))
    return float(np.median(rates))


def sherpa_rows(fitter: RegionFitter, indices: np.ndarray, channel: np.ndarray) -> np.ndarray:
    """Sherpa's fits of regions: kT, norm, statistic, seconds; shape (len(indices), 4)."""
    observations = fitter.fit_input.observations
    shape = (len(indices), len(observations), len(channel))
    counts, blank, exposure, scale = np.zeros(shape), np.zeros(shape), np.zeros(shape[:2]), np.ones(shape[:2])
    for row, index in enumerate(indices):
        found = fitter.extractor.extract(*fitter.region_runs(int(index)))
        for part in found.parts:
            j = part.position
            own = slice(found.start[j], found.start[j + 1])
            counts[row, j], blank[row, j] = found.counts[own], found.blank_counts[own]
            scale[row, j] = found.blank_scale[found.start[j]]
            # The synthetic observations' nodes differ by a factor, which Sherpa gets as exposure.
            gain = observations[j].nodes[0].sum() / observations[0].nodes[0].sum()
            exposure[row, j] = observations[j].exposure_s * part.source_factor * gain
    arf, rmf = response_files("cy18")
    with tempfile.TemporaryDirectory(prefix="cpxt_benchmark_") as folder:
        request, answer = Path(folder, "request.npz"), Path(folder, "answer.npz")
        np.savez(
            request, counts=counts, blank=blank, exposure_s=exposure, blank_scale=scale, channel=channel,
            nh=NH_1E22, redshift=REDSHIFT, abundance=ABUNDANCE, band=BAND_KEV, apec_root=str(apec_root()),
            arf=str(arf), rmf=str(rmf),
        )  # fmt: skip
        command = [sys.executable, Path(__file__).with_name("sherpa_recipe.py"), request, answer]
        subprocess.run(command, env=child_environment(), check=True, stdout=subprocess.DEVNULL)
        return np.load(answer)["rows"]


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=300)
    parser.add_argument("--counts", type=float, default=2500.0, help="counts in the smallest regions, all observations")
    parser.add_argument("--sherpa-regions", type=int, default=6, help="how many of them Sherpa fits; 0 for none")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    nodes, channel = acis_nodes()
    result = {name: {} for name in (*RATES, "ratio_to_sherpa", "sherpa_s", "parity")}
    for n_obs in (1, 3):
        fit_input = make_fit_input(
            arguments.seed, n_obs=n_obs, plasma=nodes, n_regions=arguments.regions, abundance=ABUNDANCE,
            counts=arguments.counts / n_obs,
        )  # fmt: skip
        fitter = RegionFitter(fit_input)
        recipe = RegionFitter(fit_input, statistic="chi2gehrels")
        key = str(n_obs)
        result["regions_per_s"][key] = regions_per_second(fitter, arguments.repeats)
        result["chi2gehrels_regions_per_s"][key] = regions_per_second(recipe, arguments.repeats)
        metals = RegionFitter(fit_input, free="abundance")
        result["free_abundance_regions_per_s"][key] = regions_per_second(metals, arguments.repeats)
        if arguments.sherpa_regions:
            indices = np.linspace(0, arguments.regions - 1, arguments.sherpa_regions).astype(int)
            theirs = sherpa_rows(recipe, indices, channel)
            ours = np.array([recipe.fit(int(index)) for index in indices])
            seconds = float(np.median(theirs[:, 3]))
            result["sherpa_s"][key] = seconds
            result["ratio_to_sherpa"][key] = result["regions_per_s"][key] * seconds
            result["parity"][key] = {
                "largest_statistic_above_sherpas": float(np.max(ours["stat"] - theirs[:, 2])),
                "largest_statistic_below_sherpas": float(np.max(theirs[:, 2] - ours["stat"])),
                "median_kt_difference_sigma": float(
                    np.median(np.abs(theirs[:, 0] - ours["kT"]) / (0.5 * (ours["kT_hi"] - ours["kT_lo"])))
                ),
            }
    result["environment"] = environment()
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"environment: {result['environment']}")
    print(
        f"{arguments.regions} regions of {arguments.counts:g} counts and more, "
        f"{len(channel)} channels an observation, seed {arguments.seed}; medians of {arguments.repeats}"
    )
    for key, rate in result["regions_per_s"].items():
        print(
            f"{key} observation(s): {rate:.0f} regions/s (cstat), "
            f"{result['chi2gehrels_regions_per_s'][key]:.0f} (chi2gehrels), "
            f"{result['free_abundance_regions_per_s'][key]:.0f} (cstat, free abundance)"
        )
        if arguments.sherpa_regions:
            print(
                f"  Sherpa: {result['sherpa_s'][key]:.2f} s a region, "
                f"{result['ratio_to_sherpa'][key]:.0f} times slower; {result['parity'][key]}"
            )


if __name__ == "__main__":
    main()
