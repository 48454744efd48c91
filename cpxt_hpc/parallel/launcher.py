"""How this process was started: what MPI launchers leave in the environment, looked at before MPI is loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from cpxt_hpc.errors import ConfigError, CpxtError

LAUNCHER_VARIABLES = (
    "PMI_RANK",
    "PMI_SIZE",
    "PMIX_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "MPI_LOCALNRANKS",
    "MV2_COMM_WORLD_SIZE",
    "PALS_RANKID",
)
"""Set by mpiexec, or srun with PMI, for every process they start."""

RANK_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK", "PALS_RANKID")


class RootFailed(CpxtError):
    """Rank 0 has reported an error: leave with its exit code, silently."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"rank 0 ended with exit code {exit_code}")
        self.exit_code = exit_code


def launched(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether an MPI launcher started this process."""
    return any(name in environ for name in LAUNCHER_VARIABLES) or _step_tasks(environ) > 1


def launched_rank(environ: Mapping[str, str] = os.environ) -> int:
    """Rank of this process as its launcher states it, known before MPI is; 0 where there is none."""
    for name in RANK_VARIABLES:
        if environ.get(name, "").isdigit():
            return int(environ[name])
    return int(environ.get("SLURM_PROCID") or 0) if _step_tasks(environ) > 1 else 0


def check_launcher(environ: Mapping[str, str], world_size: int) -> None:
    """Refuse a launcher that has started many programs which do not know of each other.

    Raises
    ------
    ConfigError
        The launcher started several processes, but MPI sees one.
    """
    expected = max(_step_tasks(environ), _number(environ, "PMI_SIZE"), _number(environ, "OMPI_COMM_WORLD_SIZE"))
    if world_size == 1 and expected > 1:
        slurm = _step_tasks(environ) > 1
        how = "srun --mpi=pmi2 (mpich), srun --mpi=pmix (Open MPI) or mpiexec" if slurm else "mpiexec"
        raise ConfigError(
            f"the launcher started {expected} processes, but each finds itself alone: launcher and MPI library do "
            f"not belong together. Start with {how} of the same MPI that mpi4py uses "
            f"({os.path.join(sys.prefix, 'bin', 'mpiexec')} where the set-up installed it)."
        )


def refuse_many(what: str, environ: Mapping[str, str] = os.environ) -> None:
    """Refuse several processes of one mpiexec for work that is one process's.

    Processes of one srun without MPI pass: they may have been given different work.

    Raises
    ------
    ConfigError
        On rank 0.
    RootFailed
        On the others.
    """
    size = max(_number(environ, "PMI_SIZE"), _number(environ, "OMPI_COMM_WORLD_SIZE"))
    if size > 1 and launched_rank(environ) > 0:
        raise RootFailed(ConfigError.exit_code)
    if size > 1:
        raise ConfigError(
            f"{what} is the work of one process, but the MPI launcher has started {size}. Start it without mpiexec, "
            "under Slurm with srun --mpi=none."
        )


def _step_tasks(environ: Mapping[str, str]) -> int:
    return _number(environ, "SLURM_STEP_NUM_TASKS")


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    return int(text) if text.isdigit() else 0
