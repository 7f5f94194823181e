"""What a training says while it runs."""

import math
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from microevo.callbacks.run import batches_taken
from microevo.models import Forecaster

SHOWN = ("train/loss", "val/mse", "val/ssim")
MEASURED = 10  # steps that the time of a training is estimated from
LONG = 10 * MEASURED  # steps from which the estimate is said


class Progress(Callback):
    """Says what is trained and where, how long it will take, then one line after each validation.

    The progress bar overwrites itself and is absent from a log file; these lines stay.
    """

    def __init__(self) -> None:
        self._begin: tuple[int, float, float] | None = None  # step, time and share of the run

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Name the model, its size and the run's folder."""
        parameters = sum(weight.numel() for weight in pl_module.parameters())
        where = f"writing to {trainer.default_root_dir}"
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            where = "fast_dev_run: nothing is written"
        self._say(trainer, f"{type(pl_module).__name__}, {parameters:,} parameters; {where}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure from the beginning."""
        self._begin = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After a few steps, say how long a training of so many steps will take, without its validations."""
        steps = trainer.estimated_stepping_batches
        if not isinstance(pl_module, Forecaster) or not LONG <= steps < math.inf:
            return
        if self._begin is None:  # after the first step, which is slower than the others
            self._begin = trainer.global_step, time.monotonic(), pl_module.progress()
        elif trainer.global_step == self._begin[0] + MEASURED:
            _, begin, before = self._begin
            share = pl_module.progress()
            seconds = (time.monotonic() - begin) / (share - before) * (1 - share)
            spoken = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
            if seconds > 100 * 60:
                spoken = f"{seconds / 3600:.1f} h"
            self._say(trainer, f"about {spoken} for {steps - trainer.global_step:,.0f} steps, and the validations")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say why a training ends before its planned end."""
        # A resumed run knows why the earlier one ended, too, and has not stopped for it.
        for callback in trainer.callbacks if trainer.should_stop else ():  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping) and (reason := callback.stopping_reason_message):
                self._say(trainer, f"stopped early after step {trainer.global_step}: {' '.join(reason.split())}")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say if batches are left out of `validate`."""
        if trainer.state.fn == "validate":
            self._say_what_is_left_out(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say if batches are left out."""
        self._say_what_is_left_out(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say if batches are left out."""
        self._say_what_is_left_out(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The errors of this validation, and the training loss of the last batch."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        known = trainer.callback_metrics
        values = "  ".join(f"{name} {float(known[name]):.3e}" for name in SHOWN if name in known)
        self._say(trainer, f"epoch {trainer.current_epoch:>3}  step {trainer.global_step:>6}  {values}")

    def _say_what_is_left_out(self, trainer: Trainer) -> None:
        assert trainer.state.fn is not None
        taken, there = batches_taken(trainer)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._say(trainer, f"fast_dev_run: {taken} of {there} batches, nothing is written")
        elif taken < there:
            self._say(
                trainer,
                f"{trainer.state.fn.value} takes {taken} of {there} batches, as --trainer limits it: its results are partial",
            )

    def _say(self, trainer: Trainer, line: str) -> None:
        if trainer.is_global_zero:
            bar = trainer.progress_bar_callback
            (bar.print if bar is not None else print)(line)
