"""What holds for every forecaster; a new one is found by its name in `microevo.models`."""

import inspect
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from toy_windows import loader, trainer, waves, windows

from microevo import models
from microevo.models import (
    E3DLSTM,
    FCN,
    FNO,
    TAU,
    ConvGRU,
    ConvLSTM,
    Forecaster,
    IncepUNet,
    LocalNet,
    MinimalCNN,
    Persistence,
    PredRNN,
    PredRNNpp,
    SimVP,
    SimVPNet,
    TAUNet,
    UNet,
    UNetNet,
    rollout,
)

TINY: dict[type[Forecaster], dict[str, Any]] = {
    FCN: {"hid_s": 4, "hid_t": 16, "n_s": 2, "n_t": 2},
    SimVP: {"hid_s": 4, "hid_t": 16, "n_s": 2, "n_t": 2},
    TAU: {"hid_s": 4, "hid_t": 16, "n_s": 2, "n_t": 2},
    ConvLSTM: {"hidden": [12, 8], "filter_size": 3},
    ConvGRU: {"hidden": [12, 8], "filter_size": 3},
    E3DLSTM: {"hidden": 8, "layers": 1, "filter_size": 3},
    UNet: {"widths": [8, 8, 16], "frames_per_call": 3},
    FNO: {"n_modes": 6, "width": 8, "layers": 2},
    PredRNN: {"hidden": 8, "layers": 2, "filter_size": 3},
    PredRNNpp: {"hidden": 8, "layers": 2, "filter_size": 3},
    LocalNet: {"widths": [4, 4], "blocks": 1},
    MinimalCNN: {"width": 8, "blocks": 1},
}
FORECASTERS = [
    item
    for item in vars(models).values()
    if isinstance(item, type) and issubclass(item, Forecaster) and not inspect.isabstract(item)
]
if find_spec("neuralop") is None:
    FORECASTERS.remove(FNO)
TRAINABLE = [cls for cls in FORECASTERS if cls is not Persistence]

each_forecaster = pytest.mark.parametrize("cls", FORECASTERS)
each_trainable = pytest.mark.parametrize("cls", TRAINABLE)


def build(cls: type[Forecaster], **settings: Any) -> Forecaster:
    torch.manual_seed(0)
    return cls(**TINY.get(cls, {}) | {"n_past": 4, "horizon": 4} | settings)


@each_forecaster
@pytest.mark.parametrize("horizon", [1, 3, 4, 9])
def test_any_horizon(cls: type[Forecaster], horizon: int):
    model = build(cls).eval()
    past = waves(frames=4)
    forecast = model(past, horizon)
    assert forecast.shape == (4, horizon, 1, 16, 16)
    torch.testing.assert_close(forecast, model(past, 12)[:, :horizon])


@each_forecaster
def test_other_sizes_and_several_fields(cls: type[Forecaster]):
    model = build(cls, channels=2).eval()
    for height, width in ((16, 16), (8, 24)):
        assert model(torch.rand(2, 4, 2, height, width), 5).shape == (2, 5, 2, height, width)


