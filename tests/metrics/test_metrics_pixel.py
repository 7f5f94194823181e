"""PSNR, correlation and correlation time: values by hand, NumPy and scikit-image, what is not finite."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from microevo.metrics import absolute_error, correlation, correlation_time, psnr, relative_l2, squared_error, ssim


@pytest.fixture(scope="module")
def frames():
    """Three forecasts of four frames, ever noisier, and the truth."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 4, 2, 12, 10, generator=generator)
    noise = torch.randn(truth.shape, generator=generator)
    return truth + 0.2 * torch.arange(1, 5).view(4, 1, 1, 1) * noise, truth


def test_psnr_by_hand():
    target = torch.zeros(1, 1, 1, 2, 2)
    prediction = torch.tensor([[0.2, 0.0], [0.0, 0.0]]).view(1, 1, 1, 2, 2)
    assert psnr(prediction, target).item() == pytest.approx(20.0)  # mean squared error 0.01
    assert psnr(prediction, target, data_range=10.0).item() == pytest.approx(40.0)
    assert psnr(target, target).item() == math.inf


def test_psnr_agrees_with_scikit_image(frames):
    expected = [
        [peak_signal_noise_ratio(t.numpy(), p.numpy(), data_range=0.7) for p, t in zip(*pair, strict=True)]
        for pair in zip(*frames, strict=True)
    ]
    np.testing.assert_allclose(psnr(*frames, data_range=0.7), expected, rtol=1e-5)


def test_psnr_refuses_a_range_of_zero(frames):
    with pytest.raises(ValueError, match="data_range must be positive"):
        psnr(*frames, data_range=0.0)


def test_correlation_agrees_with_numpy(frames):
    expected = [
        [
            np.mean([np.corrcoef(p[c].ravel(), t[c].ravel())[0, 1] for c in range(2)])
            for p, t in zip(prediction.numpy(), target.numpy(), strict=True)
        ]
        for prediction, target in zip(*frames, strict=True)
    ]
    np.testing.assert_allclose(correlation(*frames), expected, atol=2e-6)


def test_correlation_is_blind_to_mean_and_contrast_and_sees_the_sign(frames):
    truth = frames[1]
    torch.testing.assert_close(correlation(3 * truth - 7, truth), torch.ones(3, 4))
    torch.testing.assert_close(correlation(-truth, truth), -torch.ones(3, 4))


@pytest.mark.parametrize("level", [0.0, 0.7, 1e4])
def test_a_blank_forecast_has_no_correlation_unless_the_truth_is_as_blank(frames, level):
    blank = torch.full_like(frames[1], level)
    assert correlation(blank, frames[1]).tolist() == [[0.0] * 4] * 3
    assert correlation(frames[1], blank).tolist() == [[0.0] * 4] * 3
    assert correlation(blank, blank.clone()).tolist() == [[1.0] * 4] * 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_frame_that_is_not_finite_has_no_value(frames, value):
    prediction = frames[0].clone()
    prediction[1, 2, 0, 3, 4] = value
    measured = correlation(prediction, frames[1])
    assert torch.isnan(measured).nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("metric", [psnr, correlation])
def test_no_value_depends_on_the_batch(metric, frames):
    parts = torch.cat([metric(p[None], t[None]) for p, t in zip(*frames, strict=True)])
    torch.testing.assert_close(parts, metric(*frames), rtol=1e-6, atol=0)


@pytest.mark.parametrize("metric", [squared_error, absolute_error, relative_l2, ssim, psnr, correlation])
def test_arrays_are_measured_as_tensors_are(metric):
    truth = np.random.default_rng(0).random((2, 3, 1, 12, 11))
    forecast = truth[:, :, :, ::-1]  # torch knows no reversed arrays
    truth.flags.writeable = False
    expected = metric(torch.from_numpy(forecast.copy()), torch.from_numpy(truth.copy()))
    torch.testing.assert_close(metric(forecast, truth), expected, rtol=0, atol=0)
    torch.testing.assert_close(metric(forecast, torch.from_numpy(truth.copy())), expected, rtol=0, atol=0)


def test_correlation_time_of_an_array():
    assert correlation_time(np.array([[1.0, 0.9, 0.7]])).lead.tolist() == [3]


def test_correlation_time_by_hand():
    values = torch.tensor(
        [
            [1.0, 0.9, 0.79, 0.95],  # comes back, but has been lost
            [0.5, 0.4, 0.3, 0.2],
            [1.0, 0.8, 0.8, 0.8],  # at the threshold is not under it
            [0.9, math.nan, 0.9, 0.9],  # a forecast that is not finite has lost the pattern
        ]
    )
    answer = correlation_time(values, 0.8)
    assert answer.lead.tolist() == [3, 1, 5, 2]
    assert answer.censored.tolist() == [False, False, True, False]
    assert correlation_time(values, 0.95).lead.tolist() == [2, 1, 2, 1]


def test_a_longer_kept_pattern_never_lowers_the_mean_correlation_time():
    """What leaving censored forecasts out of the mean would do."""
    early, kept = torch.tensor([[0.9, 0.1, 0.1]]), torch.tensor([[0.9, 0.9, 0.9]])
    worse = torch.cat([early, torch.tensor([[0.9, 0.9, 0.1]])])
    better = torch.cat([early, kept])
    assert correlation_time(better).lead.mean() > correlation_time(worse).lead.mean()
