"""The user's configuration and ClusterPyXT's: what is taken from them."""

import os
from pathlib import Path

import pytest

from cpxt_hpc.cli import init, prep
from cpxt_hpc.errors import ConfigError
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.io.user_config import UserConfig, read_user_config, remember_cluster, user_config_path

PYPELINE = """\
[cluster]
name = A115
observation_ids = 3233,15578,15581
data_directory = /home/someone/data
hydrogen_column_density = 0.052
redshift = 0.1971
abundance = 0.2
signal_to_noise = 40.0
last_step_completed = 5
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    path = tmp_path / "settings" / "config.ini"
    monkeypatch.setenv("CPXT_CONFIG", str(path))
    monkeypatch.chdir(tmp_path)
    return path


def test_a_new_cluster_is_the_current_one_and_prep_takes_it(settings, tmp_path, capsys):
    assert init.main(["-n", "A", "--obsids", "7", "--data-dir", "data"]) == 0
    ini = tmp_path / "data" / "A" / "cluster.ini"
    assert read_user_config() == UserConfig(None, ini)
    assert prep.main(["--continue", "--toolchain", "builtin"]) == 3
    assert "ObsID 7 has no event file" in capsys.readouterr().err


def test_the_cluster_prepared_last_is_the_current_one(settings, tmp_path):
    for name in "AB":
        assert init.main(["-n", name, "--obsids", "7", "--data-dir", "data"]) == 0
    prep.main([str(tmp_path / "data" / "A" / "cluster.ini"), "--toolchain", "builtin"])
    assert read_user_config().current_cluster == tmp_path / "data" / "A" / "cluster.ini"


def test_a_current_cluster_that_is_gone_is_told(settings, capsys):
    remember_cluster(Path("/nowhere/cluster.ini"))
    assert prep.main(["--continue"]) == 2
    assert "the current cluster /nowhere/cluster.ini is gone" in capsys.readouterr().err


def test_the_users_data_folder_is_where_clusters_are_made(settings, tmp_path):
    settings.parent.mkdir()
    settings.write_text(f"# mine\n[user]\ndata_directory = {tmp_path / 'data'}\n")
    assert init.main(["-n", "A", "--obsids", "7"]) == 0
    assert (tmp_path / "data" / "A" / "cluster.ini").is_file()
    text = settings.read_text()
    assert text.startswith("# mine\n[user]\n")
    assert read_user_config() == UserConfig(tmp_path / "data", tmp_path / "data" / "A" / "cluster.ini")


def test_comments_of_the_users_file_survive(settings):
    remember_cluster(Path("/a/cluster.ini"))
    settings.write_text(settings.read_text() + "# a note\n")
    remember_cluster(Path("/b/cluster.ini"))
    assert "# a note" in settings.read_text()
    assert read_user_config().current_cluster == Path("/b/cluster.ini")


@pytest.mark.parametrize(
    ("text", "message"),
    [("no section\n", "no section headers"), ("[user]\ncaldb = /x\n", "caldb: unknown"), ("[fit]\n", "fit: unknown")],
)
def test_a_users_file_that_cannot_be_understood_is_told_and_kept(settings, text, message):
    settings.parent.mkdir()
    settings.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_user_config()
    remember_cluster(Path("/a/cluster.ini"))
    assert settings.read_text() == text


def test_without_a_place_for_settings_everything_works(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CPXT_CONFIG", str(tmp_path / "file" / "config.ini"))
    assert read_user_config() == UserConfig()
    assert init.main(["-n", "A", "--obsids", "7", "--data-dir", str(tmp_path)]) == 0


def test_settings_lie_in_the_platforms_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("CPXT_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_config_path().name == "config.ini"
    assert user_config_path().is_relative_to(tmp_path)
    assert "cpxt_hpc" in user_config_path().parts


def test_clusterpyxts_configuration_becomes_ours(settings, tmp_path, capsys):
    source = tmp_path / "A115_pypeline_config.ini"
    source.write_text(PYPELINE)
    assert init.main([str(source), "--data-dir", str(tmp_path / "new"), "--signal_to_noise", "60"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new' / 'A115' / 'cluster.ini'}\n"
    cluster = read_config(tmp_path / "new" / "A115").cluster
    assert (cluster.name, cluster.observation_ids) == ("A115", (3233, 15578, 15581))
    assert (cluster.hydrogen_column_density, cluster.redshift, cluster.abundance) == (0.052, 0.1971, 0.2)
    assert (cluster.signal_to_noise, cluster.last_step_completed) == (60.0, 0)
    assert cluster.data_directory == str(tmp_path / "new")


def test_what_clusterpyxt_leaves_open_stays_open(settings, tmp_path):
    source = tmp_path / "x.ini"
    text = (
        "[cluster]\nname = B\nobservation_ids = ['1', '2']\nhydrogen_column_density = Update me! (100 % e.g. 0.052)\n"
    )
    source.write_text(text + "redshift = 0\nabundance = 0.0\nsignal_to_noise = Update me! (e.g. 50)\nanother = key\n")
    assert init.main([str(source)]) == 0
    cluster = read_config(tmp_path / "B").cluster
    assert cluster.observation_ids == (1, 2)
    assert (cluster.hydrogen_column_density, cluster.redshift, cluster.abundance) == (None, None, None)
    assert cluster.signal_to_noise == 50.0


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (None, 3, "no such file. Name a ClusterPyXT"),
        ("name = A\n", 2, "no configuration file"),
        ("[other]\nname = A\n", 2, r"has no section [cluster] with a name"),
        ("[cluster]\nname =\n", 2, r"has no section [cluster] with a name"),
        ("[cluster]\nname = Abell 115\nobservation_ids = 1\n", 2, "not usable in file names"),
        ("[cluster]\nname = ../A\nobservation_ids = 1\n", 2, "not usable in file names"),
        ("[cluster]\nname = A\nobservation_ids = 1;2\n", 2, "no ObsID"),
        ("[cluster]\nname = A\nobservation_ids = 1\nredshift = far\n", 2, "not a number"),
        (b"\xff\xfe[cluster]", 3, "cannot be read"),
    ],
)
def test_a_bad_configuration_is_one_message_and_makes_nothing(settings, tmp_path, capsys, text, code, message):
    source = tmp_path / "x_pypeline_config.ini"
    if text is not None:
        source.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert init.main([str(source), "--data-dir", str(tmp_path / "new")]) == code
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""
    assert not (tmp_path / "new").exists()
    assert os.environ["CPXT_CONFIG"] == str(settings) and not settings.exists()
