"""The demo's files: level-2 event lists with their GTI blocks, as the archive and chandra_repro leave them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

from cpxt_hpc.demo import instrument
from cpxt_hpc.demo.simulate import Observation
from cpxt_hpc.io.atomic import replacing
from cpxt_hpc.science.grid import SKY_PIXEL_ARCSEC

_FORMATS = {
    "time": "1D", "expno": "1J", "ccd_id": "1I", "node_id": "1I", "chipx": "1I", "chipy": "1I", "tdetx": "1I",
    "tdety": "1I", "detx": "1E", "dety": "1E", "x": "1E", "y": "1E", "pha": "1J", "energy": "1E", "pi": "1J",
    "fltgrade": "1I", "grade": "1I",
}  # fmt: skip
_UNITS = {"time": "s", "energy": "eV", "pi": "chan", "pha": "adu"}
_DATE = "2026-01-01T00:00:00"
_MISSION_EPOCH = np.datetime64("1998-01-01T00:00:00")
_GTI_ORDER = (3, 0, 1, 2)
"""The aimpoint chip's good times come first."""


def write_event_file(
    path: Path,
    observation: Observation,
    columns: dict[str, np.ndarray],
    *,
    title: str,
    target: tuple[float, float],
) -> None:
    """Write an observation's level-2 event file with one good-time block per CCD."""
    header = _common_header(observation, title=title, target=target)
    good_times = {ccd: _good_times(observation, ccd) for ccd in instrument.CCDS}
    aimpoint = float(np.diff(good_times[_GTI_ORDER[0]]).sum())
    header.update(_exposure_keywords("", aimpoint))
    for ccd, intervals in good_times.items():
        header.update(_exposure_keywords(str(ccd), float(np.diff(intervals).sum())))
    blocks = [_event_block(columns, header)]
    for ccd in _GTI_ORDER:
        block = fits.BinTableHDU.from_columns(
            [
                fits.Column("start", "1D", unit="s", array=good_times[ccd][:, 0]),
                fits.Column("stop", "1D", unit="s", array=good_times[ccd][:, 1]),
            ]
        )
        block.header.update({"EXTNAME": "GTI", "EXTVER": ccd, "HDUNAME": f"GTI{ccd}", "CCD_ID": ccd})
        block.header.update({"HDUCLASS": "OGIP", "HDUCLAS1": "GTI", "HDUCLAS2": "STANDARD"})
        blocks.append(block)
    _write(path, header, blocks)


def write_blank_sky_file(
    path: Path,
    observation: Observation,
    columns: dict[str, np.ndarray],
    exposure_factor: float,
    *,
    target: tuple[float, float],
) -> None:
    """Write a blank-sky event file in the observation's sky frame."""
    header = _common_header(observation, title="BLANK SKY", target=target)
    header["OBJECT"] = "BACKGROUND DATASET"
    header.update(_exposure_keywords("", observation.ontime_s * exposure_factor))
    wanted = {name: column for name, column in columns.items() if name != "expno"}
    _write(path, header, [_event_block(wanted, header)])


def _write(path: Path, header: dict, blocks: list[fits.BinTableHDU]) -> None:
    primary = fits.PrimaryHDU()
    primary.header.update({key: value for key, value in header.items() if not key.startswith(("EXPOSUR", "LIVTIME"))})
    primary.header["HDUNAME"] = "PRIMARY"
    with replacing(path) as temporary:
        fits.HDUList([primary, *blocks]).writeto(temporary, overwrite=True)


def _good_times(observation: Observation, ccd: int) -> np.ndarray:
    start, stop = observation.start_s, observation.start_s + observation.ontime_s
    if ccd not in observation.lost_s:
        return np.array([[start, stop]])
    lost_start, lost_stop = (observation.start_s + value for value in observation.lost_s[ccd])
    return np.array([[start, lost_start], [lost_stop, stop]])


