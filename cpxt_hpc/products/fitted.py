"""What maps are made of: the fits of a checkpoint, on the pixels and regions of the fit's input."""

from __future__ import annotations

import dataclasses
import shlex

import numpy as np

from cpxt_hpc.config import ClusterConfig
from cpxt_hpc.errors import CheckpointMismatch, ConfigError, MissingInput
from cpxt_hpc.fitting.flags import is_flagged
from cpxt_hpc.fitting.model import FitInput, ObservationInput, RegionTable
from cpxt_hpc.fitting.results import FAILURES, FIRST_STATUS_WITHOUT_VALUES
from cpxt_hpc.io.checkpoint import read_checkpoint
from cpxt_hpc.io.fit_input import read_fit_input
from cpxt_hpc.io.provenance import Provenance
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.binning import circle_sums
from cpxt_hpc.science.grid import PixelGrid
from cpxt_hpc.science.maps import FINEST_RESOLUTION, belongs_to_resolution, resolution_of, rows_of_pixels
from cpxt_hpc.science.region_pixels import exact_circle
from cpxt_hpc.science.vignetting import BRIGHTNESS_ENERGY_KEV


@dataclasses.dataclass(frozen=True)
class FittedRegions:
    """Fits with the geometry that turns them into maps.

    Attributes
    ----------
    name : str
        The cluster's.
    grid : PixelGrid
    obsids : tuple of int
        By position in the fit's input, as ``observations_used`` counts them.
    results : ndarray of RESULT_DTYPE, shape (n,)
        Ascending by region.
    area_arcmin2 : ndarray of float64, shape (n,)
        Area of each fitted region's pixels [arcmin^2], masked ones included: what its norm refers to.
    rows : ndarray of int64, shape (ny, nx)
        Index into ``results`` of the fit that each pixel shows; -1 for none.
    surface_brightness : ndarray of float64, shape (ny, nx)
        Net count rate smoothed by the adaptive regions [count/s/arcmin^2]; NaN outside the map.
    resolution : int
        Finest resolution shown: 1, 2 or 3.
    n_regions : int
        Regions that a whole map of this resolution has.
    redshift : float
        That of the fits.
    line_of_sight_mpc : float
    provenance : Provenance
        Settings of the fits and digest of their binning.
    """

    name: str
    grid: PixelGrid
    obsids: tuple[int, ...]
    results: np.ndarray
    area_arcmin2: np.ndarray
    rows: np.ndarray
    surface_brightness: np.ndarray
    resolution: int
    n_regions: int
    redshift: float
    line_of_sight_mpc: float
    provenance: Provenance

    @property
    def holds_values(self) -> np.ndarray:
        """Whether each fit holds values, shape (n,); its status says so."""
        return self.results["status"] < FIRST_STATUS_WITHOUT_VALUES

    def column(self, name: str) -> np.ndarray:
        """A column of the results as float64, NaN where the status says that there is no value."""
        return np.where(self.holds_values, self.results[name].astype(float), np.nan)

    @property
    def n_of_resolution(self) -> int:
        """Fits among the `n_regions`; fits of single other pixels do not count."""
        return int(belongs_to_resolution(self.results["iy"], self.results["ix"], self.resolution).sum())

    @property
    def n_flagged(self) -> int:
        """Fits with values whose status is not OK, or that have flags."""
        return int(np.sum(self.holds_values & is_flagged(self.results)))

    @property
    def n_failed(self) -> int:
        """Fits that crashed, gave NaN or ran out of time."""
        return int(np.isin(self.results["status"], FAILURES).sum())


