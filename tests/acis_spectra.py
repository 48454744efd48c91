"""PHA files of made-up clusters: XSPEC's apec through the ACIS-I responses of the set-up, with a local background."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import CpxtError
from cpxt_hpc.fitting.nodes import FoldedNodes, fold_nodes
from cpxt_hpc.io import datafiles
from cpxt_hpc.io.ogip import read_responses
from cpxt_hpc.io.ogip_write import write_arf, write_pha, write_rmf
from cpxt_hpc.science.response import EffectiveArea, Redistribution

NH, REDSHIFT, ABUNDANCE = 0.05, 0.2, 0.3
EXPOSURE_S = 4.0e4
BACKGROUND_COUNTS = 3000.0
"""Of a whole background file; its area is `AREA_RATIO` times that of the source."""
AREA_RATIO = 8.0


@dataclasses.dataclass(frozen=True)
class Acis:
    """The responses of the set-up and the model folded through them, all channels."""

    area: EffectiveArea
    redistribution: Redistribution
    nodes: FoldedNodes

    def rates(self, kt_kev: float, abundance: float = ABUNDANCE) -> np.ndarray:
        """Count rates for norm 1 in all channels."""
        spectra = self.nodes.rates[0][0]
        spectra = spectra[0] + abundance * (spectra[1] - spectra[0])
        k = int(np.searchsorted(self.nodes.kt_kev, kt_kev)) - 1
        low, high = self.nodes.kt_kev[k : k + 2]
        part = (kt_kev - low) / (high - low)
        return (1.0 - part) * spectra[k] + part * spectra[k + 1]


def why_not() -> str:
    """Why XSPEC's models or the responses cannot be had; empty where they can."""
    try:
        acis()
    except CpxtError as missing:
        return str(missing)
    return ""


@functools.cache
def acis() -> Acis:
    """Read and fold once for all tests of a run."""
    area, redistribution = read_responses(*datafiles.response_files())
    every = np.ones(len(redistribution.channel), dtype=bool)
    nodes = fold_nodes([(area, redistribution)], [every], redshift=REDSHIFT, nh_1e22=NH)
    return Acis(area, redistribution, nodes)


def background_shape(channel: np.ndarray) -> np.ndarray:
    """A made-up background of all channels, sum 1."""
    kev = 0.0146 * channel
    shape = 0.3 + 1.5 * np.exp(-kev / 0.8) + 3.0 * np.exp(-0.5 * ((kev - 7.47) / 0.08) ** 2)
    return shape / shape.sum()


def write_spectrum(
    folder: Path,
    name: str,
    *,
    seed: int,
    kt_kev: float = 6.0,
    counts: float = 3000.0,
    background: bool = True,
    **pha_options,
) -> Path:
    """Write NAME.pi with its background, ARF and RMF, as a header leads to them; the truth is Poisson.

    Parameters
    ----------
    folder, name : Path, str
    seed : int
    kt_kev : float
    counts : float
        Expected source counts in all channels.
    background : bool
        With a background in the spectrum, and a file of it.
    **pha_options
        Of `write_pha`, for the source.
    """
    made = acis()
    rng = np.random.default_rng(seed)
    channel = made.redistribution.channel
    source = made.rates(kt_kev)
    source *= counts / source.sum()
    files = {"RESPFILE": f"{name}.rmf", "ANCRFILE": f"{name}.arf"}
    if background:
        of_background = BACKGROUND_COUNTS * background_shape(channel)
        files["BACKFILE"] = f"{name}_bg.pi"
        write_pha(
            folder / f"{name}_bg.pi", channel, rng.poisson(of_background), exposure_s=EXPOSURE_S,
            backscal=AREA_RATIO * 1e-5, role="BKG",
        )  # fmt: skip
        source = source + of_background / AREA_RATIO
    options = {"exposure_s": EXPOSURE_S, "backscal": 1e-5, "files": files, **pha_options}
    write_pha(folder / f"{name}.pi", channel, rng.poisson(source), **options)
    write_arf(folder / f"{name}.arf", made.area)
    write_rmf(folder / f"{name}.rmf", made.redistribution)
    return folder / f"{name}.pi"
