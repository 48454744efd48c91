"""Light curves find flares, keep quiet time, and never judge a bin by its length."""

import numpy as np
import pytest
from acis_events import START_S, observation

from cpxt_hpc.errors import DataError
from cpxt_hpc.io.light_curves import read_light_curves, write_light_curves
from cpxt_hpc.science.good_times import overlaps, total_time, within, without
from cpxt_hpc.science.lightcurve import LightCurve, cut_times, light_curve, quiet_bins

BIN_S = 259.28


def curve_of(counts, exposure_s=BIN_S, bin_s=BIN_S):
    counts = np.asarray(counts)
    start = bin_s * np.arange(len(counts))
    return LightCurve(start, start + bin_s, counts, np.broadcast_to(exposure_s, counts.shape).astype(float))


def quiet_of(curve, method="sigma", *, nsigma=3.0, scale=1.2):
    return quiet_bins(curve, method, nsigma=nsigma, scale=scale, bin_length_s=BIN_S)


# --- intervals


def random_intervals(rng, n):
    return np.sort(rng.uniform(0.0, 100.0, 2 * n)).reshape(-1, 2)


def test_interval_arithmetic_agrees_with_a_fine_clock():
    rng = np.random.default_rng(3)
    clock = np.arange(0.0, 100.0, 0.001) + 0.0005
    for n, m in ((1, 1), (5, 3), (2, 7), (3, 0), (0, 4)):
        first, second = random_intervals(rng, n), random_intervals(rng, m)
        in_first, in_second = (
            np.any((clock[:, None] >= each[:, 0]) & (clock[:, None] < each[:, 1]), axis=1) for each in (first, second)
        )
        assert np.array_equal(within(clock, first), in_first)
        rest = without(first, second)
        assert np.array_equal(within(clock, rest), in_first & ~in_second)
        # A tick of the clock is 0.001: each of at most 2 (n + m) edges may be off by one.
        tolerance = 0.002 * (n + m) + 1e-9
        assert total_time(rest) == pytest.approx(0.001 * np.count_nonzero(in_first & ~in_second), abs=tolerance)
        edges = np.linspace(-10.0, 110.0, 13)
        seen = 0.001 * np.histogram(clock[in_first], edges)[0]
        assert overlaps(first, edges) == pytest.approx(seen, abs=tolerance)


def test_cutting_everything_leaves_no_interval():
    assert without(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 5.0]])).shape == (0, 2)


# --- light curve


def test_counts_and_exposures_of_the_bins_add_up():
    events = observation(np.random.default_rng(1), n=5000, good_times={
        0: START_S + np.array([[0.0, 20_000.0]]), 1: START_S + np.array([[100.0, 9000.0], [12_000.0, 19_990.0]]),
    }, ccds=(0, 1))  # fmt: skip
    curve = light_curve(events["time"], events["ccd_id"], events.good_times, BIN_S)
    assert curve.counts.sum() == len(events)
    assert curve.start[0] == START_S
    lengths = {ccd: total_time(times) for ccd, times in events.good_times.items()}
    rates = {ccd: np.count_nonzero(events["ccd_id"] == ccd) / lengths[ccd] for ccd in lengths}
    mean = sum(rates[ccd] * lengths[ccd] for ccd in lengths) / sum(rates.values())
    assert curve.exposure_s.sum() == pytest.approx(mean)


def test_rate_does_not_drop_where_one_ccd_lost_frames():
    lost = {ccd: START_S + np.array([[0.0, 20_000.0]]) for ccd in (0, 2, 3)}
    lost[1] = START_S + np.array([[0.0, 5000.0], [8000.0, 20_000.0]])
    events = observation(np.random.default_rng(2), n=200_000, good_times=lost)
    curve = light_curve(events["time"], events["ccd_id"], events.good_times, BIN_S)
    inside = (curve.start > START_S + 5000.0) & (curve.stop < START_S + 8000.0)
    # 10 bins of about 1940 counts: 0.7 % each side; without the correction the rate would be 25 % low.
    assert curve.rate[inside].mean() == pytest.approx(curve.rate[~inside].mean(), rel=0.03)


def test_bins_without_exposure_are_left_out():
    times = START_S + np.array([[0.0, 1000.0], [5000.0, 6000.0]])
    curve = light_curve(times[:, 0], np.zeros(2, dtype=int), {0: times}, 500.0)
    assert np.array_equal(curve.start - START_S, [0.0, 500.0, 5000.0, 5500.0])
    assert np.array_equal(curve.counts, [1, 0, 1, 0])


def test_no_good_time_gives_an_empty_curve():
    curve = light_curve(np.zeros(0), np.zeros(0, dtype=int), {0: np.zeros((0, 2))}, BIN_S)
    assert len(curve) == 0
    assert quiet_of(curve).shape == (0,)


