"""With CIAO: image, exposure map and PSF map of the field, and wavdetect on them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from cpxt_hpc.errors import DataError
from cpxt_hpc.io.atomic import write_text
from cpxt_hpc.io.events import read_events, read_pointing
from cpxt_hpc.io.fits_files import open_fits
from cpxt_hpc.io.images import read_image
from cpxt_hpc.io.region_files import read_region_file, sky_shapes
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.grid import SKY_PIXEL_ARCSEC, PixelGrid, reproject_sky, sky_wcs
from cpxt_hpc.science.masks import Shape
from cpxt_hpc.science.pointing import angular_separation_deg
from cpxt_hpc.science.psf import psf_radius_arcsec
from cpxt_hpc.toolchain.base import FoundSources
from cpxt_hpc.toolchain.ciao_inputs import SupportFiles, find_support_files
from cpxt_hpc.toolchain.ciao_products import Product, must_be_made
from cpxt_hpc.toolchain.ciao_regions import moved_shape
from cpxt_hpc.toolchain.ciao_steps import Limits, Step, ccd_filter, check_blocks, linked, run_steps, the_one

logger = logging.getLogger(__name__)

BINNING = 2
"""Sky pixels a side of a pixel of the image that is searched."""
SCALES = "1 2 4 8"
"""Wavelets [image pixel]: up to the size of a source 10 arcmin off axis; larger ones find the cluster."""
SIGNIFICANCE = 1e-6
"""Chance of a pixel to be taken for a source: about one false source in a million pixels."""

LARGEST_PSF_FACTOR = 5.0
SMALLEST_LARGEST_ARCSEC = 8.0
"""An ellipse larger than both this and so many PSF radii is no point source, but a part of the cluster."""


def find_sources(
    layout: ClusterLayout, observations: Mapping[int, tuple[Path, tuple[int, ...]]], limits: Limits
) -> FoundSources:
    """Find the point sources of a cluster's field.

    Parameters
    ----------
    layout : ClusterLayout
    observations : mapping of int to (Path, tuple of int)
        Level-2 event file and CCDs in use, by ObsID.
    limits : Limits

    Raises
    ------
    ToolError
        A tool failed, or left files that cannot be used.
    MissingInput, DataError
        A file that the tools need is missing, or cannot be read.
    """
    _, grid, _ = read_image(layout.broad_flux)
    room = layout.tool_records
    image = _image_step(layout, observations, grid, limits.processes)
    found = room / "wavdetect.reg"
    made = {kind: room / f"broad_thresh.{kind}" for kind in ("img", "expmap", "psfmap")}
    detection = Step(
        Product(
            room / "wavdetect.json", (found,), tuple(made.values()), {"scales": SCALES, "sigthresh": str(SIGNIFICANCE)}
        ),
        "detect",
        f"{layout.name}: wavdetect",
        lambda work: {path.name: path for path in made.values()},
        lambda work: {"root": "", "scales": SCALES, "sigthresh": SIGNIFICANCE, "tmpdir": str(work)},
        lambda work: _detected(work, found),
    )
    new_image = must_be_made(image.product)
    if new_image:
        run_steps([image], limits)
    if new_image or must_be_made(detection.product):
        run_steps([detection], limits)
    shapes = _on_common_plane(found, read_image(made["img"])[1], grid)
    kept = [shape for shape in shapes if _is_point_like(shape, grid, [path for path, _ in observations.values()])]
    if len(kept) < len(shapes):
        logger.info("%d of wavdetect's %d ellipses are too large for a point source: left out",
                    len(shapes) - len(kept), len(shapes))  # fmt: skip
    return FoundSources(kept, f"{len(kept)} point sources of CIAO's wavdetect, 0.5-7 keV, scales {SCALES}")


def _image_step(
    layout: ClusterLayout,
    observations: Mapping[int, tuple[Path, tuple[int, ...]]],
    grid: PixelGrid,
    processes: int,
) -> Step:
    room, obsids = layout.tool_records, list(observations)
    outputs = tuple(room / f"broad_thresh.{kind}" for kind in ("img", "expmap", "psfmap"))
    events = tuple(path for path, _ in observations.values())
    product = Product(room / "image.json", outputs, events, {"tangent point": f"{grid.ra_deg:.9f} {grid.dec_deg:.9f}"})
    support: dict[int, SupportFiles] = {}

    def inputs(work: Path) -> Mapping[str, Path]:
        links: dict[str, Path] = {}
        for obsid, (path, _) in observations.items():
            support[obsid] = find_support_files(layout.observation(obsid), path)
            links |= _links(obsid, path, support[obsid])
        return links

    def arguments(work: Path) -> dict[str, object]:
        files = {
            obsid: (
                linked(path, f"evt_{obsid}") + ccd_filter(ccds),
                [each.name for each in support[obsid].aspect],
                linked(support[obsid].bad_pixels, f"bpix_{obsid}"),
                linked(support[obsid].mask, f"msk_{obsid}"),
            )
            for obsid, (path, ccds) in observations.items()
        }
        common = {"outroot": "image/", "binsize": BINNING, "tmpdir": str(work), "nproc": processes}
        if len(obsids) == 1:
            infile, aspect, bad_pixels, mask = files[obsids[0]]
            return common | {
                "infile": infile, "asolfile": ",".join(aspect), "badpixfile": bad_pixels, "maskfile": mask,
            }  # fmt: skip
        lists = {"infiles": [], "asolfiles": [], "badpixfiles": [], "maskfiles": []}
        for infile, aspect, bad_pixels, mask in files.values():
            for key, words in zip(lists, ([infile], aspect, [bad_pixels], [mask]), strict=True):
                lists[key] += words
        for key, words in lists.items():
            write_text(work / f"{key}.lis", "\n".join(words) + "\n")
        return common | {key: f"@{key}.lis" for key in lists} | {"refcoord": f"{grid.ra_deg:.9f} {grid.dec_deg:.9f}"}

    def collect(work: Path) -> Mapping[Path, Path]:
        made = {final: the_one(work / "image", final.name, f"{final.suffix[1:]} file") for final in outputs}
        grids = [read_image(path)[1] for path in made.values()]
        if any(each != grids[0] for each in grids):
            raise DataError("image, exposure map and PSF map lie on different grids")
        return made

    return Step(
        product, "one_image" if len(obsids) == 1 else "merged_image",
        f"{layout.name}: {'fluximage and mkpsfmap' if len(obsids) == 1 else 'merge_obs'}", inputs, arguments, collect,
    )  # fmt: skip


def _links(obsid: int, events: Path, support: SupportFiles) -> dict[str, Path]:
    return {
        linked(events, f"evt_{obsid}"): events,
        **{path.name: path for path in support.aspect},
        linked(support.bad_pixels, f"bpix_{obsid}"): support.bad_pixels,
        linked(support.mask, f"msk_{obsid}"): support.mask,
    }


def _detected(work: Path, final: Path) -> Mapping[Path, Path]:
    check_blocks(the_one(work, "sources.fits", "source list"), "source list", "SRCLIST")
    with open_fits(work / "sources.fits", "source list") as hdus:
        n_rows = len(hdus["SRCLIST"].data)
    if n_rows == 0:
        (work / "sources.reg").touch()
    regions = the_one(work, "sources.reg", "region file")
    n_shapes = len(read_region_file(regions))
    if n_shapes < n_rows:
        raise DataError(f"sources.reg: has {n_shapes} shapes, but sources.fits {n_rows} sources")
    return {final: regions}


def _on_common_plane(regions: Path, image_grid: PixelGrid, grid: PixelGrid) -> list[Shape]:
    """The ellipses, which are in sky pixels of the searched image, in the common tangent plane."""
    shapes = sky_shapes(read_region_file(regions), image_grid)
    planes = [sky_wcs(each.ra_deg, each.dec_deg) for each in (image_grid, grid)]
    return [moved_shape(shape, lambda x, y: reproject_sky(x, y, *planes)) for shape in shapes]


def _is_point_like(shape: Shape, grid: PixelGrid, events: Sequence[Path]) -> bool:
    """Whether an ellipse is not much larger than the PSF of the observation that looked at it furthest off axis."""
    size_arcsec = max(shape.parameters[2:4]) * SKY_PIXEL_ARCSEC
    ra, dec = sky_wcs(grid.ra_deg, grid.dec_deg).all_pix2world(*shape.parameters[:2], 1)
    pointings = [pointing for pointing in map(read_pointing, events) if pointing is not None]
    if not pointings:
        return True
    angle = max(60.0 * float(angular_separation_deg(ra, dec, *pointing)) for pointing in pointings)
    return size_arcsec <= max(SMALLEST_LARGEST_ARCSEC, LARGEST_PSF_FACTOR * float(psf_radius_arcsec(angle)))


def ccds_by_observation(layout: ClusterLayout, events: Mapping[int, Path]) -> dict[int, tuple[Path, tuple[int, ...]]]:
    """Event file and CCDs in use (those of stage 1) by ObsID."""
    return {obsid: (path, read_events(layout.observation(obsid).events).ccds) for obsid, path in events.items()}
