"""Quantities: the frames they get, what is not finite, and what is refused."""

import math

import numpy as np
import pytest
import torch

from microevo.metrics import Quantity, measure, measure_errors
from microevo.metrics.quantity import Shared, all_frames, difference, each_frame, log_ratio

MEAN = Quantity(name="mean", long_name="mean", unit="1", statistic=each_frame(np.mean))
CHANGE = Quantity(
    name="change",
    long_name="change of the mean since two frames ago",
    unit="1",
    statistic=lambda frames: np.concatenate(
        [np.full((len(frames), 2), np.nan), frames[:, 2:].mean((2, 3)) - frames[:, :-2].mean((2, 3))], axis=1
    ),
    before=2,
)
LARGEST = Quantity(
    name="largest",
    long_name="largest error",
    unit="1",
    statistic=None,
    distance=lambda p, t: np.abs(p - t).max(axis=(2, 3)),
)


@pytest.fixture(scope="module")
def past_truth_forecast():
    """Frames of two fields."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(3, n, 2, 4, 5, generator=generator) for n in (3, 6, 6))


def test_values_and_errors_of_the_chosen_field(past_truth_forecast):
    _, truth, forecast = past_truth_forecast
    for field in (0, 1):
        means = forecast[:, :, field].mean((2, 3))
        np.testing.assert_allclose(measure([MEAN], forecast, field=field)["mean"], means, rtol=1e-5)
        errors = measure_errors([MEAN, LARGEST], forecast, truth, field=field)
        torch.testing.assert_close(errors["mean"], (means - truth[:, :, field].mean((2, 3))).abs())
        torch.testing.assert_close(errors["largest"], (forecast - truth)[:, :, field].abs().amax((2, 3)))
    torch.testing.assert_close(MEAN(forecast, truth, field=1), errors["mean"])
    torch.testing.assert_close(LARGEST(forecast, truth, field=1), errors["largest"])


def test_what_looks_back_sees_the_last_past_frames(past_truth_forecast):
    past, truth, _ = past_truth_forecast
    whole = torch.cat([past, truth], dim=1)[:, :, 0].mean((2, 3))
    change = measure([CHANGE, MEAN], truth, past)["change"]
    np.testing.assert_allclose(change, whole[:, 3:] - whole[:, 1:-2], atol=1e-6)
    with pytest.raises(ValueError, match="looks back over 2 frames, but past has 1; give more"):
        measure([CHANGE], truth, past[:, :1])


def test_wrong_input_is_refused(past_truth_forecast):
    _, truth, forecast = past_truth_forecast
    with pytest.raises((ValueError, TypeError)):  # the shape hints raise TypeError first where they are checked
        measure_errors([MEAN], forecast[:, :5], truth)
    with pytest.raises(ValueError, match="field must be one of the 2 fields, counted from 0, but it is 2"):
        measure([MEAN], truth, field=2)


@pytest.mark.parametrize("lift", [lambda f: each_frame(lambda u: f(u[None])[0]), all_frames])
def test_functions_never_see_frames_that_are_not_finite(lift):
    seen = []

    def function(frames):
        seen.append(np.isfinite(frames).all())
        return frames.sum(axis=(1, 2))

    frames = np.ones((2, 3, 4, 4))
    frames[0, 1, 2, 2], frames[1, 2, 0, 0] = math.nan, -math.inf
    np.testing.assert_array_equal(lift(function)(frames), [[16, np.nan, 16], [16, 16, np.nan]])
    assert all(seen)
    assert np.isnan(lift(function)(np.full((2, 3, 4, 4), np.nan))).all()


def test_many_frames_are_measured_a_few_at_a_time():
    sizes = []

    def curves(frames):
        sizes.append(len(frames))
        return frames.mean(axis=1)

    frames = np.random.default_rng(0).random((3, 7, 4, 5))
    np.testing.assert_array_equal(all_frames(curves, at_once=4)(frames), frames.mean(axis=2))
    assert max(sizes) == 4
    assert sum(sizes) == 21


def test_a_shared_step_is_taken_once_for_each_of_two_arrays():
    taken = []
    shared = Shared(lambda frames: taken.append(1) or frames.sum())
    one, other = np.ones(3), np.zeros(3)
    assert [shared(x) for x in (one, other, one, other, one)] == [3, 0, 3, 0, 3]
    assert len(taken) == 2


def test_distances_by_hand():
    one, other = np.array([[1.0, 0.0, -3.0]]), np.array([[2.0, 0.0, 0.0]])
    assert difference(one, other).tolist() == [[1, 0, 3]]
    powers = np.array([[3.0, 0.0, 0.0]]), np.array([[0.0, 3.0, 0.0]])
    np.testing.assert_allclose(log_ratio(*powers, floor=1.0), [[math.log(4), math.log(4), 0]])
    assert log_ratio(np.array([[1e-9]]), np.array([[1e-12]]), floor=1.0).item() < 1e-8  # both are far below the floor


def test_arrays_are_measured_as_tensors_are(past_truth_forecast):
    past, truth, forecast = past_truth_forecast
    arrays = [frames.numpy() for frames in past_truth_forecast]
    for name, values in measure([CHANGE, MEAN], truth, past).items():
        np.testing.assert_array_equal(measure([CHANGE, MEAN], arrays[1], arrays[0])[name], values)
    metrics = [CHANGE, LARGEST]
    for name, error in measure_errors(metrics, forecast, truth, past).items():
        torch.testing.assert_close(
            measure_errors(metrics, arrays[2], arrays[1], arrays[0])[name], error, rtol=0, atol=0
        )
    for metric in metrics:
        torch.testing.assert_close(metric(arrays[2], arrays[1], arrays[0]), metric(forecast, truth, past))
