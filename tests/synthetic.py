"""A small made-up fit input with known truth, for tests that need regions, events and a model but no XSPEC.

The cluster is a beta model on a constant background that differs between two detector groups; observations
point a little beside each other, have a chip gap and share some masked pixels. The spectra are smooth, of the
order of those of ACIS-I, and no astrophysics. The same arguments give the same arrays.
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from cpxt_hpc.fitting.model import FitInput, ObservationInput, RegionTable
from cpxt_hpc.science.grid import PixelGrid

KEV_PER_KELVIN = 8.617385e-8
"""As AtomDB has it (CODATA 1986), so that real spectra at these temperatures are its nodes."""
LOWEST_KT_KEV, HIGHEST_KT_KEV = 0.1, 64.0
BLANK_SCALE = (0.25, 0.2)
GROUPS = ("fi", "bi")


def temperature_nodes() -> np.ndarray:
    """AtomDB's temperatures inside the searched range, and the ends of that range [keV]."""
    tabulated = KEV_PER_KELVIN * 10.0 ** np.arange(6.1, 8.85, 0.1)
    return np.concatenate([[LOWEST_KT_KEV], tabulated, [HIGHEST_KT_KEV]])


def channel_energies(n_channels: int) -> np.ndarray:
    """Energies of the channels between 0.7 and 8 keV, shape (n_channels,)."""
    edges = np.linspace(0.7, 8.0, n_channels + 1)
    return 0.5 * (edges[1:] + edges[:-1])


def made_up_nodes(n_channels: int) -> np.ndarray:
    """Count rates for norm 1 at abundance 0 and 1, shape (2, n_nodes, n_channels): 50 count/s at 6 keV."""
    energy = channel_energies(n_channels)
    kt = temperature_nodes()[:, None]
    area = np.exp(-1.3 / energy**2) / (1.0 + (energy / 5.0) ** 4)
    continuum = kt**-0.5 * np.exp(-energy / kt) * (energy / kt) ** -0.3 / energy
    iron_l = np.exp(-0.5 * ((energy - 0.95) / 0.12) ** 2) * np.exp(-0.5 * (np.log(kt / 1.1) / 0.6) ** 2)
    iron_k = np.exp(-0.5 * ((energy - 5.6) / 0.08) ** 2) * np.exp(-0.5 * (np.log(kt / 6.0) / 0.9) ** 2)
    scale = 7.3 / n_channels
    plain = 130.0 * scale * area * continuum
    return np.stack([plain, plain + scale * area * (250.0 * iron_l + 14.0 * iron_k)])


def background_templates(n_channels: int) -> np.ndarray:
    """Shapes of the background of the two groups, sum 1, shape (2, n_channels)."""
    energy = channel_energies(n_channels)
    line = np.exp(-0.5 * ((energy - 7.47) / 0.09) ** 2) + 0.7 * np.exp(-0.5 * ((energy - 2.1) / 0.08) ** 2)
    shapes = np.stack([0.6 + 0.5 / energy + line, 0.5 + 0.9 / energy + 0.4 * line + 0.05 * energy])
    return shapes / shapes.sum(axis=1, keepdims=True)


