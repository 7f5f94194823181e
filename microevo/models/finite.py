"""The guard against numbers that are not finite: in the training loss, and in the weights."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class FiniteGuard(Callback):
    """Stops a training whose loss or weights became NaN or Inf, before such weights are scored or saved.

    Every `Forecaster` brings it along. A loss is read one step later, by when it has reached the host.
    """

    def __init__(self) -> None:
        self._trajectories: Int[Tensor, " B"]
        self._pending: LossCheck | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last loss of an earlier run."""
        self._pending = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stop if the loss of the step before was not finite.

        Raises:
            ValueError: It was not, in one of the processes.
        """
        self._check_loss(trainer)
        self._trajectories = batch.trajectory

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Begin to read the loss, so early that the device still has work when the host reads it."""
        # A loss that is not finite in one process spoils the weights of all: they must stop together.
        finite = pl_module.all_gather(loss.detach().isfinite())
        assert isinstance(finite, Tensor)
        self._pending = LossCheck.start(trainer.global_step, self._trajectories, finite.flatten())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before weights that are not finite are scored, and saved if a score tells so.

        Raises:
            ValueError: The last loss, or a weight, is not finite.
        """
        if trainer.state.fn == "fit":
            self._check(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before the checkpoint of the epoch.

        Raises:
            ValueError: The last loss, or a weight, is not finite.
        """
        self._check(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if the very last loss was not finite.

        Raises:
            ValueError: It was not.
        """
        self._check_loss(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep weights out of a checkpoint that come from a loss that was not finite.

        Raises:
            ValueError: The last loss was not finite.
        """
        self._check_loss(trainer)

    def _check(self, trainer: Trainer, module: LightningModule) -> None:
        self._check_loss(trainer)
        if not is_finite(module):
            raise ValueError(
                f"The weights are not finite after optimiser step {trainer.global_step}; lower lr or set "
                "trainer.gradient_clip_val, and resume from the last checkpoint."
            )

    def _check_loss(self, trainer: Trainer) -> None:
        if self._pending is not None:
            self._pending.finish(trainer.global_rank)


def is_finite(module: LightningModule) -> bool:
    """Whether all weights of a model are finite, in all processes, each of which may hold a part of them."""
    own = all(bool(weights.isfinite().all()) for weights in module.parameters())
    return module.trainer.strategy.reduce_boolean_decision(own)


class LossCheck(NamedTuple):
    """Whether the loss of a step was finite, to be read one step later.

    Reading a loss at once would make the host wait for the device at every step. Instead the result is copied in
    the background, and has arrived by the time it is read.

    Attributes:
        step: Optimiser step.
        trajectories: Trajectories in the batch of this process.
        finite: Whether the loss was finite, for each process.
        copied: Event to wait for before `finite` may be read; None if there is no need to wait.
    """

    step: int
    trajectories: Int[Tensor, " B"]
    finite: Bool[Tensor, " processes"]
    copied: torch.cuda.Event | None

    @classmethod
    def start(cls, step: int, trajectories: Int[Tensor, " B"], finite: Bool[Tensor, " processes"]) -> "LossCheck":
        """Begin to copy `finite` to the host."""
        if not finite.is_cuda:
            return cls(step, trajectories, finite, None)
        host = finite.to("cpu", non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        return cls(step, trajectories, host, copied)

    def finish(self, rank: int) -> None:
        """Read the result.

        Raises:
            ValueError: The loss of at least one process was not finite.
        """
        if self.copied is not None:
            self.copied.synchronize()
        if self.finite.all():
            return
        if self.finite[rank]:
            where = "the batch of another process"
        else:
            where = f"the batch of trajectories {sorted(set(self.trajectories.tolist()))}"
        raise ValueError(
            f"The training loss is not finite at optimiser step {self.step}, in {where}; look for NaN in the "
            "data, lower lr or set trainer.gradient_clip_val, and resume from the last checkpoint."
        )
