"""OptimisedModule: AdamW with a learning rate that rises and falls once, and how far a run has come."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler

from microevo.models.schedule import TimedOneCycle


class OptimisedModule(LightningModule):
    """A module that is trained with AdamW and a one-cycle learning rate over the whole run.

    Args:
        lr: Learning rate; with `onecycle`, its maximum.
        weight_decay: Weight decay of AdamW.
        schedule: `onecycle`, or `constant`.
        warmup: Share of the run in which the learning rate rises, with `onecycle`.

    Attributes:
        pace: From the share of the steps to the share of the computing time, where some steps take longer than others.

    Raises:
        ValueError: A setting is out of its range.
    """

    def __init__(
        self, lr: float, weight_decay: float, schedule: Literal["onecycle", "constant"], warmup: float
    ) -> None:
        super().__init__()
        if lr <= 0:
            raise ValueError(f"lr must be positive, got {lr}.")
        if schedule not in ("onecycle", "constant"):
            raise ValueError(f"schedule must be 'onecycle' or 'constant', got {schedule!r}.")
        if not 0 < warmup < 1:
            raise ValueError(f"warmup must be between 0 and 1, got {warmup}.")
        # A NumPy number here would end up in the optimiser's state, and the checkpoint could not be loaded safely.
        self.lr, self.weight_decay, self.schedule = float(lr), float(weight_decay), schedule
        self.warmup = float(warmup)
        self._given_lr = self._scheduled_lr = self.lr  # of which `LearningRateFinder` changes `lr` alone
        self.pace: Callable[[float], float] | None = None

    @property
    def attached(self) -> bool:
        """Whether a trainer uses the model."""
        return self._trainer is not None

    def on_fit_start(self) -> None:
        """If `LearningRateFinder` has found another learning rate, it becomes the maximum of the one-cycle schedule."""
        if self.lr != self._scheduled_lr and self.schedule == "onecycle":
            for config in self.trainer.lr_scheduler_configs:
                config.scheduler = self._one_cycle(config.scheduler.optimizer)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, with the one-cycle schedule advanced at every batch.

        If `trainer.max_time` alone limits the run (`max_epochs` and `max_steps` are -1), the cycle follows the clock; if some
        steps take longer than others (see `Unrolling`), the computing time.
        """
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        if self.schedule == "constant":
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self._one_cycle(optimizer), "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """As Lightning does; with `fsdp`, where it refuses to, by the norm of the gradients of all processes."""
        strategy = self.trainer.strategy
        if gradient_clip_val and gradient_clip_algorithm in (None, "norm") and isinstance(strategy, FSDPStrategy):
            strategy.model.clip_grad_norm_(gradient_clip_val)  # type: ignore[union-attr, operator]
            return
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _one_cycle(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.OneCycleLR:
        self._scheduled_lr = self.lr
        if self.timed or self.pace is not None:
            return TimedOneCycle(optimizer, self.lr, self.warmup, self.progress)
        steps = self.planned_steps()
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=steps, pct_start=self.warmup)

    def progress(self) -> float:
        """Share of the planned run that has passed, 0 to 1: of `trainer.max_time` if that alone limits it, else of its steps."""
        timer = self._timer
        if timer is None:
            share = min(1.0, self.trainer.global_step / self.planned_steps())
            return share if self.pace is None else self.pace(share)
        elapsed, remaining = timer.time_elapsed(), timer.time_remaining() or 0.0
        # The same on all processes: their weights must stay equal.
        return self.trainer.strategy.broadcast(min(1.0, elapsed / max(elapsed + remaining, 1e-9)))

    @property
    def timed(self) -> bool:
        """Whether nothing but `trainer.max_time` ends the run."""
        return self._timer is not None

    @property
    def _timer(self) -> Timer | None:
        """The clock of a run that nothing but a time limit ends."""
        if self.trainer.estimated_stepping_batches != math.inf:
            return None
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        return next((callback for callback in callbacks if isinstance(callback, Timer)), None)

    def planned_steps(self) -> int:
        """Number of optimiser steps in the whole run, including those before it was resumed."""
        steps = self.trainer.estimated_stepping_batches
        if not 0 < steps < math.inf:
            raise ValueError(
                "A schedule over the whole run needs its length: set trainer.max_epochs, trainer.max_steps or trainer.max_time."
            )
        return int(steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the learning rate that was given, in place of which another may have been found."""
        checkpoint["microevo_given_lr"] = self._given_lr

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a resumed run has the same optimiser, and let the schedule take the length of the present run."""
        if self.attached and self.trainer.training:
            self._resume_found_lr(checkpoint)
            self._check_optimiser(checkpoint["hyper_parameters"])
        for state in checkpoint.get("lr_schedulers", []):
            state.pop("total_steps", None)
            state.pop("_schedule_phases", None)

    def _resume_found_lr(self, checkpoint: Mapping[str, Any]) -> None:
        """Take the learning rate that was found in place of the given one, if the same one is given again."""
        if checkpoint.get("microevo_given_lr") == self.lr:
            self.lr = self.hparams["lr"] = checkpoint["hyper_parameters"]["lr"]

    def _check_optimiser(self, stored: Mapping[str, Any]) -> None:
        for name in ("lr", "weight_decay", "schedule"):
            if name in stored and stored[name] != getattr(self, name):
                raise ValueError(
                    f"A resumed run keeps the optimiser of its checkpoint, made with {name} = "
                    f"{stored[name]}, but the model has {name} = {getattr(self, name)}; give the stored "
                    "value, or start a new run from these weights with init_from."
                )
