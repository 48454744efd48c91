"""A synthetic cluster, from the seed to the files that the pipeline starts from."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np

from cpxt_hpc.demo import instrument
from cpxt_hpc.demo.cluster import DemoCluster, demo_cluster
from cpxt_hpc.demo.files import write_blank_sky_file, write_event_file
from cpxt_hpc.demo.instrument import Pointing
from cpxt_hpc.demo.simulate import Observation, Shapes, blank_sky_events, observation_events
from cpxt_hpc.demo.spectra import flare_shape, particle_shape, plasma_rates, power_law_shape
from cpxt_hpc.demo.truth import write_truth
from cpxt_hpc.errors import ConfigError
from cpxt_hpc.io.atomic import replacing, write_text
from cpxt_hpc.io.datafiles import response_files
from cpxt_hpc.io.ogip import read_responses
from cpxt_hpc.layout import ClusterLayout

COUNTS_PER_KS = 4300.0
"""Cluster counts (0.3-12 keV) a kilosecond of a field of 400 arcsec radius."""

BLANK_SKY_EXPOSURE_FACTOR = 5.0
_SOURCE_PHOTON_INDEX = 1.7
_SKY_PHOTON_INDEX = 1.4

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class DemoProducts:
    """Where a simulation lies: the cluster's folder, the truth's folder, the truth's temperature image."""

    cluster_folder: Path
    truth_folder: Path
    temperature_image: Path
    cluster: DemoCluster
    obsids: tuple[int, ...]


def demo_observations(
    cluster: DemoCluster, *, exposure_ks: float, obsids: tuple[int, ...] = (90001, 90002), seed: int = 1
) -> list[Observation]:
    """Two observations that differ in pointing, roll, exposure, background level; the first one has a flare."""
    phases = np.random.default_rng([seed, 2]).uniform(0.0, 2.0 * np.pi, (2, 2))
    shares, offsets = (4.0 / 7.0, 3.0 / 7.0), ((0.012, -0.010), (-0.016, 0.012))
    rolls, scales = (77.0, 248.0), (1.05, 0.96)
    observations = []
    for number, obsid in enumerate(obsids):
        frames = int(1000.0 * exposure_ks * shares[number] / (instrument.FRAME_S * instrument.DTCOR))
        ontime = frames * instrument.FRAME_S
        dra, ddec = offsets[number]
        pointing = Pointing(
            cluster.ra_deg + dra / np.cos(np.radians(cluster.dec_deg)),
            cluster.dec_deg + ddec,
            rolls[number],
            tuple(phases[number]),
        )
        flare = None
        if number == 0:
            flare_start = 0.4 * ontime
            flare = (flare_start, flare_start + min(1400.0, 0.1 * ontime))
        lost_start = int(0.13 * frames) * instrument.FRAME_S
        observations.append(
            Observation(
                obsid, pointing, 5.9e8 + 1.0e7 * number, ontime, shares[number], scales[number],
                flare_s=flare, lost_s={1: (lost_start, lost_start + 8 * instrument.FRAME_S)} if number == 0 else {},
            )
        )  # fmt: skip
    return observations


def make_demo(
    folder: Path,
    *,
    name: str = "demo",
    seed: int = 1,
    exposure_ks: float = 70.0,
    radius_arcsec: float = 400.0,
    obsids: tuple[int, ...] = (90001, 90002),
) -> DemoProducts:
    """Simulate the demo cluster and write its files.

    Parameters
    ----------
    folder : Path
        Data directory: ``<folder>/<name>`` gets the observations, ``<folder>/<name>_truth`` the truth.
    name : str
    seed : int
        The same seed and options give the same files, byte for byte.
    exposure_ks : float
        Sum of the exposures [ks]; the cluster's counts go with it.
    radius_arcsec : float
        The cluster ends here; all its parts scale with it, at the same surface brightness in the centre.
    obsids : tuple of int
        Two ObsIDs.

    Returns
    -------
    DemoProducts

    Raises
    ------
    ConfigError
        A folder of that name exists, and not because an earlier call was interrupted.
    """
    layout, truth = ClusterLayout(folder / name, name), folder / f"{name}_truth"
    unfinished = truth / ".unfinished"
    for path in (layout.folder, truth):
        if path.exists() and not unfinished.exists():
            raise ConfigError(f"{path} exists. Choose another directory or name, or remove it.")
    write_text(unfinished, "cpxt-demo was interrupted: run it again.\n")
    surface = demo_cluster(seed=seed, radius_arcsec=400.0, counts=COUNTS_PER_KS * exposure_ks)
    central = float(surface.surface_brightness(np.zeros(1), np.zeros(1))[0])
    shape = demo_cluster(seed=seed, radius_arcsec=radius_arcsec, counts=1.0)
    counts = central / float(shape.surface_brightness(np.zeros(1), np.zeros(1))[0])
    cluster = dataclasses.replace(shape, counts=counts)
    observations = demo_observations(cluster, exposure_ks=exposure_ks, obsids=obsids, seed=seed)

    arf_file, rmf_file = response_files("cy18")
    arf, rmf = read_responses(arf_file, rmf_file)
    rates = plasma_rates(
        arf, rmf, np.array([region.kt_kev for region in cluster.regions]),
        redshift=cluster.redshift, nh_1e22=cluster.nh_1e22, abundance=cluster.abundance,
    )  # fmt: skip
    shapes = Shapes(
        regions=rates / rates.sum(axis=1, keepdims=True),
        source=power_law_shape(arf, rmf, _SOURCE_PHOTON_INDEX),
        sky=power_law_shape(arf, rmf, _SKY_PHOTON_INDEX),
        particle=particle_shape(),
        flare=flare_shape(),
    )
    live_s = sum(observation.ontime_s for observation in observations) * instrument.DTCOR
    norms = cluster.expected_counts() / (rates.sum(axis=1) * live_s)

    target = (cluster.ra_deg, cluster.dec_deg)
    for number, observation in enumerate(observations):
        rng = np.random.default_rng([seed, 3, number])
        repro = layout.observation(observation.obsid).repro
        events = observation_events(cluster, observation, shapes, rng)
        write_event_file(
            repro / f"acisf{observation.obsid:05d}_repro_evt2.fits",
            observation,
            events,
            title=name,
            target=target,
        )
        blank = blank_sky_events(observation, shapes, BLANK_SKY_EXPOSURE_FACTOR, rng)
        write_blank_sky_file(
            repro / f"blanksky_{observation.obsid}.fits",
            observation,
            blank,
            BLANK_SKY_EXPOSURE_FACTOR,
            target=target,
        )
        for source, suffix in ((arf_file, "arf"), (rmf_file, "rmf")):
            with replacing(repro / f"{observation.obsid}.{suffix}") as temporary:
                temporary.write_bytes(Path(source).read_bytes())
        log.info("ObsID %d: %d events, %d blank-sky events", observation.obsid, len(events["x"]), len(blank["x"]))
    image = write_truth(truth, name, cluster, observations, norms, seed=seed)
    unfinished.unlink()
    return DemoProducts(layout.folder, truth, image, cluster, obsids)
