"""``cpxt-init``: makes the ``cluster.ini`` of a new cluster."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from cpxt_hpc.cli.command import run_command
from cpxt_hpc.errors import ConfigError
from cpxt_hpc.io.ini import make_config, write_config
from cpxt_hpc.io.pypeline_config import DATA_FOLDER, read_pypeline_config
from cpxt_hpc.io.user_config import read_user_config, remember_cluster


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``cpxt-init``; returns its exit code."""
    return run_command(_init, argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cpxt-init",
        description="Make <data_dir>/<name>/cluster.ini and print its path. "
        "nH, redshift and abundance may be left open until cpxt-prep asks for them.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "pypeline_config", nargs="?", type=Path, metavar="NAME_pypeline_config.ini",
        help="take what is known from this configuration of ClusterPyXT; options have precedence",
    )
    parser.add_argument("--cluster_name", "--cluster-name", "-n", dest="name", metavar="NAME")
    parser.add_argument(
        "--obsids", nargs="+", dest="observation_ids", metavar="OBSID", help="1 2 or 1,2"
    )
    parser.add_argument(
        "--nH", "--nh", dest="hydrogen_column_density", metavar="NH", help="cm^-2, or 10^22 cm^-2 below 10^3"
    )
    parser.add_argument("--redshift", "-z", metavar="Z")
    parser.add_argument("--abundance", metavar="SOLAR")
    parser.add_argument("--signal_to_noise", "--signal-to-noise", metavar="SNR")
    parser.add_argument(
        "--data-dir", "--data_dir", metavar="DIR",
        help="where the cluster's folder is made; default: the user's data_directory, else this folder",
    )
    return parser


def _init(argv: Sequence[str]) -> None:
    parser = _parser()
    if not argv:
        parser.error("give at least --cluster_name NAME and --obsids OBSID [OBSID ...]")
    options = vars(parser.parse_args(argv))
    folder = Path(options.pop("data_dir") or read_user_config().data_directory or ".").expanduser().absolute()
    if options["observation_ids"] is not None:
        options["observation_ids"] = ",".join(options["observation_ids"])
    imported, where = {}, "command line"
    source = options.pop("pypeline_config")
    if source is not None:
        imported, where = read_pypeline_config(source), str(source)
        # Its folder holds ClusterPyXT's own products, some under the names of ours.
        imported.pop(DATA_FOLDER, None)
    given = {key: text for key, text in options.items() if text is not None}
    options = {"name": None, **imported, **given}
    values = {f"cluster.{key}": text for key, text in options.items() if text is not None}
    values["cluster.data_directory"] = os.fsencode(folder).decode("utf-8", "replace")
    config = make_config(folder / (options["name"] or "") / "cluster.ini", values, where=where)
    if config.path.exists():
        raise ConfigError(
            f"{config.path} is there already and is kept. Edit it, or choose another --cluster_name or --data-dir."
        )
    write_config(config)
    remember_cluster(config.path)
    print(config.path)
