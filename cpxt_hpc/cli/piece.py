"""Print a share of a command list: ``python -m cpxt_hpc.cli.piece cluster.ini 3/20 > piece.lis``.

For job arrays: every task fits its own share with ``cpxt-fit cluster.ini --commands piece.lis``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from cpxt_hpc.cli.command import run_command
from cpxt_hpc.io.fit_input import read_fit_input
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.parallel.plan import selected_positions
from cpxt_hpc.parallel.work import share_of
from cpxt_hpc.science.maps import FINEST_RESOLUTION


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(_piece, argv)


def _piece(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m cpxt_hpc.cli.piece",
        description="Print the K-th of N shares of a cluster's command list. Each region is in one share, and each "
        "share has as many regions of every resolution as the others.",
        allow_abbrev=False,
    )
    parser.add_argument("ini", metavar="cluster.ini")
    parser.add_argument("share", metavar="K/N", help="for example 3/20")
    options = parser.parse_args(argv)
    words = options.share.split("/")
    if len(words) != 2 or not all(map(str.isdecimal, words)) or not 1 <= int(words[0]) <= int(words[1]):
        parser.error(
            f"argument K/N: {options.share!r}: expected two numbers such as 3/20, the first from 1 to the second"
        )
    config = read_config(Path(options.ini).absolute())
    layout = ClusterLayout(config.path.parent, config.name, config.fit.label)
    regions = read_fit_input(layout.fit_input).regions
    positions = share_of(regions, selected_positions(layout, regions, FINEST_RESOLUTION, None), *map(int, words))
    command = f"cpxt-fit {shlex.quote(str(config.path))} --region"
    print(f"# share {options.share}: {len(positions)} regions")
    print("".join(f"{command} {number}\n" for number in regions.number[positions].tolist()), end="")


if __name__ == "__main__":
    sys.exit(main())
