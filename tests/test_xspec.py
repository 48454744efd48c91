"""XSPEC in its child process: the properties that the exact engine builds on, and clear errors."""

import os
import signal
import sys

import numpy as np
import pytest

from cpxt_hpc.errors import DataError, MissingInput, ToolError
from cpxt_hpc.fitting import xspec
from cpxt_hpc.io import datafiles

EDGES_KEV = np.linspace(0.5, 8.0, 151)
CLUSTER = {"redshift": 0.2, "nh_1e22": 0.05}


@pytest.fixture(scope="module")
def temperatures():
    return xspec.apec_temperatures_kev()


def test_atomdb_has_51_temperatures_evenly_spaced_in_logarithm(temperatures):
    assert temperatures.size == 51
    # kT in keV of log10(T/K) = 4.0 to 9.0 in steps of 0.1; the table is in single precision
    expected = 8.617385e-8 * 10 ** np.arange(4.0, 9.05, 0.1)
    np.testing.assert_allclose(temperatures, expected, rtol=1e-5)


@pytest.mark.parametrize("model", xspec.ATOMDB_MODELS)
def test_models_of_atomdb_are_linear_in_kt_between_its_temperatures(temperatures, model):
    nodes = temperatures[(temperatures > 0.5) & (temperatures < 20)]
    fractions = np.array([0.1, 0.5, 0.77])
    between = (nodes[:-1, None] * (1 - fractions) + nodes[1:, None] * fractions).ravel()
    at_nodes = xspec.evaluate_additive(EDGES_KEV, nodes, model=model, **CLUSTER).photons
    found = xspec.evaluate_additive(EDGES_KEV, between, model=model, **CLUSTER).photons
    weight = fractions[:, None]
    expected = at_nodes[:, :-1, None] * (1 - weight) + at_nodes[:, 1:, None] * weight
    # 1e-7 was measured; XSPEC keeps the node temperatures in single precision
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=1e-6)


@pytest.mark.parametrize("model", xspec.ATOMDB_MODELS)
def test_models_of_atomdb_are_linear_in_abundance(model):
    photons = xspec.evaluate_additive(EDGES_KEV, [1.0, 6.0], abundances=(0, 1, 0.3), model=model, **CLUSTER).photons
    np.testing.assert_allclose(photons[2], 0.7 * photons[0] + 0.3 * photons[1], rtol=1e-12)


def test_redshift_stretches_the_spectrum_and_dims_it():
    z = 0.25
    near = xspec.evaluate_additive(EDGES_KEV * (1 + z), [4.0], redshift=0.0, nh_1e22=0.0).photons
    far = xspec.evaluate_additive(EDGES_KEV, [4.0], redshift=z, nh_1e22=0.0).photons
    np.testing.assert_allclose(far, near / (1 + z), rtol=1e-9)


def test_absorption_is_exponential_in_the_column():
    free, thin, thick = (
        xspec.evaluate_additive(EDGES_KEV, [4.0], redshift=0.0, nh_1e22=nh).photons for nh in (0.0, 0.1, 0.2)
    )
    # phabs averages the transmission over a bin, which spoils the square a little
    np.testing.assert_allclose(thick / free, (thin / free) ** 2, rtol=2e-3)
    assert np.all(thin <= free)
    assert np.all(thin[..., :5] < 0.9 * free[..., :5])


def test_many_columns_in_one_call_are_those_of_single_calls():
    columns = [0.05, 0.0, 0.3]
    together = xspec.evaluate_additive(EDGES_KEV, [1.0, 4.0], redshift=0.2, nh_1e22=columns)
    assert together.transmission.shape == (3, 150)
    for passed, nh in zip(together.transmission, columns, strict=True):
        alone = xspec.evaluate_additive(EDGES_KEV, [1.0, 4.0], redshift=0.2, nh_1e22=nh)
        np.testing.assert_array_equal(together.emitted * passed, alone.photons)
    assert np.all(together.transmission[1] == 1.0)


def test_models_without_their_data_files_name_the_way_out():
    try:
        photons = xspec.evaluate_additive(EDGES_KEV, [4.0], model="raymond", **CLUSTER).photons
    except ToolError as error:
        assert "its data files come with a full XSPEC" in str(error) and "such as apec" in str(error)
    else:
        assert np.all(photons > 0)  # a full XSPEC has them


def test_highest_usable_temperature_is_above_the_limit_of_sherpa(temperatures):
    photons = xspec.evaluate_additive(EDGES_KEV, temperatures[-2:-1], **CLUSTER).photons
    assert photons.shape == (2, 1, 150)
    assert np.all(photons > 0)


def test_versions_are_recorded():
    versions = xspec.evaluate_additive(EDGES_KEV, [4.0], **CLUSTER).versions
    assert versions["atomdb"] == "3.0.3"
    assert versions["sherpa"].split(".")[0] == "4"
    assert versions["xspec"].split(".")[0] == "12"


