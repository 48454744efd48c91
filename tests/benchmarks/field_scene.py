"""A synthetic field whose background is as awkward as the real one, and what is truly expected in every pixel.

Two pointings 8 arcmin apart on ACIS-I; the mirror's energy-dependent vignetting; particles whose level and whose lines
differ from CCD to CCD; a blank sky with a sky of its own; observations with more soft foreground and more unresolved
sources. The observations are drawn as events and go through the stages; expected spectra of circles are exact.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from cpxt_hpc.demo import instrument
from cpxt_hpc.demo.instrument import Pointing
from cpxt_hpc.demo.spectra import FLUORESCENCE_LINES_KEV, LINE_WIDTH_KEV, channel_energies_kev
from cpxt_hpc.fitting.xspec import evaluate_additive
from cpxt_hpc.io.datafiles import response_files
from cpxt_hpc.io.events import write_events
from cpxt_hpc.io.ogip import read_responses
from cpxt_hpc.io.vignetting_table import hrma_vignetting
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.events import PI_CHANNEL_EV, EventList
from cpxt_hpc.science.grid import SKY_PIXEL_ARCSEC
from cpxt_hpc.science.response import EffectiveArea, fold
from cpxt_hpc.science.sky_foreground import power_law_photons
from cpxt_hpc.science.vignetting import between, vignetted_areas

RA_DEG, DEC_DEG = 150.0, 22.0
OBSIDS = (70001, 70002)
OFFSET_ARCMIN = 4.0
ROLLS_DEG = (77.0, 248.0)
NH_1E22, REDSHIFT, ABUNDANCE = 0.05, 0.2, 0.3
START_S = 5.0e8

PARTICLES_PER_S = 0.62
"""All four chips, 0.3-12 keV."""
LINE_STRENGTH = {0: 0.7, 1: 1.4, 2: 0.8, 3: 1.2}
LEVEL = {70001: {0: 0.95, 1: 1.10, 2: 0.98, 3: 1.05}, 70002: {0: 1.02, 1: 0.93, 2: 1.08, 3: 0.97}}
"""Particles of the observations over those of the blank sky, by CCD."""

BLANK_NORMS = (1.0e-6, 6.5e-7)
SKY_NORMS = (3.5e-6, 8.5e-7)
"""Plasma of 0.2 keV and power law of the blank sky and of the observations: XSPEC's norms per arcmin2."""

CORE_ARCMIN, EVENTS_KT_KEV = 5.0, 6.0
BOX_ARCMIN = 24.0
CHIP_PIXELS = instrument.ACTIVE_PIXELS[1] - instrument.ACTIVE_PIXELS[0] + 1


@dataclasses.dataclass(frozen=True)
class Scene:
    """Count spectra of all components, on channels 1 to 1024.

    Attributes
    ----------
    sky : ndarray, shape (2, n_angles, 1024)
        Plasma and power law for norm 1 [count/s] at the angles of the vignetting table.
    cluster : dict of float to ndarray, shape (n_angles, 1024)
        The cluster's plasma by kT.
    particles : dict of int to ndarray, shape (1024,)
        By CCD [count/s] on the whole chip, in the blank sky.
    central_norm : float
        Cluster's norm per arcmin2 at its centre.
    edge_arcmin : float
        Where the cluster ends.
    sky_norms : tuple of float
        Plasma and power law of the observations' sky, per arcmin2.
    core_arcmin : float
        Core radius of the cluster, a beta model of beta = 2/3.
    """

    sky: np.ndarray
    cluster: dict[float, np.ndarray]
    particles: dict[int, np.ndarray]
    central_norm: float
    edge_arcmin: float
    sky_norms: tuple[float, float]
    core_arcmin: float

    def norm_per_arcmin2(self, radius_arcmin: np.ndarray) -> np.ndarray:
        """Surface brightness of the cluster."""
        inside = np.asarray(radius_arcmin) < self.edge_arcmin
        return np.where(inside, self.central_norm * (1.0 + (radius_arcmin / self.core_arcmin) ** 2) ** -1.5, 0.0)


