"""Journals keep every record that was written whole, whatever happened behind it."""

import errno
import os
import struct

import numpy as np
import pytest

from cpxt_hpc.errors import CheckpointMismatch, DataError, OutputError
from cpxt_hpc.fitting.results import RESULT_DTYPE
from cpxt_hpc.io import journal as journal_module
from cpxt_hpc.io.journal import RECORD_DTYPE, Journal, encode_header, read_journal
from cpxt_hpc.io.provenance import Provenance

PROVENANCE = Provenance({"redshift": 0.2, "statistic": "cstat", "n": 3}, "abc")


def made_up_rows(numbers, seed=1):
    rng = np.random.default_rng(seed)
    rows = np.zeros(len(numbers), dtype=RESULT_DTYPE)
    for name in RESULT_DTYPE.names:
        if rows.dtype[name].kind == "f":
            rows[name] = rng.normal(size=len(rows))
    rows["region"] = numbers
    rows["kT"][::3] = np.nan
    return rows


def write(path, rows, provenance=PROVENANCE):
    journal = Journal(path, provenance)
    journal.append(rows)
    journal.close()


def test_rows_come_back_as_they_were_appended(tmp_path):
    path = tmp_path / "a.journal"
    rows = made_up_rows([5, 3, 9])
    write(path, rows[:1])
    write(path, rows[1:])
    content = read_journal(path)
    assert content.rows.tobytes() == rows.tobytes()
    assert content.provenance == PROVENANCE
    assert content.valid_bytes == content.total_bytes == path.stat().st_size


def test_there_is_nothing_to_read_where_there_is_no_file(tmp_path):
    assert read_journal(tmp_path / "none.journal") is None


def test_a_journal_cut_anywhere_keeps_its_whole_records_and_can_be_continued(tmp_path):
    rows = made_up_rows([1, 2, 3])
    write(tmp_path / "whole", rows)
    whole = (tmp_path / "whole").read_bytes()
    header = len(encode_header(PROVENANCE))
    borders = header + RECORD_DTYPE.itemsize * np.arange(4)
    lengths = {0, 1, 7, 8, 19, 20, 21, 300, header - 1} | {b + d for b in borders for d in (-1, 0, 1, 50)}
    for length in sorted(n for n in lengths if n < len(whole)):
        path = tmp_path / "cut"
        path.write_bytes(whole[:length])
        kept = max(length - header, 0) // RECORD_DTYPE.itemsize
        assert read_journal(path).rows.tobytes() == rows[:kept].tobytes()
        write(path, rows[kept:])
        assert path.read_bytes() == whole


@pytest.mark.parametrize("record", [0, 1, 2])
def test_replay_ends_at_the_first_damaged_record(tmp_path, record):
    path = tmp_path / "a.journal"
    rows = made_up_rows([1, 2, 3])
    write(path, rows)
    data = bytearray(path.read_bytes())
    data[len(encode_header(PROVENANCE)) + record * RECORD_DTYPE.itemsize + 11] ^= 1
    path.write_bytes(data)
    assert read_journal(path).rows.tobytes() == rows[:record].tobytes()


def test_a_tail_of_zeros_is_no_record(tmp_path):
    path = tmp_path / "a.journal"
    rows = made_up_rows([1, 2])
    write(path, rows)
    with open(path, "ab") as stream:
        stream.write(bytes(5 * RECORD_DTYPE.itemsize))
    assert len(read_journal(path).rows) == 2
    write(path, made_up_rows([3]))
    assert read_journal(path).rows["region"].tolist() == [1, 2, 3]


def test_records_of_another_journal_do_not_pass(tmp_path):
    other = Provenance({**PROVENANCE.settings, "redshift": 0.3}, "abc")
    write(tmp_path / "a", made_up_rows([1]))
    write(tmp_path / "b", made_up_rows([2]), other)
    record = (tmp_path / "b").read_bytes()[-RECORD_DTYPE.itemsize :]
    with open(tmp_path / "a", "ab") as stream:
        stream.write(record)
    assert read_journal(tmp_path / "a").rows["region"].tolist() == [1]


def test_a_journal_of_other_settings_is_refused_by_key_and_values(tmp_path):
    path = tmp_path / "a.journal"
    write(path, made_up_rows([1]))
    with pytest.raises(CheckpointMismatch, match=r"redshift 0\.2, now 0\.3\. .*--restart"):
        Journal(path, Provenance({**PROVENANCE.settings, "redshift": 0.3}, "abc"))
    with pytest.raises(CheckpointMismatch, match=r"another binning \(abc, now xyz\)"):
        Journal(path, Provenance(PROVENANCE.settings, "xyz"))


def test_an_empty_journal_of_other_settings_is_taken_over(tmp_path):
    path = tmp_path / "a.journal"
    write(path, made_up_rows([]))
    other = Provenance({"redshift": 0.3}, "abc")
    write(path, made_up_rows([4]), other)
    assert read_journal(path).provenance == other


@pytest.mark.parametrize("content", [b"something else, and long enough to be one", b"ab"])
def test_another_file_is_left_alone(tmp_path, content):
    path = tmp_path / "a.journal"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not a journal"):
        read_journal(path)
    with pytest.raises(DataError, match="is not a journal"):
        Journal(path, PROVENANCE)
    assert path.read_bytes() == content


def test_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "a.journal"
    write(path, made_up_rows([1]))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 8, 3)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"journal of schema version 3; this software \(.*\) reads up to 2"):
        read_journal(path)


def test_a_damaged_header_is_told_and_not_overwritten(tmp_path):
    path = tmp_path / "a.journal"
    write(path, made_up_rows([1]))
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="header is damaged"):
        Journal(path, PROVENANCE)


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_keeps_what_was_written_and_leaves_no_torn_record(tmp_path, monkeypatch, reason):
    path = tmp_path / "a.journal"
    journal = Journal(path, PROVENANCE)
    journal.append(made_up_rows([1, 2]))
    real = os.pwrite
    calls = []

    def half_then_full(descriptor, data, offset):
        calls.append(len(data))
        if len(calls) == 1:
            return real(descriptor, data[: len(data) // 2 + 7], offset)
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(journal_module.os, "pwrite", half_then_full)
    with pytest.raises(OutputError, match=r"cannot be written .*it continues"):
        journal.append(made_up_rows([3, 4]))
    monkeypatch.undo()
    content = read_journal(path)
    assert content.rows["region"].tolist() == [1, 2]
    assert content.valid_bytes == content.total_bytes
    journal.append(made_up_rows([3, 4]))
    journal.close()
    assert read_journal(path).rows["region"].tolist() == [1, 2, 3, 4]


def test_the_digest_depends_on_values_and_not_on_order_or_numpy_types():
    same = Provenance({"n": np.int64(3), "statistic": np.str_("cstat"), "redshift": np.float64(0.2)}, "abc")
    assert same == PROVENANCE
    assert same.settings_digest == PROVENANCE.settings_digest
    assert Provenance({**PROVENANCE.settings, "n": 4}, "abc").settings_digest != PROVENANCE.settings_digest


def test_a_setting_that_is_only_on_one_side_is_named():
    less = Provenance({"redshift": 0.2, "statistic": "cstat"}, "abc")
    assert PROVENANCE.differing_settings(less) == ["n 3, now (absent)"]


def test_a_setting_must_be_text_or_a_number():
    with pytest.raises(TypeError, match="text or a number"):
        Provenance({"x": [1, 2]}, "abc")
