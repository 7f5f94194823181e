"""The integrator for equations with a stiff linear part: adaptive, second order in time, in the modes of a grid.

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
FIRST_CHANGE = 0.3  # of the field in the first step, relative and times the root of the tolerance: it is of first order
STABLE = 1.15 * 0.75  # of the steepest slope of the nonlinear part: BDF2 needs 3/4, the rest is for what follows

Fields = Float[Tensor, "k C *cells"]


class SpectralBDF2(Stepper):
    """Stabilised variable-step BDF2 in the modes of a grid, periodic or between walls, second order in time.

    Integrates `u_t = linear u + symbol G(u)` for each mode, where `linear` is taken implicitly and `G`, the transform of a
    nonlinear function of the field, is extrapolated. The stabiliser moves `A u` from `G` to the implicit side, which has an
    error of `A symbol dt^2 u_tt` and keeps the second order (Ascher, Ruuth & Wetton, SIAM J. Numer. Anal. 32 (1995) 797;
    Zhu, Chen, Shen & Tikare, Phys. Rev. E 60 (1999) 3564). With `L = -linear`, `P = symbol`, `r = dt / dt_before`, a minus
    for the step before, and the changes `d+ = u+ - u` and `d = u - u-`, which float32 resolves better than the field,

        [(1+2r)/(1+r) + dt (L - A P)] d+ = [r^2/(1+r) - r dt A P] d - dt L u + dt P [(1+r) G - r G-]

    Every four equal steps the error is estimated from the second difference `b` of the field, and held at `tolerance`. It
    has two parts, of which the squares are added: `6 |b|` relative to a fully developed field, and `|b|` relative to the field,
    both counted with the weight `1 / (1 + L decay_time)`: small waves must grow at the right rate, but noise that decays
    within that time soon forgets its errors and must not shorten the steps. A field whose mean is conserved is
    measured about its mean.

    Only the equation has to be given; what else there is adapts to the field, and may be set before `start`.

    Args:
        basis: The modes.
        linear: Symbol of the linear part for each mode (n or 1, C or 1, modes), float64; the first axes may be missing [1/t0].
        symbol: What the nonlinear part is multiplied by for each mode, likewise.
        nonlinear: Writes the nonlinear part of the fields that come first into those that come second, given which
            trajectories of the batch they are.
        stabiliser: `A` of each trajectory (n), given the steps (n) and the degree of phase separation (n), which is the
            norm of the field relative to a fully developed one. Unless given it is made of the steepest slope of the nonlinear
            part, or 0 where that part needs none.
        energy: Energy (k), float64, of fields and their modes (k), given the numbers of their trajectories (k); it must not
            rise.
        amplitude: Root mean square of a fully developed field. Unless given it is the largest so far of each trajectory.
        decay_time: How long errors matter, for each trajectory or one for all [t0]; for ever unless given.
        tolerance: Error that is allowed, relative to a fully developed field.
        first_step: The first step of each trajectory, or one for all [t0]. Unless given it is
            chosen from the rate at which the field changes.
        offset: Constant that is subtracted from the field while it is integrated, so that float32 holds it better; the
            functions above are given what is left.
    """

    def __init__(
        self,
        *,
        basis: Modes,
        linear: Float[Tensor, "..."],
        symbol: Float[Tensor, "..."],
        nonlinear: Callable[[Tensor, Tensor, np.ndarray], None],
        stabiliser: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        energy: Callable[[Tensor, Tensor, np.ndarray], Tensor] | None = None,
        amplitude: float | None = None,
        decay_time: Float[Tensor, " #n"] | None = None,
        tolerance: float = 1e-3,
        first_step: Float[Tensor, " #n"] | None = None,
        offset: float = 0.0,
    ) -> None:
        self.basis, self.nonlinear = basis, nonlinear
        axes = 2 + len(basis.shape)
        self.linear, self.symbol = (
            values.reshape((1,) * (axes - values.ndim) + values.shape) for values in (linear, symbol)
        )
        self.stabiliser, self.energy, self.amplitude = stabiliser, energy, amplitude
        self.decay_time = torch.zeros(1, dtype=torch.float64) if decay_time is None else decay_time
        self.tolerance, self.first_step, self.offset = tolerance, first_step, offset

    def _start(self, u0: Float[Tensor, "n C *cells"]) -> None:
        n = len(u0)
        # Size, ratio and `A` of a block's first step, and of the others.
        self.first, self.rest = np.ones((2, n, 3), dtype=str(u0.dtype).removeprefix("torch."))
        self.chunks = _split(n, CHUNK // u0[0].nbytes if u0.is_cpu else n)
        self.states = [self._state(chunk, (u0[chunk] - self.offset).contiguous()) for chunk in self.chunks]
        if self.amplitude is None:
            largest = np.concatenate([state.norms(state.modes) for state in self.states])
        else:
            largest = np.full(n, self.amplitude * math.sqrt(u0[0].numel()))
        self.control = StepControl(
            self.t,
            self._first_steps() if self.first_step is None else np.broadcast_to(self.first_step.numpy(), n),
            tolerance=self.tolerance,
            largest=largest,
            growing=self.amplitude is None,
            energy_rise=ENERGY_RISE[u0.dtype],
        )
        self.control.lowest[:] = self._energies(np.ones(n, dtype=bool))

    def _advance(self, time: float) -> None:
        while self.control.time.min() < time:
            block = self.control.plan(time)
            self.first[:, 0] = self.rest[:, 0] = block.size
            self.first[:, 1] = block.ratio
            self.first[:, 2] = self.rest[:, 2] = self._stabilisers(block.size)
            sums = np.zeros((len(block.size), 3))
            for chunk, state in zip(self.chunks, self.states, strict=True):
                state.advance(block.steps[chunk], self.first[chunk], self.rest[chunk], sums[chunk])
            rejected = self.control.accept(block, time, sums, self._energies(block.due))
            if rejected.any():
                for chunk, state in zip(self.chunks, self.states, strict=True):
                    state.reject(rejected[chunk])

    def _fields(self) -> Float[Tensor, "n C *cells"]:
        """The fields at the present time."""
        return torch.cat([state.field for state in self.states]) + self.offset

    @property
    def steps_taken(self) -> Int[np.ndarray, " n"]:
        """Steps of each trajectory so far."""
        return self.control.steps_taken

    # ----------------------------------------------------------------- steps

    def _state(self, chunk: slice, field: Fields) -> SpectralState:
        linear, symbol, decay_time = (
            values if len(values) == 1 else values[chunk] for values in (self.linear, self.symbol, self.decay_time)
        )

        def nonlinear(y: Tensor, out: Tensor, trajectories: np.ndarray) -> None:
            self.nonlinear(y, out, chunk.start + trajectories)

        return SpectralState(
            field, basis=self.basis, linear=-linear, explicit=symbol, nonlinear=nonlinear, decay_time=decay_time
        )

    def _first_steps(self) -> Float[np.ndarray, " n"]:
        """In which the fields change so little that a step of first order is as accurate as those that follow."""
        norms = np.concatenate([state.norms(state.modes) for state in self.states])
        rates = np.concatenate([state.norms(state.rate()) for state in self.states])
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = FIRST_CHANGE * math.sqrt(self.tolerance) * norms / rates
        return np.where(np.isfinite(steps) & (steps > 0), steps, 1.0)

    def _stabilisers(self, size: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        if self.stabiliser is not None:
            return self.stabiliser(size, self.control.separation)
        # Only a negative `A P` stabilises.
        rising = bool((self.symbol > 0).any())
        slopes = np.concatenate([state.slopes() for state in self.states])
        return STABLE * (np.minimum(slopes[:, 0], 0) if rising else np.maximum(slopes[:, 1], 0))

    def _energies(self, due: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        if self.energy is None:
            return np.zeros(len(due))
        energy = np.full(len(due), np.inf)
        if not due.any():
            return energy
        for chunk, state in zip(self.chunks, self.states, strict=True):
            some = np.flatnonzero(due[chunk])
            if some.size:
                found = self.energy(state.field[some], state.modes[some], chunk.start + some)
                energy[chunk.start + some] = found.cpu().numpy()
        return energy


def _split(n: int, most: int) -> list[slice]:
    """Slices of about `most` of n trajectories, all as long but for one; not of a single one, which is transformed twice."""
    count = max(1, n // max(2, most))
    bounds = [n * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]
