"""A fit as a picture: the spectra with their model, and what is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from cpxt_hpc.io.atomic import replacing

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's palette, made for colour-blind readers; one for each spectrum in turn."""

COUNTS_PER_POINT = 20.0
FEWEST_COUNTS_PER_POINT = 3.0
"""Channels are joined until this many counts are expected: for the eye only, the fit has its own bins. Spectra with few
counts get about `FEWEST_POINTS` points, but none with fewer counts than the latter."""
FEWEST_POINTS = 12
COUNTS_PER_STEP = 2.0
"""The same for the lines of model and background, whose own noise would hide everything else."""

NARROWEST_POINT = 0.02
"""Least relative width of a point."""

SIZE_INCHES = (7.0, 5.2)
DOTS_PER_INCH = 130
ENERGY_TICKS_KEV = (0.3, 0.5, 0.7, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0)


@dataclasses.dataclass(frozen=True)
class ShownSpectrum:
    """One spectrum with its model.

    Attributes
    ----------
    name : str
    exposure_s : float
    low_kev, high_kev : ndarray of float64, shape (n,)
        Nominal energies of the fit's bins, ascending.
    counts, source, background : ndarray of float64, shape (n,)
        Observed counts; expected counts of the source and of the background.
    """

    name: str
    exposure_s: float
    low_kev: np.ndarray
    high_kev: np.ndarray
    counts: np.ndarray
    source: np.ndarray
    background: np.ndarray


def write_spectrum_plot(path: Path, spectra: Sequence[ShownSpectrum], title: str, subtitle: str) -> None:
    """Write the picture as PNG.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    figure = Figure(figsize=SIZE_INCHES, dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.subplots_adjust(left=0.11, right=0.98, top=0.9, bottom=0.1, hspace=0.04)
    for position, spectrum in enumerate(spectra):
        _draw(upper, lower, spectrum, COLOURS[position % len(COLOURS)])
    upper.set_title(title, fontsize="medium", loc="left", pad=16)
    upper.text(0.0, 1.015, subtitle, transform=upper.transAxes, fontsize="x-small", color="0.3")
    upper.set_xscale("log")
    upper.set_yscale("log")
    upper.set_ylim(bottom=_floor(spectra))
    upper.set_ylabel(r"counts s$^{-1}$ keV$^{-1}$")
    upper.plot([], [], color="0.4", label="model with background")
    upper.plot([], [], color="0.4", linestyle=":", label="background")
    upper.legend(fontsize="x-small", frameon=False)
    lower.axhline(0.0, color="0.4", linewidth=0.8)
    lower.set_ylabel(r"(data $-$ model) / $\sqrt{\mathrm{model}}$", fontsize="x-small")
    lower.set_xlabel("energy [keV]")
    limits = min(each.low_kev[0] for each in spectra), max(each.high_kev[-1] for each in spectra)
    lower.set_xlim(*limits)
    lower.set_xticks([tick for tick in ENERGY_TICKS_KEV if limits[0] <= tick <= limits[1]])
    lower.xaxis.set_major_formatter(ScalarFormatter())
    lower.xaxis.set_minor_formatter(NullFormatter())
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": "cpxt_hpc"})


def _draw(upper: Axes, lower: Axes, spectrum: ShownSpectrum, colour: str) -> None:
    model = spectrum.source + spectrum.background
    enough = float(np.clip(model.sum() / FEWEST_POINTS, FEWEST_COUNTS_PER_POINT, COUNTS_PER_POINT))
    starts = point_starts(model, spectrum.low_kev, spectrum.high_kev, enough)
    low = spectrum.low_kev[starts]
    high = spectrum.high_kev[np.append(starts[1:], len(model)) - 1]
    counts, expected = (np.add.reduceat(values, starts) for values in (spectrum.counts, model))
    per_unit = 1.0 / (spectrum.exposure_s * (high - low))
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    upper.errorbar(
        middle, counts * per_unit, xerr=half, yerr=np.sqrt(np.maximum(counts, 1.0)) * per_unit, fmt="none",
        ecolor=colour, elinewidth=0.8, label=spectrum.name,
    )  # fmt: skip
    steps = point_starts(model, spectrum.low_kev, spectrum.high_kev, COUNTS_PER_STEP)
    edges = np.append(spectrum.low_kev[steps], spectrum.high_kev[-1])
    width = spectrum.exposure_s * np.diff(edges)
    upper.stairs(np.add.reduceat(model, steps) / width, edges, color=colour, linewidth=1.0, baseline=None)
    if spectrum.background.any():
        background = np.add.reduceat(spectrum.background, steps)
        upper.stairs(background / width, edges, color=colour, linewidth=0.8, linestyle=":", baseline=None)
    error = np.sqrt(np.maximum(expected, 1.0))
    lower.errorbar(
        middle, (counts - expected) / error, xerr=half, yerr=np.sqrt(np.maximum(counts, 1.0)) / error, fmt="none",
        ecolor=colour, elinewidth=0.8,
    )  # fmt: skip


def point_starts(expected: np.ndarray, low_kev: np.ndarray, high_kev: np.ndarray, enough: float) -> np.ndarray:
    """First bin of each point of the picture: bins joined until `enough` counts are expected in a point wide enough.

    What is left over at the end joins the last point.
    """
    starts, held, first = [0], 0.0, low_kev[0]
    for place in range(len(expected) - 1):
        held += expected[place]
        if held >= enough and high_kev[place] - first >= NARROWEST_POINT * first:
            starts.append(place + 1)
            held, first = 0.0, low_kev[place + 1]
    if len(starts) > 1 and held + expected[-1] < enough:
        starts.pop()
    return np.array(starts)


def _floor(spectra: Sequence[ShownSpectrum]) -> float:
    """Lowest rate shown: half of the faintest model that is not nothing, at most four decades below the brightest."""
    rates = np.concatenate(
        [(each.source + each.background) / (each.exposure_s * (each.high_kev - each.low_kev)) for each in spectra]
    )
    filled = rates[rates > 0]
    return float(max(0.5 * filled.min(), 1e-4 * filled.max())) if filled.size else 1e-6
