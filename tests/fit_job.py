"""A cluster's folder that is ready to fit, made of synthetic events, and how tests start ``cpxt-fit`` on it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from synthetic import make_fit_input

from cpxt_hpc.errors import MissingInput
from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.io.checkpoint import read_results
from cpxt_hpc.io.command_list import write_command_list
from cpxt_hpc.io.fit_input import write_fit_input
from cpxt_hpc.io.ini import make_config, write_config
from cpxt_hpc.layout import ClusterLayout

TESTS = Path(__file__).resolve().parent
MPICH_MEMORY = re.compile(r"/dev/shm/mpich_shm_\w+")


def ready_to_fit(folder: Path, **more) -> ClusterLayout:
    """Make ``folder`` a cluster's folder with everything that ``cpxt-fit`` reads; more goes to `make_fit_input`."""
    more = {"n_regions": 300, "n_obs": 2, "n_channels": 64, "ny": 30, "nx": 30} | more
    return write_job(folder, make_fit_input(**more))


def write_job(folder: Path, fit_input: FitInput, **fit_settings: str) -> ClusterLayout:
    """Make ``folder`` the folder of a cluster with this fit input; its settings are those of ``cluster.ini``."""
    edge = fit_input.settings.get("edge", "pixel")
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
        "edge": edge,
    }
    fit_input = dataclasses.replace(fit_input, settings=settings)
    values = {
        "cluster.name": "made_up",
        "cluster.observation_ids": settings["obsids"],
        "cluster.hydrogen_column_density": "0.05",
        "cluster.redshift": "0.2",
        "cluster.abundance": str(fit_input.abundance),
        "binning.edge": edge,
        **{f"fit.{name}": value for name, value in fit_settings.items()},
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


def fit_command(
    layout: ClusterLayout,
    *options: str,
    ranks: int = 0,
    fake: bool = False,
    program: str = "fake_fit.py",
    mpiexec: tuple[str, ...] = (str(Path(sys.prefix, "bin", "mpiexec")),),
) -> list[str]:
    """The command that fits, serial or under mpiexec; where asked for with a fake, a program of this folder."""
    launcher = [*mpiexec, "-n", str(ranks)] if ranks else []
    fitting = [str(TESTS / program)] if fake else ["-m", "cpxt_hpc.cli.fit"]
    return [*launcher, sys.executable, *fitting, str(layout.ini), *options]


def run_fit(
    layout: ClusterLayout, *options: str, ranks: int = 0, fake: bool = False, more: dict | None = None,
    **environment: str,
) -> subprocess.CompletedProcess:  # fmt: skip
    """Run ``cpxt-fit`` to its end; more goes to `fit_command`."""
    return subprocess.run(
        fit_command(layout, *options, ranks=ranks, fake=fake, **(more or {})),
        env=clean_environment(**environment), capture_output=True, text=True, timeout=300,
    )  # fmt: skip


class RunningFit:
    """``cpxt-fit`` with the fake fitter while it runs; use as context manager. More goes to `fit_command`."""

    def __init__(
        self, layout: ClusterLayout, *options: str, ranks: int = 0, more: dict | None = None, **environment: str
    ) -> None:
        self.layout = layout
        self._traces: set[Path] = set()
        self.process = subprocess.Popen(
            fit_command(layout, *options, ranks=ranks, fake=True, **(more or {})),
            env=clean_environment(**environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def n_results(self) -> int:
        """Regions in the checkpoint now."""
        try:
            return len(read_results(self.layout.fits))
        except MissingInput:
            return 0

    def wait_for_results(self, number: int) -> None:
        """Until the checkpoint has so many regions; the process must live until then."""
        self.wait_until(lambda: self.n_results() >= number)

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Until this is true; the process must live until then."""
        deadline = time.monotonic() + 300
        while not reached():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "no results for five minutes"
            time.sleep(0.02)
        self._note_traces()

    def processes(self) -> list[int]:
        """This process and all below it, ranks last."""
        found = [self.process.pid]
        for parent in found:
            for task in Path(f"/proc/{parent}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    found += [int(child) for child in task.read_text().split()]
        return found

    def process_of_rank(self, rank: int) -> int:
        """Number of the process that has this rank."""
        wanted = {f"{name}={rank}".encode() for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK")}
        for process in self.processes():
            with contextlib.suppress(OSError):
                if wanted & set(Path(f"/proc/{process}/environ").read_bytes().split(b"\0")):
                    return process
        raise AssertionError(f"no process has rank {rank}")

    def _note_traces(self) -> None:
        """Shared memory that mpich leaves behind where its processes are killed."""
        for process in self.processes():
            with contextlib.suppress(OSError):
                mapped = Path(f"/proc/{process}/maps").read_text()
                self._traces |= {Path(found) for found in MPICH_MEMORY.findall(mapped)}

    def kill_all(self) -> None:
        """SIGKILL for launcher and ranks, as a node that dies."""
        self._note_traces()
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.communicate()

    def end(self) -> tuple[int, str, str]:
        """Exit code and what was written, once it has ended by itself."""
        output, errors = self.process.communicate(timeout=300)
        return self.process.returncode, output, errors

    def __enter__(self) -> RunningFit:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.kill_all()
        for trace in self._traces:
            trace.unlink(missing_ok=True)
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()
