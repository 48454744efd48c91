"""Fold the plasma model through the responses of every observation, over the whole field of each."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math

import numpy as np

from cpxt_hpc.errors import DataError
from cpxt_hpc.fitting.node_choice import TOLERANCE
from cpxt_hpc.fitting.nodes import FoldedNodes, fold_nodes, hydrogen_columns
from cpxt_hpc.io.events import read_pointing
from cpxt_hpc.io.ogip import read_responses
from cpxt_hpc.io.vignetting_table import hrma_vignetting
from cpxt_hpc.layout import ObservationLayout
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.response import EffectiveArea, Redistribution, channels_in_band
from cpxt_hpc.science.vignetting import (
    BRIGHTNESS_ENERGY_KEV,
    basis_angles,
    off_axis_angles_arcmin,
    relative_area,
    vignetted_areas,
)
from cpxt_hpc.stages.arf_place import ArfPlace, arf_places
from cpxt_hpc.stages.base import StageContext
from cpxt_hpc.stages.map_exposure import map_exposure_s
from cpxt_hpc.stages.tiles import laid_out_tiles, tile_areas

logger = logging.getLogger(__name__)

NOTABLE_SHARE_BEYOND = 0.001


@dataclasses.dataclass(frozen=True)
class FieldResponses:
    """The responses of one observation over the map, before the model is folded. Images have the shape (ny, nx).

    Attributes
    ----------
    redistribution : Redistribution
    energy_edges_kev : ndarray of float64, shape (n_energies + 1,)
    area_cm2 : ndarray of float64, shape (n_responses, n_energies)
    index : ndarray of uint8
    part : ndarray of float32
        The light of a pixel is folded with (1 - part) x response[index] + part x response[index + 1].
    relative_area : ndarray of float64
        Effective area over that on the axis at `BRIGHTNESS_ENERGY_KEV`; 1 without vignetting.
    arf_iy, arf_ix : float
        Image pixel of the place for which the ARF was made; NaN where not known.
    """

    redistribution: Redistribution
    energy_edges_kev: np.ndarray
    area_cm2: np.ndarray
    index: np.ndarray
    part: np.ndarray
    relative_area: np.ndarray
    arf_iy: float
    arf_ix: float


@dataclasses.dataclass(frozen=True)
class FoldedField:
    """The model folded through the responses of all observations.

    Attributes
    ----------
    channel : ndarray of int64, shape (n_channels,)
        Numbers of the fitted channels, the same for all observations.
    nodes : FoldedNodes
        Its ``rates`` are those of all responses behind each other.
    nh_1e22 : ndarray of float64, shape (n_nh,)
    responses : tuple of FieldResponses
        One an observation.
    rates : tuple of ndarray of float64, each of shape (n_responses, n_nh, 2, n_nodes, n_channels)
        One an observation.
    """

    channel: np.ndarray
    nodes: FoldedNodes
    nh_1e22: np.ndarray
    responses: tuple[FieldResponses, ...]
    rates: tuple[np.ndarray, ...]


def fold_field(context: StageContext, grid: PixelGrid, mask: np.ndarray) -> FoldedField:
    """Fold the model of ``cluster.ini`` through the responses that the pixels of a map need.

    Parameters
    ----------
    context : StageContext
    grid : PixelGrid
    mask : ndarray of bool, shape (ny, nx)
        Pixels of the map.

    Raises
    ------
    MissingInput, DataError, ToolError
        A file is missing or does not go with the others; XSPEC fails.
    """
    config, fit = context.config, context.config.fit
    responses = _field_responses(context, grid, mask)
    channel, kept = _fitted_channels(context, responses)
    pairs = [
        (EffectiveArea(field.energy_edges_kev, area), field.redistribution)
        for field in responses
        for area in field.area_cm2
    ]
    counts = [len(field.area_cm2) for field in responses]
    nh_1e22 = hydrogen_columns(config.nh_1e22, is_free="nH" in fit.free.split(","))
    nodes = fold_nodes(
        pairs,
        [inside for inside, count in zip(kept, counts, strict=True) for _ in range(count)],
        redshift=config.cluster.redshift,
        nh_1e22=nh_1e22,
        plasma=fit.plasma,
        absorption=fit.absorption,
        abundance_table=fit.abundance_table,
        cross_sections=fit.cross_sections,
        apec_root=fit.apec_root or None,
    )
    if nodes.model_error > 0.0:
        logger.log(
            logging.WARNING if nodes.model_error > TOLERANCE else logging.INFO,
            "%s is not linear in kT: tabulated at %d temperatures, a spectrum is off by at most %.2g of its counts",
            fit.plasma, len(nodes.kt_kev), nodes.model_error,
        )  # fmt: skip
    ends = np.cumsum([0, *counts])
    rates = tuple(np.stack(nodes.rates[first:last]) for first, last in itertools.pairwise(ends))
    return FoldedField(channel, nodes, nh_1e22, responses, rates)


def _fitted_channels(
    context: StageContext, responses: tuple[FieldResponses, ...]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Numbers of the fitted channels, and where they are among the channels of each observation."""
    fit, layout = context.config.fit, context.layout
    paths = [layout.observation(obsid).rmf for obsid in context.config.obsids]
    kept = [channels_in_band(field.redistribution, fit.energy_min_kev, fit.energy_max_kev) for field in responses]
    numbers = [field.redistribution.channel[inside] for field, inside in zip(responses, kept, strict=True)]
    channel = numbers[0]
    for own, path in zip(numbers, paths, strict=True):
        if not np.array_equal(own, channel):
            raise DataError(
                f"{path}: channels {own[0]} to {own[-1]} lie in {fit.energy_min_kev:g} to "
                f"{fit.energy_max_kev:g} keV, in {paths[0]} channels {channel[0]} to {channel[-1]}. "
                "All responses must have the same EBOUNDS."
            )
    return channel, kept


