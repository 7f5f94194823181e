"""EquationResidual: how far successive frames are from solving the equation of a process."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from microevo.processes.integrators.transforms import CosineModes, modes_of
from microevo.processes.parameters import Parameters
from microevo.processes.process import Process


class EquationResidual:
    """How far two successive frames are from the equation `du/dt = F(u)`, integrated by the trapezoidal rule.

    With `h` the time between frames (Crank and Nicolson, Proc. Camb. Phil. Soc. 43 (1947) 50):

        r = u_{n+1} - u_n - h/2 ( F(u_n) + F(u_{n+1}) )        [field units]

    Where the equation has a linear part, with symbol L(k), each wave of `r` is divided by `1 - h/2 L(k)` if L is negative. It is
    then, to first order, the error of the later frame that the residual stands for; otherwise the finest waves, which a stiff
    equation damps within a small fraction of `h`, would outweigh all others by orders of magnitude. Two frames of a
    solution have a residual of order h^3, which is the smaller the shorter `h` is against the times of the process.

    Args:
        process: The process, which has the methods `linear` and `nonlinear`, or `rhs`.
        values: The parameters that vary, one value for each trajectory.

    Raises:
        ValueError: The saved frames do not determine the right-hand side of the equation.
    """

    def __init__(self, process: Process, values: Mapping[str, np.ndarray]) -> None:
        kind = type(process)
        self._explicit = kind.rhs is not Process.rhs
        split = kind.linear is not Process.linear and kind.nonlinear is not Process.nonlinear
        if not (self._explicit or split):
            raise ValueError(
                f"{kind.__name__} does not state its equation in the methods `linear` and `nonlinear`, or `rhs`"
            )
        if process.grid.coarsen > 1 or kind.image is not Process.image:
            raise ValueError(
                f"the frames of {kind.__name__} are not the fields of its equation (the grid has coarsen = "
                f"{process.grid.coarsen}); its frames must be saved with coarsen 1"
            )
        self.process = process
        self._parameters = process.vary(values)
        self._modes = modes_of(process.grid)
        self._k2 = self._modes.wavenumbers_squared()
        self._cast: dict[tuple[torch.dtype, torch.device], tuple[Parameters, Tensor]] = {}

    def __call__(
        self, frames: Float[Tensor, "B T C *cells"], trajectories: Int[Tensor, " B"]
    ) -> Float[Tensor, "B T-1 C *cells"]:
        """The residual between each two successive frames, differentiable in the frames.

        Args:
            frames: Successive frames.
            trajectories: Index of the trajectory of each sample, whose parameters the equation has.
        """
        frames = frames.float() if frames.dtype in (torch.float16, torch.bfloat16) else frames
        samples, count = frames.shape[:2]
        p, k2 = self._on(frames)
        half = self.process.frame_interval / 2
        if self._explicit:
            u = frames.flatten(0, 1)
            rate = self.process.rhs(u, p.select(trajectories.repeat_interleave(count))).unflatten(0, (samples, count))
            return frames.diff(dim=1) - half * (rate[:, 1:] + rate[:, :-1])
        each = p.select(trajectories.repeat_interleave(count - 1))
        linear = self.process.linear(k2, each)
        before, after = (part.flatten(0, 1) for part in (frames[:, :-1], frames[:, 1:]))
        total = self._forward(self._sum_of_nonlinear(frames, p, trajectories))
        modes = self._forward(after - before) - half * (
            linear * self._forward(before + after) + self.process.nonlinear_symbol(k2, each) * total
        )
        modes = modes / (1 + half * (-linear).clamp(min=0))
        return self._inverse(modes).unflatten(0, (samples, count - 1))

    def _on(self, frames: Tensor) -> tuple[Parameters, Float[Tensor, "*modes"]]:
        """The parameters and the squared wavenumbers, where the frames are."""
        key = (frames.dtype, frames.device)
        if key not in self._cast:  # a copy to a GPU in each step would let it wait
            self._cast[key] = self._parameters.to(frames), self._k2.to(frames)
        return self._cast[key]

    def _sum_of_nonlinear(
        self, frames: Float[Tensor, "B T C *cells"], p: Parameters, trajectories: Int[Tensor, " B"]
    ) -> Float[Tensor, "pairs C *cells"]:
        """The nonlinear part of the equation, added up over each two successive frames."""
        samples, count = frames.shape[:2]
        parts = self.process.nonlinear(frames.flatten(0, 1), p.select(trajectories.repeat_interleave(count)))
        parts = parts.unflatten(0, (samples, count))
        return (parts[:, 1:] + parts[:, :-1]).flatten(0, 1)

    def _forward(self, u: Float[Tensor, "n C *cells"]) -> Float[Tensor, "n C *modes"]:
        # SciPy's cosine transform, which a CPU has otherwise, has no gradient.
        return self._modes.forward_by_fourier(u) if isinstance(self._modes, CosineModes) else self._modes.forward(u)

    def _inverse(self, modes: Float[Tensor, "n C *modes"]) -> Float[Tensor, "n C *cells"]:
        if isinstance(self._modes, CosineModes):
            return self._modes.inverse_by_fourier(modes)
        return self._modes.inverse(modes.contiguous())
