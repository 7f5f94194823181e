"""Trainings that are stopped from outside, and resumed."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from interrupts import SEEN

from microevo.data import TrajectoryStore
from microevo.metrics import squared_error
from microevo.models import load_model


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
    [(signal.SIGTERM, 143), (signal.SIGKILL, -9)],
    ids=["term", "kill"],
)
@pytest.mark.slow
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
    ("after", "in_validation"),
    [
        pytest.param(2, False, id="before a validation", marks=pytest.mark.slow),
        pytest.param(6, False, id="after a validation", marks=pytest.mark.slow),
        pytest.param(8, True, id="in a validation"),
    ],
)
def test_ctrl_c_saves_the_step_that_it_announces(cli, after, in_validation):
    fit = ["fit", "--config=tiny.yaml", "--run_dir=my run", "--trainer.limit_train_batches=4"]
    interrupt = f"{{class_path: interrupts.CtrlC, init_args: {{after: {after}, in_validation: {in_validation}}}}}"
    stopped = cli(*fit, "--trainer.max_epochs=5", f"--trainer.callbacks+={interrupt}")
    assert stopped.code == 130
    announced = re.search(r"the same command with (--ckpt_path .*) resumes from step (\d+)", stopped.err)
    assert int(announced[2]) == steps(Path("my run")) == after
    SEEN.clear()
    note = "--trainer.callbacks+={class_path: interrupts.CtrlC, init_args: {after: -1}}"
    resumed = cli(*fit, *shlex.split(announced[1]), note, "--trainer.max_epochs=5")
    assert resumed.code == 0, resumed.err
    assert list(range(after, 20)) == SEEN


@pytest.mark.slow
def test_best_and_last_are_the_weights_of_their_steps(cli, small_store):
    # Of an error that falls, so that the best checkpoint stays the earliest one.
    fast = ["--model.init_args.lr=0.01", "--model.init_args.schedule=constant"]
    fitted = cli("fit", "--config=tiny.yaml", "--run_dir=run", "--trainer.callbacks.init_args.mode=max", *fast)
    errors = [(float(error), int(step)) for step, error in re.findall(r"step +(\d+) .*val/mse (\S+)", fitted.out)]
    assert errors == sorted(errors, reverse=True)
    scores = {}
    for which, step in {"best": errors[0][1], "last": errors[-1][1]}.items():
        checkpoint = Path("run/checkpoints") / f"{which}.ckpt"
        assert torch.load(checkpoint, weights_only=True)["global_step"] == step
        assert cli("test", "--config=tiny.yaml", "--run_dir=run", f"--ckpt_path={which}").code == 0
        table = pd.read_csv(Path("run/test.csv").rename(f"run/{which}.csv"))
        model, store = load_model(checkpoint), TrajectoryStore.open(small_store)
        past, future = (torch.tensor(store.read(6, *frames))[None] for frames in ((0, 4), (4, 9)))
        with torch.no_grad():
            error = float(squared_error(model(past, 5), future)[0, 0])
        table = table.set_index(["model", "metric", "trajectory", "lead"]).value
        assert table["FCN", "mse", 6, 1] == pytest.approx(error, rel=1e-5)
        scores[which] = error
    assert scores["best"] != pytest.approx(scores["last"], rel=1e-3)


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
