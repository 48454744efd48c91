"""cpxt-prep: its options, its messages and exit codes."""

import logging

import pytest

from cpxt_hpc.cli import prep
from cpxt_hpc.errors import DataError
from cpxt_hpc.stages import driver
from cpxt_hpc.stages.base import RegionRequest, Stage

INI = "[cluster]\nname = A\nobservation_ids = 1\n"
NAMES = ("merge", "clean", "respond", "crop", "bin")


class Calls(list):
    """Names of the stages that ran, and the context of the last."""

    context = None


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Five stages that each write one small file; the fourth wants a crop region."""
    calls = Calls()

    def stage(number, name):
        def run(context):
            calls.append(name)
            calls.context = context
            (context.layout.folder / name).write_text(name)

        region = RegionRequest(
            find=lambda context: context.layout.crop if context.layout.crop.is_file() else None,
            target=lambda context: context.layout.crop,
            image=lambda context: context.layout.surface_brightness_nosrc,
            what="The box to map.",
            make=lambda context: context.layout.crop.write_text("box"),
        )
        return Stage(
            number=number,
            name=name,
            summary=f"Do {name}.",
            needs=lambda context: [],
            makes=lambda context: [context.layout.folder / name],
            settings=(),
            run=run,
            regions=(region,) if name == "crop" else (),
        )

    stages = tuple(stage(number, name) for number, name in enumerate(NAMES, start=1))
    monkeypatch.setattr(driver, "preprocessing_stages", lambda: stages)
    (tmp_path / "A").mkdir()
    source = "redshift = 0.1\nabundance = 0.3\nhydrogen_column_density = 0.04\n"
    (tmp_path / "A" / "cluster.ini").write_text(INI + source)
    monkeypatch.chdir(tmp_path / "A")
    logger = logging.getLogger("cpxt_hpc")
    before = list(logger.handlers), logger.level
    yield calls
    logger.handlers[:], logger.level = before


def test_all_stages_run_and_the_next_command_is_named(calls, tmp_path, capsys):
    assert prep.main(["cluster.ini", "--auto"]) == 0
    assert tuple(calls) == NAMES
    captured = capsys.readouterr()
    assert captured.out == f"Ready to fit. Next: mpirun -n 4 cpxt-fit {tmp_path / 'A' / 'cluster.ini'} --resolution 2\n"
    assert "merge" in captured.err


def test_the_ini_file_of_the_current_folder_is_the_default(calls):
    assert prep.main(["--auto", "--quiet"]) == 0
    assert calls.context.config.name == "A"


def test_continue_is_accepted_and_resumes(calls, capsys):
    assert prep.main(["--continue"]) == 4
    message = capsys.readouterr().err
    assert "cpxt-prep: action needed: stage 4 (crop)" in message
    assert "The box to map." in message
    calls.context.layout.crop.write_text("box")
    assert prep.main(["--continue"]) == 0
    assert tuple(calls) == NAMES


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--stage", "2"], ("clean",)),
        (["--stage", "3", "1"], ("merge", "respond")),
        (["--stage", "2,3", "cluster.ini"], ("clean", "respond")),
        (["cluster.ini", "--stage", "1", "1"], ("merge",)),
    ],
)
def test_named_stages_run_alone_and_always(calls, capsys, words, expected):
    assert prep.main([*words, "--auto"]) == 0
    assert prep.main([*words, "--auto"]) == 0
    assert tuple(calls) == expected + expected
    assert "Next: cpxt-prep" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--stage"], 2, "expected at least one argument"),
        (["--stage", "6"], 2, "'6': expected numbers of 1 to 5"),
        (["--stage", "0", "2"], 2, "'0': expected numbers of 1 to 5"),
        (["--stage", "clean"], 2, "'clean': expected numbers of 1 to 5"),
        (["--stage", "x", "y"], 2, "'x': expected numbers of 1 to 5"),
        (["--num_cpus", "0"], 2, "expected 1 or more"),
        (["--num_cpus", "two"], 2, "invalid int value"),
        (["--toolchain", "idl"], 2, "invalid choice: 'idl'"),
        (["--toolchain", "ciao"], 3, "Python cannot import ciao_contrib"),
        (["--con"], 2, "unrecognized arguments"),
        (["none.ini"], 3, "no such file"),
        (["/dev/null"], 2, "name: missing"),
    ],
)
def test_bad_input_is_one_message_with_its_code(calls, capsys, words, code, message):
    assert prep.main(words) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert calls == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("redshift = abc", "redshift = 'abc': not a number"),
        ("redshfit = 1", "Did you mean redshift?"),
        ("observation_ids = 2", "stands twice"),
    ],
)
def test_a_bad_ini_file_gives_2_and_touches_nothing(calls, tmp_path, capsys, line, message):
    (tmp_path / "A" / "cluster.ini").write_text(INI + line + "\n")
    assert prep.main([]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "A").iterdir()] == ["cluster.ini"]


def test_a_folder_without_an_ini_file_is_a_usage_error(calls, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert prep.main([]) == 2
    assert "no cluster.ini in this folder, and no current cluster" in capsys.readouterr().err


def test_missing_settings_are_demanded_only_by_the_step_that_needs_them(calls, tmp_path, capsys):
    (tmp_path / "A" / "cluster.ini").write_text(INI)
    assert prep.main(["--auto"]) == 2
    assert tuple(calls) == NAMES[:4]
    assert "stage 5 (bin) needs hydrogen_column_density, redshift, abundance" in capsys.readouterr().err


def test_a_broken_input_gives_3(calls, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise DataError("events.fits: cut short")

    monkeypatch.setattr(driver, "run_stages", fail)
    assert prep.main([]) == 3
    assert "cpxt-prep: error: events.fits: cut short" in capsys.readouterr().err


def test_number_of_processes_is_handed_on(calls):
    assert prep.main(["--auto", "--num_cpus", "3"]) == 0
    assert calls.context.num_cpus == 3


def test_an_interrupt_gives_75(calls, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "run_stages", interrupt)
    assert prep.main([]) == 75
