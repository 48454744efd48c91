"""What a fit job needs to know, from ``cluster.ini`` and the fit input."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import numpy as np

from cpxt_hpc.config import ClusterConfig
from cpxt_hpc.errors import CheckpointMismatch, ConfigError, DataError
from cpxt_hpc.fitting.model import FitInput, RegionTable
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.io.command_list import read_command_list
from cpxt_hpc.io.fit_input import read_fit_input
from cpxt_hpc.io.nodes_file import read_nodes
from cpxt_hpc.io.provenance import Provenance
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.parallel.chosen_model import differing_settings, with_abundance
from cpxt_hpc.parallel.work import foreign_rows, positions_of
from cpxt_hpc.science.maps import belongs_to_resolution

DEFAULT_RESOLUTION = 2


@dataclasses.dataclass(frozen=True)
class FitPlan:
    """What every rank is told.

    Attributes
    ----------
    fit_input : Path
    nodes : Path or None
        File with the folded model, where it is not the one of the fit input.
    identity : str
        Of the fit input as its file has it, see `input_identity`.
    abundance : float
    settings : FitSettings
    positions : ndarray of int64
        Regions to fit, as places in the region table.
    """

    fit_input: Path
    nodes: Path | None
    identity: str
    abundance: float
    settings: FitSettings
    positions: np.ndarray


def check_against_fit_input(config: ClusterConfig, fit_input: FitInput, path: Path) -> None:
    """Refuse a fit input that was made with other settings than ``cluster.ini`` has now, the model's aside.

    Raises
    ------
    ConfigError
        Names every setting that differs, with both values and the command to run.
    """
    now = {
        "obsids": ",".join(map(str, config.obsids)),
        "signal_to_noise": config.cluster.signal_to_noise,
        **dataclasses.asdict(config.binning),
        **background_settings(config),
        **dataclasses.asdict(config.response),
        "energy_min_kev": config.fit.energy_min_kev,
        "energy_max_kev": config.fit.energy_max_kev,
    }
    differing = differing_settings(fit_input.settings, now)
    if differing:
        raise ConfigError(
            f"{path} was made with other settings than {config.path} has now: {'; '.join(differing)}. "
            f"Restore the value, or run: cpxt-prep {shlex.quote(str(config.path))} --stage 5"
        )


def read_planned_input(plan: FitPlan) -> FitInput:
    """The fit input with the model of the plan, on ranks that did not make the plan.

    Raises
    ------
    DataError
        It was replaced since the plan was made.
    """
    fit_input = read_fit_input(plan.fit_input)
    if input_identity(fit_input) != plan.identity:
        raise DataError(f"{plan.fit_input} was replaced while the job started. Run it again when cpxt-prep has ended.")
    if plan.nodes is not None:
        fit_input = read_nodes(plan.nodes, fit_input)
    return with_abundance(fit_input, plan.abundance)


def input_identity(fit_input: FitInput) -> str:
    """What tells one fit input from another: its binning, its data, and the settings of its folded model."""
    return Provenance(fit_input.settings, fit_input.binning_digest).settings_digest + fit_input.binning_digest


def background_settings(config: ClusterConfig) -> dict[str, object]:
    """Settings of the background that stage 5 packs; its systematic error is the fit's."""
    return {key: value for key, value in dataclasses.asdict(config.background).items() if key != "systematic"}


def fit_provenance(config: ClusterConfig, fit_input: FitInput) -> Provenance:
    """What the fits of this input under this configuration are made with."""
    settings = dataclasses.asdict(fit_settings(config))
    # The version of the tables, which counts, is in the fit input; a time limit changes no number.
    del settings["apec_root"], settings["region_timeout"]
    return Provenance({**fit_input.settings, **settings}, fit_input.binning_digest)


def fit_settings(config: ClusterConfig) -> FitSettings:
    """How this configuration fits."""
    names = {field.name for field in dataclasses.fields(FitSettings)}
    chosen = {**dataclasses.asdict(config.fit), "systematic": config.background.systematic}
    return FitSettings(**{name: value for name, value in chosen.items() if name in names})


def selected_positions(
    layout: ClusterLayout, regions: RegionTable, resolution: int | None, commands: Path | None
) -> np.ndarray:
    """Regions that a job is asked for, as places in the region table.

    The command list of stage 5, or a piece of it, says what there is to do; a number that stands there twice counts
    once. A piece is done as it stands, where no resolution is named.

    Raises
    ------
    MissingInput, DataError
        The list is missing, or names regions that the fit input does not have.
    """
    path = commands or layout.commands
    positions, unknown = positions_of(regions, read_command_list(path))
    if len(unknown):
        raise DataError(
            f"{path} names {len(unknown)} regions that {layout.fit_input.name} does not have (the first: "
            f"{unknown[0]}). It belongs to another binning: take the list that cpxt-prep --stage 5 wrote last."
        )
    if resolution is None and commands is not None:
        return positions
    iy, ix = np.asarray(regions.iy)[positions], np.asarray(regions.ix)[positions]
    return positions[belongs_to_resolution(iy, ix, resolution or DEFAULT_RESOLUTION)]


def check_rows(path: Path, regions: RegionTable, rows: np.ndarray) -> None:
    """Refuse fits that lie at other pixels or have other radii than the regions of their numbers.

    Raises
    ------
    CheckpointMismatch
    """
    foreign = foreign_rows(regions, rows)
    if foreign.any():
        raise CheckpointMismatch(
            f"{path}: {int(foreign.sum())} fits, first region {rows['region'][foreign][0]}, do not lie where the fit "
            "input has these regions. Choose another [fit] label, or use --restart."
        )
