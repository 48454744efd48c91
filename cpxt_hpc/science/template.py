"""The background template: the spectrum shape of the blank sky, smoothed as little as its counts allow.

The Poisson likelihood takes the background's shape as known, so the template must not be zero anywhere and its
noise must stay below that of the region. Wide smoothing washes out the fluorescence lines and biases temperatures
(15 channels: -1.4 % at 50 % background, 31 channels: up to +14 %): each channel is averaged over the narrowest
window that holds enough counts, and over no more than a few channels.
"""

from __future__ import annotations

import numpy as np

NOISY_WINDOW_COUNTS = 100
"""Background counts in the widest window of the template below which a warning is due. At 50 % background and 6 keV the
median temperature of a map is 1 % too high with 100 counts, 4 % with 50, 8 % with 25; wstat has no such bias
(tests/benchmarks/template_noise.py)."""


def background_template(counts: np.ndarray, *, enough_counts: float, max_channels: int) -> np.ndarray:
    """Smooth a background spectrum just enough.

    Each channel becomes the mean over a window about it, 1, 3, 5, ... channels wide: the narrowest that is expected
    to hold `enough_counts`. What is expected comes from the mean over the widest window, not from the channel
    itself, since a window that looks at the very noise it smooths would favour high channels. Channels that are
    still empty get the mean of the narrowest window that is not.

    Parameters
    ----------
    counts : ndarray, shape (n_channels,)
        Spectrum; more channels than are used later, so that the ends are smoothed like the rest.
    enough_counts : float
        Counts in a window that need no wider one.
    max_channels : int
        Widest window; an even number counts as the odd one below.

    Returns
    -------
    ndarray of float64, shape (n_channels,)
        Strictly positive, sum 1. Flat where there are no counts at all.

    Raises
    ------
    ValueError
        Negative or infinite counts, or no channel.
    """
    counts = np.asarray(counts, dtype=float)
    if counts.ndim != 1 or counts.size == 0 or not (np.all(np.isfinite(counts)) and np.all(counts >= 0)):
        raise ValueError("a background spectrum must be one row of finite counts, none negative")
    if not counts.any():
        return np.full(counts.size, 1.0 / counts.size)
    widest = max(0, min((max_channels - 1) // 2, (counts.size - 1) // 2))
    expected = _window_mean(counts, widest)
    half = np.full(counts.size, widest)
    for narrower in range(widest - 1, -1, -1):
        half[expected * (2 * narrower + 1) >= enough_counts] = narrower
    smoothed = _window_mean(counts, half)
    _fill_empty(smoothed)
    return smoothed / smoothed.sum()


def window_counts(counts: np.ndarray, channels: slice, *, max_channels: int) -> float:
    """Counts that the widest window of the template holds: the median over some channels.

    Parameters
    ----------
    counts : ndarray, shape (n_channels,)
    channels : slice
        Those that the median is over.
    max_channels : int
        Widest window; an even number counts as the odd one below.
    """
    half = max(0, min((max_channels - 1) // 2, (len(counts) - 1) // 2))
    return float(np.median(_window_mean(np.asarray(counts, dtype=float), half)[channels])) * (2 * half + 1)


def _window_mean(counts: np.ndarray, half: int | np.ndarray) -> np.ndarray:
    """Mean over the channels within `half` of each, as many as there are at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(counts)])
    place = np.arange(counts.size)
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, counts.size)
    # Differences of sums may be off zero by rounding where a window is empty.
    held = np.concatenate([[0], np.cumsum(counts > 0)])
    return np.where(held[high] > held[low], sums[high] - sums[low], 0.0) / (high - low)


def _fill_empty(smoothed: np.ndarray) -> None:
    """Give empty channels the mean of the narrowest window about them that is not empty, in place."""
    empty = np.flatnonzero(smoothed <= 0.0)
    filled = smoothed.copy()
    half = 0
    while empty.size:
        half += 1
        means = _window_mean(smoothed, half)[empty]
        filled[empty[means > 0.0]] = means[means > 0.0]
        empty = empty[means <= 0.0]
    smoothed[:] = filled
