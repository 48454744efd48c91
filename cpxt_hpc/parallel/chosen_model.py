"""The fit input with the model that ``cluster.ini`` asks for, folded anew where stage 5 folded with other settings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import shlex
from collections.abc import Mapping
from pathlib import Path

from cpxt_hpc.config import ClusterConfig
from cpxt_hpc.errors import ConfigError, MissingInput, OutputError, ToolError
from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.io.nodes_file import read_nodes, write_nodes
from cpxt_hpc.layout import ClusterLayout

FOLD_SETTINGS = ("nH_1e22", "redshift", "plasma", "absorption", "abundance_table", "cross_sections")
"""Settings on which the folded model depends, and nothing else does."""

log = logging.getLogger("cpxt_hpc.fit")


def with_chosen_model(
    config: ClusterConfig, layout: ClusterLayout, fit_input: FitInput
) -> tuple[FitInput, Path | None]:
    """The fit input with the abundance and the folded model of the configuration.

    Parameters
    ----------
    config : ClusterConfig
    layout : ClusterLayout
    fit_input : FitInput
        As stage 5 wrote it.

    Returns
    -------
    FitInput
    Path or None
        File with the folded model, where it is not the one of stage 5.

    Raises
    ------
    ConfigError
        A value is not set.
    DataError, MissingInput, OutputError, ToolError
        The model cannot be folded here.
    """
    fit_input = with_abundance(fit_input, _abundance(config))
    wanted = _wanted(config)
    free_nh = "nH" in config.fit.free.split(",")
    if _is_folded(fit_input, wanted, free_nh=free_nh):
        return fit_input, None
    key = json.dumps([wanted, free_nh, config.fit.apec_root, fit_input.settings.get("data_digest")], sort_keys=True)
    path = layout.nodes(hashlib.sha256(key.encode()).hexdigest()[:12])
    if not path.is_file():
        _fold(config, fit_input, wanted, path, free_nh=free_nh)
    return with_abundance(read_nodes(path, fit_input), fit_input.abundance), path


def with_abundance(fit_input: FitInput, abundance: float) -> FitInput:
    """The fit input with another frozen abundance, for which nothing needs to be folded."""
    settings = {**fit_input.settings, "abundance": abundance}
    return dataclasses.replace(fit_input, abundance=abundance, settings=settings)


def _abundance(config: ClusterConfig) -> float:
    if config.cluster.abundance is None:
        raise ConfigError(f"{config.path}: [cluster] abundance is not set. Set it; 0.3 is usual for clusters.")
    return float(config.cluster.abundance)


def _wanted(config: ClusterConfig) -> dict[str, str | float]:
    if config.nh_1e22 is None or config.cluster.redshift is None:
        raise ConfigError(f"{config.path}: [cluster] hydrogen_column_density and redshift must be set.")
    fit = config.fit
    values = (config.nh_1e22, config.cluster.redshift, fit.plasma, fit.absorption, fit.abundance_table,
              fit.cross_sections)  # fmt: skip
    return dict(zip(FOLD_SETTINGS, values, strict=True))


def _is_folded(fit_input: FitInput, wanted: dict[str, str | float], *, free_nh: bool) -> bool:
    return not differing_settings(fit_input.settings, wanted) and (not free_nh or len(fit_input.nh_nodes_1e22) > 1)


def differing_settings(then: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Settings that differ, with both values; those that one of the two does not know do not count."""
    return [
        f"{key} {then[key]!r}, in cluster.ini {'not set' if value is None else repr(value)}"
        for key, value in now.items()
        if key in then and not _same(then[key], value)
    ]


def _same(then: object, now: object) -> bool:
    """Whether two settings are equal; 5e20 over 1e22 and 0.05 are."""
    if isinstance(then, (int, float)) and isinstance(now, (int, float)):
        return math.isclose(then, now, rel_tol=1e-12)
    return then == now


def _fold(
    config: ClusterConfig, fit_input: FitInput, wanted: dict[str, str | float], path: Path, *, free_nh: bool
) -> None:
    # Loads astropy, which a fit with the model of stage 5 does without.
    from cpxt_hpc.fitting.refold import refolded

    differing = "; ".join(differing_settings(fit_input.settings, wanted)) or "nH frozen, in cluster.ini free"
    log.info("the model is folded anew: in the fit input %s", differing)
    try:
        anew = refolded(fit_input, wanted, free_nh=free_nh, apec_root=config.fit.apec_root or None)
        write_nodes(path, anew)
    except (MissingInput, OutputError, ToolError) as error:
        raise type(error)(
            f"{config.path} asks for another model than stage 5 folded ({differing}), and here it cannot be folded: "
            f"{error} Restore the value, or run where XSPEC is at hand: cpxt-prep {shlex.quote(str(config.path))} "
            "--stage 5"
        ) from error
