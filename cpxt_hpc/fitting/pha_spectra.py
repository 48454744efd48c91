"""Spectra out of PHA files: what the files of an observation hold, and what an engine fits of it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import ConfigError, DataError, MissingInput
from cpxt_hpc.fitting.binned_response import BinnedResponse, binned_matrix
from cpxt_hpc.fitting.extraction import bin_starts, fitted_nodes
from cpxt_hpc.fitting.region_spectra import ObservationPart, RegionSpectra
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.io.ogip import PhaSpectrum, read_pha, read_responses
from cpxt_hpc.science.response import EffectiveArea, Redistribution, channels_in_band
from cpxt_hpc.science.template import NOISY_WINDOW_COUNTS, background_template, window_counts

logger = logging.getLogger(__name__)

NO_FILE = "none"


@dataclasses.dataclass(frozen=True)
class PhaObservation:
    """One spectrum with all that its fit needs.

    Attributes
    ----------
    path, arf_path, rmf_path : Path
    background_path : Path or None
    source : PhaSpectrum
    background : PhaSpectrum or None
    area : EffectiveArea
    redistribution : Redistribution
    channel : ndarray of int64, shape (n_channels,)
        Places of the fitted channels among all: in the band, good in source and background.
    """

    path: Path
    arf_path: Path
    rmf_path: Path
    background_path: Path | None
    source: PhaSpectrum
    background: PhaSpectrum | None
    area: EffectiveArea
    redistribution: Redistribution
    channel: np.ndarray

    @property
    def areascal(self) -> np.ndarray:
        """AREASCAL of each fitted channel: by it the effective area is multiplied."""
        return _of_channels(self.source.areascal, self.channel)

    @property
    def background_scale(self) -> np.ndarray:
        """Factor from the background file's counts to the background of the source, in each fitted channel.

        The ratio of EXPOSURE x AREASCAL x BACKSCAL of both (OGIP/92-007).
        """
        ours, theirs = (
            spectrum.exposure_s
            * _of_channels(spectrum.areascal, self.channel)
            * _of_channels(spectrum.backscal, self.channel)
            for spectrum in (self.source, self.background)
        )
        return ours / theirs


def open_observation(
    path: Path,
    *,
    background: str = "",
    arf: str = "",
    rmf: str = "",
    energy_min_kev: float,
    energy_max_kev: float,
) -> PhaObservation:
    """Read a spectrum and the files that belong to it.

    Parameters
    ----------
    path : Path
        PHA file (type I) of an observation.
    background, arf, rmf : str
        Files in place of those that BACKFILE, ANCRFILE and RESPFILE of the header name (they lie beside the
        spectrum); ``none``: without background.
    energy_min_kev, energy_max_kev : float
        The fitted band [keV].

    Raises
    ------
    MissingInput
        A file does not exist, or no response is named.
    DataError
        A file cannot be used, or they do not belong together.
    ConfigError
        The band does not lie in the response's.
    """
    path = Path(path)
    source = read_pha(path)
    if not source.holds_whole_numbers:
        raise DataError(
            f"{path}: its counts are no whole numbers: a background was subtracted, or they are scaled. The "
            "statistics need the counts as observed: give the spectrum before the subtraction."
        )
    arf_path = _belonging(path, arf, source.area_file, "ANCRFILE", "--arf")
    rmf_path = _belonging(path, rmf, source.response_file, "RESPFILE", "--rmf")
    area, redistribution = read_responses(arf_path, rmf_path)
    _check_channels(path, source, rmf_path, redistribution)
    background_path = spectrum = None
    if background != NO_FILE and (background or source.background_file):
        background_path = _belonging(path, background, source.background_file, "BACKFILE", "--background")
        spectrum = read_pha(background_path)
        _check_channels(background_path, spectrum, rmf_path, redistribution)
    for name, each in ((path, source), (background_path, spectrum)):
        if each is not None and not (np.all(np.asarray(each.areascal) > 0) and np.all(np.asarray(each.backscal) > 0)):
            raise DataError(f"{name}: AREASCAL and BACKSCAL must be above 0 in every channel.")
    inside = _in_band(redistribution, energy_min_kev, energy_max_kev, rmf_path)
    good = (source.quality == 0) & (spectrum.quality == 0 if spectrum else True)
    if not (inside & good).any():
        raise DataError(
            f"{path}: QUALITY marks all {inside.sum()} channels between {energy_min_kev:g} and {energy_max_kev:g} keV "
            "as bad. Choose another band, or look at the file."
        )
    if not np.all(good[inside]):
        logger.info("%s: %d bad channels in the band are left out", path, np.count_nonzero(inside & ~good))
    return PhaObservation(
        path, arf_path, rmf_path, background_path, source, spectrum, area, redistribution, np.flatnonzero(inside & good)
    )


def default_statistic(observations: Sequence[PhaObservation]) -> str:
    """The statistic that suits the spectra: wstat with backgrounds, cstat without any or with expected ones.

    A background file without whole numbers holds expected counts, as `cpxt-spectrum` exports them.
    """
    observed = [each.background is not None and each.background.holds_whole_numbers for each in observations]
    return "wstat" if any(observed) else "cstat"


def spectra_of_files(
    observations: Sequence[PhaObservation],
    nodes: Sequence[np.ndarray],
    settings: FitSettings,
    *,
    abundance: float,
    template_counts: float,
    template_max_channels: int,
) -> RegionSpectra:
    """What an engine fits.

    Parameters
    ----------
    observations : sequence of PhaObservation
    nodes : sequence of ndarray, each of shape (n_nh, 2, n_nodes, n_channels)
        Model folded to the fitted channels of each observation [count/s].
    settings : FitSettings
    abundance : float
        The frozen one.
    template_counts, template_max_channels
        How the background's template is smoothed for cstat, see `cpxt_hpc.science.template.background_template`.

    Returns
    -------
    RegionSpectra

    Raises
    ------
    ConfigError
        The statistic does not suit the backgrounds.
    """
    parts, columns, rates = [], [], []
    level = variance = 0.0
    for position, each in enumerate(observations):
        expected, blank_counts, blank_scale, own_variance = _background(
            each, settings, template_counts, template_max_channels
        )
        level, variance = level + float(expected.sum()), variance + own_variance
        starts = bin_starts(len(each.channel), settings.bin_channels)
        sums = np.add.reduceat(np.stack([each.source.counts[each.channel], expected, blank_counts]), starts, axis=1)
        lengths = np.diff(np.append(starts, len(each.channel)))
        scale = np.add.reduceat(blank_scale, starts) / lengths
        columns.append(np.stack([*sums, scale, np.full(len(starts), each.source.exposure_s)]))
        rates.append(fitted_nodes(nodes[position][None] * each.areascal, abundance, settings)[0])
        parts.append(ObservationPart(position, 1.0, 1.0, np.ones(1)))
    counts, background, blank_counts, blank_scale, exposure = np.concatenate(columns, axis=1)
    start = np.cumsum([0, *(each.shape[1] for each in columns)])
    if settings.statistic == "cstat":
        blank_counts = blank_scale = np.zeros(0)
    error = float(np.sqrt(variance) / level) if level > 0.0 else 0.0
    rates = np.ascontiguousarray(np.concatenate(rates, axis=-1))
    return RegionSpectra(parts, counts, background, blank_counts, blank_scale, exposure, rates, start, error)


def response_of_files(observation: PhaObservation, settings: FitSettings) -> BinnedResponse:
    """The response of an observation to the bins of the fit."""
    return BinnedResponse(
        observation.area.energy_edges_kev,
        observation.area.area_cm2[None],
        binned_matrix(
            observation.redistribution.matrix, observation.channel, settings.bin_channels, observation.areascal
        ),
    )


def _background(
    observation: PhaObservation, settings: FitSettings, template_counts: float, template_max_channels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Expected background, counts of the background file and their factor, by channel; variance of the expected sum."""
    n_channels = len(observation.channel)
    background = observation.background
    if background is None:
        if settings.statistic == "wstat":
            raise ConfigError(
                f"--statistic wstat: {observation.path} has no background spectrum (its BACKFILE names none). Give it "
                "by --background, or choose --statistic cstat."
            )
        return np.zeros(n_channels), np.zeros(n_channels), np.zeros(n_channels), 0.0
    scale = observation.background_scale
    counts = background.counts[observation.channel]
    if not background.holds_whole_numbers:
        if settings.statistic != "cstat":
            raise ConfigError(
                f"--statistic {settings.statistic}: {observation.background_path} holds expected counts, not observed "
                "ones (they are no whole numbers). Only --statistic cstat takes a background as known."
            )
        return scale * counts, counts, scale, 0.0
    good = background.quality == 0
    if settings.statistic == "cstat":
        fitted = slice(int(observation.channel[0]), int(observation.channel[-1]) + 1)
        held = window_counts(background.counts, fitted, max_channels=template_max_channels)
        if held < NOISY_WINDOW_COUNTS:
            logger.warning(
                "%s: about %.1f counts in %d channels, so its template is noisy and the temperature comes out wrong. "
                "Prefer --statistic wstat.", observation.background_path, held, template_max_channels,
            )  # fmt: skip
    template = np.zeros(len(good))
    template[good] = background_template(
        background.counts[good], enough_counts=template_counts, max_channels=template_max_channels
    )
    shape = template[observation.channel]
    expected = scale * shape * (counts.sum() / shape.sum())
    variance = float(expected.sum() ** 2 / counts.sum()) if settings.statistic == "cstat" and counts.any() else 0.0
    return expected, counts, scale, variance


