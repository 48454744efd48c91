"""The builtin toolchain finds what is there, borrows responses only where it may, and names what it wants."""


import numpy as np
import pytest
from acis_events import observation

from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io.events import write_events
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.toolchain.builtin import BuiltinToolchain
from cpxt_hpc.toolchain.ciao import CiaoToolchain
from cpxt_hpc.toolchain.ciao_steps import Limits

TOOLS = BuiltinToolchain()


@pytest.fixture
def layout(tmp_path):
    return ClusterLayout(tmp_path / "a", "a")


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def observe(layout, obsid, *, date="2013-11-06T00:00:00", sim_z=-233.59):
    events = observation(np.random.default_rng(obsid), obsid=obsid, n=50, header={"DATE-OBS": date, "SIM_Z": sim_z})
    write_events(layout.observation(obsid).repro / f"acisf{obsid:05d}_repro_evt2.fits", events)


def respond(layout, obsid, suffix=""):
    folder = layout.observation(obsid).repro
    return tuple(touch(folder / f"{obsid}.{kind}{suffix}") for kind in ("arf", "rmf"))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_reprocessed_events_come_before_the_archives(layout, suffix):
    each = layout.observation(7)
    primary = touch(each.primary / f"acisf00007N003_evt2.fits{suffix}")
    assert TOOLS.locate_events(each) == primary
    repro = touch(each.repro / f"acisf00007_repro_evt2.fits{suffix}")
    assert TOOLS.locate_events(each) == repro


def test_missing_events_are_asked_for_by_name(layout):
    with pytest.raises(MissingInput, match=r"ObsID 7 has no event file: .*acisf\*_repro_evt2\.fits.*chandra_repro"):
        TOOLS.locate_events(layout.observation(7))


def test_several_event_files_are_refused(layout):
    each = layout.observation(7)
    touch(each.repro / "acisf00007_repro_evt2.fits")
    touch(each.repro / "acisf00007_001N_repro_evt2.fits.gz")
    with pytest.raises(DataError, match=r"2 event files \(acisf00007_001N_repro_evt2\.fits\.gz, acisf00007_repro"):
        TOOLS.locate_events(each)


def test_interleaved_observations_are_refused_with_the_reason(layout):
    each = layout.observation(7)
    for part in ("e1", "e2"):
        touch(each.primary / f"acisf00007_000N003_{part}_evt2.fits.gz")
        touch(each.folder / "secondary" / f"acisf00007_000N003_{part}_evt1.fits.gz")
    with pytest.raises(DataError, match=r"ObsID 7 was taken in interleaved mode \(acisf00007_000N003_e1_evt2\.fits"):
        TOOLS.locate_events(each)
    with pytest.raises(DataError, match=r"interleaved mode \(acisf00007_000N003_e1_evt1\.fits\.gz"):
        CiaoToolchain(Limits()).make_events(layout, (7,), blank_sky=True)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_blank_sky_is_found(layout, suffix):
    each = layout.observation(7)
    with pytest.raises(MissingInput, match=r"looked for .*blanksky_7\.fits\[\.gz\]"):
        TOOLS.locate_blank_sky(each)
    path = touch(each.repro / f"blanksky_7.fits{suffix}")
    assert TOOLS.locate_blank_sky(each) == path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_own_responses_are_taken(layout, suffix):
    files = {obsid: respond(layout, obsid, suffix) for obsid in (7, 8)}
    found = TOOLS.locate_responses(layout, (7, 8))
    assert {obsid: tuple(each) for obsid, each in found.items()} == {o: (*f, o) for o, f in files.items()}


def test_responses_are_borrowed_from_the_nearest_in_time(layout):
    observe(layout, 7, date="2013-11-06T00:00:00")
    observe(layout, 8, date="2013-12-06T00:00:00")
    observe(layout, 9, date="2014-11-06T00:00:00")
    respond(layout, 9)
    nearest = respond(layout, 8)
    found = TOOLS.locate_responses(layout, (7, 8, 9))
    assert found[7] == (*nearest, 8)


@pytest.mark.parametrize(
    ("date", "sim_z"), [("2015-06-06T00:00:00", -233.59), ("2013-12-06T00:00:00", -190.14)], ids=["too old", "ACIS-S"]
)
def test_responses_of_another_epoch_or_array_are_not_borrowed(layout, date, sim_z):
    observe(layout, 7)
    observe(layout, 8, date=date, sim_z=sim_z)
    respond(layout, 8)
    with pytest.raises(MissingInput, match=r"ObsID 7 has no responses: looked for 7\.arf\[\.gz\] and 7\.rmf\[\.gz\]"):
        TOOLS.locate_responses(layout, (7, 8))


def test_half_a_pair_of_responses_is_refused(layout):
    touch(layout.observation(7).repro / "7.arf")
    with pytest.raises(MissingInput, match=r"has 7\.arf but no 7\.rmf\[\.gz\]"):
        TOOLS.locate_responses(layout, (7,))


def test_date_that_is_none_is_refused(layout):
    observe(layout, 7, date="yesterday")
    observe(layout, 8)
    respond(layout, 8)
    with pytest.raises(DataError, match="DATE-OBS = 'yesterday'"):
        TOOLS.locate_responses(layout, (7, 8))
