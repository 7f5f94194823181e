"""Noise on the input frames of a training; `test_averaging` resumes a training with it."""

from pathlib import Path

import pytest
import torch
from toy_windows import loader, trainer, windows

from microevo.callbacks import InputNoise
from microevo.data import TrajectoryDataModule
from microevo.models import LocalNet


def model() -> LocalNet:
    torch.manual_seed(0)
    return LocalNet(widths=[4], blocks=1, n_past=4, horizon=4)


def test_the_noise_has_the_size_of_a_part_of_a_change(small_store: Path):
    data = TrajectoryDataModule(str(small_store), n_past=4, n_future=4, horizon=4, batch_size=16)
    noise, net = InputNoise(0.5), model()
    trainer(max_steps=1, callbacks=[noise]).fit(net, data)
    batch = next(iter(data.train_dataloader()))
    before = batch.past.clone()
    noisy = noise.transform(net, batch)
    added = noisy.past - batch.past
    assert torch.equal(batch.past, before)
    assert torch.equal(noisy.future, batch.future)
    std = 0.5 * float(data.change_statistics().change_rms[0])
    assert float(added.std()) == pytest.approx(std, rel=0.03)
    assert float(added.mean()) == pytest.approx(0, abs=0.05 * std)
    assert abs(float((added[..., 1:] * added[..., :-1]).mean())) < 0.05 * std**2  # independent at each pixel
    assert float(noise.transform(net, batch).past.sub(noisy.past).abs().max()) > std


def test_its_unit_needs_the_data():
    with pytest.raises(ValueError, match="InputNoise needs a TrajectoryDataModule"):
        trainer(max_steps=1, callbacks=[InputNoise(0.1)]).fit(model(), loader(windows()))
    with pytest.raises(ValueError, match="std must not be negative, but it is -1"):
        InputNoise(-1.0)
