"""Checkpoints: nothing kept is lost, nothing is there twice, one job writes, every reader sees whole files."""

import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_journal import PROVENANCE, made_up_rows

from cpxt_hpc.errors import CheckpointHeld, CheckpointMismatch, DataError, MissingInput, OutputError
from cpxt_hpc.fitting.results import RESULT_DTYPE
from cpxt_hpc.io import checkpoint as checkpoint_module
from cpxt_hpc.io import lock as lock_module
from cpxt_hpc.io.checkpoint import (
    Checkpoint,
    CheckpointFiles,
    job_at_work,
    read_checkpoint,
    read_results,
    read_settings,
)
from cpxt_hpc.io.journal import Journal, read_journal
from cpxt_hpc.io.lock import STALE_AFTER_S
from cpxt_hpc.io.piece import Piece, find_single, keep_single
from cpxt_hpc.io.provenance import Provenance
from cpxt_hpc.io.result_rows import merged_rows
from cpxt_hpc.io.spool import SLOTS, open_spool

OTHER_SETTINGS = Provenance({**PROVENANCE.settings, "redshift": 0.3}, "abc")
OTHER_BINNING = Provenance(PROVENANCE.settings, "xyz")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "acb" / "A.1_fits.h5"


def regions_in(path):
    return read_results(path)["region"].tolist()


def test_fits_come_back_ascending_and_to_the_last_bit(path):
    rows = made_up_rows([7, 2, 5])
    with Checkpoint(path, PROVENANCE) as checkpoint:
        checkpoint.append(rows)
    assert read_results(path).tobytes() == rows[[1, 2, 0]].tobytes()
    assert read_settings(path) == PROVENANCE.settings


def test_the_hdf5_file_says_what_it_is(path):
    with Checkpoint(path, PROVENANCE) as checkpoint:
        checkpoint.append(made_up_rows([1]))
    with h5py.File(path) as file:
        assert file.attrs["format"] == "cpxt_hpc fits"
        assert file.attrs["schema_version"] == 2
        assert file.attrs["settings_digest"] == PROVENANCE.settings_digest
        assert file.attrs["binning_digest"] == "abc"
        assert dict(file["settings"].attrs) == PROVENANCE.settings
        assert file["results"].dtype == RESULT_DTYPE
        assert json.loads(file["results"].attrs["units"])["kT"] == "keV"
        assert json.loads(file["results"].attrs["status_codes"])["OK"] == 0
        assert json.loads(file["results"].attrs["flag_bits"])["POOR_FIT"] == 2


def test_readers_see_rows_while_the_job_runs_and_hdf5_readers_a_whole_file(path):
    with Checkpoint(path, PROVENANCE) as checkpoint:
        checkpoint.append(made_up_rows([1, 2]))
        checkpoint.compact()
        checkpoint.append(made_up_rows([3]))
        assert regions_in(path) == [1, 2, 3]
        with h5py.File(path) as file:
            assert file["results"]["region"].tolist() == [1, 2]


def test_a_reader_loses_nothing_when_a_compaction_comes_between_its_two_looks(path, monkeypatch):
    with Checkpoint(path, PROVENANCE) as checkpoint:
        checkpoint.append(made_up_rows([1, 2]))
        real = checkpoint_module.read_fits_table

        def compact_first(table_path):
            checkpoint.compact()
            return real(table_path)

        monkeypatch.setattr(checkpoint_module, "read_fits_table", compact_first)
        assert regions_in(path) == [1, 2]


def test_rows_of_a_killed_job_are_replayed_from_the_journal(path):
    checkpoint = Checkpoint(path, PROVENANCE)
    checkpoint.append(made_up_rows([4, 1]))
    die(checkpoint)
    with open(CheckpointFiles(path).journal, "ab") as stream:
        stream.write(b"torn")
    with Checkpoint(path, PROVENANCE) as again:
        assert again.all_results()["region"].tolist() == [1, 4]
        again.append(made_up_rows([2]))
    assert regions_in(path) == [1, 2, 4]
    assert len(read_journal(CheckpointFiles(path).journal).rows) == 0


def die(checkpoint):
    """Let go of the files as the kernel does for a killed process: nothing is written any more."""
    os.close(checkpoint._journal._descriptor)
    os.close(checkpoint._lock._descriptor)
    os.close(checkpoint._lock._owner_descriptor)
    owner = json.loads(checkpoint.files.owner.read_text())
    owner["started_ticks"] -= 1
    checkpoint.files.owner.write_text(json.dumps(owner))


