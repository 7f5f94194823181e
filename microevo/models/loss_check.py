"""LossCheck: detects a loss that became NaN or Inf, without making the host wait for the device."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor


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

        Args:
            rank: Index of this process.

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
            "data, lower lr or set trainer.gradient_clip_val, and go on from the last checkpoint."
        )