def make_scene(
    temperatures_kev: list[float],
    *,
    source_over_background: float,
    edge_arcmin: float,
    sky_norms: tuple[float, float] = SKY_NORMS,
    core_arcmin: float = CORE_ARCMIN,
) -> Scene:
    """Fold all components; the cluster's counts are `source_over_background` times the background's at its core."""
    area, redistribution = read_responses(*response_files("cy18"))
    table = hrma_vignetting()
    areas = vignetted_areas(table, area.energy_edges_kev, area.area_cm2, table.off_axis_arcmin, made_at_arcmin=0.0)

    def folded(photons):
        return np.array([fold(photons, EffectiveArea(area.energy_edges_kev, each), redistribution) for each in areas])

    edges = area.energy_edges_kev
    soft = evaluate_additive(edges, [0.2], abundances=[1.0], redshift=0.0, nh_1e22=0.0).photons[0, 0]
    sky = np.array([folded(soft), folded(power_law_photons(edges))])
    kts = sorted({*temperatures_kev, EVENTS_KT_KEV})
    plasma = evaluate_additive(edges, kts, abundances=[ABUNDANCE], redshift=REDSHIFT, nh_1e22=NH_1E22).photons[0]
    cluster = {kt: folded(photons) for kt, photons in zip(kts, plasma, strict=True)}
    particles = {ccd: PARTICLES_PER_S / 4.0 * _particle_shape(LINE_STRENGTH[ccd]) for ccd in instrument.CCDS}
    band = slice(47, 548)
    chips_arcmin2 = 4.0 * (CHIP_PIXELS * SKY_PIXEL_ARCSEC / 60.0) ** 2
    background = sum(each[band].sum() for each in particles.values()) / chips_arcmin2
    background += sky_norms @ sky[:, 0, band].sum(axis=1)
    at_core = source_over_background * background / cluster[EVENTS_KT_KEV][0, band].sum()
    return Scene(sky, cluster, particles, at_core * 2.0**1.5, edge_arcmin, sky_norms, core_arcmin)


def _particle_shape(line_strength: float) -> np.ndarray:
    """As the demo's, with stronger or weaker lines on the same continuum; sum 1 for strength 1."""
    energies = channel_energies_kev()
    inside = (energies >= 0.3) & (energies < 12.0)
    continuum = np.where(inside, 0.9 / energies + 0.35 + 0.08 * np.clip(energies - 6.0, 0.0, None), 0.0)
    share = sum(part for _, part in FLUORESCENCE_LINES_KEV.values())
    spectrum = (1.0 - share) * continuum / continuum.sum()
    for energy, part in FLUORESCENCE_LINES_KEV.values():
        line = np.where(inside, np.exp(-0.5 * ((energies - energy) / LINE_WIDTH_KEV) ** 2), 0.0)
        # The gold line in the band of the particles' level is left as it is.
        spectrum += (line_strength if energy < 9.0 else 1.0) * part * line / line.sum()
    return spectrum


def pointing_of(obsid: int) -> Pointing:
    """Where an observation looks."""
    sign = -1.0 if obsid == OBSIDS[0] else 1.0
    shift = sign * OFFSET_ARCMIN / 60.0 / np.cos(np.radians(DEC_DEG))
    return Pointing(RA_DEG + shift, DEC_DEG, ROLLS_DEG[OBSIDS.index(obsid)], (0.3, 1.1))


