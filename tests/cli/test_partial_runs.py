"""Runs that take a part of the batches, and forecasts of which a part diverges."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from microevo.data import TrajectoryStore
from microevo.models import FCN


@pytest.fixture
def evaluated(trained):
    return ["--config", "tiny.yaml", "--ckpt_path", trained / "checkpoints" / "best.ckpt", "--run_dir=out"]


LOGS = ["--trainer.logger={class_path: CSVLogger, init_args: {save_dir: logs}}"]
SINGLY = ["--data.init_args.eval_batch_size=1"]


@pytest.mark.slow
def test_limited_evaluations_say_so_and_write_under_another_name(cli, evaluated):
    tested = cli("test", *evaluated, *SINGLY, "--trainer.limit_test_batches=1")
    assert tested.code == 0, tested.err
    assert "test takes 1 of 2 batches, as --trainer limits it" in tested.out
    predicted = cli("predict", *evaluated, *SINGLY, "--trainer.limit_predict_batches=0.5")
    assert predicted.code == 0, predicted.err
    assert "predict takes 1 of 2 batches" in predicted.out
    assert {"test.csv", "forecasts.zarr"}.isdisjoint(path.name for path in Path("out").iterdir())
    assert set(pd.read_csv("out/test-partial.csv").trajectory) == {6}
    forecasts = TrajectoryStore.open("out/forecasts-partial.zarr")
    assert forecasts.per_trajectory["source_trajectory"].tolist() == [6]
    assert Path("out/forecasts-partial-6-0-c.png").is_file()
    assert not list(Path("out").glob(".*"))
    assert "validate takes 1 of 2 batches" in cli("validate", *evaluated, *SINGLY, "--trainer.limit_val_batches=1").out


@pytest.mark.slow
def test_a_limit_that_leaves_nothing_out_changes_nothing(cli, evaluated):
    tested = cli("test", *evaluated, *SINGLY, "--trainer.limit_test_batches=2")
    assert "takes" not in tested.out
    assert Path("out/test.csv").is_file()


@pytest.mark.parametrize(("command", "stage"), [("validate", "val"), ("test", "test"), ("predict", "predict")])
def test_a_limit_that_leaves_everything_out_is_said(cli, evaluated, command, stage):
    outcome = cli(command, *evaluated, f"--trainer.limit_{stage}_batches=0", "--trainer.logger=false")
    assert outcome.code == 0, outcome.err
    assert f"{command} took no batch, as --trainer.limit_{stage}_batches = 0 has it" in outcome.out
    assert not {"test.csv", "forecasts.zarr"} & {path.name for path in Path("out").glob("*")}


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_fast_dev_run_leaves_nothing_behind(cli, evaluated, command):
    there = set(Path().iterdir())
    args = evaluated[:2] if command == "fit" else evaluated
    tried = cli(command, *args, *SINGLY, "--trainer.fast_dev_run=true", *LOGS)
    assert tried.code == 0, tried.err
    assert "nothing is written" in tried.out
    assert "/tmp" not in tried.out
    assert set(Path().iterdir()) == there


@pytest.mark.slow
def test_fast_dev_run_finds_the_checkpoints_of_a_run(cli, trained):
    args = ["--config", "tiny.yaml", "--run_dir", trained, "--trainer.fast_dev_run=true"]
    assert cli("test", *args, "--ckpt_path=best").code == 0
    assert cli("fit", *args, "--ckpt_path=last", "--trainer.max_epochs=5").code == 0


def diverge(monkeypatch, which):
    """Let the forecasts of some trajectories become NaN at their third frame."""
    predict = FCN.predict_step

    def predict_step(self, batch, batch_idx):
        forecast = predict(self, batch, batch_idx)
        forecast[torch.isin(batch.trajectory, torch.tensor(which)), 2:] = torch.nan
        return forecast

    monkeypatch.setattr(FCN, "predict_step", predict_step)


@pytest.mark.slow
def test_a_forecast_that_diverges_is_named_and_the_others_are_kept(cli, evaluated, monkeypatch, small_store):
    diverge(monkeypatch, [6])
    predicted = cli("predict", *evaluated)
    assert predicted.code == 0
    assert "1 of 2 forecasts of FCN hold values that are not finite" in predicted.err
    assert "trajectory 6 from frame 0, at lead 3" in predicted.err
    forecasts, source = TrajectoryStore.open("out/forecasts.zarr"), TrajectoryStore.open(small_store)
    assert forecasts.per_trajectory["source_trajectory"].tolist() == [7]
    np.testing.assert_array_equal(forecasts.read(0, fields=["c_truth"]), source.read(7, 4, 9))
    assert [path.name for path in Path("out").glob("*.png")] == ["forecasts-7-0-c.png"]
    assert not list(Path("out").glob(".*"))


def test_forecasts_that_all_diverge_are_refused(cli, evaluated, monkeypatch):
    diverge(monkeypatch, [6, 7])
    cli("predict", *evaluated).refusal(
        "no forecast of FCN", "not finite", "trajectory 6 from frame 0, at lead 3", code=1
    )
    assert not list(Path("out").glob("*.zarr"))
