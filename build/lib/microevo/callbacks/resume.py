"""What lets an interrupted training go on as if nothing had happened."""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException


class Interrupted(SystemExit):
    """Ctrl-C, raised between two steps."""


class SaveLast(Checkpoint):
    """Keeps `last.ckpt` up to date: after each validation, at the end, and when Ctrl-C or a time limit stops the training.

    `ModelCheckpoint(save_last=True)` writes it only together with a new best, and `save_on_exception=True` would put
    interrupted weights under the name of the best. As a `Checkpoint` it is called after the callbacks whose state it
    saves; list it after `ModelCheckpoint`.

    The first Ctrl-C takes effect between two steps, so that none is left half done; a second one stops at once.
    """

    def __init__(self) -> None:
        self._begun = False
        self._saved_step = -1
        self._stop = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on there is something to save; before, a resumed run has not yet loaded its weights."""
        self._begun, self._saved_step, self._stop = True, -1, False
        in_main = threading.current_thread() is threading.main_thread()
        # Several processes would stop at different steps and wait for each other; Lightning ends those.
        if in_main and trainer.world_size == 1 and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._on_interrupt)

    def _on_interrupt(self, *_: object) -> None:
        self._stop = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stop before the next step."""
        if self._stop:
            raise Interrupted(128 + signal.SIGINT)

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Stop before the next windows; a resumed run validates again from the first."""
        if self._stop:
            raise Interrupted(128 + signal.SIGINT)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before spoilt weights are scored and saved.

        Raises:
            ValueError: A weight is not finite.
        """
        if trainer.state.fn == "fit":
            _refuse_spoilt_weights(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a validation within an epoch."""
        if self._begun and not _validates_at_epoch_ends(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a validation at the end of an epoch, which `EarlyStopping` counts only here, and at the very end."""
        ends = trainer.current_epoch + 1 == trainer.max_epochs or trainer.global_step == trainer.max_steps
        stops = self._stop or trainer.should_stop or trainer.received_sigterm
        if _validates_at_epoch_ends(trainer) or ends or stops:
            _refuse_spoilt_weights(trainer, pl_module)
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing is left to save."""
        self._finish()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save what Ctrl-C or SIGTERM interrupts, and say how to go on."""
        if isinstance(exception, SIGTERMException):
            exception.code = 128 + signal.SIGTERM  # as a shell reports it; Lightning leaves with 0
        begun = self._begun
        self._finish()
        if not begun or not isinstance(exception, Interrupted | KeyboardInterrupt | SIGTERMException):
            return
        where = "the last validation"
        # Saving is a collective call: among several processes the others may be stuck in another one.
        if trainer.world_size == 1 and _is_finite(pl_module):
            if trainer.validating:
                _restart_validation(trainer)
            if trainer.global_step > self._saved_step:
                self._save(trainer)
            where = f"step {trainer.global_step}"
        path = _last_checkpoint(trainer)
        if trainer.is_global_zero and path.exists():
            print(
                f"\nmicroevo: interrupted; the same command with --ckpt_path {os.path.relpath(path)} goes on from {where}",
                file=sys.stderr,
            )

    def _finish(self) -> None:
        self._begun = False
        if signal.getsignal(signal.SIGINT) == self._on_interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _save(self, trainer: Trainer) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(_last_checkpoint(trainer), weights_only=False)
            self._saved_step = trainer.global_step


class SeedSteps(Callback):
    """Starts each training step from random numbers that depend on the seed, the epoch and the step alone.

    Together with `microevo.data.Shuffle` this makes a resumed run equal to one that was never interrupted.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Reseed torch, on each device and process differently."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        key = [seed, trainer.current_epoch, batch_idx, trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def _last_checkpoint(trainer: Trainer) -> Path:
    """Beside the best one."""
    saver = trainer.checkpoint_callback
    folder = saver.dirpath if isinstance(saver, ModelCheckpoint) else None
    return Path(folder or Path(trainer.default_root_dir) / "checkpoints") / "last.ckpt"


def _validates_at_epoch_ends(trainer: Trainer) -> bool:
    return trainer.check_val_every_n_epoch == 1 and trainer.val_check_interval == 1.0


def _is_finite(module: LightningModule) -> bool:
    return all(bool(weights.isfinite().all()) for weights in module.parameters())


def _refuse_spoilt_weights(trainer: Trainer, module: LightningModule) -> None:
    if not _is_finite(module):
        raise ValueError(
            f"The weights are not finite after optimiser step {trainer.global_step}; lower lr or set "
            "trainer.gradient_clip_val, and go on from the last checkpoint."
        )


def _restart_validation(trainer: Trainer) -> None:
    """Let a resumed run validate on all windows: Lightning would go on with those that were not yet seen."""
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset()
    progress.increment_ready()
    progress.increment_started()
