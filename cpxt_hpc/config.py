"""Everything a user can set: one frozen record a section of ``cluster.ini``.

Defaults stand here and nowhere else. Each field's metadata carries its documentation, its limits
and whether a change of it changes the numbers of a fit; `cpxt_hpc.io.ini` reads, checks and writes
the file, and generates the commented template from here.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""What a cluster's name and a fit label look like."""


def setting(
    default: Any = dataclasses.MISSING,
    *,
    doc: str,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    exclusive_minimum: bool = False,
    needed_by: str = "",
) -> Any:
    """A documented field: ``doc`` for the template, limits for the check, ``needed_by`` the step that demands it."""
    metadata = {
        "doc": doc,
        "choices": choices,
        "minimum": minimum,
        "maximum": maximum,
        "exclusive_minimum": exclusive_minimum,
        "needed_by": needed_by,
    }
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class ClusterSection:
    """``[cluster]``: what is observed. Keys as in ClusterPyXT."""

    name: str = setting(doc="Name of the cluster: letters, digits, '.', '_', '+', '-'; at most 64.")
    observation_ids: tuple[int, ...] = setting(doc="Chandra ObsIDs, comma separated.")
    data_directory: str = setting("", doc="Folder that held the cluster's folder when this file was made.")
    hydrogen_column_density: float | None = setting(
        None,
        doc="Galactic absorption: cm^-2, or 10^22 cm^-2 where below 10^3.",
        minimum=0.0,
        needed_by="stage 5 (bin)",
    )
    redshift: float | None = setting(
        None, doc="Redshift.", minimum=0.0, maximum=10.0, exclusive_minimum=True, needed_by="stage 5 (bin)"
    )
    abundance: float | None = setting(
        None, doc="Metal abundance relative to solar.", minimum=0.0, maximum=5.0, needed_by="stage 5 (bin)"
    )
    signal_to_noise: float = setting(
        50.0, doc="Signal to noise that each circle reaches.", minimum=0.0, exclusive_minimum=True
    )
    last_step_completed: int = setting(0, doc="Written by the program, for ClusterPyXT's sake.", minimum=0)


@dataclasses.dataclass(frozen=True)
class ArchiveSection:
    """``[archive]``: where observations that are not in place come from."""

    base_url: str = setting(
        "https://cxc.cfa.harvard.edu/cdaftp",
        doc="Archive tree (the folder that holds byobsid/); $CPXT_ARCHIVE_URL has precedence.",
    )
    download: str = setting(
        "auto",
        doc="auto: ObsIDs without event files are downloaded, but not in a batch job; always: there too; never.",
        choices=("auto", "always", "never"),
    )
    files: str = setting(
        "level2",
        doc="level2: what the stages read; all: level-1 events too, as chandra_repro needs them.",
        choices=("level2", "all"),
    )
    connections: int = setting(4, doc="Files fetched at the same time.", minimum=1, maximum=16)
    timeout_s: float = setting(
        60.0, doc="How long a server that sends nothing is waited for [s].", minimum=0.1, maximum=3600.0
    )
    max_file_gb: float = setting(
        4.0, doc="Larger files are refused [GB].", minimum=0.0, maximum=100.0, exclusive_minimum=True
    )


@dataclasses.dataclass(frozen=True)
class ToolsSection:
    """``[tools]``: what makes the files that need calibration data."""

    toolchain: str = setting(
        "auto",
        doc="builtin: files in place, no CIAO; ciao: what is missing is made with CIAO; auto: ciao where it is there.",
        choices=("auto", "builtin", "ciao"),
    )
    vfaint_cleaning: str = setting(
        "no",
        doc="yes: chandra_repro with check_vf_pha (less background in VFAINT data, some source events lost too).",
        choices=("no", "yes"),
    )
    time_limit_h: float = setting(
        24.0, doc="A call of a tool that takes longer is ended [h].", minimum=0.0, exclusive_minimum=True
    )


