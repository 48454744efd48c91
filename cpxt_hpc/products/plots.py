"""Maps as pictures: sky coordinates, a colour bar with its unit, a scale bar, contours of surface brightness."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from scipy.ndimage import gaussian_filter

from cpxt_hpc.fitting.results import Status
from cpxt_hpc.io.atomic import replacing
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.products.fitted import FittedRegions
from cpxt_hpc.products.maps import Map
from cpxt_hpc.products.quantities import NO_STATUS
from cpxt_hpc.science.maps import BLOCK_SIDE
from cpxt_hpc.science.thermo import kpc_per_arcmin

UNKNOWN_COLOUR = "0.85"
"""Grey of pixels without a value: no colour map used here holds it."""

STRETCH_PERCENTILES = (1.0, 99.0)
LOGARITHMIC_STRETCH_PERCENTILES = (1.0, 99.97)
"""A logarithm holds the peak of a cluster, a small part of its area, without darkening the rest.
Known pixels outside are shown in the colours of the ends, and the colour bar has arrows."""

SMALLEST_RANGE = 1e-5
"""Smaller relative differences are rounding: the colours then span 5 % to either side."""

LONGEST_SIDE_INCHES = 5.0
LEFT_INCHES, RIGHT_INCHES, BOTTOM_INCHES, TOP_INCHES = 1.05, 1.45, 0.65, 0.65
BAR_GAP_INCHES, BAR_INCHES = 0.1, 0.18
DOTS_PER_INCH = 130
MARGIN_PIXELS = 4

SCALE_BARS_ARCMIN = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

CONTOUR_STEPS = 7
CONTOUR_FACTOR = 2.0
CONTOUR_SMOOTHING_PIXELS = 1.5

STATUS_COLOURS = {
    NO_STATUS: ("no fit", UNKNOWN_COLOUR),
    Status.OK: ("ok", "#cfe8f3"),
    Status.KT_AT_LOWER_BOUND: ("kT at lower bound", "#0072b2"),
    Status.KT_AT_UPPER_BOUND: ("kT at upper bound", "#d55e00"),
    Status.KT_LO_UNBOUND: ("lower limit open", "#56b4e9"),
    Status.KT_HI_UNBOUND: ("upper limit open", "#e69f00"),
    Status.KT_UNCONSTRAINED: ("kT unconstrained", "#f0e442"),
    Status.NO_EXPOSURE: ("no exposure", "#999999"),
    Status.NOT_A_NUMBER: ("NaN", "#cc79a7"),
    Status.CRASHED: ("crashed", "#000000"),
    Status.TIMED_OUT: ("timed out", "#6a3d9a"),
}
"""Name and colour of each status: Okabe and Ito's palette, made for colour-blind readers."""


