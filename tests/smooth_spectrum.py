"""A spectrum that depends smoothly on kT, and its fit by Fisher scoring: simulated fits that need no engine."""

from __future__ import annotations

import numpy as np
from synthetic import background_templates

N_CHANNELS = 200
ENERGY = np.linspace(0.7, 8.0, N_CHANNELS)
AREA = np.exp(-1.3 / ENERGY**2) / (1.0 + (ENERGY / 5.0) ** 4)
TEMPLATE = background_templates(N_CHANNELS)[0]
LOWEST_KT, HIGHEST_KT = 0.5, 60.0


def folded(kt):
    """Counts for norm 1, and their derivative in kT."""
    shape = AREA / ENERGY**1.3 * kt**-0.2 * np.exp(-ENERGY / kt)
    return shape, shape * (ENERGY / kt**2 - 0.2 / kt)


def true_model(counts, background_share, kt):
    """Expected source and background counts of a spectrum, and the norm."""
    shape = folded(kt)[0]
    norm = counts * (1.0 - background_share) / shape.sum()
    return norm * shape, counts * background_share * TEMPLATE, norm


def fit(data, background, kt, norm, n=1):
    """Best kT and norm by cstat of n observations with equal exposures, from a start near by.

    Returns
    -------
    kt, norm : float
    mu : ndarray, shape (n * N_CHANNELS,)
    gradients : ndarray, shape (2, n * N_CHANNELS)
    """
    for _ in range(60):
        shape, slope = folded(kt)
        mu = norm * np.tile(shape, n) + background
        gradients = np.stack([norm * np.tile(slope, n), np.tile(shape, n)])
        pull = gradients @ (data / mu - 1.0)
        step = np.linalg.solve((gradients / mu) @ gradients.T, pull)
        if abs(step @ pull) < 1e-10:
            break
        kt = min(max(kt + np.clip(step[0], -0.4 * kt, 0.6 * kt), LOWEST_KT), HIGHEST_KT)
        norm = max(norm + step[1], 0.3 * norm)
    return kt, norm, mu, gradients


def cstat(counts, mu):
    """XSPEC's and Sherpa's, summed over the last axis."""
    logs = np.where(counts > 0, counts * np.log(np.maximum(counts, 1) / mu), 0.0)
    return 2.0 * np.sum(mu - counts + logs, axis=-1)