def write_field(
    layout: ClusterLayout, scene: Scene, rng: np.random.Generator, *, exposure_s: float, blank_s: float
) -> None:
    """Draw the events of both observations and of their blank skies, and write them where stage 1 looks."""
    for obsid in OBSIDS:
        repro, look = layout.observation(obsid).repro, pointing_of(obsid)
        times = {ccd: START_S + np.array([[0.0, exposure_s]]) for ccd in (3, 0, 1, 2)}
        parts = [_particles(scene, LEVEL[obsid], look, exposure_s, exposure_s, rng)]
        parts += [
            _light(norm * spectra, lambda r: 1.0, look, exposure_s, exposure_s, rng)
            for norm, spectra in zip(scene.sky_norms, scene.sky, strict=True)
        ]
        parts.append(_light(scene.cluster[EVENTS_KT_KEV], scene.norm_per_arcmin2, look, exposure_s, exposure_s, rng))
        write_events(repro / f"acisf{obsid:05d}_repro_evt2.fits", _event_list(obsid, look, parts, times, exposure_s))
        parts = [_particles(scene, dict.fromkeys(instrument.CCDS, 1.0), look, blank_s, exposure_s, rng)]
        parts += [
            _light(norm * spectra, lambda r: 1.0, look, blank_s, exposure_s, rng)
            for norm, spectra in zip(BLANK_NORMS, scene.sky, strict=True)
        ]
        write_events(repro / f"blanksky_{obsid}.fits", _event_list(obsid, look, parts, {}, blank_s))
        for kind, source in zip(("arf", "rmf"), response_files("cy18"), strict=True):
            (repro / f"{obsid}.{kind}").write_bytes(Path(source).read_bytes())


def _particles(scene, level, look, live_s, ontime_s, rng):
    """Detector position, time and channel of particles, uniform on each chip."""
    rates = {ccd: level[ccd] * spectrum for ccd, spectrum in scene.particles.items()}
    n = {ccd: rng.poisson(rate.sum() * live_s) for ccd, rate in rates.items()}
    ccd_id = np.repeat(list(n), list(n.values()))
    channel = np.concatenate([_drawn(rates[ccd], n[ccd], rng) for ccd in n])
    low, high = instrument.ACTIVE_PIXELS[0] - 0.5, instrument.ACTIVE_PIXELS[1] + 0.5
    chipx, chipy = rng.uniform(low, high, (2, len(ccd_id)))
    time = rng.uniform(0.0, ontime_s, len(ccd_id))
    x, y = look.sky_from_detector(*instrument.detector_from_chip(ccd_id, chipx, chipy), time)
    return ccd_id, chipx, chipy, x, y, time, channel


def _light(spectra, brightness, look, live_s, ontime_s, rng):
    """Photons of a surface brightness [1/arcmin2, a function of the cluster's radius], vignetted, on the chips."""
    rates = spectra.sum(axis=1)
    peak = float(brightness(0.0))
    n = rng.poisson(rates.max() * peak * BOX_ARCMIN**2 * live_s)
    half = 0.5 * BOX_ARCMIN * 60.0 / SKY_PIXEL_ARCSEC
    dx, dy = rng.uniform(-half, half, (2, n))
    to_arcmin = SKY_PIXEL_ARCSEC / 60.0
    # Sky x grows to the west, the pointings lie east and west of the cluster.
    shift = (look.ra_deg - RA_DEG) * 60.0 * np.cos(np.radians(DEC_DEG))
    radius = np.hypot(dx * to_arcmin - shift, dy * to_arcmin)
    index, part = between(hrma_vignetting().off_axis_arcmin, np.hypot(dx, dy) * to_arcmin)
    index = np.minimum(index + (rng.random(n) < part), len(rates) - 1)
    kept = rng.random(n) * rates.max() * peak < rates[index] * brightness(radius)
    dx, dy, index = dx[kept], dy[kept], index[kept]
    x, y, time = instrument.AXIS_PIXEL + dx, instrument.AXIS_PIXEL + dy, rng.uniform(0.0, ontime_s, len(dx))
    ccd_id, chipx, chipy = instrument.chip_from_detector(*look.detector_from_sky(x, y, time))
    channel = np.zeros(len(dx), dtype=np.int64)
    for angle in np.unique(index):
        own = index == angle
        channel[own] = _drawn(spectra[angle], np.count_nonzero(own), rng)
    on_chip = ccd_id >= 0
    return tuple(values[on_chip] for values in (ccd_id, chipx, chipy, x, y, time, channel))


