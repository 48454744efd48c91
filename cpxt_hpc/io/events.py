"""Chandra ACIS level-2 event files, observations and blank skies: read, checked and written.

Subspace keywords (DSTYPn and the like) describe filters that astropy does not keep up to date; they are
dropped.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy.io import fits

from cpxt_hpc import __version__
from cpxt_hpc.errors import DataError
from cpxt_hpc.io.atomic import replacing
from cpxt_hpc.io.fits_files import native, open_fits
from cpxt_hpc.io.good_times import good_times_block, good_times_by_ccd, read_good_times_blocks
from cpxt_hpc.science.events import PI_CHANNEL_EV, EventList

logger = logging.getLogger(__name__)

COLUMNS = {
    "time": ("D", "s"), "ccd_id": ("I", None), "node_id": ("I", None), "chipx": ("I", "pixel"),
    "chipy": ("I", "pixel"), "detx": ("E", "pixel"), "dety": ("E", "pixel"), "x": ("E", "pixel"),
    "y": ("E", "pixel"), "energy": ("E", "eV"), "pi": ("J", "chan"), "grade": ("I", None),
    "status": ("32X", None),
}
"""Columns that are kept, with format and unit in the files written here."""

LIMITS = {
    "ccd_id": (0, 9), "chipx": (2, 1023), "chipy": (2, 1023), "detx": (0.5, 8192.5), "dety": (0.5, 8192.5),
    "x": (0.5, 8192.5), "y": (0.5, 8192.5), "pi": (1, 1024), "grade": (0, 7),
}

OBSERVATION_KEYWORDS = (
    "MISSION", "TELESCOP", "INSTRUME", "DETNAM", "GRATING", "OBJECT", "OBSERVER", "TITLE", "OBS_ID",
    "OBI_NUM", "SEQ_NUM", "CYCLE", "OBS_MODE", "DATAMODE", "READMODE", "DATE-OBS", "DATE-END", "TIMESYS",
    "MJDREF", "TIMEZERO", "TIMEUNIT", "TSTART", "TSTOP", "TIMEDEL", "TIMEPIXR", "RA_TARG", "DEC_TARG",
    "RA_NOM", "DEC_NOM", "ROLL_NOM", "RA_PNT", "DEC_PNT", "ROLL_PNT", "SIM_X", "SIM_Y", "SIM_Z", "FOC_LEN",
    "FP_TEMP", "EXPTIME", "CTI_CORR", "CHKVFPHA", "GAINFILE", "ASCDSVER", "CALDBVER", "CVSD0001",
)
"""Keywords that describe the observation, or tell a blank sky's epoch (CVSD0001), and survive; all others are written
anew or dropped."""

_CCD_LIST = "CPXTCCDS"
_STATUS_BITS = 32


def read_events(path: Path, *, obsid: int | None = None, blank_sky: bool = False) -> EventList:
    """Read an event file.

    Parameters
    ----------
    path : Path
        Level-2 events, plain or gzip'ed; columns in any case, optional ones may be absent.
    obsid : int, optional
        Observation that the file must belong to; by default OBS_ID of the header.
    blank_sky : bool
        A blank-sky file: its times mean nothing and are dropped with its good times; its OBS_ID is not
        checked.

    Returns
    -------
    EventList
        ``status`` is a uint32 word, first bit of the file in the highest bit. The first CCD of
        ``good_times`` and ``exposure_s`` is the aimpoint's (the file's first GTI block). CCDs in use are those
        with events.

    Raises
    ------
    MissingInput
        There is no such file.
    DataError
        It is damaged, not an ACIS event file in timed read mode without grating, merged, or lacks a column,
        the sky coordinate system, the good times or the exposure.
    """
    path = Path(path)
    with open_fits(path, "event file") as hdus:
        table = _events_table(hdus, path)
        header = hdus[0].header.copy()
        header.update(table.header)
        columns = _read_columns(table, path)
        coordinates = sky_coordinates(table, path)
        intervals = {} if blank_sky else read_good_times_blocks(hdus)
    _check_kind(header, path)
    found = _observation_id(header, path, obsid, blank_sky)
    if blank_sky:
        columns.pop("time", None)
    columns = _without_undefined(columns, path)
    ccds = _ccds_in_use(header, columns, path)
    good_times = {} if blank_sky or "time" not in columns else good_times_by_ccd(intervals, ccds, path)
    dtcor = _dead_time_correction(header, path)
    exposure_s = _exposures(header, ccds, good_times, dtcor, path)
    described = {key: header[key] for key in OBSERVATION_KEYWORDS if header.get(key) is not None}
    return EventList(found, columns, *coordinates, good_times, exposure_s, dtcor, described)


def read_tangent_point(path: Path) -> tuple[float, float]:
    """Tangent point of an event file's sky pixels, RA and Dec [deg]; errors as of `read_events`."""
    with open_fits(path, "event file") as hdus:
        return sky_coordinates(_events_table(hdus, path), path)[:2]


