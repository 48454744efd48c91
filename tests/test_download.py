"""Observations come from an archive that breaks, stalls, redirects and lies; they arrive whole or not at all."""

import errno
import gzip
import io
import logging
import tempfile
import threading

import acis_events
import numpy as np
import pytest
from archive_server import (
    ArchiveServer,
    answers,
    breaks_after,
    calls_it_packed,
    closes,
    endless,
    ignores_range,
    redirects,
    redirects_with_endless_body,
    sends,
    stalls_after,
    states_length,
    states_range,
    without_length,
)
from astropy.io import fits

from cpxt_hpc.cli import prep
from cpxt_hpc.errors import ConfigError, DataError, MissingInput, OutputError
from cpxt_hpc.io.events import write_events
from cpxt_hpc.io.fits_check import check_fits
from cpxt_hpc.io.http_files import Patience, Stopped, check_base_url, download
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.stages import fetch
from cpxt_hpc.stages.base import StageContext
from cpxt_hpc.stages.surroundings import BATCH_VARIABLES

OBSID = 7
EVENTS = "acisf00007N003_evt2.fits.gz"
BAD_PIXELS = "acisf00007_000N003_bpix1.fits.gz"
ASPECT = "pcadf051004864N003_asol1.fits"
MASK = "acisf00007_000N003_msk1.fits.gz"
LEVEL_1 = "acisf00007_000N003_evt1.fits.gz"
# A stall of a second is seen at once; where the machine is so busy that a good answer takes as long, it is asked again.
PATIENCE = Patience(timeout_s=1.0, attempts=4, pause_s=0.01)


def fits_bytes(seed, n=30_000):
    column = fits.Column(name="x", format="E", array=np.random.default_rng(seed).normal(size=n))
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([column])]).writeto(stream, checksum=True)
    return stream.getvalue()


def event_bytes(tmp_path):
    events = acis_events.observation(np.random.default_rng(3), obsid=OBSID, n=3000)
    write_events(tmp_path / "made.fits", events)
    with fits.open(tmp_path / "made.fits") as hdus:
        stream = io.BytesIO()
        hdus.writeto(stream, checksum=True)
    (tmp_path / "made.fits").unlink()
    return stream.getvalue()


def place(name, folder="primary", obsid=OBSID):
    return f"/byobsid/{obsid % 10}/{obsid}/{folder}/{name}"


@pytest.fixture
def server(tmp_path):
    server = ArchiveServer()
    server.files = {
        place(EVENTS): gzip.compress(event_bytes(tmp_path), 1),
        place(BAD_PIXELS): gzip.compress(fits_bytes(1), 1),
        place(ASPECT): fits_bytes(2),
        place(MASK, "secondary"): gzip.compress(fits_bytes(4, n=10), 1),
        place(LEVEL_1, "secondary"): gzip.compress(fits_bytes(5), 1),
    }
    yield server
    server.close()


@pytest.fixture
def online(monkeypatch, server):
    monkeypatch.delenv("CPXT_OFFLINE")
    for name in (*BATCH_VARIABLES, "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CPXT_ARCHIVE_URL", server.url)


@pytest.fixture
def context(tmp_path, online):
    return make_context(tmp_path)


def make_context(tmp_path, text="", obsids=str(OBSID)):
    folder = tmp_path / "A"
    folder.mkdir(exist_ok=True)
    (folder / "cluster.ini").write_text(f"[cluster]\nname = A\nobservation_ids = {obsids}\n{text}")
    config = read_config(folder / "cluster.ini")
    return StageContext(config, ClusterLayout(folder, "A"))


def fetched(context):
    folder = context.layout.folder
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.fits*")}


def expected(server, *without):
    return {
        path.removeprefix(f"/byobsid/{OBSID}/"): content
        for path, content in server.files.items()
        if not path.endswith((LEVEL_1, *without))
    }