def load_fitted_regions(
    config: ClusterConfig, layout: ClusterLayout, *, resolution: int | None = None
) -> FittedRegions:
    """Read the checkpoint, complete or not, and the fit's input that it belongs to.

    Parameters
    ----------
    config : ClusterConfig
    layout : ClusterLayout
    resolution : int, optional
        Fits of finer resolutions are left out; by default all are taken.

    Raises
    ------
    MissingInput
        There is no fit input, no checkpoint, or no fit in it up to this resolution.
    CheckpointMismatch
        The checkpoint belongs to another binning than the fit's input.
    ConfigError
        Neither the fits nor ``cluster.ini`` tell the redshift.
    DataError
        A file is damaged.
    """
    command = f"cpxt-fit {shlex.quote(str(config.path))} --resolution {resolution or 2}"
    fit_input = read_fit_input(layout.fit_input)
    try:
        checkpoint = read_checkpoint(layout.fits)
    except MissingInput as error:
        raise MissingInput(f"{layout.fits}: there are no fits to make maps from. Run: {command}") from error
    results = checkpoint.results
    fault = binning_fault(checkpoint.provenance, results, fit_input)
    if fault:
        raise CheckpointMismatch(
            f"{layout.fits} belongs to another binning than {layout.fit_input}: {fault}. Bring back the fit input "
            f"that it was made with, or fit again: {command} --restart"
        )
    if resolution is not None:
        results = results[_up_to(resolution, results)]
    if len(results) == 0:
        held = f", only {len(checkpoint.results)} of finer ones" if len(checkpoint.results) else ""
        at = f" at resolution {resolution}" if resolution else ""
        raise MissingInput(f"{layout.fits}: no fit is there yet{at}{held}. Run, or wait for: {command}")
    redshift = checkpoint.provenance.settings.get("redshift", config.cluster.redshift)
    if redshift is None:
        raise ConfigError(f"{config.path} [cluster] redshift is not set; density and scale need it. Set it.")
    return combine(
        fit_input,
        results,
        checkpoint.provenance,
        redshift=float(redshift),
        line_of_sight_mpc=config.maps.line_of_sight_mpc,
    )


def combine(
    fit_input: FitInput,
    results: np.ndarray,
    provenance: Provenance,
    *,
    redshift: float,
    line_of_sight_mpc: float,
) -> FittedRegions:
    """Lay fits onto the pixels and regions of their input; see `FittedRegions`.

    Raises
    ------
    ValueError
        There are no fits.
    """
    grid, regions = fit_input.grid, fit_input.regions
    exposed = np.any([o.exposure_fraction > 0 for o in fit_input.observations], axis=0)
    shown = resolution_of(results["iy"], results["ix"])
    place = np.searchsorted(regions.number, results["region"])
    pixels_of_region = region_areas(fit_input)
    return FittedRegions(
        name=fit_input.name,
        grid=grid,
        obsids=tuple(observation.obsid for observation in fit_input.observations),
        results=results,
        area_arcmin2=pixels_of_region[place] * grid.pixel_area_arcmin2,
        rows=_rows(results, place, regions, exposed),
        surface_brightness=_surface_brightness(fit_input, exposed) / grid.pixel_area_arcmin2,
        resolution=shown,
        n_regions=int(belongs_to_resolution(regions.iy, regions.ix, shown).sum()),
        redshift=redshift,
        line_of_sight_mpc=line_of_sight_mpc,
        provenance=provenance,
    )


def binning_fault(provenance: Provenance, results: np.ndarray, fit_input: FitInput) -> str:
    """Why fits do not belong to the regions of a fit input; empty where they do.

    The digest may lie, as where a file was copied by hand; so every fit's pixel and radius are compared too.
    """
    if provenance.binning_digest != fit_input.binning_digest:
        return f"binning {provenance.binning_digest}, now {fit_input.binning_digest}"
    regions = fit_input.regions
    if len(regions) == 0:
        return "the fit input has no regions" if len(results) else ""
    place = np.minimum(np.searchsorted(regions.number, results["region"]), len(regions) - 1)
    same = regions.number[place] == results["region"]
    for name in ("iy", "ix", "radius"):
        same &= getattr(regions, name)[place] == results[name]
    if same.all():
        return ""
    row = results[np.argmin(same)]
    return (
        f"its region {row['region']} stands at row {row['iy']}, column {row['ix']} with radius {row['radius']:g}, "
        "which the fit input has not"
    )