@each_trainable
@pytest.mark.parametrize("ssim_weight", [0.0, 0.1])
def test_gradient_reaches_every_parameter(cls: type[Forecaster], ssim_weight: float):
    model = build(cls, ssim_weight=ssim_weight)
    batch = windows(n_future=6)
    model.loss(batch.past, batch.future).backward()
    without = [
        name
        for name, p in model.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert not without


@pytest.mark.parametrize(
    "cls", [pytest.param(cls, marks=() if cls is ConvLSTM else pytest.mark.slow) for cls in TRAINABLE]
)
def test_one_batch_can_be_overfitted(cls: type[Forecaster]):
    model = build(cls, lr=2e-2, n_past=2, horizon=2)
    batch = windows(n_past=2, n_future=2, samples=2)
    before = (model(batch.past, 2) - batch.future).square().mean()
    trainer(max_epochs=70).fit(model, loader(batch))
    after = (model.train()(batch.past, 2) - batch.future).square().mean()
    assert after < 0.1 * before


@pytest.mark.parametrize(
    "cls", [pytest.param(c, marks=() if c in (FCN, LocalNet, Persistence) else pytest.mark.slow) for c in FORECASTERS]
)
def test_checkpoint_reloads_to_the_same_forecast(cls: type[Forecaster], tmp_path: Path):
    model = build(cls, lr=np.float64(0.5))
    batch = windows()
    runner = trainer(max_epochs=1)
    if cls is Persistence:
        runner.validate(model, loader(batch), verbose=False)
    else:
        runner.fit(model, loader(batch), loader(batch))
    path = tmp_path / "model.ckpt"
    runner.save_checkpoint(path)
    stored = torch.load(path, weights_only=True)
    assert stored["microevo_model"] == cls.__name__
    for again in (LightningModule.load_from_checkpoint(path), cls.load_from_checkpoint(path)):
        assert type(again) is cls
        assert torch.equal(again.eval()(batch.past, 9), model.eval()(batch.past, 9))
        settings = {name: value for name, value in stored["hyper_parameters"].items() if name[0] != "_"}
        assert settings.items() >= {"n_past": 4, "horizon": 4, "lr": 0.5, "weight_decay": 0.0}.items()
        assert again.lr == 0.5
    assert cls.load_from_checkpoint(path, horizon=7).horizon == 7


@each_forecaster
def test_default_settings_are_saved(cls: type[Forecaster]):
    if cls is Persistence:
        return
    with torch.device("meta"):
        saved = cls().hparams
    expected = {
        name: parameter.default
        for base in reversed(cls.mro())
        if issubclass(base, Forecaster)
        for name, parameter in inspect.signature(base).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    assert dict(saved) == expected


@each_forecaster
@pytest.mark.parametrize(("height", "width"), [(18, 16), (16, 19)])
def test_image_size_that_does_not_divide(cls: type[Forecaster], height: int, width: int):
    if cls in (FNO, LocalNet, MinimalCNN, Persistence):  # which take any size
        return
    settings = {"n_s": 4} if cls in (FCN, SimVP, TAU) else {}
    with pytest.raises(ValueError, match=f"divisible by .*4, got {height} x {width}"):
        build(cls, **settings)(torch.rand(1, 4, 1, height, width), 2)


def test_persistence_repeats_the_last_frame():
    past = waves(frames=4)
    assert torch.equal(Persistence(n_past=4)(past, 3), past[:, -1:].expand(-1, 3, -1, -1, -1))


def test_persistence_is_not_trained():
    batch = windows()
    with pytest.raises(ValueError, match="nothing to train"):
        trainer(max_epochs=1).fit(Persistence(n_past=4, horizon=4), loader(batch))


@pytest.mark.parametrize(
    ("net", "settings", "message"),
    [
        (SimVPNet, {"n_s": 3}, "n_s must be 2, 4, 6"),
        (SimVPNet, {"n_t": 1}, "n_t must be at least 2"),
        (SimVPNet, {"hid_s": 3}, "hid_s must be even"),
        (SimVPNet, {"drop_path": 1.0}, "drop_path is a probability"),
        (TAUNet, {"hid_t": 3}, "hid_t and frames \\* hid_s must be at least 4"),
        (IncepUNet, {"n_t": 0}, "n_t must be at least 1"),
        (IncepUNet, {"hid_t": 33}, "hid_t must be even"),
        (IncepUNet, {"frames": 3, "hid_s": 4}, "frames \\* hid_s and hid_t must be divisible by 8, got 12"),
    ],
)
def test_simvp_refuses(net: Any, settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        net(**settings)


@pytest.mark.parametrize(("frames", "channels"), [(3, 1), (4, 2)])
def test_simvp_refuses_other_frames(frames: int, channels: int):
    net = SimVPNet(frames=4, hid_s=4, hid_t=8, n_t=2)
    with pytest.raises(ValueError, match=f"takes 4 frames of 1 .*build it with frames={frames}, channels={channels}"):
        net(torch.rand(1, frames, channels, 16, 16))


@pytest.mark.parametrize("widths", [[], [12], [8, 0]])
def test_unet_refuses(widths: list[int]):
    with pytest.raises(ValueError, match="widths must list at least one number, each divisible by 8"):
        UNetNet(widths=widths)


def test_unet_has_the_layers_of_the_paper():
    with torch.device("meta"):
        convolutions = [m for m in UNetNet(1, 1, 2).modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert len(convolutions) == 23  # of the paper, arXiv 1505.04597


def test_the_input_is_always_the_last_frames():
    seen = []

    def adds_one(past: torch.Tensor) -> torch.Tensor:
        seen.append(past[0, :, 0, 0, 0].tolist())
        return past[:, -1:] + torch.tensor([1.0, 2.0]).reshape(-1, 1, 1, 1)

    past = torch.arange(3.0).reshape(1, 3, 1, 1, 1)
    assert rollout(adds_one, past, 5).flatten().tolist() == [3, 4, 5, 6, 7]
    assert seen == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]


def test_fno_says_what_it_needs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "neuralop.models", None)
    with pytest.raises(RuntimeError, match=r"^FNO needs the package neuraloperator.*pip install microevo\[fno\]$"):
        FNO()


@pytest.mark.skipif(find_spec("neuralop") is None, reason="neuraloperator is not installed")
def test_fno_without_coordinates_follows_a_shift():
    model, past = build(FNO, coordinates=False), waves(frames=4)
    shifted = model(past.roll((3, 5), (-2, -1)), 3)
    torch.testing.assert_close(shifted, model(past, 3).roll((3, 5), (-2, -1)))


def test_drop_path_zero_drops_nothing():
    sizes: dict[str, Any] = {"frames": 4, "hid_s": 4, "hid_t": 8, "n_t": 4}
    past = torch.rand(8, 4, 1, 16, 16)
    for drop_path, repeats in ((0.0, True), (0.5, False)):
        net = SimVPNet(**sizes, drop_path=drop_path).train()
        assert torch.equal(net(past), net(past)) == repeats
        net.eval()
        assert torch.equal(net(past), net(past))


def test_simvp_initial_weights():
    torch.manual_seed(0)
    net = SimVPNet(frames=4, hid_s=32, hid_t=64, n_t=2)
    assert net.encoder.stages[1].conv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    attention = net.translator[0].attention
    assert attention.split.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    assert attention.far.weight.std().item() == pytest.approx((2 / 49) ** 0.5, rel=0.05)
    assert not attention.far.bias.any()
    assert net.translator[0].scale1.unique().item() == pytest.approx(0.01)
