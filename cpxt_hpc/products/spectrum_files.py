"""What is told and shown of the spectra of PHA files."""

from __future__ import annotations

import itertools

import numpy as np

from cpxt_hpc.fitting.extraction import bin_starts
from cpxt_hpc.fitting.folded_model import expected_source
from cpxt_hpc.fitting.pha_fit import PhaSpectra
from cpxt_hpc.products.spectrum_plot import ShownSpectrum


def spectrum_facts(prepared: PhaSpectra) -> list[dict[str, object]]:
    """Files and counts of each spectrum, for the JSON report."""
    facts = []
    for each, bins in zip(prepared.observations, _bins(prepared), strict=True):
        with_background = each.background is not None
        facts.append(
            {
                "pha": str(each.path),
                "background": str(each.background_path) if with_background else None,
                "arf": str(each.arf_path),
                "rmf": str(each.rmf_path),
                "exposure_s": each.source.exposure_s,
                "first_channel": int(each.redistribution.channel[each.channel[0]]),
                "last_channel": int(each.redistribution.channel[each.channel[-1]]),
                "channels": len(each.channel),
                "bins": bins.stop - bins.start,
                "counts": float(prepared.spectra.counts[bins].sum()),
                "background_counts": float(prepared.spectra.background[bins].sum()),
                "background_scale": float(np.mean(each.background_scale)) if with_background else None,
            }
        )
    return facts


def shown_spectra(prepared: PhaSpectra, row: np.ndarray) -> list[ShownSpectrum]:
    """Each spectrum with the model of a fit, for the picture."""
    source = expected_source(prepared.spectra, prepared.model, prepared.settings, row)
    shown = []
    for each, bins in zip(prepared.observations, _bins(prepared), strict=True):
        starts = bin_starts(len(each.channel), prepared.settings.bin_channels)
        ends = np.append(starts[1:], len(each.channel)) - 1
        shown.append(
            ShownSpectrum(
                name=each.path.name,
                exposure_s=each.source.exposure_s,
                low_kev=each.redistribution.channel_low_kev[each.channel[starts]],
                high_kev=each.redistribution.channel_high_kev[each.channel[ends]],
                counts=prepared.spectra.counts[bins],
                source=source[bins],
                background=prepared.spectra.background[bins],
            )
        )
    return shown


def _bins(prepared: PhaSpectra) -> list[slice]:
    """Where the bins of each spectrum lie among all."""
    return [slice(int(first), int(last)) for first, last in itertools.pairwise(prepared.spectra.start)]