def _field_responses(context: StageContext, grid: PixelGrid, mask: np.ndarray) -> tuple[FieldResponses, ...]:
    is_vignetted = context.config.response.vignetting == "hrma"
    places = arf_places(context, grid)
    fields = []
    for obsid in context.config.obsids:
        observation, place = context.layout.observation(obsid), places[obsid]
        area, redistribution = read_responses(observation.arf, observation.rmf)
        if context.config.response.tiles == "auto" and laid_out_tiles(observation):
            fields.append(_tiled(context, observation, area, redistribution, grid))
        elif is_vignetted:
            used = map_exposure_s(observation, grid, mask) > 0.0
            angles = off_axis_angles_arcmin(grid, *pointing_of(observation))
            fields.append(_vignetted(obsid, area, redistribution, angles, used, place))
        else:
            fields.append(
                FieldResponses(
                    redistribution, area.energy_edges_kev, area.area_cm2[None],
                    index=np.zeros(grid.shape, dtype=np.uint8), part=np.zeros(grid.shape, dtype=np.float32),
                    relative_area=np.ones(grid.shape), arf_iy=place.iy, arf_ix=place.ix,
                )
            )  # fmt: skip
    return tuple(fields)


def _tiled(
    context: StageContext,
    observation: ObservationLayout,
    area: EffectiveArea,
    redistribution: Redistribution,
    grid: PixelGrid,
) -> FieldResponses:
    """Responses of an observation whose tiles have their own ARFs."""
    areas, index = tile_areas(context.layout, observation, grid)
    at_brightness = int(np.searchsorted(area.energy_edges_kev, BRIGHTNESS_ENERGY_KEV)) - 1
    relative = areas[:, at_brightness] / areas[:, at_brightness].max()
    return FieldResponses(
        redistribution, area.energy_edges_kev, areas, index=index, part=np.zeros(grid.shape, dtype=np.float32),
        relative_area=relative[index], arf_iy=math.nan, arf_ix=math.nan,
    )  # fmt: skip


def pointing_of(observation: ObservationLayout) -> tuple[float, float]:
    """Direction of the optical axis, RA and Dec [deg].

    Raises
    ------
    DataError
        The event file does not tell.
    """
    pointing = read_pointing(observation.clean_events)
    if pointing is None:
        raise DataError(
            f"{observation.clean_events}: has neither RA_PNT, DEC_PNT nor RA_NOM, DEC_NOM. Take the event file "
            "that chandra_repro made and run stage 1 (merge) again, or set [response] vignetting = none."
        )
    return pointing


def _vignetted(
    obsid: int,
    area: EffectiveArea,
    redistribution: Redistribution,
    angles_arcmin: np.ndarray,
    used: np.ndarray,
    place: ArfPlace,
) -> FieldResponses:
    """Responses of an observation at the off-axis angles that its exposed pixels need."""
    table = hrma_vignetting()
    basis = basis_angles(table, angles_arcmin, used)
    logger.info(
        "ObsID %d: ARF made %.1f arcmin off axis (%s); vignetted for %g to %g arcmin", obsid, place.off_axis_arcmin,
        place.told_by, basis.off_axis_arcmin[0], basis.off_axis_arcmin[-1],
    )  # fmt: skip
    largest = table.off_axis_arcmin[-1]
    beyond = np.count_nonzero(used & (angles_arcmin > largest)) / max(np.count_nonzero(used), 1)
    if beyond > NOTABLE_SHARE_BEYOND:
        logger.warning(
            "ObsID %d: %.1f %% of its pixels in the map lie more than %g arcmin off axis, where the vignetting is not "
            "known: that of %g arcmin is taken.", obsid, 100.0 * beyond, largest, largest,
        )  # fmt: skip
    return FieldResponses(
        redistribution,
        area.energy_edges_kev,
        vignetted_areas(
            table, area.energy_edges_kev, area.area_cm2, basis.off_axis_arcmin, made_at_arcmin=place.off_axis_arcmin
        ),
        index=basis.index,
        part=basis.part,
        relative_area=relative_area(table, BRIGHTNESS_ENERGY_KEV, angles_arcmin),
        arf_iy=place.iy,
        arf_ix=place.ix,
    )
