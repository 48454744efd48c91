"""Adaptive circular binning: for every pixel the smallest circle that reaches a signal-to-noise target.

A circle of radius r about a pixel is the set of pixels whose centre lies within r of that pixel's centre. Radii
are tried on the ladder 1, 1.125, 1.25, ... pixels; the result is the *smallest* that reaches the target, exactly,
although the signal to noise may rise and fall with the radius.

Method: rows are summed up once, so that a disc costs two look-ups a row. The search starts near the radius of the
left neighbour. That no smaller radius reaches the target is proven without trying all of them: counts C and
background B only grow with the radius, and (C - B)/sqrt(C + B) grows with C and falls with B, so that no radius
between r1 and r2 has more than C(r2) and B(r1) give.
"""

from __future__ import annotations

import numpy as np

from cpxt_hpc.science.compiled import compiled

STEPS_PER_PIXEL = 8
"""Radii on the ladder are multiples of 1/8 = 0.125 pixel (ClusterPyXT's step)."""

SMALLEST_RADIUS_PIXEL = 1.0

_BACKGROUND_BITS = 52
"""The background is counted in units so small that its sum over the image has so many bits: sums of integers are
exact, in whatever order they are made, and so is their conversion to float64."""

_FIRST_STEP = 5
"""Ladder steps below the neighbour's radius at which the search starts; a matter of speed only."""

_MARGIN = 1.0 - 1e-9
"""A bound counts as below the target only if it is so by more than rounding."""


def radius_ladder(max_radius_pixel: float) -> np.ndarray:
    """Radii that are tried [pixel]: 1, 1.125, ... up to a maximum.

    Raises
    ------
    ValueError
        The maximum is below 1.
    """
    if not max_radius_pixel >= SMALLEST_RADIUS_PIXEL:
        raise ValueError(f"the largest radius is {max_radius_pixel}, expected at least 1 pixel")
    last = int(np.floor(max_radius_pixel * STEPS_PER_PIXEL))
    return np.arange(STEPS_PER_PIXEL, last + 1) / STEPS_PER_PIXEL


def signal_to_noise(counts: np.ndarray, background: np.ndarray, *, snr: str = "background") -> np.ndarray:
    """Signal to noise of sums of counts.

    Parameters
    ----------
    counts, background : ndarray
        Counts, and expected background in the same exposure and area [count].
    snr : str
        ``background``: (C - B)/sqrt(C + B); ``counts``: sqrt(C), as ClusterPyXT's later versions.

    Returns
    -------
    ndarray
        0 where there is neither count nor background.
    """
    counts = np.asarray(counts, dtype=float)
    background = np.asarray(background, dtype=float) if snr == "background" else np.zeros_like(counts)
    total = counts + background
    return np.divide(counts - background, np.sqrt(total), out=np.zeros(np.shape(total)), where=total > 0)


def adaptive_radii(
    counts: np.ndarray,
    background: np.ndarray,
    mask: np.ndarray,
    *,
    snr_target: float,
    max_radius_pixel: float,
    snr: str = "background",
) -> np.ndarray:
    """Radius of each pixel's circle.

    Parameters
    ----------
    counts : ndarray, shape (ny, nx)
        Counts, whole numbers.
    background : ndarray, shape (ny, nx)
        Expected background in the same exposure [count/pixel].
    mask : ndarray of bool, shape (ny, nx)
        True where a pixel belongs to the map; others count as empty and get no circle.
    snr_target : float
        Signal to noise that a circle must reach, positive.
    max_radius_pixel : float
        Largest radius tried, at least 1.
    snr : str
        As for `signal_to_noise`.

    Returns
    -------
    ndarray of float64, shape (ny, nx)
        Radius [pixel]; 0 outside the mask and where no circle up to the maximum reaches the target.

    Raises
    ------
    ValueError
        Images of different shapes, negative or fractional counts, negative or infinite background, a target
        that is not positive, an unknown `snr`.
    """
    counts, background, mask = np.asarray(counts), np.asarray(background), np.asarray(mask, dtype=bool)
    if counts.ndim != 2 or not counts.shape == background.shape == mask.shape:
        raise ValueError(
            f"counts {counts.shape}, background {background.shape} and mask {mask.shape} "
            "must be images of one shape"
        )
    if not snr_target > 0:
        raise ValueError(f"the signal-to-noise target is {snr_target}, expected a positive number")
    if snr not in ("background", "counts"):
        raise ValueError(f"snr = {snr!r} is unknown: choose background or counts")
    counts = np.where(mask, counts, 0)
    if not np.all(np.isfinite(counts) & (counts >= 0) & (counts == np.rint(counts))):
        raise ValueError("counts must be whole numbers and not negative")
    whole = counts.astype(np.int64)
    background = np.where(mask, background, 0.0) if snr == "background" else np.zeros(counts.shape)
    if not (np.all(np.isfinite(background)) and np.all(background >= 0)):
        raise ValueError("the background must be finite and not negative")
    units, unit = _in_units(background)
    ladder = radius_ladder(min(max_radius_pixel, _largest_useful_radius(counts.shape)))
    half_widths = _half_widths(ladder)
    sums = _row_sums(whole, units, half_widths.shape[1] - 1)
    return _search(sums, mask, half_widths, *_rings(half_widths), ladder, float(snr_target), unit)


