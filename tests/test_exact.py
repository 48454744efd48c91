"""The exact search against a dense scan by scipy, which knows nothing of intervals or convexity."""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from synthetic import background_templates, made_up_nodes, temperature_nodes

from cpxt_hpc.fitting.limits import fit_kt_norm
from cpxt_hpc.fitting.statistics import STATISTICS, prepare, statistic_derivatives, statistic_value

N_CHANNELS = 60
KT = temperature_nodes()
NODES = made_up_nodes(N_CHANNELS)
RATES = NODES[0] + 0.3 * (NODES[1] - NODES[0])
TEMPLATE = background_templates(N_CHANNELS)[0]
SCALE = 0.2


def folded(kt, rates=RATES):
    """The model for norm 1, by numpy's interpolation."""
    return np.array([np.interp(kt, KT, channel) for channel in rates.T])


def simulated(kt, counts, background_share, seed):
    """Counts, expected background, blank-sky counts of a region."""
    rng = np.random.default_rng(seed)
    background = counts * background_share * TEMPLATE
    source = folded(kt)
    source *= counts * (1.0 - background_share) / source.sum()
    return rng.poisson(source + background).astype(float), background, rng.poisson(background / SCALE).astype(float)


def cstat(counts, expected):
    logs = np.where(counts > 0, counts * np.log(np.maximum(counts, 1e-300) / expected), 0.0)
    return 2.0 * np.sum(expected - counts + logs, axis=-1)


def wstat(counts, blank, ratio, model):
    """Both likelihoods at the background that fits best, a root of a quadratic equation: XSPEC's manual, appendix B."""
    c = 1.0 + ratio
    e = c * model - counts - blank
    root = np.sqrt(e**2 + 4.0 * c * blank * model)
    with np.errstate(invalid="ignore", divide="ignore"):
        fitted = np.where(e > 0, 2.0 * blank * model / (root + e), (root - e) / (2.0 * c))
        # A channel without counts and without source has expected counts of 0 and adds nothing.
        return cstat(counts, np.maximum(model + fitted, 1e-300)) + cstat(blank, np.maximum(ratio * fitted, 1e-300))


def variance(statistic, counts, blank, scale):
    if statistic == "chi2gehrels":
        return (1 + np.sqrt(counts + 0.75)) ** 2 + (scale * (1 + np.sqrt(blank + 0.75))) ** 2
    plain = counts + scale**2 * blank
    return np.where(plain > 0, plain, 1.0 if statistic == "chi2datavar" else min(1.0, scale**2))


def prepared(statistic, counts, background, blank, rates=RATES):
    scale, exposure = np.full(len(counts), SCALE), np.ones(len(counts))
    return prepare(STATISTICS[statistic], counts, background, blank, scale, rates, exposure)


def cstat_spectra(counts, background, rates=RATES):
    return prepared("cstat", counts, background, counts, rates)


class Case:
    """A spectrum, as the engine has it and as a plain function of kT and norm."""

    def __init__(self, statistic, kt, counts, background_share, seed):
        self.counts, self.background, self.blank = simulated(kt, counts, background_share, seed)
        self.statistic = statistic
        self.spectra = prepared(statistic, self.counts, self.background, self.blank)

    def of_model(self, model):
        """The statistic of models, shape (..., n_channels)."""
        if self.statistic == "cstat":
            return cstat(self.counts, self.background + model)
        if self.statistic == "wstat":
            return wstat(self.counts, self.blank, 1.0 / SCALE, model)
        residual = self.counts - SCALE * self.blank - model
        return np.sum(residual**2 / variance(self.statistic, self.counts, self.blank, SCALE), axis=-1)

    def value(self, kt, norm):
        return self.of_model(norm * folded(kt))

    def kt_profile(self, kt):
        """Statistic and norm at the best norm for kT."""
        shape = folded(kt)
        scale = self.counts.sum() / shape.sum()
        found = minimize_scalar(
            lambda part: self.of_model(part * scale * shape),
            bounds=(0.0, 3.0), method="bounded", options={"xatol": 1e-9},
        )  # fmt: skip
        return min((found.fun, found.x * scale), (self.of_model(0.0 * shape), 0.0))


CASES = [
    ("cstat", 6.0, 1000, 0.1, 1),
    ("cstat", 1.1, 300, 0.3, 2),
    ("cstat", 9.0, 60, 0.5, 3),
    ("cstat", 0.4, 2500, 0.05, 4),
    ("cstat", 25.0, 2000, 0.1, 5),
    ("cstat", 3.0, 12, 0.2, 6),
    ("chi2gehrels", 6.0, 1000, 0.1, 7),
    ("chi2gehrels", 2.0, 400, 0.4, 8),
    ("chi2datavar", 4.0, 1500, 0.2, 9),
    ("chi2xspecvar", 7.0, 700, 0.1, 10),
    ("wstat", 6.0, 1000, 0.1, 11),
    ("wstat", 2.0, 300, 0.5, 12),
    ("wstat", 9.0, 20, 0.3, 13),
    ("wstat", 4.0, 20000, 0.3, 14),
]


