"""A cluster's folder that is ready to fit, made of synthetic events, and how tests start ``cpxt-fit`` on it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

from synthetic import make_fit_input

from cpxt_hpc.io.command_list import write_command_list
from cpxt_hpc.io.fit_input import write_fit_input
from cpxt_hpc.io.ini import make_config, write_config
from cpxt_hpc.layout import ClusterLayout

TESTS = Path(__file__).resolve().parent


def ready_to_fit(folder: Path, **more) -> ClusterLayout:
    """Make ``folder`` a cluster's folder with everything that ``cpxt-fit`` reads; more goes to `make_fit_input`."""
    more = {"n_regions": 300, "n_obs": 2, "n_channels": 64, "ny": 30, "nx": 30} | more
    fit_input = make_fit_input(**more)
    settings = {
        "obsids": ",".join(str(o.obsid) for o in fit_input.observations),
        "nH_1e22": 0.05,
        "redshift": 0.2,
        "abundance": fit_input.abundance,
        "energy_min_kev": 0.7,
        "energy_max_kev": 8.0,
        "absorption": "phabs",
        "abundance_table": "angr",
        "cross_sections": "vern",
    }
    fit_input = dataclasses.replace(fit_input, settings=settings)
    values = {
        "cluster.name": "made_up",
        "cluster.observation_ids": settings["obsids"],
        "cluster.hydrogen_column_density": "0.05",
        "cluster.redshift": "0.2",
        "cluster.abundance": str(fit_input.abundance),
    }
    layout = ClusterLayout(folder, "made_up")
    layout.acb.mkdir(parents=True)
    write_config(make_config(layout.ini, values))
    write_fit_input(layout.fit_input, fit_input)
    write_command_list(layout.commands, fit_input.regions.number, str(layout.ini))
    return layout


def clean_environment(**more: str) -> dict[str, str]:
    """This environment without traces of a launcher, and with the tests' modules to import."""
    launchers = ("PMI", "PMIX", "OMPI", "SLURM", "MPI_LOCAL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(launchers)}
    return kept | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])} | more


def fit_command(layout: ClusterLayout, *options: str, ranks: int = 0) -> list[str]:
    """The command that fits, serial or under mpiexec."""
    launcher = [str(Path(sys.prefix, "bin", "mpiexec")), "-n", str(ranks)] if ranks else []
    return [*launcher, sys.executable, "-m", "cpxt_hpc.cli.fit", str(layout.ini), *options]


def run_fit(layout: ClusterLayout, *options: str, ranks: int = 0, **environment: str) -> subprocess.CompletedProcess:
    """Run ``cpxt-fit`` to its end."""
    return subprocess.run(
        fit_command(layout, *options, ranks=ranks),
        env=clean_environment(**environment), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
