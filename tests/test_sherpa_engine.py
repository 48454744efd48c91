"""Engine sherpa: the same spectra give the same answer as the exact engine, and a child that fails costs one fit."""

import dataclasses
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import acis_spectra
import numpy as np
import pytest

from cpxt_hpc.fitting.pha_fit import fit_files, prepare_files
from cpxt_hpc.fitting.pha_spectra import open_observation
from cpxt_hpc.fitting.region_spectra import RegionSpectra
from cpxt_hpc.fitting.results import Flag, Status, empty_result
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.sherpa_engine import SherpaEngine, SherpaFault, SherpaTimeout, XspecModel
from cpxt_hpc.fitting.sherpa_fit import fill_from_sherpa
from cpxt_hpc.fitting.spectrum_fit import fit_spectra
from cpxt_hpc.fitting.statistics import STATISTICS, prepare, statistic_value

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sherpa") is None or bool(acis_spectra.why_not()),
    reason="no Sherpa with XSPEC and responses (bash jobscripts/setup.sh)",
)

BAND = {"energy_min_kev": 0.7, "energy_max_kev": 8.0}
GROUPED = {"wstat": 12, "chi2datavar": 12, "chi2xspecvar": 12}
MODEL = XspecModel(acis_spectra.REDSHIFT, acis_spectra.NH, acis_spectra.ABUNDANCE)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spectra")
    return [
        acis_spectra.write_spectrum(folder, "a", seed=1, kt_kev=5.0, counts=3000.0),
        acis_spectra.write_spectrum(folder, "b", seed=2, kt_kev=5.0, counts=1500.0),
    ]


def prepared(files, statistic, **changed):
    settings = FitSettings(statistic=statistic, group_channels=GROUPED.get(statistic, 1), systematic=0.0, **changed)
    observations = [open_observation(path, **BAND) for path in files]
    return prepare_files(observations, MODEL, settings, template_counts=400, template_max_channels=5)


