"""Folded models beside the fit input, ``acb/<name>_nodes_<digest>.h5``: for settings other than stage 5 folded with.

/                  attributes format, version, software, settings
/kt_nodes_kev, /nh_nodes_1e22
/nodes/0000        folded model of each observation, as in `ObservationInput`
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np

import cpxt_hpc
from cpxt_hpc.errors import DataError, OutputError
from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.io.atomic import replacing

FORMAT = "cpxt_hpc folded model"
VERSION = 1


def write_nodes(path: Path, fit_input: FitInput) -> None:
    """Write the folded model of a fit input, whole or not at all.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    with replacing(path) as temporary:
        try:
            with h5py.File(temporary, "w") as file:
                file.attrs["format"] = FORMAT
                file.attrs["version"] = VERSION
                file.attrs["software"] = f"cpxt_hpc {cpxt_hpc.__version__}"
                file.attrs["settings"] = json.dumps(fit_input.settings, sort_keys=True)
                file["kt_nodes_kev"] = fit_input.kt_nodes_kev
                file["nh_nodes_1e22"] = fit_input.nh_nodes_1e22
                for position, observation in enumerate(fit_input.observations):
                    file[f"nodes/{position:04d}"] = observation.nodes
        except (OSError, RuntimeError) as error:
            raise OutputError(f"{path}: cannot be written ({error}). Make room, then run again.") from error


def read_nodes(path: Path, fit_input: FitInput) -> FitInput:
    """The fit input with the folded model of a file.

    Raises
    ------
    DataError
        The file is damaged, or does not go with the fit input.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs["format"] != FORMAT or file.attrs["version"] != VERSION:
                raise ValueError("of another format or version")
            settings = json.loads(file.attrs["settings"])
            kt, nh = file["kt_nodes_kev"][()], file["nh_nodes_1e22"][()]
            nodes = [file[f"nodes/{position:04d}"][()] for position in range(len(fit_input.observations))]
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: no folded model ({error}). Remove it: cpxt-fit makes it again.") from error
    observations = []
    for observation, own in zip(fit_input.observations, nodes, strict=True):
        expected = (len(observation.arf_area_cm2), len(nh), 2, len(kt), observation.nodes.shape[-1])
        if own.shape != expected or not np.all(np.isfinite(own)):
            raise DataError(
                f"{path}: the model of ObsID {observation.obsid} has the shape {own.shape}, expected {expected}, all "
                "finite. Remove it: cpxt-fit makes it again."
            )
        observations.append(dataclasses.replace(observation, nodes=own))
    return dataclasses.replace(
        fit_input, observations=tuple(observations), kt_nodes_kev=kt, nh_nodes_1e22=nh, settings=settings
    )
