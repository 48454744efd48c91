"""cluster.ini: what is read, what is refused and in which words, what an edit leaves alone."""

import configparser
import dataclasses

import numpy as np
import pytest

from cpxt_hpc import config as settings
from cpxt_hpc.errors import ConfigError, DataError, MissingInput
from cpxt_hpc.io import ini
from cpxt_hpc.io.ini_syntax import parse_ini
from cpxt_hpc.io.ini_values import settings_of

GOOD = """\
# my cluster
[cluster]
name = A2256
observation_ids = 16129, 16514
hydrogen_column_density = 4.1e20   ; cm^-2
redshift = 0.0581
abundance = 0.3

[fit]
statistic = chi2gehrels
"""


def written(tmp_path, text):
    path = tmp_path / "cluster.ini"
    path.write_text(text, encoding="utf-8")
    return path


def with_line(section, line):
    """GOOD with one more, or another, line of a section."""
    key = line.split("=")[0].strip()
    lines = [each for each in GOOD.splitlines() if each.split("=")[0].strip() != key]
    if f"[{section}]" not in lines:
        lines.append(f"[{section}]")
    lines.insert(lines.index(f"[{section}]") + 1, line)
    return "\n".join(lines) + "\n"


def test_values_defaults_and_inline_comments_are_read(tmp_path):
    config = ini.read_config(written(tmp_path, GOOD))
    assert config.name == "A2256"
    assert config.obsids == (16129, 16514)
    assert config.cluster.redshift == 0.0581
    assert config.fit.statistic == "chi2gehrels"
    assert config.fit.energy_max_kev == settings.FitSection().energy_max_kev
    assert config.binning == settings.BinningSection()


def test_a_folder_means_the_cluster_ini_inside(tmp_path):
    written(tmp_path, GOOD)
    assert ini.read_config(tmp_path).path == tmp_path / "cluster.ini"


@pytest.mark.parametrize("text", ["16129, 16514", "16129 16514", "16129,16514,", "16129,\n   16514"])
def test_obsids_are_separated_by_commas_blanks_or_lines(tmp_path, text):
    config = ini.read_config(written(tmp_path, with_line("cluster", f"observation_ids = {text}")))
    assert config.obsids == (16129, 16514)


@pytest.mark.parametrize(
    ("text", "expected"), [("4.1e20", 0.041), ("0.041", 0.041), ("0", 0.0), ("1e17", 1e-5), ("999", 999)]
)
def test_column_density_is_in_cm2_or_1e22_cm2(tmp_path, text, expected):
    config = ini.read_config(written(tmp_path, with_line("cluster", f"hydrogen_column_density = {text}")))
    assert config.nh_1e22 == pytest.approx(expected, rel=1e-12)


def test_windows_files_with_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "cluster.ini"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert ini.read_config(path).obsids == (16129, 16514)


