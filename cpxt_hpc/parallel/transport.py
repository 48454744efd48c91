"""The way from rank to rank: the only module that imports mpi4py.

`connect` looks at the environment before MPI is imported: without a launcher the program is alone and needs no MPI;
what a launcher has got wrong is refused with the command that is right.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from cpxt_hpc.errors import CpxtError, ToolError
from cpxt_hpc.parallel.launcher import RootFailed, check_launcher, launched
from cpxt_hpc.parallel.messages import Lost, Message, decode, encode

Made = TypeVar("Made")

SHORTEST_SLEEP_S = 2e-5
LONGEST_SLEEP_S = 2e-2

log = logging.getLogger(__name__)


class RootLost(ToolError):
    """Rank 0 is dead."""

    exit_code = 128 + 9
    """A launcher's own where a process was killed: by it the job scripts know that a new start does the rest."""


class LocalLink:
    """A world of one process."""

    rank = 0
    size = 1
    one_node = True
    others_know = True
    dead: frozenset[int] = frozenset()

    def on_root(self, function: Callable[[], Made]) -> Made:
        """Call a function on rank 0; every rank gets its value."""
        return function()

    def from_leader(self, function: Callable[[], Made]) -> Made:
        """Call a function on one rank of each node; all ranks of the node get its value."""
        return function()

    def leader_first(self, function: Callable[[], Made]) -> Made:
        """Call a function on every rank: on one of each node first, then on the others."""
        return function()


class MpiLink:
    """A world of several ranks.

    Attributes
    ----------
    rank, size : int
    one_node : bool
        All ranks run on one machine.
    others_know : bool
        An error of rank 0 need not end the other ranks: they were told to leave.
    dead : set of int
        Ranks that the MPI library has reported dead: Open MPI under ``mpiexec --with-ft ulfm`` does and goes on
        without them, where other libraries end the job or say nothing.
    """

    def __init__(self, mpi: Any) -> None:
        self._mpi = mpi
        self._world = mpi.COMM_WORLD.Dup()
        self._node = self._world.Split_type(mpi.COMM_TYPE_SHARED)
        self.rank = self._world.Get_rank()
        self.size = self._world.Get_size()
        crowding = self._node.Get_size() / max(len(os.sched_getaffinity(0)), 1)
        self._longest_sleep_s = min(LONGEST_SLEEP_S, 1e-3 * max(1.0, 0.5 * crowding))
        self._sent: list[tuple[Any, bytes]] = []
        self.one_node = self._world.allreduce(self._node.Get_size() == self.size, op=mpi.LAND)
        self.others_know = False
        self.dead: set[int] = set()
        self._to_report: list[int] = []

    def on_root(self, function: Callable[[], Made]) -> Made:
        """Call a function on rank 0; every rank gets its value.

        Raises
        ------
        RootFailed
            On all other ranks, where it raised a `CpxtError` on rank 0.
        """
        value, code = None, 0
        if self.rank == 0:
            try:
                value = function()
            except CpxtError as error:
                self._world.bcast((None, error.exit_code))
                self.others_know = True
                raise
        value, code = self._world.bcast((value, code))
        if code:
            raise RootFailed(code)
        return value

    def from_leader(self, function: Callable[[], Made]) -> Made:
        """Call a function on one rank of each node; all ranks of the node get its value."""
        return self._node.bcast(function() if self._node.Get_rank() == 0 else None)

    def leader_first(self, function: Callable[[], Made]) -> Made:
        """Call a function on every rank: on one of each node first, then on the others."""
        if self._node.Get_rank() == 0:
            made = function()
            self._pause_until_all(self._node)
            return made
        self._pause_until_all(self._node)
        return function()

    def send(self, destination: int, message: Message) -> None:
        """Send without waiting for the other side."""
        kind, data = encode(message)
        self._forget_what_has_gone()
        with self._noting_deaths():
            request = self._world.Isend([data, self._mpi.BYTE], dest=destination, tag=int(kind))
            self._sent.append((request, data))

    def receive(self, timeout_s: float) -> tuple[int, Message] | None:
        """The next message and its sender; None where none came in this time.

        Raises
        ------
        RootLost
        """
        sleep_s = SHORTEST_SLEEP_S
        deadline = time.monotonic() + timeout_s
        while True:
            with self._noting_deaths():
                received = self._receive_now()
                if received is not None:
                    return received
            if self._to_report:
                return self._to_report.pop(), Lost()
            if time.monotonic() >= deadline:
                return None
            time.sleep(sleep_s)
            sleep_s = min(2.0 * sleep_s, self._longest_sleep_s)

    def _receive_now(self) -> tuple[int, Message] | None:
        status = self._mpi.Status()
        if not self._world.Iprobe(source=self._mpi.ANY_SOURCE, tag=self._mpi.ANY_TAG, status=status):
            return None
        data = bytearray(status.Get_count(self._mpi.BYTE))
        self._world.Recv([data, self._mpi.BYTE], source=status.Get_source(), tag=status.Get_tag())
        return status.Get_source(), decode(status.Get_tag(), data)

    def flush(self, timeout_s: float) -> None:
        """Wait until everything sent is on its way."""
        deadline = time.monotonic() + timeout_s
        while self._sent and time.monotonic() < deadline:
            self._forget_what_has_gone()
            time.sleep(SHORTEST_SLEEP_S)

    def _forget_what_has_gone(self) -> None:
        """Drop the messages that have reached their rank, or never will."""
        waiting = []
        for request, data in self._sent:
            with self._noting_deaths():
                if not request.Test():
                    waiting.append((request, data))
        self._sent = waiting

    @contextlib.contextmanager
    def _noting_deaths(self) -> Iterator[None]:
        """Turn MPI's error that a process has failed into a note of which ones are dead."""
        try:
            yield
        except self._mpi.Exception as error:
            if error.Get_error_class() not in (self._mpi.ERR_PROC_FAILED, self._mpi.ERR_PROC_FAILED_PENDING):
                raise
            failed = self._world.Get_failed()
            self._world.Ack_failed(failed.Get_size())
            ranks = set(failed.Translate_ranks(None, self._world.Get_group())) - self.dead
            self.dead |= ranks
            if self.rank == 0:
                self._to_report += sorted(ranks)
            elif 0 in ranks:
                raise RootLost(
                    "rank 0 was killed, or its node is lost. Run the same command again: it continues."
                ) from error

    def abort(self, code: int) -> None:
        """End every rank at once, the lost ones too."""
        sys.stdout.flush()
        sys.stderr.flush()
        _remove_shared_memory()
        self._mpi.COMM_WORLD.Abort(code)

    def _pause_until_all(self, communicator: Any) -> None:
        """A barrier that sleeps: the leader compiles on the cores that waiting ranks would burn."""
        request = communicator.Ibarrier()
        while not request.Test():
            time.sleep(self._longest_sleep_s)


