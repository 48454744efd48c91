"""With CIAO: specextract for the response region of each observation, and for tiles of its CCDs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from cpxt_hpc.errors import DataError
from cpxt_hpc.io.atomic import write_text
from cpxt_hpc.io.event_copies import write_cleaned_copy
from cpxt_hpc.io.events import read_events, sky_coordinates
from cpxt_hpc.io.fits_files import open_fits
from cpxt_hpc.io.images import read_image
from cpxt_hpc.io.ogip import read_responses
from cpxt_hpc.io.region_files import read_region_file, sky_shapes
from cpxt_hpc.layout import ClusterLayout, ObservationLayout
from cpxt_hpc.science.autoregions import cluster_peak
from cpxt_hpc.science.chip_tiles import chip_tiles
from cpxt_hpc.science.detector import with_ccds
from cpxt_hpc.science.events import EventList
from cpxt_hpc.science.exposure import fit_chip_geometry
from cpxt_hpc.science.grid import SKY_PIXEL_ARCSEC
from cpxt_hpc.science.images import BROAD_BAND_EV
from cpxt_hpc.science.masks import Shape
from cpxt_hpc.toolchain.ciao_inputs import SupportFiles, find_support_files
from cpxt_hpc.toolchain.ciao_products import Product
from cpxt_hpc.toolchain.ciao_regions import moved_shape, plane_change, write_ciao_region
from cpxt_hpc.toolchain.ciao_steps import ONE_IN_MEMORY, Step, ccd_filter, linked, the_one

logger = logging.getLogger(__name__)

WEIGHTS_BAND_EV = (300.0, 2000.0)
"""Energies of the events that weight the area within a region: specextract's energy_wmap."""
FEWEST_EVENTS = 20
"""A tile with fewer events in that band has no ARF of its own: the nearest tile's is taken."""

SMALLEST_RADIUS_ARCSEC = 60.0
LARGEST_RADIUS_ARCSEC = 300.0
ENOUGH_EVENTS = 500

MADE_BY = "made by cpxt-prep; edit it or draw your own: an existing file is never overwritten"


def make_response_region(layout: ClusterLayout, observation: ObservationLayout) -> None:
    """Write ``acisI_region_0.reg`` where nobody drew it: a circle about the cluster's peak in this observation.

    Raises
    ------
    MissingInput
        Stage 2 has not run.
    DataError
        Nothing is exposed.
    """
    target = observation.arf_region
    if target.exists():
        return
    events = read_events(observation.clean_events)
    exposure, grid, _ = read_image(observation.clean_exposure)
    if not (exposure > 0.0).any():
        raise DataError(f"{observation.clean_exposure}: no pixel is exposed. Run stage 2 again.")
    broad = events.select(events.in_energy(*BROAD_BAND_EV))
    counts = grid.counts_image(broad["x"], broad["y"])
    ix, iy = cluster_peak(counts, np.zeros(grid.shape), exposure)
    x, y = grid.sky_from_image(ix, iy)
    soft = events.select(events.in_energy(*WEIGHTS_BAND_EV))
    distance = np.sort(np.hypot(soft["x"] - x, soft["y"] - y)) * SKY_PIXEL_ARCSEC
    wanted = float(distance[min(ENOUGH_EVENTS, len(distance)) - 1]) if len(distance) else np.inf
    radius = float(np.clip(wanted, SMALLEST_RADIUS_ARCSEC, LARGEST_RADIUS_ARCSEC))
    ra, dec = grid.wcs().all_pix2world(ix, iy, 0)
    write_text(
        target,
        "# Region file format: DS9 version 4.1\n# where the ARF and RMF of this observation are made\n"
        f'# {MADE_BY}\nglobal color=green\nfk5\ncircle({float(ra):.6f},{float(dec):.6f},{radius:.1f}")\n',
    )
    logger.info("ObsID %d: response region: %.0f arcsec about the peak", observation.obsid, radius)


@dataclasses.dataclass(frozen=True)
class _Extraction:
    """One call of specextract.

    Attributes
    ----------
    name : str
        Of its record and log.
    title : str
    outputs : dict of Path to str
        Final name, and name in the working folder.
    drawn : Path or None
        Region file that the area comes from, where a person may change it.
    ccd : int or None
        The only CCD that the area lies on; None for all in use.
    shapes : callable
        The area, sky pixels of the common tangent plane.
    sky_region : str
        Region file of the area for ``repro/tiles``; empty where none is wanted.
    """

    name: str
    title: str
    outputs: dict[Path, str]
    drawn: Path | None
    ccd: int | None
    shapes: Callable[[], list[Shape]]
    sky_region: str = ""