@pytest.mark.parametrize(
    ("section", "line", "message"),
    [
        ("cluster", "redshift = abc", "line 3: [cluster] redshift = 'abc': not a number"),
        ("cluster", "redshift = 0,0581", "Write the decimal point as '.'"),
        ("cluster", "redshift = 0", "expected a number above 0, at most 10"),
        ("cluster", "redshift = -0.1", "out of range"),
        ("cluster", "redshift = nan", "not a finite number"),
        ("cluster", "redshift = inf", "not a finite number"),
        ("cluster", "redshift = 1_0", "not a number"),
        ("cluster", "signal_to_noise =", "[cluster] signal_to_noise = '': not a number"),
        ("cluster", "signal_to_noise = 0", "above 0"),
        ("cluster", "hydrogen_column_density = 1e10", "no column density in either unit"),
        ("cluster", "hydrogen_column_density = 1000", "no column density in either unit"),
        ("cluster", "hydrogen_column_density = 9.9e16", "no column density in either unit"),
        ("cluster", "hydrogen_column_density = 1e26", "no column density in either unit"),
        ("cluster", "hydrogen_column_density = -0.04", "out of range"),
        ("cluster", "observation_ids = 16129, x17", "'x17': no ObsID"),
        ("cluster", "observation_ids = 16129, 1.5", "'1.5': no ObsID"),
        ("cluster", "observation_ids = 16129, -3", "'-3': no ObsID"),
        ("cluster", "observation_ids = 0", "'0': no ObsID"),
        ("cluster", "observation_ids =", "empty. Expected positive whole numbers"),
        ("cluster", "observation_ids = 7, 8, 7", "7 named more than once"),
        ("cluster", "name = A/2256", "not usable in file names"),
        ("cluster", "name = ..", "not usable in file names"),
        ("cluster", "name = -rf", "not usable in file names"),
        ("cluster", "name = Abell 2256", "not usable in file names"),
        ("cluster", "name = " + "A" * 65, "not usable in file names"),
        ("cluster", "name =", "not usable in file names"),
        ("cluster", "last_step_completed = 1.5", "not a whole number"),
        ("cluster", "redshfit = 0.1", "unknown key. Did you mean redshift?"),
        ("cluster", "statistic = cstat", "unknown key. It belongs to [fit]"),
        ("cluster", "flux_capacitor = 1", "unknown key. Known: name, observation_ids"),
        ("fit", "statistic = chi3", "unknown. Choose one of: cstat, wstat, chi2gehrels"),
        ("fit", "statistic = Cstat", "Did you mean cstat?"),
        ("fit", "label = ../x", "not usable in file names"),
        ("fit", "energy_min_kev = 8", "[fit] energy_min_kev = 8 is not below energy_max_kev = 8"),
        ("fit", "energy_max_kev = 0.5", "[fit] energy_min_kev = 0.7 is not below energy_max_kev = 0.5"),
        ("fit", "free = abundance\nplasma = zbremss", "free = abundance: the plasma model zbremss has no abundance"),
        ("fitt", "label = x", "[fitt]: unknown section. Did you mean [fit]?"),
        ("zzz", "label = x", "[zzz]: unknown section. Known: [cluster], [archive], [tools], [clean]"),
        ("DEFAULT", "label = x", "[DEFAULT]: unknown section"),
        ("clean", "method = %(name)s", "[clean] method = '%(name)s': unknown"),
        ("fit", "just words", "'just words' is neither"),
    ],
)
def test_a_bad_setting_is_named_with_what_was_expected(tmp_path, section, line, message):
    path = written(tmp_path, with_line(section, line))
    with pytest.raises(ConfigError) as caught:
        ini.read_config(path)
    assert message.lower() in str(caught.value).lower()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "[cluster]\n", "[cluster] stands twice, first in line 2"),
        (GOOD + "statistic = cstat\n", "[fit] statistic stands twice, first in line 10"),
        (GOOD + "STATISTIC : cstat\n", "[fit] statistic stands twice"),
        ("name = A\n" + GOOD, "line 1: 'name = A' stands before the first [section]"),
    ],
)
def test_duplicates_and_strays_are_refused(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        ini.read_config(written(tmp_path, text))
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "# nothing\n", "[cluster]\n", "[fit]\n"])
def test_name_and_obsids_are_demanded(tmp_path, text):
    with pytest.raises(ConfigError, match=r"(?s)2 faults.*\[cluster\] name: missing.*observation_ids: missing"):
        ini.read_config(written(tmp_path, text))


def test_all_faults_come_in_one_message_in_the_order_of_the_file(tmp_path):
    text = "[cluster]\nname = a/b\nobservation_ids = x\nredshift = abc\n[fitt]\n[clean]\nmethode = sigma\nnsigma = 0\n"
    with pytest.raises(ConfigError) as caught:
        ini.read_config(written(tmp_path, text))
    lines = str(caught.value).splitlines()
    assert "6 faults" in lines[0]
    assert [line.split(":")[0].strip() for line in lines[1:]] == [f"line {n}" for n in (2, 3, 4, 5, 7, 8)]


def test_a_missing_file_is_missing_input(tmp_path):
    with pytest.raises(MissingInput, match="no such file"):
        ini.read_config(tmp_path / "cluster.ini")


@pytest.mark.parametrize("content", [b"\x00\x01SIMPLE", b"\xff\xfe[\x00c\x00", bytes(range(128, 200))])
def test_a_file_that_is_no_text_is_a_data_error(tmp_path, content):
    path = tmp_path / "cluster.ini"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a text file"):
        ini.read_config(path)


def test_a_folder_in_place_of_the_file_is_a_data_error(tmp_path):
    (tmp_path / "cluster.ini").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        ini.read_config(tmp_path)


def non_default_config(path):
    """Every setting off its default, chosen from the metadata alone."""
    records = {}
    for section, record in settings.SECTIONS.items():
        values = {}
        for key, field in settings_of(section).items():
            if field.metadata["choices"]:
                values[key] = field.metadata["choices"][-1]
            elif field.type in ("int",):
                values[key] = field.default + 1
            elif field.type.startswith("float"):
                values[key] = 1.0 / 3.0 + (field.metadata["minimum"] or 0.0)
            elif field.type == "str":
                values[key] = "x-1"
            else:
                values[key] = (3, 1)
        if section == "fit":
            values["energy_max_kev"] += 1.0
        records[section] = record(**values)
    return settings.ClusterConfig(path=path, **records)


def test_what_is_written_reads_back_equal(tmp_path):
    path = tmp_path / "cluster.ini"
    config = non_default_config(path)
    ini.write_config(config)
    assert ini.read_config(path) == config


def test_template_documents_every_key_with_its_default(tmp_path):
    config = ini.make_config(tmp_path / "cluster.ini", {"cluster.name": "A", "cluster.observation_ids": "1"})
    lines = ini.template(config).splitlines()
    for section in settings.SECTIONS:
        assert f"[{section}]" in lines
        for key, field in settings_of(section).items():
            place = next(n for n, line in enumerate(lines) if line.startswith(f"{key} ="))
            assert lines[place - 1].startswith(f"# {field.metadata['doc']}")
            if isinstance(field.default, (int, float)):
                assert f"Default: {field.default:g}." in lines[place - 1]