def region_sums(image: np.ndarray, regions: RegionTable) -> np.ndarray:
    """Sum of an image over the pixels of each region that lie inside it, float64, shape (n,)."""
    radius = np.zeros(image.shape)
    radius[regions.iy, regions.ix] = regions.radius
    sums = circle_sums(image, radius)[regions.iy, regions.ix]
    for index in _pixel_lists(regions):
        sums[index] = image.reshape(-1)[_listed(regions, index)].sum(dtype=float)
    return sums


def region_areas(fit_input: FitInput) -> np.ndarray:
    """Area of each region inside the image, as its fit takes it [pixel], float64, shape (n,)."""
    regions, shape = fit_input.regions, fit_input.grid.shape
    areas = region_sums(np.ones(shape), regions)
    if fit_input.settings.get("edge") == "exact":
        circles = np.flatnonzero(np.diff(regions.pixel_start) == 0)
        for index in circles:
            circle = exact_circle(regions.iy[index], regions.ix[index], regions.radius[index], shape)
            areas[index] = np.sum(circle.stop - circle.start) + circle.edge.part.sum()
    return areas


def _up_to(resolution: int, results: np.ndarray) -> np.ndarray:
    """Which fits belong to a resolution or a coarser one."""
    return np.any([belongs_to_resolution(results["iy"], results["ix"], r) for r in range(1, resolution + 1)], axis=0)


def _pixel_lists(regions: RegionTable) -> np.ndarray:
    """Indices of the regions that are lists of pixels and no circles."""
    return np.flatnonzero(np.diff(regions.pixel_start) > 0)


def _listed(regions: RegionTable, index: int) -> np.ndarray:
    return regions.pixels[regions.pixel_start[index] : regions.pixel_start[index + 1]]


def _rows(results: np.ndarray, place: np.ndarray, regions: RegionTable, exposed: np.ndarray) -> np.ndarray:
    """Index of the fit of each pixel: circles as blocks about their pixel, lists on exactly their pixels."""
    lists = np.isin(place, _pixel_lists(regions))
    circles = np.flatnonzero(~lists)
    rows = rows_of_pixels(results["iy"][circles], results["ix"][circles], exposed, resolution=FINEST_RESOLUTION)
    rows[rows >= 0] = circles[rows[rows >= 0]]
    for row in np.flatnonzero(lists):
        pixels = _listed(regions, place[row])
        rows.reshape(-1)[pixels[exposed.reshape(-1)[pixels]]] = row
    return rows


def _relative_area(observation: ObservationInput) -> np.ndarray:
    """Effective area of each pixel at `BRIGHTNESS_ENERGY_KEV` over that of the response with most of it, (ny, nx)."""
    energy_bin = np.searchsorted(observation.arf_energy_edges_kev, BRIGHTNESS_ENERGY_KEV) - 1
    area = observation.arf_area_cm2[:, np.clip(energy_bin, 0, observation.arf_area_cm2.shape[1] - 1)]
    index, part = observation.response_index.astype(np.int64), observation.response_part.astype(float)
    following = np.minimum(index + 1, len(area) - 1)
    return ((1.0 - part) * area[index] + part * area[following]) / area.max()


def _surface_brightness(fit_input: FitInput, exposed: np.ndarray) -> np.ndarray:
    """Net counts over vignetted exposure, both summed over each pixel's region [count/s/pixel]; NaN outside the map."""
    regions, shape = fit_input.regions, fit_input.grid.shape
    net, exposure_s = np.zeros(shape), np.zeros(shape)
    for observation in fit_input.observations:
        net += np.diff(observation.pixel_start).reshape(shape)
        net -= observation.background_counts.sum(axis=0, dtype=float)
        exposure_s += observation.exposure_s * observation.exposure_fraction * _relative_area(observation)
    summed_exposure = region_sums(exposure_s, regions)
    rate = np.full(len(regions), np.nan)
    np.divide(region_sums(net, regions), summed_exposure, out=rate, where=summed_exposure > 0)
    smoothed = np.full(shape, np.nan)
    smoothed[regions.iy, regions.ix] = rate
    for index in _pixel_lists(regions):
        smoothed.reshape(-1)[_listed(regions, index)] = rate[index]
    smoothed[~exposed] = np.nan
    return smoothed
