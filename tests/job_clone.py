"""A clone of the job scripts whose environment has `fake_fit` in place of ``cpxt-fit``.

Its ``cpxt-prep`` ends with the exit code FAKE_PREP_CODE, its ``cpxt-maps`` says that it has made maps.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
JOBSCRIPTS = TESTS.parent / "jobscripts"


def make_clone(folder: Path, *, fake: bool = True) -> Path:
    """Copy the job scripts, and put an environment beside them; returns the folder of the scripts."""
    scripts = folder / "jobscripts"
    scripts.mkdir(parents=True)
    for pattern in ("*.slurm", "batch.sh", "chain.sh"):
        for script in JOBSCRIPTS.glob(pattern):
            shutil.copy(script, scripts)
    if not fake:
        (folder / ".venv").symlink_to(sys.prefix)
        return scripts
    commands = {"cpxt-fit": f"'{sys.executable}' '{TESTS}/fake_fit.py'", "python": f"'{sys.executable}'"}
    commands["mpiexec"] = f"'{Path(sys.prefix, 'bin', 'mpiexec')}'"
    for name, command in commands.items():
        write_program(folder / ".venv" / "bin" / name, f'exec {command} "$@"')
    write_program(folder / ".venv" / "bin" / "cpxt-prep", 'exit "${FAKE_PREP_CODE:-0}"')
    write_program(folder / ".venv" / "bin" / "cpxt-maps", "echo made maps")
    return scripts


def write_program(path: Path, text: str) -> None:
    """Write a shell script that can be started."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
