"""Where each product of a cluster lies: names only, nothing is read or made here."""

from __future__ import annotations

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class ObservationLayout:
    """Files of one observation.

    Attributes
    ----------
    folder : Path
        ``<cluster>/<obsid>``.
    obsid : int
    """

    folder: Path
    obsid: int

    @property
    def repro(self) -> Path:
        return self.folder / "repro"

    @property
    def primary(self) -> Path:
        return self.folder / "primary"

    @property
    def analysis(self) -> Path:
        return self.folder / "analysis"

    @property
    def tool_records(self) -> Path:
        """Logs of CIAO's tools, and records of what they made."""
        return self.folder / "ciao"

    @property
    def events(self) -> Path:
        """Stage 1: events of the CCDs in use, in the common tangent plane."""
        return self.analysis / "acisI.fits"

    @property
    def background_events(self) -> Path:
        """Stage 1: blank-sky events in the common tangent plane."""
        return self.analysis / "back.fits"

    @property
    def exposure(self) -> Path:
        """Stage 1: exposure image [s] on the common grid."""
        return self.analysis / "exposure.fits"

    @property
    def clean_events(self) -> Path:
        """Stage 2: events without sources and flares."""
        return self.analysis / "acisI_clean.fits"

    @property
    def clean_background_events(self) -> Path:
        """Stage 2: blank-sky events without the sources' areas."""
        return self.analysis / "back_clean.fits"

    @property
    def clean_exposure(self) -> Path:
        """Stage 2: exposure image [s] after the cleaning, zero where sources are masked."""
        return self.analysis / "exposure_clean.fits"

    @property
    def light_curve(self) -> Path:
        """Stage 2: table of the light curves of both passes, with what was cut."""
        return self.analysis / "lightcurve.fits"

    @property
    def good_times(self) -> Path:
        """Stage 2: good time intervals of each CCD after the cleaning."""
        return self.analysis / "gti.fits"

    @property
    def arf_region(self) -> Path:
        """Where the ARF was made: a person's, or CIAO's specextract's, region file."""
        return self.analysis / "acisI_region_0.reg"

    @property
    def arf(self) -> Path:
        """Stage 3: effective area that stage 5 folds with."""
        return self.analysis / f"{self.obsid}.arf"

    @property
    def rmf(self) -> Path:
        """Stage 3: redistribution matrix that stage 5 folds with."""
        return self.analysis / f"{self.obsid}.rmf"

    @property
    def background_model(self) -> Path:
        """Stage 4: expected background [count/pixel] in the fitted band by detector group, cropped."""
        return self.analysis / "background_model.fits"