def test_a_kill_between_compaction_and_emptying_the_journal_leaves_no_doubles(path, monkeypatch):
    checkpoint = Checkpoint(path, PROVENANCE)
    rows = made_up_rows([3, 1])
    checkpoint.append(rows)
    monkeypatch.setattr(Journal, "clear", lambda self: None)
    checkpoint.compact()
    monkeypatch.undo()
    die(checkpoint)
    assert len(read_journal(CheckpointFiles(path).journal).rows) == 2
    assert regions_in(path) == [1, 3]
    with Checkpoint(path, PROVENANCE):
        pass
    assert read_results(path).tobytes() == rows[[1, 0]].tobytes()


def test_a_region_that_is_there_is_not_added_again(path):
    with Checkpoint(path, PROVENANCE) as checkpoint:
        assert checkpoint.append(made_up_rows([1, 2]))["region"].tolist() == [1, 2]
        assert checkpoint.append(made_up_rows([2, 3]))["region"].tolist() == [3]


def test_of_two_rows_of_a_region_the_first_stays_and_a_difference_is_told(caplog):
    first, second = made_up_rows([1, 2]), made_up_rows([2, 3], seed=2)
    merged = merged_rows(first, second, "a file")
    assert merged["region"].tolist() == [1, 2, 3]
    assert merged[1].tobytes() == first[1].tobytes()
    assert "a file: 1 regions were fitted twice with different values, first [2]" in caplog.text


def test_rows_that_differ_in_seconds_alone_are_the_same(caplog):
    first = made_up_rows([1, 2])
    second = first.copy()
    second["seconds"] += 1.0
    assert merged_rows(first, second).tobytes() == first.tobytes()
    assert caplog.text == ""


def test_other_settings_are_refused_with_key_and_both_values(path):
    with Checkpoint(path, PROVENANCE) as checkpoint:
        checkpoint.append(made_up_rows([1]))
    with pytest.raises(
        CheckpointMismatch,
        match=r"redshift 0\.2, now 0\.3\. Restore the value, choose another \[fit\] label, or use --restart",
    ):
        Checkpoint(path, OTHER_SETTINGS)
    with Checkpoint(path, PROVENANCE):
        pass


def test_other_data_are_refused_with_what_that_means(path):
    then, now = (Provenance({**PROVENANCE.settings, "data_digest": digest}, "abc") for digest in ("12ab", "34cd"))
    with Checkpoint(path, then) as checkpoint:
        checkpoint.append(made_up_rows([1]))
    with pytest.raises(
        CheckpointMismatch,
        match=r"data_digest '12ab', now '34cd' \(events, backgrounds, exposures or responses are not",
    ):
        Checkpoint(path, now)


def test_another_binning_is_refused(path):
    with Checkpoint(path, PROVENANCE) as checkpoint:
        checkpoint.append(made_up_rows([1]))
    with pytest.raises(CheckpointMismatch, match=r"another binning \(abc, now xyz\).*--restart"):
        Checkpoint(path, OTHER_BINNING)


def test_restart_keeps_the_old_fits_aside_as_one_readable_file(path):
    old = Checkpoint(path, PROVENANCE)
    old.append(made_up_rows([1, 2]))
    die(old)
    keep_single(path, PROVENANCE, made_up_rows([9])[0])
    with Checkpoint(path, OTHER_SETTINGS, restart=True) as checkpoint:
        assert len(checkpoint.all_results()) == 0
        checkpoint.append(made_up_rows([3]))
    assert regions_in(path) == [3]
    (aside,) = [p for p in path.parent.glob("*.h5") if p != path]
    with h5py.File(aside) as file:
        assert file["results"]["region"].tolist() == [1, 2, 9]
        assert file["settings"].attrs["redshift"] == 0.2


def test_restart_puts_a_damaged_file_aside_too(path):
    path.parent.mkdir()
    path.write_bytes(b"no HDF5 file")
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        Checkpoint(path, PROVENANCE)
    with Checkpoint(path, PROVENANCE, restart=True) as checkpoint:
        checkpoint.append(made_up_rows([3]))
    assert regions_in(path) == [3]
    assert [p.read_bytes() for p in path.parent.glob("*.h5") if p != path] == [b"no HDF5 file"]


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("schema_version", 3, r"schema version 3; this software \(.*\) reads up to 2"),
        ("format", "x", "is not a checkpoint"),
    ],
)
def test_other_formats_and_versions_are_refused(path, attribute, value, message):
    with Checkpoint(path, PROVENANCE):
        pass
    with h5py.File(path, "r+") as file:
        file.attrs[attribute] = value
    with pytest.raises(DataError, match=message):
        read_results(path)


