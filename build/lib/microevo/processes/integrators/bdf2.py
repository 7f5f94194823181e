"""The adaptive integrator: second order in time, in the modes of a grid.

Every trajectory of a batch chooses its own steps, so that it does not matter which others it is computed with.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from microevo.processes.integrators.base import Stepper
from microevo.processes.integrators.imex import SpectralState
from microevo.processes.integrators.step_size import StepControl
from microevo.processes.integrators.transforms import Modes

CHUNK = 2**20  # bytes of the fields that are computed together, so that they stay in a core's cache
ENERGY_RISE = {torch.float32: 1e-6, torch.float64: 1e-8}  # relative rise that rounding explains


class SpectralBDF2(Stepper):
    """Stabilised variable-step BDF2 in the modes of a grid, periodic or between walls, second order in time.

    Integrates `u_t = P G(u) - L u` for each mode, where `L` (linear) is taken implicitly and `G`, the transform
    of a nonlinear function of the field, is extrapolated. The stabiliser moves `A u` from `G` to the implicit side, which
    errs by `A P dt^2 u_tt` and keeps the second order (Ascher, Ruuth & Wetton, SIAM J. Numer. Anal. 32 (1995) 797; Zhu,
    Chen, Shen & Tikare, Phys. Rev. E 60 (1999) 3564). With `r = dt / dt_before`, a minus for the step before, and the
    changes `d+ = u+ - u` and `d = u - u-`, which float32 resolves better than it does the field,

        [(1+2r)/(1+r) + dt (L - A P)] d+ = [r^2/(1+r) - r dt A P] d - dt L u + dt P [(1+r) G - r G-]

    Every four equal steps the error is estimated from the second difference `b` of the field, and held at `tolerance`. It
    has two parts, of which the squares are added: `6 |b|` relative to a developed field, and `|b|` relative to
    `|u - mean|`, both counted with the weight `1 / (1 + L memory)`, as small waves must grow at the right rate, but noise
    that decays within `memory` soon forgets its errors and must not shorten the steps.

    Args:
        basis: The modes.
        linear: `L` of each mode (batch or 1, C or 1, modes), float64 [1/t0].
        explicit: `P` of each mode, likewise.
        stabiliser: `A` of each trajectory (n), given the steps (n) and `|u - mean|` relative to a developed field (n).
        nonlinear: Writes the function of the field that comes first, whose transform is `G`, into the one that comes second.
        energy: Energy (k), float64, of fields and their modes (k), given the numbers of their trajectories (k); it must not
            rise.
        amplitude: Root mean square of a developed field, about its mean.
        memory: How long errors matter, for each trajectory or one for all [t0].
        tolerance: Error that is allowed, relative to a developed field.
        first_step: The first step of each trajectory, or one for all [t0].
        offset: Constant that is subtracted from the field while it is integrated, so that float32 holds it better; the
            functions above are given what is left.
    """

    def __init__(
        self,
        *,
        basis: Modes,
        linear: Float[Tensor, "#n #C *modes"],
        explicit: Float[Tensor, "#n #C *modes"],
        stabiliser: Callable[[np.ndarray, np.ndarray], np.ndarray],
        nonlinear: Callable[[Tensor, Tensor], None],
        energy: Callable[[Tensor, Tensor, np.ndarray], Tensor],
        amplitude: float,
        memory: Float[Tensor, " #n"],
        tolerance: float,
        first_step: Float[Tensor, " #n"],
        offset: float = 0.0,
    ) -> None:
        self.basis, self.linear, self.explicit, self.stabiliser = basis, linear, explicit, stabiliser
        self.nonlinear, self.energy = nonlinear, energy
        self.amplitude, self.memory, self.tolerance = amplitude, memory, tolerance
        self.first_step, self.offset = first_step, offset

    def _start(self, u0: Float[Tensor, "n C *cells"]) -> None:
        n = len(u0)
        self.control = StepControl(
            self.t,
            np.broadcast_to(self.first_step.numpy(), n),
            tolerance=self.tolerance,
            largest=self.amplitude * math.sqrt(u0[0].numel()),
            energy_rise=ENERGY_RISE[u0.dtype],
        )
        # Size, ratio and `A` of a block's first step, and of the others.
        self.first, self.rest = np.ones((2, n, 3), dtype=str(u0.dtype).removeprefix("torch."))
        self.lanes = _split(n, CHUNK // u0[0].nbytes if u0.is_cpu else n)
        self.states = [self._state(lanes, (u0[lanes] - self.offset).contiguous()) for lanes in self.lanes]
        self.control.lowest[:] = self._energies(np.ones(n, dtype=bool))

    def _advance(self, time: float) -> None:
        while self.control.time.min() < time:
            block = self.control.plan(time)
            self.first[:, 0] = self.rest[:, 0] = block.size
            self.first[:, 1] = block.ratio
            self.first[:, 2] = self.rest[:, 2] = self.stabiliser(block.size, self.control.developed)
            sums = np.zeros((len(block.size), 3))
            for own, state in zip(self.lanes, self.states, strict=True):
                state.advance(block.steps[own], self.first[own], self.rest[own], sums[own])
            wrong = self.control.judge(block, time, sums, self._energies(block.due))
            if wrong.any():
                for own, state in zip(self.lanes, self.states, strict=True):
                    state.take_back(wrong[own])

    @property
    def u(self) -> Float[Tensor, "n C *cells"]:
        """The fields at the present time."""
        return torch.cat([state.field for state in self.states]) + self.offset

    @property
    def steps_taken(self) -> Int[np.ndarray, " n"]:
        """Steps of each trajectory so far."""
        return self.control.steps_taken

    # ----------------------------------------------------------------- steps

    def _state(self, lanes: slice, field: Float[Tensor, "k C *cells"]) -> SpectralState:
        linear, explicit, memory = (
            values if len(values) == 1 else values[lanes] for values in (self.linear, self.explicit, self.memory)
        )
        return SpectralState(
            field, basis=self.basis, linear=linear, explicit=explicit, nonlinear=self.nonlinear, memory=memory
        )

    def _energies(self, due: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        energy = np.full(len(due), np.inf)
        if not due.any():
            return energy
        for own, state in zip(self.lanes, self.states, strict=True):
            some = np.flatnonzero(due[own])
            if some.size:
                energy[own.start + some] = (
                    self.energy(state.field[some], state.modes[some], own.start + some).cpu().numpy()
                )
        return energy


def _split(n: int, most: int) -> list[slice]:
    """Slices of about `most` of n trajectories, all as long but for one; not of a single one, which is transformed twice."""
    count = max(1, n // max(2, most))
    bounds = [n * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]
