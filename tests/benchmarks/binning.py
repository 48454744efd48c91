"""Time of the adaptive circular binning of every pixel of an image, on one core.

Beside it, on some pixels of the same images: ClusterPyXT's way, a bisection over the same radii with a sum over
the whole image at each (its arithmetic alone, without its files and processes), and a search that tries every
radius, to which the binning must be identical. --json prints one object.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import time

import numpy as np
from environment import environment

from cpxt_hpc.science.binning import adaptive_radii, radius_ladder


def cluster_image(rng: np.random.Generator, size: int, peak: float, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Counts of a beta model in the middle of a flat background, and that background."""
    y, x = np.indices((size, size)) - 0.5 * (size - 1)
    shape = (1.0 + (x**2 + y**2) / (0.06 * size) ** 2) ** -1.5
    background = np.full((size, size), level)
    return rng.poisson(peak * shape + background), background


def distances(size: int) -> np.ndarray:
    """Distance of every pixel to the centre of an image of twice the size, from which any pixel's is cut out."""
    y, x = np.indices((2 * size, 2 * size)) - size
    return np.hypot(y, x)


def by_bisection(
    counts: np.ndarray, background: np.ndarray, distance: np.ndarray, ladder: np.ndarray, target: float
) -> float:
    """Radius at one pixel as ClusterPyXT's search finds it; 0 where the largest circle does not reach the target."""
    low, high = 0, len(ladder)
    while low < high:
        middle = (low + high) // 2
        inside = distance <= ladder[middle]
        c, b = counts[inside].sum(), background[inside].sum()
        if c == 0 or (c - b) / np.sqrt(c + b) < target:
            low = middle + 1
        else:
            high = middle
    return float(ladder[low]) if low < len(ladder) else 0.0


def by_trying_all(
    counts: np.ndarray, background: np.ndarray, distance: np.ndarray, ladder: np.ndarray, target: float
) -> float:
    """Radius at one pixel by the definition: the first on the ladder that reaches the target."""
    rung = np.searchsorted(ladder, distance.ravel())
    near = rung < len(ladder)
    c, b = (
        np.bincount(rung[near], weights=image.ravel()[near], minlength=len(ladder)).cumsum()
        for image in (counts, background)
    )
    with np.errstate(invalid="ignore"):
        reached = np.flatnonzero((c - b) / np.sqrt(c + b) >= target)
    return float(ladder[reached[0]]) if reached.size else 0.0


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024], help="sides of the images [pixel]")
    parser.add_argument("--snr", type=float, default=50.0, help="signal-to-noise target")
    parser.add_argument("--max-radius", type=float, default=100.0, help="largest radius [pixel]")
    parser.add_argument("--peak", type=float, default=60.0, help="counts in the brightest pixel")
    parser.add_argument("--background", type=float, default=0.1, help="background counts a pixel")
    parser.add_argument("--pixels", type=int, default=200, help="pixels of each image for the two comparisons")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    options = {"snr_target": arguments.snr, "max_radius_pixel": arguments.max_radius}
    result = {"seconds": {}, "ratio_to_clusterpyxt": {}, "identical": True, "same_as_bisection": {}, "radius": {}}
    warm = np.ones((8, 8), int)
    adaptive_radii(warm, warm * 0.1, warm > 0, snr_target=3.0, max_radius_pixel=3.0)
    ladder = radius_ladder(arguments.max_radius)
    for size in arguments.sizes:
        rng = np.random.default_rng(arguments.seed)
        counts, background = cluster_image(rng, size, arguments.peak, arguments.background)
        mask = np.ones(counts.shape, bool)
        seconds = []
        for _ in range(arguments.repeats):
            began = time.perf_counter()
            radius = adaptive_radii(counts, background, mask, **options)
            seconds.append(time.perf_counter() - began)
        whole = distances(size)
        pixels = rng.integers(0, size, (arguments.pixels, 2))
        bisected, exact, taken = [], [], 0.0
        for iy, ix in pixels:
            distance = whole[size - iy : 2 * size - iy, size - ix : 2 * size - ix]
            began = time.perf_counter()
            bisected.append(by_bisection(counts, background, distance, ladder, arguments.snr))
            taken += time.perf_counter() - began
            exact.append(by_trying_all(counts, background, distance, ladder, arguments.snr))
        ours = radius[tuple(pixels.T)]
        key = str(size)
        result["seconds"][key] = float(np.median(seconds))
        result["ratio_to_clusterpyxt"][key] = (taken / len(pixels)) / (result["seconds"][key] / size**2)
        result["identical"] &= bool(np.array_equal(ours, exact))
        result["same_as_bisection"][key] = float(np.mean(ours == bisected))
        found = radius[radius > 0]
        result["radius"][key] = {
            "median": float(np.median(found)) if found.size else 0.0,
            "pixels_with_a_circle": float(found.size / size**2),
        }
    result["environment"] = environment()
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"environment: {result['environment']}")
    print(f"S/N {arguments.snr:g}, seed {arguments.seed}, medians of {arguments.repeats}")
    for key, seconds in result["seconds"].items():
        shown = result["radius"][key]
        print(
            f"{key} x {key}: {seconds:.2f} s, ClusterPyXT's search {result['ratio_to_clusterpyxt'][key]:.0f} times "
            f"slower; median radius {shown['median']:.2f} pixel, {shown['pixels_with_a_circle']:.0%} of the pixels "
            f"have a circle; same as the bisection at {result['same_as_bisection'][key]:.1%} of the tested pixels"
        )
    print(f"identical to trying every radius: {result['identical']}")


if __name__ == "__main__":
    main()