def read_pointing(path: Path) -> tuple[float, float] | None:
    """Direction of the optical axis, RA and Dec [deg]: RA_PNT, DEC_PNT, else RA_NOM, DEC_NOM; None without both.

    Errors as of `read_events`.
    """
    with open_fits(path, "event file") as hdus:
        table = _events_table(hdus, path)
        for suffix in ("PNT", "NOM"):
            keys = f"RA_{suffix}", f"DEC_{suffix}"
            ra, dec = (_number(table.header.get(key, hdus[0].header.get(key))) for key in keys)
            if math.isfinite(ra) and abs(dec) <= 90.0:
                return ra, dec
    return None


def write_events(path: Path, events: EventList, history: Iterable[str] = ()) -> None:
    """Write a level-2 like event file that `read_events` gives back.

    Parameters
    ----------
    path : Path
    events : EventList
        Positions are stored as float32: 0.0005 pixel.
    history : iterable of str

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    names = [name for name in COLUMNS if name in events.columns]
    table = fits.BinTableHDU.from_columns([
        fits.Column(name=name, format=format_, unit=unit, array=_storable(name, events[name]))
        for name, (format_, unit) in ((name, COLUMNS[name]) for name in names)
    ], name="EVENTS")
    header = table.header
    for number, name in enumerate(names, start=1):
        if name in LIMITS:
            header[f"TLMIN{number}"], header[f"TLMAX{number}"] = LIMITS[name]
    tangent_point = (("x", "RA---TAN", events.ra_deg), ("y", "DEC--TAN", events.dec_deg))
    for axis, (name, kind, value) in enumerate(tangent_point):
        number = names.index(name) + 1
        header[f"TCTYP{number}"] = kind
        header[f"TCRVL{number}"] = value
        header[f"TCRPX{number}"] = events.reference_pixel[axis]
        header[f"TCDLT{number}"] = events.pixel_deg[axis]
        header[f"TCUNI{number}"] = "deg"
    header["MTYPE1"], header["MFORM1"] = "sky", "x,y"
    header["MTYPE2"], header["MFORM2"] = "EQPOS", "RA,DEC"
    keywords = _observation_cards(events)
    for key, value in keywords.items():
        header[key] = value
    for line in history:
        header.add_history(line)
    blocks = [fits.PrimaryHDU(), table]
    for key in ("CREATOR", "CPXTVER", "OBS_ID", "OBJECT"):
        if key in keywords:
            blocks[0].header[key] = keywords[key]
    blocks += [
        good_times_block(ccd, intervals, number, keywords)
        for number, (ccd, intervals) in enumerate(events.good_times.items(), start=1)
    ]
    with replacing(path) as temporary:
        fits.HDUList(blocks).writeto(temporary, overwrite=True)


def _events_table(hdus: fits.HDUList, path: Path) -> fits.BinTableHDU:
    table = next((block for block in hdus if block.name.upper() == "EVENTS"), None)
    if not isinstance(table, fits.BinTableHDU):
        raise DataError(f"{path}: has no EVENTS table. Expected a Chandra level-2 event file.")
    return table


def _read_columns(table: fits.BinTableHDU, path: Path) -> dict[str, np.ndarray]:
    by_name = {name.lower(): name for name in table.columns.names}
    columns = {name: native(table.data[by_name[name]]) for name in COLUMNS if name in by_name}
    missing = [name for name in ("ccd_id", "x", "y") if name not in columns]
    if "energy" not in columns and "pi" not in columns:
        missing.append("energy or pi")
    if missing:
        raise DataError(f"{path}: has no column {', '.join(missing)}. Expected level-2 events.")
    if "energy" not in columns:
        columns["energy"] = ((columns["pi"] - 0.5) * PI_CHANNEL_EV).astype(np.float32)
    if "pi" not in columns:
        columns["pi"] = np.clip(np.floor(columns["energy"] / PI_CHANNEL_EV) + 1, 1, 1024).astype(np.int32)
    if "status" in columns:
        columns["status"] = _status_word(columns["status"])
    return columns


def _status_word(status: np.ndarray) -> np.ndarray:
    """32 status bits (most significant first), or an integer, as one uint32 an event."""
    if status.ndim == 1:
        return status.astype(np.uint32)
    bits = np.zeros((len(status), _STATUS_BITS), dtype=bool)
    bits[:, -status.shape[1]:] = status
    return np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.uint32)


def _storable(name: str, column: np.ndarray) -> np.ndarray:
    if name == "status":
        return np.unpackbits(column.astype(">u4").view(np.uint8).reshape(-1, 4), axis=1).astype(bool)
    return column


def sky_coordinates(
    table: fits.BinTableHDU, path: Path
) -> tuple[float, float, tuple[float, float], tuple[float, float]]:
    """Tangent point RA, Dec [deg], its sky pixel and the size of a sky pixel [deg] of the columns x, y.

    Raises
    ------
    DataError
        There are no such columns, or they are no tangent plane.
    """
    names = [name.lower() for name in table.columns.names]
    if "x" not in names or "y" not in names:
        raise DataError(f"{path}: has no columns x, y (sky pixels). Expected level-2 events.")
    header = table.header
    found = []
    for name, kind in (("x", "RA---TAN"), ("y", "DEC--TAN")):
        number = names.index(name) + 1
        value = str(header.get(f"TCTYP{number}", "")).strip()
        if value != kind:
            raise DataError(
                f"{path}: column {name} has TCTYP{number} = {value!r}; expected {kind!r}: sky pixels in a "
                "tangent plane."
            )
        try:
            found.append([float(header[f"{key}{number}"]) for key in ("TCRVL", "TCRPX", "TCDLT")])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}: the sky coordinate system of column {name} is incomplete ({error})."
            ) from error
    (ra, pixel_x, step_x), (dec, pixel_y, step_y) = found
    if not (np.all(np.isfinite(found)) and abs(dec) <= 90.0 and step_x and step_y):
        raise DataError(
            f"{path}: the sky pixels are {step_x:g} x {step_y:g} degrees about RA {ra:g}, Dec {dec:g}, which is no "
            "place in the sky. Fetch the file again."
        )
    return ra, dec, (pixel_x, pixel_y), (step_x, step_y)


def _check_kind(header: fits.Header, path: Path) -> None:
    """Refuse what the fit cannot use; warn where a keyword that would tell is missing."""
    for key, accepted, advice in (
        ("TELESCOP", ("CHANDRA",), "Only Chandra data can be used."),
        ("INSTRUME", ("ACIS",), "Only ACIS data can be used."),
        ("READMODE", ("TIMED",), "Continuous-clocking data have no image."),
        ("GRATING", ("NONE",), "Grating observations cannot be used."),
    ):
        value = str(header.get(key, "")).strip().upper()
        if not value:
            logger.warning("%s: has no keyword %s; taken to be %s.", path, key, accepted[0])
        elif value not in accepted:
            raise DataError(f"{path}: {key} = {value!r}, expected {accepted[0]!r}. {advice}")
    datamode = str(header.get("DATAMODE", "")).strip().upper()
    if datamode not in ("FAINT", "VFAINT", "GRADED"):
        logger.warning("%s: DATAMODE = %r, expected FAINT, VFAINT or GRADED.", path, datamode)


def _observation_id(header: fits.Header, path: Path, obsid: int | None, blank_sky: bool) -> int:
    text = str(header.get("OBS_ID", "")).strip()
    if text.lower() == "merged":
        raise DataError(f"{path}: OBS_ID = 'merged'. Give the event files of the single observations.")
    if obsid is not None and (blank_sky or not text):
        return obsid
    if not text.isdigit():
        raise DataError(f"{path}: OBS_ID = {text!r}, expected a number.")
    if obsid is not None and int(text) != obsid:
        raise DataError(f"{path}: holds ObsID {int(text)}, expected {obsid}. Put the right event file there.")
    return int(text)


def _without_undefined(columns: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    defined = np.ones(len(columns["x"]), dtype=bool)
    for name in ("time", "x", "y", "energy"):
        if name in columns:
            defined &= np.isfinite(columns[name])
    if defined.all():
        return columns
    lost = np.count_nonzero(~defined)
    logger.warning("%s: %d events without time, position or energy left out.", path, lost)
    return {name: column[defined] for name, column in columns.items()}


def _ccds_in_use(header: fits.Header, columns: dict[str, np.ndarray], path: Path) -> list[int]:
    """CCDs with events; a file of ours lists them, so that one whose events were all removed is not lost."""
    if _CCD_LIST in header:
        return [int(ccd) for ccd in str(header[_CCD_LIST]).split(",")]
    ccds = [int(ccd) for ccd in np.unique(columns["ccd_id"])]
    if not ccds:
        raise DataError(f"{path}: holds no events.")
    return ccds


def _dead_time_correction(header: fits.Header, path: Path) -> float:
    value = header.get("DTCOR")
    ontime, livetime = _number(header.get("ONTIME")), _number(header.get("LIVETIME"))
    if value is None and ontime > 0.0 and livetime > 0.0:
        value = livetime / ontime
    if value is None:
        logger.warning("%s: neither DTCOR nor LIVETIME and ONTIME; dead time is not corrected.", path)
        return 1.0
    if not 0.0 < _number(value) <= 1.0:
        raise DataError(f"{path}: dead-time correction DTCOR = {value!r}; expected 0 < DTCOR <= 1.")
    return float(value)


def _number(value: object) -> float:
    """Value of a keyword; NaN where it is no number."""
    return float(value) if isinstance(value, (int, float)) else math.nan


def _exposures(
    header: fits.Header, ccds: list[int], good_times: dict[int, np.ndarray], dtcor: float, path: Path
) -> dict[int, float]:
    """EXPOSURn, else EXPOSURE, else the sum of the good times, of each CCD [s]."""
    exposures = {}
    for ccd in [*good_times, *(ccd for ccd in ccds if ccd not in good_times)]:
        value = header.get(f"EXPOSUR{ccd}", header.get("EXPOSURE"))
        if value is None and ccd in good_times:
            value = dtcor * float(np.sum(good_times[ccd][:, 1] - good_times[ccd][:, 0]))
        if not (math.isfinite(_number(value)) and _number(value) > 0.0):
            raise DataError(
                f"{path}: exposure of CCD {ccd} is {value!r}; expected EXPOSUR{ccd} or EXPOSURE > 0 [s]."
            )
        exposures[ccd] = float(value)
    return exposures


def _observation_cards(events: EventList) -> dict[str, object]:
    cards: dict[str, object] = {"HDUCLASS": "OGIP", "HDUCLAS1": "EVENTS", "HDUCLAS2": "ACCEPTED"}
    cards["CONTENT"] = "EVT2"
    cards.update(events.header)
    aimpoint = next(iter(events.exposure_s))
    cards.update({
        "OBS_ID": str(events.obsid), "RADESYS": "ICRS", "EQUINOX": 2000.0, "DTCOR": events.dtcor,
        "CREATOR": "cpxt_hpc", "CPXTVER": __version__,
        _CCD_LIST: ",".join(str(ccd) for ccd in events.exposure_s),
    })
    for ccd, suffix in [(aimpoint, ""), *((ccd, str(ccd)) for ccd in events.exposure_s)]:
        exposure = events.exposure_s[ccd]
        ontime = exposure / events.dtcor
        if ccd in events.good_times:
            ontime = float(np.sum(np.diff(events.good_times[ccd])))
        cards[f"ONTIME{suffix}"] = ontime
        cards["LIVETIME" if suffix == "" else f"LIVTIME{suffix}"] = exposure
        cards["EXPOSURE" if suffix == "" else f"EXPOSUR{suffix}"] = exposure
    return cards
