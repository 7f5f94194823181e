"""A training that was stopped anywhere ends as one that was not, bit for bit; what saves it is whole or not there."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import FSDPStrategy
from toy_windows import trainer

from microevo.callbacks import SaveLast, SeedSteps, Unrolling, find_checkpoint
from microevo.callbacks.checkpoints import WholeCheckpoints
from microevo.cli.run_folder import locked
from microevo.data import TrajectoryDataModule
from microevo.models import ConvLSTM, LocalNet


class Stop(Callback):
    """Raises a signal, or an error in the place of a kill, at the n-th of the moments of a training."""

    def __init__(self, moment: int, number: int | None) -> None:
        self.left, self.number = moment, number

    def _moment(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0 and self.number is None:
            raise RuntimeError("killed")
        if self.left == 0:
            signal.raise_signal(self.number)

    on_train_batch_start = on_train_batch_end = on_before_optimizer_step = on_before_zero_grad = _moment
    on_validation_batch_start = on_validation_end = on_train_epoch_end = _moment


def fit(folder: Path, store: Path, *callbacks: Callback, every: int | None = None, **settings: Any) -> None:
    """Twelve steps of two batches each, with validations between the two, or resume them."""
    data = TrajectoryDataModule(
        str(store), n_past=4, n_future=8, horizon=4, batch_size=4, symmetries=["shift", "flip"], stride=2
    )
    torch.manual_seed(0)
    model = ConvLSTM(hidden=[2], patch_size=4, n_past=4, horizon=4, lr=0.01, sampling_until=0.8)
    best = ModelCheckpoint(folder / "checkpoints", "best", monitor="val/mse", auto_insert_metric_name=False)
    average = EMAWeightAveraging(decay=0.5, use_buffers=False)
    options: dict[str, Any] = {"accumulate_grad_batches": 2, "val_check_interval": 3, "enable_checkpointing": True}
    options |= {
        "log_every_n_steps": 1,
        "logger": CSVLogger(folder, name="log"),
        "default_root_dir": folder,
        "max_epochs": 3,
    }
    always = [Unrolling([4, 8]), average, SeedSteps(), SaveLast(every), best]
    runner = trainer(**options | settings, callbacks=[*callbacks, *always])
    last = folder / "checkpoints" / "last.ckpt"
    runner.fit(model, data, ckpt_path=last if last.exists() else None, weights_only=True)


def read(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def logged(folder: Path) -> set[tuple[int, float]]:
    """The training losses, and the steps that they are of."""
    parts = [pd.read_csv(path) for path in folder.rglob("metrics.csv")]
    return set(pd.concat(parts)[["step", "train/loss"]].dropna().itertuples(index=False, name=None))


@pytest.fixture(scope="module")
def uninterrupted(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    fit(folder, small_store)
    return folder


def assert_ends_as(folder: Path, uninterrupted: Path) -> None:
    one, other = read(uninterrupted), read(folder)
    assert one["global_step"] == other["global_step"] > 8
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(weights, other[part][name]) for name, weights in one[part].items()), part
    for key, state in one["optimizer_states"][0]["state"].items():
        assert all(
            torch.equal(value, other["optimizer_states"][0]["state"][key][name]) for name, value in state.items()
        )
    assert one["lr_schedulers"] == other["lr_schedulers"]
    assert logged(folder) == logged(uninterrupted)


@pytest.mark.parametrize(
    "stops",
    [
        [(8, signal.SIGTERM), (13, signal.SIGUSR1)],  # before the second of two batches, and in a step
        [(22, signal.SIGINT), (16, signal.SIGTERM)],
        *(
            pytest.param([(first, signal.SIGINT), (first % 5 + 1, signal.SIGTERM)], marks=pytest.mark.slow)
            for first in range(1, 49, 3)
        ),
    ],
)
def test_a_training_stopped_by_signals_ends_as_one_that_was_not(tmp_path, small_store, uninterrupted, stops):
    for moment, number in stops:
        with pytest.raises(SystemExit) as stopped:
            fit(tmp_path, small_store, Stop(moment, number))
        assert stopped.value.code == 128 + number
    fit(tmp_path, small_store)
    assert_ends_as(tmp_path, uninterrupted)


def test_a_killed_training_resumes_from_what_was_saved_between_validations(tmp_path, small_store, uninterrupted):
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path, small_store, Stop(18, None), every=1)
    saved = read(tmp_path)["global_step"]
    assert saved == 2
    fit(tmp_path, small_store)
    logs = logged(tmp_path)
    assert logs >= logged(uninterrupted)
    assert all(torch.equal(w, read(tmp_path)["state_dict"][n]) for n, w in read(uninterrupted)["state_dict"].items())
    with pytest.raises(ValueError, match="every_n_steps must be at least 1, but it is 0"):
        SaveLast(every_n_steps=0)


def test_slurm_requeues_a_training_that_was_saved_between_two_steps(tmp_path, small_store, uninterrupted, monkeypatch):
    job = {"JOB_ID": "17", "JOB_NAME": "fit", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    requeued: list[tuple[list[str], list[str], int]] = []
    batches: list[int] = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
            batches.append(batch_idx)

    def scontrol(words: list[str]) -> int:
        requeued.append((words, [file.name for file in tmp_path.glob("*.ckpt")], batches[-1] % 2))
        return 0

    monkeypatch.setattr("lightning.pytorch.trainer.connectors.signal_connector.call", scontrol)
    fit(tmp_path, small_store, Stop(9, signal.SIGUSR1), Watch())
    assert requeued == [(["scontrol", "requeue", "17"], ["hpc_ckpt_1.ckpt"], 0)]
    assert_ends_as(tmp_path, uninterrupted)  # SLURM had not ended it yet


def test_loader_processes_leave_signals_to_the_training(small_store):
    loader = TrajectoryDataModule(str(small_store), n_past=4, n_future=4, horizon=4, num_workers=1)
    loader.setup("validate")
    started = loader.val_dataloader().worker_init_fn
    if not (process := os.fork()):
        started(0)
        for number in (signal.SIGINT, signal.SIGUSR1):
            signal.raise_signal(number)
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0


# ------------------------------------------------------------------ what is saved


def test_a_checkpoint_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"step": 1}, path)

    def half(checkpoint: dict, file: Path) -> None:
        file.write_bytes(b"PK half of a checkpoint")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with contextlib.suppress(KeyboardInterrupt):
        WholeCheckpoints().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_leaves_of_a_checkpoint_is_removed(tmp_path):
    part = tmp_path / "checkpoints" / ".last.ckpt.0123abcd.part"
    part.parent.mkdir()
    part.write_bytes(b"half")
    with locked(tmp_path):
        assert not part.exists()


def test_half_a_checkpoint_is_never_the_last(tmp_path):
    last, requeued = tmp_path / "checkpoints" / "last.ckpt", tmp_path / "hpc_ckpt_1.ckpt"
    WholeCheckpoints().save_checkpoint({"step": 1}, last)
    requeued.write_bytes(last.read_bytes()[:-30])
    os.utime(requeued, (last.stat().st_mtime + 5,) * 2)
    with pytest.warns(UserWarning, match=r"hpc_ckpt_1.ckpt is only a part of a checkpoint.*last.ckpt is taken"):
        assert find_checkpoint(tmp_path, "last") == last
    last.write_bytes(last.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"only a part of a checkpoint.*give another checkpoint of the run"):
        find_checkpoint(tmp_path, "last")


# ------------------------------------------------------------------ parts of the weights in each process (fsdp)


def sharded() -> FSDPStrategy:
    """PyTorch has it on GPUs alone."""
    return object.__new__(FSDPStrategy)


def test_the_gradient_norm_of_sharded_weights_is_that_of_all_processes():
    clipped: list[float] = []
    model, strategy = LocalNet(widths=[4], blocks=1), sharded()
    strategy.__dict__["_model"] = type("Sharded", (), {"clip_grad_norm_": clipped.append})
    model._trainer = type("Trainer", (), {"strategy": strategy})
    model.configure_gradient_clipping(object.__new__(torch.optim.SGD), 1.0, "norm")
    assert clipped == [1.0]


def test_averages_of_sharded_weights_are_refused():
    runner = type("Trainer", (), {"strategy": sharded(), "callbacks": [EMAWeightAveraging()]})
    with pytest.raises(
        ValueError, match=r"EMAWeightAveraging averages whole weights.*use ddp or leave the callback out"
    ):
        SaveLast().setup(runner, None, "fit")
