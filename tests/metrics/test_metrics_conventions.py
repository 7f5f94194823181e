"""Published conventions: the numbers of the reference implementations, scikit-image, and cases by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.measure import label
from skimage.metrics import structural_similarity
from skimage.transform import resize

from microevo.metrics import compat
from microevo.metrics.compat import (
    leapsr_microevoeval,
    letap_microevoeval,
    mae_openstl,
    microevoeval_total,
    mse_openstl,
    psnr_openstl,
    snr_openstl,
    ssim_gaussian_openstl,
    ssim_openstl,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.npz"


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


@pytest.fixture(scope="module")
def frames(golden):
    return torch.from_numpy(golden["pred"]), torch.from_numpy(golden["true"])


def test_openstl_numbers_are_the_published_implementations(golden, frames):
    assert mse_openstl(*frames).mean() == pytest.approx(golden["summed/mse"], rel=1e-6)
    assert mse_openstl(*frames).mean().sqrt() == pytest.approx(golden["summed/rmse"], rel=1e-6)
    assert mae_openstl(*frames).mean() == pytest.approx(golden["summed/mae"], rel=1e-6)
    assert psnr_openstl(*frames).mean() == pytest.approx(golden["summed/psnr"], rel=1e-6)
    assert snr_openstl(*frames).mean() == pytest.approx(golden["summed/snr"], rel=1e-6)
    assert ssim_openstl(*frames).mean() == pytest.approx(golden["ssim_uniform7_data_range_2"], rel=1e-6)
    assert ssim_openstl(*frames, data_range=1.0).mean() == pytest.approx(golden["ssim_uniform7_data_range_1"], rel=1e-6)
    assert ssim_gaussian_openstl(*frames).mean() == pytest.approx(golden["ssim_gaussian11_c255"], rel=1e-6)


def test_openstl_numbers_of_denormalised_frames(golden, frames):
    pair = [x * golden["denormalised/std"].item() + golden["denormalised/mean"].item() for x in frames]
    assert mse_openstl(*pair).mean() == pytest.approx(golden["denormalised/mse"], rel=1e-5)
    assert mae_openstl(*pair).mean() == pytest.approx(golden["denormalised/mae"], rel=1e-5)
    assert psnr_openstl(*pair).mean() == pytest.approx(golden["denormalised/psnr"], rel=1e-5)


def test_ssim_openstl_agrees_with_scikit_image_frame_by_frame(frames):
    prediction, target = (x.numpy() for x in frames)
    for b, t in np.ndindex(*target.shape[:2]):
        pair = target[b, t], prediction[b, t].clip(0, 1)
        expected = structural_similarity(*pair, channel_axis=0, data_range=2.0)
        assert ssim_openstl(*frames)[b, t] == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("metric", [ssim_openstl, ssim_gaussian_openstl])
def test_frames_smaller_than_the_window_are_refused(metric):
    with pytest.raises(ValueError, match="needs frames of at least"):
        metric(torch.zeros(1, 1, 1, 6, 16), torch.zeros(1, 1, 1, 6, 16))


@pytest.mark.parametrize(
    "metric", [mse_openstl, mae_openstl, psnr_openstl, snr_openstl, ssim_openstl, letap_microevoeval]
)
def test_no_value_depends_on_the_batch(metric, frames):
    pair = [x[:, :, :1] for x in frames]
    parts = torch.cat([metric(p[None], t[None]) for p, t in zip(*pair, strict=True)])
    torch.testing.assert_close(parts, metric(*pair), rtol=1e-6, atol=0)


# ----------------------------------------------------------- MicroEvoEval


def bars(count: int, side: int = 64) -> torch.Tensor:
    """Bright bars, `count` of them, 5 px wide with dark lines of 2 px between."""
    frame = torch.zeros(side, side)
    for i in range(count):
        frame[4:-4, 3 + 7 * i : 8 + 7 * i] = 1
    return frame.view(1, 1, 1, side, side)


def test_letap_by_hand():
    target = torch.full((1, 1, 1, 4, 4), 0.9)
    target[..., 0, :] = 0.1  # a quarter of it is dark
    prediction = torch.full((1, 1, 1, 4, 4), 0.5)
    prediction[..., :2, :] = 0.45  # half of it, once it is stretched to [0, 1]
    assert letap_microevoeval(prediction, target).item() == pytest.approx(0.25)
    assert letap_microevoeval(target, target).item() == 0
    # The truth is not stretched: all of it is dark here.
    assert letap_microevoeval(target, 0.3 * target).item() == pytest.approx(0.75)


def test_leapsr_by_hand():
    four, five = bars(4), bars(5)
    assert leapsr_microevoeval(five, four).item() == pytest.approx(1 / 4 - 1 / 5)
    assert leapsr_microevoeval(four, four).item() == 0
    # Only the pattern counts, not contrast or mean.
    assert leapsr_microevoeval(0.2 * four - 3, four).item() == 0


def test_leapsr_counts_outermost_outlines_only():
    ring = torch.zeros(64, 64)
    ring[10:50, 10:50] = 1
    ring[18:42, 18:42] = 0
    ring[25:35, 25:35] = 1  # a grain inside the ring: no outline of its own
    assert leapsr_microevoeval(ring.view(1, 1, 1, 64, 64), bars(2)).item() == pytest.approx(1 - 1 / 2)


def test_the_enlargement_is_bilinear():
    image = (np.random.default_rng(0).random((66, 66)) > 0.5).astype(np.uint8) * np.uint8(255)
    exact = resize(image.astype(float), (256, 256), order=1, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(compat._enlarged(image), exact, atol=1.0)


def test_bright_regions_agree_with_scikit_image_where_nothing_is_in_doubt():
    """Blobs far apart survive any rounding of the enlargement."""
    generator = np.random.default_rng(1)
    for _ in range(5):
        frame = np.kron(generator.random((8, 8)) > 0.6, np.pad(np.ones((6, 6)), 1))
        target = torch.from_numpy(frame).float().view(1, 1, 1, 64, 64)
        count = label(frame > 0.5, connectivity=2).max()
        assert leapsr_microevoeval(target, bars(1)).item() == pytest.approx(1 - 1 / count)


def test_the_published_number_is_a_root_of_a_sum():
    values = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert microevoeval_total(values).item() == 5
    assert math.isnan(microevoeval_total(torch.tensor([[1.0, math.nan]])).item())


@pytest.mark.parametrize("metric", [letap_microevoeval, leapsr_microevoeval])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_frames_that_are_not_finite_or_blank_have_no_value(metric, value):
    target = bars(3).expand(1, 4, 1, 64, 64)
    prediction = target.clone()
    prediction[0, 1, 0, 5, 5] = value
    prediction[0, 2] = 0.5
    assert torch.isnan(metric(prediction, target))[0].tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    "metric",
    [
        mse_openstl,
        mae_openstl,
        psnr_openstl,
        snr_openstl,
        ssim_openstl,
        ssim_gaussian_openstl,
        letap_microevoeval,
        leapsr_microevoeval,
    ],
)
def test_arrays_and_tensors_with_a_gradient_are_measured_as_tensors_are(metric):
    forecast, truth = bars(5), bars(4)
    expected = metric(forecast, truth)
    torch.testing.assert_close(metric(forecast.numpy(), truth.numpy()), expected, rtol=0, atol=0)
    torch.testing.assert_close(metric(forecast.clone().requires_grad_(), truth).detach(), expected, rtol=0, atol=0)


def test_the_published_number_of_an_array():
    assert microevoeval_total(np.array([[3.0, 4.0]])).item() == 5


@pytest.mark.parametrize("metric", [letap_microevoeval, leapsr_microevoeval])
def test_two_fields_are_refused(metric):
    with pytest.raises(ValueError, match="defined for one field, but there are 2"):
        metric(torch.zeros(1, 1, 2, 16, 16), torch.zeros(1, 1, 2, 16, 16))
