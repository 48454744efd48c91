"""No permission, no room: every command says so, ends with code 6 and leaves nothing half-written."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from spoiling import events_of, replace
from step_clusters import (
    BINNED,
    CLEANED,
    CROPPED,
    FITTED,
    MERGED,
    RAW,
    RESPONDED,
    assert_nothing_half_written,
    assert_refused,
    assert_stage_left_nothing,
    contents,
    run_process,
)

from cpxt_hpc.layout import ClusterLayout


@pytest.fixture(scope="module")
def without_privileges():
    """Words before a command that take root's right to write everywhere from it; none for other users."""
    if os.geteuid() != 0:
        return ()
    words = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    try:
        subprocess.run([*words, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("runs as root, and there is no setpriv to give up root's right to write everywhere")
    return words


def _forbid(*paths):
    for path in paths:
        path.chmod(0o500 if path.is_dir() else 0o400)


@pytest.fixture
def forbid():
    """Take the permission to write, and give it back at the end."""
    changed = []

    def take(*paths):
        changed.extend(paths)
        _forbid(*paths)

    yield take
    for path in changed:
        path.chmod(0o700)


@pytest.mark.parametrize(
    ("command", "at", "folders", "words"),
    [
        ("prep", RAW, ["."], []),
        ("prep", RAW, ["90001"], []),
        ("prep", CLEANED, ["90002/analysis"], ["--stage", "3"]),
        ("prep", RESPONDED, ["combined"], ["--stage", "4"]),
        ("prep", CROPPED, ["acb"], ["--stage", "5"]),
        ("fit", BINNED, ["acb"], []),
        ("fit", BINNED, ["acb"], ["--region", "1"]),
        ("maps", FITTED, ["main_output"], ["--no-pictures"]),
        ("maps", FITTED, ["acb"], ["--no-pictures"]),
    ],
)
def test_no_permission_to_write(command, at, folders, words, cluster, forbid, without_privileges):
    layout = cluster(at)
    layout.acb.mkdir(exist_ok=True)
    before = contents(layout.folder)
    forbid(*(layout.folder / name for name in folders))
    outcome = run_process(command, layout.ini, *words, prefix=without_privileges)
    assert_refused(outcome, command, 6, r"cannot be written \(Permission denied\)")
    assert_nothing_half_written(layout.folder, before)


def test_no_permission_to_read(cluster, forbid, without_privileges):
    layout = cluster(RAW)
    path = events_of(layout)
    replace(path, path.read_bytes())
    path.chmod(0)
    outcome = run_process("prep", layout.ini, prefix=without_privileges)
    assert_refused(outcome, "prep", 3, "evt2.fits.*read")


@pytest.fixture
def small_disk(tmp_path):
    """``small_disk(source, free_kib)``: a copy of a cluster's folder on a file system with so much left."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "none", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")

    def copy(source, free_kib):
        shutil.copytree(source, place / "demo")
        system = os.statvfs(place)
        used_kib = (system.f_blocks - system.f_bfree) * system.f_frsize // 1024
        subprocess.run(["mount", "-o", f"remount,size={used_kib + free_kib}k", place], check=True)
        return ClusterLayout(place / "demo", "demo")

    yield copy
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize(
    ("command", "at", "words", "free_kib"),
    [
        ("prep", RAW, [], 8),
        ("prep", RAW, ["--stage", "1"], 3000),
        ("prep", MERGED, ["--stage", "2"], 12000),
        ("prep", CLEANED, ["--stage", "3"], 1000),
        ("prep", RESPONDED, ["--stage", "4"], 40),
        ("prep", CROPPED, ["--stage", "5"], 400),
        ("fit", BINNED, [], 8),
        ("maps", FITTED, ["--no-pictures"], 100),
    ],
)
def test_a_full_disk(command, at, words, free_kib, snapshots, small_disk, run):
    layout = small_disk(snapshots[at], free_kib)
    before = contents(layout.folder)
    assert_refused(
        run(command, layout.ini, *words), command, 6, r"cannot be written \((No|Not enough) space[^.]*\)\. .*Make room"
    )
    assert_nothing_half_written(layout.folder, before)
    if command == "prep":
        assert_stage_left_nothing(layout, at + 1)