@dataclasses.dataclass(frozen=True)
class CleanSection:
    """``[clean]``: how flares are cut from the light curves."""

    method: str = setting(
        "sigma",
        doc="sigma: clip outliers of the binned rate; clean: keep rates within a factor of the mean; none.",
        choices=("sigma", "clean", "none"),
    )
    bin_length_s: float = setting(259.28, doc="Bin length of the light curve [s].", minimum=0.0, exclusive_minimum=True)
    nsigma: float = setting(3.0, doc="Clipping threshold [sigma].", minimum=1.0)
    scale: float = setting(
        1.2, doc="method clean: keep mean/scale < rate < mean*scale.", minimum=1.0, exclusive_minimum=True
    )


@dataclasses.dataclass(frozen=True)
class BinningSection:
    """``[binning]``: the adaptive circular binning."""

    snr: str = setting(
        "background",
        doc="background: (C - B)/sqrt(C + B); counts: sqrt(C), as ClusterPyXT's later versions.",
        choices=("background", "counts"),
    )
    max_radius_pixel: float = setting(100.0, doc="Largest radius tried [image pixels].", minimum=1.0, maximum=1000.0)
    edge: str = setting(
        "pixel",
        doc="pixel: a region is the pixels whose centre lies in the circle; exact: events are cut at the true circle.",
        choices=("pixel", "exact"),
    )


@dataclasses.dataclass(frozen=True)
class BackgroundSection:
    """``[background]``: the background of images and spectra."""

    source: str = setting(
        "blanksky",
        doc="blanksky: blank-sky events; local: events of the observations themselves inside local_region.",
        choices=("blanksky", "local"),
    )
    local_region: str = setting(
        "", doc="Region file (in the cluster's folder) of an area that shows background only, for source = local."
    )
    groups: str = setting(
        "auto",
        doc="Own template and level for each detector group, each ccd, or ccd where its blank sky suffices (auto).",
        choices=("auto", "detector", "ccd"),
    )
    sky: str = setting(
        "fit",
        doc="fit: what the sky off the cluster has more or less than the blank sky is fitted and added; where the "
        "cluster fills the field the blank sky stays as it is. none: never.",
        choices=("none", "fit"),
    )
    systematic: float = setting(
        0.03,
        doc="Relative systematic error of the background's level, for kT_bkg_lo and kT_bkg_hi.",
        minimum=0.0,
        maximum=1.0,
    )

    smoothing_arcsec: float = setting(
        30.0, doc="Gaussian sigma of the smoothed blank-sky map [arcsec].", minimum=1.0, maximum=300.0
    )
    template_counts: int = setting(
        400, doc="The spectral template is smoothed until this many counts a bin ...", minimum=1
    )
    template_max_channels: int = setting(5, doc="... or this window [PI channels] is reached.", minimum=1, maximum=101)


@dataclasses.dataclass(frozen=True)
class ResponseSection:
    """``[response]``: how the response changes over the field."""

    tiles: str = setting(
        "auto",
        doc="auto: each tile of repro/tiles (NAME.arf with its area NAME.reg) has its own ARF, where there are tiles; "
        "with CIAO they are made (2 arcmin, some minutes each); 1: one ARF for the whole field, vignetted.",
        choices=("auto", "1"),
    )
    vignetting: str = setting(
        "hrma",
        doc="hrma: the effective area falls off axis as the mirror's does; none: one response for the whole field.",
        choices=("hrma", "none"),
    )
    arf_off_axis_arcmin: float = setting(
        -1.0,
        doc="Off-axis angle at which the ARFs were made [arcmin]; -1: that of acisI_region_0.reg, else the aimpoint.",
        minimum=-1.0,
        maximum=30.0,
    )


