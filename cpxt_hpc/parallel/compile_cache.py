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

    On one node the user's own cache folder serves, where `cpxt-prep` has left its compiled functions too, if it can be
    written: where nothing is kept every rank would compile for itself.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    if not (link.one_node and link.from_leader(_user_cache_is_writable)):
        os.environ["NUMBA_CACHE_DIR"] = str(link.from_leader(private_folder))


def _user_cache_is_writable() -> bool:
    """Whether the user's cache folder, or what it would be made in, may be written."""
    place = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    while not place.exists() and place != place.parent:
        place = place.parent
    return place.is_absolute() and os.access(place, os.W_OK | os.X_OK)
