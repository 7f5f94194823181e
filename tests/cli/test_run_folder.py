"""A run's folder: its own checkpoints, one training at a time, and what a resumed or requeued training finds in it."""

import contextlib
import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
import yaml
from command_line import TINY

from microevo.cli.run_folder import claim, locked, wandb_id

SAVER = "--trainer.callbacks.init_args."


def steps(checkpoint: str | Path) -> int:
    return torch.load(checkpoint, weights_only=True)["global_step"]


def config(name: str, store: Path, **saver: object) -> None:
    tree = yaml.safe_load(TINY.replace("STORE", str(store)))
    tree["trainer"]["callbacks"][0]["init_args"] |= saver
    Path(name).write_text(yaml.safe_dump(tree))


# The run's own checkpoints


@pytest.mark.slow
def test_a_run_that_keeps_its_checkpoints_elsewhere_is_resumed(cli, small_store):
    config("tiny.yaml", small_store, dirpath="elsewhere")
    fit = ["fit", "--config", "tiny.yaml", "--ckpt_path=last"]
    assert cli(*fit).code == 0
    assert {path.name for path in Path("elsewhere").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert "starts from the beginning" not in cli(*fit, "--trainer.max_epochs=4").out
    assert steps("elsewhere/last.ckpt") == 4
    tested = cli("test", "--config", "tiny.yaml", "--ckpt_path=best")
    assert tested.code == 0, tested.err


@pytest.mark.slow
def test_runs_that_share_a_folder_of_checkpoints_keep_their_own(cli, small_store):
    config("tiny.yaml", small_store, dirpath="shared")
    fit = ["fit", "--config", "tiny.yaml"]
    assert cli(*fit, "--run_dir=a").code == 0
    assert cli(*fit, "--run_dir=b", "--trainer.max_epochs=1").code == 0
    assert cli(*fit, "--run_dir=a", "--ckpt_path=last", "--trainer.max_epochs=3").code == 0
    records = [json.loads(Path(run, "checkpoints.json").read_text()) for run in ("a", "b")]
    assert [steps(Path(run, record["last"])) for run, record in zip("ab", records, strict=True)] == [3, 1]
    assert Path("a", records[0]["best"]).resolve() != Path("b", records[1]["best"]).resolve()


def best_is_the_best(run: Path) -> None:
    """Of all checkpoints, the recorded best one has the score that `ModelCheckpoint` counts as the best."""
    record = json.loads((run / "checkpoints.json").read_text())
    states = torch.load(run / record["last"], weights_only=True)["callbacks"]
    state = next(state for name, state in states.items() if name.startswith("ModelCheckpoint"))
    assert Path(state["best_model_path"]).resolve() == (run / record["best"]).resolve()
    assert [path.name for path in (run / "checkpoints").glob("best*")] == [Path(record["best"]).name]


@pytest.mark.slow
def test_a_run_that_was_moved_replaces_its_best_checkpoint(cli, small_store):
    config(
        "tiny.yaml", small_store, mode="max"
    )  # of an error that falls first: the earliest checkpoint stays the best one
    assert cli("fit", "--config", "tiny.yaml", "--run_dir=project/run").code == 0
    before = Path("project/run/checkpoints/best.ckpt").read_bytes()
    shutil.copytree("project", "copy")
    shutil.move("project/run", "moved")
    for run in (Path("copy/run"), Path("moved")):
        resumed = cli("fit", "--config", "tiny.yaml", "--run_dir", run, "--ckpt_path=last", "--trainer.max_epochs=4")
        assert resumed.code == 0, resumed.err
        assert steps(run / "checkpoints" / "last.ckpt") == 4
        best_is_the_best(run)
    assert len(before) > 0


@pytest.mark.slow
def test_the_best_of_an_old_run_is_found_without_a_record(cli, small_store):
    assert cli("fit", "--config", "tiny.yaml").code == 0
    run = Path("runs/tiny")
    (run / "checkpoints.json").unlink()
    last = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    for state in checkpoint["callbacks"].values():
        if "best_model_path" in state:
            state["best_model_path"] = state["best_model_path"].replace("best.ckpt", "best-v1.ckpt")
    torch.save(checkpoint, last)
    shutil.copy(run / "checkpoints" / "best.ckpt", run / "checkpoints" / "best-v1.ckpt")
    (run / "checkpoints" / "best.ckpt").write_text("the best of before")
    tested = cli("test", "--config", "tiny.yaml", "--ckpt_path=best")
    assert tested.code == 0, tested.err
    last.unlink()
    refused = cli("test", "--config", "tiny.yaml", "--ckpt_path=best")
    refused.refusal("best-v1.ckpt, best.ckpt", "give one by its path", code=1)


def test_a_damaged_record_of_checkpoints_is_one_sentence(cli, trained):
    shutil.copytree(trained, "run")
    Path("run/checkpoints.json").write_text('{"last": ')
    for command, which in (("test", "best"), ("fit", "last")):
        refused = cli(command, "--config", "tiny.yaml", "--run_dir=run", f"--ckpt_path={which}")
        refused.refusal("run/checkpoints.json is damaged", "restore it from a copy, or remove it", code=1)


@pytest.mark.slow
def test_a_run_whose_last_checkpoint_is_gone_does_not_begin_again(cli):
    assert cli("fit", "--config", "tiny.yaml").code == 0
    best = Path("runs/tiny/checkpoints/best.ckpt").read_bytes()
    Path("runs/tiny/checkpoints/last.ckpt").unlink()
    refused = cli("fit", "--config", "tiny.yaml", "--ckpt_path=last")
    refused.refusal("the last checkpoint of the run in runs/tiny is gone", "runs/tiny/checkpoints/last.ckpt", code=1)
    Path("runs/tiny/checkpoints.json").unlink()
    cli("fit", "--config", "tiny.yaml", "--ckpt_path=last").refusal("last checkpoint", "is gone", code=1)
    assert Path("runs/tiny/checkpoints/best.ckpt").read_bytes() == best
    assert cli("test", "--config", "tiny.yaml", "--ckpt_path=best").code == 0


def test_a_run_is_not_trained_into_another_one(cli, trained):
    assert cli("fit", "--config", "tiny.yaml", "--run_dir=run").code == 0
    other = cli("fit", "--config", "tiny.yaml", "--run_dir=run", "--ckpt_path", trained / "checkpoints" / "last.ckpt")
    other.refusal("run holds the checkpoints of a run", "--run_dir", code=1)


# One run at a time


def hold(run_dir: Path, pipe, other) -> None:
    other.close()  # a forked process has both ends
    with locked(run_dir), contextlib.suppress(EOFError):
        pipe.send("locked")
        pipe.recv()


@pytest.fixture
def holder(tmp_path):
    context = multiprocessing.get_context("fork")  # nothing is imported anew
    ours, theirs = context.Pipe()
    process = context.Process(target=hold, args=(tmp_path / "run", theirs, ours))
    process.start()
    theirs.close()
    assert ours.recv() == "locked"
    yield process, ours
    ours.close()
    process.join(60)


def test_a_second_training_in_the_same_folder_is_refused(cli, holder):
    process, pipe = holder
    for more in ([], ["--ckpt_path=last"]):
        refused = cli("fit", "--config", "tiny.yaml", "--run_dir=run", *more)
        refused.refusal("another training writes into run", f"process {process.pid} on ", "--run_dir", code=1)
    assert [path.name for path in Path("run").iterdir()] == ["run.lock"]
    pipe.send("end")
    process.join(60)
    assert not Path("run").exists()


@pytest.mark.slow
def test_the_folder_of_a_dead_training_can_be_used(cli, holder):
    process, _ = holder
    process.kill()
    process.join(60)
    assert Path("run/run.lock").exists()
    assert cli("fit", "--config", "tiny.yaml", "--run_dir=run").code == 0
    assert not Path("run/run.lock").exists()


def test_only_the_first_of_several_processes_holds_the_folder(tmp_path, holder, monkeypatch):
    from lightning.pytorch.utilities import rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", 1)
    with locked(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / "run.lock").exists()


def test_a_claimed_folder_is_new(tmp_path):
    assert [claim(tmp_path / "a").name for _ in range(3)] == ["a", "a-2", "a-3"]


# Requeued by SLURM


@pytest.fixture
def slurm(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv(
        "SLURM_JOB_NAME", "bash"
    )  # Lightning then leaves starting processes alone, as in an interactive job

    def restart() -> None:
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")

    return restart


@pytest.mark.slow
def test_a_requeued_job_resumes_in_its_own_folder(cli, slurm, monkeypatch):
    fit = ["fit", "--config", "tiny.yaml"]
    monkeypatch.setenv("SLURM_JOB_ID", "16")
    assert cli(*fit).code == 0  # another job
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert cli(*fit).code == 0
    slurm()
    resumed = cli(*fit, "--trainer.max_epochs=4")
    assert resumed.code == 0, resumed.err
    assert "SLURM requeued this job: the training in runs/tiny-2 is resumed" in resumed.out
    assert sorted(path.name for path in Path("runs").iterdir()) == ["tiny", "tiny-2"]
    assert steps("runs/tiny-2/checkpoints/last.ckpt") == 4


@pytest.mark.slow
def test_what_was_saved_before_requeueing_counts_as_the_last_checkpoint(cli, slurm):
    fit = ["fit", "--config", "tiny.yaml", "--run_dir=run"]
    assert cli(*fit).code == 0
    # As Lightning does when SLURM announces the end: later than the last validation.
    checkpoint = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    checkpoint["microevo_seed"] = 5
    torch.save(checkpoint, "run/hpc_ckpt_1.ckpt")
    os.utime("run/hpc_ckpt_1.ckpt", (time.time() + 5,) * 2)
    slurm()
    assert cli("test", "--config", "tiny.yaml", "--run_dir=run", "--ckpt_path=last").code == 0
    assert set(torch.tensor(_seeds("run/test.csv")).tolist()) == {5.0}
    assert cli(*fit, "--trainer.max_epochs=3").code == 0
    assert not Path("run/hpc_ckpt_1.ckpt").exists()  # or a later resume would take it for the newest
    assert steps("run/checkpoints/last.ckpt") == 3


def _seeds(table: str) -> list[float]:
    import pandas as pd

    return pd.read_csv(table)["seed"].dropna().tolist()


# Weights & Biases


@pytest.mark.slow
def test_a_resumed_run_continues_its_wandb_run(cli, monkeypatch):
    pytest.importorskip("wandb")
    logger = ["--trainer.logger=WandbLogger", "--trainer.logger.project=microevo", "--trainer.logger.name=null"]
    fit = ["fit", "--config", "tiny.yaml", *logger, "--ckpt_path=last"]
    assert cli(*fit).code == 0
    import wandb

    wandb.finish()
    assert cli(*fit, "--trainer.max_epochs=3").code == 0
    wandb.finish()
    ids = {path.name.rsplit("-", 1)[-1] for path in Path("runs/tiny/wandb").glob("offline-run-*")}
    assert len(ids) == 1
    assert ids == {wandb_id(Path("runs/tiny"))}
    monkeypatch.setenv("WANDB_SWEEP_ID", "x")  # whose agent gives the id
    assert wandb_id(Path("runs/tiny")) is None


# Started by torchrun or srun


@pytest.mark.parametrize(
    "started",
    [
        {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"},
        {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "fit"},
    ],
)
def test_processes_that_do_not_know_each_other_need_the_name_of_their_folder(cli, monkeypatch, started):
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    cli("fit", "--config", "tiny.yaml").refusal("cannot agree on a new folder", "--run_dir", code=2)
    assert not Path("runs").exists()


def test_a_callback_that_is_asked_for_takes_the_place_of_the_one_of_every_run(cli):
    often = ["--trainer.callbacks+=SaveLast", "--trainer.callbacks.every_n_steps=1"]
    fitted = cli("fit", "--config", "tiny.yaml", "--run_dir=run", *often)
    assert fitted.code == 0, fitted.err
    assert steps("run/checkpoints/last.ckpt") == 2
