"""Competitors of a benchmark: everything that forecasts the target frames of a protocol's windows."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from microevo import plot
from microevo.benchmark.protocol import Protocol
from microevo.data import Window, WindowDataset

TRUTH, BASELINE, REFERENCE = "Truth", plot.BASELINE, plot.REFERENCE
Forecast = Callable[[Window], Float[Tensor, "*M B T C H W"]]  # the axis M is of the members of an ensemble


class Competitor(ABC):
    """One row of the leaderboard, or one training seed of it.

    Args:
        name: Name of the row.
        seed: Seed of the training, where there was one.
    """

    def __init__(self, name: str, seed: int | None = None) -> None:
        self.name, self.seed = name, seed

    @property
    def label(self) -> str:
        """Name and seed, for files and progress bars."""
        return self.name if self.seed is None else f"{self.name}-seed{self.seed}"

    @abstractmethod
    def fingerprint(self, protocol: str) -> str:
        """A text that changes whenever the forecasts for a protocol may change."""

    @abstractmethod
    def prepare(self, name: str, protocol: Protocol, windows: WindowDataset, device: torch.device) -> Forecast:
        """Return the function that forecasts the target frames of a batch of the protocol's windows.

        Raises:
            ValueError: The competitor cannot forecast this protocol; the message says why.
        """

    def supports(self, name: str, protocol: Protocol, windows: WindowDataset) -> bool:
        """Whether the competitor has forecasts for this protocol at all."""
        return True


class Truth(Competitor):
    """The target frames themselves, so that their physical quantities stand beside those of the forecasts."""

    def __init__(self) -> None:
        super().__init__(TRUTH)

    def fingerprint(self, protocol: str) -> str:
        """Always the same."""
        return "truth"

    def prepare(self, name: str, protocol: Protocol, windows: WindowDataset, device: torch.device) -> Forecast:
        """Return the target frames."""
        return lambda window: window.future
