"""What the demo knows and the pipeline must find: temperature image, regions, sources, everything as JSON."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
from astropy.io import fits

from cpxt_hpc.demo.cluster import DemoCluster, TruthRegion
from cpxt_hpc.demo.simulate import Observation
from cpxt_hpc.io.atomic import replacing, write_text
from cpxt_hpc.science.grid import SKY_PIXEL_ARCSEC, sky_wcs

_IMAGE_BINNING = 2
"""Pixels of the temperature image have this many sky pixels a side."""


def write_truth(
    folder: Path,
    name: str,
    cluster: DemoCluster,
    observations: list[Observation],
    norms: np.ndarray,
    *,
    seed: int,
) -> Path:
    """Write the truth of a simulation and return the path of the temperature image.

    Parameters
    ----------
    folder : Path
    name : str
    cluster : DemoCluster
    observations : list of Observation
    norms : ndarray, shape (n_regions,)
        XSPEC apec norm of each region.
    seed : int
    """
    image = folder / f"{name}_kT_truth.fits"
    _write_temperature_image(image, cluster)
    counts = cluster.expected_counts()
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(["name", "kT_keV", "expected_counts", "norm"])
    for region, expected, norm in zip(cluster.regions, counts, norms, strict=True):
        table.writerow([region.name, region.kt_kev, f"{expected:.1f}", f"{norm:.6g}"])
    write_text(folder / "regions.csv", rows.getvalue())
    write_text(folder / "regions.reg", _region_file(cluster))
    write_text(
        folder / "truth.json",
        json.dumps(_summary(name, cluster, observations, counts, norms, seed), indent=1) + "\n",
    )
    return image


def _write_temperature_image(path: Path, cluster: DemoCluster) -> None:
    step = SKY_PIXEL_ARCSEC * _IMAGE_BINNING
    half = int(np.ceil(cluster.radius_arcsec / step)) + 1
    axis = (np.arange(2 * half) - half + 0.5) * step
    index = cluster.region_index(*np.meshgrid(axis, axis))
    temperatures = np.array([region.kt_kev for region in cluster.regions] + [np.nan])
    wcs = sky_wcs(
        cluster.ra_deg,
        cluster.dec_deg,
        reference_pixel=(half + 0.5, half + 0.5),
        pixel_deg=(-step / 3600.0, step / 3600.0),
    )
    block = fits.PrimaryHDU(temperatures[index].astype(np.float32), header=wcs.to_header())
    block.header["BUNIT"] = "keV"
    with replacing(path) as temporary:
        block.writeto(temporary, overwrite=True)


def _region_file(cluster: DemoCluster) -> str:
    """DS9 regions of the truth: circles and sectors; the last region is all the rest out to the cluster's end."""
    lines = ["# Region file format: DS9 version 4.1", "icrs"]
    centre = f"{cluster.ra_deg:.7f},{cluster.dec_deg:.7f}"
    lines += [_shape(region, centre, cluster.radius_arcsec) for region in cluster.regions]
    return "\n".join(lines) + "\n"


def _shape(region: TruthRegion, centre: str, radius_arcsec: float) -> str:
    inner, outer = region.inner_arcsec, min(region.outer_arcsec, radius_arcsec)
    label = f"# text={{{region.name} {region.kt_kev} keV}}"
    if region.angles_deg != (0.0, 360.0):
        # Offsets run from the x axis (west) to the y axis (north), the way in which DS9 counts angles on the sky image.
        first, last = region.angles_deg
        return f'panda({centre},{first:.1f},{last:.1f},1,{inner:.2f}",{outer:.2f}",1) {label}'
    return f'circle({centre},{outer:.2f}") {label}'


def _summary(
    name: str,
    cluster: DemoCluster,
    observations: list[Observation],
    counts: np.ndarray,
    norms: np.ndarray,
    seed: int,
) -> dict:
    return {
        "cluster": name,
        "seed": seed,
        "ra": cluster.ra_deg,
        "dec": cluster.dec_deg,
        "redshift": cluster.redshift,
        "nH_1e22": cluster.nh_1e22,
        "abundance": cluster.abundance,
        "abundance_table": "angr",
        "absorption": "phabs",
        "vignetting": "ray traces of the mirror with MARX 5.5.3, about each pointing; the ARFs are those on the axis",
        "radius_arcsec": cluster.radius_arcsec,
        "components": [
            {
                "region": region.name,
                "kT": region.kt_kev,
                "inner_arcsec": region.inner_arcsec,
                "outer_arcsec": min(region.outer_arcsec, cluster.radius_arcsec),
                "angles_deg": region.angles_deg,
                "expected_counts_0p3_12": float(expected),
                "xspec_apec_norm": float(norm),
            }
            for region, expected, norm in zip(cluster.regions, counts, norms, strict=True)
        ],
        "point_sources": [
            dict(
                zip(("ra", "dec"), _position(cluster, source.x_arcsec, source.y_arcsec), strict=True),
                counts_0p3_12=source.counts,
            )
            for source in cluster.sources
        ],
        "observations": [
            {
                "obsid": observation.obsid,
                "ra_nom": observation.pointing.ra_deg,
                "dec_nom": observation.pointing.dec_deg,
                "roll": observation.pointing.roll_deg,
                "ontime_s": observation.ontime_s,
                "background_scale_vs_blanksky": observation.background_scale,
                "flare_met": None
                if observation.flare_s is None
                else [observation.start_s + t for t in observation.flare_s],
                "flare_factor": observation.flare_factor if observation.flare_s else 1.0,
            }
            for observation in observations
        ],
    }


def _position(cluster: DemoCluster, x_arcsec: float, y_arcsec: float) -> tuple[float, float]:
    wcs = sky_wcs(cluster.ra_deg, cluster.dec_deg, reference_pixel=(0.0, 0.0))
    ra, dec = wcs.all_pix2world(x_arcsec / SKY_PIXEL_ARCSEC, y_arcsec / SKY_PIXEL_ARCSEC, 1)
    return float(ra), float(dec)
