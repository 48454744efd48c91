"""Fits with free abundance, hydrogen column and norms, against scans and searches that know nothing of the method."""

import numpy as np
import pytest
from scipy.optimize import minimize
from synthetic import background_templates, channel_energies, made_up_nodes, temperature_nodes

from cpxt_hpc.fitting.free import fit_free, refit_free
from cpxt_hpc.fitting.free_nh import nh_grid
from cpxt_hpc.fitting.limits import fit_kt_norm
from cpxt_hpc.fitting.statistics import STATISTICS, prepare

N_CHANNELS = 50
KT = temperature_nodes()
PLAIN = made_up_nodes(N_CHANNELS)
CROSS_SECTION = 4.8 * (channel_energies(N_CHANNELS) / 0.7) ** -2.6
"""About that of phabs [10^-22 cm^2]."""
TEMPLATE = background_templates(N_CHANNELS)[0]
SCALE = 0.2
NH, ABUNDANCE = 0.05, 0.3
GRID = nh_grid(NH)


def nodes_at(columns):
    return np.stack([PLAIN * np.exp(-column * CROSS_SECTION) for column in columns])


def shape_at(kt, abundance, nh=NH):
    """The model for norm 1, by numpy's interpolation and the exact absorption."""
    spectra = PLAIN[0] + abundance * (PLAIN[1] - PLAIN[0])
    return np.array([np.interp(kt, KT, channel) for channel in spectra.T]) * np.exp(-nh * CROSS_SECTION)


class Case:
    """Simulated spectra of one or more observations, which see the same source with different norms."""

    def __init__(self, seed, kt=5.0, abundance=0.5, counts=2500.0, share=0.15, norms=(1.0,), nh=NH):
        rng = np.random.default_rng(seed)
        shape = shape_at(kt, abundance, nh)
        background = np.tile(counts * share * TEMPLATE, len(norms))
        self.norms = counts * (1.0 - share) / shape.sum() * np.array(norms)
        self.counts = rng.poisson(np.concatenate([norm * shape for norm in self.norms]) + background).astype(float)
        self.background = background
        self.blank = rng.poisson(background / SCALE).astype(float)
        self.scale = np.full(len(background), SCALE)
        self.exposure = np.ones(len(background))
        self.start = np.arange(len(norms)) * N_CHANNELS

    def arguments(self, columns=(NH,), statistic="cstat", factor=1.0):
        rates = np.concatenate([nodes_at(columns)] * len(self.start), axis=3)
        return (
            STATISTICS[statistic], self.counts, factor * self.background, self.blank, factor * self.scale, rates,
            self.exposure, KT, np.array(columns),
        )  # fmt: skip

    def fit(self, statistic="cstat", *, nh=NH, abundance=ABUNDANCE, free=("abundance",), **settings):
        columns = GRID if "nH" in free or nh != NH else (NH,)
        return fit_free(
            *self.arguments(columns, statistic), **self.frozen(nh, abundance), **free_ones(free), **settings
        )

    def frozen(self, nh=NH, abundance=ABUNDANCE):
        return {"abundance": abundance, "nh_1e22": nh, "observation_start": self.start}

    def cstat(self, kt, abundance, nh, norms):
        """Cash's statistic in plain numpy."""
        expected = self.background + np.concatenate([norm * shape_at(kt, abundance, nh) for norm in norms])
        logs = np.where(self.counts > 0, self.counts * np.log(np.maximum(self.counts, 1e-300) / expected), 0.0)
        return 2.0 * np.sum(expected - self.counts + logs)


def free_ones(free):
    return {"free_abundance": "abundance" in free, "free_nh": "nH" in free}


def frozen_abundance_profile(case, abundance, statistic="cstat"):
    """The guaranteed minimum over kT and norm of the engine for frozen abundances."""
    rates = nodes_at((NH,))[0]
    rates = np.concatenate([rates[0] + abundance * (rates[1] - rates[0])] * len(case.start), axis=1)
    code, counts, background, blank, scale, _, exposure, *_ = case.arguments(statistic=statistic)
    return fit_kt_norm(prepare(code, counts, background, blank, scale, rates, exposure), KT)[6]


