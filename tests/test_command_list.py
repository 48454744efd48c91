"""The command list: what is written runs from a shell, what is read is the --region of each line."""

import shlex

import numpy as np
import pytest

from cpxt_hpc.errors import ConfigError, DataError, MissingInput
from cpxt_hpc.io.command_list import read_command_list, write_command_list

AWKWARD_PATH = "/data/it's a \"cluster\"; rm -rf $HOME --region 7/ü/cluster.ini"


def test_numbers_are_read_back_in_order(tmp_path):
    path = tmp_path / "commands_x.lis"
    write_command_list(path, np.array([3, 1, 2], np.int32), "/data/x/cluster.ini")
    assert read_command_list(path).tolist() == [3, 1, 2]
    assert read_command_list(path).dtype == np.int64


def test_a_shell_sees_the_path_as_one_word_whatever_it_holds(tmp_path):
    path = tmp_path / "commands_x.lis"
    write_command_list(path, [12], AWKWARD_PATH)
    command = path.read_text("utf-8").splitlines()[-1]
    assert shlex.split(command) == ["cpxt-fit", AWKWARD_PATH, "--region", "12"]
    assert read_command_list(path).tolist() == [12]


def test_a_path_that_looks_like_an_option_is_protected(tmp_path):
    path = tmp_path / "commands_x.lis"
    write_command_list(path, [1], "-x/cluster.ini")
    assert shlex.split(path.read_text().splitlines()[-1])[1] == "./-x/cluster.ini"


def test_a_path_with_a_line_break_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="line break"):
        write_command_list(tmp_path / "x.lis", [1], "/data/a\nb/cluster.ini")


def test_the_header_is_a_comment_and_an_empty_list_names_nothing(tmp_path):
    path = tmp_path / "x.lis"
    write_command_list(path, [], "/data/cluster.ini")
    assert all(line.startswith("#") for line in path.read_text().splitlines())
    assert read_command_list(path).size == 0


@pytest.mark.parametrize(
    "text",
    [
        "cpxt-fit a --region 5\ncpxt-fit a --region 2\n",
        "cpxt-fit a --region 5\r\ncpxt-fit a --region 2\r\n",
        "cpxt-fit a --region 5\ncpxt-fit a --region 2",
        "cpxt-fit a --region=5\n  --region   2  \n",
        "# cpxt-fit a --region 9\n\n \t\n  # --region 8\ncpxt-fit a --region 5\n\r\ncpxt-fit b --region 2\n",
        "a --region 5\na --region 2\na --region 5\na --region 2\n",
        "cpxt-fit a --region 5 --label free # core\ncpxt-fit '/x --region 1/c.ini' --region 2; date\n",
    ],
)
def test_comments_blank_lines_line_ends_and_doubles_do_not_matter(tmp_path, text):
    path = tmp_path / "x.lis"
    path.write_bytes(text.encode())
    assert read_command_list(path).tolist() == [5, 2]


@pytest.mark.parametrize(
    "line",
    ["cpxt-fit cluster.ini", "cpxt-fit a --region", "cpxt-fit a --region x3", "cpxt-fit a --region -3",
     "cpxt-fit a --region 3x", "cpxt-fit a --regions 3", "cpxt-fit a --region 9999999999999999999"],
)
def test_a_line_that_names_no_region_is_an_error_with_its_number(tmp_path, line):
    path = tmp_path / "x.lis"
    path.write_text(f"# head\n\ncpxt-fit a --region 1\n{line}\ncpxt-fit a --region 2\n")
    with pytest.raises(DataError, match=r"x\.lis, line 4: .*Expected '\.\.\. --region N'"):
        read_command_list(path)


def test_a_missing_list_is_a_missing_input(tmp_path):
    with pytest.raises(MissingInput, match=r"none\.lis: cannot be read"):
        read_command_list(tmp_path / "none.lis")


def test_a_long_list_is_read_whole(tmp_path):
    path = tmp_path / "x.lis"
    write_command_list(path, range(1, 200_001), "/data/with blank/cluster.ini")
    assert np.array_equal(read_command_list(path), np.arange(1, 200_001))