def write_pictures(maps: Mapping[str, Map], fits: FittedRegions, layout: ClusterLayout) -> list[Path]:
    """Write a PNG for each map; that of the temperature has its error beside it where both are there.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    rows, columns = _extent(fits)
    written = []
    for name, item in maps.items():
        panels = [item]
        if name == "temperature_map" and "temperature_error_map" in maps:
            panels.append(maps["temperature_error_map"])
        figure = _figure(panels, fits, rows, columns)
        path = layout.map_file(f"{name}.png")
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": "cpxt_hpc"})
        written.append(path)
    return written


def _extent(fits: FittedRegions) -> tuple[slice, slice]:
    """Rows and columns that hold the map, with a margin."""
    known = np.isfinite(fits.surface_brightness) | (fits.rows >= 0)
    slices = []
    for axis, size in ((1, fits.grid.ny), (0, fits.grid.nx)):
        filled = np.flatnonzero(known.any(axis=axis))
        first, last = (filled[0], filled[-1]) if len(filled) else (0, size - 1)
        slices.append(slice(max(int(first) - MARGIN_PIXELS, 0), min(int(last) + MARGIN_PIXELS, size - 1) + 1))
    return slices[0], slices[1]


def _figure(panels: list[Map], fits: FittedRegions, rows: slice, columns: slice) -> Figure:
    """A figure with one panel a map, each with its colour bar or legend at the right."""
    part = fits.grid.crop(rows.start, rows.stop, columns.start, columns.stop)
    scale = LONGEST_SIDE_INCHES / max(part.nx, part.ny)
    width, height = part.nx * scale, part.ny * scale
    step = LEFT_INCHES + width + RIGHT_INCHES
    whole = (step * len(panels), BOTTOM_INCHES + height + TOP_INCHES)
    figure = Figure(figsize=whole, dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)

    def box(left: float, bottom: float, wide: float, high: float) -> tuple[float, ...]:
        return left / whole[0], bottom / whole[1], wide / whole[0], high / whole[1]

    for position, item in enumerate(panels):
        left = position * step + LEFT_INCHES
        axes = figure.add_axes(box(left, BOTTOM_INCHES, width, height), projection=part.wcs())
        image = item.image[rows, columns]
        if item.name == "status":
            _show_status(axes, image)
        else:
            if np.issubdtype(image.dtype, np.integer):
                image = np.where(fits.rows[rows, columns] < 0, np.nan, image)
            shown = _show_values(axes, item, image)
            bar_axes = figure.add_axes(box(left + width + BAR_GAP_INCHES, BOTTOM_INCHES, BAR_INCHES, height))
            _draw_colour_bar(figure, bar_axes, shown, item)
        if item.name == "temperature_map":
            _draw_contours(axes, fits.surface_brightness[rows, columns])
        _draw_scale_bar(axes, part.nx, part.ny, part.pixel_arcsec, fits.redshift)
        _label_axes(axes)
        axes.set_title(f"{fits.name}: {item.quantity.title}", fontsize="medium", loc="left", pad=20)
        axes.text(0.0, 1.015, _what_is_shown(item, fits), transform=axes.transAxes, fontsize="x-small", color="0.3")
    return figure


def _what_is_shown(item: Map, fits: FittedRegions) -> str:
    if not item.quantity.shows_fits:
        return f"adaptive circle of each pixel of {fits.grid.pixel_arcsec:.3g} arcsec"
    side = BLOCK_SIDE[fits.resolution]
    blocks = "single pixels" if side == 1 else f"blocks of {side} x {side} pixels"
    contours = "; contours: surface brightness, factors of 2" if item.name == "temperature_map" else ""
    pixel = f"{fits.grid.pixel_arcsec:.3g} arcsec"
    return f"{fits.n_of_resolution} of {fits.n_regions} regions, {blocks} of {pixel}{contours}"


def _show_values(axes: Axes, item: Map, image: np.ndarray) -> AxesImage:
    """The image in the quantity's colours, stretched between percentiles of the known pixels."""
    logarithmic = item.quantity.logarithmic and bool(np.any(image > 0))
    if logarithmic:
        image = np.where(image > 0, image, np.nan)
    known = image[np.isfinite(image)]
    stretch = LOGARITHMIC_STRETCH_PERCENTILES if logarithmic else STRETCH_PERCENTILES
    low, high = np.percentile(known, stretch) if len(known) else (0.0, 1.0)
    if high - low <= SMALLEST_RANGE * abs(high):
        low, high = low - 0.05 * (abs(low) or 1.0), high + 0.05 * (abs(high) or 1.0)
    scale = LogNorm(low, high) if logarithmic else Normalize(low, high)
    colours = matplotlib.colormaps[item.quantity.colours].with_extremes(bad=UNKNOWN_COLOUR)
    return axes.imshow(image, origin="lower", cmap=colours, norm=scale, interpolation="nearest")


def _draw_colour_bar(figure: Figure, axes: Axes, shown: AxesImage, item: Map) -> None:
    """Colour bar with the quantity's unit; on a logarithmic one every 1, 2 and 5 is written out."""
    bar = figure.colorbar(shown, cax=axes, extend=_extend(shown), extendfrac=0.03)
    bar.set_label(_label(item))
    if isinstance(shown.norm, LogNorm):
        low, high = shown.norm.vmin, shown.norm.vmax
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if high < 10.0 * low else (1.0, 2.0, 5.0)
        ticks = np.outer(decades, steps).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        bar.set_ticks(ticks, labels=[_written_out(tick) for tick in ticks])
        bar.ax.minorticks_off()


