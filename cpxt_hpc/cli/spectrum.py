"""``cpxt-spectrum``: fit PHA files as maps are fitted, or write the spectra of a region for XSPEC and Sherpa."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cpxt_hpc.cli.command import add_logging_options, run_command, setup_logging
from cpxt_hpc.errors import ConfigError

if TYPE_CHECKING:
    from cpxt_hpc.config import ClusterConfig
    from cpxt_hpc.fitting.model import FitInput
    from cpxt_hpc.fitting.pha_spectra import PhaObservation
    from cpxt_hpc.fitting.settings import FitSettings
    from cpxt_hpc.fitting.sherpa_engine import XspecModel
    from cpxt_hpc.layout import ClusterLayout
    from cpxt_hpc.parallel.one_region import OneRegion
    from cpxt_hpc.products.spectrum_plot import ShownSpectrum

EXIT_SOME_FAILED = 5
ENGINES = ("exact", "sherpa")

SETTINGS = {
    "nH": ("cluster", "hydrogen_column_density"),
    "redshift": ("cluster", "redshift"),
    "abundance": ("cluster", "abundance"),
    "statistic": ("fit", "statistic"),
    "free": ("fit", "free"),
    "norms": ("fit", "norms"),
    "group_channels": ("fit", "group_channels"),
    "delta_statistic": ("fit", "delta_statistic"),
    "energy_min": ("fit", "energy_min_kev"),
    "energy_max": ("fit", "energy_max_kev"),
    "absorption": ("fit", "absorption"),
    "abundance_table": ("fit", "abundance_table"),
    "cross_sections": ("fit", "cross_sections"),
    "plasma": ("fit", "plasma"),
    "apec_root": ("fit", "apec_root"),
    "systematic": ("background", "systematic"),
}
"""Options, and the settings of ``cluster.ini`` that they are: one meaning, one default, one check."""

OF_FITS = ("statistic", "free", "norms", "group_channels", "delta_statistic", "systematic")
"""Options that say how spectra are fitted: the fields of `FitSettings`."""

log = logging.getLogger("cpxt_hpc.spectrum")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``cpxt-spectrum``; returns its exit code."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    return run_command(_spectrum, argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cpxt-spectrum",
        usage="cpxt-spectrum cluster.ini (--region N | --at RA,DEC | --regions FILE [--shape K]) [options]\n"
        "       cpxt-spectrum --pha FILE [FILE ...] --nH NH --redshift Z --abundance Z [options]",
        description="Write the spectra of a region of a map as OGIP files with scripts for XSPEC and Sherpa, or fit "
        "PHA files exactly as the regions of maps are fitted (several files: jointly). The fit is printed and "
        "written as JSON with a picture of data, model and residuals.",
        allow_abbrev=False,
    )
    parser.add_argument("ini", nargs="?", metavar="cluster.ini", help="default: ./cluster.ini")
    what = parser.add_argument_group("what").add_mutually_exclusive_group(required=True)
    what.add_argument("--pha", nargs="+", metavar="FILE", help="spectra (PHA type I) of one source")
    what.add_argument("--region", type=int, metavar="N", help="a region of the map by its number")
    what.add_argument("--at", metavar="RA,DEC", help="the region nearest to a place: degrees, or 12:34:56.7,-1:23:45")
    what.add_argument("--regions", type=Path, metavar="FILE", help="a shape of this DS9 or CIAO region file")
    parser.add_argument("--shape", type=int, default=1, metavar="K", help="which shape of --regions; default: 1")
    files = parser.add_argument_group("files of --pha", "one for each, in place of those that its header names")
    for name in ("background", "arf", "rmf"):
        extra = "; none: no background" if name == "background" else ""
        files.add_argument(f"--{name}", nargs="+", metavar="FILE", help=f"{name.upper()} files{extra}")
    model = parser.add_argument_group("model and fit", "defaults of --pha: those of cluster.ini's template")
    for option, (section, key) in SETTINGS.items():
        doc = _setting(section, key).metadata["doc"].replace("%", "%%")
        names = [f"--{option.replace('_', '-')}", *(["-z"] if option == "redshift" else [])]
        model.add_argument(*names, dest=option, metavar="X", help=doc)
    model.add_argument(
        "--engine", metavar="E", help="exact (default), sherpa, or both, comma separated: the first one's values stand"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="one JSON object on standard output; keys as in /results")
    output.add_argument(
        "--output", type=Path, metavar="DIR",
        help="folder for the files; default: the current one, of a region main_output/spectra/region_N",
    )  # fmt: skip
    output.add_argument("--no-files", action="store_true", help="print only")
    add_logging_options(parser)
    return parser


def _setting(section: str, key: str) -> dataclasses.Field:
    from cpxt_hpc.io.ini_values import settings_of

    return settings_of(section)[key]


def _spectrum(argv: Sequence[str]) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    setup_logging(quiet=options.quiet, verbose=options.verbose, log_file=options.log_file)
    if options.pha is not None:
        if options.ini is not None:
            parser.error(f"argument cluster.ini: {options.ini}: not allowed with --pha")
        return _fit_files(options)
    return _fit_region(options)


def _values(options: argparse.Namespace) -> dict[str, object]:
    """The settings that were given, checked as those of ``cluster.ini`` are; all faults in one message."""
    from cpxt_hpc.io.ini_values import Refused, convert

    values, faults = {}, []
    for option, (section, key) in SETTINGS.items():
        text = getattr(options, option)
        if text is None:
            continue
        try:
            values[option] = convert(_setting(section, key), text.strip())
        except Refused as refused:
            faults.append(f"--{option.replace('_', '-')} {text}: {refused}")
    for engine in (options.engine or ENGINES[0]).split(","):
        if engine not in ENGINES:
            faults.append(f"--engine {engine}: unknown. Choose one of: {', '.join(ENGINES)}, or both, comma separated.")
    if faults:
        raise ConfigError(" ".join(faults))
    return values


def _engines(options: argparse.Namespace, default: str = ENGINES[0]) -> list[str]:
    return list(dict.fromkeys((options.engine or default).split(",")))


# --- PHA files -------------------------------------------------------------------------------------------


def _fit_files(options: argparse.Namespace) -> int:
    from cpxt_hpc.fitting.pha_fit import fit_files, prepare_files
    from cpxt_hpc.products.spectrum_files import shown_spectra, spectrum_facts
    from cpxt_hpc.products.spectrum_report import report, result_values

    values = _values(options)
    missing = [f"--{name}" for name in ("nH", "redshift", "abundance") if name not in values]
    if missing:
        raise ConfigError(f"--pha needs {', '.join(missing)}: the model has these parameters. Give their values.")
    for option, (section, key) in SETTINGS.items():
        values.setdefault(option, _setting(section, key).default)
    observations = _open_files(options, values["energy_min"], values["energy_max"])
    settings = _fit_settings(options, values, observations)
    prepared = prepare_files(
        observations,
        _xspec_model(values),
        settings,
        template_counts=_setting("background", "template_counts").default,
        template_max_channels=_setting("background", "template_max_channels").default,
    )
    rows = {
        engine: fit_files(dataclasses.replace(prepared, settings=dataclasses.replace(settings, engine=engine)))
        for engine in _engines(options)
    }
    row = next(iter(rows.values()))
    facts = report(
        {engine: result_values(each, with_place=False) for engine, each in rows.items()},
        spectrum_facts(prepared),
        {**values, **dataclasses.asdict(settings), "nH": prepared.xspec_model.nh_1e22},
        prepared.versions,
    )
    name = observations[0].path.name.partition(".")[0]
    title = name if len(observations) == 1 else f"{name} and {len(observations) - 1} more"
    return _deliver(options, facts, shown_spectra(prepared, row), title, options.output or Path(), name)


def _open_files(options: argparse.Namespace, energy_min_kev: float, energy_max_kev: float) -> list[PhaObservation]:
    from cpxt_hpc.fitting.pha_spectra import open_observation

    if not energy_min_kev < energy_max_kev:
        raise ConfigError(
            f"--energy-min {energy_min_kev:g}: not below --energy-max, {energy_max_kev:g} keV. Choose a wider band."
        )
    given = {}
    for name in ("background", "arf", "rmf"):
        files = getattr(options, name) or [""] * len(options.pha)
        if len(files) != len(options.pha):
            raise ConfigError(
                f"--{name} names {len(files)} files, --pha {len(options.pha)}: give one for each spectrum, in the same "
                "order."
            )
        given[name] = files
    return [
        open_observation(
            Path(path),
            **{name: files[position] for name, files in given.items()},
            energy_min_kev=energy_min_kev,
            energy_max_kev=energy_max_kev,
        )
        for position, path in enumerate(options.pha)
    ]


def _fit_settings(
    options: argparse.Namespace, values: dict[str, object], observations: list[PhaObservation]
) -> FitSettings:
    from cpxt_hpc.fitting.pha_spectra import default_statistic
    from cpxt_hpc.fitting.settings import FitSettings

    chosen = {name: values[name] for name in OF_FITS}
    if options.statistic is None:
        chosen["statistic"] = default_statistic(observations)
    return FitSettings(**chosen)


def _xspec_model(values: dict[str, object]) -> XspecModel:
    from cpxt_hpc.fitting.sherpa_engine import XspecModel
    from cpxt_hpc.io.ini_values import NH_UNIT_BORDER

    names = ("redshift", "abundance", "absorption", "plasma", "abundance_table", "cross_sections", "apec_root")
    nh = values["nH"] if values["nH"] < NH_UNIT_BORDER else values["nH"] / 1e22
    return XspecModel(nh_1e22=nh, **{name: values[name] for name in names})


def _deliver(
    options: argparse.Namespace,
    facts: dict[str, object],
    shown: list[ShownSpectrum],
    title: str,
    folder: Path,
    name: str,
) -> int:
    """Print the fit, write JSON and picture; returns the exit code."""
    from cpxt_hpc.fitting.results import FAILURES
    from cpxt_hpc.io.atomic import write_text
    from cpxt_hpc.products.spectrum_plot import write_spectrum_plot
    from cpxt_hpc.products.spectrum_report import result_lines

    text = json.dumps(facts, indent=2, allow_nan=False)
    lines = []
    for engine, values in facts.get("engines", {facts["engine"]: facts}).items():
        first, *further = result_lines(values, facts["settings"]["free"])
        lines += [f"{title}, engine {engine}: {first}", *(f"  {line}" for line in further)]
    print(text if options.json else "\n".join(lines))
    if not options.no_files:
        paths = folder / f"{name}_fit.json", folder / f"{name}_fit.png"
        write_text(paths[0], text + "\n")
        _, *further = result_lines(facts, facts["settings"]["free"])
        write_spectrum_plot(paths[1], shown, f"{title}: {lines[0].partition(': ')[2]}", "; ".join(further))
        log.info("written: %s, %s", *paths)
    return EXIT_SOME_FAILED if facts["status_code"] in FAILURES else 0


# --- a region of a map -----------------------------------------------------------------------------------


def _fit_region(options: argparse.Namespace) -> int:
    from cpxt_hpc.fitting.regions import RegionFitter
    from cpxt_hpc.fitting.sherpa_engine import xspec_model
    from cpxt_hpc.io.fit_input import read_fit_input
    from cpxt_hpc.layout import ClusterLayout
    from cpxt_hpc.parallel.chosen_model import with_chosen_model
    from cpxt_hpc.parallel.plan import check_against_fit_input, fit_settings
    from cpxt_hpc.products.spectrum_export import RegionExport, region_facts, shown_region, write_region
    from cpxt_hpc.products.spectrum_report import report, result_values

    config = _changed_config(options)
    layout = ClusterLayout(config.path.parent, config.name, config.fit.label)
    fit_input = read_fit_input(layout.fit_input)
    check_against_fit_input(config, fit_input, layout.fit_input)
    fit_input, _ = with_chosen_model(config, layout, fit_input)
    chosen = _chosen_region(options, layout, fit_input)
    settings = fit_settings(config)
    rows = {}
    for engine in _engines(options, config.fit.engine):
        fitter = RegionFitter(fit_input, settings, engine=engine)
        rows[engine] = chosen.fit(fitter)
    row = next(iter(rows.values()))
    fitter = RegionFitter(fit_input, settings, engine="exact")
    export = RegionExport(
        title=f"{config.name}, {chosen.title}",
        stem=f"{config.name}_{chosen.name}",
        fitter=fitter,
        pixels=chosen.pixels(fitter),
        row=row,
        model=xspec_model(fit_input, _tables(config.fit.apec_root)),
    )
    ra, dec = fit_input.grid.wcs().all_pix2world(float(row["ix"]), float(row["iy"]), 0)
    facts = report(
        {engine: result_values(each) for engine, each in rows.items()},
        region_facts(export),
        {**fit_input.settings, **dataclasses.asdict(settings)},
        {key: str(fit_input.settings[key]) for key in ("xspec", "sherpa", "atomdb") if key in fit_input.settings},
    )
    facts = {"cluster": config.name, "ra_deg": float(ra), "dec_deg": float(dec), **facts}
    folder = options.output or layout.main_output / "spectra" / chosen.name
    if not options.no_files:
        for path in write_region(export, folder):
            log.info("written: %s", path)
    return _deliver(options, facts, shown_region(export), export.title, folder, export.stem)


def _tables(apec_root: str) -> str:
    """Where the AtomDB tables of the fit lie; empty on a machine without them."""
    from cpxt_hpc.errors import MissingInput
    from cpxt_hpc.fitting.xspec import checked_apec_root

    try:
        return str(checked_apec_root(apec_root or None))
    except MissingInput:
        return ""


def _chosen_region(options: argparse.Namespace, layout: ClusterLayout, fit_input: FitInput) -> OneRegion:
    from cpxt_hpc.parallel.one_region import numbered_region, region_at, shape_of_file

    if options.regions is not None:
        return shape_of_file(options.regions, options.shape, layout, fit_input)
    if options.region is not None:
        return numbered_region(options.region, layout, fit_input)
    return region_at(options.at, fit_input)


def _changed_config(options: argparse.Namespace) -> ClusterConfig:
    """``cluster.ini`` with the settings that the command line changes for this fit."""
    from cpxt_hpc.io.ini import read_config

    packed = [f"--{name.replace('_', '-')}" for name in ("energy_min", "energy_max") if getattr(options, name)]
    files = [f"--{name}" for name in ("background", "arf", "rmf") if getattr(options, name)]
    if packed or files:
        raise ConfigError(
            f"{', '.join([*packed, *files])}: for --pha only. A region has the files and the band of stage 5 (set them "
            "in cluster.ini and run cpxt-prep --stage 5)."
        )
    config = read_config(Path(options.ini or "cluster.ini").absolute())
    changed: dict[str, dict[str, object]] = {}
    for option, value in _values(options).items():
        section, key = SETTINGS[option]
        changed.setdefault(section, {})[key] = value
    sections = {name: dataclasses.replace(getattr(config, name), **keys) for name, keys in changed.items()}
    return dataclasses.replace(config, **sections)


if __name__ == "__main__":
    sys.exit(main())
