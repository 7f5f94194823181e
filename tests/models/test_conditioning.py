"""Forecasts that depend on the parameters of a trajectory: from the data, by name, and in what is written."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import LightningModule
from shared import small_process
from toy_windows import trainer, waves

import microevo
from microevo.benchmark import Protocol
from microevo.benchmark.competitors import Model, persistence
from microevo.benchmark.evaluation import Evaluation, Scores
from microevo.benchmark.run import _measure
from microevo.callbacks import ForecastWriter
from microevo.data import Range, TrajectoryDataModule, TrajectoryStore, generate
from microevo.metrics import find
from microevo.models import FCN, Conditioned, LocalNet
from microevo.models.conditioning import ParameterEncoder
from microevo.predict import predict

SIZES = {"n_past": 2, "horizon": 3}


def tiny(*names: str, **settings: Any) -> LocalNet:
    """A network whose forecast depends strongly on its parameters."""
    torch.manual_seed(0)
    model = LocalNet([4], 1, parameters=list(names), boundary="periodic", **SIZES | settings).eval()
    torch.nn.init.normal_(model.net.head.conv.weight, std=0.3)
    return model


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrajectoryStore:
    """Trajectories of 16 x 16 pixels, each with its mobility, and all with the same kappa."""
    path = tmp_path_factory.mktemp("varied") / "varied.zarr"
    sample = {"mobility": Range(low=0.5, high=2.0)}
    return generate(small_process(), path, splits={"train": 3, "val": 1, "test": 2}, frames=8, sample=sample)


@pytest.fixture(scope="module")
def checkpoint(store: TrajectoryStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that is conditioned on mobility and, uselessly, on kappa; after one step of training."""
    names = ["mobility", "kappa"]
    runner = trainer(max_steps=1)
    data = TrajectoryDataModule(str(store.path), n_future=1, batch_size=2, parameters=names, **SIZES)
    runner.fit(tiny(*names).train(), data)
    runner.save_checkpoint(path := tmp_path_factory.mktemp("conditioned") / "model.ckpt")
    return path


def test_a_forecast_follows_the_parameters_of_its_own_sample():
    model, past = tiny("mobility"), waves(frames=2)
    values = torch.tensor([[1.0], [2.0], [3.0], [2.0]])
    together = model(past, 3, values)
    for i in range(4):
        alone = model(past[[i]], 3, {"mobility": values[i].item()})
        torch.testing.assert_close(together[[i]], alone)
        torch.testing.assert_close(Conditioned(model, values[i])(past[[i]], 3), alone)
    assert not torch.allclose(together[[0]], model(past[[0]], 3, {"mobility": 2.0}), atol=1e-3)
    assert torch.equal(model.forecast(past, 3, "periodic", values), together)
    assert not torch.allclose(tiny("mobility", context=3)(past, 3, values), together)  # both together


def test_gradient_reaches_every_parameter_and_checkpointing_changes_none():
    batch, gradients = waves(frames=5), []
    for checkpointing in (False, True):
        model = tiny("mobility", "kappa", context=2, checkpointing=checkpointing).train()
        model.loss(batch[:, :2], batch[:, 2:], torch.arange(8.0).reshape(4, 2)).backward()
        assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
    torch.testing.assert_close(*gradients)


def test_parameters_that_are_missing_or_unknown_are_named():
    past = waves(frames=2)
    for call in (
        tiny("mobility", "kappa"),
        lambda *args: tiny("mobility", "kappa").forecast(*args[:2], "periodic", *args[2:]),
    ):
        with pytest.raises(
            ValueError, match=r"conditioned on mobility, kappa, but mobility, kappa is not given; give .* by name"
        ):
            call(past, 3)
        with pytest.raises(ValueError, match="but kappa is not given"):
            call(past, 3, {"mobility": 1.0})
        with pytest.raises(ValueError, match="not on noise; leave it out"):
            call(past, 3, {"mobility": 1.0, "kappa": 1.0, "noise": 1.0})
        with pytest.raises(
            ValueError, match=r"the shape \(4, 2\), but \(4, 1\) was given; set `parameters` of the data"
        ):
            call(past, 3, torch.ones(4, 1))
    with pytest.raises(ValueError, match="this LocalNet is not conditioned on parameters; leave them out"):
        tiny()(past, 3, {"mobility": 1.0})
    with pytest.raises(ValueError, match=r"FCN cannot be conditioned on parameters \(mobility\); choose LocalNet"):
        FCN(parameters=["mobility"])


