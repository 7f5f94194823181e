"""Trainings that are stopped from outside, and resumed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml


def config(folder: Path, store: Path, model: str = "FCN", **settings: object) -> Path:
    path = folder / "tiny.yaml"
    models = {"FCN": {"hid_s": 4, "hid_t": 8, "n_s": 2, "n_t": 2}, "ConvLSTM": {"hidden": [4]}}
    data = {
        "store": str(store),
        "n_past": 4,
        "n_future": 4,
        "horizon": 10,
        "batch_size": 4,
        "symmetries": ["shift", "flip", "rotate"],
    }
    checkpoint = {"monitor": "val/mse", "filename": "best", "auto_insert_metric_name": False}
    path.write_text(
        yaml.safe_dump(
            {
                "data": {"class_path": "microevo.data.TrajectoryDataModule", "init_args": data},
                "model": {"class_path": f"microevo.models.{model}", "init_args": models[model] | settings},
                "trainer": {
                    "accelerator": "cpu",
                    "max_epochs": 500,
                    "callbacks": [
                        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": checkpoint}
                    ],
                },
            }
        )
    )
    return path


def steps(run: Path) -> int:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


@pytest.mark.parametrize(
    ("stop", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
    ids=["ctrl-c", "term", "kill"],
)
def test_a_stopped_training_resumes(tmp_path, small_store, in_process, capsys, stop, code):
    command = ["fit", "--config", config(tmp_path, small_store), "--run_dir", "run", "--ckpt_path", "last"]
    process = subprocess.Popen(
        [sys.executable, "-m", "microevo", *map(str, command)],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    patience = time.monotonic() + 100
    while not last.exists() and time.monotonic() < patience and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    if stop != signal.SIGKILL:
        assert "--ckpt_path" in errors
        assert "resumes from" in errors
    done = steps(tmp_path / "run")
    assert done > 0
    longer = [*command, "--trainer.max_epochs", -1, "--trainer.max_steps", done + 12]
    with pytest.raises(SystemExit) as refused:
        in_process(*longer, "--model.schedule=constant")
    assert refused.value.code != 0  # another schedule is another training
    assert "schedule" in capsys.readouterr().err
    in_process(*longer)
    assert steps(tmp_path / "run") == done + 12


@pytest.mark.parametrize(
    ("model", "settings"),
    [("FCN", {"drop_path": 0.2}), ("ConvLSTM", {"sampling_steps": 20})],
)
@pytest.mark.slow
def test_a_training_resumed_at_the_end_of_an_epoch_is_exact(
    tmp_path, small_store, in_process, microevo, model, settings
):
    # Nothing in the settings may depend on the planned length, which is not the same for the first part.
    tiny = config(tmp_path, small_store, model, schedule="constant", **settings)
    command = ["fit", "--config", tiny, "--ckpt_path", "last"]
    in_process(*command, "--run_dir", "whole", "--trainer.max_epochs", 3)
    in_process(*command, "--run_dir", "parts", "--trainer.max_epochs", 1)
    # In a process of its own, where nothing is left of the first part but its checkpoint.
    rest = microevo(*command, "--run_dir", "parts", "--trainer.max_epochs", 3)
    assert rest.returncode == 0, rest.stderr
    whole, parts = (
        torch.load(tmp_path / folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in ("whole", "parts")
    )
    for name, weights in whole.items():
        assert torch.equal(weights, parts[name]), name
