"""Training on longer and longer forecasts."""

import math
from typing import Any

import pytest
import torch
from lightning import Callback
from torch import Tensor
from toy_windows import ToyWindow, loader, trainer, windows

from microevo.callbacks import Unrolling
from microevo.models import FCN, ConvLSTM, Forecaster, LocalNet, UNet


class Noting(LocalNet):
    """Notes how many frames each loss is made of, and how many were forecast without gradient before."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self.lengths: list[int] = []
        self.ahead, self.pushed = 0, []  # frames forecast without gradient before a loss

    def forward(self, past, horizon):
        if not torch.is_grad_enabled():
            self.ahead = horizon
        return super().forward(past, horizon)

    def loss(self, past, future):
        self.lengths.append(future.shape[1])
        self.pushed.append(self.ahead)
        self.ahead = 0
        return super().loss(past, future)


def model(**settings: Any) -> Noting:
    torch.manual_seed(0)
    return Noting(widths=[4], blocks=1, n_past=4, horizon=4, **settings)


def test_stages_share_the_computing_time():
    noting = model()
    trainer(max_steps=14, callbacks=[Unrolling([1, 2, 4])]).fit(noting, loader(windows(), batch_size=1))
    assert noting.lengths == [1] * 8 + [2] * 4 + [4] * 2
    noting = model()
    trainer(max_steps=12, callbacks=[Unrolling([1, 4], [1.0, 2.0])]).fit(noting, loader(windows(), batch_size=1))
    assert noting.lengths == [1] * 8 + [4] * 4


@pytest.mark.parametrize(("warmup", "peak"), [pytest.param(0.3, 48, marks=pytest.mark.slow), (0.1, 16)])
def test_the_learning_rate_follows_the_computing_time(warmup: float, peak: int):
    noting, rates = model(warmup=warmup), []

    class Rates(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer(max_steps=100, callbacks=[Unrolling([1, 4]), Rates()]).fit(noting, loader(windows(), batch_size=1))
    # Four fifths of the steps are made in half of the time.
    assert noting.lengths == [1] * 80 + [4] * 20
    assert rates.index(max(rates)) == pytest.approx(peak, abs=1)
    falling = (0.5 - warmup) / (1 - warmup)
    assert rates[80] == pytest.approx((1 + math.cos(math.pi * falling)) / 2 * max(rates), rel=0.02)
    assert rates[-1] < 0.03 * max(rates)


def test_a_resumed_run_is_in_the_same_stage(tmp_path):
    batches, path = loader(windows(), batch_size=1), tmp_path / "half.ckpt"
    first = trainer(max_steps=9, callbacks=[Unrolling([1, 4])])
    first.fit(model(), batches)
    first.save_checkpoint(path)
    noting = model()
    trainer(max_steps=15, callbacks=[Unrolling([1, 4])]).fit(noting, batches, ckpt_path=path, weights_only=True)
    assert noting.lengths == [1] * 3 + [4] * 3


def test_without_it_all_frames_are_trained():
    noting = model()
    trainer(max_steps=2).fit(noting, loader(windows(n_future=3), batch_size=2))
    assert noting.lengths == [3, 3]


def test_windows_that_are_too_short_are_refused():
    with pytest.raises(ValueError, match="up to 8 frames, but training windows have 4 future frames; raise"):
        trainer(max_steps=2, callbacks=[Unrolling([8])]).fit(model(), loader(windows()))
    with pytest.raises(ValueError, match=r"numbers from 1 on, one for each stage, but they are \[\]"):
        Unrolling([])
    with pytest.raises(ValueError, match=r"2 positive numbers, one for each stage, but they are \[1\.0\]"):
        Unrolling([1, 2], [1.0])


def trained(model: Forecaster, unrolling: Unrolling, batch: ToyWindow) -> Tensor:
    """The gradient of a training step with this unrolling."""
    runner = trainer(max_steps=1, callbacks=[unrolling])
    runner.fit(model, loader(batch))
    return gradient(model, batch)


def gradient(model: Forecaster, batch: ToyWindow) -> Tensor:
    """The gradient of one more step, of a model with a trainer."""
    model.log = lambda *_, **__: None
    model.train().zero_grad()
    model.training_step(batch, 0).backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters()])


@pytest.mark.parametrize(
    ("kind", "settings", "block"),
    [
        (LocalNet, {"widths": [4], "blocks": 1}, 1),
        (LocalNet, {"widths": [4], "blocks": 1, "frames_per_call": 3, "frames_in": 2}, 3),
        (UNet, {"widths": [8, 8], "frames_per_call": 3}, 3),
        (FCN, {"hid_s": 4, "hid_t": 8, "n_s": 2, "n_t": 2}, 4),
    ],
)
def test_pushforward_trains_the_last_call_on_a_forecast_without_gradient(
    kind: type[Forecaster], settings: dict[str, Any], block: int
):
    torch.manual_seed(0)
    model, batch = kind(n_past=4, horizon=4, **settings), windows(samples=2, n_future=8)
    assert model.block_length == block
    found = trained(model, Unrolling([8], gradient="last"), batch)
    ahead = 8 - (8 % block or block)
    model.zero_grad()
    frames = torch.cat([batch.past, model(batch.past, ahead).detach()], dim=1)
    model.objective(model(frames[:, -4:], 8 - ahead), batch.future[:, ahead:]).backward()
    expected = torch.cat([weight.grad.flatten() for weight in model.parameters()])
    torch.testing.assert_close(found, expected)
    # And it is not the gradient through all frames.
    assert not torch.allclose(found, trained(model, Unrolling([8]), batch), rtol=0.01)


def test_pushforward_keeps_its_gradient_in_mixed_precision():
    net, batch = model(), windows(samples=2, n_future=2)
    trainer(max_steps=1, callbacks=[Unrolling([2], gradient="last")]).fit(net, loader(batch))
    exact = gradient(net, batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = gradient(net, batch)
    torch.testing.assert_close(mixed, exact, atol=0.05 * float(exact.abs().max()), rtol=0)


def test_a_step_on_the_last_call_alone_takes_less_time():
    noting = model()
    callback = Unrolling([1, 4], gradient="last")
    trainer(max_steps=15, callbacks=[callback]).fit(noting, loader(windows(), batch_size=1))
    # Four frames take three calls forwards, a third of a step each, and one step: 2 in place of 4.
    assert callback.time_spent(2 / 3) == pytest.approx(0.5)
    assert noting.lengths == [1] * 15
    assert noting.pushed == [0] * 10 + [3] * 5


def test_a_blockwise_network_is_trained_on_several_blocks():
    torch.manual_seed(0)
    net = UNet(widths=[8, 8], frames_per_call=4, n_past=4, horizon=4)
    lengths = []
    net.loss = lambda past, future: (lengths.append(future.shape[1]), type(net).loss(net, past, future))[1]
    runner = trainer(max_steps=11, callbacks=[Unrolling([4, 8, 12])])
    runner.fit(net, loader(windows(samples=11, n_future=12), batch_size=1))
    assert lengths == [4] * 6 + [8] * 3 + [12] * 2


def test_a_model_with_a_memory_cannot_be_pushed_forward():
    batches = loader(windows())
    for net in (ConvLSTM(hidden=[4], filter_size=3, n_past=4, horizon=4), model(context=2)):
        with pytest.raises(ValueError, match=r"carries more along than its last n_past frames.*set gradient to all"):
            trainer(max_steps=1, callbacks=[Unrolling([2], gradient="last")]).fit(net, batches)
    with pytest.raises(ValueError, match="gradient must be all or last, but it is none"):
        Unrolling([1], gradient="none")
