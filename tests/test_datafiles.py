"""The data files are found in the documented order, and a missing one names the command to run."""

import hashlib
import sys

import pytest

from cpxt_hpc.errors import MissingInput
from cpxt_hpc.io import datafiles


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Three empty places: the variable's, the recorded one, the one in HOME; none of them in use yet."""
    places = {name: tmp_path / name for name in ("variable", "recorded", "home/.cache/cpxt_hpc")}
    prefix = tmp_path / "prefix"
    (prefix / "share/cpxt_hpc").mkdir(parents=True)
    (prefix / "share/cpxt_hpc/cache").write_text(f"{places['recorded']}\n")
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setenv("CPXT_CACHE", str(places["variable"]))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return list(places.values())


def fill(folder):
    tables = folder / "tables"
    tables.mkdir(parents=True)
    for name in datafiles.SHA256:
        (tables / name).touch()
    return tables


def test_order_is_variable_then_record_then_home(folders):
    for folder in reversed(folders):
        tables = fill(folder)
        assert datafiles.apec_root() == tables / "apec_v3.0.3"
        assert datafiles.response_files() == (
            tables / "acisi_aimpt_cy18.arf",
            tables / "acisi_aimpt_cy18.rmf",
        )


def test_line_and_continuum_come_from_one_folder(folders):
    (fill(folders[0]) / "apec_v3.0.3_coco.fits").unlink()
    complete = fill(folders[1])
    assert datafiles.apec_root() == complete / "apec_v3.0.3"


def test_launch_responses_can_be_chosen(folders):
    tables = fill(folders[0])
    assert datafiles.response_files("cy0") == (tables / "acisi_aimpt_cy0.arf", tables / "acisi_aimpt_cy0.rmf")


def test_unknown_cycle_is_refused():
    with pytest.raises(ValueError, match="'cy5': choose cy0 or cy18"):
        datafiles.response_files("cy5")


@pytest.mark.parametrize("function", [datafiles.apec_root, datafiles.response_files])
def test_missing_files_name_the_folders_and_the_setup(folders, function):
    with pytest.raises(MissingInput, match=r"variable.*recorded.*home.*bash jobscripts/setup\.sh"):
        function()


def test_without_home_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.delenv("CPXT_CACHE", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    with pytest.raises(MissingInput, match=r"HOME is not set"):
        datafiles.apec_root()


def test_installed_files_have_the_pinned_checksums():
    for name, expected in datafiles.SHA256.items():
        (path,) = datafiles.data_files(name)
        with path.open("rb") as stream:
            assert hashlib.file_digest(stream, "sha256").hexdigest() == expected