def test_what_the_stages_read_arrives_and_nothing_else(context, server, caplog):
    with caplog.at_level(logging.INFO, logger="cpxt_hpc"):
        fetch.fetch_observations(context, patience=PATIENCE)
    assert fetched(context) == expected(server)
    assert "4 files" in caplog.text and "download done" in caplog.text
    assert not (context.layout.observation(OBSID).folder / ".download").exists()


def test_level_1_events_come_where_they_are_wanted(tmp_path, online, server):
    context = make_context(tmp_path, "[archive]\nfiles = all\n")
    fetch.fetch_observations(context, patience=PATIENCE)
    assert f"{OBSID}/secondary/{LEVEL_1}" in fetched(context)


@pytest.mark.parametrize(
    "name", [f"repro/acisf{OBSID:05d}_repro_evt2.fits", "primary/any_evt2.fits", "primary/any_evt2.fits.gz"]
)
def test_data_in_place_are_taken_as_they_are(context, server, name):
    path = context.layout.observation(OBSID).folder / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    fetch.fetch_observations(context, patience=PATIENCE)
    assert server.requests == []
    assert fetched(context) == {f"{OBSID}/{name}": b"mine"}


def test_files_beside_missing_events_are_kept(context, server):
    mine = context.layout.observation(OBSID).primary / BAD_PIXELS.removesuffix(".gz")
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    fetch.fetch_observations(context, patience=PATIENCE)
    found = fetched(context)
    assert found.pop(f"{OBSID}/primary/{mine.name}") == b"mine"
    assert found == expected(server, BAD_PIXELS)