def make_fit_input(
    seed: int = 1,
    *,
    ny: int = 24,
    nx: int = 24,
    n_obs: int = 2,
    n_channels: int = 128,
    kt_kev: float | np.ndarray = 6.0,
    n_regions: int = 40,
    n_pixel_lists: int = 0,
    counts: float = 1500.0,
    background_share: float = 0.15,
    abundance: float = 0.3,
    radius_pixel: float = 4.0,
    plasma: np.ndarray | None = None,
    edge: str = "pixel",
) -> FitInput:
    """A fit input with events drawn from a known cluster.

    Parameters
    ----------
    seed : int
    ny, nx : int
        Size of the image; at least 8.
    n_obs, n_channels : int
    kt_kev : float or ndarray, shape (ny, nx)
        True temperature [keV].
    n_regions : int
        Number of regions, at unmasked pixels spread evenly over the image; the same pixel may come again.
    n_pixel_lists : int
        So many of the regions, the last ones, are given as lists of pixels in place of circles.
    counts : float
        Expected counts in a central circle of `radius_pixel`, background included, in one full observation.
    background_share : float
        Part of these that is background.
    abundance : float
    radius_pixel : float
        Radius of the innermost regions; it grows outwards up to three times that.
    plasma : ndarray, shape (2, n_nodes, n_channels), optional
        Count rates for norm 1 at abundance 0 and 1 at the `temperature_nodes`, in place of the made-up ones.
    edge : str
        exact: every event gets a random place in its pixel, and the setting says so.

    Returns
    -------
    FitInput
        Its ``surface_brightness`` is the true norm of each pixel, so a region's true norm is its sum over the
        region's pixels.
    """
    rng = np.random.default_rng(seed)
    grid = PixelGrid(250.0, 10.0, 3900.5, 3900.5, nx, ny)
    row, column = np.mgrid[:ny, :nx]
    distance = np.hypot(row - (ny - 1) / 2, column - (nx - 1) / 2)
    shape = (1.0 + (distance / (0.25 * min(ny, nx))) ** 2) ** -1.0
    nodes = made_up_nodes(n_channels) if plasma is None else plasma
    n_channels = nodes.shape[2]
    templates = background_templates(n_channels)
    exposure_s = 4.0e4
    central = distance <= radius_pixel
    middle_rate = _model_at(nodes, abundance, np.array([float(np.mean(kt_kev))]))[0].sum()
    norm_image = shape * counts * (1.0 - background_share) / (shape[central].sum() * middle_rate * exposure_s)
    surface_brightness = norm_image.astype(np.float32)
    background_level = counts * background_share / central.sum()

    masked = _masked_pixels(ny, nx)
    kt_image = np.broadcast_to(np.asarray(kt_kev, dtype=float), (ny, nx))
    observations = tuple(
        _draw_observation(
            rng,
            j,
            masked=masked,
            norm_image=surface_brightness.astype(float),
            kt_image=kt_image,
            background_level=background_level,
            exposure_s=exposure_s * (1.0 - 0.25 * j / max(n_obs, 1)),
            nodes=(1.0 - 0.07 * j) * nodes,
            templates=templates,
            abundance=abundance,
        )
        for j in range(n_obs)
    )
    regions = _regions(masked, distance, n_regions, n_pixel_lists, radius_pixel)
    settings = {
        "nH": 0.05,
        "redshift": 0.2,
        "abundance": abundance,
        "statistic": "cstat",
        "energy_min": 0.7,
        "energy_max": 8.0,
        "seed": seed,
    }
    if edge == "exact":
        settings["edge"] = edge
        observations = tuple(_with_positions(np.random.default_rng([seed, o.obsid]), o) for o in observations)
    arguments = (seed, ny, nx, n_obs, n_channels, n_regions, n_pixel_lists, counts, background_share)
    digest = hashlib.sha256(repr((*arguments, abundance, radius_pixel)).encode() + kt_image.tobytes())
    return FitInput(
        name="synthetic",
        grid=grid,
        regions=regions,
        observations=observations,
        surface_brightness=surface_brightness,
        kt_nodes_kev=temperature_nodes(),
        nh_nodes_1e22=np.array([0.05]),
        abundance=abundance,
        settings=settings,
        binning_digest=digest.hexdigest()[:16],
    )


