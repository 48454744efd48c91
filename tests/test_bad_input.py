"""Bad input of ``cpxt-prep``: one message, the documented exit code, nothing half-written."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from astropy.io import fits
from spoiling import (
    arf_of,
    blank_of,
    compress,
    cut,
    edit_cards,
    events_of,
    ini_plus,
    ini_with,
    nan_area,
    no_responses,
    other_energy_grid,
    replace,
    rewrite,
    rmf_of,
    set_keyword,
    shift_good_times,
    stretch_good_times,
    with_empty_tables,
    without_blocks,
    without_column,
    without_matrix,
)
from step_clusters import (
    CLEANED,
    CROPPED,
    MERGED,
    RAW,
    RESPONDED,
    assert_nothing_half_written,
    assert_refused,
    assert_stage_left_nothing,
    contents,
)

from cpxt_hpc.io.events import read_events
from cpxt_hpc.layout import ClusterLayout


@dataclasses.dataclass(frozen=True)
class Case:
    """What is broken in a cluster, and what ``cpxt-prep`` must say of it.

    Attributes
    ----------
    what : str
    at : int
        Last step that was done before.
    spoil : callable
        Takes the cluster's layout.
    code : int
    message : str
        Regular expression.
    stage : int
        The one that fails; by default the next one.
    """

    what: str
    at: int
    spoil: Callable[[ClusterLayout], object]
    code: int
    message: str
    stage: int = 0

    def __str__(self):
        return self.what.replace(" ", "_")


def on_events(change):
    return lambda layout: rewrite(events_of(layout), change)


def write_regions(name, text):
    return lambda layout: replace(layout.folder / name, text if isinstance(text, bytes) else text.encode())


PREP_CASES = [
    # Event files.
    Case("no events", RAW, lambda c: events_of(c).unlink(), 3, r"ObsID 90001 has no event file.*chandra_repro"),
    Case("no folder of the observation", RAW, lambda c: shutil.rmtree(c.folder / "90002"), 3, "ObsID 90002 has no eve"),
    Case("two event files", RAW, lambda c: shutil.copy(events_of(c), f"{events_of(c)}.gz"), 3, "2 event files"),
    Case("events are a folder", RAW, lambda c: (events_of(c).unlink(), events_of(c).mkdir()), 3, "acisf90001_repro"),
    Case("events are a dangling link", RAW,
         lambda c: (events_of(c).unlink(), events_of(c).symlink_to("nowhere")), 3, "acisf90001_repro"),
    Case("events are empty", RAW, lambda c: replace(events_of(c), b""), 3, "evt2.fits: not a readable FITS event file"),
    Case("events are text", RAW, lambda c: replace(events_of(c), b"<html>404</html>" * 999), 3, "not a readable FITS"),
    Case("events are zeros", RAW, lambda c: replace(events_of(c), bytes(28800)), 3, "not a readable FITS"),
    *(
        Case(f"events cut at {keep:g}", RAW, lambda c, keep=keep: cut(events_of(c), keep), 3,
             r"acisf90001_repro_evt2\.fits: not a readable FITS event file")
        for keep in (0.0005, 0.003, 0.1, 0.5, 0.95, 0.9999)
    ),
    Case("events cut between blocks", RAW,
         lambda c: replace(events_of(c), events_of(c).read_bytes()[: 2880 * 100]), 3, "not a readable FITS event file"),
    Case("second event file cut", RAW, lambda c: cut(events_of(c, 90002), 0.7), 3, "90002_repro_evt2.*truncated"),
    Case("gzip cut", RAW, lambda c: compress(events_of(c), keep=0.6), 3, r"evt2\.fits\.gz: not a readable FITS"),
    Case("gzip cut in its trailer", RAW, lambda c: compress(events_of(c), keep=0.999999), 3, "not a readable FITS"),
    Case("gzip of nothing", RAW, lambda c: (replace(events_of(c), b""), compress(events_of(c))), 3, "not a readable"),
    Case("another instrument", RAW, on_events(set_keyword("EVENTS", "INSTRUME", "HRC")), 3,
         "INSTRUME = 'HRC', expected 'ACIS'"),
    Case("another telescope", RAW, on_events(set_keyword("EVENTS", "TELESCOP", "XMM")), 3,
         "TELESCOP = 'XMM', expected 'CHANDRA'"),
    Case("continuous clocking", RAW, on_events(set_keyword("EVENTS", "READMODE", "CONTINUOUS")), 3,
         "READMODE = 'CONTINUOUS', expected 'TIMED'"),
    Case("a grating", RAW, on_events(set_keyword("EVENTS", "GRATING", "HETG")), 3, "GRATING = 'HETG'"),
    Case("merged events", RAW, on_events(set_keyword("EVENTS", "OBS_ID", "merged")), 3, "OBS_ID = 'merged'"),
    Case("events of another ObsID", RAW, on_events(set_keyword("EVENTS", "OBS_ID", "4")), 3, "ObsID 4, expected 90001"),
    Case("exposure zero", RAW, lambda c: edit_cards(events_of(c), rb"EXPOSUR\d", b"EXPOSUR0= 0.0"), 3,
         "exposure of CCD . is 0"),
    Case("exposure is text", RAW, lambda c: edit_cards(events_of(c), rb"EXPOSUR\d", b"EXPOSUR0= 'long'"), 3,
         "exposure of CCD . is 'long'"),
    Case("DTCOR is text", RAW, lambda c: edit_cards(events_of(c), b"DTCOR", b"DTCOR   = '?'"), 3, "DTCOR = '[?]'"),
    Case("no tangent point", RAW, lambda c: edit_cards(events_of(c), rb"TCRVL\d+", b"NOTHING = 1"), 3,
         "sky coordinate system of column x is incomplete"),
    Case("tangent point is no number", RAW, lambda c: edit_cards(events_of(c), rb"TCRVL\d+", b"NOTHING = 'x'"), 3,
         "sky coordinate system"),
    Case("sky pixels of no size", RAW, lambda c: edit_cards(events_of(c), rb"TCDLT\d+", b"TCDLT11 = 0.0"), 3,
         "no place in the sky|sky coordinate system"),
    Case("good times of 300 years", RAW, on_events(stretch_good_times), 3, "EXPOSURE is .* but its good times"),
    *(
        Case(f"no column {name}", RAW, on_events(without_column(name)), 3, message)
        for name, message in (("x", "x"), ("ccd_id", "no column ccd_id"), ("time", "no column time"))
    ),
    Case("no energy and no pi", RAW, lambda c: [rewrite(events_of(c), without_column(n)) for n in ("energy", "pi")], 3,
         "no column energy or pi"),
    Case("no events in the table", RAW, on_events(with_empty_tables("EVENTS")), 3, "holds no events"),
    Case("no EVENTS", RAW, on_events(without_blocks("EVENTS")), 3, "no EVENTS table"),
    Case("EVENTS is an image", RAW, on_events(
        lambda b: fits.HDUList([b[0], fits.ImageHDU(np.zeros((5, 5)), name="EVENTS")])), 3, "no EVENTS table"),
    Case("no GTI", RAW, on_events(without_blocks("GTI")), 3, "no good time intervals"),
    Case("empty GTI", RAW, on_events(with_empty_tables("GTI")), 3, "no good time intervals"),
    Case("good times of another clock", RAW, on_events(shift_good_times), 3, "none of its .* lies in the good times"),
    # Blank skies.
    Case("no blank sky", RAW, lambda c: blank_of(c, 90002).unlink(), 3, "ObsID 90002 has no blank-sky.*blanksky"),
    Case("blank sky cut", RAW, lambda c: cut(blank_of(c), 0.5), 3, "blanksky_90001.fits: not a readable FITS"),
    Case("blank sky of other CCDs", RAW, lambda c: rewrite(
        blank_of(c), lambda b: b["EVENTS"].data["ccd_id"].__setitem__(slice(None), 8)), 3, "no CCD can be used"),
    Case("blank sky elsewhere", RAW, lambda c: rewrite(
        blank_of(c), lambda b: b["EVENTS"].data["x"].__iadd__(3000) is None), 3, "blank-sky events lie off.*blanksky"),
    # Responses.
    Case("no responses at all", CLEANED, no_responses, 3, "ObsID 9000. has no responses.*specextract"),
    Case("ARF without RMF", CLEANED, lambda c: rmf_of(c).unlink(), 3, "has 90001.arf but no 90001.rmf"),
    Case("RMF without MATRIX", CLEANED, lambda c: rewrite(rmf_of(c), without_matrix), 3, "no table extension MATRIX"),
    Case("RMF without EBOUNDS", CLEANED, lambda c: rewrite(rmf_of(c), without_blocks("EBOUNDS")), 3, "EBOUNDS"),
    Case("RMF cut", CLEANED, lambda c: cut(rmf_of(c), 0.5), 3, "90001.rmf: not a readable FITS RMF"),
    Case("RMF gzip cut", CLEANED, lambda c: compress(rmf_of(c), keep=0.5), 3, "90001.rmf.gz: not a readable FITS RMF"),
    Case("ARF is an RMF", CLEANED, lambda c: replace(arf_of(c), rmf_of(c).read_bytes()), 3, "no table extension SPE"),
    Case("ARF on another grid", CLEANED, lambda c: rewrite(arf_of(c), other_energy_grid), 3, "do not belong together"),
    Case("ARF with NaN", CLEANED, lambda c: rewrite(arf_of(c), nan_area), 3, "SPECRESP.*expected finite"),
    Case("ARF empty", CLEANED, lambda c: replace(arf_of(c), b""), 3, "90001.arf: not a readable FITS ARF"),
    # Region files.
    Case("no sources.reg", MERGED, lambda c: c.sources.unlink(), 4, r"save as: \S*/demo/sources.reg\n.*--auto"),
    Case("no crop", RESPONDED, lambda c: c.crop.unlink(), 4, "waits for region files.*master_crop"),
    Case("region line bad", MERGED, write_regions("sources.reg", "physical\ncircle(1,2\n"), 3, "line 2"),
    Case("region shape unknown", MERGED, write_regions("sources.reg", "icrs\nblob(1,2,3)\n"), 3, "line 2"),
    Case("region radius negative", MERGED, write_regions("sources.reg", 'icrs\ncircle(194.9,27.9,-3")\n'), 3, "line 2"),
    Case("region file binary", MERGED, write_regions("sources.reg", b"\0\1\2" * 99), 3, "binary file"),
    Case("region file a folder", MERGED, lambda c: (c.sources.unlink(), c.sources.mkdir()), 4, "sources.reg"),
    Case("region frame unknown", MERGED, write_regions("exclude.reg", "detector\ncircle(1,2,3)\n"), 3, "detector"),
    Case("all masked", MERGED, write_regions("sources.reg", 'icrs\ncircle(194.95,27.98,4000")\n'), 3,
         "cover the whole image"),
    Case("crop outside the field", RESPONDED, write_regions("master_crop-ciaowcs.reg", 'icrs\ncircle(190,27.98,30")\n'),
         3, "no exposed pixel of the image lies inside"),
    Case("crop on the far side of the sky", RESPONDED,
         write_regions("master_crop-ciaowcs.reg", 'icrs\ncircle(14.95,-27.98,30")\n'), 3, "line 2.*does not lie"),
    Case("crop without shapes", RESPONDED, write_regions("master_crop-ciaowcs.reg", "icrs\n"), 3, "no exposed pixel"),
    # Settings.
    Case("unknown key", RAW, ini_plus("redshfit = 1\n"), 2, "redshfit: unknown key. Did you mean redshift"),
    Case("unknown section", RAW, ini_plus("[fits]\n"), 2, r"\[fits\]: unknown section. Did you mean \[fit\]"),
    Case("redshift abc", RAW, ini_with("redshift = 0.1", "redshift = abc"), 2, "line 5.*redshift = 'abc': not a num"),
    Case("redshift nan", RAW, ini_with("redshift = 0.1", "redshift = nan"), 2, "not a finite number"),
    Case("redshift with a comma", RAW, ini_with("redshift = 0.1", "redshift = 0,1"), 2, "decimal point"),
    Case("negative nH", RAW, ini_with("= 0.05", "= -0.05"), 2, "hydrogen_column_density = '-0.05': out of range"),
    Case("nH in no unit", RAW, ini_with("= 0.05", "= 5e10"), 2, "no column density in either unit"),
    Case("duplicate ObsID", RAW, ini_with("90002", "90001"), 2, "90001 named more than once"),
    Case("ObsID is no number", RAW, ini_with("90002", "9000x"), 2, "'9000x': no ObsID"),
    Case("no ObsID", RAW, ini_with("90001, 90002", ""), 2, "observation_ids"),
    Case("ObsID far too long", RAW, ini_with("90002", "9" * 5000), 2, "observation_ids"),
    Case("signal to noise zero", RAW, ini_with("= 25", "= 0"), 2, "signal_to_noise = '0': out of range"),
    Case("last step is text", RAW, ini_plus("last_step_completed = two\n"), 2, "not a whole number"),
    *(
        Case(f"name {name}", RAW, ini_with("name = demo", f"name = {name}"), 2, "name = .*not usable in file names")
        for name in ("a/b", "..", "../demo", "-n", "a b", "$(reboot)", "a;b", "a`b`", "x" * 65, "démo")
    ),
    Case("all faults at once", RAW, ini_plus("[fit]\nstatistic = chi3\nenergy_min_kev = 9\nfoo = 1\n"), 2,
         "3 faults.*chi3.*is not below.*foo"),
    Case("nonsense line", RAW, ini_plus("what is this\n"), 2, "line 8.*neither"),
    Case("no section", RAW, lambda c: replace(c.ini, b"name = demo\n"), 2, "before the first"),
    Case("empty ini", RAW, lambda c: replace(c.ini, b""), 2, r"\[cluster\] name: missing"),
    Case("ini is binary", RAW, lambda c: replace(c.ini, bytes(range(256)) * 9), 3, "not a text file"),
    Case("no ini", RAW, lambda c: c.ini.unlink(), 3, "no such file.*cpxt-init"),
    Case("ini is a folder", RAW, lambda c: (c.ini.unlink(), c.ini.mkdir()), 3, "cluster.ini"),
    *(
        Case(f"no {key} at stage 5", CROPPED, ini_with(f"{key} = ", f"# {key} = "), 2,
             rf"stage 5 \(bin\) needs {key} in \[cluster\]: not set")
        for key in ("hydrogen_column_density", "redshift", "abundance")
    ),
    Case("signal to noise out of reach", CROPPED, ini_with("= 25", "= 2500"), 2, "no circle of up to 100.*Lower it"),
    Case("no AtomDB there", CROPPED, ini_plus("[fit]\napec_root = /nowhere/apec\n"), 3, "/nowhere/apec"),
    # Products of an earlier stage.
    Case("merged image cut", MERGED, lambda c: cut(c.broad_flux, 0.5), 3, "broad_flux.img: not a readable FITS image"),
    Case("merged events cut", MERGED, lambda c: cut(c.observation(90001).events, 0.5), 3, "acisI.fits: not a readable"),
    Case("background model cut", CROPPED, lambda c: cut(c.observation(90001).background_model, 0.5), 3, "background_m"),
    Case("mask without grid", CROPPED, lambda c: rewrite(
        c.mask, lambda b: b[0].header.remove("CDELT1P")), 3, "does not tell the pixel grid"),
]  # fmt: skip


@pytest.mark.parametrize("case", PREP_CASES, ids=str)
def test_prep_refuses(case, cluster, run):
    layout = cluster(case.at)
    case.spoil(layout)
    before = contents(layout.folder)
    words = ["--stage", case.at + 1] if case.at >= MERGED else []
    outcome = run("prep", *words, layout.ini)
    assert_refused(outcome, "prep", case.code, case.message)
    assert_nothing_half_written(layout.folder, before)
    assert_stage_left_nothing(layout, case.stage or case.at + 1)
    if case.code == 2 and case.at == RAW:
        assert contents(layout.folder) == before


def test_bins_too_short_to_tell_a_flare_cut_nothing(cluster, run):
    layout = cluster(MERGED)
    ini_plus("[clean]\nbin_length_s = 0.1\n")(layout)
    outcome = run("prep", "--stage", 2, layout.ini)
    assert outcome.code == 0, outcome.err
    assert re.search(r"90001, 9-12 keV: \d+ counts in \d+ bins .* too few to tell flares", outcome.err)
    observation = layout.observation(90001)
    before, after = (read_events(path) for path in (observation.events, observation.clean_events))
    assert after.reference_exposure_s == pytest.approx(before.reference_exposure_s)
