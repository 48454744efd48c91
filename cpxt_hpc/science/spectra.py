"""Spectra and sums of the regions of a map: a region is a set of pixels, kept as runs of flat pixel indices.

A run is a half-open range [start, stop) of iy * nx + ix. Events sorted by pixel make the events of a run one
slice, so that a spectrum is a histogram of a few slices.
"""

from __future__ import annotations

import numpy as np

from cpxt_hpc.science.compiled import compiled


def circle_runs(iy: int, ix: int, radius_pixel: float, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Runs of the pixels whose centre lies within a circle.

    Parameters
    ----------
    iy, ix : int
        Pixel at the circle's centre, zero-based; it may lie outside the image.
    radius_pixel : float
        Radius [pixel]; pixels at exactly this distance belong to the circle. Below 0 (and NaN) none does.
    shape : tuple of int
        Shape (ny, nx) of the image, at whose edges the circle is cut.

    Returns
    -------
    start, stop : ndarray of int64, shape (n_runs,)
    """
    return _circle_runs(int(iy), int(ix), float(radius_pixel), int(shape[0]), int(shape[1]))


def circle_pixel_count(radius_pixel: float) -> int:
    """Number of pixels of a circle about a pixel's centre, no image edge near."""
    return int(_circle_pixel_count(float(radius_pixel)))


def pixel_runs(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of a list of pixels.

    Parameters
    ----------
    pixels : ndarray of int, shape (n,)
        Flat pixel indices in any order; one that comes twice counts once.

    Returns
    -------
    start, stop : ndarray of int64, shape (n_runs,)
    """
    ordered = np.unique(np.asarray(pixels, dtype=np.int64))
    if len(ordered) == 0:
        return ordered, ordered.copy()
    breaks = np.flatnonzero(np.diff(ordered) > 1)
    start = ordered[np.concatenate([[0], breaks + 1])]
    stop = ordered[np.concatenate([breaks, [len(ordered) - 1]])] + 1
    return start, stop


@compiled
def observed_spectrum(
    start: np.ndarray,
    stop: np.ndarray,
    pixel_start: np.ndarray,
    channel: np.ndarray,
    background_image: np.ndarray,
    background_shape: np.ndarray,
    counts: np.ndarray,
    background: np.ndarray,
) -> np.ndarray:
    """Spectrum of a region's events, and of the background expected in it.

    Parameters
    ----------
    start, stop : ndarray of int64, shape (n_runs,)
        The region.
    pixel_start : ndarray of int64, shape (n_pixels + 1,)
        Where the events of each pixel start in `channel`.
    channel : ndarray of int, shape (n_events,)
        Channel index of the events, sorted by pixel; all below n_channels.
    background_image : ndarray, shape (n_groups, n_pixels)
        Background by detector group [count/pixel].
    background_shape : ndarray of float64, shape (n_groups, n_channels)
        Its spectrum by detector group, sum 1.
    counts, background : ndarray of float64, shape (n_channels,)
        The events and the background are added to these.

    Returns
    -------
    ndarray of float64, shape (n_groups,)
        Background of each group [count].
    """
    levels = np.empty(len(background_image))
    for r in range(len(start)):
        for e in range(pixel_start[start[r]], pixel_start[stop[r]]):
            counts[channel[e]] += 1.0
    for g in range(len(background_image)):
        level = 0.0
        for r in range(len(start)):
            for p in range(start[r], stop[r]):
                level += background_image[g, p]
        levels[g] = level
        for i in range(len(background)):
            background[i] += level * background_shape[g, i]
    return levels


@compiled
def grouped_spectrum(
    start: np.ndarray,
    stop: np.ndarray,
    pixel_start: np.ndarray,
    channel: np.ndarray,
    group: np.ndarray,
    n_groups: int,
    n_channels: int,
) -> np.ndarray:
    """Histograms of the events of a region by detector group, int64, shape (n_groups, n_channels).

    `group` holds the detector group of every event; the other parameters are those of `observed_spectrum`.
    """
    counts = np.zeros((n_groups, n_channels), dtype=np.int64)
    for r in range(len(start)):
        for e in range(pixel_start[start[r]], pixel_start[stop[r]]):
            counts[group[e], channel[e]] += 1
    return counts


@compiled
def exposure_sums(
    start: np.ndarray, stop: np.ndarray, image: np.ndarray, weight: np.ndarray
) -> tuple[float, float, float]:
    """Sums over a region of an image, of the image times a weight, and of the weight.

    Parameters
    ----------
    start, stop : ndarray of int64, shape (n_runs,)
        The region.
    image, weight : ndarray, shape (n_pixels,)
        Flat images.

    Returns
    -------
    plain, weighted, weights : float
    """
    plain = weighted = weights = 0.0
    for r in range(len(start)):
        for p in range(start[r], stop[r]):
            value, factor = np.float64(image[p]), np.float64(weight[p])
            plain += value
            weighted += value * factor
            weights += factor
    return plain, weighted, weights


@compiled
def response_weights(
    start: np.ndarray,
    stop: np.ndarray,
    exposure_fraction: np.ndarray,
    brightness: np.ndarray,
    index: np.ndarray,
    part: np.ndarray,
    n_responses: int,
) -> np.ndarray:
    """Share of each response in the light that an observation sees of a region.

    Parameters
    ----------
    start, stop : ndarray of int64, shape (n_runs,)
        The region.
    exposure_fraction, brightness : ndarray, shape (n_pixels,)
        Their product is a pixel's light.
    index, part : ndarray, shape (n_pixels,)
        (1 - part) of a pixel's light belongs to the response `index`, `part` of it to the next one.
    n_responses : int

    Returns
    -------
    ndarray of float64, shape (n_responses,)
        Sum 1; all of it in the first one where there is no light.
    """
    share = np.zeros(n_responses)
    total = 0.0
    for r in range(len(start)):
        for p in range(start[r], stop[r]):
            light = np.float64(exposure_fraction[p]) * np.float64(brightness[p])
            beyond = light * np.float64(part[p])
            total += light
            share[index[p]] += light - beyond
            if beyond > 0.0:
                share[index[p] + 1] += beyond
    if not total > 0.0:
        share[0] = 1.0
        return share
    return share / total


@compiled
def mean_response(nodes: np.ndarray, share: np.ndarray, rates: np.ndarray, first: int) -> None:
    """Mean of folded models over responses, written into a part of the rates.

    Parameters
    ----------
    nodes : ndarray of float64, shape (n_responses, n_nh, n_abundances, n_nodes, n_own_channels)
    share : ndarray of float64, shape (n_responses,)
    rates : ndarray of float64, shape (n_nh, n_abundances, n_nodes, n_channels)
        Overwritten from channel `first` on.
    first : int
    """
    _, n_nh, n_abundances, n_nodes, n_own = nodes.shape
    for h in range(n_nh):
        for z in range(n_abundances):
            for k in range(n_nodes):
                target = rates[h, z, k, first : first + n_own]
                target[:] = 0.0
                for r in range(len(share)):
                    if share[r] > 0.0:
                        row, factor = nodes[r, h, z, k], share[r]
                        for i in range(n_own):
                            target[i] += factor * row[i]


@compiled(part=True)
def _half_width(dy: int, radius: float) -> int:
    """Largest dx with dx^2 + dy^2 <= radius^2, or -1."""
    rest = radius * radius - dy * dy
    if not (radius >= 0.0 and rest >= 0.0):
        return -1
    # The root may be rounded across an integer, the comparison of squares is exact.
    width = int(np.sqrt(rest))
    while width * width > rest:
        width -= 1
    while (width + 1) * (width + 1) <= rest:
        width += 1
    return width


@compiled
def _circle_runs(iy, ix, radius, ny, nx):
    reach = _half_width(np.int64(0), radius)
    first, last = max(iy - reach, 0), min(iy + reach, ny - 1)
    size = max(last - first + 1, 0) if reach >= 0 else 0
    start = np.empty(size, dtype=np.int64)
    stop = np.empty(size, dtype=np.int64)
    n = 0
    for y in range(first, first + size):
        width = _half_width(y - iy, radius)
        low, high = max(ix - width, 0), min(ix + width, nx - 1)
        if low <= high:
            start[n] = y * nx + low
            stop[n] = y * nx + high + 1
            n += 1
    return start[:n], stop[:n]


@compiled
def _circle_pixel_count(radius):
    reach = _half_width(np.int64(0), radius)
    total = 0
    for dy in range(-reach, reach + 1):
        total += 2 * _half_width(dy, radius) + 1
    return total if reach >= 0 else 0
