"""A fit whose disk or quota fills while it runs stops with what it has, says so, and continues when there is room."""

import os
import shutil
import subprocess

import pytest
from fit_job import RunningFit, ready_to_fit, run_fit

from cpxt_hpc.io.checkpoint import read_results
from cpxt_hpc.io.result_rows import bytes_without_seconds

QUICK = {"FAKE_FAST": "20", "FAKE_SLEEP_S": "0.1"}


def do(*words):
    """Run a command of the system; skip the test where it cannot."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    if shutil.which(words[0]) is None:
        pytest.skip(f"not installed: {words[0]} (Debian: apt-get install btrfs-progs)")
    ended = subprocess.run(words, capture_output=True, text=True)
    if ended.returncode:
        pytest.skip(f"{words[0]} cannot do this here: {ended.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    do("mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place))
    yield place
    do("umount", "--lazy", str(place))


@pytest.fixture
def small_quota(tmp_path):
    image, place = tmp_path / "image", tmp_path / "disk"
    place.mkdir()
    with open(image, "wb") as stream:
        stream.truncate(120 * 2**20)
    do("mkfs.btrfs", "--quiet", "--metadata", "single", str(image))
    do("mount", "-o", "loop", str(image), str(place))
    try:
        do("btrfs", "quota", "enable", str(place))
        do("btrfs", "subvolume", "create", str(place / "mine"))
        do("btrfs", "qgroup", "limit", "4M", str(place / "mine"))
        yield place / "mine"
    finally:
        do("umount", "--lazy", str(place))


def fill(path):
    """Write a file until no byte more is taken."""
    with open(path, "wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            pass


@pytest.mark.parametrize(
    ("disk", "ranks", "reason"),
    [
        ("small_disk", 0, "No space left on device"),
        ("small_disk", 3, "No space left on device"),
        ("small_quota", 3, "Disk quota exceeded"),
    ],
)
def test_a_fit_stops_with_what_it_has_and_continues_when_there_is_room(disk, ranks, reason, request):
    place = request.getfixturevalue(disk)
    layout = ready_to_fit(place / "made_up")
    with RunningFit(layout, "--resolution", "3", ranks=ranks, **QUICK) as fit:
        fit.wait_for_results(30)
        fill(place / "filler")
        before = read_results(layout.fits)
        code, _, errors = fit.end()
    assert code == 6, errors
    assert errors.count(f"cannot be written ({reason}). Every fit written before is kept") == 1, errors
    assert "it continues" in errors
    kept = read_results(layout.fits)
    assert set(before["region"]) <= set(kept["region"])
    assert len(kept) < 300
    assert not layout.fits.with_suffix(".owner").exists()
    again = run_fit(layout, "--resolution", "3", ranks=ranks, fake=True)
    assert again.returncode == 6, again.stderr
    (place / "filler").unlink()
    ended = run_fit(layout, "--resolution", "3", ranks=ranks, fake=True)
    assert ended.returncode == 0, ended.stderr
    assert f"{len(kept)} of 300 done before" in ended.stderr
    undisturbed = ready_to_fit(place / "undisturbed")
    assert run_fit(undisturbed, "--resolution", "3", fake=True).returncode == 0
    assert bytes_without_seconds(read_results(layout.fits)) == bytes_without_seconds(read_results(undisturbed.fits))
