"""Sweeps whose trials are trainings, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from wandb_reader import OfflineRun

pytestmark = pytest.mark.slow
WANDB = {"class_path": "lightning.pytorch.loggers.WandbLogger", "init_args": {"project": "microevo"}}


def write_sweep(parameters: dict, trainer: dict, **changed) -> None:
    tiny = yaml.safe_load(Path("tiny.yaml").read_text())
    Path("trial.yaml").write_text(yaml.safe_dump(tiny | {"trainer": tiny["trainer"] | trainer}))
    command = ["${env}", "${interpreter}", "-m", "${program}", "fit", "--config", "trial.yaml", "${args}"]
    sweep = {"program": "microevo", "method": "grid", "metric": {"name": "val/mse"}, "command": command}
    Path("search.yaml").write_text(yaml.safe_dump(sweep | {"parameters": parameters} | changed))


def table() -> pd.DataFrame:
    return pd.read_csv("runs/sweeps/search/trials.csv")


def test_trials_log_to_wandb_and_the_best_setting_can_be_trained(cli):
    command = [
        "${env}",
        "${interpreter}",
        "-m",
        "${program}",
        "fit",
        "--config",
        "trial.yaml",
        "--config",
        "${args_json_file}",
    ]
    parameters = {"model.init_args.lr": {"values": [0.001, 0.01]}, "model.init_args.init_from": {"value": None}}
    write_sweep(parameters, {"logger": WANDB, "log_every_n_steps": 1}, command=command)
    done = cli("sweep", "--config", "search.yaml", "--jobs", "2")
    assert done.code == 0, done.err
    rows = table()
    assert set(rows["state"]) == {"complete"}
    assert set(rows["validations"]) == {2}
    for number in (0, 1):
        run = OfflineRun(Path(f"runs/sweeps/search/trials/{number:04d}"))
        assert (run.group, run.name, run.tags) == ("search", f"search-{number}", ["sweep", "grid"])
    best = yaml.safe_load(Path("runs/sweeps/search/best.yaml").read_text())
    assert best["model"]["init_args"]["lr"] == rows["model.init_args.lr"][0]
    assert best["data"]["init_args"]["n_past"] == 4
    assert not [callback for callback in best["trainer"]["callbacks"] if "ValidationLog" in callback["class_path"]]
    trained = cli("fit", "--config", "runs/sweeps/search/best.yaml", "--trainer.fast_dev_run", "true")
    assert trained.code == 0, trained.err
    assert not Path("runs/best").exists()


def start(*options: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "microevo", "sweep", "--config", "search.yaml", *options]
    return subprocess.Popen(words, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL)


def test_two_runners_of_which_one_is_killed_finish_the_trials_that_were_begun(cli):
    write_sweep({"model.init_args.lr": {"values": [0.001, 0.003, 0.01]}}, {"max_epochs": 60})
    killed, other = start(), start()
    folder = Path("runs/sweeps/search/trials")
    deadline = time.monotonic() + 200
    while not all((folder / f"000{number}/checkpoints/last.ckpt").exists() for number in (0, 1)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    assert other.wait(timeout=200) == 0
    rows = table()
    assert len(rows) == 3
    assert set(rows["state"]) == {"complete"}
    assert set(rows["validations"]) == {60}
    logs = [(folder / f"{number:04d}/log.txt").read_text() for number in range(3)]
    assert sum("resumes from" in log for log in logs) == 1  # what the training said as it ended with its runner
    for number in range(3):
        lines = (folder / f"{number:04d}/validation.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(1, 61))  # resumed, not begun anew
