"""Circles a second whose spectra are taken out of packed events, on one core.

Half a million events on 500 x 500 pixels, circles of 5 to 60 pixels. An extraction is all that a fit needs of a region:
its pixels, spectrum, expected background, exposure and the shares of the responses. Beside it, on some of the same
circles in the same run: funtools' funhist on the event file (an independent stand-in for dmextract; ClusterPyXT, too,
starts a program a circle), whose spectra must equal ours with edge = exact; and the bound for programs that keep the
events in memory but do not sort them: one comparison of every event, with numpy. All times are CPU time, of child
processes too, so that they hold for one core whatever else the machine does. --json prints one object;
ratio_to_funhist is null where funhist is not installed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import dataclasses
import json
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from acis import acis_nodes
from astropy.io import fits
from environment import environment
from large_map import circles, large_map

from cpxt_hpc.fitting.extraction import RegionExtractor
from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.fitting.regions import RegionFitter
from cpxt_hpc.io.vignetting_table import hrma_vignetting


def with_circles(fit_input: FitInput, rng: np.random.Generator, number: int, events: float) -> FitInput:
    """Add circles of 5 to 60 pixels wholly inside the image, that hold this many events on average."""
    side = fit_input.grid.nx
    radius = np.round(rng.uniform(5.0, 60.0, number) * 8.0) / 8.0
    # How far from the middle they lie decides how many events they hold.
    far, near = 0.5 * side - 61.0, 0.0
    turn, distance = rng.uniform(0.0, 2.0 * np.pi, number), np.sqrt(rng.random(number))
    whole = np.arange(number)
    for _ in range(12):
        reach = 0.5 * (far + near)
        iy = np.rint(0.5 * side + reach * distance * np.sin(turn))
        ix = np.rint(0.5 * side + reach * distance * np.cos(turn))
        tried = dataclasses.replace(fit_input, regions=circles(iy, ix, radius))
        fitter = RegionFitter(tried)
        found = np.mean([fitter.extractor.extract(*fitter.region_runs(index)).counts.sum() for index in whole[:300]])
        far, near = (reach, near) if found < events else (far, reach)
    return tried


def cpu_seconds() -> float:
    """CPU time of this process, and of the children that it has waited for."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def circles_per_second(fit_input: FitInput, repeats: int) -> float:
    """Median over repeats of the rate at which all circles are extracted."""
    fitter = RegionFitter(fit_input)
    extractor: RegionExtractor = fitter.extractor
    rates = []
    for _ in range(repeats + 1):
        began = cpu_seconds()
        for index in range(len(fit_input.regions)):
            extractor.extract(*fitter.region_runs(index))
        rates.append(len(fit_input.regions) / (cpu_seconds() - began))
    return float(np.median(rates[1:]))


def sky_events(fit_input: FitInput) -> dict[str, np.ndarray]:
    """Columns x, y (sky pixels, float32) and pi of the packed events."""
    observation, grid = fit_input.observations[0], fit_input.grid
    pixel = np.repeat(np.arange(grid.nx * grid.ny), np.diff(observation.pixel_start))
    x, y = grid.sky_from_image(
        pixel % grid.nx + observation.event_x.astype(float), pixel // grid.nx + observation.event_y.astype(float)
    )
    return {"x": x.astype(np.float32), "y": y.astype(np.float32), "pi": observation.channel.astype(np.int32) + 1}


def write_event_file(path: Path, events: dict[str, np.ndarray]) -> None:
    """Write the events as funtools reads them."""
    formats = {"x": "E", "y": "E", "pi": "J"}
    table = fits.BinTableHDU.from_columns(
        [fits.Column(name, formats[name], array=column) for name, column in events.items()], name="EVENTS"
    )
    for number in (1, 2):
        table.header[f"TLMIN{number}"], table.header[f"TLMAX{number}"] = 0.5, 8192.5
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)


