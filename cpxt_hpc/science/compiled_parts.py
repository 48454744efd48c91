"""Parts of compiled functions: how they are compiled, and how one is chosen by the type of what it works on.

By itself numba optimises every function as soon as it is compiled, with all that it calls, and turns it into machine
code: of a tower of functions the lowest are optimised once for each level above them. Parts are only ever called from
compiled functions, so what counts is the code of the uppermost one, which holds them all.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.extending import overload


class _PartLibrary(JITCodeLibrary):
    """The code of a part: linked together from its own parts, neither optimised nor turned into machine code."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> Any:
        # No machine code, no place for the pointer to the environment that numba wants to note there.
        return types.SimpleNamespace(set_env=lambda name, environment: None)


class PartCompiler(Compiler):
    """Numba's compiler for functions that only compiled functions call."""

    def compile_extra(self, func: Any) -> Any:
        """Compile a Python function."""
        self.state.library = _PartLibrary(self.state.targetctx.codegen(), func.__qualname__)
        return super().compile_extra(func)


def part_options(fastmath: frozenset[str] | bool = False) -> dict[str, Any]:
    """Numba's options for a part; `fastmath` as in `cpxt_hpc.science.compiled.compiled`."""
    return {
        "error_model": "numpy",
        "fastmath": set(fastmath) if fastmath else False,
        "no_cfunc_wrapper": True,
        "no_cpython_wrapper": True,
        "pipeline_class": PartCompiler,
    }


def chosen_by_type(
    kernels: dict[type, Callable], *, fastmath: frozenset[str] | bool = False
) -> Callable[[Callable], Callable]:
    """Decorate a function so that compiled callers call another one, by the named tuple that its first argument is.

    Parameters
    ----------
    kernels : dict of type to callable
        Python functions, not compiled ones, by the class of the named tuple. Their arguments have the same names as
        the decorated function's. Only those that are called are compiled.
    fastmath : frozenset of str or bool

    Returns
    -------
    callable
        The decorator. The function decorated is for reading: its name and docstring.
    """
    bare = {kind: types.FunctionType(k.__code__, k.__globals__, k.__name__) for kind, k in kernels.items()}

    def decorate(function: Callable) -> Callable:
        def choose(*arguments):
            return bare[arguments[0].instance_class]

        unannotated = [p.replace(annotation=p.empty) for p in inspect.signature(function).parameters.values()]
        choose.__signature__ = inspect.Signature(unannotated)
        overload(function, jit_options=part_options(fastmath))(choose)
        return function

    return decorate
