"""The network that steps from frame to frame: what it sees, what it conserves, what it takes from the data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from toy_windows import trainer, waves

from microevo.data import TrajectoryDataModule, TrajectoryStore
from microevo.models import LocalNet, StepNet


def tiny(**settings: Any) -> LocalNet:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"widths": [6], "blocks": 2, "n_past": 4, "horizon": 4, "boundary": "periodic"}
    return LocalNet(**defaults | settings).eval()


def strong(model: LocalNet, std: float = 0.3) -> LocalNet:
    """With changes as large as the fields."""
    torch.nn.init.normal_(model.net.head.conv.weight, std=std)
    return model


@pytest.mark.parametrize(
    ("blocks", "sentence"),
    [
        (1, "LocalNet sees 7 pixels to each side; in its step the process reaches about 4.5, of which it should see"),
        (4, "LocalNet sees 13 pixels to each side; in its step the process reaches about 4.5\n"),
    ],
)
def test_a_training_says_how_far_the_network_sees(
    small_store: Path, caplog: pytest.LogCaptureFixture, blocks: int, sentence: str
):
    data = TrajectoryDataModule(str(small_store), ["c"], n_past=1, n_future=2, horizon=4, batch_size=2)
    trainer(max_steps=1).fit(LocalNet(widths=[4], blocks=blocks, n_past=1, horizon=4), data)

    assert sentence in caplog.text


@pytest.mark.parametrize(
    "settings",
    [
        {"widths": (4,), "blocks": 3, "patch": 1},
        {"widths": (4,), "blocks": 3, "patch": 1, "dilations": (1, 2, 1)},
        {"widths": (4,), "blocks": 2, "patch": 2},
        {"widths": (4, 4), "blocks": 1, "patch": 1},
        {"widths": (4, 4, 4), "blocks": 1, "patch": 2},
    ],
)
def test_receptive_field_is_what_the_gradient_says(settings: dict[str, Any]):
    torch.manual_seed(0)
    net, size = StepNet(1, **settings).double(), 128
    reach = 0
    for place in range(64, 64 + net.unit):  # within a patch, pixels see unequally far
        frames = torch.rand(1, 1, 1, size, size, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(net(frames)[0, 0, place, place], frames)
        seen = gradient[0, 0, 0].abs().sum(0).nonzero().flatten()
        reach = max(reach, int((seen - place).abs().max()))
    assert reach == net.receptive_field


@pytest.mark.parametrize("head", ["free", "mean-free", "conserving"])
def test_forecasts_follow_a_shift_of_a_periodic_frame(head: str):
    model, past = strong(tiny(head=head, widths=[6, 6])), waves(frames=4)
    moved = model(past.roll((4, 8), dims=(-2, -1)), 3)
    torch.testing.assert_close(moved, model(past, 3).roll((4, 8), dims=(-2, -1)))


@pytest.mark.parametrize("head", ["conserving", "transport"])
@pytest.mark.parametrize("boundary", ["periodic", pytest.param("no-flux", marks=pytest.mark.slow)])
def test_heads_that_conserve_keep_the_mean_over_a_thousand_frames(head: str, boundary: str):
    model = strong(tiny(head=head, boundary=boundary, channels=2, patch=1), std=0.03)
    model.change_rms.fill_(0.01)
    past = torch.rand(2, 4, 2, 8, 8)
    with torch.no_grad():
        forecast = model(past, 1000)
    assert (forecast[:, -1] - past[:, -1]).abs().max() > 0.05  # it did evolve
    drift = (forecast.double() - past[:, -1:].double()).mean(dim=(-2, -1)).abs()
    assert drift.max() < 2e-6


def test_the_mean_free_head_keeps_the_mean_of_a_step():
    past = waves(frames=4)
    forecast = strong(tiny(head="mean-free"))(past, 5)
    torch.testing.assert_close(
        forecast.mean((-2, -1)), past[:, -1:].mean((-2, -1)).expand(-1, 5, -1), atol=1e-5, rtol=0
    )


def test_the_bounded_head_stays_within_the_range():
    model = strong(tiny(head="bounded", channels=2), std=3)
    model.lowest.copy_(torch.tensor([0.1, -1.0]))
    model.highest.copy_(torch.tensor([0.9, 2.0]))
    forecast = model(torch.rand(2, 4, 2, 16, 16), 6).detach()
    assert forecast[:, :, 0].min() == pytest.approx(0.1)
    assert forecast[:, :, 0].max() == pytest.approx(0.9)
    assert forecast[:, :, 1].max() <= 2


def test_walls_act_as_mirrors():
    """The forecast between walls is a quarter of that of the periodic mirror image, of a network without handedness."""
    model = strong(tiny(boundary="no-flux", patch=1, blocks=1))
    for module in model.net.modules():
        if isinstance(module, torch.nn.Conv2d):
            symmetric = sum(module.weight.flip(axes) for axes in ((), (-1,), (-2,), (-1, -2))) / 4
            module.weight.data.copy_(symmetric)
    past = torch.rand(1, 4, 1, 16, 16)
    mirrored = torch.cat([past, past.flip(-1)], dim=-1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], dim=-2)
    walls = model(past, 2)
    model.boundary = "periodic"
    model._apply_boundary()
    torch.testing.assert_close(walls, model(mirrored, 2)[..., :16, :16])


def test_several_frames_in_a_call_and_several_seen():
    model = strong(tiny(frames_per_call=3, frames_in=2))
    past = waves(frames=4)
    forecast = model(past, 7)
    assert forecast.shape == (4, 7, 1, 16, 16)
    torch.testing.assert_close(forecast[:, :3], model.step(past[:, -2:]))
    torch.testing.assert_close(forecast[:, 3:6], model.step(forecast[:, 1:3]))


def test_the_context_sees_all_past_frames():
    model, past = strong(tiny(context=3)), waves(frames=4)
    torch.nn.init.normal_(model.net.down_blocks[0][0].modulation.weight)
    other = past.clone()
    other[:, 0] = past[:, 3]
    assert not torch.allclose(model(past, 1), model(other, 1))
    assert torch.equal(strong(tiny())(past, 1), strong(tiny())(other, 1))


def test_checkpointing_changes_no_gradient():
    batch = waves(frames=8)
    gradients = []
    for checkpointing in (False, True):
        model = strong(tiny(checkpointing=checkpointing)).train()
        model.loss(batch[:, :4], batch[:, 4:]).backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("boundary", ["periodic", "no-flux"])
def test_takes_boundary_and_statistics_from_the_data(
    make_store: Callable[..., TrajectoryStore], tmp_path: Path, boundary: str
):
    store = make_store(fields=("a", "b"), frames=9, shape=(8, 8), boundary=boundary)
    data = TrajectoryDataModule(str(store.path), ["b"], n_past=4, n_future=2, horizon=4, batch_size=2)
    model = LocalNet(widths=[4], blocks=1, n_past=4, horizon=4)
    runner = trainer(max_steps=1)
    runner.fit(model, data)
    frames = np.stack([store.read(i, fields=["b"]) for i in store.split("train")])
    assert model.change_rms.item() == pytest.approx(np.sqrt(np.square(np.diff(frames, axis=1)).mean()), rel=1e-5)
    assert (model.lowest.item(), model.highest.item()) == (frames.min(), frames.max())
    assert model.net.periodic == (boundary == "periodic")

    runner.save_checkpoint(tmp_path / "model.ckpt")
    loaded = LightningModule.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert loaded.boundary == boundary
    past = torch.from_numpy(frames[:1, :4])
    torch.testing.assert_close(loaded.eval()(past, 3), model.eval()(past, 3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": []}, "widths must be at least 1"),
        ({"patch": 0}, "patch must be at least 1"),
        ({"frames_in": 5}, "frames_in must be at most n_past = 4, but it is 5"),
        ({"context": 2, "n_past": 1}, "n_past is 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        tiny(**settings)


def test_neither_forecast_nor_loss_depends_on_the_unit_of_a_field():
    frames, unit = waves(frames=8), 255.0
    of_unit = []
    for scale in (1.0, unit):
        model = strong(tiny(), std=0.05)
        model.take_statistics(torch.tensor([0.02 * scale]), torch.tensor([0.1 * scale]), torch.tensor([0.9 * scale]))
        past, future = (scale * frames).split(4, dim=1)
        of_unit.append((model.loss(past, future).item(), model(past, 4) / scale))
    torch.testing.assert_close(of_unit[1][1], of_unit[0][1])
    assert of_unit[1][0] == pytest.approx(of_unit[0][0], rel=1e-4)


def test_a_network_that_sees_one_frame_takes_any_number_of_past_frames():
    model, past = strong(tiny(n_past=1)), waves(frames=4)
    assert model.any_past
    assert not tiny(frames_in=2).any_past
    assert not tiny(context=2).any_past
    assert torch.equal(model(past, 3), model(past[:, -1:], 3))
