"""Which toolchain is used."""

from __future__ import annotations

from cpxt_hpc.config import ClusterConfig
from cpxt_hpc.errors import ToolError
from cpxt_hpc.toolchain.base import Toolchain
from cpxt_hpc.toolchain.builtin import BuiltinToolchain


def choose_toolchain(config: ClusterConfig, *, named: str | None = None, processes: int = 1) -> Toolchain:
    """The toolchain of a cluster.

    Parameters
    ----------
    config : ClusterConfig
    named : {'auto', 'builtin', 'ciao'}, optional
        By default ``[tools] toolchain``. auto: ciao where ``ciao_contrib`` can be imported.
    processes : int
        Calls of tools at the same time.

    Raises
    ------
    ToolError
        CIAO is wanted, and not there.
    """
    wanted = named or config.tools.toolchain
    if wanted == "builtin":
        return BuiltinToolchain()

    from cpxt_hpc.toolchain.ciao import CiaoToolchain, ciao_is_there
    from cpxt_hpc.toolchain.ciao_steps import Limits

    if not ciao_is_there():
        if wanted == "auto":
            return BuiltinToolchain()
        raise ToolError(
            "toolchain ciao: Python cannot import ciao_contrib. Start CIAO, in an environment made with CIAO's Python "
            "(README, with CIAO), or use --toolchain builtin on files that are in place."
        )
    return CiaoToolchain(
        Limits(processes, 3600.0 * config.tools.time_limit_h),
        vfaint_cleaning=config.tools.vfaint_cleaning == "yes",
        tiles=config.response.tiles == "auto",
    )
