"""The exact engine against Sherpa on simulated regions, every statistic, in one process of Sherpa's.

For each statistic: the largest relative difference of the statistic at equal parameters, with kT at AtomDB's
temperatures and between them (where XSPEC's interpolation leaves 1e-7 of a channel); how often Sherpa's fit (levmar
from 8 keV) ends in a worse minimum; where it ends in the same one, the differences of kT and of the limits of kT and
norm (conf, tolerance 1e-3) in units of sigma. For limits that are more than 2 % of sigma apart, the rise of the
statistic's profile at each of the two places, which should be 1. Regions have 300 to 20000 counts in one or two
observations. chi2datavar is fitted in bins of 12 channels, as Sherpa refuses channels without any count. --json prints
one object.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from acis import ABUNDANCE, BAND_KEV, NH_1E22, REDSHIFT, acis_nodes
from environment import environment
from scipy.optimize import minimize_scalar
from simulated import SimulatedRegion, binned, simulate_region
from synthetic import temperature_nodes

from cpxt_hpc.fitting.limits import fit_kt_norm
from cpxt_hpc.fitting.statistics import STATISTICS, Spectra, prepare, statistic_value
from cpxt_hpc.fitting.xspec import child_environment
from cpxt_hpc.io.datafiles import apec_root, response_files

BINNED, BIN_CHANNELS = ("chi2datavar",), 12
MAX_OBSERVATIONS = 2
APART = 0.02
WORSE = 1e-3
"""Sherpa's own tolerance leaves this much of the statistic."""


def our_spectra(region: SimulatedRegion, statistic: str) -> Spectra:
    """The spectra as the engine has them."""
    region = binned(region, BIN_CHANNELS) if statistic in BINNED else region
    return prepare(
        STATISTICS[statistic], region.counts, region.background, region.blank, region.scale, region.rates,
        region.exposure,
    )  # fmt: skip


def sherpas_answer(regions: list[SimulatedRegion], channel: np.ndarray, points: np.ndarray, best: dict) -> dict:
    """Run Sherpa on the regions."""
    shape = (len(regions), MAX_OBSERVATIONS)
    arrays = {name: np.zeros((*shape, len(channel))) for name in ("counts", "background", "blank")}
    exposure, scale = np.zeros(shape), np.ones(shape)
    for row, region in enumerate(regions):
        for j in range(region.n_obs):
            own = slice(j * len(channel), (j + 1) * len(channel))
            for name, values in arrays.items():
                values[row, j] = getattr(region, name)[own]
            # The observations' rates differ by a factor, which Sherpa gets as exposure.
            exposure[row, j] = region.exposure[own][0] * (1.0 - 0.07 * j)
            scale[row, j] = region.scale[own][0]
    arf, rmf = response_files("cy18")
    kt_nodes = temperature_nodes()
    with tempfile.TemporaryDirectory(prefix="cpxt_benchmark_") as folder:
        request, answer = Path(folder, "request.npz"), Path(folder, "answer.json")
        np.savez(
            request, **arrays, exposure=exposure, scale=scale, channel=channel, points=points, nh=NH_1E22,
            redshift=REDSHIFT, abundance=ABUNDANCE, band=BAND_KEV, apec_root=str(apec_root()), arf=str(arf),
            rmf=str(rmf), binned=BINNED, bin_channels=BIN_CHANNELS, kt_range=(kt_nodes[0], kt_nodes[-1]), **best,
        )  # fmt: skip
        command = [sys.executable, Path(__file__).with_name("sherpa_parity.py"), request, answer]
        subprocess.run(command, env=child_environment(), check=True, stdout=subprocess.DEVNULL)
        return json.loads(answer.read_text(encoding="utf-8"))


def summary(spectra: list, fits: np.ndarray, theirs: list[dict], points: np.ndarray) -> dict:
    """What the comparison of one statistic found."""
    kt_nodes = temperature_nodes()
    at_nodes, between, amounts, kt_apart, limits_apart, rises, by_ours = [], [], [], [], [], [], []
    for ours, fit, answer, places in zip(spectra, fits, theirs, points, strict=True):
        for (kt, norm), value in zip(places, answer["points"], strict=True):
            differences = at_nodes if kt in kt_nodes else between
            differences.append(abs(value_at(ours, kt, norm) / value - 1.0))
        if "stat" not in answer:
            continue
        amounts.append(answer["stat"] - fit[6])
        by_ours.append(value_at(ours, answer["kT"], answer["norm"]) - fit[6])
        if "limits" not in answer:
            continue
        sigma_kt, sigma_norm = 0.5 * (fit[2] - fit[1]), 0.5 * (fit[5] - fit[4])
        if fit[7] and fit[8]:
            kt_apart.append(abs(answer["kT"] - fit[0]) / sigma_kt)
        found = [fit[7], fit[8], True, True]
        widths = [sigma_kt, sigma_kt, sigma_norm, sigma_norm]
        for limit, own, width, inside in zip(answer["limits"], fit[[1, 2, 4, 5]], widths, found, strict=True):
            if limit is None or not inside:
                continue
            limits_apart.append(abs(limit - own) / width)
            if limits_apart[-1] > APART:
                profile = kt_profile if width == sigma_kt else norm_profile
                rises.append([profile(ours, fit, place) - fit[6] for place in (own, limit)])
    return {
        "largest_relative_difference": {"at_nodes": float(np.max(at_nodes)), "between": float(np.max(between))},
        "fitted_by_sherpa": len(amounts),
        "sherpas_minimum_worse": int(np.sum(np.array(amounts) > WORSE)),
        "largest_amount_ours_is_worse": float(max(0.0, -np.min(amounts))),
        "the_same_by_our_statistic": float(max(0.0, -np.min(by_ours))),
        "kt_difference_sigma": quantiles(kt_apart),
        "limit_difference_sigma": quantiles(limits_apart),
        "limits_apart": len(rises),
        "largest_error_of_rise": dict(
            zip(("ours", "sherpas"), np.max(np.abs(np.array(rises) - 1.0), axis=0).tolist(), strict=True)
        )
        if rises
        else {},
    }


