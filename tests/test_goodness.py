"""Expected statistics against Poisson sums, Kaastra's formulas, and simulated fits."""

import math

import numpy as np
import pytest
from smooth_spectrum import ENERGY, cstat, fit, folded, true_model

from cpxt_hpc.fitting.goodness import expected_after_fit, expected_cstat, expected_statistic


def poisson_moments(mu):
    """Expectation and variance of one channel, term by term; for the tail, see the number of terms."""
    first = second = 0.0
    for n in range(int(mu + 15 * math.sqrt(mu) + 40)):
        probability = math.exp(n * math.log(mu) - mu - math.lgamma(n + 1))
        c = 2 * (mu - n + (n * math.log(n / mu) if n else 0.0))
        first += probability * c
        second += probability * c * c
    return first, second - first**2


def kaastra_moments(mu):
    """The approximations of Kaastra (2017, A&A 605, A51)."""
    log = math.log(mu)
    if mu <= 0.5:
        expected = -0.25 * mu**3 + 1.38 * mu**2 - 2 * mu * log
    elif mu <= 2:
        expected = -0.00335 * mu**5 + 0.04259 * mu**4 - 0.27331 * mu**3 + 1.381 * mu**2 - 2 * mu * log
    elif mu <= 5:
        expected = 1.019275 + 0.1345 * mu ** (0.461 - 0.9 * log)
    elif mu <= 10:
        expected = 1.00624 + 0.604 / mu**1.68
    else:
        expected = 1 + 0.1649 / mu + 0.226 / mu**2
    if mu <= 0.1:
        terms = [math.exp(-mu) * mu**k / math.factorial(k) * (mu - k + (k * math.log(k / mu) if k else 0)) ** 2
                 for k in range(5)]  # fmt: skip
        return expected, 4 * sum(terms) - expected**2
    for end, variance in (
        (0.2, lambda m: -262 * m**4 + 195 * m**3 - 51.24 * m**2 + 4.34 * m + 0.77005),
        (0.3, lambda m: 4.23 * m**2 - 2.8254 * m + 1.12522),
        (0.5, lambda m: -3.7 * m**3 + 7.328 * m**2 - 3.6926 * m + 1.20641),
        (1.0, lambda m: 1.28 * m**4 - 5.191 * m**3 + 7.666 * m**2 - 3.5446 * m + 1.15431),
        (2.0, lambda m: 0.1125 * m**4 - 0.641 * m**3 + 0.859 * m**2 + 1.0914 * m - 0.05748),
        (3.0, lambda m: 0.089 * m**3 - 0.872 * m**2 + 2.8422 * m - 0.67539),
        (5.0, lambda m: 2.12336 + 0.012202 * m ** (5.717 - 2.6 * log)),
        (10.0, lambda m: 2.05159 + 0.331 * m ** (1.343 - log)),
    ):
        if mu <= end:
            return expected, variance(mu)
    return expected, 12 / mu**3 + 0.79 / mu**2 + 0.6747 / mu + 2


def moments(mu):
    expected, sigma = expected_cstat(np.array([mu]))
    return expected, sigma**2


def fitted_pulls(n, counts, background_share, kt, seed):
    """(C - expected) / sigma of simulated fits of kT and norm."""
    rng = np.random.default_rng(seed)
    source, background, norm = true_model(counts, background_share, kt)
    pulls = np.empty(n)
    for i in range(n):
        data = rng.poisson(source + background).astype(float)
        _, _, mu, gradients = fit(data, background, kt, norm)
        expected, sigma = expected_after_fit(mu, gradients)
        pulls[i] = (cstat(data, mu) - expected) / sigma
    return pulls


def test_expectation_and_variance_of_a_channel_are_the_poisson_sums():
    rng = np.random.default_rng(1)
    edges = [0.999999 * 2.0**-20, 1.000001 * 2.0**-20, 63.999, 64.001, 1.0, np.nextafter(1.0, 0.0)]
    for mu in [*10 ** rng.uniform(-7, 2.5, 300), *edges]:
        expected, variance = poisson_moments(mu)
        # The cubic pieces are good to 5e-7; below 2^-20 terms of order mu are left out.
        assert moments(mu) == (pytest.approx(expected, rel=2e-6), pytest.approx(variance, rel=2e-6))


def test_kaastras_formulas_give_the_same_within_their_accuracy():
    for mu in 10 ** np.random.default_rng(2).uniform(-6, 6, 500):
        expected, variance = kaastra_moments(mu)
        # What his pieces miss of the Poisson sums, which the test above holds for ours.
        assert moments(mu) == (pytest.approx(expected, abs=3e-4), pytest.approx(variance, abs=6e-4))


def test_many_counts_give_chi_square_of_one_degree_of_freedom_a_channel():
    assert moments(1e6) == (pytest.approx(1 + 1 / 6e6, abs=1e-12), pytest.approx(2 + 2 / 3e6, abs=1e-11))


