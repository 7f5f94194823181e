"""How recurrent networks are driven: what they see, and when."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from toy_windows import loader, trainer, waves, windows

from microevo.models import (
    E3DLSTM,
    ConvGRU,
    ConvGRUNet,
    ConvLSTM,
    ConvLSTMNet,
    E3DLSTMNet,
    PredRNN,
    PredRNNNet,
    PredRNNpp,
    PredRNNppNet,
    RecurrentForecaster,
)
from microevo.models.convgru import ConvGRUCell
from microevo.models.recurrent import RecurrentNet


def tiny(**settings: Any) -> ConvLSTM:
    torch.manual_seed(0)
    return ConvLSTM(**{"hidden": [6], "filter_size": 3, "n_past": 4, "horizon": 4} | settings)


class Schedule(Callback):
    """Notes the probability of the true frame at each step."""

    def __init__(self) -> None:
        self.probabilities: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, model: LightningModule, *_: Any) -> None:
        assert isinstance(model, RecurrentForecaster)
        self.probabilities.append(model.sampling_probability())


@pytest.mark.parametrize("n_past", [1, 2, 7])
def test_any_number_of_past_frames(n_past: int):
    assert tiny()(waves(frames=n_past), 3).shape == (4, 3, 1, 16, 16)


def test_unroll_predicts_all_frames_but_the_first():
    model, past = tiny(), waves(frames=4)
    predictions = model.unroll(past, 3)
    assert predictions.shape == (4, 6, 1, 16, 16)
    assert torch.equal(predictions[:, 3:], model(past, 3))


def test_the_mask_chooses_between_truth_and_prediction():
    model, batch = tiny(), windows()
    shown = torch.zeros(4, 3, dtype=torch.bool)
    own = model.unroll(batch.past, 4)
    assert torch.equal(model.unroll(batch.past, 4, batch.future, shown), own)
    shown[1, 1] = True
    mixed = model.unroll(batch.past, 4, batch.future, shown)
    assert torch.equal(mixed[[0, 2, 3]], own[[0, 2, 3]])
    assert torch.equal(mixed[1, :5], own[1, :5])
    assert not torch.equal(mixed[1, 5], own[1, 5])
    everything = model.unroll(batch.past, 4, batch.future, torch.ones_like(shown))
    teacher_forced = model.unroll(torch.cat([batch.past, batch.future[:, :3]], dim=1), 1)
    torch.testing.assert_close(everything, teacher_forced)


def test_loss_covers_the_past_and_draws_from_the_seed():
    model, batch = tiny(sampling_until=0.0), windows()
    truth = torch.cat([batch.past[:, 1:], batch.future], dim=1)
    # Without a trainer there is no schedule, and true frames are shown.
    shown = torch.ones(4, 3, dtype=torch.bool)
    expected = (model.unroll(batch.past, 4, batch.future, shown) - truth).square().mean()
    torch.testing.assert_close(model.loss(batch.past, batch.future), expected)
    model.sampling_probability = lambda: 0.5  # type: ignore[method-assign]
    torch.manual_seed(3)
    first, second = (model.loss(batch.past, batch.future) for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(model.loss(batch.past, batch.future), first)
    assert not torch.equal(first, second)


def test_true_frames_are_chosen_for_each_sample_and_step(monkeypatch):
    model, batch = tiny(), windows(n_future=13, samples=32)
    chosen: list[torch.Tensor] = []
    unroll = model.unroll
    monkeypatch.setattr(model, "unroll", lambda *args: (chosen.append(args[3]), unroll(*args))[1])
    for probability in (0.0, 0.25, 1.0):
        monkeypatch.setattr(model, "sampling_probability", lambda p=probability: p)
        model.loss(batch.past, batch.future)
        is_true = chosen[-1].float()
        assert is_true.shape == (32, 12)
        assert is_true.mean() == pytest.approx(probability, abs=0.08)
        if 0 < probability < 1:
            # A choice made once for a sample, or once for a step, would make rows or columns constant.
            assert ((is_true.mean(dim=0) > 0) & (is_true.mean(dim=0) < 1)).all()
            assert ((is_true.mean(dim=1) > 0) & (is_true.mean(dim=1) < 1)).sum() > 25


def test_schedule_takes_a_part_of_the_run(tmp_path):
    batch = loader(windows(samples=8), batch_size=2)
    first, second = Schedule(), Schedule()
    runner = trainer(max_epochs=2, callbacks=[first])
    runner.fit(tiny(), batch)
    assert first.probabilities == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0, 0, 0])
    runner.save_checkpoint(tmp_path / "half.ckpt")
    trainer(max_epochs=4, callbacks=[second]).fit(tiny(), batch, ckpt_path=tmp_path / "half.ckpt")
    assert second.probabilities == pytest.approx([0] * 8)


def test_resumed_run_goes_on_with_the_schedule(tmp_path):
    batch = loader(windows(samples=8), batch_size=2)
    runner, second = trainer(max_epochs=1), Schedule()
    runner.fit(tiny(), batch)
    runner.save_checkpoint(tmp_path / "quarter.ckpt")
    trainer(max_epochs=4, callbacks=[second]).fit(tiny(), batch, ckpt_path=tmp_path / "quarter.ckpt")
    assert second.probabilities == pytest.approx([0.5, 0.375, 0.25, 0.125] + [0] * 8)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"sampling_steps": 50_000}, [1, 1 - 2e-5, 1 - 4e-5, 1 - 6e-5]),
        ({"sampling_steps": 2}, [1, 0.5, 0, 0]),
        ({"sampling_steps": 0}, [0, 0, 0, 0]),
        ({"sampling_until": 0.0}, [0, 0, 0, 0]),
        ({"sampling_until": 1.0}, [1, 0.75, 0.5, 0.25]),
    ],
)
def test_schedules(settings: dict[str, Any], expected: list[float]):
    schedule = Schedule()
    trainer(max_epochs=1, callbacks=[schedule]).fit(tiny(**settings), loader(windows(), batch_size=1))
    assert schedule.probabilities == pytest.approx(expected)


@pytest.mark.parametrize(
    "net",
    [
        ConvLSTMNet(3, [4, 5], 3),
        PredRNNNet(3, 4, 2, 3),
        PredRNNppNet(3, 4, 2, 3),
        ConvGRUNet(3, [4, 5], 3),
        E3DLSTMNet(3, 4, 2, 3),
    ],
)
def test_networks_go_step_by_step(net: RecurrentNet):
    frames = torch.rand(2, 3, 3, 8, 12)
    state, outputs = None, []
    for frame in frames.unbind(1):
        output, state = net(frame, state)
        outputs.append(output)
    again, _ = net(frames[:, 0], None)
    assert torch.equal(again, outputs[0])
    assert outputs[-1].shape == (2, 3, 8, 12)
    assert not torch.equal(net(frames[:, 2], None)[0], outputs[-1])


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (ConvLSTM, {"patch_size": 0}, "patch_size must be at least 1"),
        (ConvLSTM, {"sampling_until": 1.5}, "sampling_until is a fraction of the run"),
        (ConvLSTM, {"sampling_steps": -1}, "sampling_steps must not be negative"),
        (ConvLSTM, {"hidden": []}, "at least one layer"),
        (ConvLSTM, {"filter_size": 4}, "filter_size must be odd"),
        (ConvGRU, {"hidden": [4, 0]}, "at least 1 feature"),
        (E3DLSTM, {"layers": 0}, "at least one layer"),
        (PredRNN, {"filter_size": 4}, "filter_size must be odd"),
        (PredRNN, {"layers": 0}, "at least one layer"),
        (PredRNNpp, {"layers": 1}, "layers must be at least 2"),
    ],
)
def test_wrong_settings(cls: type[RecurrentForecaster], settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        cls(**settings)


def test_on_one_pixel_a_convgru_is_a_gru():
    torch.manual_seed(0)
    cell, reference = ConvGRUNet(3, [4], 1).cells[0], nn.GRUCell(3, 4, bias=False)
    assert isinstance(cell, ConvGRUCell)
    with torch.no_grad():
        cell.conv_x.weight.copy_(reference.weight_ih[..., None, None])
        cell.conv_h.weight.copy_(reference.weight_hh[..., None, None])
    x, h = torch.rand(5, 3), torch.rand(5, 4)
    (after,) = cell(x[..., None, None], h[..., None, None])
    torch.testing.assert_close(after[..., 0, 0], reference(x, h))


def test_the_memory_of_e3dlstm_makes_a_difference_from_the_second_layer_on():
    frame = torch.rand(2, 3, 8, 8)
    for pass_memory in (False, True):
        torch.manual_seed(0)
        net = E3DLSTMNet(3, 4, 2, 3, pass_memory)
        with torch.no_grad():
            before = [layer[0] for layer in net(frame, None)[1][0]]
            for cell in net.cells:
                if cell.conv_m is not None:
                    cell.conv_m.weight.mul_(2)
            after = [layer[0] for layer in net(frame, None)[1][0]]
        assert torch.equal(before[0], after[0])
        assert torch.equal(before[1], after[1]) != pass_memory
