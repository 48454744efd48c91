"""Bias and coverage of whole maps: redraw the synthetic cluster many times and fit each draw.

Every draw goes through the commands a user runs (cpxt-demo, cpxt-init, cpxt-prep --auto, cpxt-fit, once with the
default statistic and once with ClusterPyXT's recipe), then circles that lie wholly in one truth region are
compared with its temperature. Prints a Markdown table; --json prints one object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

from cpxt_hpc import __version__
from cpxt_hpc.cli import demo, fit, init, prep
from cpxt_hpc.demo.compare import circles_inside, truth_on_grid
from cpxt_hpc.fitting.results import FIRST_STATUS_WITHOUT_VALUES
from cpxt_hpc.io.checkpoint import read_results
from cpxt_hpc.io.fit_input import read_fit_input
from cpxt_hpc.layout import ClusterLayout

STATISTICS = ("cstat", "chi2gehrels")


def _run(command, *paths: Path, options: str = "") -> None:
    words = [*map(str, paths), *options.split()]
    with contextlib.redirect_stdout(sys.stderr):
        code = command.main(words)
    if code != 0:
        raise SystemExit(f"{command.__name__} {' '.join(words)}: exit code {code}")


def fitted_circles(folder: Path, seed: int, arguments: argparse.Namespace) -> dict[str, list[dict]]:
    """For each statistic one record a truth region: median kT, and how many circles hold the truth."""
    name = f"redraw{seed}"
    scene = f"--name {name} --seed {seed} --size {arguments.size} --exposure-ks {arguments.exposure_ks}"
    _run(demo, folder, options=scene)
    truth = json.loads((folder / f"{name}_truth" / "truth.json").read_text())
    physics = f"--nH {truth['nH_1e22']} --redshift {truth['redshift']} --abundance {truth['abundance']}"
    binning = f"--signal_to_noise {arguments.signal_to_noise}"
    _run(init, options=f"--cluster_name {name} --obsids 90001,90002 {physics} {binning} --data-dir {folder}")
    ini = folder / name / "cluster.ini"
    _run(prep, ini, options="--auto")
    text = ini.read_text()
    records = {}
    for statistic in STATISTICS:
        ini.write_text(_edited(text, statistic))
        _run(fit, ini, options=f"--resolution {arguments.resolution}")
        layout = ClusterLayout(folder / name, name, statistic)
        results = read_results(layout.fits)
        results = results[(results["status"] < FIRST_STATUS_WITHOUT_VALUES) & np.isfinite(results["kT"])]
        image = truth_on_grid(folder / f"{name}_truth" / f"{name}_kT_truth.fits", read_fit_input(layout.fit_input).grid)
        held = circles_inside(results, image)
        records[statistic] = [
            {
                "region": component["region"],
                "kT": component["kT"],
                "median": float(np.median(results["kT"][held == component["kT"]])),
                "circles": int(np.sum(held == component["kT"])),
                "inside": int(
                    np.sum((held == component["kT"]) & (results["kT_lo"] <= held) & (held <= results["kT_hi"]))
                ),
            }
            for component in truth["components"]
            if np.any(held == component["kT"])
        ]
    return records


def _edited(text: str, statistic: str) -> str:
    """cluster.ini with another statistic and label."""
    lines, section = [], ""
    for line in text.splitlines():
        word = line.strip()
        if word.startswith("["):
            section = word
        key = word.lstrip("#; ").split("=")[0].strip()
        if section == "[fit]" and "=" in word and key in ("statistic", "label"):
            line = f"{key} = {statistic}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def summarise(draws: list[dict[str, list[dict]]]) -> list[dict]:
    """One row for each statistic and temperature, and one for all temperatures together."""
    rows = []
    for statistic in STATISTICS:
        records = [record for draw in draws for record in draw[statistic]]
        for kt in sorted({record["kT"] for record in records}):
            here = [record for record in records if record["kT"] == kt]
            bias = np.array([record["median"] / kt - 1.0 for record in here])
            rows.append(
                {
                    "statistic": statistic,
                    "kT": kt,
                    "draws": len(here),
                    "bias_percent": 100.0 * float(bias.mean()),
                    "bias_error_percent": 100.0 * float(bias.std(ddof=1) / np.sqrt(len(bias)))
                    if len(bias) > 1
                    else None,
                    "coverage": sum(r["inside"] for r in here) / sum(r["circles"] for r in here),
                    "circles": sum(r["circles"] for r in here),
                }
            )
        rows.append(
            {
                "statistic": statistic,
                "kT": "all",
                "draws": len(draws),
                "coverage": sum(r["inside"] for r in records) / sum(r["circles"] for r in records),
                "circles": sum(r["circles"] for r in records),
            }
        )
    return rows


def markdown(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| statistic | true kT (keV) | draws | mean of the medians | 68 % interval holds the truth | circles |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        bias = ""
        if "bias_percent" in row:
            spread = "" if row["bias_error_percent"] is None else f" ± {row['bias_error_percent']:.1f}"
            bias = f"{row['bias_percent']:+.1f}{spread} %"
        lines.append(
            f"| {row['statistic']} | {row['kT']} | {row['draws']} | {bias} | {row['coverage']:.2f} | {row['circles']} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20, help="number of redraws [%(default)s]")
    parser.add_argument("--seed", type=int, default=101, help="seed of the first draw [%(default)s]")
    parser.add_argument("--size", type=float, default=150.0, help="radius of the cluster in arcsec [%(default)s]")
    parser.add_argument("--exposure-ks", type=float, default=70.0, help="exposure of both observations [%(default)s]")
    parser.add_argument("--signal_to_noise", type=float, default=50.0, help="of each circle [%(default)s]")
    parser.add_argument("--resolution", type=int, default=2, help="of the fitted pixels [%(default)s]")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    start = time.monotonic()
    draws = []
    for seed in range(arguments.seed, arguments.seed + arguments.draws):
        with tempfile.TemporaryDirectory() as folder:
            draws.append(fitted_circles(Path(folder), seed, arguments))
        print(f"seed {seed} done, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    rows = summarise(draws)
    if arguments.json:
        print(
            json.dumps(
                {
                    "bias": rows,
                    "python": platform.python_version(),
                    "cpxt_hpc": __version__,
                    "seed": arguments.seed,
                }
            )
        )
    else:
        print(
            f"cpxt_hpc {__version__}, Python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}"
        )
        scene = f"radius {arguments.size:g} arcsec, {arguments.exposure_ks:g} ks"
        binning = f"signal to noise {arguments.signal_to_noise:g}, resolution {arguments.resolution}"
        seconds = time.monotonic() - start
        print(f"{arguments.draws} draws from seed {arguments.seed}: {scene}, {binning}; {seconds:.0f} s\n")
        print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
