"""The one-cycle schedule of runs that a time limit ends."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Timer
from toy_windows import loader, trainer, windows

from microevo.models import FCN, ConvLSTM


class Clock(Callback):
    """A second for each training step, and the learning rates used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, now: float = 0.0) -> None:
        self.now, self.rates = now, []  # type: ignore[var-annotated]
        monkeypatch.setattr(Timer, "time_elapsed", lambda *_: self.now)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.now += 1


def tiny() -> FCN:
    torch.manual_seed(0)
    return FCN(hid_s=4, hid_t=8, n_s=2, n_t=2, n_past=4, horizon=4, lr=0.01)


def timed(seconds: int, *callbacks: Callback) -> Trainer:
    return trainer(max_epochs=-1, max_time={"seconds": seconds}, callbacks=list(callbacks))


@pytest.mark.slow
def test_the_cycle_spans_the_time_limit(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    timed(40, clock).fit(tiny(), loader(windows(), batch_size=2))
    assert len(clock.rates) == 40
    assert max(clock.rates) == pytest.approx(0.01, rel=1e-3)
    assert clock.rates.index(max(clock.rates)) == 12  # the rise takes 30 % of the run, as by steps
    assert clock.rates[-1] < 1e-4 < clock.rates[0] < 1e-3


def test_a_step_limit_keeps_its_own_cycle(monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    runner = trainer(max_epochs=5, max_time={"hours": 1}, callbacks=[clock])
    runner.fit(tiny(), loader(windows(), batch_size=2))
    assert len(clock.rates) == 10
    assert clock.rates[-1] < 1e-6


@pytest.mark.slow
def test_a_resumed_run_goes_on_in_the_cycle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole, path = Clock(monkeypatch), tmp_path / "half.ckpt"
    timed(40, whole).fit(tiny(), loader(windows(), batch_size=2))
    first = Clock(monkeypatch)
    half = trainer(max_epochs=-1, max_steps=-1, max_time={"seconds": 40}, callbacks=[first, _Stop(20)])
    half.fit(tiny(), loader(windows(), batch_size=2))
    half.save_checkpoint(path)
    torch.load(path, weights_only=True)  # nothing in it needs unpickling
    second = Clock(monkeypatch, now=20)
    timed(40, second).fit(tiny(), loader(windows(), batch_size=2), ckpt_path=path, weights_only=True)
    assert first.rates + second.rates == pytest.approx(whole.rates, rel=1e-6)


def test_scheduled_sampling_follows_the_clock(monkeypatch: pytest.MonkeyPatch):
    clock, chances = Clock(monkeypatch), []

    class Noting(ConvLSTM):
        def loss(self, past, future):
            chances.append(self.sampling_probability())
            return super().loss(past, future)

    torch.manual_seed(0)
    timed(20, clock).fit(Noting(hidden=[4], filter_size=3, n_past=4, horizon=4, sampling_until=0.5), loader(windows()))
    assert len(chances) == 20
    assert chances[0] == pytest.approx(0.9)  # the clock moves before the step
    assert chances[4] == pytest.approx(0.5)
    assert chances[9:] == [0.0] * 11


class _Stop(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.step
