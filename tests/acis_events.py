"""Small ACIS-I observations for the tests: uniform detector background, dithered, in level-2 form.

The detector's geometry is that of the demo; nothing of the code under test is used.
"""

import numpy as np

from cpxt_hpc.demo import instrument
from cpxt_hpc.science.events import EventList

SKY_STEP_DEG = 0.492 / 3600.0
START_S = 500_000_000.0


def pointing(*, ra=150.0, dec=22.0, roll=30.0):
    return instrument.Pointing(ra, dec, roll, (0.3, 1.1))


def draw_positions(rng, n, ccds, look, met_s, start_s=START_S):
    """Columns ccd_id, chipx, chipy, x, y of events uniform over the chips at the given times."""
    ccd_id = rng.choice(ccds, n)
    low, high = instrument.ACTIVE_PIXELS[0] - 0.5, instrument.ACTIVE_PIXELS[1] + 0.5
    chipx, chipy = rng.uniform(low, high, n), rng.uniform(low, high, n)
    x, y = look.sky_from_detector(*instrument.detector_from_chip(ccd_id, chipx, chipy), met_s - start_s)
    return {
        "ccd_id": ccd_id.astype(np.int16),
        "chipx": np.rint(chipx).astype(np.int16),
        "chipy": np.rint(chipy).astype(np.int16),
        "x": x.astype(np.float32),
        "y": y.astype(np.float32),
    }


def _spectrum(rng, n):
    energy = rng.uniform(400.0, 12_000.0, n).astype(np.float32)
    return {"energy": energy, "pi": (np.floor(energy / 14.6) + 1).astype(np.int32)}


def observation(
    rng, *, obsid=7, n=20_000, ontime_s=20_000.0, ccds=(0, 1, 2, 3), look=None, flare=None, good_times=None,
    header=None,
):
    """Flat background over an observation; a flare (start, stop, factor) multiplies its rate [s since start]."""
    look = look or pointing()
    met = rng.uniform(0.0, ontime_s, n)
    if flare is not None:
        start, stop, factor = flare
        extra = rng.poisson(n * (stop - start) / ontime_s * (factor - 1.0))
        met = np.concatenate([met, rng.uniform(start, stop, extra)])
    time = START_S + np.sort(met)
    columns = {"time": time, **draw_positions(rng, len(time), ccds, look, time), **_spectrum(rng, len(time))}
    whole = np.array([[START_S, START_S + ontime_s]])
    good_times = dict.fromkeys(ccds, whole) if good_times is None else good_times
    kept = np.zeros(len(time), dtype=bool)
    for ccd, intervals in good_times.items():
        inside = (time[:, None] >= intervals[:, 0]) & (time[:, None] < intervals[:, 1])
        kept |= (columns["ccd_id"] == ccd) & inside.any(axis=1)
    exposure = {ccd: instrument.DTCOR * float(np.diff(times).sum()) for ccd, times in good_times.items()}
    keywords = {
        "INSTRUME": "ACIS", "DETNAM": "ACIS-0123", "GRATING": "NONE", "READMODE": "TIMED", "DATAMODE": "VFAINT",
        "OBS_ID": str(obsid), "DATE-OBS": "2013-11-06T00:00:00", "SIM_Z": -233.59, "OBJECT": "TEST",
        "RA_PNT": look.ra_deg, "DEC_PNT": look.dec_deg,
    }  # fmt: skip
    return EventList(
        obsid, {name: column[kept] for name, column in columns.items()}, look.ra_deg, look.dec_deg,
        (4096.5, 4096.5), (-SKY_STEP_DEG, SKY_STEP_DEG), good_times, exposure, instrument.DTCOR,
        {**keywords, **(header or {})},
    )  # fmt: skip


def blank_sky(rng, *, obsid=7, n=100_000, exposure_s=100_000.0, ccds=(0, 1, 2, 3), look=None):
    """Blank-sky events of the same flat background."""
    look = look or pointing()
    met = START_S + rng.uniform(0.0, 20_000.0, n)
    columns = {**draw_positions(rng, n, ccds, look, met), **_spectrum(rng, n)}
    return EventList(
        obsid, columns, look.ra_deg, look.dec_deg, (4096.5, 4096.5), (-SKY_STEP_DEG, SKY_STEP_DEG), {},
        dict.fromkeys(ccds, exposure_s), 1.0,
        {"INSTRUME": "ACIS", "GRATING": "NONE", "READMODE": "TIMED", "DATAMODE": "VFAINT", "OBS_ID": str(obsid)},
    )  # fmt: skip
