"""What is timed: a solver of the case with its setting, ours and the transforms that ours cannot do without."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import numpy as np
import torch
from case import Case, Space
from numpy.typing import NDArray

Precision = Literal["float32", "float64"]


class Solver(ABC):
    """A solver of the case that returns a frame per unit of time.

    Args:
        case: What is solved.
        precision: Its floating-point numbers.
        batch: Trajectories solved at once.
        setting: Tolerance or time step, whichever it has.

    Attributes:
        until: Last frame; a solver too slow for the whole case stops earlier, and its cost is scaled.
        steps: Steps per trajectory of the last run.
    """

    name: ClassVar[str]
    needs: ClassVar[str] = ""  # the package on PyPI that it comes from
    space: ClassVar[Space] = "Fourier"
    set_by: ClassVar[str] = "dt"

    def __init__(
        self, case: Case, precision: Precision, batch: int, setting: float, until: float | None = None
    ) -> None:
        self.case, self.precision, self.batch, self.setting = case, precision, batch, setting
        self.until = float(case.frames) if until is None else until
        self.steps = 0.0

    @property
    def label(self) -> str:
        """Its name and settings."""
        return f"{self.name}, {self.set_by} {self.setting:g}, {self.precision}, batch {self.batch}"

    @abstractmethod
    def prepare(self) -> None:
        """Import, compile and warm up."""

    @abstractmethod
    def run(self) -> None:
        """Solve the case; this is timed."""

    @abstractmethod
    def frames(self) -> NDArray[np.floating]:
        """`y` of trajectory 0 in the last run, (frames, cells, cells)."""


class Ours(Solver):
    """`microevo.processes.SpinodalDecomposition`: variable-step BDF2, two transforms a step."""

    name = "microevo"
    set_by = "tol"

    def prepare(self) -> None:
        """Warm up on the first frame."""
        self.law = self.case.law(self.precision, self.setting)
        self.saved = torch.zeros(self.case.frames, self.batch, 1, self.case.cells, self.case.cells)
        self.initial = torch.from_numpy(self.case.start(self.batch))[:, None] + self.case.middle
        self._solve(1)

    def run(self) -> None:
        """All frames."""
        self._solve(self.case.frames)

    def _solve(self, frames: int) -> None:
        stepper = self.law.stepper()
        stepper.start(self.initial.to(self.law.dtype))
        for frame in range(frames):
            stepper.advance(frame + 1.0)
            self.saved[frame] = self.law.image(stepper.u)
        self.steps = float(np.mean(stepper.steps_taken[: self.batch]))

    def frames(self) -> NDArray[np.floating]:
        """`y` of trajectory 0."""
        return self.saved[:, 0, 0].double().numpy() - self.case.middle


class Transforms:
    """The floor: `rfft2` and `irfft2` of a batch, which every step needs once.

    Args:
        case: What is solved.
        precision: Floating-point numbers.
        batch: Fields transformed at once.
    """

    def __init__(self, case: Case, precision: Precision, batch: int) -> None:
        self.shape = (case.cells, case.cells)
        dtype = {"float32": torch.float32, "float64": torch.float64}[precision]
        self.field = torch.from_numpy(case.start(batch)).to(dtype)
        self.pairs = max(20, 30_000_000 // self.field.numel())
        self.label = self.label_of(precision, batch)
        self._pair()

    @staticmethod
    def label_of(precision: Precision, batch: int) -> str:
        """The label of the floor of such a solver."""
        return f"transforms, {precision}, batch {batch}"

    def run(self) -> None:
        """`pairs` pairs."""
        for _ in range(self.pairs):
            self._pair()

    def _pair(self) -> None:
        torch.fft.irfft2(torch.fft.rfft2(self.field), s=self.shape)