def test_no_fits_yet_is_missing_input(path):
    with pytest.raises(MissingInput, match=r"there are no fits yet\. Run: cpxt-fit"):
        read_results(path)


def test_files_left_by_a_killed_compaction_are_removed(path):
    with Checkpoint(path, PROVENANCE):
        pass
    left = path.parent / f".{path.name}.abcd.tmp.h5"
    left.write_bytes(b"half")
    with Checkpoint(path, PROVENANCE):
        pass
    assert not left.exists()


def test_a_second_job_is_told_who_holds_the_checkpoint_and_since_when(path):
    with Checkpoint(path, PROVENANCE) as checkpoint:
        checkpoint.tell({"workers": 7})
        with pytest.raises(CheckpointHeld, match=rf"is held by .*process {os.getpid()} on .* since \d{{4}}-"):
            Checkpoint(path, PROVENANCE)
        owner = job_at_work(path)
        assert (owner.pid, owner.about) == (os.getpid(), {"workers": 7})
    assert job_at_work(path) is None


def leave_owner(path, **changes):
    """An owner file as a job leaves it that was killed."""
    checkpoint = Checkpoint(path, PROVENANCE)
    checkpoint.append(made_up_rows([1]))
    owner = json.loads(checkpoint.files.owner.read_text())
    checkpoint.close()
    checkpoint.files.owner.write_text(json.dumps(owner | changes))
    return checkpoint.files.owner


def test_the_lock_of_a_dead_process_of_this_machine_is_taken_at_once(path):
    # This process lives, but began at another time than the owner of the same number did.
    leave_owner(path, started_ticks=12345)
    with Checkpoint(path, PROVENANCE) as checkpoint:
        assert len(checkpoint.all_results()) == 1


def test_the_lock_of_another_machine_holds_until_it_is_silent_too_long(path):
    owner = leave_owner(path, host="elsewhere")
    with pytest.raises(CheckpointHeld, match=r"on elsewhere since .*--break-lock"):
        Checkpoint(path, PROVENANCE)
    assert owner.exists()
    long_ago = time.time() - STALE_AFTER_S - 5
    os.utime(owner, (long_ago, long_ago))
    with Checkpoint(path, PROVENANCE):
        pass


def test_the_lock_of_another_machine_can_be_broken(path):
    leave_owner(path, host="elsewhere")
    with Checkpoint(path, PROVENANCE, break_lock=True) as checkpoint:
        assert job_at_work(path).pid == os.getpid()
        checkpoint.append(made_up_rows([2]))
    assert regions_in(path) == [1, 2]


def test_a_requeued_job_takes_its_own_lock_on_another_machine(path, monkeypatch):
    leave_owner(path, host="elsewhere", job="77", job_restart=0)
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with pytest.raises(CheckpointHeld, match="job 77"):
        Checkpoint(path, PROVENANCE)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with Checkpoint(path, PROVENANCE):
        pass


def test_a_job_whose_lock_was_broken_writes_no_more(path, monkeypatch):
    monkeypatch.setattr(lock_module, "BEAT_EVERY_S", 0.0)
    checkpoint = Checkpoint(path, PROVENANCE)
    checkpoint.append(made_up_rows([1]))
    checkpoint.tick()
    owner = checkpoint.files.owner
    content = owner.read_bytes()
    owner.rename(owner.with_suffix(".gone"))
    owner.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(CheckpointHeld, match="taken over"):
        checkpoint.tick()
    with pytest.raises(CheckpointHeld, match="taken over"):
        checkpoint.close()
    assert path.read_bytes() == before
    assert owner.exists()


def test_single_fits_join_while_a_job_holds_the_checkpoint_and_are_folded_in_later(path):
    with Checkpoint(path, PROVENANCE) as checkpoint:
        checkpoint.append(made_up_rows([1]))
        keep_single(path, PROVENANCE, made_up_rows([5])[0])
        assert regions_in(path) == [1, 5]
    assert find_single(path, PROVENANCE, 5) is None
    with Checkpoint(path, PROVENANCE) as checkpoint:
        assert checkpoint.all_results()["region"].tolist() == [1, 5]
    assert list(CheckpointFiles(path).spool.iterdir()) == []
    assert find_single(path, PROVENANCE, 5).tobytes() == made_up_rows([5])[0].tobytes()
    with pytest.raises(CheckpointMismatch, match=r"redshift 0\.2, now 0\.3"):
        find_single(path, OTHER_SETTINGS, 5)