def response_steps(
    layout: ClusterLayout, observation: ObservationLayout, events: Path, *, tiles: bool
) -> tuple[Step, list[Step]]:
    """The step that makes the observation's ARF and RMF, and those that make the tiles' ARFs.

    Raises
    ------
    MissingInput
        Stage 2 has not run.
    DataError
        A CCD's place on the sky cannot be told.
    """
    cleaned = read_events(observation.clean_events)
    _, grid, _ = read_image(layout.broad_flux)
    repro, obsid = observation.repro, observation.obsid
    whole = _Extraction(
        "response", f"ObsID {obsid}: specextract",
        {repro / f"{obsid}.rmf": "made.rmf", repro / f"{obsid}.arf": "made.arf"},
        observation.arf_region, None, lambda: sky_shapes(read_region_file(observation.arf_region), grid),
    )  # fmt: skip
    # The events themselves are not kept in memory until the calls run.
    frame = cleaned.select(np.zeros(len(cleaned), dtype=bool))
    parts = [_step(each, observation, events, frame) for each in _tiles(observation, cleaned)] if tiles else []
    return _step(whole, observation, events, frame), parts


def _tiles(observation: ObservationLayout, cleaned: EventList) -> Iterator[_Extraction]:
    if "chipx" not in cleaned.columns:
        raise DataError(f"ObsID {cleaned.obsid}: its events have no columns chipx, chipy. Set [response] tiles = 1.")
    folder = observation.repro / "tiles"
    soft = cleaned.in_energy(*WEIGHTS_BAND_EV)
    for ccd in cleaned.ccds:
        own = cleaned["ccd_id"] == ccd
        try:
            geometry, _ = fit_chip_geometry(*(cleaned[name][own] for name in ("x", "y", "chipx", "chipy")))
        except DataError as error:
            logger.warning("ObsID %d, CCD %d: no tiles of its own: %s", cleaned.obsid, ccd, error)
            continue
        for tile in chip_tiles(geometry, cleaned["chipx"][own & soft], cleaned["chipy"][own & soft]):
            if tile.n_events < FEWEST_EVENTS:
                continue
            name = f"ccd{ccd}_{tile.row}{tile.column}"
            shape = Shape("polygon", tuple(map(float, tile.corners.ravel())))
            yield _Extraction(
                f"tile_{name}", f"ObsID {cleaned.obsid}: specextract for tile {name}",
                {folder / f"{name}.reg": "tile.reg", folder / f"{name}.arf": "made.arf"},
                None, ccd, lambda shape=shape: [shape], _tile_region(tile.corners, cleaned),
            )  # fmt: skip


def _step(wanted: _Extraction, observation: ObservationLayout, events: Path, cleaned: EventList) -> Step:
    if wanted.ccd is not None:
        # The copy that specextract reads holds no other CCD: with dozens of tiles its size counts.
        cleaned = with_ccds(cleaned, (wanted.ccd,))
    product = Product(
        observation.tool_records / f"{wanted.name}.json",
        tuple(wanted.outputs),
        (events, *([wanted.drawn] if wanted.drawn else [])),
        {f"good times of CCD {ccd}": _text(times) for ccd, times in cleaned.good_times.items()},
    )
    found: list[SupportFiles] = []

    def inputs(work: Path) -> Mapping[str, Path]:
        support = find_support_files(observation, events)
        found.append(support)
        with ONE_IN_MEMORY:
            write_cleaned_copy(work / "clean.fits", events, cleaned)
        with open_fits(work / "clean.fits", "event file") as hdus:
            move = plane_change(cleaned.ra_deg, cleaned.dec_deg, *sky_coordinates(hdus["EVENTS"], events))
        shapes = [moved_shape(shape, move) for shape in wanted.shapes()]
        write_ciao_region(work / "region.reg", shapes, wanted.drawn or events)
        if wanted.sky_region:
            write_text(work / "tile.reg", wanted.sky_region)
        return {
            **{path.name: path for path in support.aspect},
            linked(support.bad_pixels, "bpix1"): support.bad_pixels,
            linked(support.mask, "msk1"): support.mask,
        }

    def arguments(work: Path) -> dict[str, object]:
        return {
            "infile": f"clean.fits{'' if wanted.ccd is None else ccd_filter([wanted.ccd])}[sky=region(region.reg)]",
            "outroot": "made",
            "asp": ",".join(path.name for path in found[-1].aspect),
            "mskfile": linked(found[-1].mask, "msk1"),
            "badpixfile": linked(found[-1].bad_pixels, "bpix1"),
            "tmpdir": str(work),
        }

    def collect(work: Path) -> Mapping[Path, Path]:
        made = [the_one(work, f"made.{kind}", f"{kind.upper()} file") for kind in ("arf", "rmf")]
        read_responses(*made)
        return {final: work / name for final, name in wanted.outputs.items()}

    return Step(product, "respond", wanted.title, inputs, arguments, collect)


def _tile_region(corners: np.ndarray, cleaned: EventList) -> str:
    """Region file of a tile: on the sky, so that it holds in every tangent plane."""
    ra, dec = cleaned.wcs().all_pix2world(corners[:, 0], corners[:, 1], 1)
    numbers = ",".join(f"{float(r):.6f},{float(d):.6f}" for r, d in zip(ra, dec, strict=True))
    return f"# Region file format: DS9 version 4.1\nglobal color=green\nfk5\npolygon({numbers})\n"


def _text(intervals: np.ndarray) -> str:
    return " ".join(f"{start:.3f}-{stop:.3f}" for start, stop in intervals)