def value_at(spectra: Spectra, kt: float, norm: float) -> float:
    """The statistic at any temperature and norm."""
    kt_nodes = temperature_nodes()
    k = min(max(int(np.searchsorted(kt_nodes, kt)) - 1, 0), len(kt_nodes) - 2)
    part = (kt - kt_nodes[k]) / (kt_nodes[k + 1] - kt_nodes[k])
    return statistic_value(spectra, k, norm * (1.0 - part), norm * part)


def kt_profile(spectra: Spectra, fit: np.ndarray, kt: float) -> float:
    """The statistic at the best norm for a temperature."""
    return minimize_scalar(
        lambda norm: value_at(spectra, kt, norm),
        bounds=(0.2 * fit[3], 5.0 * fit[3]), method="bounded", options={"xatol": 1e-9 * fit[3]},
    ).fun  # fmt: skip


def norm_profile(spectra: Spectra, fit: np.ndarray, norm: float) -> float:
    """The statistic at the best temperature for a norm: the lowest of the minima in all intervals of nodes."""
    kt_nodes = temperature_nodes()
    return min(
        minimize_scalar(
            lambda kt: value_at(spectra, kt, norm), bounds=ends, method="bounded", options={"xatol": 1e-9}
        ).fun
        for ends in itertools.pairwise(kt_nodes)
    )


def quantiles(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile, largest value and number."""
    if not values:
        return {"number": 0}
    middle, high = np.percentile(values, [50, 95])
    return {"median": float(middle), "p95": float(high), "largest": float(np.max(values)), "number": len(values)}


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    nodes, channel = acis_nodes()
    rates = nodes[0] + ABUNDANCE * (nodes[1] - nodes[0])
    regions = [
        simulate_region(
            rng, rates, float(np.exp(rng.uniform(*np.log((300.0, 20000.0))))), rng.uniform(0.05, 0.6),
            1 + index % MAX_OBSERVATIONS,
        )
        for index in range(arguments.regions)
    ]  # fmt: skip
    spectra = {name: [our_spectra(region, name) for region in regions] for name in STATISTICS}
    kt_nodes = temperature_nodes()
    fits = {name: np.array([fit_kt_norm(each, kt_nodes) for each in spectra[name]], dtype=float) for name in spectra}
    norm = fits["cstat"][:, 3]
    shape = (len(regions), 3)
    kts = np.concatenate([rng.choice(kt_nodes[1:-1], shape), rng.uniform(0.2, 60.0, shape)], axis=1)
    points = np.stack([kts, norm[:, None] * rng.exponential(1.0, kts.shape)], axis=-1)
    best = {name: rows[:, [0, 3, 6]] for name, rows in fits.items()}
    theirs = sherpas_answer(regions, channel, points, best)
    result = {name: summary(spectra[name], fits[name], theirs[name], points) for name in STATISTICS}
    result["environment"] = environment()
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"environment: {result['environment']}")
    print(f"{arguments.regions} regions, seed {arguments.seed}")
    for name in STATISTICS:
        row = result[name]
        same = row["largest_relative_difference"]
        print(
            f"{name}: statistic at equal parameters within {same['at_nodes']:.1e} "
            f"(between the nodes {same['between']:.1e})"
        )
        print(
            f"  Sherpa fitted {row['fitted_by_sherpa']}, {row['sherpas_minimum_worse']} of them to a worse minimum, "
            f"and none to one better than ours by more than {row['largest_amount_ours_is_worse']:.1e} "
            f"(by our statistic there {row['the_same_by_our_statistic']:.1e})"
        )
        print(f"  kT: {row['kt_difference_sigma']}")
        print(f"  limits: {row['limit_difference_sigma']}")
        print(f"  limits apart: {row['limits_apart']}, error of the rise {row['largest_error_of_rise']}")


if __name__ == "__main__":
    main()
