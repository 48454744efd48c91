"""The main lock of a checkpoint: one job writes it, wherever on the shared file system the other one runs.

Two locks in one, because neither is enough: ``flock`` on ``<stem>.lock`` is exact on one machine, but some file systems
grant it on two machines at once; an owner file ``<stem>.owner``, made with O_EXCL and touched every half minute, holds
between machines, but survives its maker.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import logging
import os
import socket
import time
from pathlib import Path

from cpxt_hpc.errors import CheckpointHeld, OutputError

STALE_AFTER_S = 600.0
"""An owner of another machine that was silent for so long is taken for dead."""

BEAT_EVERY_S = 30.0

OWNER_BYTES = 2048

_NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)

_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Owner:
    """Who writes a checkpoint.

    Attributes
    ----------
    host : str
    pid : int
    started_ticks : int
        When the process started, as the kernel counts; tells it from a later one of the same number.
    job : str
        Number of the batch job, empty outside of one.
    job_restart : int
        How often the batch system has started the job again.
    since : str
        ISO time at which the lock was taken.
    about : dict
        What else the owner tells: number of workers, fits at its start.
    """

    host: str
    pid: int
    started_ticks: int
    job: str
    job_restart: int
    since: str
    about: dict

    def __str__(self) -> str:
        job = f"job {self.job}, " if self.job else ""
        return f"{job}process {self.pid} on {self.host} since {self.since}"


def this_process() -> Owner:
    """The owner record of this process, now."""
    return Owner(
        host=socket.gethostname(),
        pid=os.getpid(),
        started_ticks=_started_ticks(os.getpid()),
        job=os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID") or "",
        job_restart=int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        since=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        about={},
    )


def current_owner(owner_path: Path) -> Owner | None:
    """Who holds a checkpoint now, for a reader; None where nobody does or its holder is dead."""
    read = _read_owner(owner_path)
    if read is None:
        return None
    owner, heartbeat = read
    return None if _is_dead(owner, time.time() - heartbeat, this_process()) else owner


class MainLock:
    """The lock of a checkpoint, held until `release`.

    Parameters
    ----------
    lock_path, owner_path : Path
    break_lock : bool
        Take the lock from an owner of another machine that seems alive.

    Raises
    ------
    CheckpointHeld
        Another process holds it: says which and since when.
    OutputError
        The lock files cannot be written.
    """

    def __init__(self, lock_path: Path, owner_path: Path, *, break_lock: bool = False) -> None:
        self._lock_path = lock_path
        self._owner_path = owner_path
        self._owner = this_process()
        self._owner_descriptor = -1
        self._inode = 0
        self._beaten = time.monotonic()
        try:
            lock_path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise OutputError(f"{lock_path}: cannot be written ({error.strerror}). Get write permission.") from error
        try:
            self._take_flock()
            self._take_owner_file(break_lock)
        except BaseException:
            for descriptor in (self._owner_descriptor, self._descriptor):
                if descriptor >= 0:
                    os.close(descriptor)
            raise

    def beat(self) -> None:
        """Show that this process lives; cheap, to be called often.

        Raises
        ------
        CheckpointHeld
            Another job has broken the lock.
        """
        if time.monotonic() - self._beaten < BEAT_EVERY_S:
            return
        self._beaten = time.monotonic()
        self.check()
        with contextlib.suppress(OSError):
            os.utime(self._owner_path)

    def tell(self, about: dict) -> None:
        """Change what the owner file tells besides host, process and time."""
        self._owner = dataclasses.replace(self._owner, about=about)
        with contextlib.suppress(OSError):
            self._write_owner()

    def check(self) -> None:
        """Raise `CheckpointHeld` if the owner file is no longer that of this process."""
        try:
            mine = os.stat(self._owner_path).st_ino == self._inode
        except OSError:
            mine = False
        if not mine:
            read = _read_owner(self._owner_path)
            raise CheckpointHeld(
                f"{self._lock_path.with_suffix('.h5')}: the lock of this job was taken over by "
                f"{read[0] if read else 'another job'}; this job stops without writing more."
            )

    def release(self) -> None:
        """Let go; the second time nothing happens."""
        if self._descriptor < 0:
            return
        with contextlib.suppress(OSError):
            if os.stat(self._owner_path).st_ino == self._inode:
                os.unlink(self._owner_path)
        os.close(self._owner_descriptor)
        os.close(self._descriptor)
        self._descriptor = -1

    def _write_owner(self) -> None:
        # One write of one size: a reader never sees half of it.
        text = json.dumps(dataclasses.asdict(self._owner)).encode().ljust(OWNER_BYTES)
        os.pwrite(self._owner_descriptor, text, 0)

    def _take_flock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            read = _read_owner(self._owner_path)
            raise self._held(str(read[0]) if read else "another process") from error
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise OutputError(f"{self._lock_path}: cannot be locked ({error.strerror}).") from error
            log.warning("%s: this file system has no flock; the owner file alone guards it", self._lock_path)

    def _take_owner_file(self, break_lock: bool) -> None:
        # Filled first and then linked to its name, which fails where that is taken: no owner file is ever half
        # written. Where the file system knows no links, made and filled.
        mine = self._owner_path.with_name(f"{self._owner_path.name}.{self._owner.host}.{self._owner.pid}")
        try:
            self._owner_descriptor = os.open(mine, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            self._write_owner()
            self._inode = os.fstat(self._owner_descriptor).st_ino
            for _ in range(3):
                try:
                    self._claim(mine)
                    return
                except FileExistsError:
                    self._remove_dead_owner(break_lock)
        except OSError as error:
            raise OutputError(f"{self._owner_path}: cannot be written ({error.strerror}).") from error
        finally:
            mine.unlink(missing_ok=True)
        raise self._held("another process that started at the same moment")

    def _claim(self, mine: Path) -> None:
        try:
            os.link(mine, self._owner_path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            descriptor = os.open(self._owner_path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            os.close(self._owner_descriptor)
            self._owner_descriptor = descriptor
            self._inode = os.fstat(descriptor).st_ino
            self._write_owner()

    def _remove_dead_owner(self, break_lock: bool) -> None:
        read = _read_owner(self._owner_path)
        if read is None:
            return
        owner, heartbeat = read
        # Times of the same file server: clocks of two machines may differ.
        os.utime(self._lock_path)
        silent_s = os.stat(self._lock_path).st_mtime - heartbeat
        if not _is_dead(owner, silent_s, self._owner):
            if not break_lock or owner.host == self._owner.host:
                raise self._held(str(owner))
            log.warning("breaking the lock of %s", owner)
        aside = self._owner_path.with_name(f"{self._owner_path.name}.{self._owner.host}.{self._owner.pid}.dead")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._owner_path, aside)
            moved = _read_owner(aside)
            if moved is not None and moved[0] != owner:
                # A third process was quicker and this is its new file: give it back.
                os.link(aside, self._owner_path)
                os.unlink(aside)
                raise self._held(str(moved[0]))
            os.unlink(aside)

    def _held(self, holder: str) -> CheckpointHeld:
        return CheckpointHeld(
            f"{self._lock_path.with_suffix('.h5')} is held by {holder}. Wait for it or stop it, or choose another "
            "[fit] label. If it runs on another machine and is surely dead: --break-lock."
        )


def _read_owner(path: Path) -> tuple[Owner, float] | None:
    """Owner and time of the last heartbeat; None where there is no file."""
    try:
        heartbeat = os.stat(path).st_mtime
        text = path.read_text(encoding="utf-8")
    except OSError:
        return None
    try:
        return Owner(**json.loads(text)), heartbeat
    except (ValueError, TypeError):
        # Between making and filling it on a file system without links, or a machine that died then.
        return Owner("(unknown machine)", 0, 0, "", 0, "(unknown time)", {}), heartbeat


def _is_dead(owner: Owner, silent_s: float, me: Owner) -> bool:
    if owner.host == me.host:
        return _started_ticks(owner.pid) != owner.started_ticks
    if owner.job and owner.job == me.job and me.job_restart > owner.job_restart:
        return True
    return silent_s > STALE_AFTER_S


def _started_ticks(pid: int) -> int:
    """Start time of a process in kernel ticks; -1 where there is none (a zombie is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] in "ZX" else int(fields[19])
