"""The maps that can be made, each one entry of `QUANTITIES`: its name, unit, formula and colours."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from cpxt_hpc.fitting.flags import flag_text
from cpxt_hpc.fitting.results import Flag, Status
from cpxt_hpc.products.fitted import FittedRegions
from cpxt_hpc.science import thermo
from cpxt_hpc.science.maps import paint, paint_integers

NORM_UNIT = "10**14 cm-5"
"""FITS unit string of XSPEC's apec norm."""

NO_STATUS = -1
"""Pixel value of the maps of status and flags where no fit belongs."""


@dataclasses.dataclass(frozen=True)
class Quantity:
    """One map.

    Attributes
    ----------
    title : str
        For pictures and headers.
    unit : str
        FITS unit string; empty for a pure number.
    make : callable
        From `FittedRegions` to an image of shape (ny, nx): float with NaN where unknown, or integer.
    colours : str
        Name of a matplotlib colour map, ordered in lightness so that colour-blind readers see the same.
    logarithmic : bool
        Whether the picture's colours follow the logarithm.
    unit_shown : str
        Unit in pictures (matplotlib's mathtext), where it differs from ``unit``.
    depends_on_depth : str
        How it scales with the assumed depth L, for the header; empty where it does not.
    note : str
        One more line for the header.
    shows_fits : bool
        Whether it shows values of fits, in blocks; otherwise each pixel its own circle, fitted or not.
    needs : str
        Column that holds a value only where this was fitted or computed; a map that needs one no fit has is not made.
    """

    title: str
    unit: str
    make: Callable[[FittedRegions], np.ndarray]
    colours: str = "viridis"
    logarithmic: bool = False
    unit_shown: str = ""
    depends_on_depth: str = ""
    note: str = ""
    shows_fits: bool = True
    needs: str = ""

    def is_known(self, fits: FittedRegions) -> bool:
        """Whether any of these fits has what the map shows."""
        return not self.needs or bool(np.isfinite(fits.column(self.needs)).any())


def _painted(column: Callable[[FittedRegions], np.ndarray]) -> Callable[[FittedRegions], np.ndarray]:
    """A map from a function that gives one value a fit."""
    return lambda fits: paint(column(fits), fits.rows)


def _column(name: str) -> Callable[[FittedRegions], np.ndarray]:
    """A map of a column of the results."""
    return _painted(lambda fits: fits.column(name))


def half_interval(fits: FittedRegions, name: str) -> np.ndarray:
    """Half of the interval between the limits of a parameter such as ``kT`` or ``abundance``, shape (n,)."""
    return 0.5 * (fits.column(f"{name}_hi") - fits.column(f"{name}_lo"))


def kt_fractional_error(fits: FittedRegions) -> np.ndarray:
    """Half of the interval between kT's limits over kT, shape (n,)."""
    return half_interval(fits, "kT") / fits.column("kT")


def _density(fits: FittedRegions) -> np.ndarray:
    return thermo.electron_density(
        fits.column("norm"), fits.area_arcmin2, redshift=fits.redshift, line_of_sight_mpc=fits.line_of_sight_mpc
    )


def _density_error(fits: FittedRegions) -> np.ndarray:
    return thermo.electron_density_error(_density(fits), fits.column("norm"), half_interval(fits, "norm"))


def _pressure(fits: FittedRegions) -> np.ndarray:
    return thermo.pressure(_density(fits), fits.column("kT"))


def _entropy(fits: FittedRegions) -> np.ndarray:
    return thermo.entropy(_density(fits), fits.column("kT"))


def _with_errors(fits: FittedRegions) -> tuple[np.ndarray, ...]:
    """Density, kT, norm and the errors of the last two, as the formulas of pressure and entropy take them."""
    return (
        _density(fits),
        fits.column("kT"),
        fits.column("norm"),
        half_interval(fits, "norm"),
        half_interval(fits, "kT"),
    )


def _goodness(fits: FittedRegions) -> np.ndarray:
    sigma = fits.column("stat_sigma")
    excess = fits.column("stat") - fits.column("stat_expected")
    return np.divide(excess, sigma, out=np.full(len(sigma), np.nan), where=sigma > 0.0)


