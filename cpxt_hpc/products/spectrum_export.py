"""The spectra of a region of a map as OGIP files, with scripts that fit them in XSPEC and Sherpa."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from cpxt_hpc.fitting.extraction import RegionExtractor, bin_starts
from cpxt_hpc.fitting.folded_model import expected_source, observation_norms
from cpxt_hpc.fitting.model import ObservationInput
from cpxt_hpc.fitting.region_spectra import ObservationPart, RegionSpectra
from cpxt_hpc.fitting.regions import RegionFitter
from cpxt_hpc.fitting.sherpa_engine import XspecModel
from cpxt_hpc.io.atomic import write_text
from cpxt_hpc.io.ogip_write import BAD_CHANNEL, write_arf, write_pha, write_rmf
from cpxt_hpc.products.spectrum_plot import ShownSpectrum
from cpxt_hpc.products.spectrum_scripts import ExportedFit, sherpa_script, xspec_script
from cpxt_hpc.science.region_pixels import RegionPixels
from cpxt_hpc.science.response import EffectiveArea, Redistribution

SKY_SIDE_PIXELS = 8192
"""Side of ACIS' sky frame: BACKSCAL of Chandra spectra is the area over that of the frame."""

ENDINGS = (".pi", "_bg.pi", "_bgmodel.pi", ".arf", ".rmf")

START_KT_KEV = 6.0
"""Where the scripts begin when the fit found no temperature."""


@dataclasses.dataclass(frozen=True)
class RegionExport:
    """A region whose spectra are written.

    Attributes
    ----------
    title : str
        What it is, for people.
    stem : str
        Begins the names of its files.
    fitter : RegionFitter
    pixels : RegionPixels
    row : ndarray of RESULT_DTYPE, shape ()
        Its fit.
    model : XspecModel
    """

    title: str
    stem: str
    fitter: RegionFitter
    pixels: RegionPixels
    row: np.ndarray
    model: XspecModel


