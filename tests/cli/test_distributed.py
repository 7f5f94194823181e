"""Real runs of the command line on two processes (gloo, CPU)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from shared import small_process

from microevo.data import TrajectoryStore, generate

TWO = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
MODELS = {
    "FCN": {"hid_s": 4, "hid_t": 8, "n_s": 2, "n_t": 2},
    "ConvLSTM": {"hidden": [4]},
    "PredRNN": {"hidden": 4, "layers": 2},
}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trajectories in val and in test: two processes cannot share them evenly."""
    path = tmp_path_factory.mktemp("uneven") / "uneven.zarr"
    generate(small_process(), path, splits={"train": 4, "val": 3, "test": 3}, frames=16)
    return path


def config(folder: Path, store: Path, model: str = "FCN") -> Path:
    path = folder / "tiny.yaml"
    data = {"store": str(store), "n_past": 4, "n_future": 4, "horizon": 10, "batch_size": 2, "symmetries": ["shift"]}
    checkpoint = {"monitor": "val/mse", "filename": "best", "auto_insert_metric_name": False}
    path.write_text(
        yaml.safe_dump(
            {
                "data": {"class_path": "microevo.data.TrajectoryDataModule", "init_args": data},
                "model": {"class_path": f"microevo.models.{model}", "init_args": MODELS[model]},
                "trainer": {
                    "accelerator": "cpu",
                    "max_epochs": 1,
                    "limit_train_batches": 3,
                    "callbacks": [
                        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": checkpoint}
                    ],
                    "logger": {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "."}},
                },
            }
        )
    )
    return path


def logged(run: Path) -> dict[str, float]:
    """The last values in the newest CSV log of a run."""
    newest = max(run.rglob("metrics.csv"), key=lambda path: path.stat().st_mtime)
    row = pd.read_csv(newest).ffill().iloc[-1]
    return {name: value for name, value in row.items() if name.startswith(("val/", "test/"))}


@pytest.mark.parametrize("stages", [("test",), pytest.param(("validate", "test"), marks=pytest.mark.slow)])
@pytest.mark.slow
def test_two_processes_score_as_one_does(tmp_path, uneven, in_process, microevo, stages):
    tiny = config(tmp_path, uneven)
    fit = microevo("fit", "--config", tiny, "--run_dir", "two", *TWO)
    assert fit.returncode == 0, fit.stderr
    assert sorted(path.name for path in (tmp_path / "two").glob("config-*")) == ["config-fit.yaml"]
    best = tmp_path / "two" / "checkpoints" / "best.ckpt"
    assert best.exists()
    for stage in stages:
        command = [stage, "--config", tiny, "--ckpt_path", best]
        in_process(*command, "--run_dir", f"{stage}-one")
        run = microevo(*command, "--run_dir", f"{stage}-two", *TWO)
        assert run.returncode == 0, run.stderr
        one, two = logged(tmp_path / f"{stage}-one"), logged(tmp_path / f"{stage}-two")
        assert one.keys() == two.keys()
        for name, value in one.items():
            assert two[name] == pytest.approx(value, rel=1e-5), name
    tables = [pd.read_csv(tmp_path / f"test-{name}" / "test.csv") for name in ("one", "two")]
    keys = ["model", "metric", "trajectory", "start", "lead"]
    assert not tables[1].duplicated(keys).any()
    pd.testing.assert_frame_equal(tables[0], tables[1], rtol=1e-5)
    assert set(tables[1].trajectory) == {7, 8, 9}


@pytest.mark.slow
def test_two_processes_fill_one_store_of_forecasts(tmp_path, uneven, in_process, microevo):
    tiny = config(tmp_path, uneven)
    in_process("fit", "--config", tiny, "--run_dir", "run")
    run = microevo("predict", "--config", tiny, "--ckpt_path", "best", "--run_dir", "run", *TWO)
    assert run.returncode == 0, run.stderr
    forecasts, source = TrajectoryStore.open(tmp_path / "run" / "forecasts.zarr"), TrajectoryStore.open(uneven)
    assert forecasts.per_trajectory["source_trajectory"].tolist() == [7, 8, 9]
    for i in range(3):
        np.testing.assert_array_equal(forecasts.read(i, fields=["c_truth"]), source.read(7 + i, 4, 14))


@pytest.mark.slow  # tests/test_datamodule.py has it refused without the two processes
def test_more_processes_than_windows_are_refused_in_one_sentence(tmp_path, microevo):
    store = tmp_path / "one.zarr"
    generate(small_process(), store, splits={"train": 4, "val": 1, "test": 1}, frames=16)
    run = microevo("fit", "--config", config(tmp_path, store), *TWO, timeout=120)
    assert run.returncode != 0
    assert run.stderr.count("1 windows cannot be shared by 2 processes; use fewer devices or more trajectories") == 1
    assert "Traceback" not in run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("model", ["ConvLSTM", "PredRNN"])
def test_every_model_trains_on_two_processes(tmp_path, uneven, microevo, model):
    run = microevo("fit", "--config", config(tmp_path, uneven, model), *TWO)
    assert run.returncode == 0, run.stderr