def _largest_useful_radius(shape: tuple[int, int]) -> float:
    """Radius at which a circle about any pixel holds the whole image."""
    return max(float(np.ceil(np.hypot(*shape))), SMALLEST_RADIUS_PIXEL)


def _in_units(background: np.ndarray) -> tuple[np.ndarray, float]:
    """The background as whole numbers of a small unit, and the unit (a power of two)."""
    total = float(background.sum())
    if total == 0:
        return np.zeros(background.shape, dtype=np.int64), 1.0
    unit = 2.0 ** (np.ceil(np.log2(total)) - _BACKGROUND_BITS)
    return np.rint(background / unit).astype(np.int64), unit


def _row_sums(counts: np.ndarray, background: np.ndarray, margin: int) -> np.ndarray:
    """Sums of each row up to each column, counts and background side by side, in a frame of empty pixels.

    The frame is as wide as the largest disc reaches, so that no disc needs to be cut at the image's edge.
    """
    ny, nx = counts.shape
    sums = np.zeros((ny + 2 * margin, nx + 2 * margin + 1, 2), dtype=np.int64)
    for layer, image in enumerate((counts, background)):
        inner = sums[margin : margin + ny, margin + 1 :, layer]
        np.cumsum(image, axis=1, out=inner[:, :nx])
        inner[:, nx:] = inner[:, nx - 1 : nx]
    return sums


def _half_widths(ladder: np.ndarray) -> np.ndarray:
    """Half width of a disc's rows, shape (n_radii, reach + 1): row dy holds |dx| <= width, -1 where none."""
    reach = int(ladder[-1])
    dy = np.arange(reach + 1)
    square = np.floor(ladder**2).astype(np.int64)[:, None] - dy**2
    width = np.sqrt(np.maximum(square, 0)).astype(np.int64)
    # The root may be rounded across a whole number; squares of whole numbers are exact.
    width -= width**2 > square
    width += (width + 1) ** 2 <= square
    return np.where(square >= 0, width, -1)