def test_the_sum_over_channels_is_what_simulated_spectra_scatter_about():
    source, background, _ = true_model(400, 0.3, 5.0)
    mu = source + background
    values = cstat(np.random.default_rng(3).poisson(np.tile(mu, (20_000, 1))), mu)
    expected, sigma = expected_cstat(mu)
    assert values.mean() == pytest.approx(expected, abs=4 * sigma / math.sqrt(20_000))
    assert values.std() == pytest.approx(sigma, rel=4 / math.sqrt(2 * 20_000))


def test_a_channel_that_expects_nothing_adds_nothing():
    mu = np.array([0.7, 0.0, 3.0])
    assert expected_cstat(mu) == pytest.approx(expected_cstat(mu[[0, 2]]))
    gradients = np.array([[0.2, 0.0, 1.0]])
    assert expected_after_fit(mu, gradients) == pytest.approx(
        expected_after_fit(mu[[0, 2]], np.ascontiguousarray(gradients[:, [0, 2]]))
    )


@pytest.mark.parametrize(("counts", "background_share", "kt"), [(300, 0.1, 3.0), (1000, 0.5, 3.0), (5000, 0.1, 8.0)])
def test_the_statistic_of_fits_scatters_about_its_expectation_by_its_sigma(counts, background_share, kt):
    n = 1500
    pulls = fitted_pulls(n, counts, background_share, kt, seed=4)
    # Four standard errors, and 0.05 for what the first order leaves out.
    assert abs(pulls.mean()) < 4 / math.sqrt(n) + 0.05
    assert pulls.std() == pytest.approx(1.0, abs=4 / math.sqrt(2 * n) + 0.03)


def test_a_fit_scatters_less_than_the_true_model_where_counts_are_few():
    source, background, norm = true_model(60, 0.1, 3.0)
    shape, slope = folded(3.0)
    _, known = expected_cstat(source + background)
    _, fitted = expected_after_fit(source + background, np.stack([norm * slope, shape]))
    assert fitted < 0.8 * known


def test_a_wrong_model_lies_far_above():
    source, background, norm = true_model(3000, 0.2, 5.0)
    line = np.exp(-0.5 * ((ENERGY - 3.0) / 0.1) ** 2)
    data = np.random.default_rng(5).poisson(source + background + 600 * line / line.sum()).astype(float)
    _, _, mu, gradients = fit(data, background, 5.0, norm)
    expected, sigma = expected_after_fit(mu, gradients)
    assert cstat(data, mu) > expected + 8 * sigma


def test_parameters_that_change_nothing_or_the_same_do_not_count():
    mu = np.linspace(0.1, 5.0, 40)
    shape = np.sqrt(mu)
    one = expected_after_fit(mu, shape[None])
    assert expected_after_fit(mu, np.stack([shape, np.zeros(40)])) == one
    assert expected_after_fit(mu, np.stack([np.zeros(40), shape])) == pytest.approx(one)
    assert expected_after_fit(mu, np.stack([shape, -3 * shape])) == one
    assert expected_after_fit(mu, np.zeros((0, 40))) == expected_cstat(mu)
    assert one[0] == pytest.approx(expected_cstat(mu)[0] - 1)


def test_the_expectation_does_not_depend_on_how_the_parameters_are_chosen():
    mu = np.linspace(0.1, 5.0, 40)
    gradients = np.stack([np.sqrt(mu), np.log(mu), mu])
    mixed = np.array([[1.0, 2.0, 0.5], [0.0, 3.0, 1.0], [1.0, 0.0, -1.0]]) @ gradients
    assert expected_after_fit(mu, mixed) == pytest.approx(expected_after_fit(mu, gradients), rel=1e-12)


def test_what_is_no_number_stays_none():
    mu = np.array([1.0, np.nan])
    assert np.isnan(expected_cstat(mu)).all()
    assert np.isnan(expected_after_fit(mu, np.ones((1, 2)))).all()


@pytest.mark.parametrize("statistic", ["chi2gehrels", "chi2datavar", "chi2xspecvar"])
def test_chi_square_expects_its_degrees_of_freedom(statistic):
    expected = expected_statistic(statistic, np.full(50, 0.1), np.zeros((2, 50)), 48)
    assert expected == (48.0, pytest.approx(math.sqrt(96)))
    assert np.isnan(expected_statistic(statistic, np.ones(2), np.zeros((2, 2)), 0)).all()


def test_wstat_expects_its_degrees_of_freedom_where_bins_are_full_and_nothing_where_they_are_sparse():
    none = np.zeros((2, 40))
    assert expected_statistic("wstat", np.full(40, 12.0), none, 38) == (38.0, pytest.approx(math.sqrt(76)))
    assert np.isnan(expected_statistic("wstat", np.full(40, 3.0), none, 38)).all()
    assert np.isnan(expected_statistic("wstat", np.zeros(0), none[:, :0], 38)).all()


def test_cstat_is_dispatched():
    mu, gradients = np.linspace(0.1, 5.0, 40), np.ones((1, 40))
    assert expected_statistic("cstat", mu, gradients, 39) == expected_after_fit(mu, gradients)
