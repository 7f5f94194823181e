"""Integrators: from one time to exactly another, knowing nothing of the physics.

No trajectory of a batch depends on which others it is computed with.
"""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor


class StepError(ArithmeticError):
    """A trajectory could not be integrated further.

    Attributes:
        lane: Its position in the batch.
    """

    def __init__(self, lane: int, message: str) -> None:
        super().__init__(message)
        self.lane = lane


class Stepper(ABC):
    """Integrates a batch of fields in time; holds their history."""

    @abstractmethod
    def start(self, u0: Float[Tensor, "n C *cells"], time: float = 0.0) -> None:
        """Begin with `u0`, the state at `time`; at time 0 it is what `Process.initial` gives."""

    @abstractmethod
    def advance(self, time: float) -> None:
        """Integrate to exactly `time`.

        Raises:
            StepError: A trajectory left the finite numbers, or no step is small enough for it.
        """

    @property
    @abstractmethod
    def t(self) -> float:
        """The present time [t0]."""

    @property
    @abstractmethod
    def u(self) -> Float[Tensor, "n C *cells"]:
        """The fields at the present time."""
