"""The engine against Sherpa: the same statistic at the same parameters, and never a worse minimum."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic import background_templates, made_up_nodes, temperature_nodes

from cpxt_hpc.errors import CpxtError
from cpxt_hpc.fitting.limits import fit_kt_norm
from cpxt_hpc.fitting.statistics import STATISTICS, prepare, statistic_value

SPECTRA = Path(__file__).resolve().parents[2] / "shared" / "spectra"
SCRIPT = Path(__file__).with_name("sherpa_fit.py")
NH, ABUNDANCE, BAND = 0.05, 0.3, (0.7, 8.0)
REAL = {"one": (("9774",), 1.067), "four": (("obs1", "obs2", "obs3", "obs4"), 0.719)}

KT = temperature_nodes()
N_CHANNELS = 200
NODES = made_up_nodes(N_CHANNELS)
RATES = NODES[0] + ABUNDANCE * (NODES[1] - NODES[0])
BLANK_SCALE = 0.23

needs_sherpa = pytest.mark.skipif(
    importlib.util.find_spec("sherpa") is None, reason="Sherpa is not installed (bash jobscripts/setup.sh)"
)
needs_spectra = pytest.mark.skipif(not SPECTRA.is_dir(), reason="no real spectra beside the repository")


def place(kt, kt_nodes):
    """Interval and part of the norm in its upper node."""
    k = int(np.clip(np.searchsorted(kt_nodes, kt) - 1, 0, len(kt_nodes) - 2))
    return k, (kt - kt_nodes[k]) / (kt_nodes[k + 1] - kt_nodes[k])


def value_at(spectra, kt, norm, kt_nodes=KT):
    k, u = place(kt, kt_nodes)
    return statistic_value(spectra, k, norm * (1.0 - u), norm * u)


def simulated(seed, kt, counts, share):
    rng = np.random.default_rng(seed)
    background = counts * share * background_templates(N_CHANNELS)[0]
    k, u = place(kt, KT)
    source = (1.0 - u) * RATES[k] + u * RATES[k + 1]
    source *= counts * (1.0 - share) / source.sum()
    blank = rng.poisson(background / BLANK_SCALE)
    return rng.poisson(source + background).astype(float), background, blank.astype(float)


def sherpa_model():
    """The made-up plasma as a model of Sherpa's, evaluated by numpy's interpolation."""
    from sherpa.models.model import ArithmeticModel
    from sherpa.models.parameter import Parameter

    class Plasma(ArithmeticModel):
        def __init__(self, name="plasma"):
            self.kT = Parameter(name, "kT", 8.0, KT[0], KT[-1], KT[0], KT[-1])
            self.norm = Parameter(name, "norm", 1.0, 0.0, 1e24, 0.0, 1e24)
            self.background = np.zeros(N_CHANNELS)
            ArithmeticModel.__init__(self, name, (self.kT, self.norm))

        def calc(self, p, *args, **kwargs):
            shape = np.array([np.interp(p[0], KT, channel) for channel in RATES.T])
            return p[1] * shape + self.background

    return Plasma()


def sherpa_data(statistic, counts, background, blank):
    from sherpa import stats
    from sherpa.astro.data import DataPHA
    from sherpa.data import Data1D

    channel = np.arange(1.0, N_CHANNELS + 1.0)
    model = sherpa_model()
    if statistic == "cstat":
        model.background = background
        return Data1D("spectrum", channel, counts), model, stats.CStat()
    pha = DataPHA("spectrum", channel, counts, exposure=3.0e4, backscal=1.0)
    pha.set_background(DataPHA("blank", channel, blank, exposure=3.0e4 / BLANK_SCALE, backscal=1.0))
    if statistic == "wstat":
        return pha, model, stats.WStat()
    pha.subtract()
    errors = {"chi2gehrels": stats.Chi2Gehrels, "chi2datavar": stats.Chi2DataVar, "chi2xspecvar": stats.Chi2XspecVar}
    return pha, model, errors[statistic]()


def our_spectra(statistic, counts, background, blank):
    scale, exposure = np.full(N_CHANNELS, BLANK_SCALE), np.ones(N_CHANNELS)
    return prepare(STATISTICS[statistic], counts, background, blank, scale, RATES, exposure)


@needs_sherpa
@pytest.mark.parametrize("statistic", STATISTICS)
def test_the_statistic_is_sherpas_at_the_same_parameters(statistic):
    from sherpa.data import DataSimulFit
    from sherpa.models import SimulFitModel

    rng = np.random.default_rng(5)
    for seed, counts in enumerate((3, 40, 400, 3000, 100000)):
        drawn = simulated(seed, 5.0, counts, 0.3)
        data, model, stat = sherpa_data(statistic, *drawn)
        spectra = our_spectra(statistic, *drawn)
        for norm in (0.0, *rng.exponential(counts / 50.0, 9)):
            model.kT, model.norm = rng.uniform(0.2, 60.0), norm
            theirs = stat.calc_stat(DataSimulFit("all", [data]), SimulFitModel("all", [model]))[0]
            assert value_at(spectra, model.kT.val, model.norm.val) == pytest.approx(theirs, rel=1e-9)


@needs_sherpa
@pytest.mark.parametrize("statistic", STATISTICS)
def test_sherpas_fit_is_never_better_and_its_limits_are_ours(statistic):
    from sherpa.estmethods import Confidence
    from sherpa.fit import Fit
    from sherpa.optmethods import LevMar

    same = 0
    for seed, (kt, counts) in enumerate([(1.5, 300), (3.0, 1000), (6.0, 1000), (6.0, 2500), (9.0, 2500)]):
        # Sherpa refuses to fit with chi2datavar where a channel has no count at all.
        drawn = simulated(100 + seed, kt, counts * (20 if statistic == "chi2datavar" else 1), 0.2)
        data, model, stat = sherpa_data(statistic, *drawn)
        model.norm = drawn[0].sum() / 50.0
        limits = Confidence()
        limits.parallel = False  # it forks over all cores otherwise
        limits.tol = 1e-3
        theirs = Fit(data, model, stat, LevMar(), limits).fit()
        found = fit_kt_norm(our_spectra(statistic, *drawn), KT)
        assert found[6] <= theirs.statval + 1e-6
        if theirs.statval - found[6] > 1e-4:
            continue
        same += 1
        # levmar stops within 1e-4 of the minimum, 1 % of sigma from it at most: conf starts from the minimum itself.
        assert abs(model.kT.val - found[0]) < 0.01 * 0.5 * (found[2] - found[1])
        model.kT, model.norm = found[0], found[3]
        fit = Fit(data, model, stat, LevMar(), limits)
        fit.fit()
        errors = fit.est_errors()
        kt_minus, norm_minus = errors.parmins
        kt_plus, norm_plus = errors.parmaxes
        assert abs(model.kT.val + kt_minus - found[1]) < 0.02 * 0.5 * (found[2] - found[1])
        assert abs(model.kT.val + kt_plus - found[2]) < 0.02 * 0.5 * (found[2] - found[1])
        assert abs(model.norm.val + norm_minus - found[4]) < 0.02 * 0.5 * (found[5] - found[4])
        assert abs(model.norm.val + norm_plus - found[5]) < 0.02 * 0.5 * (found[5] - found[4])
    assert same >= 3


@pytest.fixture(scope="module")
def real_nodes():
    """For the real spectra: nodes of kT, and the counts and folded XSPEC nodes of each spectrum."""
    from cpxt_hpc.fitting.xspec import apec_temperatures_kev, child_environment, evaluate_additive
    from cpxt_hpc.io.ogip import read_pha, read_responses
    from cpxt_hpc.science.response import channels_in_band, fold

    try:
        child_environment()
        tabulated = apec_temperatures_kev()
    except CpxtError as missing:
        pytest.skip(str(missing))
    kt = np.concatenate([[KT[0]], tabulated[(tabulated > KT[0]) & (tabulated < KT[-1])], [KT[-1]]])
    parts, photons = {}, {}
    for names, redshift in REAL.values():
        for name in names:
            source, blank = read_pha(SPECTRA / f"{name}.pi"), read_pha(SPECTRA / f"{name}_bg.pi")
            area, redistribution = read_responses(SPECTRA / f"{name}.arf", SPECTRA / f"{name}.rmf")
            key = (redshift, area.energy_edges_kev.tobytes())
            if key not in photons:
                photons[key] = evaluate_additive(
                    area.energy_edges_kev, kt, redshift=redshift, nh_1e22=NH, abundances=(ABUNDANCE,)
                ).photons[0]
            band = channels_in_band(redistribution, *BAND)
            scale = source.exposure_s / blank.exposure_s * np.asarray(source.backscal) / blank.backscal
            counts = [pha.counts[band] for pha in (source, blank)]
            rates = fold(photons[key], area, redistribution)[:, band]
            exposure = np.full(band.sum(), source.exposure_s)
            parts[name] = (*counts, np.full(band.sum(), scale), exposure, rates)
    return kt, parts


@needs_sherpa
@needs_spectra
@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("case", REAL)
def test_real_spectra_give_what_sherpa_and_xspec_give(real_nodes, tmp_path, case, statistic):
    from cpxt_hpc.fitting.xspec import child_environment
    from cpxt_hpc.io import datafiles

    names, redshift = REAL[case]
    kt_nodes, parts = real_nodes
    counts, blank, scale, exposure = (np.concatenate([parts[name][i] for name in names]) for i in range(4))
    rates = np.ascontiguousarray(np.concatenate([parts[name][4] for name in names], axis=1))
    # cstat without background: the spectra are those of small sources.
    spectra = prepare(STATISTICS[statistic], counts, np.zeros(len(counts)), blank, scale, rates, exposure)
    kt, kt_lo, kt_hi, norm, _, _, stat, lower_found, upper_found = fit_kt_norm(spectra, kt_nodes)
    files = [
        {kind: str(SPECTRA / f"{name}{end}")
         for kind, end in (("pha", ".pi"), ("bkg", "_bg.pi"), ("arf", ".arf"), ("rmf", ".rmf"))}
        for name in names
    ]  # fmt: skip
    points = [(0.3, norm), (2.7, 2.0 * norm), (8.0, 1e-4), (50.0, 0.3 * norm)]
    request = {
        "spectra": files,
        "statistic": statistic,
        "subtract": statistic.startswith("chi2"),
        "nh": NH,
        "redshift": redshift,
        "abundance": ABUNDANCE,
        "band": BAND,
        "apec_root": str(datafiles.apec_root()),
        # Sherpa refuses to fit with chi2datavar where a channel has no count at all.
        "start": None if statistic == "chi2datavar" else (8.0, norm),
        "points": points,
    }
    (tmp_path / "request.json").write_text(json.dumps(request), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "request.json"],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    answer = json.loads(ended.stdout.rsplit("ANSWER ", 1)[1])
    assert answer["n"] == len(counts)
    ours = [value_at(spectra, *point, kt_nodes) for point in points]
    assert ours == pytest.approx(answer["points"], rel=1e-9)
    if statistic == "chi2datavar":
        return
    assert stat <= answer["stat"] + 1e-6
    same_minimum = answer["stat"] - stat < 1e-3 and lower_found and upper_found
    assert same_minimum or case == "four"
    if same_minimum:
        sigma = 0.5 * (kt_hi - kt_lo)
        assert abs(answer["kT"] - kt) < 0.03 * sigma
        assert abs(answer["kt_limits"][0] - kt_lo) < 0.05 * sigma
        assert abs(answer["kt_limits"][1] - kt_hi) < 0.05 * sigma
