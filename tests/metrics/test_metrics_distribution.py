"""Distances of distributions and trends: by hand, scipy and NumPy."""

import numpy as np
import pytest
from scipy.stats import linregress, wasserstein_distance

from microevo.metrics import growth_exponent, histogram, slope, total_variation, wasserstein

EDGES = np.linspace(0, 5, 11)


def test_by_hand():
    one, other = np.array([2.0, 2.0, 0.0, 0.0]), np.array([0.0, 1.0, 1.0, 0.0])
    assert total_variation(one, other) == 0.5
    assert wasserstein(one, other, np.array([0.0, 2.0, 4.0, 6.0, 8.0])) == 2  # half the mass by two bins of 2
    assert total_variation(one, 7 * one) == wasserstein(one, 7 * one, np.arange(5.0)) == 0
    assert total_variation(np.array([1.0, 0]), np.array([0, 5.0])) == 1


def test_samples_beyond_the_edges_count_in_the_outermost_bins():
    assert histogram(np.array([-3.0, 0.2, 9.0, np.nan]), np.array([0.0, 1.0, 2.0])).tolist() == [2, 1]


def test_wasserstein_agrees_with_scipy():
    generator = np.random.default_rng(0)
    one, other = generator.gamma(2, 0.5, 400), generator.gamma(4, 0.4, 300)
    counts = [histogram(samples, EDGES) for samples in (one, other)]
    middles = (EDGES[1:] + EDGES[:-1]) / 2
    assert wasserstein(*counts, EDGES) == pytest.approx(wasserstein_distance(middles, middles, *counts))
    assert wasserstein(*counts, EDGES) == pytest.approx(wasserstein_distance(one, other), abs=0.05)


def test_counts_of_parts_add_up():
    samples = np.random.default_rng(1).random(50) * 5
    parts = sum(histogram(part, EDGES) for part in np.split(samples, [7, 20]))
    np.testing.assert_array_equal(parts, histogram(samples, EDGES))


def test_empty_and_unknown_distributions():
    empty, some = np.zeros(10), np.ones(10)
    for distance in (total_variation, lambda p, t: wasserstein(p, t, EDGES)):
        assert distance(empty, empty) == 0
        for other in (some, empty):
            assert np.isnan(distance(np.full(10, np.nan), other))
            assert np.isnan(distance(other, np.full(10, np.nan)))
    for pair in ((empty, some), (some, empty)):
        assert total_variation(*pair) == 1  # nothing in common
        assert wasserstein(*pair, EDGES) == 5  # the width of the bins, more than any two distributions have
    rows = np.stack([empty, some, empty]), np.stack([empty, some, some])
    assert total_variation(*rows).tolist() == [0, 0, 1]
    assert wasserstein(*rows, EDGES).tolist() == [0, 0, 5]


def test_curves_in_any_number_of_axes():
    stack = np.random.default_rng(2).random((3, 4, 10))
    assert total_variation(stack, stack[::-1]).shape == (3, 4)
    assert wasserstein(stack, stack[::-1], EDGES).shape == (3, 4)


def test_slope_agrees_with_scipy():
    generator = np.random.default_rng(3)
    times, values = np.arange(3.0, 23), generator.random((2, 20))
    expected = [linregress(times, row).slope for row in values]
    np.testing.assert_allclose(slope(values, times), expected)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("fit", [slope, growth_exponent])
def test_a_single_time_has_no_slope(fit):
    assert np.isnan(fit(np.array([[2.0], [3.0]]), np.array([7.0]))).tolist() == [True, True]


def test_growth_exponent_of_a_power_law():
    times = np.arange(40.0, 130)
    np.testing.assert_allclose(growth_exponent(np.stack([3 * times ** (1 / 3), times**0.5]), times), [1 / 3, 1 / 2])
    assert np.isnan(growth_exponent(np.stack([times - 40]), times)).all()
    with pytest.raises(ValueError, match="times after the quench"):
        growth_exponent(times[None], times - 40)


@pytest.mark.parametrize(("last", "known"), [(119, False), (120, True)])
def test_an_exponent_needs_times_that_differ_by_a_factor_of_three(last, known):
    """A short window gives anything: a droplet more or less decides."""
    times = np.arange(40.0, last + 1)
    assert np.isfinite(growth_exponent(times[None] ** 0.5, times)).tolist() == [known]
