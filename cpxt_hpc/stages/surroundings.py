"""Where the program runs: inside a batch job, before a screen."""

from __future__ import annotations

import os
import sys

BATCH_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID", "COBALT_JOBID", "FLUX_JOB_ID")


def batch_variable() -> str | None:
    """Environment variable by which a batch system shows that this is one of its jobs; None outside of jobs."""
    return next((name for name in BATCH_VARIABLES if os.environ.get(name)), None)


def has_display() -> bool:
    """Whether windows can be opened."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