FAULTS = {
    "a connection that breaks": [breaks_after(1000)],
    "one that breaks six times, each time later": [breaks_after(1000)] * 6,
    "no answer at all": [closes, closes],
    "a server that does not know ranges": [breaks_after(1000), ignores_range],
    "too many requests": [answers(429), answers(503, Retry_After="1")],
    "a redirect on the same host": [redirects(f"/cdaftp/byobsid/7/7/primary/./{EVENTS}")],
    "a redirect whose body does not end": [redirects_with_endless_body(f"/cdaftp/byobsid/7/7/primary/{EVENTS}")],
    "a size that is not told": [without_length],
    "a size that is too large": [states_length(50_000_000)],
    "another part than asked for": [breaks_after(1000), states_range("bytes 500-99999/100000")],
    "a range that says nothing": [breaks_after(1000), states_range("bytes")],
    "a size that is too small": [states_length(2880)],
    "an encoding that is the file's own": [calls_it_packed],
    "another file": [sends(b"<html>Please log in</html>")],
    "a file that is damaged": [sends(gzip.compress(fits_bytes(9).replace(b"TFIELDS", b"TFIELDZ")))],
    "an empty file": [sends(b"")],
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_that_passes_does_no_harm(context, server, faults):
    server.faults[place(EVENTS)] = list(faults)
    fetch.fetch_observations(context, patience=PATIENCE)
    assert fetched(context) == expected(server)
    assert server.faults[place(EVENTS)] == []


def test_a_break_is_resumed_where_it_was(context, server):
    server.faults[place(EVENTS)] = [breaks_after(1000), breaks_after(500)]
    fetch.fetch_observations(context, patience=PATIENCE)
    assert server.asked_for(EVENTS) == ["", "bytes=1000-", "bytes=1500-"]


def test_a_stall_ends_and_is_resumed(context, server):
    server.faults[place(EVENTS)] = [stalls_after(server, 1000)]
    fetch.fetch_observations(context, patience=PATIENCE)
    assert fetched(context) == expected(server)
    assert server.asked_for(EVENTS)[-1] == "bytes=1000-"


def test_a_listing_that_stalls_or_breaks_is_asked_again(context, server):
    server.faults[place("")] = [closes, answers(500), answers(503)]
    fetch.fetch_observations(context, patience=PATIENCE)
    assert fetched(context) == expected(server)


def test_a_second_run_goes_on_where_the_first_gave_up(context, server):
    server.faults[place(EVENTS)] = [breaks_after(1000), *[closes] * 3]
    with pytest.raises(MissingInput, match=r"4 times in a row.*goes on from here"):
        fetch.fetch_observations(context, patience=PATIENCE)
    observation = context.layout.observation(OBSID)
    assert not observation.primary.exists()
    assert not fetch.is_in_place(observation)
    server.requests.clear()
    fetch.fetch_observations(context, patience=PATIENCE)
    assert fetched(context) == expected(server)
    assert server.asked_for(EVENTS) == ["bytes=1000-"]


def test_a_whole_part_left_behind_is_not_fetched_again(context, server):
    part = context.layout.observation(OBSID).folder / ".download" / "primary" / f"{EVENTS}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(server.files[place(EVENTS)])
    fetch.fetch_observations(context, patience=PATIENCE)
    assert fetched(context) == expected(server)


@pytest.mark.parametrize("content", [b"x" * 5000, b"x" * 5_000_000], ids=["shorter", "longer"])
def test_a_wrong_part_left_behind_is_found_out(context, server, content):
    part = context.layout.observation(OBSID).folder / ".download" / "primary" / f"{EVENTS}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    fetch.fetch_observations(context, patience=PATIENCE)
    assert fetched(context) == expected(server)


def damaged(content):
    """The file with one bit of its table changed: gzip's own checksum is right, FITS's is not."""
    content = bytearray(gzip.decompress(content))
    content[-2880 * 3] ^= 1
    return gzip.compress(bytes(content), 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damaged, "Checksum verification failed"),
        (lambda content: content[: len(content) // 2], "cut short|ended before"),
        (lambda content: gzip.compress(gzip.decompress(content)[:-2880], 1), "truncated|cut short|Checksum|too small"),
        (lambda content: gzip.compress(b"<html>404</html>"), "16 bytes, expected a multiple of 2880"),
        (lambda content: gzip.compress(bytes(28800), 1), "not a whole FITS file"),
    ],
    ids=["checksum", "half a file", "a block short", "a page", "zeros"],
)
def test_a_file_that_is_never_whole_is_refused(context, server, spoil, message):
    server.files[place(EVENTS)] = spoil(server.files[place(EVENTS)])
    with pytest.raises(DataError, match=f"(?s)came 2 times and was never whole.*({message})"):
        fetch.fetch_observations(context, patience=PATIENCE)
    # Others may be under way when the transfers are stopped.
    assert {path.removesuffix(".part") for path in fetched(context)} <= {
        f"{OBSID}/.download/{path.removeprefix(f'{OBSID}/')}" for path in expected(server, EVENTS)
    }


def test_a_gzip_bomb_is_stopped(tmp_path):
    path = tmp_path / "bomb.fits.gz"
    path.write_bytes(gzip.compress(bytes(20_000_000)))
    with pytest.raises(DataError, match="unpacks to more than 1 MB"):
        check_fits(path, max_bytes=1_000_000)
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_no_fault_of_the_file(tmp_path, monkeypatch):
    path = tmp_path / "file.fits.gz"
    path.write_bytes(gzip.compress(fits_bytes(1)))

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    with pytest.raises(OutputError, match="No space left"):
        check_fits(path, max_bytes=10**9)


def test_checksums_are_counted(tmp_path):
    path = tmp_path / "file.fits"
    path.write_bytes(fits_bytes(1))
    assert check_fits(path, max_bytes=0) == 2
    fits.HDUList([fits.PrimaryHDU()]).writeto(path, overwrite=True)
    assert check_fits(path, max_bytes=0) == 0


@pytest.mark.parametrize("fault", [endless, states_length(2_000_000_000_000)], ids=["endless", "stated"])
def test_a_file_larger_than_agreed_is_refused(tmp_path, online, server, fault):
    context = make_context(tmp_path, "[archive]\nmax_file_gb = 0.002\n")
    server.faults[place(EVENTS)] = [fault]
    with pytest.raises(DataError, match=r"expected at most 2 MB.*max_file_gb"):
        fetch.fetch_observations(context, patience=PATIENCE)
    assert all(len(content) <= 2_000_000 for content in fetched(context).values())


@pytest.mark.parametrize(
    "target", ["http://localhost:9/x", "https://example.org/x", "//example.org/x", "file:///etc/passwd", "http://[bad"]
)
def test_a_redirect_to_another_host_is_refused(context, server, target):
    server.faults[place(EVENTS)] = [redirects(target)]
    with pytest.raises(DataError, match="another server"):
        fetch.fetch_observations(context, patience=PATIENCE)
    assert f"{OBSID}/primary/{EVENTS}" not in fetched(context)


def test_redirects_without_end_are_refused(context, server):
    server.faults[place(EVENTS)] = [redirects(f"/cdaftp{place(EVENTS)}")] * 20
    with pytest.raises(DataError, match="more than 5 redirects"):
        fetch.fetch_observations(context, patience=PATIENCE)


NAMES = [
    "../../../../etc/acisf00007N003_evt2.fits", "/etc/acisf00007N003_evt2.fits", "..%2f..%2facisf00007N003_evt2.fits",
    "acisf00007N003_evt2.fits;rm", "acisf00008N009_evt2.fits.gz", "acisf00007N003_evt2.fits.exe", ".bashrc",
    "acisf00007N003_evt2.fits.gz/../x", "http://example.org/acisf00007N003_evt2.fits", "acisf00007N003_evt2\n.fits",
    "acisf00007N003_EVT2.fits", "hrcf00007N003_evt2.fits.gz", "acisf٠٠٠٠٧N003_evt2.fits", "oif.fits",
]  # fmt: skip


def test_only_names_of_chandra_files_are_taken(context, server, tmp_path):
    server.extra_names = NAMES
    fetch.fetch_observations(context, patience=PATIENCE)
    assert fetched(context) == expected(server)
    assert {path for path, _ in server.requests} == {
        place(""), place("", "secondary"), place(EVENTS), place(BAD_PIXELS), place(ASPECT), place(MASK, "secondary")
    }  # fmt: skip


def test_of_two_versions_the_newest_is_taken(context, server):
    server.files[place("acisf00007N002_evt2.fits.gz")] = server.files[place(EVENTS)]
    server.files[place("acisf00007N003_evt2.fits")] = gzip.decompress(server.files[place(EVENTS)])
    fetch.fetch_observations(context, patience=PATIENCE)
    assert [name for name in fetched(context) if "evt2" in name] == [f"{OBSID}/primary/{EVENTS}"]


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({}, MissingInput, "does not exist. Check the number"),
        ({place("hrcf00007N003_evt2.fits.gz"): b""}, DataError, "made with the HRC"),
        ({place(BAD_PIXELS): b""}, DataError, "no level-2 events of ACIS"),
    ],
)
def test_an_obsid_that_the_archive_does_not_have_is_told(context, server, files, error, message):
    server.files = files
    with pytest.raises(error, match=message):
        fetch.fetch_observations(context, patience=PATIENCE)
    assert fetched(context) == {}


