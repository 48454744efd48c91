"""Checkpoints of schema 1 are read, continued where the settings say the same, and never damaged."""

import dataclasses
import struct

import h5py
import numpy as np
import pytest
import schema_1
from test_journal import made_up_rows

from cpxt_hpc.config import BackgroundSection, BinningSection, ResponseSection
from cpxt_hpc.errors import CheckpointMismatch, DataError
from cpxt_hpc.fitting.results import RESULT_DTYPE
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.io.checkpoint import Checkpoint, CheckpointFiles, read_checkpoint
from cpxt_hpc.io.journal import Journal, read_journal
from cpxt_hpc.io.migration import (
    SCHEMA_1_DTYPE,
    SETTINGS_SINCE_SCHEMA_1,
    migrated_provenance,
    migrated_rows,
)
from cpxt_hpc.io.piece import Piece, find_single, keep_single
from cpxt_hpc.io.provenance import Provenance
from cpxt_hpc.io.spool import open_spool

OLD = Provenance(schema_1.SETTINGS, schema_1.BINNING_DIGEST)
NOW = migrated_provenance(OLD, 1)
"""Settings that say what the first version did."""

NEW_VALUES = sorted(set(RESULT_DTYPE.names) - set(SCHEMA_1_DTYPE.names) - {"abundance", "nH", "flags"})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "acb" / "A.1_fits.h5"


def assert_migrated(rows, old):
    """The old columns as they were, the new ones as nothing was known."""
    assert rows.dtype == RESULT_DTYPE
    for name in SCHEMA_1_DTYPE.names:
        assert np.array_equal(rows[name], old[name], equal_nan=old[name].dtype.kind == "f")
    for name in NEW_VALUES:
        assert np.isnan(rows[name]).all()
    assert not rows["flags"].any()


def test_rows_keep_their_values_and_get_the_frozen_ones_from_the_settings():
    old = schema_1.rows([1, 2, 3])
    old[1:2] = schema_1.failed(old[1:2])
    rows = migrated_rows(old, schema_1.SETTINGS)
    assert_migrated(rows, old)
    assert rows["abundance"].tolist() == pytest.approx([0.3, np.nan, 0.3], nan_ok=True)
    assert rows["nH"].tolist() == pytest.approx([0.05, np.nan, 0.05], nan_ok=True)


def test_settings_that_do_not_tell_leave_it_open():
    assert np.isnan(migrated_rows(schema_1.rows([1]), {})["abundance"]).all()


def test_rows_of_this_version_stay_the_same():
    rows = made_up_rows([1, 2])
    assert migrated_rows(rows, {}) is rows


def test_an_old_table_is_read_whole_and_by_region(path):
    old = schema_1.rows([2, 5, 9])
    schema_1.write_table(path, old)
    content = read_checkpoint(path)
    assert_migrated(content.results, old)
    assert content.provenance == NOW
    row = find_single(path, NOW, 5)
    assert row.shape == ()
    assert_migrated(row.reshape(1), old[1:2])
    assert find_single(path, NOW, 6) is None
    assert find_single(path, NOW, 10) is None


def test_table_journal_and_spool_of_the_first_version_are_read_together(path):
    old = schema_1.rows([1, 2, 3, 4])
    files = CheckpointFiles(path)
    schema_1.write_table(path, old[:2])
    schema_1.write_journal(files.journal, old[2:3])
    schema_1.write_journal(files.spool / "07.journal", old[3:])
    assert_migrated(read_checkpoint(path).results, old)


def test_an_old_checkpoint_is_continued_and_becomes_a_new_one(path):
    old, new = schema_1.rows([1, 2, 3, 4]), made_up_rows([7])
    files = CheckpointFiles(path)
    schema_1.write_table(path, old[:2])
    schema_1.write_journal(files.journal, old[2:3])
    schema_1.write_journal(files.spool / "07.journal", old[3:])
    with Checkpoint(path, NOW) as checkpoint:
        checkpoint.append(new)
    content = read_checkpoint(path)
    assert_migrated(content.results[:4], old)
    assert content.results[4:].tobytes() == new.tobytes()
    assert content.provenance == NOW
    with h5py.File(path) as file:
        assert file.attrs["schema_version"] == 2
        assert file["results"].dtype == RESULT_DTYPE
    assert not list(files.spool.glob("*.journal"))


