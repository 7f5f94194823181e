"""The checkpoints of a run: which is the last and which the best, and how an interrupted training resumes exactly."""

import json
import os
import random
import shlex
import signal
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from microevo.callbacks.averaging import (
    check_averaged,
    check_whole_weights,
    end_exchange,
    expect_averaged_weights,
    start_averages,
)
from microevo.callbacks.signals import Interrupted, Signals
from microevo.models.checkpoint import read_checkpoint
from microevo.models.finite import is_finite
from microevo.provenance import atomic, free_path, read_record, write_file

RECORD = "checkpoints.json"
FOLDER = "checkpoints"
REQUEUED = "hpc_ckpt_*.ckpt"  # written by Lightning into the run's folder when SLURM is about to requeue the job


def find_checkpoint(run_dir: Path, which: Literal["last", "best"]) -> Path | None:
    """The last or the best checkpoint of a run, None if the run has none.

    The run's own record says where it is, also if the run keeps its checkpoints elsewhere (`dirpath` of
    `ModelCheckpoint`) or was moved or copied. `last` is what Lightning saved for a requeued SLURM job, if that is newer. A file
    that holds only the first part of a checkpoint is not the last one.

    Raises:
        FileNotFoundError: The run had one, and it is gone.
        ValueError: No last checkpoint is whole.
    """
    recorded = _read_record(run_dir).get(which)
    path = run_dir / recorded if recorded else _find_unrecorded(run_dir, which)
    if which == "last":
        saved = [*run_dir.glob(REQUEUED), *([path] if path is not None and path.exists() else [])]
        path = _newest_whole(saved) if saved else path
    if path is not None and not path.exists():
        raise FileNotFoundError(
            f"the {which} checkpoint of the run in {run_dir} is gone: there is no checkpoint at {os.path.relpath(path)}; give "
            "another of its checkpoints by its path"
        )
    return path


def recorded_best(run_dir: Path) -> Path | None:
    """The checkpoint that was the best in a validation of the run in this folder, None before the first one."""
    recorded = _read_record(run_dir).get("best")
    return run_dir / recorded if recorded else None


def has_checkpoints(run_dir: Path) -> bool:
    """Whether a run was trained in this folder."""
    return (run_dir / RECORD).exists() or any((run_dir / FOLDER).glob("*.ckpt")) or any(run_dir.glob(REQUEUED))


def is_own(run_dir: Path, checkpoint: Path) -> bool:
    """Whether a checkpoint lies where the run in this folder keeps its own."""
    folders = [run_dir, run_dir / FOLDER, *((run_dir / path).parent for path in _read_record(run_dir).values())]
    return checkpoint.resolve().parent in [folder.resolve() for folder in folders]


def _newest_whole(files: list[Path]) -> Path:
    newest, *older = sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)
    if zipfile.is_zipfile(newest):
        return newest
    part = f"{os.path.relpath(newest)} is only a part of a checkpoint, as of a copy that was not finished"
    for file in older:
        if zipfile.is_zipfile(file):
            warnings.warn(f"{part}: {os.path.relpath(file)} is taken", stacklevel=2)
            return file
    raise ValueError(f"{part}; give another checkpoint of the run by its path or as `best`, or begin a new run")


def _find_unrecorded(run_dir: Path, which: str) -> Path | None:
    """A checkpoint of a run of an earlier version, which kept no record.

    The last checkpoint knows the name of the best one, to which Lightning adds a number where the name is taken.

    Raises:
        ValueError: Several may be the best.
    """
    folder = run_dir / FOLDER
    last, path = folder / "last.ckpt", folder / f"{which}.ckpt"
    if which == "best" and last.exists():
        states = [state for state in read_checkpoint(last).get("callbacks", {}).values() if isinstance(state, dict)]
        names = [Path(state["best_model_path"]).name for state in states if state.get("best_model_path")]
        path = next((folder / name for name in names if (folder / name).exists()), path)
    elif which == "best" and len(several := sorted(file.name for file in folder.glob("best*.ckpt"))) > 1:
        raise ValueError(
            f"{folder} holds {', '.join(several)}, and no last.ckpt that knows the best; give one by its path"
        )
    return path if has_checkpoints(run_dir) else None