@pytest.mark.parametrize("statistic", STATISTICS)
def test_with_nothing_else_free_it_is_the_fit_of_kt_and_norm(statistic):
    for seed, norms in ((1, (1.0,)), (2, (1.0, 0.8))):
        case = Case(seed, norms=norms)
        found = case.fit(statistic, free=())
        rates = nodes_at((NH,))[0]
        rates = np.concatenate([rates[0] + ABUNDANCE * (rates[1] - rates[0])] * len(norms), axis=1)
        code, counts, background, blank, scale, _, exposure, *_ = case.arguments(statistic=statistic)
        expected = fit_kt_norm(prepare(code, counts, background, blank, scale, rates, exposure), KT)
        # Both stop where the next step would gain less than 1e-9 squared; limits where the rise is off by 1e-12.
        assert (*found[:6], found.statistic) == pytest.approx(expected[:7], rel=1e-7)
        assert (found.abundance, found.nH) == pytest.approx((ABUNDANCE, NH), rel=1e-15)
        assert np.isnan([found.abundance_lo, found.abundance_hi, found.nH_lo, found.nH_hi]).all()


@pytest.mark.parametrize("statistic", ["cstat", "wstat", "chi2gehrels"])
def test_abundance_and_its_limits_are_those_of_fits_with_frozen_abundance(statistic):
    for seed, kt, abundance, counts in ((3, 1.2, 0.4, 800), (4, 5.0, 0.5, 2500), (5, 9.0, 0.2, 6000)):
        case = Case(seed, kt, abundance, counts)
        found = case.fit(statistic)
        assert frozen_abundance_profile(case, found.abundance, statistic) == pytest.approx(found.statistic, abs=1e-8)
        lowest = max(found.abundance_lo - 1.0, 0.0)
        trials = np.linspace(lowest, found.abundance_hi + 1.0, 60)
        profile = np.array([frozen_abundance_profile(case, trial, statistic) for trial in trials])
        assert profile.min() >= found.statistic - 1e-8
        inside = (trials > found.abundance_lo) & (trials < found.abundance_hi)
        assert (profile[inside] < found.statistic + 1.0).all()
        ends = [
            (limit, is_found)
            for limit, is_found in zip((found.abundance_lo, found.abundance_hi), found.abundance_found, strict=True)
        ]
        for limit, is_found in ends:
            rise = frozen_abundance_profile(case, limit, statistic) - found.statistic
            assert rise == pytest.approx(1.0, abs=1e-6) if is_found else rise < 1.0


def best_at(case, fixed, start, norms_free=1):
    """Smallest statistic with some of (kT, abundance, nH, norms...) held, by a simplex that is started anew."""
    names = ["kT", "abundance", "nH", *range(norms_free)]
    free = [i for i, name in enumerate(names) if name not in fixed]
    scale = np.array([1.0, 0.3, 0.05, *np.ones(norms_free) * start[3]])

    def value(x):
        place = np.array([fixed.get(name, start[i]) for i, name in enumerate(names)])
        place[free] = start[free] + x * scale[free]
        if not (KT[0] <= place[0] <= KT[-1] and 0 <= place[1] <= 5 and 0 <= place[2] <= 1 and (place[3:] > 0).all()):
            return 1e9
        norms = np.broadcast_to(place[3:], len(case.start)) if norms_free == 1 else place[3:]
        return case.cstat(*place[:3], norms)

    x = np.zeros(len(free))
    for size in (0.3, 0.03, 0.003):
        simplex = np.vstack([x, x + size * np.eye(len(free))])
        options = {"xatol": 1e-10, "fatol": 1e-12, "maxiter": 6000, "maxfev": 6000, "initial_simplex": simplex}
        found = minimize(value, x, method="Nelder-Mead", options=options)
        x = found.x
    return found.fun


@pytest.mark.parametrize("free", [("abundance",), ("nH",), ("abundance", "nH")])
def test_a_simplex_search_finds_nothing_lower_and_the_same_rise_at_the_limits(free):
    case = Case(6, 4.0, 0.5, 3000.0, nh=0.25 if "nH" in free else NH)
    found = case.fit(free=free)
    start = np.array([found.kT, found.abundance, found.nH, found.norm])
    frozen = {name: value for name, value in (("abundance", ABUNDANCE), ("nH", NH)) if name not in free}
    # The columns between the folded ones are good to 1e-6 of the model here, 1e-3 in the statistic at the most.
    tolerance = 1e-6 if "nH" not in free else 2e-4
    assert case.cstat(*start[:3], [found.norm]) == pytest.approx(found.statistic, abs=tolerance)
    assert best_at(case, frozen, start) >= found.statistic - tolerance
    for name, limits in (
        ("kT", (found.kT_lo, found.kT_hi)),
        (0, (found.norm_lo, found.norm_hi)),
        ("abundance", (found.abundance_lo, found.abundance_hi)),
        ("nH", (found.nH_lo, found.nH_hi)),
    ):
        if name in frozen:
            continue
        for limit in limits:
            # The simplex sticks at kinks: it may miss the lowest point by a little.
            rise = best_at(case, {**frozen, name: limit}, start) - found.statistic
            assert rise == pytest.approx(1.0, abs=0.01)
            assert rise > 1.0 - 2.0 * tolerance


