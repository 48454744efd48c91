"""cpxt-init makes a valid cluster.ini, or says all that is wrong and makes nothing."""

import pytest

from cpxt_hpc.cli.init import main
from cpxt_hpc.io.ini import read_config


def test_the_path_alone_is_printed_and_the_file_is_valid(tmp_path, capsys):
    words = ["--cluster_name", "A2256", "--nH", "4.1e20", "--redshift", "0.0581", "--abundance", "0.3"]
    words += ["--signal_to_noise", "40", "--data-dir", str(tmp_path / "data"), "--obsids", "16129", "16514"]
    assert main(words) == 0
    path = tmp_path / "data" / "A2256" / "cluster.ini"
    captured = capsys.readouterr()
    assert captured.out == f"{path}\n"
    assert captured.err == ""
    config = read_config(path)
    assert config.obsids == (16129, 16514)
    assert config.nh_1e22 == pytest.approx(0.041, rel=1e-12)
    assert (config.cluster.redshift, config.cluster.abundance) == (0.0581, 0.3)
    assert config.cluster.signal_to_noise == 40
    assert config.cluster.data_directory == str(tmp_path / "data")


@pytest.mark.parametrize("words", [["1,2"], ["1", "2"], ["1,", "2"], ["1, 2"]])
def test_obsids_come_with_commas_or_blanks(tmp_path, words):
    assert main(["-n", "A", "--data-dir", str(tmp_path), "--obsids", *words]) == 0
    assert read_config(tmp_path / "A").obsids == (1, 2)


def test_name_and_obsids_are_enough_in_the_current_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["-n", "A", "--obsids", "1"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'A' / 'cluster.ini'}\n"
    assert read_config(tmp_path / "A").cluster.redshift is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give at least --cluster_name NAME and --obsids"),
        (["-n", "A"], "observation_ids: missing"),
        (["--obsids", "1"], "name: missing"),
        (["-n", "A", "--obsids"], "expected at least one argument"),
        (["-n", "A/../..", "--obsids", "1"], "not usable in file names"),
        (["-n", "..", "--obsids", "1"], "not usable in file names"),
        (["-n", "", "--obsids", "1"], "not usable in file names"),
        (["-n", "A", "--obsids", "1,1"], "named more than once"),
        (["-n", "A", "--obsids", "1;2"], "no ObsID"),
        (["-n", "A", "--obsids", "1", "-z", "abc"], "[cluster] redshift = 'abc': not a number"),
        (["-n", "A", "--obsids", "1", "-z", "-0.1"], "out of range"),
        (["-n", "A", "--obsids", "1", "--nH", "1e10"], "no column density in either unit"),
        (["-n", "A", "--obsids", "1", "--abundance", "30"], "out of range"),
        (["-n", "A", "--obsids", "1", "--wrong", "30"], "unrecognized arguments"),
    ],
)
def test_bad_input_gives_2_and_makes_nothing(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_all_faults_are_told_at_once(tmp_path, capsys):
    words = ["-n", "a/b", "--obsids", "x", "-z", "abc", "--nH", "1e10", "--signal_to_noise", "0"]
    assert main([*words, "--data-dir", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "command line: 5 faults" in message
    assert list(tmp_path.iterdir()) == []


def test_an_existing_cluster_is_kept(tmp_path, capsys):
    assert main(["-n", "A", "--obsids", "1", "--data-dir", str(tmp_path)]) == 0
    before = (tmp_path / "A" / "cluster.ini").read_bytes()
    assert main(["-n", "A", "--obsids", "2", "--data-dir", str(tmp_path)]) == 2
    assert "is there already and is kept" in capsys.readouterr().err
    assert (tmp_path / "A" / "cluster.ini").read_bytes() == before


def test_a_file_in_place_of_the_data_folder_gives_6(tmp_path, capsys):
    (tmp_path / "data").write_text("a file")
    assert main(["-n", "A", "--obsids", "1", "--data-dir", str(tmp_path / "data")]) == 6
    assert "cannot be written" in capsys.readouterr().err
