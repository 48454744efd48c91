"""The background template: positive, normalised, unbiased, and narrow enough for fluorescence lines."""

import numpy as np
import pytest

from cpxt_hpc.science.template import background_template

CHANNEL = np.arange(1, 1025)


def blank_sky_shape(total):
    """A continuum with the ACIS lines of gold at 2.1 and nickel at 7.5 keV, 150 eV wide; sum `total`."""
    energy = (CHANNEL - 0.5) * 0.0146
    lines = sum(
        height * np.exp(-0.5 * ((energy - centre) / 0.064) ** 2) for centre, height in ((2.14, 1.5), (7.47, 3.0))
    )
    shape = 0.5 + 1.0 / energy + lines
    return total * shape / shape.sum()


@pytest.mark.parametrize("total", [0, 1, 30, 3_000, 300_000, 10_000_000])
def test_a_template_is_strictly_positive_and_sums_to_one(total):
    counts = np.random.default_rng(1).poisson(blank_sky_shape(total)).astype(float)
    template = background_template(counts, enough_counts=400, max_channels=5)
    assert np.all(template > 0)
    assert template.sum() == pytest.approx(1.0, abs=1e-12)


def test_a_rich_spectrum_is_not_smoothed():
    counts = np.random.default_rng(2).poisson(blank_sky_shape(10_000_000)).astype(float)
    template = background_template(counts, enough_counts=400, max_channels=5)
    np.testing.assert_allclose(template, counts / counts.sum(), rtol=1e-12)


def test_a_poor_spectrum_is_smoothed_over_the_widest_window_and_no_more():
    counts = np.zeros(101)
    counts[50] = 12.0
    template = background_template(counts, enough_counts=400, max_channels=5)
    assert template[48:53] == pytest.approx(np.full(5, template[50]))
    assert template[47] < 0.5 * template[50]


@pytest.mark.parametrize(("level", "window"), [(500.0, 1), (200.0, 3), (100.0, 5), (10.0, 5)])
def test_the_window_is_the_narrowest_that_holds_enough_counts(level, window):
    # A spike of one count more than the flat level shows how far a channel is spread.
    flat = np.full(61, level)
    spike = flat.copy()
    spike[30] += 1.0
    spread = background_template(spike, enough_counts=400, max_channels=5) * spike.sum() - flat
    assert np.count_nonzero(spread > 0.5 / window) == window


def test_lines_keep_their_height_and_counts():
    truth = blank_sky_shape(40_000.0)  # some 40 counts a channel: the widest window everywhere
    template = background_template(truth, enough_counts=400, max_channels=5) * truth.sum()
    line = slice(495, 528)
    assert template[line].sum() == pytest.approx(truth[line].sum(), rel=0.005)
    # A top hat of 5 channels broadens a line of sigma 4.4 channels by 5 %.
    assert template[line].max() > 0.94 * truth[line].max()


def test_smoothing_is_unbiased_over_many_noisy_spectra():
    # The mean lies where the window changes, 100 to 200 counts a channel: the worst place for a biased choice.
    rng = np.random.default_rng(4)
    truth = np.linspace(80.0, 180.0, 200)
    mean = np.zeros(200)
    n = 400
    for _ in range(n):
        counts = rng.poisson(truth).astype(float)
        mean += background_template(counts, enough_counts=400, max_channels=5) * counts.sum() / n
    # 400 spectra of 130 counts a channel: 0.4 % a channel before smoothing; ends differ by the cut windows.
    deviation = mean[5:-5] / truth[5:-5] - 1.0
    assert abs(deviation.mean()) < 0.001
    assert abs(deviation).max() < 0.015


def test_an_empty_spectrum_gives_a_flat_template():
    assert background_template(np.zeros(4), enough_counts=400, max_channels=5).tolist() == [0.25] * 4


def test_one_channel_is_a_template_too():
    assert background_template(np.array([3.0]), enough_counts=400, max_channels=5).tolist() == [1.0]


@pytest.mark.parametrize("counts", [[], [1.0, -1.0], [np.nan, 1.0], [[1.0, 2.0]]])
def test_spectra_that_cannot_be_right_are_refused(counts):
    with pytest.raises(ValueError, match="one row of finite counts"):
        background_template(np.array(counts), enough_counts=400, max_channels=5)