def test_single_fits_of_other_settings_stay_out(path, caplog):
    with Checkpoint(path, PROVENANCE):
        pass
    keep_single(path, OTHER_SETTINGS, made_up_rows([5])[0])
    assert regions_in(path) == []
    with Checkpoint(path, PROVENANCE) as checkpoint:
        assert len(checkpoint.all_results()) == 0
    assert "other settings or another binning, left in the spool" in caplog.text
    assert len(list(CheckpointFiles(path).spool.iterdir())) == 1


def _keep_some(path, numbers, barrier):
    barrier.wait()
    for number in numbers:
        keep_single(Path(path), PROVENANCE, made_up_rows([number])[0])


def test_many_processes_leave_single_fits_at_once_while_a_job_folds_them_in(path):
    context = multiprocessing.get_context("fork")
    n_processes, each = 8, 25
    barrier = context.Barrier(n_processes + 1)
    numbers = np.arange(1, n_processes * each + 1).reshape(n_processes, each)
    processes = [context.Process(target=_keep_some, args=(path, n.tolist(), barrier)) for n in numbers]
    for process in processes:
        process.start()
    barrier.wait()
    while any(process.is_alive() for process in processes):
        with Checkpoint(path, PROVENANCE):
            pass
    for process in processes:
        process.join()
        assert process.exitcode == 0
    with Checkpoint(path, PROVENANCE):
        pass
    with h5py.File(path) as file:
        assert file["results"]["region"].tolist() == list(range(1, n_processes * each + 1))


def _hold_all_slots(spool, ready, done):
    descriptors = []
    for slot in range(SLOTS):
        descriptors.append(os.open(spool / f"{slot:02d}.journal", os.O_RDWR | os.O_CREAT))
        fcntl.lockf(descriptors[-1], fcntl.LOCK_EX)
    ready.set()
    done.wait()


def _fold(path):
    with Checkpoint(path, PROVENANCE):
        pass


def test_one_process_more_than_there_are_slots_loses_no_fit_to_a_job_that_folds_the_spool_in(path):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    spool = CheckpointFiles(path).spool
    spool.mkdir(parents=True)
    holder = context.Process(target=_hold_all_slots, args=(spool, ready, done))
    holder.start()
    ready.wait()
    journal = open_spool(spool, PROVENANCE)
    assert journal.path.name.endswith(f".{os.getpid()}.journal")
    journal.append(made_up_rows([1]))
    folding = context.Process(target=_fold, args=(path,))
    folding.start()
    folding.join()
    journal.append(made_up_rows([2]))
    journal.close()
    done.set()
    holder.join()
    assert regions_in(path) == [1, 2]
    _fold(path)
    assert regions_in(path) == [1, 2]
    assert not list(spool.glob(f"*{os.getpid()}*"))


def _run_piece(path, numbers, barrier):
    with Piece(path, PROVENANCE) as piece:
        piece.append(made_up_rows(numbers))
        barrier.wait()


def test_pieces_run_at_once_and_what_they_left_is_folded_in(path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_run_piece, args=(path, n, barrier)) for n in ([1, 3], [2, 4], [5])]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert regions_in(path) == [1, 2, 3, 4, 5]
    with Checkpoint(path, PROVENANCE):
        pass
    with h5py.File(path) as file:
        assert file["results"]["region"].tolist() == [1, 2, 3, 4, 5]


def test_a_piece_runs_beside_the_main_job_and_knows_what_was_done(path):
    with Checkpoint(path, PROVENANCE) as checkpoint:
        checkpoint.append(made_up_rows([1]))
        with Piece(path, PROVENANCE) as piece:
            assert piece.append(made_up_rows([1, 2]))["region"].tolist() == [2]
        assert regions_in(path) == [1, 2]
    with pytest.raises(CheckpointMismatch, match="redshift"):
        Piece(path, OTHER_SETTINGS)


WRITE_CALLS = ("pwrite", "ftruncate", "fsync", "fdatasync", "replace", "rename", "unlink", "utime", "link")