Link = LocalLink | MpiLink


@contextlib.contextmanager
def connect(environ: Mapping[str, str] = os.environ) -> Iterator[Link]:
    """The world of this process: MPI's where a launcher started it, else its own.

    An exception that leaves the ``with`` block ends all ranks, and the log has the traceback of the rank it came from;
    a `CpxtError` of rank 0, which the others know of, ends it alone.

    Raises
    ------
    ConfigError
        Launcher and MPI library do not belong together.
    ToolError
        mpi4py or an MPI library is missing.
    """
    if not launched(environ):
        yield LocalLink()
        return
    if "OMPI_COMM_WORLD_SIZE" in environ:
        os.environ.setdefault("MPI4PY_MPIABI", "openmpi")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ToolError(
            f"started by an MPI launcher, but MPI cannot be loaded ({error}). "
            "Run bash jobscripts/setup.sh, and load the MPI module that was loaded then."
        ) from error
    check_launcher(environ, MPI.COMM_WORLD.Get_size())
    if MPI.COMM_WORLD.Get_size() == 1:
        yield LocalLink()
        return
    link = MpiLink(MPI)
    try:
        yield link
    except RootFailed:
        raise
    except CpxtError as error:
        if link.rank == 0 and link.others_know:
            raise
        print(f"rank {link.rank} on {MPI.Get_processor_name()}: error: {error}", file=sys.stderr)
        link.abort(error.exit_code)
    except Exception:
        print(f"rank {link.rank} on {MPI.Get_processor_name()}:\n{traceback.format_exc()}", file=sys.stderr)
        link.abort(1)


def _remove_shared_memory() -> None:
    """Remove the names of mpich's shared memory, which its Abort leaves on the node until the next boot."""
    with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8") as maps:
        for path in set(re.findall(r"/dev/shm/mpich_shm_\w+", maps.read())):
            os.unlink(path)
