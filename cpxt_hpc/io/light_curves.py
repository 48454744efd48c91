"""``lightcurve.fits``: the binned light curves of the flare cleaning and what was cut from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from cpxt_hpc import __version__
from cpxt_hpc.io.atomic import replacing
from cpxt_hpc.io.fits_files import native, open_fits
from cpxt_hpc.science.lightcurve import LightCurve


def write_light_curves(
    path: Path,
    curves: Sequence[tuple[LightCurve, np.ndarray]],
    bands_ev: Sequence[tuple[float, float]],
    header: Mapping[str, object],
) -> None:
    """Write the light curves of all passes into one table.

    Columns: PASS (from 1), TIME (middle of the bin), TIMEDEL, EXPOSURE [s], COUNTS, RATE, RATE_ERR [count/s],
    ENERGY_LO, ENERGY_HI [keV], KEPT.

    Parameters
    ----------
    path : Path
    curves : sequence of (LightCurve, ndarray of bool)
        One a pass, with the bins that are kept.
    bands_ev : sequence of (float, float)
        Energy band of each pass [eV].
    header : mapping
        Keywords of the table.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    numbers = [np.full(len(curve), number) for number, (curve, _) in enumerate(curves, start=1)]
    low, high = (
        [np.full(len(curve), band[edge] / 1e3) for (curve, _), band in zip(curves, bands_ev, strict=True)]
        for edge in (0, 1)
    )
    each = [curve for curve, _ in curves]
    table = fits.BinTableHDU.from_columns([
        fits.Column("PASS", "I", array=np.concatenate(numbers)),
        fits.Column("TIME", "D", "s", array=np.concatenate([(curve.start + curve.stop) / 2.0 for curve in each])),
        fits.Column("TIMEDEL", "D", "s", array=np.concatenate([curve.stop - curve.start for curve in each])),
        fits.Column("EXPOSURE", "D", "s", array=np.concatenate([curve.exposure_s for curve in each])),
        fits.Column("COUNTS", "J", "count", array=np.concatenate([curve.counts for curve in each])),
        fits.Column("RATE", "D", "count/s", array=np.concatenate([curve.rate for curve in each])),
        fits.Column("RATE_ERR", "D", "count/s", array=np.concatenate([curve.rate_error for curve in each])),
        fits.Column("ENERGY_LO", "E", "keV", array=np.concatenate(low)),
        fits.Column("ENERGY_HI", "E", "keV", array=np.concatenate(high)),
        fits.Column("KEPT", "L", array=np.concatenate([kept for _, kept in curves])),
    ], name="LIGHTCURVE")
    table.header["CREATOR"], table.header["CPXTVER"] = "cpxt_hpc", __version__
    for key, value in header.items():
        table.header[key] = value
    with replacing(path) as temporary:
        fits.HDUList([fits.PrimaryHDU(), table]).writeto(temporary, overwrite=True)


def read_light_curves(path: Path) -> dict[str, np.ndarray]:
    """Columns of the table by lower-case name.

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        It is not what `write_light_curves` writes.
    """
    with open_fits(path, "light curve") as hdus:
        table = hdus["LIGHTCURVE"].data
        return {name.lower(): native(table[name]) for name in table.columns.names}