def _drawn(spectrum, n, rng):
    cumulative = np.cumsum(spectrum)
    return 1 + np.searchsorted(cumulative, rng.random(n) * cumulative[-1], side="right")


def _event_list(obsid, look, parts, good_times, live_s):
    ccd_id, chipx, chipy, x, y, time, channel = (np.concatenate(values) for values in zip(*parts, strict=True))
    step = SKY_PIXEL_ARCSEC / 3600.0
    columns = {
        "ccd_id": ccd_id.astype(np.int16),
        "chipx": np.rint(chipx).astype(np.int16),
        "chipy": np.rint(chipy).astype(np.int16),
        "x": x.astype(np.float32),
        "y": y.astype(np.float32),
        "energy": ((channel - np.random.default_rng(len(channel)).random(len(channel))) * PI_CHANNEL_EV).astype("f4"),
        "pi": channel.astype(np.int32),
    }
    if good_times:
        order = np.argsort(time, kind="stable")
        columns = {"time": START_S + time[order], **{name: column[order] for name, column in columns.items()}}
    header = {
        "INSTRUME": "ACIS", "DETNAM": "ACIS-0123", "GRATING": "NONE", "READMODE": "TIMED", "DATAMODE": "FAINT",
        "OBS_ID": str(obsid), "DATE-OBS": "2016-01-01T00:00:00", "SIM_Z": -233.59, "OBJECT": "FIELD",
        "RA_PNT": look.ra_deg, "DEC_PNT": look.dec_deg,
    }  # fmt: skip
    return EventList(
        obsid, columns, look.ra_deg, look.dec_deg, (instrument.AXIS_PIXEL,) * 2, (-step, step), good_times,
        dict.fromkeys(instrument.CCDS, live_s), 1.0, header,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TrueExpectation:
    """What one observation truly expects in each pixel of the map.

    Attributes
    ----------
    by_ccd_s : dict of int to ndarray, shape (ny, nx)
        Exposure.
    index, part : ndarray, shape (ny, nx)
        Place of each pixel between the angles of the vignetting table.
    radius_arcmin : ndarray, shape (ny, nx)
        From the cluster's centre.
    pixel_arcmin2 : float
    """

    obsid: int
    by_ccd_s: dict[int, np.ndarray]
    index: np.ndarray
    part: np.ndarray
    radius_arcmin: np.ndarray
    pixel_arcmin2: float

    def background(self, scene: Scene, pixels: np.ndarray) -> np.ndarray:
        """Expected background in channels 1 to 1024 of a boolean set of pixels."""
        per_pixel = self.pixel_arcmin2 / (CHIP_PIXELS * SKY_PIXEL_ARCSEC / 60.0) ** 2
        particles = sum(
            LEVEL[self.obsid][ccd] * exposure[pixels].sum() * per_pixel * scene.particles[ccd]
            for ccd, exposure in self.by_ccd_s.items()
        )
        return particles + sum(
            norm * self._vignetted(spectra, pixels, np.ones(self.radius_arcmin.shape))
            for norm, spectra in zip(scene.sky_norms, scene.sky, strict=True)
        )

    def source(self, scene: Scene, kt_kev: float, pixels: np.ndarray) -> np.ndarray:
        """Expected cluster counts in channels 1 to 1024 of a boolean set of pixels."""
        return self._vignetted(scene.cluster[kt_kev], pixels, scene.norm_per_arcmin2(self.radius_arcmin))

    def _vignetted(self, spectra, pixels, brightness):
        light = (sum(self.by_ccd_s.values()) * brightness)[pixels] * self.pixel_arcmin2
        index, part = self.index[pixels], self.part[pixels]
        weight = np.bincount(index, weights=light * (1.0 - part), minlength=len(spectra) + 1)
        weight += np.bincount(index + 1, weights=light * part, minlength=len(spectra) + 1)
        return weight[: len(spectra)] @ spectra
