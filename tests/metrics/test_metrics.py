"""Metrics: values by hand, independence of batches, processes and precision, agreement with libraries."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from microevo.metrics import LeadMetric, absolute_error, find, relative_l2, squared_error, ssim

METRICS = ("mse", "rmse", "mae", "ssim", "psnr", "relative_l2", "correlation")
GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.npz"


@pytest.fixture(scope="module")
def frames():
    """Seven samples of four noisy frames, and the truth."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(7, 4, 2, 16, 13, generator=generator)
    noise = torch.randn(truth.shape, generator=generator)
    return truth + 0.1 * torch.arange(1, 5).view(4, 1, 1, 1) * noise, truth


def test_two_by_two_frame_by_hand():
    target = torch.tensor([[1.0, 2.0], [2.0, 4.0]]).view(1, 1, 1, 2, 2)
    prediction = target + torch.tensor([[1.0, 3.0], [0.0, 0.0]])  # of norm 7, the truth of norm 5
    assert squared_error(prediction, target).item() == 2.5
    assert absolute_error(prediction, target).item() == 1.0
    assert relative_l2(prediction, target).item() == pytest.approx(10**0.5 / 5)


@pytest.mark.parametrize("metric", METRICS)
def test_equal_frames_score_best(metric, frames):
    measure = LeadMetric(metric, horizon=4)
    measure.update(frames[1], frames[1].clone())
    best = {"psnr": np.inf, "ssim": 1.0, "correlation": 1.0}.get(metric, 0.0)
    assert find(metric).better == ("higher" if best else "lower")
    torch.testing.assert_close(measure.compute(), torch.full((4,), best, dtype=torch.float64))


@pytest.mark.parametrize("metric", METRICS)
def test_arrays_are_measured_as_tensors_are(metric, frames):
    arrays, tensors = LeadMetric(metric, horizon=4), LeadMetric(metric, horizon=4)
    arrays.update(*(array.numpy() for array in frames))
    tensors.update(*frames)
    torch.testing.assert_close(arrays.compute(), tensors.compute(), rtol=0, atol=0)


def test_relative_l2_is_over_all_fields_together():
    """Norms of the truth 4 and 3, together 5; of the error 4 and 0: 4/5, where a mean over fields would be 1/2."""
    target, prediction = torch.zeros(2, 1, 1, 2, 2, 2)
    target[..., 0, 0, 0], target[..., 1, 1, 1] = 4.0, 3.0
    prediction[..., 1, 1, 1] = 3.0
    assert relative_l2(prediction, target).item() == pytest.approx(0.8)
    assert relative_l2(prediction[:, :, [1, 0]], target[:, :, [1, 0]]).item() == pytest.approx(0.8)


def test_relative_l2_of_a_zero_frame():
    target = torch.zeros(1, 2, 1, 2, 2)
    prediction = target.clone()
    prediction[:, 1] = 0.1
    assert relative_l2(prediction, target).tolist() == [[0.0, float("inf")]]


def test_rmse_is_the_root_of_the_mean_over_samples():
    target = torch.zeros(2, 1, 1, 2, 2)
    prediction = target + torch.tensor([3.0, 4.0]).view(2, 1, 1, 1, 1)
    measure = LeadMetric("rmse", horizon=1)
    measure.update(prediction, target)
    assert measure.compute().item() == pytest.approx(12.5**0.5)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("split", [[7], [3, 3, 1], [1] * 7, [6, 1]])
def test_any_batch_size_gives_the_same(metric, split, frames):
    whole, parts = LeadMetric(metric, horizon=4), LeadMetric(metric, horizon=4)
    whole.update(*frames)
    for prediction, target in zip(frames[0].split(split), frames[1].split(split), strict=True):
        parts(prediction, target)
    torch.testing.assert_close(parts.compute(), whole.compute(), rtol=1e-6, atol=0)


def test_agrees_with_reference_numbers():
    golden = np.load(GOLDEN)
    prediction, target = torch.from_numpy(golden["pred"]), torch.from_numpy(golden["true"])
    per_frame = squared_error(prediction, target).numpy()
    np.testing.assert_allclose(per_frame, golden["mean_squared_error_per_frame"], rtol=1e-5)
    mse, mae = LeadMetric("mse", horizon=4), LeadMetric("mae", horizon=4)
    mse.update(prediction, target)
    mae.update(prediction, target)
    assert mse.compute().mean() == pytest.approx(golden["spatial_norm/mse"], rel=1e-5)
    assert mse.compute().mean().sqrt() == pytest.approx(golden["spatial_norm/rmse"], rel=1e-5)
    assert mae.compute().mean() == pytest.approx(golden["spatial_norm/mae"], rel=1e-5)
    pixels = np.prod(golden["true"].shape[2:])
    assert mse.compute().mean() * pixels == pytest.approx(golden["summed/mse"], rel=1e-5)


