"""Integrators: from one time to exactly another, knowing nothing of the physics.

Every trajectory of a batch chooses its own steps, so that it does not matter which others it is computed with.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from microevo.processes.spectral_state import SpectralState

STEPS = 4  # equal steps between two estimates of the error
ENERGY_EVERY = 25  # blocks after which the energy is looked at
ENERGY_PAUSE = 5  # blocks after a look in which an asked time needs none: frames may lie closer than steps are long
SHORTEST, LONGEST = 0.5, 2.0  # a step relative to the one before; BDF2 is stable below 2.41
ERROR_PER_BEND = 6.0  # errors of coarsening fields are that many times the second difference of a step
MAX_REJECTIONS = 30  # halvings of a step before giving up
CHUNK = 2**20  # bytes of the fields that are computed together, so that they stay in a core's cache
ENERGY_RISE = {torch.float32: 1e-6, torch.float64: 1e-8}  # relative rise that rounding explains


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
    def start(self, u0: Float[Tensor, "n C *cells"]) -> None:
        """Begin at time 0 with `u0`."""

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


class SpectralBDF2(Stepper):
    """Stabilised variable-step BDF2 in Fourier space, periodic, second order in time.

    Integrates `u_t = P G(u) - L u` for each Fourier mode, where `L` (linear) is taken implicitly and `G`, the transform
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
        shape: Cells along each axis.
        linear: `L` of each mode (batch or 1, C or 1, modes), float64 [1/t0].
        explicit: `P` of each mode, likewise.
        stabiliser: `A` of each trajectory (n), given the steps (n) and `|u - mean|` relative to a developed field (n).
        nonlinear: Writes the function of the field that comes first, whose transform is `G`, into the one that comes second.
        energy: Energy (k), float64, of fields (k) and given the numbers of their trajectories (k); it must not rise.
        weights: How many modes each one of the last axis stands for.
        amplitude: Root mean square of a developed field, about its mean.
        memory: How long errors matter, for each trajectory or one for all [t0].
        tolerance: Error that is allowed, relative to a developed field.
        first_step: The first step of each trajectory, or one for all [t0].
        offset: Constant that is subtracted from the field while it is integrated, so that float32 holds it better.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        linear: Float[Tensor, "#n #C *modes"],
        explicit: Float[Tensor, "#n #C *modes"],
        stabiliser: Callable[[np.ndarray, np.ndarray], np.ndarray],
        nonlinear: Callable[[Tensor, Tensor], None],
        energy: Callable[[Tensor, np.ndarray], Tensor],
        weights: Float[Tensor, " last"],
        amplitude: float,
        memory: Float[Tensor, " #n"],
        tolerance: float,
        first_step: Float[Tensor, " #n"],
        offset: float = 0.0,
    ) -> None:
        self.shape, self.linear, self.explicit, self.stabiliser = shape, linear, explicit, stabiliser
        self.nonlinear, self.energy, self.weights = nonlinear, energy, weights
        self.amplitude, self.memory, self.tolerance = amplitude, memory, tolerance
        self.first_step, self.offset = first_step, offset

    # ---------------------------------------------------------------- public

    def start(self, u0: Float[Tensor, "n C *cells"]) -> None:
        """Begin at time 0 with `u0`."""
        n = len(u0)
        self.time = np.zeros(n)
        self.step = np.broadcast_to(self.first_step.numpy(), n).astype(float)  # what the error control asks for
        self.last = np.full(n, np.inf)  # the step just taken; an infinite one makes the next of first order
        self.blocks = np.zeros(n, dtype=int)
        self.seen = np.zeros_like(self.blocks)  # of them, when the energy was looked at last
        self.steps_taken = np.zeros(n, dtype=int)
        self.rejections = np.zeros(n, dtype=int)
        self.developed = np.zeros(n)  # `|u - mean|` of the slow modes, relative to a developed field
        self.lowest = self.energy(u0, np.arange(n)).cpu().numpy().copy()
        self.energy_rise = ENERGY_RISE[u0.dtype]
        # Size, ratio and `A` of a block's first step, and of the others.
        self.first, self.rest = np.ones((2, n, 3), dtype=str(u0.dtype).removeprefix("torch."))
        self.largest = self.amplitude * math.sqrt(u0[0].numel() * math.prod(self.shape))  # norm of the modes (Parseval)
        self.lanes = _split(n, CHUNK // u0[0].nbytes if u0.is_cpu else n)
        self.states = [self._state(lanes, (u0[lanes] - self.offset).contiguous()) for lanes in self.lanes]

    def advance(self, time: float) -> None:
        """Integrate to exactly `time`."""
        if time < self.time.min():
            raise ValueError(f"a stepper runs forward only, from {self.time.min()} not to {time}")
        while (active := self.time < time).any():
            self._advance_block(time, active)

    @property
    def t(self) -> float:
        """The present time [t0]."""
        return float(self.time.min())

    @property
    def u(self) -> Float[Tensor, "n C *cells"]:
        """The fields at the present time."""
        return torch.cat([state.field for state in self.states]) + self.offset

    # ----------------------------------------------------------------- steps

    def _advance_block(self, time: float, active: Bool[np.ndarray, " n"]) -> None:
        """Up to four equal steps for each active trajectory, accepted or taken back."""
        left = time - self.time
        # The last steps before an asked time are shortened evenly: a short one among long ones would be inaccurate.
        count = np.maximum(np.ceil(left / self.step - 1e-9), active)
        near = active & (count <= 2 * STEPS)
        size = np.where(near, left / np.maximum(count, 1), self.step)
        steps = np.minimum(count, STEPS).astype(int)
        ending = near & (count <= STEPS)
        ratio = size / self.last  # 0 at the very first step, which is of first order
        self.first[:, 0] = self.rest[:, 0] = size
        self.first[:, 1] = ratio
        self.first[:, 2] = self.rest[:, 2] = self.stabiliser(size, self.developed)

        sums = np.zeros((len(size), 3))
        for own, state in zip(self.lanes, self.states, strict=True):
            state.advance(steps[own], self.first[own], self.rest[own], sums[own])
        error = self._errors(sums, np.where(steps > 1, 1.0, ratio))

        unseen = self.blocks + 1 - self.seen
        due = active & ((unseen >= ENERGY_EVERY) | (ending & (unseen >= ENERGY_PAUSE)))
        energy = self._energies(due)
        wrong = active & ~(error <= 4 * self.tolerance)  # so that NaN is wrong
        wrong |= due & ~(energy <= self.lowest + self.energy_rise * np.abs(self.lowest))
        if wrong.any():
            self._count_rejections(wrong, size, error, energy)
            for own, state in zip(self.lanes, self.states, strict=True):
                state.take_back(wrong[own])
        good = active & ~wrong
        self.time[good] = np.where(ending, time, self.time + steps * size)[good]
        self.last[good] = size[good]
        self.blocks[good] += 1
        self.steps_taken[good] += steps[good]
        self.rejections[good] = 0
        self.developed[good] = np.sqrt(sums[good, 2]) / self.largest
        self.lowest[good & due] = energy[good & due]
        self.seen[good & due] = self.blocks[good & due]
        self._adapt(good, error, size)
        self.step[wrong] = size[wrong] / 2

    def _state(self, lanes: slice, field: Float[Tensor, "k C *cells"]) -> SpectralState:
        linear, explicit, memory = (
            values if len(values) == 1 else values[lanes] for values in (self.linear, self.explicit, self.memory)
        )
        return SpectralState(
            field, linear=linear, explicit=explicit, nonlinear=self.nonlinear, weights=self.weights, memory=memory
        )

    def _errors(self, sums: Float[np.ndarray, "n 3"], ratio: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The error that is held at `tolerance`, for last steps `ratio` times as long as the one before."""
        bend, slow_bend, slow_field = np.sqrt(sums.T)
        error = np.hypot(ERROR_PER_BEND * bend / self.largest, slow_bend / np.where(slow_field == 0, 1.0, slow_field))
        return np.where(np.isfinite(slow_field), 2 * ratio / (1 + ratio) * error, np.nan)

    def _energies(self, due: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        energy = np.full(len(due), np.inf)
        if not due.any():
            return energy
        for own, state in zip(self.lanes, self.states, strict=True):
            some = np.flatnonzero(due[own])
            if some.size:
                energy[own.start + some] = self.energy(state.field[some] + self.offset, own.start + some).cpu().numpy()
        return energy

    def _adapt(self, lanes: np.ndarray, error: np.ndarray, size: np.ndarray) -> None:
        # A step cut short to meet an asked time says what the full one would have done.
        expected = error * (self.step / size) ** 2
        factor = np.clip(0.9 * np.sqrt(self.tolerance / np.maximum(expected, 1e-300)), SHORTEST, LONGEST)
        self.step[lanes] *= factor[lanes]

    def _count_rejections(self, wrong: np.ndarray, size: np.ndarray, error: np.ndarray, energy: np.ndarray) -> None:
        self.rejections[wrong] += 1
        hopeless = np.flatnonzero(self.rejections > MAX_REJECTIONS)
        if hopeless.size:
            lane = int(hopeless[0])
            if not math.isfinite(error[lane]):
                why = "the field is not finite"
            elif error[lane] > 4 * self.tolerance:
                why = f"its error estimate stays at {error[lane]:.1e}"
            else:
                why = f"its energy rises to {energy[lane]:.6g}"
            raise StepError(
                lane,
                f"at time {self.time[lane]:.6g} no step down to {size[lane]:.1e} is accepted, because {why} (last energy "
                f"{self.lowest[lane]:.6g}); lower the tolerance or refine the grid",
            )


def _split(n: int, most: int) -> list[slice]:
    """Slices of about `most` of n trajectories, all as long but for one; not of a single one, which is transformed twice."""
    count = max(1, n // max(2, most))
    bounds = [n * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]