def _reduced_statistic(fits: FittedRegions) -> np.ndarray:
    dof = fits.column("dof")
    return np.divide(fits.column("stat"), dof, out=np.full(len(dof), np.nan), where=dof > 0)


_NH_SHOWN = r"$10^{22}$ cm$^{-2}$"
_RELATIVE_NOTE = "Relative: from the smoothed surface brightness, scaled to 0..1 over the known pixels."
_ERROR_NOTE = "First order; the correlation of kT and norm is ignored."
_LIMITS_NOTE = (
    "Limits: statistic + delta_statistic (1 is 68 %), other parameters profiled. See the maps of status and flags for "
    "those that are not constrained."
)

QUANTITIES: dict[str, Quantity] = {
    "temperature_map": Quantity("temperature", "keV", _column("kT"), "inferno"),
    "temperature_error_map": Quantity(
        "temperature error", "keV", _painted(lambda f: half_interval(f, "kT")), "cividis",
        note="Half of the interval between the limits. " + _LIMITS_NOTE,
    ),
    "temperature_error_high_map": Quantity(
        "upper temperature error", "keV", _painted(lambda f: f.column("kT_hi") - f.column("kT")), "cividis",
        note=_LIMITS_NOTE,
    ),
    "temperature_error_low_map": Quantity(
        "lower temperature error", "keV", _painted(lambda f: f.column("kT") - f.column("kT_lo")), "cividis",
        note="Positive. " + _LIMITS_NOTE,
    ),
    "temperature_fractional_error_map": Quantity(
        "fractional temperature error", "", _painted(kt_fractional_error), "cividis", note=_LIMITS_NOTE
    ),
    "temperature_background_error_map": Quantity(
        "temperature error from the background's level", "keV", _painted(lambda f: half_interval(f, "kT_bkg")),
        "cividis", needs="kT_bkg_lo",
        note="Half of the range of best temperatures with the background's level moved by its uncertainty.",
    ),
    "abundance": Quantity("abundance", "", _column("abundance"), note="Relative to solar.", needs="abundance_lo"),
    "abundance_error": Quantity(
        "abundance error", "", _painted(lambda f: half_interval(f, "abundance")), "cividis",
        note="Relative to solar. " + _LIMITS_NOTE, needs="abundance_lo",
    ),
    "nH": Quantity("hydrogen column", "10**22 cm-2", _column("nH"), unit_shown=_NH_SHOWN, needs="nH_lo"),
    "nH_error": Quantity(
        "hydrogen column error", "10**22 cm-2", _painted(lambda f: half_interval(f, "nH")), "cividis",
        unit_shown=_NH_SHOWN, note=_LIMITS_NOTE, needs="nH_lo",
    ),
    "norm": Quantity(
        "apec norm per area", f"{NORM_UNIT} arcmin-2", _painted(lambda f: f.column("norm") / f.area_arcmin2),
        "magma", logarithmic=True, unit_shown=r"$10^{14}$ cm$^{-5}$ arcmin$^{-2}$",
    ),
    "norm_error": Quantity(
        "apec norm error per area", f"{NORM_UNIT} arcmin-2",
        _painted(lambda f: half_interval(f, "norm") / f.area_arcmin2), "cividis", logarithmic=True,
        unit_shown=r"$10^{14}$ cm$^{-5}$ arcmin$^{-2}$", note=_LIMITS_NOTE,
    ),
    "density": Quantity(
        "electron density", "cm-3", _painted(_density), "viridis", logarithmic=True, unit_shown=r"cm$^{-3}$",
        depends_on_depth="L^(-1/2)",
    ),
    "density_error": Quantity(
        "electron density error", "cm-3", _painted(_density_error), "cividis", logarithmic=True,
        unit_shown=r"cm$^{-3}$", depends_on_depth="L^(-1/2)", note=_ERROR_NOTE,
    ),
    "pressure": Quantity(
        "electron pressure", "keV cm-3", _painted(_pressure), "viridis", logarithmic=True,
        unit_shown=r"keV cm$^{-3}$", depends_on_depth="L^(-1/2)",
    ),
    "pressure_error": Quantity(
        "electron pressure error", "keV cm-3", _painted(lambda f: thermo.pressure_error(*_with_errors(f))),
        "cividis", logarithmic=True, unit_shown=r"keV cm$^{-3}$", depends_on_depth="L^(-1/2)", note=_ERROR_NOTE,
    ),
    "entropy": Quantity(
        "entropy", "keV cm2", _painted(_entropy), "viridis", logarithmic=True, unit_shown=r"keV cm$^{2}$",
        depends_on_depth="L^(1/3)",
    ),
    "entropy_error": Quantity(
        "entropy error", "keV cm2", _painted(lambda f: thermo.entropy_error(*_with_errors(f))), "cividis",
        logarithmic=True, unit_shown=r"keV cm$^{2}$", depends_on_depth="L^(1/3)", note=_ERROR_NOTE,
    ),
    "relative_density": Quantity(
        "relative density", "",
        lambda f: thermo.scaled_to_unit(thermo.relative_density(f.surface_brightness)),
        note=_RELATIVE_NOTE, shows_fits=False,
    ),
    "relative_pressure": Quantity(
        "relative pressure", "",
        lambda f: thermo.relative_pressure(f.surface_brightness, paint(f.column("kT"), f.rows)), note=_RELATIVE_NOTE,
    ),
    "relative_entropy": Quantity(
        "relative entropy", "",
        lambda f: thermo.relative_entropy(f.surface_brightness, paint(f.column("kT"), f.rows)), note=_RELATIVE_NOTE,
    ),
    "acb_xray_sb_nosrc_cropped": Quantity(
        "smoothed surface brightness", "count s-1 arcmin-2", lambda f: f.surface_brightness, "magma",
        logarithmic=True, unit_shown=r"count s$^{-1}$ arcmin$^{-2}$",
        note="Net counts over exposure, both summed over each pixel's adaptive circle. Vignetting, that of 1.5 keV, is "
        "in the exposure unless [response] vignetting = none.",
        shows_fits=False,
    ),
    "reduced_statistic": Quantity("statistic per degree of freedom", "", _painted(_reduced_statistic)),
    "goodness": Quantity(
        "goodness of fit", "", _painted(_goodness), needs="stat_expected",
        note="Statistic less its expectation were the model true, in its standard deviations (Kaastra 2017).",
    ),
    "disagreement": Quantity(
        "disagreement of the observations", "", _column("disagreement"), needs="disagreement",
        note="Gaussian sigma at which the observations' own kT and norm differ; by chance 0.7 in the median.",
    ),
    "net_counts": Quantity("net counts of the region", "count", _column("net_counts")),
    "counts": Quantity(
        "counts of the region", "count",
        _painted(lambda f: f.column("net_counts") + f.column("background_counts")),
    ),
    "exposure": Quantity(
        "effective exposure of the region", "s", _column("exposure_s"),
        note="Sum over the observations used of their exposure, averaged over the region's pixels.",
    ),
    "radius": Quantity(
        "radius of the region", "arcsec", _painted(lambda f: f.results["radius"] * f.grid.pixel_arcsec), "cividis_r"
    ),
    "status": Quantity(
        "status of the fit", "", lambda f: paint_integers(f.results["status"], f.rows, nothing=NO_STATUS),
        note=f"{NO_STATUS} no fit; " + "; ".join(f"{s.value} {s.name.lower()}" for s in Status),
    ),
    "flags": Quantity(
        "flags of the fit", "", lambda f: paint_integers(f.results["flags"], f.rows, nothing=NO_STATUS),
        note=f"{NO_STATUS} no fit; sum of " + "; ".join(f"{f.value} {flag_text(f)}" for f in Flag if f),
    ),
    "region": Quantity(
        "number of the region", "", lambda f: paint_integers(f.results["region"], f.rows, nothing=0),
        note="0 where no fit belongs.",
    ),
}  # fmt: skip
"""Name of each map, as in its file's name, and what it is. A new map is a new entry."""
