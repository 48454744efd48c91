"""Event files: what is read is what the archive means; what cannot be used is refused by name."""

import dataclasses

import numpy as np
import pytest
from acis_events import START_S, blank_sky, observation
from astropy.io import fits

from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io.events import read_events, read_tangent_point, write_events
from cpxt_hpc.io.good_times import read_good_times_blocks, write_good_times


@pytest.fixture
def events(rng):
    good_times = {
        ccd: START_S + np.array([[0.0, 5000.0 + ccd], [6000.0, 20_000.0]]) for ccd in (3, 0, 1)
    }
    return observation(rng, n=500, good_times=good_times)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def archive_file(path, *, ccds=(7, 6), upper=False, change=None, drop=()):
    """A file as the archive has it: GTI blocks in an order of their own, exposures by CCD, subspace keywords."""
    n = 40
    rng = np.random.default_rng(5)
    values = {
        "time": ("D", np.sort(rng.uniform(100.0, 200.0, n))), "ccd_id": ("I", np.repeat(ccds, n // len(ccds))),
        "chipx": ("I", rng.integers(2, 1024, n)), "chipy": ("I", rng.integers(2, 1024, n)),
        "x": ("E", rng.uniform(3000, 5000, n)), "y": ("E", rng.uniform(3000, 5000, n)),
        "energy": ("E", rng.uniform(300, 12000, n)), "status": ("32X", np.eye(n, 32, dtype=bool)),
    }  # fmt: skip
    names = [name for name in values if name not in drop]
    table = fits.BinTableHDU.from_columns(
        [fits.Column(name.upper() if upper else name, values[name][0], array=values[name][1]) for name in names],
        name="EVENTS",
    )
    header = table.header
    if "x" in names and "y" in names:
        for name, kind, value in (("x", "RA---TAN", 10.5), ("y", "DEC--TAN", -20.25)):
            number = names.index(name) + 1
            header[f"TCTYP{number}"], header[f"TCRVL{number}"] = kind, value
            header[f"TCRPX{number}"], header[f"TCDLT{number}"] = 4096.5, 0.492 / 3600.0 * (-1 if name == "x" else 1)
    header.update({
        "INSTRUME": "ACIS", "READMODE": "TIMED", "GRATING": "NONE", "DATAMODE": "FAINT", "OBS_ID": "4487",
        "DTCOR": 0.98, "EXPOSURE": 90.0, "EXPOSUR6": 88.0, "DSTYP1": "time", "DSVAL1": "TABLE",
    })  # fmt: skip
    for key, value in (change or {}).items():
        header[key] = value
    blocks = [fits.PrimaryHDU(), table]
    for number, ccd in enumerate(ccds, start=1):
        times = np.array([[150.0, 200.0 + ccd], [100.0, 120.0], [115.0, 130.0], [140.0, 140.0]])
        gti = fits.BinTableHDU.from_columns(
            [fits.Column("START", "D", array=times[:, 0]), fits.Column("STOP", "D", array=times[:, 1])],
            name="GTI", ver=number,
        )
        gti.header["HDUNAME"] = f"GTI{ccd}"
        if number == 1:
            gti.header["CCD_ID"] = ccd
        blocks.append(gti)
    fits.HDUList(blocks).writeto(path, overwrite=True)
    return path


def test_written_events_come_back(tmp_path, events):
    write_events(tmp_path / "a.fits", events, ["a line"])
    again = read_events(tmp_path / "a.fits", obsid=7)
    assert set(again.columns) == set(events.columns)
    for name, column in events.columns.items():
        assert np.array_equal(again[name], column), name
        assert again[name].dtype.isnative
    assert again.exposure_s == events.exposure_s
    assert list(again.good_times) == [3, 0, 1]
    for ccd, intervals in events.good_times.items():
        assert np.array_equal(again.good_times[ccd], intervals)
    assert (again.ra_deg, again.dec_deg, again.dtcor) == (events.ra_deg, events.dec_deg, events.dtcor)
    assert (again.reference_pixel, again.header) == (events.reference_pixel, events.header)
    assert read_tangent_point(tmp_path / "a.fits") == (events.ra_deg, events.dec_deg)


def test_ccd_whose_events_are_all_gone_keeps_its_exposure(tmp_path, events):
    write_events(tmp_path / "a.fits", events.select(events["ccd_id"] != 0))
    assert read_events(tmp_path / "a.fits").exposure_s == events.exposure_s


def test_exposures_of_the_file_are_those_of_each_ccd(tmp_path, events):
    write_events(tmp_path / "a.fits", events)
    header = fits.getheader(tmp_path / "a.fits", "EVENTS")
    assert header["EXPOSURE"] == header["EXPOSUR3"] == events.exposure_s[3]
    assert header["LIVTIME1"] == pytest.approx(header["ONTIME1"] * header["DTCOR"])


def test_blank_sky_has_neither_times_nor_good_times(tmp_path, rng, events):
    write_events(tmp_path / "timed.fits", events)
    timed = read_events(tmp_path / "timed.fits", obsid=99, blank_sky=True)
    assert "time" not in timed.columns
    assert (timed.good_times, timed.obsid) == ({}, 99)
    blank = blank_sky(rng, n=200)
    write_events(tmp_path / "a.fits", blank)
    again = read_events(tmp_path / "a.fits")
    assert (again.good_times, again.exposure_s) == ({}, blank.exposure_s)


@pytest.mark.parametrize("upper", [False, True])
def test_archive_file_is_understood(tmp_path, upper):
    events = read_events(archive_file(tmp_path / "a.fits", upper=upper))
    assert events.obsid == 4487
    assert events.ccds == (6, 7)
    assert events.exposure_s == {7: 90.0, 6: 88.0}
    assert list(events.good_times) == [7, 6]
    assert events.good_times[6].tolist() == [[100.0, 130.0], [150.0, 206.0]]
    assert events["status"][:2].tolist() == [1 << 31, 1 << 30]
    assert np.array_equal(events["pi"], np.floor(events["energy"] / 14.6) + 1)


def test_subspace_keywords_do_not_survive(tmp_path):
    events = read_events(archive_file(tmp_path / "a.fits"))
    write_events(tmp_path / "b.fits", events)
    assert not [key for key in fits.getheader(tmp_path / "b.fits", 1) if key.startswith("DS")]


def test_status_bits_survive(tmp_path):
    events = read_events(archive_file(tmp_path / "a.fits"))
    write_events(tmp_path / "b.fits", events)
    assert np.array_equal(read_events(tmp_path / "b.fits")["status"], events["status"])


def test_exposure_falls_back_to_the_good_times(tmp_path):
    path = archive_file(tmp_path / "a.fits")
    for key in ("EXPOSURE", "EXPOSUR6"):
        fits.delval(path, key, ext=1)
    events = read_events(path)
    assert events.exposure_s[6] == pytest.approx(0.98 * (30.0 + 56.0))


def test_undefined_positions_are_left_out_with_a_warning(tmp_path, caplog):
    path = archive_file(tmp_path / "a.fits")
    with fits.open(path, mode="update") as hdus:
        hdus[1].data["x"][:3] = np.nan
    assert len(read_events(path)) == 37
    assert "3 events without time, position or energy" in caplog.text


def test_ccd_without_good_times_takes_the_first_ones_with_a_warning(tmp_path, caplog):
    path = archive_file(tmp_path / "a.fits")
    with fits.open(path, mode="update") as hdus:
        del hdus[3]
    assert np.array_equal(*read_events(path).good_times.values())
    assert "CCD 6 has no GTI block" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"INSTRUME": "HRC"}, r"INSTRUME = 'HRC', expected 'ACIS'"),
        ({"READMODE": "CONTINUOUS"}, r"READMODE = 'CONTINUOUS', expected 'TIMED'"),
        ({"GRATING": "HETG"}, r"GRATING = 'HETG', expected 'NONE'"),
        ({"OBS_ID": "merged"}, r"OBS_ID = 'merged'"),
        ({"OBS_ID": "12x"}, r"OBS_ID = '12x', expected a number"),
        ({"EXPOSURE": 0.0}, r"exposure of CCD 7 is 0\.0"),
        ({"DTCOR": 1.2}, r"dead-time correction DTCOR = 1\.2"),
        ({"TCTYP5": "RA---SIN"}, r"TCTYP5 = 'RA---SIN'; expected 'RA---TAN'"),
        ({"TCRVL5": "x"}, r"sky coordinate system of column x is incomplete"),
    ],
)
def test_unusable_file_is_refused_by_the_keyword(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        read_events(archive_file(tmp_path / "a.fits", change=change))


@pytest.mark.parametrize(("drop", "name"), [("x", "x"), ("ccd_id", "ccd_id"), ("energy", "energy or pi")])
def test_missing_column_is_refused_by_name(tmp_path, drop, name):
    with pytest.raises(DataError, match=f"has no columns? {name}"):
        read_events(archive_file(tmp_path / "a.fits", drop=(drop,)))


def test_file_of_another_observation_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds ObsID 4487, expected 4488"):
        read_events(archive_file(tmp_path / "a.fits"), obsid=4488)


def test_file_without_good_times_is_refused(tmp_path):
    path = archive_file(tmp_path / "a.fits")
    with fits.open(path, mode="update") as hdus:
        del hdus[2:]
    with pytest.raises(DataError, match="has no good time intervals"):
        read_events(path)


def test_file_without_events_is_refused(tmp_path):
    fits.PrimaryHDU().writeto(tmp_path / "a.fits")
    with pytest.raises(DataError, match="has no EVENTS table"):
        read_events(tmp_path / "a.fits")
    events = observation(np.random.default_rng(1), n=10)
    write_events(tmp_path / "b.fits", events.select(np.zeros(len(events), dtype=bool)))
    fits.delval(tmp_path / "b.fits", "CPXTCCDS", ext=1)
    with pytest.raises(DataError, match="holds no events"):
        read_events(tmp_path / "b.fits")


def test_missing_file_is_missing_input(tmp_path):
    with pytest.raises(MissingInput, match="this event file does not exist"):
        read_events(tmp_path / "a.fits")


def test_unknown_data_mode_and_missing_keywords_only_warn(tmp_path, caplog, events):
    header = {key: value for key, value in events.header.items() if key not in ("INSTRUME", "DATAMODE")}
    write_events(tmp_path / "a.fits", dataclasses.replace(events, header=header))
    read_events(tmp_path / "a.fits")
    assert "has no keyword INSTRUME" in caplog.text
    assert "DATAMODE = ''" in caplog.text


def test_good_times_come_back_by_ccd(tmp_path, events):
    write_good_times(tmp_path / "gti.fits", events.good_times, events.header)
    with fits.open(tmp_path / "gti.fits") as hdus:
        again = read_good_times_blocks(hdus)
    assert list(again) == list(events.good_times)
    assert all(np.array_equal(again[ccd], events.good_times[ccd]) for ccd in again)