def funhist_spectrum(path: Path, circle: tuple[float, float, float], n_channels: int) -> np.ndarray:
    """Histogram of the channels 1 to n_channels of the events in a circle (x, y, radius in sky pixels)."""
    x, y, radius = circle
    command = ["funhist", "-T", f"{path}[EVENTS][circle({x:.3f},{y:.3f},{radius:.3f})]", "pi"]
    told = subprocess.run([*command, f"1:{n_channels}:{n_channels}"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in told.splitlines()]
    return np.array([int(row[1]) for row in rows if len(row) == 4 and row[0].isdigit()])


def numpy_spectrum(events: dict[str, np.ndarray], circle: tuple[float, float, float], n_channels: int) -> np.ndarray:
    """The same by a comparison of every event in memory."""
    x, y, radius = circle
    inside = (events["x"] - x) ** 2 + (events["y"] - y) ** 2 <= radius**2
    return np.bincount(events["pi"][inside], minlength=n_channels + 1)[1:]


def compared(exact: FitInput, events: dict[str, np.ndarray], chosen: np.ndarray) -> dict:
    """Seconds a circle of the others, and in how many circles the spectra are the same."""
    fitter, grid, regions = RegionFitter(exact), exact.grid, exact.regions
    n_channels = exact.observations[0].nodes.shape[-1]
    doubles = {name: column.astype(float) if name != "pi" else column for name, column in events.items()}
    result = {"compared": len(chosen), "numpy_s": 0.0, "same_as_numpy": 0, "funhist_s": None, "same_as_funhist": None}
    with tempfile.TemporaryDirectory(prefix="cpxt_benchmark_") as folder:
        path = Path(folder, "events.fits")
        write_event_file(path, events)
        if shutil.which("funhist"):
            result |= {"funhist_s": 0.0, "same_as_funhist": 0}
        for index in chosen:
            ours = fitter.extractor.extract(*fitter.region_runs(int(index))).counts
            x, y = grid.sky_from_image(regions.ix[index], regions.iy[index])
            circle = float(x), float(y), float(grid.binning * regions.radius[index])
            peers = {"numpy": lambda c=circle: numpy_spectrum(doubles, c, n_channels)}
            if result["funhist_s"] is not None:
                peers["funhist"] = lambda c=circle: funhist_spectrum(path, c, n_channels)
            for name, spectrum in peers.items():
                began = cpu_seconds()
                theirs = spectrum()
                result[f"{name}_s"] += (cpu_seconds() - began) / len(chosen)
                result[f"same_as_{name}"] += int(np.array_equal(ours, theirs))
    return result


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=496_000)
    parser.add_argument("--side", type=int, default=500, help="side of the image [pixel]")
    parser.add_argument("--circles", type=int, default=2000)
    parser.add_argument("--mean-events", type=float, default=24_000.0, help="mean number of events in a circle")
    parser.add_argument("--compare", type=int, default=20, help="circles that the others do, too; 0 for none")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    nodes, _ = acis_nodes()
    options = {"side": arguments.side, "n_events": arguments.events, "nodes": nodes}
    pixel = with_circles(large_map(arguments.seed, **options), rng, arguments.circles, arguments.mean_events)
    exact = large_map(arguments.seed, **options, edge="exact")
    events = sky_events(exact)
    exact = dataclasses.replace(exact, regions=pixel.regions)
    vignetted = large_map(arguments.seed, **options, vignetting=hrma_vignetting())
    vignetted = dataclasses.replace(vignetted, regions=pixel.regions)
    fitter = RegionFitter(pixel)
    counts = [fitter.extractor.extract(*fitter.region_runs(i)).counts.sum() for i in range(arguments.circles)]
    result = {
        "circles_per_s": circles_per_second(pixel, arguments.repeats),
        "exact_edge_circles_per_s": circles_per_second(exact, arguments.repeats),
        "vignetted_circles_per_s": circles_per_second(vignetted, arguments.repeats),
        "mean_events": float(np.mean(counts)),
        "n_responses": vignetted.observations[0].nodes.shape[0],
        "ratio_to_funhist": None,
    }
    if arguments.compare:
        result |= compared(exact, events, np.linspace(0, arguments.circles - 1, arguments.compare).astype(int))
        result["ratio_to_numpy"] = result["circles_per_s"] * result["numpy_s"]
        if result["funhist_s"] is not None:
            result["ratio_to_funhist"] = result["circles_per_s"] * result["funhist_s"]
    result["environment"] = environment()
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"environment: {result['environment']}")
    print(
        f"{arguments.circles} circles of {result['mean_events']:.0f} events on average, out of {arguments.events} on "
        f"{arguments.side} x {arguments.side} pixels, seed {arguments.seed}; medians of {arguments.repeats}"
    )
    print(
        f"edge = pixel: {result['circles_per_s']:.0f} circles/s; edge = exact: "
        f"{result['exact_edge_circles_per_s']:.0f}; {result['n_responses']} responses over the field: "
        f"{result['vignetted_circles_per_s']:.0f}"
    )
    for name in ("numpy", "funhist"):
        if result.get(f"{name}_s") is not None:
            print(
                f"{name}: {1e3 * result[f'{name}_s']:.2f} ms a circle, {result[f'ratio_to_{name}']:.0f} times slower; "
                f"{result[f'same_as_{name}']} of {result['compared']} spectra the same as with edge = exact"
            )


if __name__ == "__main__":
    main()
