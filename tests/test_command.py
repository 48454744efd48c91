"""Every command ends with one message and a documented exit code."""

import argparse
import errno
import logging
import os
import re
import signal
import subprocess
import sys

import pytest

from cpxt_hpc import errors
from cpxt_hpc.cli.command import add_logging_options, interrupted_by, run_command, setup_logging


@pytest.fixture(autouse=True)
def _log_as_before():
    logger = logging.getLogger("cpxt_hpc")
    before = list(logger.handlers), logger.level
    yield
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.level = before


def raising(error):
    def command(argv):
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("bad key"), 2),
        (errors.MissingInput("no events"), 3),
        (errors.DataError("torn"), 3),
        (errors.ToolError("no compiler"), 3),
        (errors.OutputError("disk full"), 6),
        (errors.CheckpointHeld("busy"), 7),
        (errors.CheckpointMismatch("other settings"), 7),
    ],
)
def test_a_users_error_is_one_line_with_its_code(capsys, error, code):
    assert run_command(raising(error), [], name="cpxt-x") == code
    captured = capsys.readouterr()
    assert captured.err == f"cpxt-x: error: {error}\n"
    assert captured.out == ""


def test_a_region_to_draw_is_no_error_but_an_action(capsys):
    assert run_command(raising(errors.ActionNeeded("draw it")), [], name="cpxt-x") == 4
    assert capsys.readouterr().err == "cpxt-x: action needed: draw it\n"


def test_the_command_is_named_after_its_module(capsys):
    from cpxt_hpc.cli import prep

    run_command(prep._prepare, ["--stage", "9"])
    assert "cpxt-prep: error:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS], ids=lambda n: errno.errorcode[n]
)
def test_a_file_that_cannot_be_written_gives_6_and_its_name(capsys, number):
    error = OSError(number, os.strerror(number), "/data/A/out.fits")
    assert run_command(raising(error), [], name="cpxt-x") == 6
    message = capsys.readouterr().err
    assert message.startswith("cpxt-x: error: /data/A/out.fits: cannot be written")
    assert os.strerror(number) in message


def test_the_reason_that_hdf5_hides_in_its_text_is_found(capsys):
    error = OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')")
    assert run_command(raising(error), [], name="cpxt-x") == 6
    assert os.strerror(errno.ENOSPC) in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [ValueError("odd"), OSError(errno.EIO, "bad disk"), FileNotFoundError(2, "gone", "x")]
)
def test_a_bug_keeps_its_traceback(capsys, error):
    assert run_command(raising(error), [], name="cpxt-x") == 1
    message = capsys.readouterr().err
    assert "Traceback" in message
    assert type(error).__name__ in message


def test_an_interrupt_asks_to_run_again(capsys):
    assert run_command(raising(KeyboardInterrupt()), [], name="cpxt-x") == 75
    assert "again to continue" in capsys.readouterr().err


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (5, 5)])
def test_what_a_command_returns_is_its_exit_code(returned, code):
    assert run_command(lambda argv: returned, []) == code


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["--number", "x"], 2), (["--unknown"], 2)])
def test_usage_errors_give_2_and_help_0(capsys, words, code):
    def command(argv):
        parser = argparse.ArgumentParser(prog="cpxt-x")
        parser.add_argument("--number", type=int)
        parser.parse_args(argv)

    assert run_command(command, words) == code
    captured = capsys.readouterr()
    assert "usage: cpxt-x" in captured.out + captured.err


def test_a_reader_that_leaves_is_no_noise():
    code = (
        "import sys; from cpxt_hpc.cli.command import run_command\n"
        "def f(argv):\n    [print('x' * 1000) for _ in range(1000)]\n"
        "sys.exit(run_command(f, [], name='cpxt-x'))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        message = process.stderr.read()
    assert (process.returncode, message) == (141, b"")


def test_a_signal_interrupts_and_the_old_handler_comes_back():
    before = signal.getsignal(signal.SIGUSR1)

    def command(argv):
        with interrupted_by(signal.SIGUSR1):
            os.kill(os.getpid(), signal.SIGUSR1)
            signal.pause()

    assert run_command(command, [], name="cpxt-x") == 75
    assert signal.getsignal(signal.SIGUSR1) is before


def log_lines(capsys, **options):
    setup_logging(**options)
    logger = logging.getLogger("cpxt_hpc.stages.clean")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        logger.log(level, "line %d", level)
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(("options", "levels"), [({}, 2), ({"quiet": True}, 1), ({"verbose": True}, 3)])
def test_log_lines_have_time_and_module_and_respect_the_level(capsys, options, levels):
    lines = log_lines(capsys, **options)
    assert len(lines) == levels
    assert re.fullmatch(r"\d\d:\d\d:\d\d clean: warning: line 30", lines[-1])
    if levels > 1:
        assert re.fullmatch(r"\d\d:\d\d:\d\d clean: line 20", lines[-2])


def test_setting_the_log_up_twice_does_not_double_its_lines(capsys):
    log_lines(capsys)
    assert len(log_lines(capsys)) == 2


def test_the_log_goes_to_a_file_as_well(capsys, tmp_path):
    log_lines(capsys, log_file=tmp_path / "log.txt")
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d clean: line 20\n", (tmp_path / "log.txt").read_text())


def test_a_log_file_that_cannot_be_opened_is_an_output_error(tmp_path):
    with pytest.raises(errors.OutputError, match="the log cannot be written"):
        setup_logging(log_file=tmp_path / "none" / "log.txt")


def test_log_options_exclude_each_other(capsys):
    def command(argv):
        parser = argparse.ArgumentParser(prog="cpxt-x")
        add_logging_options(parser)
        parser.parse_args(argv)

    assert run_command(command, ["--quiet", "--verbose"]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_a_vanished_current_folder_is_told(capsys, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert run_command(lambda argv: os.getcwd(), [], name="cpxt-x") == 3
    assert "the current folder is gone" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_any_path_can_be_printed(encoding):
    code = (
        "import sys; from cpxt_hpc.cli.command import run_command\n"
        "sys.exit(run_command(lambda argv: print('/data/\\u00e4 \\udce4'), [], name='cpxt-x'))"
    )
    environment = dict(os.environ, PYTHONIOENCODING=encoding)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.strip() == {"ascii": b"/data/\\xe4 \\udce4", "utf-8": b"/data/\xc3\xa4 \xe4"}[encoding]


def test_a_closed_standard_output_is_no_error():
    code = (
        "import sys; from cpxt_hpc.cli.command import run_command\n"
        "sys.exit(run_command(lambda argv: print('x'), [], name='cpxt-x'))"
    )
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" >&-', sys.executable, code], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