# --- flares


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.3, 3.0])
def test_quiet_light_curves_are_kept_at_every_rate(rate):
    rng = np.random.default_rng(17)
    kept = [quiet_of(curve_of(rng.poisson(rate * BIN_S, 116))).mean() for _ in range(200)]
    # One-sided 0.135 % on each side cut 0.27 % of the bins, and short runs beside them some more.
    assert np.mean(kept) > 0.99
    assert np.min(kept) >= 0.95


@pytest.mark.parametrize("rate", [0.15, 0.3, 3.0])
def test_flare_is_cut_with_its_edges(rate):
    rng = np.random.default_rng(23)
    for _ in range(50):
        expected = np.full(116, rate * BIN_S)
        expected[46:52] *= [3.8, 5.0, 5.0, 5.0, 5.0, 3.7]
        quiet = quiet_of(curve_of(rng.poisson(expected)))
        assert not quiet[46:52].any()
        assert quiet[:46].mean() > 0.9
        assert quiet[52:].mean() > 0.9


def test_flare_of_a_third_of_the_time_does_not_move_the_rate():
    rng = np.random.default_rng(29)
    expected = np.full(120, 80.0)
    expected[:40] *= 4.0
    quiet = quiet_of(curve_of(rng.poisson(expected)))
    assert not quiet[:40].any()
    assert quiet[40:].mean() > 0.95


def test_flare_of_half_the_time_is_cut():
    counts = np.array([400] * 20 + [100] * 20)
    assert np.array_equal(quiet_of(curve_of(counts)), counts == 100)


def test_drop_out_is_cut_too():
    counts = np.full(50, 100)
    counts[20:24] = 40
    assert np.flatnonzero(~quiet_of(curve_of(counts))).tolist() == [20, 21, 22, 23]


def test_short_bins_are_judged_by_their_counts():
    rng = np.random.default_rng(31)
    kept = []
    for _ in range(100):
        exposure = np.where(np.arange(116) % 5 == 0, 10.0, BIN_S)
        kept.append(quiet_of(curve_of(rng.poisson(0.3 * exposure), exposure))[::5].mean())
    assert np.mean(kept) > 0.98


def test_short_bins_survive_the_method_clean():
    rng = np.random.default_rng(37)
    exposure = np.where(np.arange(116) % 5 == 0, 10.0, BIN_S)
    kept = quiet_of(curve_of(rng.poisson(3.0 * exposure), exposure), "clean")
    assert kept[::5].mean() > 0.9


def test_run_of_two_good_bins_between_flares_is_cut():
    counts = np.full(60, 100)
    counts[[20, 23, 30, 34]] = 500
    cut = np.flatnonzero(~quiet_of(curve_of(counts)))
    assert cut.tolist() == [20, 21, 22, 23, 30, 34]


def test_method_clean_keeps_rates_within_the_factor():
    counts = np.array([100] * 50 + [119, 121, 82, 84, 900])
    kept = quiet_of(curve_of(counts), "clean")
    rate = np.mean(counts[counts < 200])
    assert np.array_equal(kept, (counts > rate / 1.2) & (counts < rate * 1.2))


def test_method_none_keeps_all():
    assert quiet_of(curve_of([1, 1000, 1]), "none").all()


def test_method_clean_gives_up_where_hardly_a_bin_is_left():
    counts = np.geomspace(100, 100_000, 20).astype(int)
    with pytest.raises(DataError, match=r"method = clean leaves 1 of 20 bins .* Use method = sigma"):
        quiet_of(curve_of(counts), "clean")


def test_sigma_gives_up_where_no_time_is_left():
    with pytest.raises(DataError, match="leaves no time"):
        quiet_of(curve_of([1, 1000, 1, 1000, 1, 1000]))


def test_unknown_method_is_refused():
    with pytest.raises(ValueError, match="choose sigma, clean or none"):
        quiet_of(curve_of([1]), "magic")


def test_empty_band_is_quiet():
    assert quiet_of(curve_of(np.zeros(30, dtype=int))).all()


def test_light_curves_come_back_from_the_file(tmp_path):
    curve = curve_of([5, 50, 5, 5, 5])
    quiet = np.array([True, False, True, True, True])
    bands = ((9000.0, 12_000.0), (300.0, 12_000.0))
    write_light_curves(tmp_path / "lc.fits", [(curve, quiet), (curve, ~quiet)], bands, {"METHOD": "sigma"})
    table = read_light_curves(tmp_path / "lc.fits")
    assert np.array_equal(table["pass"], [1] * 5 + [2] * 5)
    assert np.array_equal(table["kept"], np.concatenate([quiet, ~quiet]))
    assert np.array_equal(table["rate"][:5], curve.rate)
    assert table["energy_lo"][[0, 5]] == pytest.approx([9.0, 0.3])
    assert np.array_equal(cut_times(curve, quiet), [[BIN_S, 2 * BIN_S]])