def test_parameters_are_standardised_over_the_training_trajectories(store, checkpoint, tmp_path):
    stored = torch.load(checkpoint, weights_only=True)["state_dict"]
    values = store.per_trajectory["mobility"][store.split("train")]
    mean, std, lowest = (stored[f"parameter_encoder.{name}"].tolist() for name in ("mean", "std", "lowest"))
    assert mean == pytest.approx([values.mean(), 2.5], rel=1e-5)
    assert std == pytest.approx([values.std(), 1.0], rel=1e-5)  # kappa is the same everywhere
    assert lowest == pytest.approx([values.min(), 2.5], rel=1e-5)
    again = microevo.load_model(checkpoint)
    assert again.parameter_names == ["mobility", "kappa"]
    encoder = again.parameter_encoder
    assert encoder.outside(torch.tensor([[values.mean(), 2.5]])) == []
    assert encoder.outside(torch.tensor([[9.0, 2.5]])) == [
        f"mobility ({values.min():.6g} to {values.max():.6g} in training)"
    ]
    assert ParameterEncoder(["kappa", "mobility"]).take_statistics(torch.tensor([[1.0, 2.0], [1.0, 3.0]])) == ["kappa"]
    # The weights of one set of parameters are not those of another.
    other = TrajectoryDataModule(str(store.path), parameters=["mobility", "noise"], **SIZES)
    with pytest.raises(
        ValueError, match="conditioned on mobility, kappa, but the parameters of the data are mobility, noise"
    ):
        trainer().test(tiny("mobility", "noise"), other, ckpt_path=str(checkpoint), verbose=False)
    with pytest.raises(ValueError, match=r"has the parameters \['mobility'\], but the windows of the data bring \[\]"):
        trainer().test(tiny("mobility"), TrajectoryDataModule(str(store.path), **SIZES), verbose=False)
    assert isinstance(LightningModule.load_from_checkpoint(checkpoint), LocalNet)


def errors(checkpoint: Path, store: TrajectoryStore) -> pd.Series:
    """Mean squared error at each lead time over the test split."""
    table = microevo.evaluate(checkpoint, store)
    return table[(table.metric == "mse") & (table.model == "LocalNet")].groupby("lead")["value"].mean()


def test_the_parameters_of_a_store_condition_its_scores(store, checkpoint):
    model, squares = microevo.load_model(checkpoint), []
    for i in store.split("test"):
        frames = torch.from_numpy(store.read(i, 0, 5))[None]
        named = {"mobility": store.per_trajectory["mobility"][i], "kappa": 2.5}
        with torch.no_grad():
            squares.append((model(frames[:, :2], 3, named) - frames[:, 2:]).square().mean(dim=(0, 2, 3, 4)))
    np.testing.assert_allclose(errors(checkpoint, store), np.mean(squares, axis=0), rtol=1e-4)


@pytest.mark.slow
def test_new_frames_are_forecast_with_parameters_by_name(cli, checkpoint, store):
    np.save("frames.npy", store.read(0)[None])
    asked = ["predict", f"--ckpt_path={checkpoint}", "--input=frames.npy", "--pictures=0"]
    cli(*asked).refusal(
        "conditioned on mobility, kappa", "give --parameters.mobility VALUE --parameters.kappa VALUE", code=1
    )
    cli(*asked, "--parameters={noise: 1}").refusal("mobility, kappa, not on noise; leave out --parameters.noise")
    cli(*asked, "--parameters={kappa: .nan, mobility: 1}").refusal("kappa is not a finite number")
    outcome = cli(*asked, "--parameters.mobility", "9", "--parameters.kappa", "2.5")
    assert outcome.code == 0, outcome.err
    assert "from the last 2 of frames.npy, conditioned on mobility = 9, kappa = 2.5" in outcome.out
    assert "beyond those of the training: mobility (" in outcome.err
    made = TrajectoryStore.open("frames-forecasts.zarr")
    assert made.attributes["recipe"]["conditioned_on"] == ["mobility", "kappa"]
    assert [made.per_trajectory[name].tolist() for name in ("mobility", "kappa")] == [[9.0], [2.5]]
    past = torch.from_numpy(store.read(0)[None, -2:])
    with torch.no_grad():
        expected = microevo.load_model(checkpoint)(past, 3, {"mobility": 9.0, "kappa": 2.5})
    np.testing.assert_allclose(made.read(0), expected[0].numpy(), atol=1e-6)