def test_entries_agree_with_pythons_configparser():
    texts = [
        GOOD,
        ini.template(non_default_config("x")),
        "[a]\n  b = 1\n  c : 2 ; note\nd=\n\n[e] # note\nF = x = y\n",
        "[a]\nb = 1,\n    2,\n    # between\n    3\nc = 4\n",
    ]
    for text in texts:
        parser = configparser.RawConfigParser(strict=True, inline_comment_prefixes=("#", ";"))
        parser.read_string(text)
        expected = {(s, k): " ".join(v.split()) for s in parser.sections() for k, v in parser.items(s)}
        entries, _, faults = parse_ini(text)
        assert {(e.section, e.key): " ".join(e.value.split()) for e in entries} == expected
        assert faults == []


def test_random_damage_never_ends_in_another_exception(tmp_path):
    generator = np.random.default_rng(20)
    path = tmp_path / "cluster.ini"
    refused = 0
    for _ in range(300):
        damaged = bytearray(GOOD.encode())
        for place in generator.integers(0, len(damaged), size=3):
            damaged[place] = generator.integers(0, 256)
        path.write_bytes(damaged)
        try:
            ini.read_config(path)
        except (ConfigError, DataError):
            refused += 1
    assert refused > 100


def test_the_step_is_edited_in_its_line_only(tmp_path):
    text = GOOD.replace("abundance", "last_step_completed = 1  # kept\nabundance").replace("\n", "\r\n")
    path = tmp_path / "cluster.ini"
    path.write_bytes(text.encode())
    ini.set_last_step_completed(path, 4)
    assert path.read_bytes() == text.replace("completed = 1", "completed = 4").encode()


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_the_step_is_added_to_its_section_where_missing(tmp_path, end):
    text = "# top\n[fit]\nlabel = last_step_completed\n[cluster]\nname = A\nobservation_ids = 1"
    text = text.replace("\n", end or "\n")
    path = tmp_path / "cluster.ini"
    path.write_bytes((text + end).encode())
    ini.set_last_step_completed(path, 2)
    assert path.read_bytes().startswith(text.encode())
    assert ini.read_config(path).cluster.last_step_completed == 2
    assert path.read_bytes().count(b"\r\n") == (7 if end == "\r\n" else 0)


@pytest.mark.parametrize("line", ["last_step_completed =", "last_step_completed=0", "LAST_STEP_COMPLETED : 3 ; x"])
def test_the_step_is_edited_however_it_is_written(tmp_path, line):
    path = written(tmp_path, GOOD.replace("abundance = 0.3", line))
    ini.set_last_step_completed(path, 5)
    assert ini.read_config(path).cluster.last_step_completed == 5
    assert len(path.read_text().splitlines()) == len(GOOD.splitlines())


def test_an_unchanged_step_leaves_the_file_untouched(tmp_path):
    path = written(tmp_path, GOOD.replace("abundance", "last_step_completed = 3\nabundance"))
    before = path.stat()
    ini.set_last_step_completed(path, 3)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_link_to_the_file_stays_a_link(tmp_path):
    real = written(tmp_path, GOOD)
    link = tmp_path / "link.ini"
    link.symlink_to(real)
    ini.set_last_step_completed(link, 3)
    assert link.is_symlink()
    assert ini.read_config(real).cluster.last_step_completed == 3


def test_a_step_without_its_section_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no section \[cluster\]"):
        ini.set_last_step_completed(written(tmp_path, "[fit]\nlabel = x\n"), 1)


def test_all_settings_that_a_step_misses_are_named_together(tmp_path):
    text = "[cluster]\nname = A\nobservation_ids = 1\nredshift = 0.1\n"
    config = ini.read_config(written(tmp_path, text))
    ini.require(config, ["redshift"], "stage 5 (bin)")
    with pytest.raises(ConfigError, match=r"stage 5 \(bin\) needs hydrogen_column_density, abundance in \[cluster\]"):
        ini.require(config, ["redshift", "cluster.hydrogen_column_density", "abundance"], "stage 5 (bin)")


def test_a_zero_column_density_counts_as_set(tmp_path):
    config = ini.read_config(written(tmp_path, with_line("cluster", "hydrogen_column_density = 0")))
    ini.require(config, ["hydrogen_column_density"], "stage 5 (bin)")


def test_values_that_would_not_read_back_are_refused_before_they_are_written(tmp_path):
    values = {"cluster.name": "A", "cluster.observation_ids": "1", "cluster.data_directory": "/data/my #1"}
    with pytest.raises(ConfigError, match="starts a comment"):
        ini.make_config(tmp_path / "cluster.ini", values)


def test_sections_of_the_configuration_are_those_of_the_file():
    fields = {field.name for field in dataclasses.fields(settings.ClusterConfig)} - {"path"}
    assert fields == set(settings.SECTIONS)