def _write_and_die(path, dies_at, answers):
    """Write twelve rows with three compactions; SIGKILL at one of the calls that change files."""
    calls = 0

    def counted(real):
        def call(*arguments, **more):
            nonlocal calls
            calls += 1
            if calls == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **more)

        return call

    for name in WRITE_CALLS:
        setattr(os, name, counted(getattr(os, name)))
    with Checkpoint(path, PROVENANCE) as checkpoint:
        for number in range(1, 13):
            checkpoint.append(made_up_rows([number]))
            answers.send(number)
            if number % 4 == 0:
                checkpoint.compact()
    answers.send(-calls)


def write_and_die(path, dies_at):
    """Exit code of a process that dies at one of its write calls, and the numbers that it sent."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_write_and_die, args=(path, dies_at, sender))
    process.start()
    sender.close()
    process.join()
    numbers = []
    while receiver.poll():
        try:
            numbers.append(receiver.recv())
        except EOFError:
            break
    return process.exitcode, numbers


def test_a_kill_at_any_write_call_loses_no_acknowledged_row(tmp_path):
    code, numbers = write_and_die(tmp_path / "w_fits.h5", 0)
    assert code == 0
    calls = -numbers[-1]
    assert calls > 30
    expected = np.concatenate([made_up_rows([number]) for number in range(1, 13)])
    for dies_at in range(1, calls + 1):
        path = tmp_path / f"{dies_at}_fits.h5"
        code, acknowledged = write_and_die(path, dies_at)
        assert code == -signal.SIGKILL
        kept = regions_in(path) if path.exists() else []
        assert kept[: len(acknowledged)] == acknowledged
        assert len(kept) <= len(acknowledged) + 1
        with Checkpoint(path, PROVENANCE) as checkpoint:
            assert checkpoint.all_results()["region"].tolist() == kept
            checkpoint.append(made_up_rows(range(1, 13)))
        found = read_results(path)
        assert found["region"].tolist() == list(range(1, 13))
        assert found[: len(kept)].tobytes() == expected[: len(kept)].tobytes()
        assert not list(tmp_path.glob(f".{dies_at}_*tmp*"))


FILLING = """
    import resource, sys
    from pathlib import Path
    sys.path[:0] = [{tests!r}, {package!r}]
    from test_journal import PROVENANCE, made_up_rows
    from cpxt_hpc.errors import OutputError
    from cpxt_hpc.io.checkpoint import Checkpoint

    path = Path(sys.argv[1])
    try:
        with Checkpoint(path, PROVENANCE) as checkpoint:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
            for number in range(1, 100000):
                checkpoint.append(made_up_rows([number]))
                last = number
    except OutputError as error:
        print(last, error)
"""


def test_a_file_that_may_grow_no_more_ends_cleanly_and_keeps_every_row(tmp_path):
    script = tmp_path / "writer.py"
    here = Path(__file__).resolve().parent
    script.write_text(textwrap.dedent(FILLING).format(tests=str(here), package=str(here.parent)))
    path = tmp_path / "f_fits.h5"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(path)], capture_output=True, text=True, check=True
    )
    last, message = done.stdout.split(" ", 1)
    assert "cannot be written (File too large)" in message
    assert regions_in(path) == list(range(1, int(last) + 1))
    with Checkpoint(path, PROVENANCE) as checkpoint:
        assert len(checkpoint.all_results()) == int(last)


def test_a_compaction_that_fails_leaves_table_and_journal_as_they_were(path, monkeypatch):
    checkpoint = Checkpoint(path, PROVENANCE)
    checkpoint.append(made_up_rows([1]))
    before = path.read_bytes()

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left on device"):
        checkpoint.close()
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert regions_in(path) == [1]
    assert job_at_work(path) is None


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        Checkpoint(tmp_path / "file" / "A_fits.h5", PROVENANCE)


def test_compaction_comes_by_time_and_by_size(path, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "COMPACT_ABOVE_BYTES", 5000)
    with Checkpoint(path, PROVENANCE) as checkpoint:
        checkpoint.append(made_up_rows([1]))
        checkpoint.tick()
        assert len(read_journal(checkpoint.files.journal).rows) == 1
        checkpoint.append(made_up_rows(range(2, 400)))
        checkpoint.tick()
        assert len(read_journal(checkpoint.files.journal).rows) == 0
        checkpoint.append(made_up_rows([1000]))
        checkpoint._compact_at = 0.0
        checkpoint.tick()
        assert len(read_journal(checkpoint.files.journal).rows) == 0


def test_the_checkpoint_tells_when_it_was_last_written(path):
    with Checkpoint(path, PROVENANCE) as checkpoint:
        checkpoint.append(made_up_rows([1]))
        assert abs(read_checkpoint(path).last_written - time.time()) < 60