def _masked_pixels(ny: int, nx: int) -> np.ndarray:
    """Two point sources and a corner beside the field."""
    masked = np.zeros((ny, nx), dtype=bool)
    masked[ny // 4, nx // 3 : nx // 3 + 2] = True
    masked[(2 * ny) // 3, (3 * nx) // 4] = True
    row, column = np.mgrid[:ny, :nx]
    masked[row + column < min(ny, nx) // 6] = True
    return masked


def _model_at(nodes: np.ndarray, abundance: float, kt_kev: np.ndarray) -> np.ndarray:
    """Rates for norm 1 at temperatures, linear between the nodes, shape (len(kt_kev), n_channels)."""
    kt_nodes = temperature_nodes()
    spectra = nodes[0] + abundance * (nodes[1] - nodes[0])
    k = np.clip(np.searchsorted(kt_nodes, kt_kev) - 1, 0, len(kt_nodes) - 2)
    part = ((kt_kev - kt_nodes[k]) / (kt_nodes[k + 1] - kt_nodes[k]))[:, None]
    return (1.0 - part) * spectra[k] + part * spectra[k + 1]


def _draw_observation(
    rng, j, *, masked, norm_image, kt_image, background_level, exposure_s, nodes, templates, abundance
):
    ny, nx = masked.shape
    row, column = np.mgrid[:ny, :nx]
    offset = np.hypot(row - 0.4 * ny, column - (0.35 + 0.3 * j) * nx)
    fraction = 1.0 - 0.25 * (offset / max(ny, nx)) ** 2
    gap = (2 * nx) // 5 + 2 * j
    fraction[:, gap] *= 0.4
    if j > 0:  # a later pointing leaves one side of the image outside its field
        fraction[:, : nx // 3] = 0.0
    fraction[masked] = 0.0
    fraction = fraction.astype(np.float32)
    background = np.zeros((len(GROUPS), ny, nx), dtype=np.float32)
    background[0][:, :gap] = background_level
    background[1][:, gap:] = 1.4 * background_level
    background[:, fraction == 0] = 0.0

    rates = _model_at(nodes, abundance, kt_image.reshape(-1))
    source = (norm_image * fraction).reshape(-1, 1) * exposure_s * rates
    expected = source + np.einsum("gp,gc->pc", background.reshape(len(GROUPS), -1), templates)
    pixel_start, channel = _events(rng.poisson(expected))

    blank_counts = [
        rng.poisson(background[g].reshape(-1, 1) / BLANK_SCALE[g] * templates[g]) for g in range(len(GROUPS))
    ]
    # The groups' pixels do not overlap, so the sum keeps both and the group follows from the pixel.
    blank_start, blank_channel = _events(sum(blank_counts))
    pixel = np.repeat(np.arange(ny * nx), np.diff(blank_start))
    return ObservationInput(
        obsid=90001 + j,
        exposure_s=exposure_s,
        pixel_start=pixel_start,
        channel=channel,
        blank_pixel_start=blank_start,
        blank_channel=blank_channel,
        blank_scale=np.array(BLANK_SCALE),
        blank_group=(pixel % nx >= gap).astype(np.uint8),
        exposure_fraction=fraction,
        background_counts=background,
        background_template=templates,
        groups=GROUPS,
        nodes=nodes[None, None],
        background_scale_error=np.zeros(len(GROUPS)),
        **one_response(ny, nx, nodes.shape[-1]),
    )


def _with_positions(rng, observation):
    places = {
        name: rng.uniform(-0.5, 0.5, len(events)).astype(np.float32)
        for names, events in (("event_x event_y", observation.channel), ("blank_x blank_y", observation.blank_channel))
        for name in names.split()
    }
    return dataclasses.replace(observation, **places)


def one_response(ny: int, nx: int, n_channels: int) -> dict:
    """The fields of an observation with one made-up response: energies are channels, each with 100 cm2."""
    edges = np.linspace(0.7, 8.0, n_channels + 1)
    nothing = np.zeros(0, dtype=np.float32)
    return {
        "event_x": nothing,
        "event_y": nothing,
        "blank_x": nothing,
        "blank_y": nothing,
        "response_index": np.zeros((ny, nx), dtype=np.uint8),
        "response_part": np.zeros((ny, nx), dtype=np.float32),
        "arf_iy": np.nan,
        "arf_ix": np.nan,
        "arf_energy_edges_kev": edges,
        "arf_area_cm2": np.full((1, n_channels), 100.0),
        "rmf_start": np.arange(n_channels + 1, dtype=np.int64),
        "rmf_column": np.arange(n_channels, dtype=np.int32),
        "rmf_value": np.ones(n_channels),
        "channel_low_kev": edges[:-1],
        "channel_high_kev": edges[1:],
        "first_rmf_channel": 1,
        "first_channel": 1,
    }


def _events(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Events sorted by pixel from counts, shape (n_pixels, n_channels)."""
    pixel_start = np.concatenate([[0], np.cumsum(counts.sum(axis=1))]).astype(np.int64)
    n_channels = counts.shape[1]
    channel = np.repeat(np.tile(np.arange(n_channels), len(counts)), counts.reshape(-1)).astype(np.uint16)
    return pixel_start, channel


def _regions(masked, distance, n_regions, n_pixel_lists, radius_pixel):
    ny, nx = masked.shape
    free = np.flatnonzero(~masked)
    chosen = np.sort(free[(np.arange(n_regions) * len(free)) // max(n_regions, 1) % len(free)])
    iy, ix = chosen // nx, chosen % nx
    growth = 1.0 + 2.0 * distance[iy, ix] / max(distance.max(), 1.0)
    radius = np.round(radius_pixel * growth / 0.125) * 0.125
    n_circles = n_regions - n_pixel_lists
    row, column = np.mgrid[:ny, :nx]
    lists = [
        np.flatnonzero((np.abs(row - iy[i]) + np.abs(column - ix[i]) <= radius[i]) & ~masked)
        for i in range(n_circles, n_regions)
    ]
    radius[n_circles:] = 0.0
    lengths = np.concatenate([np.zeros(n_circles, dtype=np.int64), [len(pixels) for pixels in lists]])
    return RegionTable(
        number=np.arange(1, n_regions + 1, dtype=np.int32),
        iy=iy.astype(np.int32),
        ix=ix.astype(np.int32),
        radius=radius.astype(np.float64),
        pixel_start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        pixels=np.concatenate([np.zeros(0, dtype=np.int64), *lists]).astype(np.int64),
    )
