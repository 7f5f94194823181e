"""What a training says of its speed."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Callback
from lightning.pytorch.loggers.logger import DummyLogger
from toy_windows import loader, trainer, windows

from microevo.callbacks import LeadCurves, Throughput, throughput
from microevo.models import UNet


class Clock:
    """A clock that stands still but for what is added to it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowBatches:
    """A loader that takes its time."""

    def __init__(self, batches: int, seconds: float, clock: Clock) -> None:
        self.batch, self.batches, self.seconds, self.clock = next(iter(loader(windows()))), batches, seconds, clock

    def __len__(self) -> int:
        return self.batches

    def __iter__(self):
        for _ in range(self.batches):
            self.clock.now += self.seconds
            yield self.batch


class Kept(DummyLogger):
    """A logger that keeps the last values."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, float] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
        self.values |= metrics


class SlowSteps(Callback):
    """Steps that take a second."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_start(self, *_: Any) -> None:
        self.clock.now += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throughput, "perf_counter", clock)
    return clock


def net() -> UNet:
    torch.manual_seed(0)
    return UNet(widths=[8], frames_per_call=2, n_past=4, horizon=4)


@pytest.mark.parametrize(("seconds", "said"), [(0.25, 1), (0.01, 0)])
def test_the_wait_for_data_is_measured_and_said(
    caplog: pytest.LogCaptureFixture, clock: Clock, seconds: float, said: int
):
    batches = SlowBatches(12, seconds, clock)
    runner = trainer(max_epochs=2, callbacks=[Throughput(), SlowSteps(clock)], logger=Kept())
    with caplog.at_level(logging.INFO):
        runner.fit(net(), batches)
    logged = runner.logger.values
    assert logged["train/data_wait"] == pytest.approx(seconds / (1 + seconds))
    assert logged["train/windows_per_second"] == pytest.approx(len(batches.batch[0]) / (1 + seconds))
    assert 0.05 < logged["train/memory_GiB"] < 100
    sentence = "the training waited for data 20 % of the time: raise data.init_args.batch_size"
    assert sum(text.startswith(sentence) for text in caplog.messages) == said


@pytest.mark.parametrize(
    ("device", "data", "remedy"),
    [
        ("cuda", SimpleNamespace(cache="auto"), "set data.init_args.cache to device, if the trajectories fit on it"),
        ("cuda", SimpleNamespace(cache="device", num_workers=0), "raise data.init_args.batch_size"),
        (
            "cpu",
            SimpleNamespace(cache="no", num_workers=2),
            "cache to yes, if the trajectories fit into memory, or raise",
        ),
    ],
)
def test_the_advice_fits_the_data(device: str, data: SimpleNamespace, remedy: str):
    assert remedy in throughput._advice(0.3, torch.device(device), data)


def test_a_run_of_one_batch_has_no_speed(clock: Clock):
    runner = trainer(max_epochs=1, callbacks=[Throughput()], logger=Kept())
    runner.fit(net(), SlowBatches(1, 0.0, clock))
    assert "train/windows_per_second" not in runner.logger.values


def test_lead_curves_are_taken_up_again():
    curves = LeadCurves()
    curves.steps, curves.curves = [1, 2], [[0.1, 0.2], [0.05, 0.1]]
    other = LeadCurves()
    other.load_state_dict(curves.state_dict())
    assert other._table() == curves._table() == "step,lead,rmse\n1,1,0.1\n1,2,0.2\n2,1,0.05\n2,2,0.1\n"
