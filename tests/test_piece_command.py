"""Shares of a command list, as the tasks of a job array take them."""

import pytest
from fit_job import ready_to_fit

from cpxt_hpc.cli.piece import main
from cpxt_hpc.io.command_list import read_command_list


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return ready_to_fit(tmp_path_factory.mktemp("with blank in it") / "made up", n_regions=100)


def test_the_shares_are_command_lists_that_hold_every_region_once(layout, tmp_path, capsys):
    numbers = []
    for share in range(1, 8):
        assert main([str(layout.ini), f"{share}/7"]) == 0
        piece = tmp_path / "piece.lis"
        piece.write_text(capsys.readouterr().out)
        found = read_command_list(piece).tolist()
        assert len(found) in (14, 15)
        assert f"cpxt-fit '{layout.ini}' --region {found[0]}\n" in piece.read_text()
        numbers += found
    assert sorted(numbers) == list(range(1, 101))


@pytest.mark.parametrize("share", ["0/7", "8/7", "3", "a/b", "1/2/3", "-1/3"])
def test_a_share_that_does_not_exist_is_refused(layout, share, capsys):
    assert main(["--", str(layout.ini), share]) == 2
    assert "expected two numbers such as 3/20" in capsys.readouterr().err