def test_library_path_of_another_xspec_does_no_harm(tmp_path, monkeypatch):
    if xspec.bundled_headas() is None:
        pytest.skip("this environment uses CIAO's XSPEC, which needs its own LD_LIBRARY_PATH")
    for library in (xspec.bundled_headas() / "lib").glob("lib*"):
        (tmp_path / library.name).write_text("not a library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.setenv("HEADAS", str(tmp_path))
    assert np.all(xspec.evaluate_additive(EDGES_KEV, [4.0], **CLUSTER).photons > 0)


def test_library_path_keeps_folders_without_rivals(tmp_path):
    own, rival, compiler = tmp_path / "own", tmp_path / "rival", tmp_path / "compiler"
    for folder, name in ((own, "libXSUtil.so"), (rival, "libXSUtil.so.6"), (compiler, "libstdc++.so.6")):
        folder.mkdir()
        (folder / name).touch()
    assert xspec.path_without_rivals(f"{rival}:{compiler}:", own) == str(compiler)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energy_edges_kev": [1.0]}, "energy_edges_kev"),
        ({"energy_edges_kev": [0.0, 1.0, 2.0]}, "energy_edges_kev"),
        ({"energy_edges_kev": [1.0, 3.0, 2.0]}, "energy_edges_kev"),
        ({"kt_kev": [0.0, 4.0]}, "kt_kev"),
        ({"kt_kev": [np.nan]}, "kt_kev"),
        ({"abundances": [-0.1]}, "abundances"),
        ({"redshift": -1.0}, "redshift"),
        ({"nh_1e22": -0.1}, "nh_1e22"),
        ({"nh_1e22": np.nan}, "nh_1e22"),
        ({"nh_1e22": []}, "nh_1e22"),
        ({"nh_1e22": [0.1, -0.1]}, "nh_1e22"),
        ({"absorption": "phab"}, "absorption = 'phab' is unknown: choose one of phabs, tbabs, wabs"),
        ({"model": "vapec"}, "model = 'vapec' is unknown: choose one of apec"),
    ],
)
def test_arguments_out_of_range_are_refused(changes, message):
    arguments = {"energy_edges_kev": EDGES_KEV, "kt_kev": [4.0], **CLUSTER} | changes
    with pytest.raises(ValueError, match=message):
        xspec.evaluate_additive(**arguments)


def test_unknown_abundance_table_is_the_last_line_of_the_child():
    with pytest.raises(ToolError, match=r"exit code 1.*nope"):
        xspec.evaluate_additive(EDGES_KEV, [4.0], abundance_table="nope", **CLUSTER)


def test_missing_atomdb_tables_are_named(tmp_path):
    with pytest.raises(MissingInput, match=r"apec_v9_line\.fits does not exist"):
        xspec.evaluate_additive(EDGES_KEV, [4.0], apec_root=tmp_path / "apec_v9", **CLUSTER)


def test_broken_atomdb_tables_are_an_error(tmp_path):
    for name in ("line", "coco"):
        (tmp_path / f"apec_v9_{name}.fits").write_bytes(bytes(2880))
    with pytest.raises(ToolError, match="XSPEC"):
        xspec.evaluate_additive(EDGES_KEV, [4.0], apec_root=tmp_path / "apec_v9", **CLUSTER)
    with pytest.raises(DataError, match=r"apec_v9_line\.fits is no AtomDB line table"):
        xspec.apec_temperatures_kev(tmp_path / "apec_v9")


def test_tables_of_the_user_are_recorded_by_version(tmp_path):
    for path in datafiles.data_files("apec_v3.0.3_line.fits", "apec_v3.0.3_coco.fits"):
        (tmp_path / path.name.replace("3.0.3", "3.1.0")).symlink_to(path)
    mine = xspec.evaluate_additive(EDGES_KEV, [4.0], apec_root=tmp_path / "apec_v3.1.0", **CLUSTER)
    assert mine.versions["atomdb"] == "3.1.0"
    np.testing.assert_array_equal(mine.photons, xspec.evaluate_additive(EDGES_KEV, [4.0], **CLUSTER).photons)


def test_folders_with_blanks_are_no_trouble(tmp_path):
    folder = tmp_path / "a folder with blanks"
    folder.mkdir()
    for path in datafiles.data_files("apec_v3.0.3_line.fits", "apec_v3.0.3_coco.fits"):
        (folder / path.name).symlink_to(path)
    photons = xspec.evaluate_additive(EDGES_KEV, [4.0], apec_root=folder / "apec_v3.0.3", **CLUSTER).photons
    assert np.all(photons > 0)


def child_module(tmp_path, monkeypatch, body):
    (tmp_path / "fake_xspec_child.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(xspec, "CHILD_MODULE", "fake_xspec_child")


def test_crash_of_xspec_is_one_error_with_its_signal(tmp_path, monkeypatch):
    body = f"import os\nprint('reading tables', flush=True)\nos.kill(os.getpid(), {signal.SIGSEGV:d})\n"
    child_module(tmp_path, monkeypatch, body)
    with pytest.raises(ToolError, match=r"ended by the signal SIGSEGV.*reading tables"):
        xspec.evaluate_additive(EDGES_KEV, [4.0], **CLUSTER)


def test_xspec_that_hangs_is_stopped(tmp_path, monkeypatch):
    child_module(tmp_path, monkeypatch, "import time\ntime.sleep(600)\n")
    monkeypatch.setattr(xspec, "TIMEOUT_S", 1)
    with pytest.raises(ToolError, match="did not answer within 1 s"):
        xspec.evaluate_additive(EDGES_KEV, [4.0], **CLUSTER)


def test_environment_without_xspec_names_the_setup(monkeypatch):
    monkeypatch.setattr(xspec, "bundled_headas", lambda: None)
    monkeypatch.delenv("ASCDS_INSTALL", raising=False)
    with pytest.raises(ToolError, match=r"no XSPEC models.*bash jobscripts/setup\.sh"):
        xspec.evaluate_additive(EDGES_KEV, [4.0], **CLUSTER)


def test_own_process_never_loads_xspec():
    modules, variables = set(sys.modules), dict(os.environ)
    xspec.evaluate_additive(EDGES_KEV, [4.0], **CLUSTER)
    assert not [name for name in set(sys.modules) - modules if name.startswith("sherpa")]
    assert dict(os.environ) == variables
