"""What a W&B run tells of a training and of a benchmark, read back from its offline files."""

import json
from pathlib import Path

import pytest
import yaml
from wandb_reader import OfflineRun

from microevo.data import TrajectoryStore

LOGGER = ["--trainer.logger=WandbLogger", "--trainer.logger.project=microevo", "--trainer.log_every_n_steps=1"]
PICTURES = {
    "class_path": "microevo.callbacks.ValidationFilmstrip",
    "init_args": {"every_n_epochs": 1, "animate_every_n_epochs": 2},
}


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """W&B offline, with a home folder that must stay empty."""
    wandb = pytest.importorskip("wandb")
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    yield
    wandb.finish()
    wandb.teardown()


def fit(cli, *args):
    done = cli("fit", "--config", "tiny.yaml", *LOGGER, f"--trainer.callbacks+={json.dumps(PICTURES)}",
               "--trainer.callbacks+=microevo.callbacks.LeadCurves", *args)  # fmt: skip
    assert done.code == 0, done.err
    wandb_finish()


def wandb_finish():
    """End the run, as the end of the process would."""
    import wandb

    wandb.finish()


@pytest.mark.slow
def test_a_training_tells_its_story(cli, offline, small_store, tmp_path):
    fit(cli)
    folder = Path("runs/tiny")
    run, about = OfflineRun(folder), json.loads((folder / "run-fit.json").read_text())

    assert run.id == about["wandb_id"]
    saved = yaml.safe_load((folder / "config-fit.yaml").read_text())
    assert {part: run.config[part] for part in ("model", "data", "trainer")} == {
        part: saved[part] for part in ("model", "data", "trainer")
    }
    store = TrajectoryStore.open(small_store)
    assert run.config["data_fingerprint"] == store.fingerprint
    assert run.config["parameters"] == about["parameters"] > 0
    assert {"git_commit", "versions", "command", "seed"} <= run.config.keys()

    assert len(run.history["val/mse"]) == 2
    assert len(run.history["val/filmstrip"]) == 2
    assert len(run.history["val/animation"]) == 1  # of the epochs 0 and 1
    assert len(run.history["val/rmse by lead_table"]) == 2
    assert "train/loss" in run.history

    data, model = run.artifacts["data-small"], run.artifacts[f"model-{run.id}"]
    assert (data.type, data.use_after_commit) == ("dataset", True)  # an input of the run
    assert json.loads(data.metadata)["fingerprint"] == store.fingerprint
    assert (model.type, model.use_after_commit, list(model.aliases)) == ("model", False, ["best", "latest"])
    (weights,) = model.manifest.contents
    assert weights.path == "model.ckpt"
    assert Path(weights.local_path).is_relative_to(tmp_path / folder)
    assert Path(weights.local_path).read_bytes() == (folder / "checkpoints/best.ckpt").read_bytes()
    assert json.loads(model.metadata)["val/mse"] == pytest.approx(min(run.history["val/mse"]), rel=1e-5)


@pytest.mark.slow
def test_a_benchmark_names_the_runs_that_it_compares(cli, offline, small_store):
    fit(cli)
    training = OfflineRun(Path("runs/tiny"))
    protocols = f"--protocols={{p: {{store: {small_store}, n_past: 4, horizon: 5}}}}"
    args = ["--checkpoints={FCN: runs/tiny/checkpoints/best.ckpt}", "--reference_solver=false", "--repeats=0"]
    done = cli("benchmark", protocols, *args, "--leads=[1]", "--output=results", "--logger=WandbLogger")
    assert done.code == 0, done.err
    wandb_finish()
    run = OfflineRun(Path("results"))
    assert run.config["runs"] == {"FCN": training.id}
    assert "benchmark/runs" in run.history


@pytest.mark.slow
def test_wandb_switched_off_asks_nothing_and_leaves_nothing(cli, offline, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    fit(cli)
    assert not list(Path("runs/tiny").rglob("*.wandb"))
    assert Path("runs/tiny/checkpoints/best.ckpt").is_file()