def test_frozen_columns_give_the_profile_of_a_free_one():
    case = Case(7, 4.0, 0.5, 3000.0, nh=0.25)
    found = case.fit(free=("abundance", "nH"))
    for nh, rise in ((found.nH, 0.0), (found.nH_lo, 1.0), (found.nH_hi, 1.0)):
        held = case.fit(nh=nh)
        assert held.statistic == pytest.approx(found.statistic + rise, abs=1e-6)
    assert found.nH_found == (True, True)
    for nh in np.linspace(0.0, 0.6, 40):
        assert case.fit(nh=nh, limits=False).statistic >= found.statistic - 1e-8


def test_norms_of_observations_are_found_and_their_mean_has_limits():
    case = Case(8, 5.0, 0.5, 2500.0, norms=(1.0, 0.6, 1.3))
    shared = case.fit()
    found = case.fit(norms_per_observation=True)
    assert found.statistic < shared.statistic - 20.0  # the norms differ by 40 %
    assert found.norms == pytest.approx(case.norms, rel=0.1)
    assert found.share.sum() == pytest.approx(1.0)
    # The counts that the shared fit expects of each observation: equal here.
    assert found.share == pytest.approx(np.full(3, 1.0 / 3.0))
    assert found.norm == pytest.approx(found.norms.mean(), rel=1e-12)
    start = np.array([found.kT, found.abundance, NH, *found.norms])
    assert best_at(case, {"nH": NH}, start, 3) >= found.statistic - 1e-6
    for limit in (found.norm_lo, found.norm_hi):
        held = minimize(
            lambda x: case.cstat(x[0], x[1], NH, found.norm * x[2:]),
            [found.kT, found.abundance, *(found.norms / found.norm * limit / found.norm)],
            constraints={"type": "eq", "fun": lambda x, limit=limit: x[2:].mean() - limit / found.norm},
            bounds=[(0.1, 64.0), (0.0, 5.0), *[(0.1, 10.0)] * 3],
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 500},
        )
        assert held.fun - found.statistic == pytest.approx(1.0, abs=0.01)
    for statistic in ("wstat", "chi2gehrels"):
        assert case.fit(statistic, norms_per_observation=True).norms == pytest.approx(case.norms, rel=0.15)


def test_one_observation_with_its_own_norm_is_the_shared_fit():
    case = Case(9)
    assert case.fit(norms_per_observation=True)[:13] == pytest.approx(case.fit()[:13], nan_ok=True)


def test_a_spectrum_equal_to_the_model_gives_all_parameters_back():
    case = Case(10, norms=(1.0, 0.7))
    for kt, abundance, column in ((2.1, 0.4, 0.02), (KT[12], 1.3, 0.31), (7.3, 0.25, 0.11)):
        shape = shape_at(kt, abundance, column)
        case.counts = case.background + np.concatenate([40.0 * shape, 28.0 * shape])
        found = case.fit(free=("abundance", "nH"), norms_per_observation=True)
        # The statistic is flat there: of the model's 1e-6 between the columns a few 1e-5 arrive in the parameters.
        assert found.kT == pytest.approx(kt, rel=2e-4)
        assert found.abundance == pytest.approx(abundance, rel=2e-4)
        assert found.nH == pytest.approx(column, abs=2e-5)
        assert found.norms == pytest.approx([40.0, 28.0], rel=2e-4)
        assert found.statistic == pytest.approx(0.0, abs=1e-4)


def test_limits_at_the_ends_of_the_ranges_are_reported_as_such():
    case = Case(11, 6.0, 0.0, 2000.0)
    case.counts = case.background + 30.0 * (shape_at(6.0, 0.0) - 0.1 * (shape_at(6.0, 1.0) - shape_at(6.0, 0.0)))
    found = case.fit()
    assert (found.abundance, found.abundance_lo) == (0.0, 0.0)
    assert found.abundance_found == (False, True)
    case.counts = case.background + 3.0 * shape_at(6.0, 4.9)
    found = case.fit()
    assert found.abundance_hi == 5.0
    assert found.abundance_found == (True, False)
    case.counts = case.background + 3.0 * shape_at(6.0, 0.5, 0.0)
    found = case.fit(free=("nH",))
    assert found.nH_lo == GRID[0]
    assert found.nH_found == (False, True)


def test_a_larger_rise_gives_wider_limits():
    case = Case(12)
    narrow, wide = case.fit(), case.fit(delta_statistic=2.706)
    assert wide[0] == narrow[0]
    for name in ("kT", "norm", "abundance"):
        assert getattr(wide, f"{name}_lo") < getattr(narrow, f"{name}_lo")
        assert getattr(wide, f"{name}_hi") > getattr(narrow, f"{name}_hi")
    assert frozen_abundance_profile(case, wide.abundance_hi) == pytest.approx(wide.statistic + 2.706, abs=1e-6)