@dataclasses.dataclass(frozen=True)
class FitSection:
    """``[fit]``: the spectral model and the statistic."""

    label: str = setting("", doc="Fits under another label stand beside each other (<name>_fits_<label>.h5).")
    statistic: str = setting(
        "cstat",
        doc="cstat: Poisson likelihood with a background template; wstat: with the blank-sky spectrum of each region; "
        "chi2gehrels (ClusterPyXT's recipe, biased low), chi2datavar, chi2xspecvar: blank sky subtracted.",
        choices=("cstat", "wstat", "chi2gehrels", "chi2datavar", "chi2xspecvar"),
    )
    engine: str = setting(
        "exact",
        doc="exact: the global minimum, fast; sherpa: Sherpa's own fit, for comparison (thousands of times slower).",
        choices=("exact", "sherpa"),
    )
    group_channels: int = setting(
        0, doc="Channels that make one bin of the fit; 0: 12 for wstat, 1 for the others.", minimum=0, maximum=200
    )
    free: str = setting(
        "none",
        doc="Parameters free besides kT and norm.",
        choices=("none", "abundance", "nH", "abundance,nH"),
    )
    norms: str = setting(
        "shared",
        doc="shared: one norm for all observations; per_observation: each has its own.",
        choices=("shared", "per_observation"),
    )
    delta_statistic: float = setting(
        1.0, doc="Rise of the statistic at the limits: 1 is 68 %, 2.706 is 90 %.", minimum=0.01, maximum=100.0
    )
    plasma: str = setting(
        "apec",
        doc="Plasma model of XSPEC. apec, bapec (no velocity broadening) and nlapec (no lines) are linear between the "
        "temperatures of AtomDB: exact. The others are tabulated to 0.1 % of the counts and the error is stored as "
        "model_error; zbremss jumps by 0.9 % at 0.54, 13.6 and 54 keV; mekal (1 atom/cm3), raymond and equil need the "
        "data files of a full XSPEC, such as CIAO's.",
        choices=("apec", "bapec", "nlapec", "zbremss", "mekal", "raymond", "equil"),
    )
    energy_min_kev: float = setting(0.7, doc="Lower end of the fitted band [keV].", minimum=0.1, maximum=12.0)
    energy_max_kev: float = setting(8.0, doc="Upper end of the fitted band [keV].", minimum=0.1, maximum=12.0)
    absorption: str = setting("phabs", doc="Galactic absorption model.", choices=("phabs", "tbabs", "wabs"))
    abundance_table: str = setting(
        "angr",
        doc="Solar abundances, XSPEC's names.",
        choices=("angr", "aspl", "feld", "aneb", "grsa", "wilm", "lodd", "lpgp", "lpgs"),
    )
    cross_sections: str = setting("vern", doc="Photoelectric cross sections.", choices=("vern", "bcmc", "obcm"))
    apec_root: str = setting(
        "", doc="Path prefix of other AtomDB tables, as XSPEC's APECROOT; empty: those of the set-up."
    )
    min_exposure_fraction: float = setting(
        0.09, doc="Observations that expose less of a region stay out of its fit.", minimum=0.0, maximum=1.0
    )
    region_timeout: float = setting(
        900.0,
        doc="Longest time for the fit of a region [s]; it then gets the status of a time-out and the next one follows. "
        "0: none.",
        minimum=0.0,
        maximum=1e6,
    )


@dataclasses.dataclass(frozen=True)
class MapsSection:
    """``[maps]``: physical quantities from the fits."""

    line_of_sight_mpc: float = setting(
        1.0,
        doc="Assumed depth of the emission [Mpc]; density scales with its -1/2 power.",
        minimum=0.0,
        exclusive_minimum=True,
    )


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """A whole ``cluster.ini``, validated.

    Attributes
    ----------
    path : Path
        The file; its folder is the cluster's folder, wherever it was moved.
    """

    path: Path
    cluster: ClusterSection
    archive: ArchiveSection = ArchiveSection()
    tools: ToolsSection = ToolsSection()
    clean: CleanSection = CleanSection()
    binning: BinningSection = BinningSection()
    background: BackgroundSection = BackgroundSection()
    response: ResponseSection = ResponseSection()
    fit: FitSection = FitSection()
    maps: MapsSection = MapsSection()

    @property
    def name(self) -> str:
        """Name of the cluster."""
        return self.cluster.name

    @property
    def obsids(self) -> tuple[int, ...]:
        """ObsIDs, in the order of the file."""
        return self.cluster.observation_ids

    @property
    def nh_1e22(self) -> float | None:
        """Hydrogen column density [10^22 cm^-2], whichever unit the file has it in; None where not set."""
        value = self.cluster.hydrogen_column_density
        if value is None or value < 1e3:
            return value
        return value / 1e22


SECTIONS: dict[str, type] = {
    "cluster": ClusterSection,
    "archive": ArchiveSection,
    "tools": ToolsSection,
    "clean": CleanSection,
    "binning": BinningSection,
    "background": BackgroundSection,
    "response": ResponseSection,
    "fit": FitSection,
    "maps": MapsSection,
}
"""Section names of ``cluster.ini`` and the records that hold them."""
