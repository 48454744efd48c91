"""``cpxt-demo``: write a synthetic cluster in Chandra level-2 format with known truth."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from cpxt_hpc.cli.command import run_command
from cpxt_hpc.config import NAME_PATTERN
from cpxt_hpc.errors import ConfigError

_EXAMPLE = """\
example:
  cpxt-demo ~/cpxt_data
      writes ~/cpxt_data/demo (two observations) and ~/cpxt_data/demo_truth (what the maps must show),
      and prints the commands that make the maps
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(_demo, sys.argv[1:] if argv is None else argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cpxt-demo",
        description="Write a synthetic galaxy cluster, observed twice with Chandra ACIS-I, with known truth.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="data directory; made where missing")
    parser.add_argument("--name", default="demo", help="name of the cluster [%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another draw of every photon [%(default)s]")
    parser.add_argument(
        "--exposure-ks", type=float, default=70.0, help="exposure of both observations together [%(default)s]"
    )
    parser.add_argument("--size", type=float, default=400.0, help="radius of the cluster in arcsec [%(default)s]")
    parser.add_argument(
        "--obsids", type=int, nargs=2, default=(90001, 90002), metavar=("A", "B"), help="ObsIDs [90001 90002]"
    )
    return parser


def _demo(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    _check(arguments)
    from cpxt_hpc.demo.make import make_demo

    folder = arguments.directory.absolute()
    products = make_demo(
        folder,
        name=arguments.name,
        seed=arguments.seed,
        exposure_ks=arguments.exposure_ks,
        radius_arcsec=arguments.size,
        obsids=tuple(arguments.obsids),
    )
    cluster = products.cluster
    ini = shlex.quote(str(products.cluster_folder / "cluster.ini"))
    print(f"The cluster is in {products.cluster_folder}, the truth in {products.truth_folder}. To map it:")
    print(
        f"  cpxt-init --cluster_name {arguments.name} --obsids {' '.join(map(str, products.obsids))}"
        f" --nH {cluster.nh_1e22} --redshift {cluster.redshift} --abundance {cluster.abundance}"
        f" --data-dir {shlex.quote(str(folder))}"
    )
    print(f"  cpxt-prep {ini} --auto")
    print(f"  mpiexec -n 3 cpxt-fit {ini} --resolution 2")
    print(f"  cpxt-maps {ini}")
    print(f"  python -m cpxt_hpc.cli.compare {ini} {shlex.quote(str(products.temperature_image))}")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    faults = []
    if not NAME_PATTERN.fullmatch(arguments.name):
        faults.append(f"--name {arguments.name!r}: at most 64 letters, digits, '.', '_', '+', '-'")
    if arguments.seed < 0:
        faults.append(f"--seed {arguments.seed}: a whole number from 0 on")
    if not 1.0 <= arguments.exposure_ks <= 1000.0:
        faults.append(f"--exposure-ks {arguments.exposure_ks:g}: 1 to 1000")
    if not 50.0 <= arguments.size <= 600.0:
        faults.append(f"--size {arguments.size:g}: 50 to 600 arcsec")
    if min(arguments.obsids) < 1 or max(arguments.obsids) > 99999 or arguments.obsids[0] == arguments.obsids[1]:
        faults.append(f"--obsids {arguments.obsids[0]} {arguments.obsids[1]}: two different numbers, 1 to 99999")
    if faults:
        raise ConfigError("; ".join(faults) + ".")


if __name__ == "__main__":
    sys.exit(main())
