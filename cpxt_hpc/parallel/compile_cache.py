"""Where ranks keep compiled functions: on the node's own disk, in a folder that nobody else can write."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from cpxt_hpc.parallel.transport import Link


def private_folder() -> Path:
    """A folder on this node that belongs to this user alone; it lasts from job to job where it can.

    The cache holds pickles: in a folder that others may write, it would run their code.
    """
    folder = Path(tempfile.gettempdir(), f"cpxt_hpc_compiled_{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="cpxt_hpc_compiled_"))
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return folder if private else Path(tempfile.mkdtemp(prefix="cpxt_hpc_compiled_"))


def use_node_cache(link: Link) -> None:
    """Let numba keep compiled functions on each node, before numba is imported; a folder that the user chose stays.

    On one node the user's own cache folder serves, where `cpxt-prep` has left its compiled functions too.
    """
    if not link.one_node and "NUMBA_CACHE_DIR" not in os.environ:
        os.environ["NUMBA_CACHE_DIR"] = str(link.from_leader(private_folder))