def _read_record(run_dir: Path) -> dict[str, str]:
    path = run_dir / RECORD
    return read_record(path) if path.exists() else {}


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, wherever a kill or a crash meets it.

    Lightning writes into the folder of temporary files and moves the file from there. To another file system, as from the disk
    of a node to that of a cluster, it is copied, and a kill leaves a part of it under the name of the whole.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write beside the checkpoint that is there, then replace it."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with atomic(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class SaveLast(Checkpoint):
    """Keeps `last.ckpt` up to date: after each validation, at the end, and when a signal or a time limit stops the training.

    `ModelCheckpoint(save_last=True)` writes it only together with a new best, and `save_on_exception=True` would put
    interrupted weights under the name of the best. As a `Checkpoint` it is called after the callbacks whose state it
    saves; list it after `ModelCheckpoint`.

    `checkpoints.json` in the run's folder says which checkpoints are the run's own.

    Ctrl-C, SIGTERM and SIGUSR1 take effect between two optimiser steps, so that a resumed training is the one that was not
    stopped. A second Ctrl-C stops at once, and saves nothing. `kill -9` leaves what was saved before.

    Args:
        every_n_steps: Optimiser steps after which it saves in any case, for runs with much time between two validations.

    Raises:
        ValueError: `every_n_steps` is below 1.
    """

    def __init__(self, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, but it is {every_n_steps}")
        self.every_n_steps = every_n_steps
        self._begun = False
        self._saved_step = -1
        self._due = False  # something is to be saved as soon as no gradient is pending
        self._signals = Signals()
        self._exchanged = False  # averaged weights for those of the training, as in every validation
        self._path: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Expect averaged weights in a checkpoint that is evaluated; let every checkpoint be written whole."""
        expect_averaged_weights()
        check_whole_weights(trainer)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpoints()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Let `ModelCheckpoint` know its files again where the run was moved, copied, or is resumed in another folder."""
        check_averaged(trainer, checkpoint)
        for saver in trainer.checkpoint_callbacks:
            state = checkpoint.get("callbacks", {}).get(saver.state_key)
            if isinstance(saver, ModelCheckpoint) and state is not None and saver.dirpath is not None:
                _relocate(state, Path(saver.dirpath))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on there is something to save; before, a resumed run has not yet loaded its weights."""
        self._begun, self._saved_step, self._due, self._path = True, -1, False, None
        self._exchanged = False
        start_averages(trainer, pl_module)
        _forget_fetched(trainer)
        self._signals.catch(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stop, or save, before the next step."""
        if batch_idx % trainer.accumulate_grad_batches:
            return  # the gradient of the batches before is not among what is saved
        if number := self._signals.between_steps():
            raise Interrupted(128 + number)
        step = trainer.global_step
        self._due |= self.every_n_steps is not None and step > self._saved_step and step % self.every_n_steps == 0
        if self._due and step > 0:
            self._save(trainer)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on the model has the averaged weights, if they are averaged."""
        self._exchanged = True

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on it has its own."""
        self._exchanged = False

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Stop before the next windows, if no gradient is pending; a resumed run validates again from the first."""
        if (
            self._begun
            and not trainer.fit_loop.epoch_loop._should_accumulate()
            and (number := self._signals.in_validation())
        ):
            raise Interrupted(128 + number)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a validation within an epoch."""
        if not self._begun:
            return
        self._record(trainer)  # the best one may have changed
        if trainer.fit_loop.epoch_loop._should_accumulate():
            self._due = True
        elif not _validates_at_epoch_ends(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a validation at the end of an epoch, which `EarlyStopping` counts only here, and at the very end."""
        ends = trainer.current_epoch + 1 == trainer.max_epochs or trainer.global_step == trainer.max_steps
        if _validates_at_epoch_ends(trainer) or ends or trainer.should_stop:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing is left to save."""
        self._finish()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save what a signal interrupts, and say how to resume."""
        if isinstance(exception, SIGTERMException):
            exception.code = 128 + signal.SIGTERM  # as a shell reports it; Lightning leaves with 0
        begun = self._begun
        self._finish()
        if begun and self._exchanged:
            end_exchange(trainer, pl_module)
        if not begun or not isinstance(exception, Interrupted | KeyboardInterrupt | SIGTERMException):
            return
        # What interrupts a step leaves half of it. Saving is a collective call: processes that have not agreed to stop may be
        # stuck in another one.
        between_steps = isinstance(exception, Interrupted) or (
            isinstance(exception, SIGTERMException) and trainer.world_size == 1
        )
        if between_steps and trainer.global_step > self._saved_step and is_finite(pl_module):
            if trainer.validating:
                _restart_validation(trainer)
            self._save(trainer)
        if not trainer.is_global_zero:
            if isinstance(exception, Interrupted):
                exception.code = 0  # or Lightning kills the first process, which is to report the signal
            return
        where = "where it was saved last" if self._saved_step < 0 else f"step {self._saved_step}"
        recorded = _read_record(Path(trainer.default_root_dir)).get("last")
        path = self._path or (Path(trainer.default_root_dir) / recorded if recorded else None)
        if path is not None and path.exists():
            print(
                "\nmicroevo: interrupted; the same command with "
                f"{shlex.join(['--ckpt_path', os.path.relpath(path)])} resumes from {where}",
                file=sys.stderr,
            )

    def _finish(self) -> None:
        self._begun = False
        self._signals.release()

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self._path is None:
            self._path = _own_last_path(trainer)
        trainer.save_checkpoint(self._path, weights_only=False)
        self._saved_step, self._due = trainer.global_step, False
        self._record(trainer)
        if trainer.is_global_zero:
            for older in Path(trainer.default_root_dir).glob(REQUEUED):
                older.unlink()

    def _record(self, trainer: Trainer) -> None:
        """Keep `checkpoints.json` up to date."""
        if trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return
        run_dir, saver = Path(trainer.default_root_dir), best_saver(trainer)
        best = saver.best_model_path if saver is not None and saver.best_model_score is not None else None
        known = {"last": self._path, "best": best}
        paths = {which: _portable(Path(path), run_dir) for which, path in known.items() if path}
        record = _read_record(run_dir)
        if record | paths != record:
            write_file(run_dir / RECORD, json.dumps(record | paths, indent=2) + "\n")


class SeedSteps(Callback):
    """Starts each training step from random numbers that depend on the seed, the epoch and the step alone.

    Together with `microevo.data.samplers.ShuffledSampler` this makes a resumed run equal to one that was never interrupted.
    All processes start from the same numbers; those for a window are drawn with `draw_for_windows`, so that the windows of
    the processes do not share them.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Reseed torch, and NumPy and Python for networks that draw from these."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        key = [seed, trainer.current_epoch, batch_idx, 0]  # the last one was the index of the process
        number = int(np.random.SeedSequence(key).generate_state(1)[0])
        torch.manual_seed(number)
        np.random.seed(number)  # noqa: NPY002  (whoever has a generator of their own resumes it themselves)
        random.seed(number)


def best_saver(trainer: Trainer) -> ModelCheckpoint | None:
    """The callback that knows which checkpoint is the best."""
    savers = [saver for saver in trainer.checkpoint_callbacks if isinstance(saver, ModelCheckpoint)]
    return next((saver for saver in savers if saver.monitor is not None), savers[0] if savers else None)


def _own_last_path(trainer: Trainer) -> Path:
    """`last.ckpt` beside the best checkpoint; another name where that is the last checkpoint of another run."""
    run_dir, saver = Path(trainer.default_root_dir), best_saver(trainer)
    path = Path((saver.dirpath if saver is not None else None) or run_dir / FOLDER) / "last.ckpt"
    known = _read_record(run_dir).get("last")
    if known is not None and (run_dir / known).parent.resolve() == path.parent.resolve():
        path = path.with_name(Path(known).name)
    elif path.parent.resolve() != (run_dir / FOLDER).resolve():  # perhaps shared
        path = free_path(path)
    return trainer.strategy.broadcast(path)


def _portable(path: Path, run_dir: Path) -> str:
    """A path that stays right when the run is moved together with its checkpoints."""
    path, run_dir = path.resolve(), run_dir.resolve()
    shared = Path(os.path.commonpath([path, run_dir]))
    return str(path) if shared == Path(path.anchor) else os.path.relpath(path, run_dir)


def _relocate(state: dict[str, Any], folder: Path) -> None:
    """Change the paths in a saved state of `ModelCheckpoint` to those of the same files in `folder`, where they exist.

    Lightning would forget the scores of files in another folder, then keep a worse checkpoint as the best one; and of files
    that stayed in the old folder it would delete the one that is no longer the best.
    """
    old = Path(state.get("dirpath") or folder)
    if old == folder or old.resolve() == folder.resolve():
        state["dirpath"] = str(folder)
        return

    def moved(path: str) -> str:
        new = folder / Path(path).name
        return str(new) if path and new.exists() else ""

    scores: Mapping[str, Any] = state.get("best_k_models", {})
    state["best_k_models"] = {moved(path): score for path, score in scores.items() if moved(path)}
    best = moved(state["best_model_path"])
    if state["best_k_models"].keys() != {moved(path) for path in scores} or not best:
        return  # some stayed behind: Lightning starts to count anew
    state |= {"dirpath": str(folder), "best_model_path": best}
    for name in ("kth_best_model_path", "last_model_path"):
        state[name] = moved(state.get(name, ""))


def _validates_at_epoch_ends(trainer: Trainer) -> bool:
    return trainer.check_val_every_n_epoch == 1 and trainer.val_check_interval == 1.0


def _forget_fetched(trainer: Trainer) -> None:
    """Resume where a checkpoint was written between fetching a batch and training on it, as if before both.

    Lightning would count the batch twice, and as another step in what it logs.
    """
    loop = trainer.fit_loop.epoch_loop
    total: Any = loop.batch_progress.total
    if loop.restarting and total.ready > total.started:
        total.ready = total.started
        loop._batches_that_stepped -= not loop._should_accumulate()  # for which Lightning is about to add one


def _restart_validation(trainer: Trainer) -> None:
    """Let a resumed run validate on all windows: Lightning would validate only those that were not yet seen."""
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset()
    progress.increment_ready()
    progress.increment_started()
