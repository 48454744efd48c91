"""What the processes of ``cpxt-fit`` load, how many threads they have, and which of them compiles."""

import json
import os
import shutil
import stat
import subprocess

import pytest
from fit_job import TESTS, clean_environment, fit_command, ready_to_fit

from cpxt_hpc.io.checkpoint import read_results


def observed(folder, layout, *options, ranks=0, words=(), **environment):
    """Records of the ranks of a job, by rank."""
    records = folder / "records"
    records.mkdir()
    command = fit_command(layout, *options, ranks=ranks)
    place = command.index("-m")
    command[place : place + 2] = [str(TESTS / "observed_fit.py")]
    ended = subprocess.run(
        [*words, *command], env=clean_environment(OBSERVED_FOLDER=str(records), **environment),
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return {int(path.stem): json.loads(path.read_text()) for path in records.glob("*.json")}


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


@pytest.fixture
def layout(tmp_path):
    return ready_to_fit(tmp_path / "made_up", n_regions=30)


def test_workers_load_neither_sherpa_nor_astropy_and_have_one_thread(layout, tmp_path):
    found = observed(tmp_path, layout, "--resolution", "3", ranks=3, OMP_NUM_THREADS="7", NUMBA_NUM_THREADS="2")
    assert sorted(found) == [0, 1, 2]
    for rank, record in found.items():
        assert record["heavy"] == [], f"rank {rank}"
        # MPI has one that waits for messages; those of BLAS would bear the program's name.
        assert record["threads"].count(record["threads"][0]) == 1, f"rank {rank}: {record['threads']}"
        assert record["numpy_before_threads_were_pinned"] is False
        assert record["numba_threads"] == 1
        assert set(record["pinned"].values()) == {"1"}
        assert record["numba_before_its_cache_was_chosen"] is False, f"rank {rank}"


def test_one_rank_compiles_and_the_others_load_what_it_made(layout, tmp_path):
    cache = tmp_path / "cache"
    found = observed(tmp_path, layout, "--resolution", "3", ranks=3, OBSERVED_FITTER="small", XDG_CACHE_HOME=str(cache))
    assert {rank: (record["hits"], record["misses"]) for rank, record in found.items()} == {
        0: (0, 1), 1: (1, 0), 2: (1, 0),
    }  # fmt: skip
    (kernels,) = (cache / "cpxt_hpc" / "numba").iterdir()
    assert stat.S_IMODE(kernels.stat().st_mode) == 0o700
    assert len(read_results(layout.fits)) == 30


@pytest.mark.parametrize("options", [("--resolution", "3"), ("--region", "7")])
def test_where_the_users_cache_cannot_be_written_a_private_folder_of_the_node_serves(
    layout, tmp_path, options, without_privileges
):
    closed, node = tmp_path / "closed", tmp_path / "node"
    closed.mkdir(mode=0o500)
    node.mkdir()
    environment = {"OBSERVED_FITTER": "small", "HOME": str(closed), "XDG_CACHE_HOME": "", "TMPDIR": str(node)}
    ranks = 0 if "--region" in options else 3
    found = observed(tmp_path, layout, *options, ranks=ranks, words=without_privileges, **environment)
    private = node / f"cpxt_hpc_compiled_{os.getuid()}"
    assert {record["cache"] for record in found.values()} == {str(private)}
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert sum(record["misses"] for record in found.values()) == 1
    assert not list(closed.iterdir())


def test_the_package_may_lie_in_a_folder_that_nobody_can_write(layout, tmp_path, without_privileges):
    site = tmp_path / "site"
    shutil.copytree(TESTS.parent / "cpxt_hpc", site / "cpxt_hpc", ignore=shutil.ignore_patterns("__pycache__"))
    folders = [path for path in site.rglob("*") if path.is_dir()]
    for folder in folders:
        folder.chmod(0o500)
    try:
        found = observed(
            tmp_path, layout, "--region", "3", words=without_privileges, OBSERVED_FITTER="small",
            XDG_CACHE_HOME=str(tmp_path / "cache"), PYTHONPATH=os.pathsep.join([str(site), str(TESTS)]),
        )  # fmt: skip
    finally:
        for folder in folders:
            folder.chmod(0o700)
    assert found[0]["package"] == str(site / "cpxt_hpc" / "__init__.py")
    assert found[0]["misses"] == 1
    assert list((tmp_path / "cache").rglob("*compiled_by_the_fitter*.nbc"))
