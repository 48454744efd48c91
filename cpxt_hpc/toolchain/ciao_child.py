"""The process that makes one call of CIAO: ``python -m cpxt_hpc.toolchain.ciao_child CALL.json``.

It has a parameter folder of its own, so that no two calls share a parameter file and none touches the user's; a
crash or a time limit ends it and no more. All that it and the tools say goes to standard output: the log.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
from pathlib import Path

from cpxt_hpc.toolchain.ciao_calls import CALLS

EXIT_NO_CIAO = 9
"""``ciao_contrib.runtool`` cannot be imported."""
EXIT_COMPLAINED = 10
"""A tool ended well, but what it said holds an error."""

_COMPLAINT = re.compile(r"^\s*(#\s*\w+\s*\(.*\)\s*:\s*)?(\*+\s*)?(ERROR|FATAL)\b|\bTraceback \(most recent call last\)")


def main() -> int:
    """Make the call that the file named on the command line describes; returns the exit code."""
    order = json.loads(Path(sys.argv[1]).read_bytes())
    _end_with(order["parent"])
    try:
        from ciao_contrib import runtool
    except Exception as error:
        print(f"ciao_contrib.runtool cannot be imported: {type(error).__name__}: {error}", flush=True)
        return EXIT_NO_CIAO
    # Not the user's own ardlib.par: its bad pixels may be those of another observation.
    with runtool.new_pfiles_environment(ardlib=False, copyuser=False, tmpdir=order["scratch"]):
        try:
            said = CALLS[order["call"]](runtool, **order["arguments"])
        except Exception as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            return 1
    print(said or "(nothing was said)", flush=True)
    return EXIT_COMPLAINED if complaint(said or "") else 0


def complaint(said: str) -> str | None:
    """First line of what a tool said that reports an error; None without."""
    return next((line.strip() for line in said.splitlines() if _COMPLAINT.search(line)), None)


def _end_with(parent: int) -> None:
    """End this process and the tools that it started as soon as the parent's end of a pipe closes."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(parent, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
