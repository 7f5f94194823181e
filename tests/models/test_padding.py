"""What networks see beyond the border of a frame, and increments: the physics that a published network can be given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from toy_windows import trainer, waves

from microevo.data import TrajectoryDataModule, TrajectoryStore
from microevo.models import E3DLSTM, FCN, TAU, BlockwiseForecaster, ConvLSTM, Forecaster, LocalNet, PredRNN, SimVP, UNet
from microevo.models.continuation import continued
from microevo.models.padding import continue_borders, padded

# One cell of each family; in `patch_size` pixels.
RECURRENT: dict[type[Forecaster], dict[str, Any]] = {
    ConvLSTM: {"hidden": [4], "filter_size": 5, "patch_size": 2},
    PredRNN: {"hidden": 4, "layers": 2, "filter_size": 5, "patch_size": 2},
    E3DLSTM: {"hidden": 4, "layers": 1, "filter_size": 5, "patch_size": 2},
}
SMALL = {"hid_s": 4, "hid_t": 8, "n_s": 2}
TINY: dict[type[Forecaster], dict[str, Any]] = {
    FCN: SMALL | {"n_t": 2},
    TAU: SMALL | {"n_t": 2},
    SimVP: SMALL | {"n_t": 1},
    UNet: {"widths": [8, 8], "frames_per_call": 3},
}


def tiny(kind: type[Forecaster], **settings: Any) -> Forecaster:
    torch.manual_seed(0)
    return kind(**({"n_past": 4, "horizon": 4} | (TINY | RECURRENT).get(kind, {}) | settings)).eval()


@pytest.mark.parametrize("kind", [*TINY, ConvLSTM, PredRNN])
def test_with_the_borders_of_the_physics_a_forecast_follows_a_shift(kind: type[Forecaster]):
    past = waves(samples=2, frames=4)
    moved = past.roll((4, -6), dims=(-2, -1))
    for padding, follows in (("boundary", True), ("zeros", False)):
        model = tiny(kind, padding=padding, boundary="periodic")
        shifted = model(past, 5).roll((4, -6), dims=(-2, -1))
        difference = float((model(moved, 5) - shifted).abs().max() / shifted.abs().max())
        assert (difference < 1e-5) == follows, difference


@pytest.mark.parametrize("kind", [*TINY, *RECURRENT])
def test_borders_change_neither_the_weights_nor_the_default(kind: type[Forecaster]):
    zeros, boundary = tiny(kind), tiny(kind, padding="boundary")
    assert zeros.state_dict().keys() == boundary.state_dict().keys()
    past = waves(samples=1, frames=4)
    assert not torch.equal(zeros(past, 1), boundary(past, 1))
    # Far from the border both agree: the weights are the same.
    net = nn.Conv2d(1, 1, 5, padding=2)
    before = net(past[0])
    continue_borders(net, periodic=True)
    torch.testing.assert_close(net(past[0])[..., 2:-2, 2:-2], before[..., 2:-2, 2:-2])


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("rows", [1, 3, 9])
def test_padding_wraps_around_or_mirrors(periodic: bool, rows: int):
    x = torch.rand(2, 3, 5, 6)
    assert torch.equal(padded(x, rows, 1, periodic), continued(x, (rows, rows), (1, 1), periodic))
    deeper = x[:, :, None].expand(-1, -1, 2, -1, -1)
    assert torch.equal(padded(deeper, rows, 1, periodic), continued(deeper, (rows, rows), (1, 1), periodic))


@pytest.mark.parametrize("boundary", ["periodic", "no-flux"])
@pytest.mark.parametrize("kind", [UNet, LocalNet])
def test_the_boundary_of_the_store_stays_with_the_weights(
    make_store: Callable[..., TrajectoryStore], tmp_path: Path, boundary: str, kind: type[Forecaster]
):
    store = make_store(frames=9, shape=(8, 8), boundary=boundary)
    data = TrajectoryDataModule(str(store.path), n_past=4, n_future=2, horizon=4, batch_size=2)
    settings: dict[str, Any] = {"padding": "boundary"} if kind is UNet else {"widths": [4], "blocks": 1}
    runner, model = trainer(max_steps=1), tiny(kind, **settings).train()
    runner.fit(model, data)
    runner.save_checkpoint(tmp_path / "model.ckpt")
    past = torch.rand(1, 4, 1, 8, 8)
    expected = model.eval()(past, 3)
    loaded = LightningModule.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert loaded.boundary == boundary
    torch.testing.assert_close(loaded.eval()(past, 3), expected)
    # As `test` of the command line, which builds the model from the config anew.
    again = tiny(kind, **settings)
    trainer().test(again, data, ckpt_path=tmp_path / "model.ckpt", weights_only=True, verbose=False)
    assert again.boundary == boundary
    torch.testing.assert_close(again.eval()(past, 3), expected)


@pytest.mark.parametrize("kind", TINY)
def test_an_increment_is_added_to_the_last_frame(kind: type[Forecaster]):
    plain, model, past = tiny(kind), tiny(kind, increments=True), waves(samples=2, frames=4)
    assert isinstance(plain, BlockwiseForecaster)
    assert isinstance(model, BlockwiseForecaster)
    model.change_rms.fill_(0.25)
    block = model.block_length
    expected = past[:, -1:] + 0.25 * plain(past, block)
    torch.testing.assert_close(model(past, block), expected)
    # The next block starts from the last frame of this one.
    following = torch.cat([past, expected], dim=1)[:, -4:]
    torch.testing.assert_close(
        model(past, 2 * block)[:, block:], expected[:, -1:] + 0.25 * plain(following, block), rtol=1e-4, atol=1e-5
    )


def test_increments_are_measured_on_the_training_split_and_kept(small_store: Path, tmp_path: Path):
    data = TrajectoryDataModule(str(small_store), n_past=4, n_future=4, horizon=4, batch_size=2)
    runner, model = trainer(max_steps=1), tiny(UNet, increments=True).train()
    runner.fit(model, data)
    store = TrajectoryStore.open(small_store)
    frames = np.stack([store.read(i) for i in store.split("train")])
    assert model.change_rms.item() == pytest.approx(np.sqrt(np.square(np.diff(frames, axis=1)).mean()), rel=1e-5)
    runner.save_checkpoint(tmp_path / "model.ckpt")
    loaded = LightningModule.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    past = torch.from_numpy(frames[:1, :4])
    torch.testing.assert_close(loaded.eval()(past, 3), model.eval()(past, 3))
    with pytest.raises(ValueError, match=r"change_rms is \(1,\) in the checkpoint.*increments = True \(now False\)"):
        trainer().test(tiny(UNet), data, ckpt_path=tmp_path / "model.ckpt", weights_only=True)


@pytest.mark.parametrize(("kind", "settings"), [(FCN, {"drop_path": 0.3}), (UNet, {}), (PredRNN, {})])
def test_checkpointing_changes_neither_gradient_nor_statistics(kind: type[Forecaster], settings: dict[str, Any]):
    frames, results = waves(samples=2, frames=12), []
    for checkpointing in (False, True):
        model = tiny(kind, checkpointing=checkpointing, **settings).train()
        torch.manual_seed(1)
        model.loss(frames[:, :4], frames[:, 4:]).backward()
        gradient = torch.cat([weight.grad.flatten() for weight in model.parameters()])
        results.append([gradient, *model.buffers()])
    for plain, recomputed in zip(*results, strict=True):
        torch.testing.assert_close(recomputed, plain)
