"""Launchers are looked at before MPI is loaded; compiled functions go where nobody else can write."""

import os
import subprocess
import sys
import tempfile

import pytest
from fit_job import clean_environment

from cpxt_hpc.errors import ConfigError
from cpxt_hpc.parallel.compile_cache import private_folder, use_node_cache
from cpxt_hpc.parallel.launcher import check_launcher, launched, launched_rank
from cpxt_hpc.parallel.stop import StopRequest
from cpxt_hpc.parallel.transport import LocalLink, connect


@pytest.mark.parametrize(
    ("environ", "is_launched", "rank"),
    [
        ({}, False, 0),
        ({"PMI_RANK": "3", "PMI_SIZE": "8"}, True, 3),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2"}, True, 2),
        ({"PMIX_RANK": "5"}, True, 5),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"}, True, 1),
        ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, False, 0),
        # The shell of a batch job: nothing is launched there, whatever the job has asked for.
        ({"SLURM_NTASKS": "16", "SLURM_PROCID": "0"}, False, 0),
    ],
)
def test_launchers_are_known_by_what_they_set(environ, is_launched, rank):
    assert launched(environ) is is_launched
    assert launched_rank(environ) == rank


@pytest.mark.parametrize(
    ("environ", "how"),
    [
        ({"SLURM_STEP_NUM_TASKS": "4"}, "srun --mpi=pmi2"),
        ({"PMI_SIZE": "4"}, "mpiexec of the same MPI"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "mpiexec of the same MPI"),
    ],
)
def test_many_processes_that_are_each_alone_are_refused_with_the_right_launcher(environ, how):
    with pytest.raises(ConfigError, match="started 4 processes, but each finds itself alone") as refused:
        check_launcher(environ, 1)
    assert how in str(refused.value)
    check_launcher(environ, 4)
    check_launcher({}, 1)


def test_without_a_launcher_neither_mpi_nor_numba_is_loaded():
    program = """
import sys
from cpxt_hpc.parallel.transport import connect
import cpxt_hpc.parallel.job, cpxt_hpc.cli.fit
with connect() as link:
    assert (link.rank, link.size) == (0, 1)
print(sorted({"mpi4py", "numba", "matplotlib", "sherpa", "scipy"} & set(sys.modules)))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert ended.stdout == "[]\n"


def test_alone_a_function_is_called_once_and_gives_its_value():
    calls = []
    with connect({}) as link:
        assert isinstance(link, LocalLink)
        assert link.on_root(lambda: calls.append(1) or 5) == 5
        assert link.leader_first(lambda: calls.append(1) or 6) == 6
        assert link.from_leader(lambda: calls.append(1) or 7) == 7
    assert len(calls) == 3


def test_the_compile_cache_is_a_folder_of_this_user_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = private_folder()
    assert folder == private_folder()
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("trap", ["open", "link", "file"])
def test_a_prepared_cache_folder_is_not_trusted(tmp_path, monkeypatch, trap):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    place = tmp_path / f"cpxt_hpc_compiled_{os.getuid()}"
    if trap == "open":
        place.mkdir()
        place.chmod(0o777)
    elif trap == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.write_text("")
    folder = private_folder()
    assert folder != place
    assert folder.stat().st_mode & 0o777 == 0o700


def test_ranks_on_several_nodes_share_a_cache_on_each_node_unless_the_user_chose_one(tmp_path, monkeypatch):
    class ManyNodes(LocalLink):
        one_node = False

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", "chosen")
    use_node_cache(ManyNodes())
    assert os.environ["NUMBA_CACHE_DIR"] == "chosen"
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    use_node_cache(LocalLink())
    assert "NUMBA_CACHE_DIR" not in os.environ
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")  # so that its value is restored
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    use_node_cache(ManyNodes())
    assert os.environ.pop("NUMBA_CACHE_DIR") == str(private_folder())


def test_the_first_signal_is_remembered():
    stop = StopRequest()
    assert not stop
    stop._note(10, None)
    stop._note(15, None)
    assert stop
    assert stop.reason == "SIGUSR1"