def _rings(half_widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels by the rung of the ladder at which they enter the disc.

    Returns
    -------
    offsets : ndarray of int64, shape (n, 2)
        (dy, dx) from the centre, sorted by rung.
    start : ndarray of int64, shape (n_rungs + 1,)
        Where each rung's pixels start; rung 0 holds the whole smallest disc.
    """
    reach = half_widths.shape[1] - 1
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    # The squared distance against squares of whole eighths: all whole numbers.
    square = STEPS_PER_PIXEL**2 * (dy**2 + dx**2)
    rung = np.ceil(np.sqrt(square)).astype(np.int64)
    rung += rung**2 < square
    rung -= (rung - 1) ** 2 >= square
    rung = np.maximum(rung - STEPS_PER_PIXEL, 0)
    order = np.argsort(rung, kind="stable")
    order = order[rung[order] < len(half_widths)]
    start = np.searchsorted(rung[order], np.arange(len(half_widths) + 1))
    return np.stack([dy[order], dx[order]], axis=1), start


def region_pixels(radius: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the pixels that have a circle: 1, 2, ... row by row (ClusterPyXT's region numbers).

    Returns
    -------
    number, iy, ix : ndarray of int32, shape (n,)
    """
    iy, ix = np.nonzero(np.asarray(radius) > 0)
    return np.arange(1, len(iy) + 1, dtype=np.int32), iy.astype(np.int32), ix.astype(np.int32)


def circle_sums(image: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Sum of an image over each pixel's circle.

    Parameters
    ----------
    image : ndarray, shape (ny, nx)
        Masked pixels must be zero.
    radius : ndarray, shape (ny, nx)
        Radii on the ladder, as `adaptive_radii` gives them.

    Returns
    -------
    ndarray of float64, shape (ny, nx)
        0 where the radius is 0.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    image, radius = np.asarray(image, dtype=float), np.asarray(radius, dtype=float)
    if image.shape != radius.shape:
        raise ValueError(f"image {image.shape} and radius {radius.shape} must have one shape")
    rungs = np.rint(radius * STEPS_PER_PIXEL).astype(np.int64) - STEPS_PER_PIXEL
    ladder = radius_ladder(max(radius.max(initial=0.0), SMALLEST_RADIUS_PIXEL))
    sums = np.zeros((image.shape[0], image.shape[1] + 1))
    np.cumsum(image, axis=1, out=sums[:, 1:])
    return _circle_sums(sums, rungs, _half_widths(ladder))


@compiled
def _circle_sums(sums, rungs, half_widths):
    ny, nx = rungs.shape
    result = np.zeros((ny, nx))
    for iy in range(ny):
        for ix in range(nx):
            rung = rungs[iy, ix]
            if rung < 0:
                continue
            widths = half_widths[rung]
            reach = widths[0]
            total = 0.0
            for y in range(max(iy - reach, 0), min(iy + reach, ny - 1) + 1):
                width = widths[abs(y - iy)]
                total += sums[y, min(ix + width + 1, nx)] - sums[y, max(ix - width, 0)]
            result[iy, ix] = total
    return result


@compiled
def _disc(sums, widths, y, x):
    """Counts, and background in its unit, within a disc about a pixel of the frame."""
    width = widths[0]
    counts = sums[y, x + width + 1, 0] - sums[y, x - width, 0]
    background = sums[y, x + width + 1, 1] - sums[y, x - width, 1]
    for dy in range(1, width + 1):
        left, right = x - widths[dy], x + widths[dy] + 1
        counts += sums[y + dy, right, 0] - sums[y + dy, left, 0] + sums[y - dy, right, 0] - sums[y - dy, left, 0]
        background += (
            sums[y + dy, right, 1] - sums[y + dy, left, 1] + sums[y - dy, right, 1] - sums[y - dy, left, 1]
        )
    return counts, background


@compiled
def _significance(counts, background):
    total = counts + background
    return (counts - background) / np.sqrt(total) if total > 0.0 else 0.0


@compiled
def _largest_harmless_background(counts, target):
    """The background above which so many counts stay below the target: (C - B)^2 = T^2 (C + B) solved for B."""
    half = 0.5 * target * target
    return counts + half - np.sqrt(half * (half + 4.0 * counts))


@compiled
def _proven_below(sums, half_widths, ladder, y, x, rung, counts, background, target, unit):
    """Whether no radius up to a rung of the ladder, whose disc holds these sums, reaches the target.

    Returns
    -------
    int
        ``rung`` where proven; else a rung that does reach the target, minus one: the smallest radius is that one
        or a smaller one.
    """
    top = rung
    while True:
        if _significance(float(counts), background * unit) >= target:
            return top - 1
        # From here on `top` itself is excluded, and nothing below it has more counts than it.
        needed = _largest_harmless_background(float(counts), target * _MARGIN)
        if needed < 0.0 or top == 0:
            return rung
        # Area scaling guesses the smallest disc that still holds more background than `needed`, and two steps more.
        share = min(needed / max(background * unit, 1e-300), 1.0)
        low = int(np.sqrt(share) * ladder[top] * STEPS_PER_PIXEL) - STEPS_PER_PIXEL + 2
        low = min(max(low, 0), top - 1)
        while True:
            counts, background = _disc(sums, half_widths[low], y, x)
            if low == top - 1 or background * unit > needed:
                break
            low = (low + top) // 2
        top = low


@compiled
def _first_reaching(sums, offsets, start, y, x, rung, counts, background, target, unit):
    """Smallest rung that reaches the target, from one on whose disc holds these sums; their number where none does."""
    last = len(start) - 2
    while not _significance(float(counts), background * unit) >= target:
        if rung == last:
            return last + 1
        rung += 1
        for p in range(start[rung], start[rung + 1]):
            row, column = y + offsets[p, 0], x + offsets[p, 1]
            counts += sums[row, column + 1, 0] - sums[row, column, 0]
            background += sums[row, column + 1, 1] - sums[row, column, 1]
    return rung


@compiled
def _search(sums, mask, half_widths, offsets, start, ladder, target, unit):
    ny, nx = mask.shape
    n_rungs, margin = len(ladder), half_widths.shape[1] - 1
    radius = np.zeros((ny, nx))
    for iy in range(ny):
        neighbour = 0
        for ix in range(nx):
            if not mask[iy, ix]:
                continue
            y, x = iy + margin, ix + margin
            # Down to a rung up to which nothing reaches the target, or to the smallest, ...
            rung = max(neighbour - _FIRST_STEP, 0) if neighbour < n_rungs else n_rungs - 1
            step = _FIRST_STEP
            counts, background = _disc(sums, half_widths[rung], y, x)
            while rung > 0:
                proven = _proven_below(sums, half_widths, ladder, y, x, rung, counts, background, target, unit)
                if proven == rung:
                    break
                rung = max(proven + 1 - step, 0)
                step *= 2
                counts, background = _disc(sums, half_widths[rung], y, x)
            # ... and up again, one rung at a time.
            found = _first_reaching(sums, offsets, start, y, x, rung, counts, background, target, unit)
            if found < n_rungs:
                radius[iy, ix] = ladder[found]
            neighbour = found
    return radius
