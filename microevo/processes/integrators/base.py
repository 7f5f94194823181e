"""The interface of every integrator: from one time to exactly another.

No trajectory of a batch depends on which others it is integrated with.
"""

import math
from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor


class StepError(ArithmeticError):
    """A trajectory could not be integrated further.

    Attributes:
        index: Its position in the batch.
    """

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


class Stepper(ABC):
    """Integrates a batch of fields in time, and holds their history.

    A subclass sets itself up in `_start`, integrates in `_advance`, and returns its fields from `_fields`. The time, and the
    checks that it runs forward and that the fields are finite, are here.

    Attributes:
        t: The present time [t0].
        u: The fields at that time.
    """

    t: float
    u: Float[Tensor, "n C *cells"]

    def start(self, u0: Float[Tensor, "n C *cells"], time: float = 0.0) -> None:
        """Begin with `u0`, the state at `time`; at time 0 it is what `Process.initial` gives.

        Raises:
            StepError: A trajectory is not finite.
        """
        self.t = time
        self._check_finite(u0, time)
        self._start(u0)
        self.u = self._fields()

    def advance(self, time: float) -> None:
        """Integrate to exactly `time`.

        Raises:
            ValueError: `time` has passed.
            StepError: A trajectory became NaN or infinite, or no step is small enough for it.
        """
        if time < self.t:
            raise ValueError(f"a stepper runs forward only, from {self.t} not to {time}")
        if time > self.t:
            self._advance(time)
            before, self.t = self.t, time
            self.u = self._fields()
            self._check_finite(self.u, before)

    @abstractmethod
    def _start(self, u0: Float[Tensor, "n C *cells"]) -> None:
        """Begin with finite fields at the time `self.t`."""

    @abstractmethod
    def _advance(self, time: float) -> None:
        """Integrate from `self.t` to exactly `time`, which is later."""

    @abstractmethod
    def _fields(self) -> Float[Tensor, "n C *cells"]:
        """The fields at the time that was reached."""

    def _check_finite(self, u: Float[Tensor, "n C *cells"], before: float) -> None:
        if math.isfinite(u.sum()):  # one pass; a sum that overflowed is looked into
            return
        finite = u.isfinite()
        if not finite.all():
            index, component = (~finite.flatten(2).all(2)).nonzero()[0].tolist()
            since = f", in the step of length {self.t - before:.3g}" if self.t > before else ""
            raise StepError(index, f"at time {self.t:.6g}{since}, component {component} of the field is not finite")