def crossings(case, grid, profile, level, best, refine):
    """Where a profile on a grid first crosses the level, walking outwards from the best place."""
    middle = int(np.argmin(np.abs(grid - best)))
    places = []
    for step in (-1, 1):
        i = middle
        while 0 <= i + step < len(grid) and profile[i + step] <= level:
            i += step
        inside, outside = i, i + step
        if not 0 <= outside < len(grid):
            places.append(grid[i])
        elif profile[inside] > level:  # the best place lies between two points of the grid
            places.append(brentq(lambda x: refine(x) - level, best, grid[inside]))
        else:
            places.append(brentq(lambda x: refine(x) - level, grid[inside], grid[outside]))
    return places


@pytest.mark.parametrize("level", [1.0, 2.706])
@pytest.mark.parametrize("arguments", CASES)
def test_minimum_and_kt_limits_are_those_of_a_dense_scan(arguments, level):
    case = Case(*arguments)
    kt, kt_lo, kt_hi, norm, _, _, stat, _, _ = fit_kt_norm(case.spectra, KT, level)
    grid = np.unique(np.concatenate([KT, np.geomspace(KT[0], KT[-1], 500)]))
    profile = np.array([case.kt_profile(x)[0] for x in grid])
    # The scan can only be worse than the true minimum, by what a grid step of 1.3 % and its 1-D search miss.
    assert stat <= profile.min() + 1e-9
    assert stat == pytest.approx(case.value(kt, norm), rel=1e-11)
    near = case.kt_profile(kt)
    assert near[0] == pytest.approx(stat, abs=1e-8)
    assert near[1] == pytest.approx(norm, rel=1e-5)
    lower, upper = crossings(case, grid, profile, stat + level, kt, lambda x: case.kt_profile(x)[0])
    # brentq's tolerance is 2e-12; the scan's inner search leaves 1e-8 in the statistic.
    assert kt_lo == pytest.approx(lower, rel=1e-6)
    assert kt_hi == pytest.approx(upper, rel=1e-6)


@pytest.mark.parametrize("arguments", CASES)
def test_norm_limits_are_those_of_a_dense_scan(arguments):
    case = Case(*arguments)
    _, _, _, norm, norm_lo, norm_hi, stat, _, _ = fit_kt_norm(case.spectra, KT)
    temperatures = np.unique(np.concatenate([KT, np.geomspace(KT[0], KT[-1], 300)]))
    shapes = np.array([folded(t) for t in temperatures])

    def norm_profile(trial):
        values = case.of_model(trial * shapes)
        i = int(np.argmin(values))
        low, high = temperatures[max(i - 1, 0)], temperatures[min(i + 1, len(temperatures) - 1)]
        found = minimize_scalar(
            lambda t: case.value(t, trial), bounds=(low, high), method="bounded", options={"xatol": 1e-8}
        )
        return min(found.fun, values[i])

    grid = norm * np.unique(np.concatenate([np.linspace(0.0, 3.0, 301), np.geomspace(3.0, 3e3, 100)]))
    profile = np.array([norm_profile(x) for x in grid])
    lower, upper = crossings(case, grid, profile, stat + 1.0, norm, norm_profile)
    # At a limit the profile of the norm has kinks; the scan's search over kT is good to 1e-7 in the statistic.
    assert norm_lo == pytest.approx(lower, rel=1e-5, abs=1e-9 * norm)
    assert norm_hi == pytest.approx(upper, rel=1e-5)


@pytest.mark.parametrize("statistic", ["cstat", "wstat", "chi2gehrels"])
def test_no_point_of_a_random_cloud_is_below_the_minimum(statistic):
    rng = np.random.default_rng(11)
    for seed in range(30):
        counts, share = float(rng.choice([5, 30, 200, 1500])), float(rng.choice([0.05, 0.5, 0.9]))
        case = Case(statistic, float(rng.uniform(0.3, 15.0)), counts, share, seed)
        kt, *_, best, _, _ = fit_kt_norm(case.spectra, KT)
        k = 0 if np.isnan(kt) else int(np.clip(np.searchsorted(KT, kt) - 1, 0, len(KT) - 2))
        for _ in range(300):
            trial = int(rng.integers(len(KT) - 1)) if rng.random() < 0.5 else k
            scale = rng.exponential(2.0) * counts / RATES[trial].sum()
            u = rng.random()
            assert statistic_value(case.spectra, trial, scale * (1 - u), scale * u) >= best - 1e-10