@pytest.mark.filterwarnings("ignore:the forecasts are for values beyond")
def test_a_store_brings_its_parameters_to_a_forecast(store, small_store, checkpoint, tmp_path, capsys):
    made = predict(str(checkpoint), str(store.path), str(tmp_path / "own.zarr"), pictures=0)
    expected = store.per_trajectory["mobility"].astype(np.float32)
    np.testing.assert_array_equal(made.per_trajectory["mobility"], expected)
    assert f"mobility = {expected.min():.6g} to {expected.max():.6g}, kappa = 2.5" in capsys.readouterr().out
    given = {"mobility": 1.25}
    made = predict(str(checkpoint), str(small_store), str(tmp_path / "given.zarr"), parameters=given, pictures=0)
    assert set(made.per_trajectory["mobility"]) == {1.25}
    assert set(made.per_trajectory["kappa"]) == {2.5}  # a setting of the process
    data = TrajectoryDataModule(str(store.path), parameters=["mobility", "kappa"], **SIZES)
    runner = trainer(default_root_dir=tmp_path, callbacks=[ForecastWriter(pictures=0)])
    runner.predict(microevo.load_model(checkpoint), data, return_predictions=False)
    made = TrajectoryStore.open(tmp_path / "forecasts.zarr")
    np.testing.assert_array_equal(made.per_trajectory["mobility"], expected[store.split("test")])
    assert "conditioned on mobility = " in capsys.readouterr().out


@pytest.mark.slow
def test_a_benchmark_leaves_out_a_network_where_its_parameter_is_not_known(
    store, checkpoint, make_store: Callable[..., TrajectoryStore], tmp_path, capsys
):
    stores = {"2->3": store, "unknown": make_store(frames=8, shape=(16, 16))}
    protocols = {name: Protocol(store=str(one.path), **SIZES) for name, one in stores.items()}
    entries = [Model("Conditioned", checkpoint), persistence(1)]
    scores = dict.fromkeys(protocols, Scores(pixel={"mse": find("mse")}))
    evaluation = Evaluation(protocols, entries, scores, ["c"], tmp_path / "results")
    assert evaluation.check() == [("2->3", 0), ("2->3", 1), ("2->3", 2), ("unknown", 0), ("unknown", 2)]
    evaluation.run(progress=False)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert re.match("unknown: Conditioned.* is left out, since it is conditioned on mobility, kappa, which ", line)
    table = pd.read_parquet(tmp_path / "results" / "table")
    scored = table[(table.kind == "metric") & (table.competitor == "Conditioned")]
    truth = errors(checkpoint, store)
    assert scored.groupby("lead")["value"].mean().to_numpy() == pytest.approx(truth.to_numpy(), rel=1e-4)
    cost = _measure(evaluation, "2->3", "cpu", repeats=1, warmup=0).set_index("competitor")
    assert cost.rmse["Conditioned"] == pytest.approx((truth**0.5).mean(), rel=1e-4)
    assert cost.parameters["Conditioned"] == sum(w.numel() for w in entries[0].forecaster.parameters())


@pytest.mark.slow
def test_the_command_line_takes_their_names_from_the_data(cli, store):
    asked = ["--config=tiny.yaml", f"--data.init_args.store={store.path}", "--data.init_args.parameters=[mobility]"]
    asked += ["--data.init_args.horizon=3", "--data.init_args.n_future=1", "--trainer.fast_dev_run=true"]
    cli("fit", *asked).refusal("FCN cannot be conditioned on parameters (mobility)")
    outcome = cli("fit", *asked, "--model=LocalNet", "--model.init_args.widths=[4]")
    assert outcome.code == 0, outcome.err