@pytest.mark.parametrize("free", [("abundance",), ("abundance", "nH")])
@pytest.mark.parametrize("norms", [(1.0,), (1.0, 0.7)])
def test_without_source_there_is_an_upper_limit_of_the_norm_alone(free, norms):
    case = Case(13, norms=norms)
    case.counts = np.zeros(len(case.counts))
    found = case.fit(free=free, norms_per_observation=True)
    assert np.isnan(found.kT)
    assert np.isnan(found.abundance)
    assert (found.kT_lo, found.kT_hi) == (KT[0], KT[-1])
    assert (found.abundance_lo, found.abundance_hi) == (0.0, 5.0)
    assert (found.norm, found.norm_lo) == (0.0, 0.0)
    # stat = 2 (background + norm total): the limit is where the source adds 1, at the node that adds least.
    columns = GRID if "nH" in free else (NH,)
    least = nodes_at(columns)[:, 0].sum(axis=2).min()
    if len(norms) == 1:
        assert found.norm_hi == pytest.approx(0.5 / least, rel=1e-6)
    assert found.statistic == pytest.approx(2.0 * case.background.sum(), rel=1e-12)
    assert found.kT_found == found.abundance_found == (False, False)
    assert found.norm_found == (False, True)


def test_channels_of_an_observation_that_takes_no_part_do_not_matter():
    case = Case(14, norms=(1.0, 0.8))
    alone = Case(14, norms=(1.0, 0.8))
    case.exposure[N_CHANNELS:] = 0.0
    case.start = case.start[:1]
    arguments = list(alone.arguments())
    whole = fit_free(
        arguments[0], case.counts, case.background, case.blank, case.scale, arguments[5], case.exposure, KT,
        np.array([NH]), **case.frozen(), **free_ones(("abundance",)), norms_per_observation=True,
    )  # fmt: skip
    first = slice(0, N_CHANNELS)
    part = fit_free(
        arguments[0], case.counts[first], case.background[first], case.blank[first], case.scale[first],
        np.ascontiguousarray(arguments[5][..., first]), np.ones(N_CHANNELS), KT, np.array([NH]), **case.frozen(),
        **free_ones(("abundance",)),
    )  # fmt: skip
    assert whole[:13] == pytest.approx(part[:13], rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("free", [("abundance",), ("abundance", "nH")])
def test_the_refit_of_a_changed_background_is_a_whole_new_fit(free):
    case = Case(15, norms=(1.0, 0.8))
    columns = GRID if "nH" in free else (NH,)
    for per_observation in (False, True):
        settings = {**case.frozen(), **free_ones(free), "norms_per_observation": per_observation}
        for statistic in ("cstat", "chi2gehrels"):
            fit = fit_free(*case.arguments(columns, statistic), **settings)
            changed = case.arguments(columns, statistic, 1.04)
            anew = fit_free(*changed, **settings, limits=False)
            kt, norm = refit_free(fit, *changed[1:5])
            assert kt == pytest.approx(anew.kT, rel=1e-6)
            assert norm == pytest.approx(np.dot(fit.share, anew.norms), rel=1e-6)
            assert kt != fit.kT


def test_a_column_that_was_not_folded_is_refused():
    case = Case(16)
    with pytest.raises(ValueError, match=r"nH is free, but the model is folded at 1 column"):
        fit_free(*case.arguments(), **case.frozen(), **free_ones(("nH",)))
    with pytest.raises(ValueError, match=r"nH = 0.07 is frozen, but the model is folded at 0.05"):
        fit_free(*case.arguments(), **case.frozen(nh=0.07), **free_ones(()))
    with pytest.raises(ValueError, match=r"nH = 3.0 lies outside the folded columns, 0.0 to 1.0"):
        case.fit(nh=3.0)


def test_limits_of_the_abundance_hold_the_truth_as_often_as_they_should():
    held, best = [], []
    for seed in range(300):
        found = Case(1000 + seed, 5.0, 0.4, 2500.0).fit()
        held.append(found.abundance_lo < 0.4 < found.abundance_hi)
        best.append((found.abundance - 0.4) / (0.5 * (found.abundance_hi - found.abundance_lo)))
    # 68 % with a spread of 2.7 %: three times that.
    assert 0.60 < np.mean(held) < 0.76
    # The median of 300 scatters by 1.25 / sqrt(300) sigma; three times that.
    assert abs(np.median(best)) < 0.22
