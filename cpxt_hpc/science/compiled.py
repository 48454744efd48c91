"""How the package compiles its loops: numba, with a cache that cannot be stale and need not be writable."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import config

from cpxt_hpc.science.compiled_parts import part_options

REASSOCIATE = frozenset({"reassoc", "contract", "nsz"})
"""Freedom to reorder sums, so that they use vector instructions. NaN and infinity keep their meaning."""

_IMPORT = re.compile(r"^from (cpxt_hpc(?:\.\w+)+) import (\([^)]*\)|.*)$", re.MULTILINE)


def compiled(
    function: Callable | None = None, *, fastmath: frozenset[str] | bool = False, part: bool = False
) -> Callable:
    """Decorate a function so that numba compiles it at the first call, and keeps the result on disk.

    The cache lies in $NUMBA_CACHE_DIR, else in ``~/.cache/cpxt_hpc/numba``, in a folder named after the source of
    all compiled functions: numba itself looks only at the file of the function called, not at those that it calls.
    Where no such folder can be written, others may write it, or its disk is full, the function is compiled anew in
    every process.

    Parameters
    ----------
    function : callable
    fastmath : frozenset of str or bool
        Freedoms of LLVM for floating-point numbers; see `REASSOCIATE`.
    part : bool
        Only other compiled functions call this one: it compiles faster, and is kept with them.

    Returns
    -------
    callable
    """
    if function is None:
        return functools.partial(compiled, fastmath=fastmath, part=part)
    options = {
        "nopython": True,
        "error_model": "numpy",
        "fastmath": set(fastmath) if fastmath else False,
        "no_cfunc_wrapper": True,
    }
    if part:
        return numba.jit(nopython=True, **part_options(fastmath))(function)
    before = config.CACHE_DIR
    try:
        config.CACHE_DIR = str(_made_private(cache_folder()))
        dispatcher = numba.jit(cache=True, **options)(function)
        _forgive(dispatcher._cache)
        return dispatcher
    except (RuntimeError, OSError):  # no place to write
        return numba.jit(**options)(function)
    finally:
        config.CACHE_DIR = before


def _forgive(cache: Any) -> None:
    """Let numba do without a cache that cannot be read or written; by itself it would fail the call, and the fit."""
    load, save = cache.load_overload, cache.save_overload

    def load_if_readable(signature: Any, target_context: Any) -> Any:
        _load_array_functions()
        try:
            return load(signature, target_context)
        except Exception:  # a damaged pickle may raise anything
            with contextlib.suppress(OSError):
                cache.flush()
            return None

    def save_if_possible(signature: Any, result: Any) -> None:
        with contextlib.suppress(OSError):
            save(signature, result)

    cache.load_overload, cache.save_overload = load_if_readable, save_if_possible


@functools.cache
def _load_array_functions() -> None:
    """Load numba's array functions, as any compiled function needs them, without SciPy's linear algebra.

    They would load it to see whether it is there: 9 MB and 0.2 s for every rank, and nothing here calls it.
    """
    unused = "scipy.linalg"
    if unused in sys.modules:
        return
    sys.modules[unused] = None
    try:
        with contextlib.suppress(ImportError):
            importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules[unused]


def cache_folder() -> Path:
    """Folder of the compiled functions of this version of the source."""
    if config.CACHE_DIR:
        base = Path(config.CACHE_DIR)
    else:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        base = Path(home, "cpxt_hpc", "numba")
    return base / f"kernels-{source_digest()}"


def _made_private(folder: Path) -> Path:
    """Make a folder that only this user can write: it holds pickles, which run whatever somebody has put into them."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise OSError(f"{folder} may be written by others")
    return folder


@functools.cache
def source_digest() -> str:
    """Digest of every module that has compiled functions, or what these import: constants are compiled in."""
    package = Path(__file__).resolve().parents[1]
    sources = {
        f"cpxt_hpc.{path.parent.name}.{path.stem}": path.read_text(encoding="utf-8")
        for path in [*package.glob("science/*.py"), *package.glob("fitting/*.py")]
    }
    digest = hashlib.sha256()
    for name in sorted(modules_compiled_in(sources)):
        digest.update(f"{name}\n{sources[name]}".encode())
    return digest.hexdigest()[:16]


def modules_compiled_in(sources: dict[str, str]) -> set[str]:
    """Names of the modules, of these sources by name, whose change may change a compiled function."""
    found = {name for name, source in sources.items() if "science.compiled import" in source}
    waiting = list(found)
    while waiting:
        source = sources[waiting.pop()]
        imported = {module for module, _ in _IMPORT.findall(source)}
        imported |= {
            f"{folder}.{name}" for folder, names in _IMPORT.findall(source) for name in re.findall(r"\w+", names)
        }
        new = (imported & sources.keys()) - found
        found |= new
        waiting += new
    return found