@dataclasses.dataclass(frozen=True)
class ClusterLayout:
    """Files of one cluster.

    Attributes
    ----------
    folder : Path
        Folder in which ``cluster.ini`` lies.
    name : str
    label : str
        ``[fit] label``: fits and maps of a label carry it in their names.
    """

    folder: Path
    name: str
    label: str = ""

    def observation(self, obsid: int) -> ObservationLayout:
        return ObservationLayout(self.folder / str(obsid), obsid)

    @property
    def ini(self) -> Path:
        return self.folder / "cluster.ini"

    @property
    def state(self) -> Path:
        return self.folder / ".cpxt" / "state.json"

    @property
    def tool_records(self) -> Path:
        """Logs of CIAO's tools that work on all observations together."""
        return self.folder / "ciao"

    @property
    def broad_flux(self) -> Path:
        """Stage 1: merged, background-subtracted, exposure-corrected 0.5-7 keV image [count/s/pixel]; its header
        defines the common grid.
        """
        return self.folder / f"{self.name}_broad_flux.img"

    @property
    def sources(self) -> Path:
        return self.folder / "sources.reg"

    @property
    def exclude(self) -> Path:
        return self.folder / "exclude.reg"

    @property
    def crop(self) -> Path:
        return self.folder / "master_crop-ciaowcs.reg"

    @property
    def crop_alternative(self) -> Path:
        """Where ClusterPyXT's users have it."""
        return self.combined / "master_crop-ciaowcs.reg"

    @property
    def combined(self) -> Path:
        return self.folder / "combined"

    @property
    def broad_counts(self) -> Path:
        """Stage 1: merged 0.5-7 keV counts, common grid."""
        return self.combined / f"{self.name}_broad_counts.fits"

    @property
    def broad_background(self) -> Path:
        """Stage 1: merged 0.5-7 keV blank-sky background, scaled, common grid [count/pixel]."""
        return self.combined / f"{self.name}_broad_background.fits"

    @property
    def merged_exposure(self) -> Path:
        """Stage 1: sum of the exposure images, common grid [s]."""
        return self.combined / f"{self.name}_exposure.fits"

    @property
    def source_mask(self) -> Path:
        """Stage 2: 1 where no masked source lies, common grid."""
        return self.combined / f"{self.name}_source_mask.fits"

    @property
    def counts(self) -> Path:
        """Stage 4: counts in the fitted band, all observations, cropped."""
        return self.combined / f"{self.name}_counts_cropped.fits"

    @property
    def background(self) -> Path:
        """Stage 4: expected background in the fitted band, all observations, cropped [count/pixel]."""
        return self.combined / f"{self.name}_background_cropped.fits"

    @property
    def exposure(self) -> Path:
        """Stage 4: exposure, all observations, cropped [s]."""
        return self.combined / f"{self.name}_exposure_cropped.fits"

    @property
    def mask(self) -> Path:
        """Stage 4: 1 where a pixel belongs to the map: inside the crop, exposed, no source."""
        return self.combined / f"{self.name}_mask_cropped.fits"

    @property
    def off_cluster(self) -> Path:
        """Stage 4: 1 where a pixel shows background only: exposed, no source, outside the crop and exclude.reg."""
        return self.combined / f"{self.name}_off_cluster.fits"

    @property
    def main_output(self) -> Path:
        return self.folder / "main_output"

    @property
    def surface_brightness_nosrc(self) -> Path:
        """Stage 2: what a person opens to draw the crop."""
        return self.main_output / f"{self.name}_xray_surface_brightness_nosrc.fits"

    def map_file(self, product: str) -> Path:
        """A map or picture in ``main_output``, for example ``temperature_map``; without suffix's dot: add ``.fits``."""
        label = f"_{self.label}" if self.label else ""
        return self.main_output / f"{self.name}{label}_{product}"

    @property
    def acb(self) -> Path:
        return self.folder / "acb"

    @property
    def scale_map(self) -> Path:
        return self.acb / f"{self.name}_scale_map.fits"

    @property
    def imported_scale_map(self) -> Path:
        """Radii of the circles of ClusterPyXT, where the cluster was imported from its acb folder."""
        return self.acb / f"{self.name}_imported_scale_map.fits"

    @property
    def import_record(self) -> Path:
        return self.folder / ".cpxt" / "import.json"

    @property
    def snr_map(self) -> Path:
        """Stage 5: signal to noise that each pixel's circle has."""
        return self.acb / f"{self.name}_snr_map.fits"

    @property
    def background_table(self) -> Path:
        """Stage 4: level of the background and what is left off the cluster, by observation and group of CCDs."""
        return self.acb / f"{self.name}_background.csv"

    @property
    def sky_table(self) -> Path:
        """Stage 5: what was fitted off the cluster beside the blank sky; only with ``[background] sky = fit``."""
        return self.acb / f"{self.name}_sky.csv"

    @property
    def commands(self) -> Path:
        return self.acb / f"commands_{self.name}.lis"

    @property
    def fit_input(self) -> Path:
        return self.acb / f"{self.name}_fit_input.h5"

    def nodes(self, digest: str) -> Path:
        """Folded model for settings other than those of the fit input."""
        return self.acb / f"{self.name}_nodes_{digest}.h5"

    @property
    def fits(self) -> Path:
        """The checkpoint; its journal, lock and spool add ``.journal``, ``.lock``, ``.spool`` to the stem."""
        label = f"_{self.label}" if self.label else ""
        return self.acb / f"{self.name}_fits{label}.h5"

    def table(self, kind: str) -> Path:
        """CSV table: kind is spectral_fits, worst_spectral_fits or all_spectral_fits."""
        label = f"_{self.label}" if self.label else ""
        return self.acb / f"{self.name}{label}_{kind}.csv"
