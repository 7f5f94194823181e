"""What a training minimises, and that its options leave the default as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_windows import loader, trainer, windows

from microevo.data import TrajectoryDataModule, TrajectoryStore
from microevo.models import FCN, ConvLSTM, Forecaster, LocalNet
from microevo.models.objective import Objective
from microevo.processes import Grid, SpinodalDecomposition
from microevo.processes.residual import EquationResidual

TINY: dict[type[Forecaster], dict[str, Any]] = {
    FCN: {"hid_s": 4, "hid_t": 8, "n_s": 2, "n_t": 2},
    LocalNet: {"widths": [4], "blocks": 1},
    ConvLSTM: {"hidden": [4], "filter_size": 3},
}
# Loss of the third step, and mean of the forecast then, of version 0.1 before there were options.
TRAINED: dict[type[Forecaster], tuple[float, float]] = {
    FCN: (0.120904475, 0.43182546),
    LocalNet: (0.124271989, 0.50050837),
    ConvLSTM: (0.373432606, 0.0034232468),
}


def tiny(kind: type[Forecaster], **settings: Any) -> Forecaster:
    torch.manual_seed(0)
    return kind(n_past=4, horizon=4, **TINY[kind], **settings)


def data(store: Path, **settings: Any) -> TrajectoryDataModule:
    return TrajectoryDataModule(str(store), n_past=4, n_future=4, horizon=4, batch_size=2, **settings)


@pytest.mark.parametrize("kind", TINY)
def test_a_training_without_options_gives_the_same_weights_as_ever(kind: type[Forecaster]):
    model, runner = tiny(kind), trainer(max_steps=3)
    batch = windows()
    runner.fit(model, loader(batch, batch_size=1))
    forecast = model.eval()(batch.past, 4)
    found = float(runner.callback_metrics["train/loss"]), float(forecast.mean())
    assert found == pytest.approx(TRAINED[kind], rel=1e-4)


def test_the_physics_term_weighs_the_residual_and_has_a_gradient(small_store: Path):
    model = tiny(FCN, physics_weight=0.5)
    runner = trainer(max_steps=1)
    runner.fit(model, data(small_store))
    residual = float(runner.callback_metrics["train/residual"])
    expected = float(runner.callback_metrics["train/mse"]) + 0.5 * residual
    assert float(runner.callback_metrics["train/loss"]) == pytest.approx(expected)
    assert residual > 0.1

    batch = next(iter(runner.datamodule.train_dataloader()))
    model._objective.begin(batch.trajectory)
    forecast = batch.future.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.physics(batch.past[:, -1:], forecast), forecast)
    assert gradient.abs().amax(dim=(0, 2, 3, 4)).min() > 0  # in every frame
    # The truth solves the equation far better than frames that stand still or are noisy.
    truth = model.physics(batch.past[:, -1:], batch.future)
    noise = 0.01 * torch.randn(batch.future.shape, generator=torch.Generator().manual_seed(0))
    assert model.physics(batch.past[:, -1:], batch.future + noise) > 2 * truth
    assert model.physics(batch.past[:, -1:], batch.past[:, -1:].expand_as(batch.future)) > 2 * truth


def test_an_equation_that_is_not_known_is_refused(make_store: Callable[..., TrajectoryStore], small_store: Path):
    imported = make_store(shape=(16, 16), frames=9)
    with pytest.raises(ValueError, match=r"physics_weight is 1, but .*was not simulated by microevo.*; set it to 0"):
        trainer(max_steps=1).fit(tiny(FCN, physics_weight=1.0), data(imported.path))
    with pytest.raises(ValueError, match="without a datamodule the process is not known; set it to 0"):
        trainer(max_steps=1).fit(tiny(FCN, physics_weight=1.0), loader(windows()))
    with pytest.raises(ValueError, match="physics_weight must not be negative"):
        Objective(physics_weight=-1.0)


def test_parameters_that_vary_are_those_of_the_trajectories_of_the_batch():
    process = SpinodalDecomposition(grid=Grid(shape=(16, 16)), frame_interval=1.0)
    varied = EquationResidual(process, {"mobility": np.array([1.0, 2.0, 3.0])})
    frames = torch.rand(2, 3, 1, 16, 16)
    together = varied(frames, torch.tensor([2, 0]))
    for row, mobility in ((0, 3.0), (1, 1.0)):
        fixed = SpinodalDecomposition(grid=process.grid, frame_interval=1.0, mobility=mobility)
        alone = EquationResidual(fixed, {})(frames[row : row + 1], torch.tensor([0]))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)