def test_a_page_larger_than_any_list_is_refused(context, server):
    server.extra_names = ["x" * 1000] * 5000
    with pytest.raises(DataError, match="expected a list of files"):
        fetch.fetch_observations(context, patience=PATIENCE)


def test_a_refused_page_is_told(context, server):
    server.faults[place("")] = [answers(403)]
    with pytest.raises(MissingInput, match="answers 403"):
        fetch.fetch_observations(context, patience=PATIENCE)


def test_no_network_is_one_clear_message(context, monkeypatch):
    monkeypatch.setenv("CPXT_ARCHIVE_URL", "http://127.0.0.1:9/cdaftp")
    with pytest.raises(MissingInput, match=r"no connection to the server, 4 times in a row\. Is there a network\?"):
        fetch.fetch_observations(context, patience=PATIENCE)


@pytest.mark.parametrize(
    ("text", "variable", "message"),
    [
        ("[archive]\ndownload = never\n", None, r"\[archive\] download = never"),
        ("", "SLURM_JOB_ID", r"batch job \(SLURM_JOB_ID is set\).*--stage 1"),
        ("", "PBS_JOBID", "batch job"),
        ("", "CPXT_OFFLINE", r"\$CPXT_OFFLINE is set"),
    ],
)
def test_nothing_is_downloaded_where_it_is_not_allowed(tmp_path, online, server, monkeypatch, text, variable, message):
    if variable:
        monkeypatch.setenv(variable, "1")
    with pytest.raises(MissingInput, match=rf"ObsID 7 has no event file.*Nothing is downloaded: .*{message}"):
        fetch.fetch_observations(make_context(tmp_path, text), patience=PATIENCE)
    assert server.requests == []