@pytest.mark.parametrize("statistic", STATISTICS)
def test_derivatives_are_those_of_the_statistic(statistic):
    case = Case(statistic, 4.0, 800, 0.2, 21)
    k, a, b = 15, 6.0, 9.0
    slope_a, slope_b, aa, ab, bb = statistic_derivatives(case.spectra, k, a, b)
    step = 1e-4

    def value(x, y):
        return statistic_value(case.spectra, k, x, y)

    # Central differences: error step^2 of the third derivative, and rounding / step.
    assert slope_a == pytest.approx((value(a + step, b) - value(a - step, b)) / (2 * step), rel=1e-5, abs=1e-5)
    assert slope_b == pytest.approx((value(a, b + step) - value(a, b - step)) / (2 * step), rel=1e-5, abs=1e-5)

    def slopes(x, y):
        return np.array(statistic_derivatives(case.spectra, k, x, y)[:2])

    along_a = (slopes(a + step, b) - slopes(a - step, b)) / (2 * step)
    along_b = (slopes(a, b + step) - slopes(a, b - step)) / (2 * step)
    assert np.allclose(along_a, [aa, ab], rtol=1e-6)
    assert np.allclose(along_b, [ab, bb], rtol=1e-6)


def test_a_spectrum_equal_to_the_model_gives_its_temperature_and_norm_back():
    for kt, norm in ((0.7, 30.0), (KT[12], 8.0), (7.3, 10.0)):
        background = 20.0 * TEMPLATE
        spectra = cstat_spectra(norm * folded(kt) + background, background)
        found = fit_kt_norm(spectra, KT)
        # The statistic is 0 there and flat: half of the digits remain in the parameters.
        assert found[0] == pytest.approx(kt, rel=1e-7)
        assert found[3] == pytest.approx(norm, rel=1e-7)
        assert found[6] == pytest.approx(0.0, abs=1e-9)


def test_without_counts_the_norm_is_zero_and_the_temperature_unknown():
    background = 20.0 * TEMPLATE
    spectra = cstat_spectra(np.zeros(N_CHANNELS), background)
    kt, kt_lo, kt_hi, norm, norm_lo, norm_hi, stat, lower_found, upper_found = fit_kt_norm(spectra, KT)
    assert np.isnan(kt)
    assert (kt_lo, kt_hi) == (KT[0], KT[-1])
    assert (norm, norm_lo) == (0.0, 0.0)
    # stat = 2 (background + norm total): the limit is where the source adds 1, at the node that adds least.
    assert norm_hi == pytest.approx(0.5 / RATES.sum(axis=1).min(), rel=1e-9)
    assert stat == pytest.approx(2 * background.sum(), rel=1e-12)
    assert not lower_found
    assert not upper_found


def test_less_than_the_background_gives_no_source():
    background = 200.0 * TEMPLATE
    spectra = cstat_spectra(np.floor(background * 0.7), background)
    kt, _, _, norm, norm_lo, norm_hi, _, lower_found, upper_found = fit_kt_norm(spectra, KT)
    assert np.isnan(kt)
    assert norm == norm_lo == 0.0
    assert norm_hi > 0.0
    assert not lower_found
    assert not upper_found


def test_a_best_fit_at_the_last_node_is_found_there():
    hotter = RATES[-1] + 0.5 * (RATES[-1] - RATES[-2] * RATES[-1].sum() / RATES[-2].sum())
    counts = 4000.0 * np.maximum(hotter, 0.0) / hotter.sum()
    found = fit_kt_norm(cstat_spectra(counts, np.full(N_CHANNELS, 1e-3)), KT)
    assert found[0] == found[2] == KT[-1]
    assert found[1] < KT[-1]
    assert found[7]
    assert not found[8]


def test_channels_without_background_and_source_do_not_break_the_fit():
    rates = RATES.copy()
    rates[:, 40:] = 0.0
    background = 50.0 * TEMPLATE
    background[40:] = 0.0
    counts = np.floor(8.0 * folded(5.0, rates) + background)
    counts[50] = 1.0  # an impossible event
    found = fit_kt_norm(cstat_spectra(counts, background, rates), KT)
    assert np.isfinite(found[:7]).all()
    counts[50] = 0.0
    plain = fit_kt_norm(cstat_spectra(counts, background, rates), KT)
    # Its expected count is Sherpa's 1e-25: it adds a constant to the statistic and moves nothing.
    assert found[6] - plain[6] == pytest.approx(2.0 * (-1.0 + np.log(1e25)), rel=1e-9)
    assert found[:6] == pytest.approx(plain[:6], rel=1e-7)


def test_poisson_is_unbiased_and_covers_and_clusterpyxts_recipe_is_cold():
    fits = {"cstat": [], "chi2gehrels": []}
    for seed in range(400):
        for statistic, rows in fits.items():
            rows.append(fit_kt_norm(Case(statistic, 6.0, 1500, 0.2, 1000 + seed).spectra, KT)[:3])
    best, low, high = np.array(fits["cstat"]).T
    # The median of 400 scatters by 1.25 sigma / 20, the coverage by 0.023: three times that.
    assert abs(np.median(best) - 6.0) < 3 * 1.25 / 20 * np.median(0.5 * (high - low))
    assert 0.61 < np.mean((low < 6.0) & (high > 6.0)) < 0.75
    # Measured for 499 channels, 1000 to 2500 counts, 10 % background: -25 to -21 %; here the channels are fuller.
    assert np.median(np.array(fits["chi2gehrels"])[:, 0]) < 0.9 * 6.0
