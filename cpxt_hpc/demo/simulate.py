"""Photons through mirror, dither and chips: the events of one observation and of its blank-sky file."""

from __future__ import annotations

import dataclasses

import numpy as np

from cpxt_hpc.demo import instrument
from cpxt_hpc.demo.cluster import DemoCluster
from cpxt_hpc.demo.instrument import Pointing
from cpxt_hpc.demo.spectra import channel_energies_kev, draw_channels
from cpxt_hpc.io.vignetting_table import hrma_vignetting
from cpxt_hpc.science.events import PI_CHANNEL_EV
from cpxt_hpc.science.grid import SKY_PIXEL_ARCSEC, sky_wcs
from cpxt_hpc.science.vignetting import relative_area

PARTICLE_RATE_PER_S = 0.62
SKY_RATE_PER_S = 0.18
"""Blank-sky count rates of the four chips, 0.3-12 keV, mirror-focused sky apart."""

CHIP_AREA_ARCSEC2 = 4.0 * (1022 * SKY_PIXEL_ARCSEC) ** 2


@dataclasses.dataclass(frozen=True)
class Observation:
    """What distinguishes one observation.

    Attributes
    ----------
    obsid : int
    pointing : Pointing
    start_s : float
        Mission time of the first frame.
    ontime_s : float
    share : float
        Part of the cluster's expected counts that this observation would collect on the axis: its part of the
        exposure.
    background_scale : float
        Background level relative to the blank sky.
    flare_s : tuple of float or None
        Start and stop of a flare, seconds from the start.
    flare_factor : float
        Background rate during the flare over the quiet one.
    lost_s : dict of int to tuple of float
        Interval lost on a CCD, seconds from the start.
    """

    obsid: int
    pointing: Pointing
    start_s: float
    ontime_s: float
    share: float
    background_scale: float
    flare_s: tuple[float, float] | None = None
    flare_factor: float = 5.0
    lost_s: dict[int, tuple[float, float]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Channel probabilities of every component: ``regions`` of shape (n_regions, 1024), the others (1024,)."""

    regions: np.ndarray
    source: np.ndarray
    sky: np.ndarray
    particle: np.ndarray
    flare: np.ndarray


@dataclasses.dataclass(frozen=True)
class Photons:
    """Events before they are binned into frames: sky pixel, time since the start [s], channel."""

    x: np.ndarray
    y: np.ndarray
    time_s: np.ndarray
    channel: np.ndarray


def _join(parts: list[Photons]) -> Photons:
    return Photons(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(Photons))
    )


def observation_events(
    cluster: DemoCluster, observation: Observation, shapes: Shapes, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Columns of an observation's event list, sorted by time.

    Parameters
    ----------
    cluster, observation, shapes
    rng : numpy.random.Generator

    Returns
    -------
    dict of str to ndarray, shape (n_events,)
        expno, time (mission time), ccd_id, node_id, chipx ... y, pi, energy (eV).
    """
    parts = [
        _cluster_photons(cluster, observation, shapes, rng),
        _source_photons(cluster, observation, shapes, rng),
    ]
    live = observation.ontime_s * instrument.DTCOR
    parts += _background_photons(
        observation.pointing, observation.ontime_s, live * observation.background_scale, shapes, rng
    )
    if observation.flare_s:
        parts.append(_flare_photons(observation, shapes, rng))
    return _detect(_join(parts), observation, rng)


def blank_sky_events(
    observation: Observation, shapes: Shapes, exposure_factor: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Columns of a blank-sky event list of ``exposure_factor`` times the observation's exposure, in its sky frame."""
    ontime = observation.ontime_s * exposure_factor
    quiet = dataclasses.replace(observation, ontime_s=ontime, lost_s={}, start_s=2.0e8)
    return _detect(
        _join(_background_photons(observation.pointing, ontime, ontime * instrument.DTCOR, shapes, rng)),
        quiet,
        rng,
    )


def _cluster_photons(
    cluster: DemoCluster, observation: Observation, shapes: Shapes, rng: np.random.Generator
) -> Photons:
    n = rng.poisson(cluster.counts * observation.share)
    x_arcsec, y_arcsec = cluster.draw_positions(n, rng)
    index = cluster.region_index(x_arcsec, y_arcsec)
    channel = np.zeros(n, dtype=np.int64)
    for number, shape in enumerate(shapes.regions):
        inside = index == number
        channel[inside] = draw_channels(shape, int(inside.sum()), rng)
    return _imaged(cluster, observation, x_arcsec, y_arcsec, channel, rng)


def _source_photons(
    cluster: DemoCluster, observation: Observation, shapes: Shapes, rng: np.random.Generator
) -> Photons:
    counts = [rng.poisson(source.counts * observation.share) for source in cluster.sources]
    x_arcsec = np.repeat([source.x_arcsec for source in cluster.sources], counts)
    y_arcsec = np.repeat([source.y_arcsec for source in cluster.sources], counts)
    return _imaged(cluster, observation, x_arcsec, y_arcsec, draw_channels(shapes.source, len(x_arcsec), rng), rng)


def sky_from_offsets(
    cluster: DemoCluster, pointing: Pointing, x_arcsec: np.ndarray, y_arcsec: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sky pixels of an observation at offsets [arcsec] from the cluster's centre (in its own tangent plane)."""
    centre = sky_wcs(cluster.ra_deg, cluster.dec_deg)
    ra, dec = centre.all_pix2world(
        instrument.AXIS_PIXEL + x_arcsec / SKY_PIXEL_ARCSEC,
        instrument.AXIS_PIXEL + y_arcsec / SKY_PIXEL_ARCSEC,
        1,
    )
    x, y = sky_wcs(pointing.ra_deg, pointing.dec_deg).all_world2pix(ra, dec, 1)
    return x, y


def _imaged(cluster, observation, x_arcsec, y_arcsec, channel, rng) -> Photons:
    """Lose photons off the axis to vignetting, blur positions by the point-spread function, give arrival times.

    Spectra are those on the axis; a photon's energy is taken to be that of its channel.
    """
    x, y = sky_from_offsets(cluster, observation.pointing, x_arcsec, y_arcsec)
    off_axis_arcmin = np.hypot(x - instrument.AXIS_PIXEL, y - instrument.AXIS_PIXEL) * SKY_PIXEL_ARCSEC / 60.0
    passes = rng.random(len(x)) < relative_area(hrma_vignetting(), channel_energies_kev()[channel - 1], off_axis_arcmin)
    x, y, channel, off_axis_arcmin = (values[passes] for values in (x, y, channel, off_axis_arcmin))
    sigma = instrument.psf_sigma_arcsec(off_axis_arcmin) / SKY_PIXEL_ARCSEC
    n = len(channel)
    return Photons(
        x + sigma * rng.standard_normal(n),
        y + sigma * rng.standard_normal(n),
        rng.uniform(0.0, observation.ontime_s, n),
        channel,
    )


def _background_photons(
    pointing: Pointing, ontime_s: float, exposure_s: float, shapes: Shapes, rng: np.random.Generator
) -> list[Photons]:
    """Particles, uniform on the chips, and sky photons, uniform on the sky."""
    n = rng.poisson(PARTICLE_RATE_PER_S * exposure_s)
    particles = _on_chips(pointing, rng.uniform(0.0, ontime_s, n), draw_channels(shapes.particle, n, rng), rng)
    half_width = 1450.0
    area_arcsec2 = (2.0 * half_width * SKY_PIXEL_ARCSEC) ** 2
    n = rng.poisson(SKY_RATE_PER_S * area_arcsec2 / CHIP_AREA_ARCSEC2 * exposure_s)
    x, y = instrument.AXIS_PIXEL + rng.uniform(-half_width, half_width, (2, n))
    return [particles, Photons(x, y, rng.uniform(0.0, ontime_s, n), draw_channels(shapes.sky, n, rng))]


def _flare_photons(observation: Observation, shapes: Shapes, rng: np.random.Generator) -> Photons:
    start, stop = observation.flare_s
    quiet_rate = (PARTICLE_RATE_PER_S + SKY_RATE_PER_S) * observation.background_scale
    n = rng.poisson((observation.flare_factor - 1.0) * quiet_rate * (stop - start) * instrument.DTCOR)
    return _on_chips(observation.pointing, rng.uniform(start, stop, n), draw_channels(shapes.flare, n, rng), rng)


def _on_chips(pointing: Pointing, time_s: np.ndarray, channel: np.ndarray, rng: np.random.Generator) -> Photons:
    """Photons that hit the chips uniformly."""
    n = len(time_s)
    low, high = instrument.ACTIVE_PIXELS[0] - 0.5, instrument.ACTIVE_PIXELS[1] + 0.5
    chipx, chipy = rng.uniform(low, high, (2, n))
    detx, dety = instrument.detector_from_chip(rng.integers(0, len(instrument.CCDS), n), chipx, chipy)
    x, y = pointing.sky_from_detector(detx, dety, time_s)
    return Photons(x, y, time_s, channel)


def _detect(photons: Photons, observation: Observation, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Put photons on the chips; those that miss them, or come while a chip loses frames, are gone."""
    detx, dety = observation.pointing.detector_from_sky(photons.x, photons.y, photons.time_s)
    ccd_id, chipx, chipy = instrument.chip_from_detector(detx, dety)
    keep = ccd_id >= 0
    for ccd, (start, stop) in observation.lost_s.items():
        keep &= (ccd_id != ccd) | (photons.time_s < start) | (photons.time_s >= stop)
    order = np.flatnonzero(keep)[np.argsort(photons.time_s[keep], kind="stable")]
    tdetx, tdety = instrument.tdet_from_detector(detx, dety)
    frame = np.floor(photons.time_s[order] / instrument.FRAME_S).astype(np.int64)
    channel = photons.channel[order]
    n = len(order)
    grade = rng.choice(np.array([0, 2, 3, 4, 6]), n, p=[0.5, 0.16, 0.12, 0.12, 0.1])
    return {
        "time": observation.start_s + (frame + 0.5) * instrument.FRAME_S,
        "expno": frame + 5,
        "ccd_id": ccd_id[order],
        "node_id": np.clip((chipx[order] - 0.5) // 256, 0, 3),
        "chipx": np.rint(chipx[order]),
        "chipy": np.rint(chipy[order]),
        "tdetx": np.rint(tdetx[order]),
        "tdety": np.rint(tdety[order]),
        "detx": detx[order],
        "dety": dety[order],
        "x": photons.x[order],
        "y": photons.y[order],
        "pha": np.rint(channel * 3.45),
        "energy": (channel - rng.random(n)) * PI_CHANNEL_EV,
        "pi": channel,
        "fltgrade": np.choose(np.searchsorted([0, 2, 3, 4, 6], grade), [0, 64, 8, 16, 10]),
        "grade": grade,
    }