def test_a_batch_job_downloads_where_it_is_told_to(tmp_path, online, server, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    context = make_context(tmp_path, "[archive]\ndownload = always\n")
    fetch.fetch_observations(context, patience=PATIENCE)
    assert fetched(context) == expected(server)


def test_an_unfinished_download_is_not_taken_for_data(context, server, monkeypatch):
    observation = context.layout.observation(OBSID)
    (observation.folder / ".download").mkdir(parents=True)
    observation.primary.mkdir()
    (observation.primary / EVENTS).write_bytes(server.files[place(EVENTS)])
    monkeypatch.setenv("CPXT_OFFLINE", "1")
    with pytest.raises(MissingInput, match=r"unfinished download.*Remove the folder"):
        fetch.fetch_observations(context, patience=PATIENCE)
    monkeypatch.delenv("CPXT_OFFLINE")
    fetch.fetch_observations(context, patience=PATIENCE)
    assert fetched(context) == expected(server)


def test_several_obsids_come_at_once(tmp_path, online, server):
    for number in (18, 19):
        server.files[place(f"acisf{number:05d}N001_evt2.fits", obsid=number)] = fits_bytes(number)
    context = make_context(tmp_path, obsids="7,18,19")
    fetch.fetch_observations(context, patience=PATIENCE)
    assert [len(list((context.layout.folder / name / "primary").iterdir())) for name in ("7", "18", "19")] == [3, 1, 1]


def test_a_file_in_the_way_is_an_output_error(context):
    (context.layout.folder / str(OBSID)).write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        fetch.fetch_observations(context, patience=PATIENCE)


def test_a_stopped_transfer_keeps_its_part(server, online, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        download(f"{server.url}{place(ASPECT)}", tmp_path / "x.part", PATIENCE, max_bytes=10**9, stop=stop)
    assert (tmp_path / "x.part").is_file()


@pytest.mark.parametrize(
    "url",
    [
        "", "cxc.cfa.harvard.edu/cdaftp", "ftp://cxc.cfa.harvard.edu", "http://cxc.cfa.harvard.edu/cdaftp",
        "https://user:word@cxc.cfa.harvard.edu", "https://cxc.cfa.harvard.edu/?a=b", "file:///tmp", "https://",
        "https://host:99999/", "http://10.0.0.1/", "https://host/#x",
    ],
)  # fmt: skip
def test_addresses_that_are_not_https_are_refused(url):
    with pytest.raises(ConfigError, match=r"\[archive\] base_url = .*expected an address such as https"):
        check_base_url(url, "[archive] base_url")


@pytest.mark.parametrize("url", ["https://cxc.cfa.harvard.edu/cdaftp/", "http://localhost:80", "http://[::1]:8000/a/"])
def test_https_and_this_machine_are_accepted(url):
    assert check_base_url(url, "x") == url.rstrip("/")


def test_prep_downloads_and_goes_on_with_what_came(context, server, capsys):
    """Stage 1 finds the events, and misses what no archive has."""
    code = prep.main([str(context.config.path), "--stage", "1", "--toolchain", "builtin"])
    message = capsys.readouterr().err
    assert code == 3, message
    assert "download done" in message
    assert fetched(context) == expected(server)
    assert "blank" in message.splitlines()[-1]
