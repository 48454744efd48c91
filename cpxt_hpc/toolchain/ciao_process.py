"""Run one call of CIAO in a process group of its own: log, time limit, end on request."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from cpxt_hpc.errors import OutputError, ToolError
from cpxt_hpc.toolchain.ciao_child import EXIT_COMPLAINED, EXIT_NO_CIAO, complaint

LAST_LINES = 12
"""How many lines of its log the message of a failed call carries."""

_LOOK_EVERY_S = 0.1


@dataclasses.dataclass(frozen=True)
class ToolCall:
    """One call.

    Attributes
    ----------
    name : str
        A key of `cpxt_hpc.toolchain.ciao_calls.CALLS`.
    arguments : dict
        Of that function, without ``rt``; paths relative to the working folder.
    title : str
        What messages call it: ``ObsID 7: blanksky``.
    log : Path
    """

    name: str
    arguments: dict[str, object]
    title: str
    log: Path


class Stopped(Exception):
    """The call was ended because another one failed, or on request."""


def run_call(call: ToolCall, folder: Path, time_limit_s: float, stop: threading.Event) -> None:
    """Make a call and wait for its end.

    Parameters
    ----------
    call : ToolCall
    folder : Path
        Working folder, in which its inputs lie.
    time_limit_s : float
    stop : Event
        When set, the call and all that it started are ended.

    Raises
    ------
    ToolError
        It failed, said that it failed, was killed or took too long; the message carries the end of its log.
    OutputError
        The log cannot be written.
    Stopped
        ``stop`` was set.
    """
    order = folder / "call.json"
    read_end, write_end = os.pipe()
    try:
        order.write_text(
            json.dumps({"call": call.name, "arguments": call.arguments, "parent": read_end, "scratch": str(folder)})
        )
        call.log.parent.mkdir(parents=True, exist_ok=True)
        with open(call.log, "w", encoding="utf-8") as log:
            now = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
            arguments = "".join(f"  {name} = {value}\n" for name, value in call.arguments.items())
            log.write(f"{now} {call.title}\n{arguments}\n")
            log.flush()
            process = subprocess.Popen(
                [sys.executable, "-m", "cpxt_hpc.toolchain.ciao_child", order.name],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, pass_fds=(read_end,),
                start_new_session=True, env=_environment(),
            )  # fmt: skip
        code = _wait(process, time_limit_s, stop)
    except OSError as error:
        raise OutputError(
            f"{call.log}: cannot be written ({error.strerror}). Make room or get write permission, then run again."
        ) from error
    finally:
        os.close(read_end)
        os.close(write_end)
    if code is None:
        raise _failure(call, f"took longer than {time_limit_s / 3600.0:g} h ([tools] time_limit_h) and was ended")
    if code != 0:
        raise _failure(call, _reason(code, call))


def run_all(jobs: Sequence[Callable[[threading.Event], None]], processes: int) -> None:
    """Run jobs, so many at once; the first that fails ends the others, and its error is raised.

    Parameters
    ----------
    jobs : sequence of callable
        Each is given the event that asks it to stop.
    processes : int
    """
    stop = threading.Event()
    with ThreadPoolExecutor(max(1, min(processes, len(jobs) or 1)), thread_name_prefix="ciao") as pool:
        running = [pool.submit(job, stop) for job in jobs]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
            for each in running:
                each.cancel()
    errors = [each.exception() for each in running if not each.cancelled() and each.exception() is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
        raise error


def _environment() -> dict[str, str]:
    # Tools draw as many threads as there are cores unless told; the number of processes is ours to choose.
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def _wait(process: subprocess.Popen, time_limit_s: float, stop: threading.Event) -> int | None:
    """Exit code of a process; None where the time limit ended it."""
    limit = time.monotonic() + time_limit_s
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=_LOOK_EVERY_S)
            if stop.is_set():
                raise Stopped
            if time.monotonic() > limit:
                return None
    finally:
        # Also after a good end: what a tool left running may not go on writing.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _reason(code: int, call: ToolCall) -> str:
    if code < 0:
        return f"was killed by signal {signal.Signals(-code).name}" + (
            " (out of memory? try a smaller --num_cpus)" if code == -signal.SIGKILL else ""
        )
    if code == EXIT_NO_CIAO:
        return "found no working CIAO: start it (conda activate, or . ciao.sh), or use --toolchain builtin"
    if code == EXIT_COMPLAINED:
        return f"ended as if all were well, but said: {complaint(_text(call.log))}"
    return "failed"


def _failure(call: ToolCall, reason: str) -> ToolError:
    return ToolError(failure_message(call, reason))


def failure_message(call: ToolCall, reason: str) -> str:
    """One message of a call that failed: the reason, where its log is, and the log's last lines."""
    lines = [line.rstrip() for line in _text(call.log).splitlines() if line.strip()]
    end = "".join(f"\n    {line[:300]}" for line in lines[-LAST_LINES:])
    return f"{call.title} (CIAO) {reason.rstrip('.')}. Its log, {call.log}, ends with:{end}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
