"""``cpxt-maps``: maps, pictures and tables from the checkpoint, complete or not."""

from __future__ import annotations

import argparse
import difflib
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cpxt_hpc.cli.command import add_logging_options, run_command, setup_logging
from cpxt_hpc.errors import ConfigError
from cpxt_hpc.fitting.flags import count_flags, disagreement_line, flags_line, median_disagreement
from cpxt_hpc.fitting.results import Status
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.io.tables import select_fits, write_fits_csv
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.products.fitted import FittedRegions, load_fitted_regions
from cpxt_hpc.products.maps import make_maps, write_maps
from cpxt_hpc.products.plots import write_pictures
from cpxt_hpc.products.quantities import QUANTITIES, half_interval, kt_fractional_error
from cpxt_hpc.science.maps import BLOCK_SIDE

TABLES = ("spectral_fits", "worst_spectral_fits", "all_spectral_fits")

STATUS_TEXT = {
    Status.OK: "fitted well",
    Status.KT_AT_LOWER_BOUND: "kT at the lower end of its range",
    Status.KT_AT_UPPER_BOUND: "kT at the upper end of its range",
    Status.KT_LO_UNBOUND: "lower limit of kT not constrained",
    Status.KT_HI_UNBOUND: "upper limit of kT not constrained",
    Status.KT_UNCONSTRAINED: "kT not constrained",
    Status.NO_EXPOSURE: "too little exposure, no value",
    Status.NOT_A_NUMBER: "NaN, no value",
    Status.CRASHED: "crashed, no value",
    Status.TIMED_OUT: "timed out, no value",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``cpxt-maps``; returns its exit code."""
    return run_command(_make, argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cpxt-maps",
        description="Write maps (FITS), pictures (PNG) and tables (CSV) from the fits that are there, also while "
        "a job still fits.",
        epilog="maps: " + ", ".join(QUANTITIES),
        allow_abbrev=False,
    )
    parser.add_argument("ini", nargs="?", default="cluster.ini", metavar="cluster.ini", help="default: ./cluster.ini")
    parser.add_argument(
        "--resolution", type=int, choices=sorted(BLOCK_SIDE), metavar="R",
        help="leave out fits of finer resolutions: 1, 2, 3 show pixels whose both indices are multiples of 5, 3, 1. "
        "Default: all; each pixel shows the finest fit there is",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", action="extend", metavar="MAP", help="these maps only, and no tables")
    parser.add_argument("--no-pictures", action="store_true", help="FITS files and tables only")
    add_logging_options(parser)
    return parser


def _make(argv: Sequence[str]) -> None:
    options = _parser().parse_args(argv)
    setup_logging(quiet=options.quiet, verbose=options.verbose, log_file=options.log_file)
    names = _wanted(options.only)
    config = read_config(Path(options.ini).absolute())
    layout = ClusterLayout(config.path.parent, config.name, config.fit.label)
    fits = load_fitted_regions(config, layout, resolution=options.resolution)
    print(summary(fits))
    maps = make_maps(fits, names)
    written = write_maps(maps.values(), fits, layout)
    if not options.no_pictures:
        written += write_pictures(maps, fits, layout)
    if options.only is None:
        for kind in TABLES:
            write_fits_csv(layout.table(kind), select_fits(fits.results, kind), fits.obsids)
            written.append(layout.table(kind))
    print(_listing(written, config.name))


def _wanted(only: Sequence[str] | None) -> list[str]:
    """Names of the maps asked for; commas and a trailing ``.fits`` are taken too."""
    if only is None:
        return list(QUANTITIES)
    words = [word.removesuffix(".fits") for part in only for word in part.split(",") if word]
    faults = []
    for word in words:
        if word not in QUANTITIES:
            near = difflib.get_close_matches(word, QUANTITIES, n=1)
            faults.append(f"{word!r}" + (f" (did you mean {near[0]}?)" if near else ""))
    if faults or not words:
        raise ConfigError(f"--only {', '.join(faults)}: no such map. Choose of: {', '.join(QUANTITIES)}")
    return list(dict.fromkeys(words))


def summary(fits: FittedRegions) -> str:
    """What the fits are, in a few lines: how many by status and flag, and medians over the regions with values."""
    side = BLOCK_SIDE[fits.resolution]
    lines = [
        f"{fits.name}: {fits.n_of_resolution} of {fits.n_regions} regions of resolution {fits.resolution} "
        f"(blocks of {side} x {side} pixels) are fitted"
        + (f", {len(fits.results)} of all resolutions" if len(fits.results) != fits.n_of_resolution else "")
    ]
    codes, counts = np.unique(fits.results["status"], return_counts=True)
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        lines.append(f"  {count:8d}  status {code:2d}  {STATUS_TEXT.get(code, 'unknown to this version')}")
    told = flags_line(count_flags(fits.results)), disagreement_line(median_disagreement(fits.results))
    lines += [f"  {line}" for line in told if line]
    kt = fits.column("kT")
    if np.isfinite(kt).any():
        low, middle, high = np.nanpercentile(kt, [16, 50, 84])
        error, fraction = np.nanmedian(half_interval(fits, "kT")), np.nanmedian(kt_fractional_error(fits))
        lines.append(
            f"  median kT {middle:.3g} keV (middle 68 % of the regions: {low:.3g} to {high:.3g}), "
            f"median error {error:.2g} keV ({100 * fraction:.2g} %), "
            f"median of {np.nanmedian(fits.column('net_counts')):.0f} net counts in radius "
            f"{np.median(fits.results['radius']) * fits.grid.pixel_arcsec:.3g} arcsec"
        )
    return "\n".join(lines)


def _listing(paths: Sequence[Path], cluster: str) -> str:
    """Files by folder and kind, without the cluster's name in front of each."""
    lines = []
    groups: dict[tuple[Path, str], list[str]] = {}
    for path in paths:
        groups.setdefault((path.parent, path.suffix), []).append(path.stem.removeprefix(f"{cluster}_"))
    for (folder, suffix), names in groups.items():
        lines.append(f"{folder / cluster}_*{suffix} ({len(names)} files):")
        lines += textwrap.wrap(" ".join(names), 110, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)