def write_region(export: RegionExport, folder: Path) -> list[Path]:
    """Write for each observation its spectrum, blank sky, expected background and responses; and both scripts.

    The effective area is the mean of the region's responses, weighted with its light, times the part of its norm that
    the observation sees: norms are those of the fully exposed region. The spectra are ungrouped channels with the
    groups of the fit in GROUPING.

    Parameters
    ----------
    export : RegionExport
    folder : Path

    Returns
    -------
    list of Path

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    fit_input = export.fitter.fit_input
    # Every background that any statistic may want, channel by channel.
    settings = dataclasses.replace(export.fitter.settings, statistic="wstat", group_channels=1)
    extractor = RegionExtractor(fit_input, settings)
    spectra = extractor.extract(*export.pixels)
    backscal = float(export.pixels.n_pixels) * fit_input.grid.binning**2 / SKY_SIDE_PIXELS**2
    written, names = [], []
    for part in spectra.parts:
        observation = fit_input.observations[part.position]
        names.append(f"{export.stem}_{observation.obsid}")
        paths = [folder / f"{names[-1]}{ending}" for ending in ENDINGS]
        _write_observation(export, observation, part, spectra, paths, backscal)
        written += paths
    if not names:
        return []
    described = _described(export, tuple(names))
    for ending, text in ((".xcm", xspec_script(described)), ("_sherpa.py", sherpa_script(described))):
        written.append(folder / f"{export.stem}{ending}")
        write_text(written[-1], text)
    return written


def _write_observation(
    export: RegionExport,
    observation: ObservationInput,
    part: ObservationPart,
    spectra: RegionSpectra,
    paths: Sequence[Path],
    backscal: float,
) -> None:
    source_path, blank_path, expected_path, arf_path, rmf_path = paths
    bins = slice(int(spectra.start[part.position]), int(spectra.start[part.position + 1]))
    n_all, n_fitted = len(observation.channel_low_kev), bins.stop - bins.start
    first = observation.first_channel - observation.first_rmf_channel
    fitted = slice(first, first + n_fitted)
    channel = np.arange(n_all) + observation.first_rmf_channel

    def over_all(values: np.ndarray) -> np.ndarray:
        whole = np.zeros(n_all)
        whole[fitted] = values
        return whole

    quality = np.full(n_all, BAD_CHANNEL)
    quality[fitted] = 0
    bin_channels = export.fitter.settings.bin_channels
    grouping = np.ones(n_all, dtype=int)
    if bin_channels > 1:
        grouping[fitted] = -1
        grouping[first + bin_starts(n_fitted, bin_channels)] = 1
    keywords = {"OBJECT": export.fitter.fit_input.name, "OBS_ID": str(observation.obsid)}
    common = {"exposure_s": observation.exposure_s, "quality": quality, "keywords": keywords}
    scale = float(spectra.blank_scale[bins][0])
    responses = {"RESPFILE": rmf_path.name, "ANCRFILE": arf_path.name}
    write_pha(
        source_path, channel, over_all(spectra.counts[bins]), backscal=backscal,
        grouping=grouping if bin_channels > 1 else None,
        files={**responses, "BACKFILE": blank_path.name},
        comments=(
            export.title,
            "Channels outside the fitted band hold nothing and have QUALITY 5: their events are not in the fit input.",
        ),
        **common,
    )  # fmt: skip
    write_pha(
        blank_path, channel, over_all(spectra.blank_counts[bins]), backscal=backscal / scale, role="BKG",
        comments=(
            "Blank-sky counts of the region. EXPOSURE is that of the observation, BACKSCAL the region's area over the "
            "factor from these counts to the expected background.",
        ),
        **common,
    )  # fmt: skip
    write_pha(
        expected_path, channel, over_all(spectra.background[bins]), backscal=backscal, role="BKG", poisson=False,
        comments=(
            "Expected background counts of the region (template of the whole field times the level in the region): "
            "the known background of statistic cstat. No observed counts, hence no errors.",
        ),
        **common,
    )  # fmt: skip
    edges = np.asarray(observation.arf_energy_edges_kev, dtype=float)
    area = part.source_factor * (part.response_weight @ np.asarray(observation.arf_area_cm2, dtype=float))
    write_arf(
        arf_path, EffectiveArea(edges, area), keywords=keywords,
        comments=(
            f"Mean of {len(observation.arf_area_cm2)} responses by the light of the region, times the part of its "
            f"norm that this observation sees, {part.source_factor:.6g}.",
        ),
    )  # fmt: skip
    matrix = csr_array(
        (observation.rmf_value, observation.rmf_column, observation.rmf_start), shape=(len(edges) - 1, n_all)
    )
    low, high = observation.channel_low_kev, observation.channel_high_kev
    write_rmf(rmf_path, Redistribution(edges, matrix, channel, low, high), keywords=keywords)


def _described(export: RegionExport, names: tuple[str, ...]) -> ExportedFit:
    """The fit, with values to start from where it has none."""
    row, model, fitter = export.row, export.model, export.fitter
    found = {"kT": START_KT_KEV, "abundance": model.abundance, "nH": model.nh_1e22}
    values = {name: float(row[name]) if np.isfinite(row[name]) else value for name, value in found.items()}
    kt_nodes = fitter.model.kt_nodes_kev
    return ExportedFit(
        title=export.title,
        names=names,
        model=model,
        settings=fitter.settings,
        values=values,
        norms=observation_norms(fitter.extractor.extract(*export.pixels), fitter.model, fitter.settings, row),
        statistic=float(row["stat"]),
        kt_range_kev=(float(kt_nodes[0]), float(kt_nodes[-1])),
    )


def region_facts(export: RegionExport) -> list[dict[str, object]]:
    """Counts and weights of each observation of a region, for the JSON report."""
    spectra = export.fitter.extractor.extract(*export.pixels)
    facts = []
    for part in spectra.parts:
        observation = export.fitter.fit_input.observations[part.position]
        bins = slice(int(spectra.start[part.position]), int(spectra.start[part.position + 1]))
        facts.append(
            {
                "obsid": observation.obsid,
                "exposure_s": observation.exposure_s,
                "exposed_fraction": part.exposed_fraction,
                "source_factor": part.source_factor,
                "response_weight": part.response_weight.tolist(),
                "bins": bins.stop - bins.start,
                "counts": float(spectra.counts[bins].sum()),
                "background_counts": float(spectra.background[bins].sum()),
            }
        )
    return facts


def shown_region(export: RegionExport) -> list[ShownSpectrum]:
    """Each spectrum of a region with the model of its fit, for the picture."""
    fitter = export.fitter
    spectra = fitter.extractor.extract(*export.pixels)
    source = expected_source(spectra, fitter.model, fitter.settings, export.row)
    shown = []
    for part in spectra.parts:
        observation = fitter.fit_input.observations[part.position]
        bins = slice(int(spectra.start[part.position]), int(spectra.start[part.position + 1]))
        n_fitted = observation.nodes.shape[-1]
        first = observation.first_channel - observation.first_rmf_channel
        starts = bin_starts(n_fitted, fitter.settings.bin_channels)
        ends = np.append(starts[1:], n_fitted) - 1
        shown.append(
            ShownSpectrum(
                name=f"ObsID {observation.obsid}",
                exposure_s=observation.exposure_s,
                low_kev=np.asarray(observation.channel_low_kev[first + starts], dtype=float),
                high_kev=np.asarray(observation.channel_high_kev[first + ends], dtype=float),
                counts=spectra.counts[bins],
                source=source[bins],
                background=spectra.background[bins],
            )
        )
    return shown