def engine_of(spectra, **options):
    nodes = spectra.model.kt_nodes_kev
    return SherpaEngine(
        spectra.responses, MODEL, spectra.settings, kt_range_kev=(nodes[0], nodes[-1]),
        nh_range_1e22=spectra.model.nh_nodes_1e22[[0, -1]], **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def shared(files):
    """One engine for the tests of its process: each start of Sherpa takes a second."""
    spectra = prepared(files[:1], "cstat")
    with engine_of(spectra) as engine:
        yield spectra, engine


@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_statistic_is_sherpas_at_the_same_parameters(files, statistic):
    spectra = prepared(files, statistic)
    parts, nodes = spectra.spectra, spectra.model.kt_nodes_kev
    ours = prepare(
        STATISTICS[statistic], parts.counts, parts.background, parts.blank_counts, parts.blank_scale,
        np.array(parts.rates[0, 0]), parts.exposure,
    )  # fmt: skip
    rng = np.random.default_rng(3)
    points = [
        {"kT": kt, "norm": norm} for kt, norm in zip(rng.uniform(0.2, 60, 12), rng.exponential(1e-3, 12), strict=True)
    ]
    with engine_of(spectra) as engine:
        theirs = engine.statistics(parts, points)
    for point, expected in zip(points, theirs, strict=True):
        k = int(np.searchsorted(nodes, point["kT"])) - 1
        part = (point["kT"] - nodes[k]) / (nodes[k + 1] - nodes[k])
        found = statistic_value(ours, k, point["norm"] * (1.0 - part), point["norm"] * part)
        # XSPEC's apec is linear between the nodes to about 1e-7 of a channel, in either direction.
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("statistic", ["cstat", "wstat", "chi2gehrels", "chi2datavar"])
def test_both_engines_find_the_same_values_and_limits(files, statistic):
    spectra = prepared(files if statistic == "cstat" else files[:1], statistic)
    exact = fit_files(spectra)
    found = fit_files(dataclasses.replace(spectra, settings=dataclasses.replace(spectra.settings, engine="sherpa")))
    assert exact["stat"] <= found["stat"] + 1e-6
    assert found["stat"] - exact["stat"] < 1e-4
    assert found["status"] == exact["status"] == Status.OK
    for name in ("kT", "norm"):
        sigma = 0.5 * (exact[f"{name}_hi"] - exact[f"{name}_lo"])
        assert abs(found[name] - exact[name]) < 0.01 * sigma
        # conf's own precision.
        assert abs(found[f"{name}_lo"] - exact[f"{name}_lo"]) < 0.02 * sigma
        assert abs(found[f"{name}_hi"] - exact[f"{name}_hi"]) < 0.02 * sigma
    for name in ("dof", "n_obs", "net_counts", "background_counts", "abundance", "nH", "flags"):
        assert found[name] == exact[name], name


def test_sherpa_frees_what_the_settings_free(files):
    row = fit_files(prepared(files[:1], "wstat", engine="sherpa", free="abundance,nH"))
    for name, truth in (("kT", 5.0), ("abundance", acis_spectra.ABUNDANCE), ("nH", acis_spectra.NH)):
        assert row[f"{name}_lo"] < row[name] < row[f"{name}_hi"]
        assert abs(row[name] - truth) < 2.0 * (row[f"{name}_hi"] - row[f"{name}_lo"])
    assert row["status"] == Status.OK


def test_each_observation_may_have_its_own_norm(files):
    spectra = prepared(files, "cstat", norms="per_observation")
    with engine_of(spectra) as engine:
        found = engine.fit(spectra.spectra)
        row = empty_result(0, 0, 0, 0.0, Status.NO_EXPOSURE)
        fill_from_sherpa(row, spectra.spectra, spectra.model, engine)
    # Drawn with 3000 and 1500 counts.
    assert found.norms[0] / found.norms[1] == pytest.approx(2.0, rel=0.15)
    assert found.norms[1] < row["norm"] < found.norms[0]


def no_counts(spectra: RegionSpectra) -> RegionSpectra:
    return spectra._replace(counts=np.zeros_like(spectra.counts))


def test_spectra_without_counts_have_no_temperature(shared):
    spectra, engine = shared
    row = empty_result(7, 0, 0, 0.0, Status.NO_EXPOSURE)
    fill_from_sherpa(row, no_counts(spectra.spectra), spectra.model, engine)
    assert row["status"] == Status.KT_UNCONSTRAINED
    assert row["norm"] == pytest.approx(0.0, abs=1e-8)


POINT = [{"kT": 5.0, "norm": 1e-3}]


def test_a_child_that_dies_costs_one_fit(shared):
    spectra, engine = shared
    first = engine.statistics(spectra.spectra, POINT)
    os.kill(engine.child_pid, signal.SIGKILL)
    with pytest.raises(SherpaFault, match="SIGKILL"):
        engine.fit(spectra.spectra)
    # The next one gets a new child.
    assert engine.statistics(spectra.spectra, POINT) == first


def test_a_fit_that_takes_too_long_is_stopped(shared):
    spectra, engine = shared
    engine.timeout_s, before = 1e-3, engine.timeout_s
    try:
        with pytest.raises(SherpaTimeout, match="no answer within"):
            engine.fit(spectra.spectra)
    finally:
        engine.timeout_s = before
    assert np.isfinite(engine.statistics(spectra.spectra, POINT))


@pytest.mark.parametrize(
    ("raised", "status"), [(SherpaTimeout("no"), Status.TIMED_OUT), (SherpaFault("no"), Status.CRASHED)]
)
def test_a_failed_fit_is_a_status(shared, raised, status):
    class Failing:
        def fit(self, spectra):
            raise raised

    spectra, _ = shared
    row = empty_result(7, 0, 0, 0.0, Status.NO_EXPOSURE)
    fill_from_sherpa(row, spectra.spectra, spectra.model, Failing())
    assert row["status"] == status
    assert np.isnan(row["kT"])


def test_what_sherpa_raises_is_told(shared):
    spectra, engine = shared
    with pytest.raises(SherpaFault, match="KeyError"):
        engine.statistics(spectra.spectra, [{"no such parameter": 1.0}])


def test_values_at_a_bound_are_flagged(shared):
    spectra, _ = shared

    class AtBounds:
        ranges = {"abundance": (0.0, 5.0), "nH": (0.0, 1.0)}

        def fit(self, given):
            from cpxt_hpc.fitting.sherpa_engine import SherpaResult

            highest = float(spectra.model.kt_nodes_kev[-1])
            values = {"kT": highest - 1e-9, "norm": 1e-3, "abundance": 5.0, "nH": 0.3}
            limits = {"kT": (20.0, None), "norm": (5e-4, 2e-3), "abundance": (1.0, None), "nH": (None, 0.5)}
            return SherpaResult(values, limits, 100.0, (1e-3,), (1e6,))

    row = empty_result(7, 0, 0, 0.0, Status.NO_EXPOSURE)
    fill_from_sherpa(row, spectra.spectra, spectra.model, AtBounds())
    assert row["status"] == Status.KT_AT_UPPER_BOUND
    assert row["kT"] == row["kT_hi"] == spectra.model.kt_nodes_kev[-1]
    assert (row["abundance_hi"], row["nH_lo"]) == (5.0, 0.0)
    assert row["flags"] == Flag.ABUNDANCE_AT_BOUND | Flag.ABUNDANCE_UNBOUND | Flag.NH_UNBOUND


def test_another_engine_fills_the_row_in_place_of_the_exact_one(shared):
    spectra, _ = shared
    row = empty_result(7, 0, 0, 0.0, Status.NO_EXPOSURE)
    seen = []
    fit_spectra(row, spectra.spectra, spectra.model, spectra.settings, lambda *given: seen.append(given))
    assert len(seen) == 1
    assert row["dof"] == len(spectra.spectra.counts) - 2


PARENT = """
import sys, time
sys.path.insert(0, {tests!r})
import test_sherpa_engine as own
spectra = own.prepared([{path!r}], "cstat")
engine = own.engine_of(spectra)
print(engine.child_pid, flush=True)
time.sleep(60)
"""


def test_the_child_dies_with_its_parent(files):
    code = PARENT.format(tests=str(Path(__file__).parent), path=str(files[0]))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20.0
    while Path(f"/proc/{child}").exists() and not is_zombie(child):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.05)


def is_zombie(pid):
    """Dead, but not yet fetched by whoever adopted it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