def test_ssim_agrees_with_scikit_image(frames):
    """scikit-image drops the outer 5 pixels: frames mirrored by 5 pixels give our mean over the frame."""
    prediction, target = (np.pad(array.numpy(), [(0, 0)] * 3 + [(5, 5)] * 2, mode="reflect") for array in frames)
    expected = [
        structural_similarity(
            p,
            t,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=0.8,
        )
        for p, t in zip(prediction[:, 3], target[:, 3], strict=True)
    ]
    np.testing.assert_allclose(ssim(*frames, data_range=0.8)[:, 3], expected, atol=2e-6)


def test_ssim_depends_on_the_data_range(frames):
    assert (ssim(*frames, data_range=2.0) > ssim(*frames, data_range=1.0)).all()


def test_ssim_has_a_gradient(frames):
    prediction = frames[0][:1].clone().requires_grad_()
    (1 - ssim(prediction, frames[1][:1])).mean().backward()
    assert prediction.grad is not None
    assert prediction.grad.abs().sum() > 0


def test_frames_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="at least 11 x 11 pixels, got 10 x 16"):
        ssim(torch.zeros(1, 1, 1, 10, 16), torch.zeros(1, 1, 1, 10, 16))


def test_a_data_range_of_zero_is_refused():
    with pytest.raises(ValueError, match="data_range must be positive"):
        ssim(torch.zeros(1, 1, 1, 16, 16), torch.zeros(1, 1, 1, 16, 16), data_range=0.0)


def test_a_wrong_horizon_is_refused(frames):
    with pytest.raises(ValueError, match="horizon of 5 frames, got 4"):
        LeadMetric("mse", horizon=5).update(*frames)
    with pytest.raises(ValueError, match="at least 1 frame"):
        LeadMetric("mse", horizon=0)


def test_shapes_that_would_broadcast_are_refused(frames):
    with pytest.raises((ValueError, TypeError)):  # the shape hints raise TypeError first where they are checked
        squared_error(frames[0][:, :, :1], frames[1])


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_compute_before_update_is_nan():
    assert LeadMetric("mse", horizon=3).compute().isnan().all()


@pytest.mark.parametrize("metric", METRICS)
def test_half_precision_does_not_round(metric, frames):
    holder = torch.nn.Module()
    holder.metric = LeadMetric(metric, horizon=4)
    holder.half().bfloat16().to(torch.float16)
    prediction, target = (array.to(torch.bfloat16) for array in frames)
    with torch.autocast("cpu", torch.bfloat16):
        holder.metric.update(prediction, target)
    reference = LeadMetric(metric, horizon=4)
    reference.update(prediction.float(), target.float())
    holder.float()
    assert holder.metric.total.dtype == torch.float64
    torch.testing.assert_close(holder.metric.compute(), reference.compute())
    holder.metric.reset()
    assert holder.metric.total.dtype == torch.float64
    assert holder.metric.total.sum() == 0


@pytest.mark.gpu
@pytest.mark.parametrize("metric", METRICS)
def test_cuda_agrees_with_the_cpu(metric, frames):
    gpu, cpu = LeadMetric(metric, horizon=4).to("cuda"), LeadMetric(metric, horizon=4)
    gpu.update(*(array.cuda() for array in frames))
    cpu.update(*frames)
    torch.testing.assert_close(gpu.compute().cpu(), cpu.compute(), rtol=1e-5, atol=1e-6)


RANK = """
import json, sys, torch, torch.distributed as dist
from microevo.metrics import LeadMetric
rank, store, inputs = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
prediction, target = torch.load(inputs)
answers = {}
for metric in sys.argv[4].split(","):
    measure = LeadMetric(metric, horizon=4)
    for sample in range(rank, len(target), 2):
        measure.update(prediction[sample : sample + 1], target[sample : sample + 1])
    answers[metric] = measure.compute().tolist()
print(json.dumps(answers))
dist.destroy_process_group()
"""


@pytest.mark.slow  # two processes
def test_two_processes_with_uneven_samples_agree_with_one(frames, tmp_path):
    torch.save(frames, tmp_path / "frames.pt")
    ranks = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                RANK,
                str(rank),
                str(tmp_path / "store"),
                str(tmp_path / "frames.pt"),
                ",".join(METRICS),
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for rank in range(2)
    ]
    answers = [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in ranks]
    assert answers[0] == answers[1]
    for metric in METRICS:
        whole = LeadMetric(metric, horizon=4)
        whole.update(*frames)
        np.testing.assert_allclose(answers[0][metric], whole.compute(), rtol=1e-6)