def _exposure_keywords(suffix: str, ontime_s: float) -> dict[str, float]:
    live = ontime_s * instrument.DTCOR
    livetime, exposure = ("LIVETIME", "EXPOSURE") if not suffix else ("LIVTIME", "EXPOSUR")
    return {f"ONTIME{suffix}": ontime_s, f"{livetime}{suffix}": live, f"{exposure}{suffix}": live}


def _iso(mission_time_s: float) -> str:
    return str(_MISSION_EPOCH + np.timedelta64(int(mission_time_s), "s"))


def _common_header(observation: Observation, *, title: str, target: tuple[float, float]) -> dict:
    pointing = observation.pointing
    stop = observation.start_s + observation.ontime_s
    return {
        "ORIGIN": "CPXT-DEMO", "CREATOR": "cpxt-demo", "CONTENT": "EVT2", "DATE": _DATE,
        "DATE-OBS": _iso(observation.start_s), "DATE-END": _iso(stop), "TIMESYS": "TT", "MJDREF": 50814.0,
        "TIMEZERO": 0.0, "TIMEUNIT": "s", "TSTART": observation.start_s, "TSTOP": stop,
        "TIMEDEL": instrument.FRAME_S, "TIMEPIXR": 0.5, "MISSION": "AXAF", "TELESCOP": "CHANDRA",
        "INSTRUME": "ACIS", "DETNAM": "ACIS-0123", "GRATING": "NONE", "OBJECT": title, "OBSERVER": "SIMULATION",
        "TITLE": title, "OBS_ID": str(observation.obsid), "OBS_MODE": "POINTING", "DATAMODE": "VFAINT",
        "READMODE": "TIMED", "CYCLE": "P", "RA_TARG": target[0], "DEC_TARG": target[1],
        "RA_NOM": pointing.ra_deg, "DEC_NOM": pointing.dec_deg, "ROLL_NOM": pointing.roll_deg,
        "RA_PNT": pointing.ra_deg, "DEC_PNT": pointing.dec_deg, "ROLL_PNT": pointing.roll_deg,
        "RADECSYS": "ICRS", "EQUINOX": 2000.0, "SIM_X": -0.68282252, "SIM_Y": 0.0, "SIM_Z": -233.5924630914,
        "FOC_LEN": 10070.0, "FP_TEMP": 153.4, "EXPTIME": 3.1, "DTCOR": instrument.DTCOR, "CHKVFPHA": True,
    }  # fmt: skip


def _event_block(columns: dict[str, np.ndarray], header: dict) -> fits.BinTableHDU:
    n = len(columns["x"])
    table = [
        fits.Column(name, _FORMATS[name], unit=_UNITS.get(name, "pixel" if name[-1] in "xy" else None), array=values)
        for name, values in columns.items()
    ]
    table.append(fits.Column("status", "32X", array=np.zeros((n, 32), dtype=bool)))
    block = fits.BinTableHDU.from_columns(table)
    names = [*columns, "status"]
    for axis, value, step, kind in (
        ("x", header["RA_NOM"], -SKY_PIXEL_ARCSEC / 3600.0, "RA---TAN"),
        ("y", header["DEC_NOM"], SKY_PIXEL_ARCSEC / 3600.0, "DEC--TAN"),
    ):
        number = names.index(axis) + 1
        block.header.update({f"TCTYP{number}": kind, f"TCRVL{number}": value, f"TCRPX{number}": instrument.AXIS_PIXEL})
        block.header.update({f"TCDLT{number}": step, f"TCUNI{number}": "deg"})
    limits = {
        "ccd_id": (0, 9),
        "chipx": (2, 1023),
        "chipy": (2, 1023),
        "x": (0.5, 8192.5),
        "y": (0.5, 8192.5),
        "pi": (1, 1024),
    }
    for name, (low, high) in limits.items():
        number = names.index(name) + 1
        block.header.update({f"TLMIN{number}": low, f"TLMAX{number}": high})
    block.header.update(
        {
            "EXTNAME": "EVENTS",
            "HDUNAME": "EVENTS",
            "HDUCLASS": "OGIP",
            "HDUCLAS1": "EVENTS",
            "HDUCLAS2": "ACCEPTED",
        }
    )
    block.header.update(header)
    return block
