"""Averages of the weights (EMA): which weights a checkpoint holds, and that a training resumes exactly."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from interrupts import CtrlC
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from toy_windows import trainer

from microevo.callbacks import InputNoise, SaveLast, SeedSteps, Unrolling
from microevo.data import TrajectoryDataModule
from microevo.models import FCN, Forecaster, LocalNet, load_model


def data(store: Path) -> TrajectoryDataModule:
    return TrajectoryDataModule(str(store), n_past=4, n_future=8, horizon=4, batch_size=2, symmetries=["shift"])


def network() -> Forecaster:
    torch.manual_seed(0)
    return FCN(hid_s=2, hid_t=4, n_s=2, n_t=2, n_past=4, horizon=4, schedule="constant", drop_path=0.2, lr=0.01)


def fit(folder: Path, store: Path, *callbacks: Callback, resume: bool = False) -> Trainer:
    """Six steps of a training with everything that depends on the step, random numbers or the weights of other steps."""
    best = ModelCheckpoint(folder / "checkpoints", "best", monitor="val/mse", auto_insert_metric_name=False)
    options = [InputNoise(0.3), Unrolling([4, 8], gradient="last"), SeedSteps(), SaveLast(), best]
    settings: dict[str, Any] = {"default_root_dir": folder, "enable_checkpointing": True, "limit_train_batches": 4}
    runner = trainer(max_steps=6, max_epochs=-1, callbacks=[*callbacks, *options], **settings)
    last = folder / "checkpoints" / "last.ckpt"
    runner.fit(network(), data(store), ckpt_path=last if resume else None, weights_only=True)
    return runner


def ema() -> EMAWeightAveraging:
    return EMAWeightAveraging(decay=0.5, use_buffers=False)


def read(folder: Path, which: str = "last") -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{which}.ckpt", weights_only=True)


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(weights, other[name]) for name, weights in one.items())


def test_a_training_with_noise_and_averaged_weights_resumes_exactly_and_is_scored_with_them(small_store, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    fit(one, small_store, ema())
    whole = read(one)
    assert not equal(whole["state_dict"], whole["current_model_state"])

    # Stopped in the middle of an epoch, and again in a validation, in which the weights are exchanged for the average.
    with pytest.raises(SystemExit):
        fit(other, small_store, ema(), CtrlC(2, in_validation=False))
    assert read(other)["global_step"] == 2
    with pytest.raises(SystemExit):
        fit(other, small_store, ema(), CtrlC(4, in_validation=True), resume=True)
    assert read(other)["global_step"] == 4
    # Without the callback it would continue from the average, with an optimiser that belongs to other weights.
    with pytest.raises(ValueError, match=r"resume it with the same callback \(EMAWeightAveraging\)"):
        fit(other, small_store, resume=True)
    fit(other, small_store, ema(), resume=True)
    parts = read(other)
    assert parts["global_step"] == 6
    assert equal(whole["current_model_state"], parts["current_model_state"])
    assert equal(whole["state_dict"], parts["state_dict"])

    # `load_model`, and with it `predict` and `benchmark`, takes the average; so does `test`, without a warning.
    model = load_model(one / "checkpoints" / "last.ckpt")
    assert equal(dict(model.state_dict()), whole["state_dict"])
    scored, runner = network(), trainer(enable_checkpointing=True, callbacks=[ema(), SaveLast()])
    with warnings.catch_warnings(record=True) as said:
        best = one / "checkpoints" / "best.ckpt"
        (scores,) = runner.validate(scored, data(small_store), ckpt_path=best, weights_only=True, verbose=False)
    assert not [warning for warning in said if "WeightAveraging" in str(warning.message)]
    assert equal(dict(scored.state_dict()), read(one, "best")["state_dict"])
    states = read(one, "best")["callbacks"].values()
    monitored = next(state["best_model_score"] for state in states if "best_model_score" in state)
    assert scores["val/mse"] == pytest.approx(float(monitored), rel=1e-5)


def test_an_average_that_starts_late_starts_from_the_weights_and_the_data(small_store, tmp_path):
    torch.manual_seed(0)
    model, average = LocalNet(widths=[4], blocks=1, n_past=4, horizon=4), EMAWeightAveraging(update_starting_at_step=9)
    windows, callbacks = data(small_store), [average, SaveLast()]
    trainer(max_steps=2, enable_checkpointing=True, default_root_dir=tmp_path, callbacks=callbacks).fit(model, windows)
    # No step was averaged: at the end the model has the weights that it began with, and the statistics of the data.
    assert model.change_rms.item() == pytest.approx(float(windows.change_statistics().change_rms[0]))