def _belonging(path: Path, given: str, named: str, keyword: str, option: str) -> Path:
    """A file that belongs to a spectrum: the one given, else the one that the header names, beside the spectrum."""
    if given:
        return Path(given)
    if not named:
        raise MissingInput(f"{path}: {keyword} names no file. Give it by {option}.")
    # Some programs add a filter in brackets, and some files were moved or packed since.
    name = Path(named.partition("[")[0])
    for candidate in (path.parent / name, path.parent / name.name, path.parent / f"{name.name}.gz"):
        if candidate.is_file():
            return candidate
    raise MissingInput(f"{path}: {keyword} names {named}, which does not lie beside it. Give it by {option}.")


def _check_channels(path: Path, spectrum: PhaSpectrum, rmf_path: Path, redistribution: Redistribution) -> None:
    ours, theirs = spectrum.channel, redistribution.channel
    if not np.array_equal(ours, theirs):
        raise DataError(
            f"{path} has {len(ours)} channels from {ours[0]} to {ours[-1]}, {rmf_path} has {len(theirs)} from "
            f"{theirs[0]} to {theirs[-1]}: they do not belong together. Give the spectrum's own RMF by --rmf."
        )


def _in_band(redistribution: Redistribution, low_kev: float, high_kev: float, path: Path) -> np.ndarray:
    edges = redistribution.energy_edges_kev
    lowest = max(edges[0], redistribution.channel_low_kev.min())
    highest = min(edges[-1], redistribution.channel_high_kev.max())
    if low_kev < lowest or high_kev > highest:
        raise ConfigError(
            f"the band {low_kev:g} to {high_kev:g} keV is wider than the response {path}, which knows energies from "
            f"{lowest:g} to {highest:g} keV. Choose --energy-min and --energy-max inside."
        )
    try:
        return channels_in_band(redistribution, low_kev, high_kev)
    except ValueError as error:
        raise ConfigError(f"--energy-min, --energy-max: {error}") from error


def _of_channels(values: float | np.ndarray, channel: np.ndarray) -> np.ndarray:
    """BACKSCAL or AREASCAL in these channels."""
    values = np.asarray(values, dtype=float)
    return values[channel] if values.ndim else np.full(len(channel), values)
