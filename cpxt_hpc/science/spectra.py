"""Spectra and sums of the regions of a map, from images and from events sorted by pixel.

The events of a run of pixels are one slice, so that a spectrum is a histogram of a few slices. Pixels at the edge of
an exact circle count in part; their events are taken by their positions.
"""

from __future__ import annotations

import numpy as np

from cpxt_hpc.science.compiled import REASSOCIATE, compiled


@compiled
def observe_region(
    start: np.ndarray,
    stop: np.ndarray,
    edge_pixel: np.ndarray,
    edge_part: np.ndarray,
    iy: int,
    ix: int,
    radius: float,
    nx: int,
    least_exposed: float,
    exposure_fraction: np.ndarray,
    brightness: np.ndarray,
    response_index: np.ndarray,
    response_part: np.ndarray,
    pixel_start: np.ndarray,
    channel: np.ndarray,
    event_x: np.ndarray,
    event_y: np.ndarray,
    background_image: np.ndarray,
    background_shape: np.ndarray,
    background_error: np.ndarray,
    n_channels: int,
    bin_channels: int,
    counts: np.ndarray,
    background: np.ndarray,
    share: np.ndarray,
) -> tuple[float, float, float, float, float]:
    """All that one observation has to say of a region.

    Parameters
    ----------
    start, stop : ndarray of int64, shape (n_runs,)
        Runs of whole pixels of the region.
    edge_pixel, edge_part, iy, ix, radius
        Its edge; see `CircleEdge`.
    nx : int
        Width of the image.
    least_exposed : float
        Where the region's pixels expose less than this in sum, nothing else is done.
    exposure_fraction, brightness : ndarray of float32, shape (n_pixels,)
        Flat images; their product is a pixel's light.
    response_index, response_part : ndarray of uint8 and float32, shape (n_pixels,)
        (1 - part) of a pixel's light belongs to the response `index`, `part` of it to the next one.
    pixel_start : ndarray of int64, shape (n_pixels + 1,)
        Where the events of each pixel start.
    channel : ndarray of uint16, shape (n_events,)
        Channel index of the events, sorted by pixel.
    event_x, event_y : ndarray of float32, shape (n_events,)
        Position of the events from the centre of their pixel [pixel]; may be empty where there is no edge.
    background_image : ndarray of float32, shape (n_groups, n_pixels)
        Background by group [count/pixel].
    background_shape : ndarray of float64, shape (n_groups, n_bins)
        Its spectrum by group.
    background_error : ndarray of float64, shape (n_groups,)
        Relative error of each group's level.
    n_channels, bin_channels : int
        Number of channels, and how many of them make a bin; the last one may have fewer.
    counts, background : ndarray of float64, shape (n_bins,)
        Overwritten with the number of events and the background expected, not below 0 (components that correct others
        are negative).
    share : ndarray of float64, shape (n_responses,)
        Overwritten with the share of each response in the light, sum 1; all of it in the first where there is none.

    Returns
    -------
    exposed, light, whole_light : float
        Sums over the region of exposure fraction, of its product with the brightness, and of the brightness.
    level, variance : float
        Background of all groups [count], and the variance of this sum.
    """
    exposed = _image_sum(start, stop, edge_pixel, edge_part, exposure_fraction)
    if not exposed >= least_exposed:
        return exposed, 0.0, 0.0, 0.0, 0.0
    whole_light = _image_sum(start, stop, edge_pixel, edge_part, brightness)
    light = _shared_light(
        start, stop, edge_pixel, edge_part, exposure_fraction, brightness, response_index, response_part, share
    )
    # Integers: adding to one that was just written is quicker than for floating-point numbers.
    spectrum = np.zeros(n_channels, dtype=np.int64)
    for r in range(len(start)):
        for each in channel[pixel_start[start[r]] : pixel_start[stop[r]]]:
            spectrum[each] += 1
    for k in range(len(edge_pixel)):
        p = edge_pixel[k]
        dy, dx = float(p // nx - iy), float(p % nx - ix)
        for e in range(pixel_start[p], pixel_start[p + 1]):
            if _is_inside(dy + event_y[e], dx + event_x[e], radius):
                spectrum[channel[e]] += 1
    for i in range(len(counts)):
        total = 0
        for j in range(i * bin_channels, min((i + 1) * bin_channels, n_channels)):
            total += spectrum[j]
        counts[i] = total
    background[:] = 0.0
    level = variance = 0.0
    for g in range(len(background_image)):
        of_group = _image_sum(start, stop, edge_pixel, edge_part, background_image[g])
        level += of_group
        variance += (of_group * background_error[g]) ** 2
        for i in range(len(background)):
            background[i] += of_group * background_shape[g, i]
    for i in range(len(background)):
        if background[i] < 0.0:
            background[i] = 0.0
    return exposed, light, whole_light, level, variance


@compiled
def grouped_spectrum(
    start: np.ndarray,
    stop: np.ndarray,
    edge_pixel: np.ndarray,
    iy: int,
    ix: int,
    radius: float,
    nx: int,
    pixel_start: np.ndarray,
    channel: np.ndarray,
    event_x: np.ndarray,
    event_y: np.ndarray,
    group: np.ndarray,
    n_groups: int,
    n_channels: int,
) -> np.ndarray:
    """Histograms of the events of a region by group, int64, shape (n_groups, n_channels).

    `group` holds the group of every event; the other parameters are those of `observe_region`.
    """
    counts = np.zeros((n_groups, n_channels), dtype=np.int64)
    for r in range(len(start)):
        for e in range(pixel_start[start[r]], pixel_start[stop[r]]):
            counts[group[e], channel[e]] += 1
    for k in range(len(edge_pixel)):
        p = edge_pixel[k]
        dy, dx = float(p // nx - iy), float(p % nx - ix)
        for e in range(pixel_start[p], pixel_start[p + 1]):
            if _is_inside(dy + event_y[e], dx + event_x[e], radius):
                counts[group[e], channel[e]] += 1
    return counts


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
def _is_inside(y, x, radius):
    return y * y + x * x <= radius * radius


@compiled(part=True, fastmath=REASSOCIATE)
def _image_sum(start, stop, edge_pixel, edge_part, image):
    total = 0.0
    for r in range(len(start)):
        # Of a slice the compiler knows that no index is negative, and uses vector instructions.
        row = image[start[r] : stop[r]]
        for i in range(len(row)):
            total += np.float64(row[i])
    for k in range(len(edge_pixel)):
        total += edge_part[k] * image[edge_pixel[k]]
    return total


@compiled(part=True, fastmath=REASSOCIATE)
def _shared_light(start, stop, edge_pixel, edge_part, exposure_fraction, brightness, index, part, share):
    """Light of a region; the share of each response is written into `share`."""
    share[:] = 0.0
    light = 0.0
    for r in range(len(start)):
        run = slice(start[r], stop[r])
        light += _add_light(exposure_fraction[run], brightness[run], index[run], part[run], share)
    for k in range(len(edge_pixel)):
        p = edge_pixel[k]
        own = edge_part[k] * exposure_fraction[p] * brightness[p]
        beyond = own * part[p]
        light += own
        share[index[p]] += own - beyond
        if beyond > 0.0:
            share[index[p] + 1] += beyond
    if light > 0.0:
        share /= light
    else:
        share[:] = 0.0
        share[0] = 1.0
    return light


@compiled(part=True, fastmath=REASSOCIATE)
def _add_light(exposure_fraction, brightness, index, part, share):
    """Light of a run of pixels, added to the responses; neighbours mostly have the same."""
    light = 0.0
    first = 0
    while first < len(index):
        response = index[first]
        last = first + 1 if len(share) > 1 else len(index)
        while last < len(index) and index[last] == response:
            last += 1
        exposures, lights, parts = exposure_fraction[first:last], brightness[first:last], part[first:last]
        own = beyond = 0.0
        for i in range(len(exposures)):
            of_pixel = np.float64(exposures[i]) * np.float64(lights[i])
            own += of_pixel
            beyond += of_pixel * np.float64(parts[i])
        light += own
        share[response] += own - beyond
        if beyond > 0.0:
            share[response + 1] += beyond
        first = last
    return light
