"""LossCheck: notices a loss that is not finite without making the host wait for the device."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class LossCheck(NamedTuple):
    """The answer to "was the loss of this step finite?", to be read one step later.

    Reading a loss at once would stop the host until the device has caught up, at every step. Here the answer
    is copied in the background, and when it is asked for it has long arrived.

    Attributes:
        step: Optimiser step.
        trajectories: Trajectories in the batch of this process.
        finite: Whether the loss was finite, for each process.
        copied: What to wait for before `finite` may be read.
    """

    step: int
    trajectories: Int[Tensor, " B"]
    finite: Bool[Tensor, " processes"]
    copied: torch.cuda.Event | None

    @classmethod
    def start(cls, step: int, trajectories: Int[Tensor, " B"], finite: Bool[Tensor, " processes"]) -> "LossCheck":
        """Ask, and begin to copy the answer."""
        if not finite.is_cuda:
            return cls(step, trajectories, finite, None)
        host = finite.to("cpu", non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        return cls(step, trajectories, host, copied)

    def finish(self, rank: int) -> None:
        """Read the answer.

        Raises:
            ValueError: If the loss was not finite on any process.
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
