"""A large made-up map for the benchmarks: one observation, real spectra, as many regions as it has pixels."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from acis import ABUNDANCE
from synthetic import background_templates, one_response, temperature_nodes

from cpxt_hpc.fitting.model import FitInput, ObservationInput, RegionTable
from cpxt_hpc.science.grid import SKY_REFERENCE_PIXEL, PixelGrid
from cpxt_hpc.science.packing import sort_by_pixel
from cpxt_hpc.science.vignetting import VignettingTable, between, relative_area

EXPOSURE_S = 1e5
PIXEL_ARCMIN = 4 * 0.492 / 60.0


def large_map(
    seed: int,
    *,
    side: int,
    n_events: int,
    nodes: np.ndarray,
    vignetting: VignettingTable | None = None,
    core_pixel: float = 60.0,
    flat_share: float = 0.3,
    background_share: float = 0.15,
    edge: str = "pixel",
) -> FitInput:
    """A fit input without regions: a cluster on a flat background in a square image.

    Parameters
    ----------
    seed : int
    side : int
        Side of the image [pixel].
    n_events : int
    nodes : ndarray, shape (2, n_nodes, n_channels)
        Count rates for norm 1 at abundance 0 and 1, at ``synthetic.temperature_nodes()``.
    vignetting : VignettingTable, optional
        With it the map has a response for each of its off-axis angles that the image needs.
    core_pixel : float
        Core radius of the cluster.
    flat_share : float
        Part of the cluster's light that is spread evenly.
    background_share : float
        Part of the events that is background.
    edge : str
        pixel or exact.

    Returns
    -------
    FitInput
        kT falls from 9 keV in the middle to 4 keV at the rim.
    """
    rng = np.random.default_rng(seed)
    n_channels = nodes.shape[2]
    y, x = np.indices((side, side)) - 0.5 * (side - 1)
    distance = np.hypot(x, y)
    core = (1.0 + (distance / core_pixel) ** 2) ** -1.5
    light = (1.0 - flat_share) * core / core.sum() + flat_share / core.size
    template = background_templates(n_channels)[:1]
    spectra = nodes[0] + ABUNDANCE * (nodes[1] - nodes[0])

    n_source = int(n_events * (1.0 - background_share))
    pixel = rng.choice(light.size, n_events, p=light.ravel())
    pixel[n_source:] = rng.integers(0, light.size, n_events - n_source)
    step = np.minimum((distance.ravel()[pixel] / distance.max() * 20).astype(int), 19)
    channel = np.empty(n_events, dtype=np.uint16)
    for each in range(20):
        kt = np.interp(each, [0, 19], [9.0, 4.0])
        shape = np.array([np.interp(kt, temperature_nodes(), rates) for rates in spectra.T])
        own = np.flatnonzero((step == each) & (np.arange(n_events) < n_source))
        channel[own] = rng.choice(n_channels, len(own), p=shape / shape.sum())
    channel[n_source:] = rng.choice(n_channels, n_events - n_source, p=template[0])
    corner = SKY_REFERENCE_PIXEL - 2.0 * side
    grid = PixelGrid(150.0, 22.0, corner, corner, side, side)
    # Rounded as in an event file: a few events change their pixel.
    sky_x, sky_y = (
        place.astype(np.float32)
        for place in grid.sky_from_image(*(np.divmod(pixel, side)[::-1] + rng.uniform(-0.5, 0.5, (2, n_events))))
    )
    pixel_start, channel, event_x, event_y = sort_by_pixel(
        grid.pixel_index(sky_x, sky_y), light.size, channel, *grid.place_in_pixel(sky_x, sky_y)
    )

    fields = one_response(side, side, n_channels)
    fields["nodes"] = nodes[None, None]
    if vignetting is not None:
        fields |= _vignetted(nodes, vignetting, distance * PIXEL_ARCMIN)
    if edge == "exact":
        fields |= {"event_x": event_x, "event_y": event_y}
    background = np.full((1, side, side), background_share * n_events / light.size, dtype=np.float32)
    observation = ObservationInput(
        obsid=90001,
        exposure_s=EXPOSURE_S,
        pixel_start=pixel_start,
        channel=channel,
        blank_pixel_start=np.zeros(light.size + 1, dtype=np.int64),
        blank_channel=np.zeros(0, dtype=np.uint16),
        blank_scale=np.ones(1),
        blank_group=np.zeros(0, dtype=np.uint8),
        exposure_fraction=np.ones((side, side), dtype=np.float32),
        background_counts=background,
        background_template=template,
        background_scale_error=np.full(1, 0.01),
        groups=("FI",),
        **fields,
    )
    return FitInput(
        name="made_up",
        grid=grid,
        regions=_no_regions(),
        observations=(observation,),
        surface_brightness=light.astype(np.float32),
        kt_nodes_kev=temperature_nodes(),
        nh_nodes_1e22=np.array([0.05]),
        abundance=ABUNDANCE,
        settings={"edge": edge},
        binning_digest=f"benchmark {seed} {side} {n_events}",
    )


def circles(iy: np.ndarray, ix: np.ndarray, radius: np.ndarray) -> RegionTable:
    """A table of circles, numbered from 1."""
    n = len(iy)
    return RegionTable(
        np.arange(1, n + 1, dtype=np.int32), iy.astype(np.int32), ix.astype(np.int32), radius.astype(np.float64),
        np.zeros(n + 1, dtype=np.int64), np.zeros(0, dtype=np.int64),
    )  # fmt: skip


def _no_regions() -> RegionTable:
    return circles(*np.zeros((3, 0)))


def _vignetted(nodes: np.ndarray, table: VignettingTable, off_axis_arcmin: np.ndarray) -> dict:
    """Responses at the table's angles; the model is dimmed by channel in place of by energy, which costs the same."""
    n_angles = int(np.searchsorted(table.off_axis_arcmin, off_axis_arcmin.max())) + 1
    angles = table.off_axis_arcmin[:n_angles]
    energy_kev = np.linspace(0.7, 8.0, nodes.shape[2])
    index, part = between(angles, off_axis_arcmin)
    return {
        "nodes": (nodes * relative_area(table, energy_kev, angles[:, None])[:, None, None])[:, None],
        "arf_area_cm2": np.full((len(angles), nodes.shape[2]), 100.0),
        "response_index": index.astype(np.uint8),
        "response_part": part.astype(np.float32),
    }
