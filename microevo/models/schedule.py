"""A learning-rate schedule that follows the time instead of the steps."""

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

POSITIONS = 100_000  # places that the cycle is divided into


class TimedOneCycle(OneCycleLR):
    """One-cycle schedule whose position follows the share of the run's time that has passed.

    The learning rate rises and falls once, however many steps are made in which part of that time.

    Args:
        optimizer: Optimiser whose learning rate is set.
        max_lr: Largest learning rate.
        warmup: Share of the time in which it rises.
        elapsed: Returns the share of the time that has passed, from 0 to 1.
    """

    def __init__(self, optimizer: Optimizer, max_lr: float, warmup: float, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        super().__init__(optimizer, max_lr, total_steps=POSITIONS, pct_start=warmup)

    def step(self, epoch: int | None = None) -> None:
        """Move on to the present time, never back."""
        now = int(min(1.0, self._elapsed()) * (POSITIONS - 1))
        self.last_epoch = max(self.last_epoch, now) - 1  # the step below adds one
        super().step()

    def state_dict(self) -> dict[str, Any]:
        """The state without the clock, which belongs to the present run."""
        return {name: value for name, value in super().state_dict().items() if name != "_elapsed"}