def _written_out(value: float) -> str:
    """A number of a colour bar: 0.02, 300, or 2 x 10^-5."""
    if 1e-4 <= value < 1e5:
        return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    exponent = int(np.floor(np.log10(value) + 1e-9))
    mantissa = f"{value / 10.0**exponent:.2g}"
    return rf"$10^{{{exponent}}}$" if mantissa == "1" else rf"${mantissa}\times10^{{{exponent}}}$"


def _extend(shown: AxesImage) -> str:
    """Which ends of the colour bar get an arrow: those beyond which pixels lie."""
    values = np.ma.masked_invalid(shown.get_array()).compressed()
    if len(values) == 0:
        return "neither"
    below, above = values.min() < shown.norm.vmin, values.max() > shown.norm.vmax
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[
        (bool(below), bool(above))
    ]


def _show_status(axes: Axes, image: np.ndarray) -> None:
    """The statuses in fixed colours, those that occur in a legend."""
    picture = np.ones((*image.shape, 3))
    handles = []
    for status, (name, colour) in STATUS_COLOURS.items():
        here = image == int(status)
        if here.any():
            picture[here] = matplotlib.colors.to_rgb(colour)
            label = name if status == NO_STATUS else f"{int(status)}  {name}"
            handles.append(Patch(facecolor=colour, edgecolor="0.4", label=label))
    axes.imshow(picture, origin="lower", interpolation="nearest")
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0, fontsize="x-small")


def _label(item: Map) -> str:
    unit = item.quantity.unit_shown or item.quantity.unit
    return f"{item.quantity.title} [{unit}]" if unit else item.quantity.title


def _draw_contours(axes: Axes, brightness: np.ndarray) -> None:
    """Contours of the surface brightness, each twice the next outer one."""
    known = np.isfinite(brightness)
    if not known.any():
        return
    weight = gaussian_filter(known.astype(float), CONTOUR_SMOOTHING_PIXELS)
    smoothed = gaussian_filter(np.where(known, brightness, 0.0), CONTOUR_SMOOTHING_PIXELS)
    smoothed = np.divide(smoothed, weight, out=np.full(brightness.shape, np.nan), where=known)
    peak = np.nanmax(smoothed)
    levels = peak * CONTOUR_FACTOR ** -np.arange(CONTOUR_STEPS, 0.0, -1.0)
    levels = levels[levels > np.nanmin(smoothed)]
    if peak <= 0 or len(levels) == 0:
        return
    axes.contour(smoothed, levels=levels, colors="white", linewidths=1.6, alpha=0.6)
    axes.contour(smoothed, levels=levels, colors="black", linewidths=0.7)


def _draw_scale_bar(axes: Axes, nx: int, ny: int, pixel_arcsec: float, redshift: float) -> None:
    """A bar of a round number of arcmin in the lower left corner, with its length in kpc."""
    width_arcmin = nx * pixel_arcsec / 60.0
    fitting = [length for length in SCALE_BARS_ARCMIN if length <= 0.3 * width_arcmin]
    arcmin = fitting[-1] if fitting else SCALE_BARS_ARCMIN[0]
    left, bottom, length = 0.05 * nx, 0.05 * ny, arcmin * 60.0 / pixel_arcsec
    outline = [withStroke(linewidth=3, foreground="white")]
    axes.plot([left, left + length], [bottom, bottom], color="black", linewidth=2, path_effects=outline)
    text = f"{arcmin:g} arcmin = {arcmin * kpc_per_arcmin(redshift):.0f} kpc"
    axes.text(left, bottom + 0.015 * ny, text, ha="left", va="bottom", fontsize="small", path_effects=outline)


def _label_axes(axes: Axes) -> None:
    """Right ascension below, declination at the left, no grid over the data."""
    right_ascension, declination = axes.coords[0], axes.coords[1]
    right_ascension.set_axislabel("Right ascension (ICRS)")
    declination.set_axislabel("Declination (ICRS)")
    right_ascension.set_ticks(number=4)
    declination.set_ticks(number=5)
    for coordinate in (right_ascension, declination):
        coordinate.set_ticklabel(exclude_overlapping=True)
        coordinate.display_minor_ticks(True)
