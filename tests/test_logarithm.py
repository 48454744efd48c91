import numpy as np
import pytest

from cpxt_hpc.fitting.logarithm import weighted_log_sum
from cpxt_hpc.science.compiled import compiled


@compiled
def log_sum(weight, x):
    return weighted_log_sum(weight, x)


def test_every_logarithm_is_good_to_the_last_digit():
    rng = np.random.default_rng(1)
    near_one = 1.0 + np.concatenate([rng.normal(0, 0.2, 2000), rng.normal(0, 1e-7, 500)])
    edges = np.array([1.0, 2.0, 0.5, np.sqrt(2), np.sqrt(0.5), 1e-300, 1e300])
    x = np.abs(np.concatenate([10.0 ** rng.uniform(-30, 30, 2000), near_one, edges, np.nextafter(edges, 3.0)]))
    one = np.ones(1)
    ours = np.array([log_sum(one, value) for value in x.reshape(-1, 1)])
    # Two units in the last place of a double, of the logarithm or of 1.
    assert np.all(np.abs(ours - np.log(x)) <= 4.5e-16 * np.maximum(np.abs(np.log(x)), 1.0))


def test_the_sum_is_that_of_the_weighted_logarithms():
    rng = np.random.default_rng(2)
    for n in (0, 1, 7, 500):
        weight, x = rng.integers(1, 20, n).astype(float), rng.exponential(1.0, n) + 1e-3
        assert log_sum(weight, x) == pytest.approx(np.sum(weight * np.log(x)), rel=1e-13, abs=1e-12)


def test_what_is_no_number_stays_none():
    for bad in (np.nan, np.inf):
        assert not np.isfinite(log_sum(np.ones(3), np.array([1.0, bad, 2.0])))
