"""``cpxt-prep``: the preprocessing of one cluster, from event files to the input of the fit."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path

from cpxt_hpc.cli.command import add_logging_options, interrupted_by, run_command, setup_logging
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.io.user_config import read_user_config, remember_cluster
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.stages.base import StageContext
from cpxt_hpc.toolchain.choice import choose_toolchain

STAGE_NUMBERS = (1, 2, 3, 4, 5)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``cpxt-prep``; returns its exit code."""
    return run_command(_prepare, argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cpxt-prep",
        description="Stages 1 to 5: merge, clean, respond, crop, bin. What is up to date is not done again.",
        allow_abbrev=False,
    )
    parser.add_argument("ini", nargs="?", metavar="cluster.ini", help="default: ./cluster.ini, or the current cluster")
    parser.add_argument("--continue", action="store_true", dest="resume", help="resume (as it always does)")
    parser.add_argument(
        "--stage", nargs="+", default=[], metavar="N", help="run these stages only, even where up to date"
    )
    parser.add_argument(
        "--auto", action="store_true", help="make the region files that are not there; drawn ones are kept"
    )
    parser.add_argument(
        "--toolchain", choices=("auto", "builtin", "ciao"), help="default: [tools] toolchain of cluster.ini (auto)"
    )
    parser.add_argument(
        "--num_cpus", "--num-cpus", type=int, metavar="N", help="local processes; default: those allowed"
    )
    parser.add_argument(
        "--import-acb", "--import_acb", type=Path, metavar="DIR",
        help="in place of stages 1 to 3, take over ClusterPyXT's acb folder; its circles and their numbers are kept",
    )  # fmt: skip
    parser.add_argument(
        "--no-ds9", action="store_false", dest="open_images",
        help="do not open DS9 where a person must draw ($CPXT_NO_DS9 does the same; never opened in a batch job)",
    )  # fmt: skip
    add_logging_options(parser)
    return parser


def _prepare(argv: Sequence[str]) -> None:
    parser = _parser()
    options = parser.parse_args(argv)
    stages_wanted, ini = _stage_numbers(parser, options.stage, options.ini)
    if options.num_cpus is not None and options.num_cpus < 1:
        parser.error(f"argument --num_cpus: {options.num_cpus}: expected 1 or more")
    if ini is None:
        ini = _current_ini(parser)
    setup_logging(quiet=options.quiet, verbose=options.verbose, log_file=options.log_file)
    config = read_config(Path(ini).absolute())
    remember_cluster(config.path)
    layout = ClusterLayout(config.path.parent, config.name, config.fit.label)
    processes = options.num_cpus or len(os.sched_getaffinity(0))
    toolchain = choose_toolchain(config, named=options.toolchain, processes=processes)
    context = StageContext(config, layout, processes, toolchain, options.open_images)

    from cpxt_hpc.stages.driver import preprocessing_stages, run_stages
    from cpxt_hpc.stages.import_acb import begin_import, import_stages, imported_from

    if options.import_acb is not None:
        begin_import(context, options.import_acb)
    stages = preprocessing_stages() if imported_from(layout) is None else import_stages(layout)
    with interrupted_by(signal.SIGTERM, signal.SIGUSR1):
        outcome = run_stages(context, stages, only=stages_wanted, auto=options.auto)
    path = shlex.quote(str(config.path))
    if "bin" in outcome.done + outcome.skipped:
        print(f"Ready to fit. Next: mpirun -n 4 cpxt-fit {path} --resolution 2")
    else:
        print(f"Done: {', '.join(outcome.done)}. Next: cpxt-prep {path} --continue")


def _current_ini(parser: argparse.ArgumentParser) -> Path:
    here = Path("cluster.ini")
    if here.is_file():
        return here
    current = read_user_config().current_cluster
    if current is None:
        parser.error("there is no cluster.ini in this folder, and no current cluster: name one (cpxt-init makes it)")
    if not current.is_file():
        parser.error(f"there is no cluster.ini in this folder, and the current cluster {current} is gone: name one")
    return current


def _stage_numbers(
    parser: argparse.ArgumentParser, words: list[str], ini: str | None
) -> tuple[tuple[int, ...], str | None]:
    """Numbers after ``--stage``; a last word that is no number is the ini file that stands behind them."""
    if words and ini is None and not words[-1].replace(",", "").isdecimal():
        *words, ini = words
        if not words:
            parser.error(f"argument --stage: {ini!r}: expected numbers of 1 to 5")
    parts = [part for word in words for part in word.split(",") if part]
    wrong = [part for part in parts if part not in map(str, STAGE_NUMBERS)]
    if wrong or (words and not parts):
        parser.error(f"argument --stage: {', '.join(map(repr, wrong or words))}: expected numbers of 1 to 5")
    return tuple(sorted({int(part) for part in parts})), ini