def test_an_old_journal_is_rewritten_before_anything_is_added_and_loses_nothing_to_a_kill(path):
    old = schema_1.rows([1, 2])
    files = CheckpointFiles(path)
    schema_1.write_journal(files.journal, old)
    with open(files.journal, "ab") as stream:
        stream.write(b"torn")
    checkpoint = Checkpoint(path, NOW)
    try:
        # What a kill would leave now.
        content = read_journal(files.journal)
        assert content.version == 2
        assert content.valid_bytes == content.total_bytes
        assert_migrated(content.rows, old)
    finally:
        checkpoint.close()


def test_an_old_journal_without_rows_is_taken_over(path):
    files = CheckpointFiles(path)
    schema_1.write_journal(files.journal, schema_1.rows([]))
    with Checkpoint(path, NOW) as checkpoint:
        checkpoint.append(made_up_rows([1]))
    assert read_checkpoint(path).results["region"].tolist() == [1]


def test_a_journal_of_the_first_version_is_never_appended_to(tmp_path):
    path = tmp_path / "a.journal"
    schema_1.write_journal(path, schema_1.rows([1]))
    before = path.read_bytes()
    with pytest.raises(DataError, match="journal of schema version 1, which only can be read"):
        Journal(path, NOW)
    assert path.read_bytes() == before


def test_single_fits_go_beside_the_old_ones_of_the_spool(path):
    old = schema_1.rows([3])
    spool = CheckpointFiles(path).spool
    slot = open_spool(spool, NOW)
    slot.close()
    slot.path.unlink()
    schema_1.write_journal(slot.path, old)
    keep_single(path, NOW, made_up_rows([4])[0])
    assert read_checkpoint(path).results["region"].tolist() == [3, 4]
    with Piece(path, NOW) as piece:
        assert piece.all_results()["region"].tolist() == [3, 4]
    assert read_checkpoint(path).results["region"].tolist() == [3, 4]
    assert not list(spool.glob("*.journal"))


@pytest.mark.parametrize(
    ("key", "value"), [("free", "abundance"), ("statistic", "wstat"), ("vignetting", "hrma"), ("systematic", 0.03)]
)
def test_settings_that_mean_something_else_are_refused(path, key, value):
    schema_1.write_table(path, schema_1.rows([1]))
    other = Provenance({**NOW.settings, key: value}, NOW.binning_digest)
    with pytest.raises(CheckpointMismatch, match=rf"{key} .*, now {value!r}"):
        Checkpoint(path, other)
    assert len(read_checkpoint(path).results) == 1


def test_a_restart_keeps_the_old_fits_readable(path):
    old = schema_1.rows([1, 2])
    schema_1.write_table(path, old[:1])
    schema_1.write_journal(CheckpointFiles(path).journal, old[1:])
    with Checkpoint(path, Provenance({"redshift": 0.5}, "xyz"), restart=True):
        pass
    (aside,) = (p for p in path.parent.glob("*.h5") if p != path)
    assert_migrated(read_checkpoint(aside).results, old)


def test_columns_that_belong_to_no_version_are_refused(path):
    schema_1.write_table(path, made_up_rows([1]))
    with pytest.raises(DataError, match="other columns than those of schema version 1"):
        read_checkpoint(path)
    journal = path.with_name("a.journal")
    schema_1.write_journal(journal, schema_1.rows([1]))
    data = bytearray(journal.read_bytes())
    struct.pack_into("<I", data, 8, 2)
    journal.write_bytes(data)
    with pytest.raises(DataError, match="other columns than those of schema version 2"):
        read_journal(journal)


def test_every_setting_of_today_is_known_to_the_first_version_or_has_its_meaning_stated():
    first = {
        "snr", "max_radius_pixel", "smoothing_arcsec", "template_counts", "template_max_channels", "statistic",
        "min_exposure_fraction",
    }  # fmt: skip
    today = {
        field.name
        for section in (FitSettings, BinningSection, BackgroundSection, ResponseSection)
        for field in dataclasses.fields(section)
    }
    not_kept = {"apec_root", "region_timeout"}  # the version of the tables is; a time limit changes no number
    assert today - first - not_kept <= set(SETTINGS_SINCE_SCHEMA_1)
