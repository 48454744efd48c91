"""What every command shares: one message and one exit code for an error, and where the log goes."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cpxt_hpc.errors import ActionNeeded, CpxtError, DataError, MissingInput, OutputError

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_STOPPED = 75
"""Stopped early on request: a signal or the wall time. Run again to continue."""
EXIT_BROKEN_PIPE = 128 + 13
"""Whoever read standard output is gone (``| head``): the shell's code for SIGPIPE."""

_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG}


def run_command(
    function: Callable[[Sequence[str]], int | None],
    argv: Sequence[str] | None = None,
    *,
    name: str | None = None,
) -> int:
    """Call a command and turn what it raises into one message on standard error and an exit code.

    Parameters
    ----------
    function : callable
        Takes the arguments without the program's name; returns an exit code, or None for 0.
    argv : sequence of str, optional
        Arguments; by default those of the process.
    name : str, optional
        Name of the command in messages; by default ``cpxt-`` and the module's name of ``function``.

    Returns
    -------
    int
        0 done; a `CpxtError`'s exit code; 2 for a usage error of argparse; 6 where a file cannot be
        written; 75 after an interrupt; 141 where the reader of standard output is gone; 1 for an
        unexpected exception, whose traceback is kept.
    """
    if name is None:
        name = "cpxt-" + function.__module__.rpartition(".")[2]
    _print_any_path()
    try:
        code = function(list(sys.argv[1:] if argv is None else argv))
        if sys.stdout is not None:
            sys.stdout.flush()
        return EXIT_DONE if code is None else int(code)
    except CpxtError as error:
        return _report(name, error)
    except SystemExit as leaving:
        return _exit_code(name, leaving.code)
    except KeyboardInterrupt:
        print(f"{name}: stopped on request. Run the same command again to continue.", file=sys.stderr)
        return EXIT_STOPPED
    except BrokenPipeError:
        _silence_standard_output()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        explained = _explain_os_error(error)
        if explained is not None:
            return _report(name, explained)
        sys.excepthook(*sys.exc_info())
        return EXIT_BUG
    except Exception:
        sys.excepthook(*sys.exc_info())
        return EXIT_BUG


def _print_any_path() -> None:
    """Let standard output take paths that its encoding has no letters for, or that are not UTF-8 at all."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        is_utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")


def _report(name: str, error: CpxtError) -> int:
    kind = "action needed" if isinstance(error, ActionNeeded) else "error"
    print(f"{name}: {kind}: {error}", file=sys.stderr)
    return error.exit_code


def _exit_code(name: str, code: object) -> int:
    if code is None:
        return EXIT_DONE
    if isinstance(code, int):
        return code
    print(f"{name}: error: {code}", file=sys.stderr)
    return EXIT_BUG


def _silence_standard_output() -> None:
    """Point standard output at nothing, so that Python's own flush at exit does not complain again."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


def _explain_os_error(error: OSError) -> CpxtError | None:
    """Explain a full disk, quota, missing permission or vanished current folder that no module below has, else None."""
    number = error.errno
    if number is None:
        # h5py often tells the reason only in its text: "... errno = 28, error message = 'No space left ...'"
        found = re.search(r"errno = (\d+)", str(error))
        number = int(found.group(1)) if found else None
    if number == errno.ENOENT and not _in_a_folder():
        return MissingInput("the current folder is gone. Change to another one, then run again.")
    if number not in _CANNOT_WRITE:
        return None
    reason = os.strerror(number)
    where = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    if where and os.path.exists(where) and not os.access(where, os.R_OK):
        return DataError(f"{where}: cannot be read ({reason}). Get read permission, then run again.")
    return OutputError(
        f"{where or 'an output file'}: cannot be written ({reason}). "
        "Make room or get write permission, then run again."
    )


def _in_a_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Treat these signals as an interrupt, so that unfinished files vanish and the exit code says `stopped`."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, interrupt) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class _StandardErrorHandler(logging.StreamHandler):
    """Writes to whatever ``sys.stderr`` is when a line is logged, not when the log was set up."""

    @property
    def stream(self):
        return sys.stderr

    @stream.setter
    def stream(self, value):
        pass


class _LineFormatter(logging.Formatter):
    """``12:04:31 fit: message``, with the level named from warnings upwards."""

    def __init__(self, date_format: str) -> None:
        super().__init__("%(asctime)s %(module_name)s: %(level_text)s%(message)s", date_format)

    def format(self, record: logging.LogRecord) -> str:
        record.module_name = record.name.rpartition(".")[2]
        record.level_text = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return super().format(record)


def setup_logging(*, quiet: bool = False, verbose: bool = False, log_file: str | Path | None = None) -> None:
    """Send the package's log to standard error, and to a file where one is named.

    Parameters
    ----------
    quiet, verbose : bool
        Warnings only, or debugging lines too; by default what a user watches (INFO).
    log_file : str or Path, optional
        Lines are appended here as well, with the date.

    Raises
    ------
    OutputError
        The log file cannot be opened for writing.
    """
    logger = logging.getLogger("cpxt_hpc")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logger.setLevel(level)
    to_screen = _StandardErrorHandler()
    to_screen.setFormatter(_LineFormatter("%H:%M:%S"))
    logger.addHandler(to_screen)
    if log_file is None:
        return
    try:
        to_file = logging.FileHandler(log_file, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{log_file}: the log cannot be written there ({error.strerror}). "
            "Name another file after --log-file."
        ) from error
    to_file.setFormatter(_LineFormatter("%Y-%m-%d %H:%M:%S"))
    logger.addHandler(to_file)


def add_logging_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--quiet``, ``--verbose`` and ``--log-file``; pass their values to `setup_logging`."""
    group = parser.add_argument_group("log")
    amount = group.add_mutually_exclusive_group()
    amount.add_argument("--quiet", action="store_true", help="warnings and errors only")
    amount.add_argument("--verbose", action="store_true", help="debugging lines too")
    group.add_argument("--log-file", metavar="FILE", help="append the log to this file as well")
