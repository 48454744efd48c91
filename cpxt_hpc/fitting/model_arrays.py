"""Types and shapes of the arrays of a fit input, and the check that they hold."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.model import FitInput, ObservationInput

MOST_OBSERVATIONS = 64
"""A result names those that took part by the bits of one integer."""

ROOT_ARRAYS = {"kt_nodes_kev": ("<f8", 1), "nh_nodes_1e22": ("<f8", 1), "surface_brightness": ("<f4", 2)}
REGION_ARRAYS = {
    "number": ("<i4", 1),
    "iy": ("<i4", 1),
    "ix": ("<i4", 1),
    "radius": ("<f8", 1),
    "pixel_start": ("<i8", 1),
    "pixels": ("<i8", 1),
}
OBSERVATION_ARRAYS = {
    "pixel_start": ("<i8", 1),
    "channel": ("<u2", 1),
    "blank_pixel_start": ("<i8", 1),
    "blank_channel": ("<u2", 1),
    "blank_scale": ("<f8", 1),
    "blank_group": ("<u1", 1),
    "event_x": ("<f4", 1),
    "event_y": ("<f4", 1),
    "blank_x": ("<f4", 1),
    "blank_y": ("<f4", 1),
    "exposure_fraction": ("<f4", 2),
    "background_counts": ("<f4", 3),
    "background_template": ("<f8", 2),
    "background_scale_error": ("<f8", 1),
    "response_index": ("<u1", 2),
    "response_part": ("<f4", 2),
    "nodes": ("<f8", 5),
    "arf_energy_edges_kev": ("<f8", 1),
    "arf_area_cm2": ("<f8", 2),
    "rmf_start": ("<i8", 1),
    "rmf_column": ("<i4", 1),
    "rmf_value": ("<f8", 1),
    "channel_low_kev": ("<f8", 1),
    "channel_high_kev": ("<f8", 1),
}
OBSERVATION_NUMBERS = {
    "obsid": int,
    "exposure_s": float,
    "arf_iy": float,
    "arf_ix": float,
    "first_rmf_channel": int,
    "first_channel": int,
}


def shape_fault(fit_input: FitInput) -> str:
    """Say what is wrong with the types, shapes and indices of a fit input; empty where nothing is."""
    if len(fit_input.observations) > MOST_OBSERVATIONS:
        return f"{len(fit_input.observations)} observations, expected at most {MOST_OBSERVATIONS}"
    n_pixels = fit_input.grid.nx * fit_input.grid.ny
    n_nodes = len(fit_input.kt_nodes_kev)
    n_regions = len(fit_input.regions)
    records = [
        ("", fit_input, ROOT_ARRAYS, {"surface_brightness": fit_input.grid.shape}),
        (
            "regions.",
            fit_input.regions,
            REGION_ARRAYS,
            dict.fromkeys(("iy", "ix", "radius"), (n_regions,)) | {"pixel_start": (n_regions + 1,)},
        ),
    ]
    starts = [("regions.", fit_input.regions, "pixel_start", "pixels")]
    n_channels = None
    for observation in fit_input.observations:
        label, n_groups = f"observation {observation.obsid}: ", len(observation.groups)
        n_channels = n_channels or np.shape(observation.nodes)[-1]
        records.append(
            (
                label,
                observation,
                OBSERVATION_ARRAYS,
                {
                    "pixel_start": (n_pixels + 1,),
                    "blank_pixel_start": (n_pixels + 1,),
                    "blank_group": np.shape(observation.blank_channel),
                    "exposure_fraction": fit_input.grid.shape,
                    "background_counts": (n_groups, *fit_input.grid.shape),
                    "background_template": (n_groups, n_channels),
                    "background_scale_error": (n_groups,),
                    "response_index": fit_input.grid.shape,
                    "response_part": fit_input.grid.shape,
                    "nodes": (len(observation.arf_area_cm2), len(fit_input.nh_nodes_1e22), 2, n_nodes, n_channels),
                    "arf_area_cm2": (len(observation.arf_area_cm2), len(observation.arf_energy_edges_kev) - 1),
                    "rmf_start": np.shape(observation.arf_energy_edges_kev),
                    "rmf_column": np.shape(observation.rmf_value),
                    "channel_high_kev": np.shape(observation.channel_low_kev),
                },
            )
        )
        starts.append((label, observation, "pixel_start", "channel"))
        starts.append((label, observation, "blank_pixel_start", "blank_channel"))
        starts.append((label, observation, "rmf_start", "rmf_value"))
    for label, record, arrays, shapes in records:
        for name, (dtype, ndim) in arrays.items():
            values = getattr(record, name)
            if values.dtype != np.dtype(dtype) or values.ndim != ndim:
                return (
                    f"{label}{name} is {values.dtype} with {values.ndim} axes, expected {np.dtype(dtype)} with {ndim}"
                )
            if name in shapes and values.shape != shapes[name]:
                return f"{label}{name} has the shape {values.shape}, expected {shapes[name]}"
    for label, record, start, target in starts:
        ends = getattr(record, start)
        if ends[0] != 0 or ends[-1] != len(getattr(record, target)):
            return (
                f"{label}{start} runs from {ends[0]} to {ends[-1]}, "
                f"but {target} has {len(getattr(record, target))} entries"
            )
    exact_edge = fit_input.settings.get("edge") == "exact"
    for observation in fit_input.observations:
        fault = _position_fault(observation, exact_edge) or _response_fault(observation)
        if fault:
            return f"observation {observation.obsid}: {fault}"
    return ""


def _position_fault(observation: ObservationInput, exact_edge: bool) -> str:
    """What is wrong with the positions of events."""
    for x, y, channel in (("event_x", "event_y", "channel"), ("blank_x", "blank_y", "blank_channel")):
        lengths = [len(getattr(observation, name)) for name in (x, y)]
        expected = len(getattr(observation, channel)) if exact_edge else 0
        if lengths != [expected, expected]:
            return f"{x} and {y} have {lengths[0]} and {lengths[1]} entries, expected {expected}"
    return ""


def _response_fault(observation: ObservationInput) -> str:
    """What is wrong with the indices of responses."""
    highest = int(np.max(observation.response_index + (observation.response_part > 0), initial=0))
    if highest >= len(observation.arf_area_cm2):
        return f"response_index reaches response {highest} of {len(observation.arf_area_cm2)}"
    return ""
