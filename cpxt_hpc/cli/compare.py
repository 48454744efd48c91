"""Hold a temperature map against a known truth: ``python -m cpxt_hpc.cli.compare cluster.ini TRUTH_kT.fits``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cpxt_hpc.cli.command import run_command
from cpxt_hpc.demo.compare import compare, consistent, table, truth_on_grid
from cpxt_hpc.io.checkpoint import read_results
from cpxt_hpc.io.fit_input import read_fit_input
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.layout import ClusterLayout


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, 1 where a region's median lies too far from the truth."""
    return run_command(_compare, sys.argv[1:] if argv is None else argv)


def _compare(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m cpxt_hpc.cli.compare", description="Compare the fits of a cluster with the known truth."
    )
    parser.add_argument("ini", type=Path, metavar="cluster.ini")
    parser.add_argument("truth", type=Path, metavar="TRUTH_kT.fits", help="image of the true temperatures [keV]")
    arguments = parser.parse_args(argv)
    config = read_config(arguments.ini)
    layout = ClusterLayout(config.path.parent, config.name, config.fit.label)
    truth = truth_on_grid(arguments.truth, read_fit_input(layout.fit_input).grid)
    comparisons = compare(read_results(layout.fits), truth)
    print(table(comparisons))
    if not consistent(comparisons):
        print("A median lies further from the truth than its scatter explains.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
