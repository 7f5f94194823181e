"""Integrators: from one time to exactly another, knowing nothing of the physics.

Every trajectory of a batch chooses its own steps, so that it does not matter which others it is computed with.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

STEPS = 4  # equal steps between two estimates of the error
ENERGY_EVERY = 25  # blocks between two looks at the energy, besides those at asked times
MAX_REJECTIONS = 30  # halvings of a step before giving up
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
    of a nonlinear function of the field, is extrapolated. The stabiliser `S` adds `S dt^2 u_tt`, which keeps the second
    order (Ascher, Ruuth & Wetton, SIAM J. Numer. Anal. 32 (1995) 797; Zhu, Chen, Shen & Tikare, Phys. Rev. E 60 (1999)
    3564). With `r = dt / dt_before`, and a minus for the step before:

        [(1+2r)/(1+r) + dt (S + L)] u+ = (1+r) u - r^2/(1+r) u-  +  dt P [(1+r) G - r G-]  +  dt S [(1+r) u - r u-]

    Every four equal steps the second difference of the field, relative to the field, is held at `tolerance`.

    Args:
        shape: Cells along each axis.
        linear: `L` of each mode (batch or 1, C or 1, modes), float64 [1/t0].
        explicit: `P` of each mode, likewise.
        stabiliser: `S` of each mode (C or 1, modes) for a trajectory and a step size, float64 [1/t0].
        nonlinear: The function of the field whose transform is `G`.
        energy: Energy of each field (n), float64; it must not rise.
        weights: How many modes each one of the last axis stands for.
        tolerance: Second difference of the field over four steps, relative to the field.
        first_step: The first step of each trajectory, or one for all [t0].
        offset: Constant that is subtracted from the field while it is integrated, so that float32 holds it better.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        linear: Float[Tensor, "#n #C *modes"],
        explicit: Float[Tensor, "#n #C *modes"],
        stabiliser: Callable[[int, float], Float[Tensor, "#C *modes"]],
        nonlinear: Callable[[Tensor], Tensor],
        energy: Callable[[Tensor], Tensor],
        weights: Float[Tensor, " last"],
        tolerance: float,
        first_step: Float[Tensor, " #n"],
        offset: float = 0.0,
    ) -> None:
        self.shape, self.axes = shape, tuple(range(2, 2 + len(shape)))
        self.linear, self.explicit, self.stabiliser = linear, explicit, stabiliser
        self.nonlinear, self.energy, self.weights = nonlinear, energy, weights
        self.tolerance, self.first_step, self.offset = tolerance, first_step, offset

    # ---------------------------------------------------------------- public

    def start(self, u0: Float[Tensor, "n C *cells"]) -> None:
        """Begin at time 0 with `u0`."""
        self.count = len(u0)
        # MKL's inverse real transform of a single field rounds otherwise than that of several.
        field = u0.repeat(2, *(1,) * (u0.ndim - 1)) if len(u0) == 1 else u0
        self.field = field - self.offset
        n = len(field)
        self.modes = self._forward(self.field)
        self.terms = self._forward(self.nonlinear(self.field))
        self.modes_before, self.terms_before = self.modes, self.terms
        self.time = np.zeros(n)
        self.step = np.broadcast_to(self.first_step.numpy(), n).astype(
            float
        )  # the step that the error control asks for
        self.last = np.full(n, np.inf)  # the step just taken; an infinite one makes the next of first order
        self.blocks = np.zeros(n, dtype=int)
        self.rejections = np.zeros(n, dtype=int)
        self.lowest = self.energy(self.field + self.offset).cpu().numpy().copy()
        self.rest_step, self.first_key = np.full(n, np.nan), np.full((n, 2), np.nan)
        self.rest = torch.empty((STEPS, *self.modes.shape), dtype=self.modes.dtype, device=self.modes.device)
        self.first = torch.empty_like(self.rest)
        self.norm_weights = self.weights.to(self.modes)[:, None]
        self.steps_taken = np.zeros(n, dtype=int)

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
        return self.field[: self.count] + self.offset

    # ----------------------------------------------------------------- steps

    def _advance_block(self, time: float, active: np.ndarray) -> None:
        """Up to four equal steps for each active trajectory, accepted or taken back."""
        left = time - self.time
        # The last steps before an asked time are shortened evenly: a short one among long ones would be inaccurate.
        near = active & (left <= 2 * STEPS * self.step)
        count = np.where(near, np.ceil(left / self.step - 1e-9).clip(1), STEPS).astype(int)
        size = np.where(near, left / count, self.step)
        steps = np.minimum(count, STEPS)
        ending = near & (count <= STEPS)
        steps[~active] = 0
        size[~active] = self.last[~active]  # they compute along, and are put back below
        ratio = size / self.last  # 0 at the very first step, which is of first order
        self._prepare(size, ratio)

        modes, terms, fields = [self.modes_before, self.modes], [self.terms_before, self.terms], [self.field]
        for i in range(steps.max()):
            c = self.rest if i else self.first
            new = c[0] * modes[-1]
            new.addcmul_(c[1], modes[-2]).addcmul_(c[2], terms[-1]).addcmul_(c[3], terms[-2])
            field = torch.fft.irfftn(torch.view_as_complex(new), s=self.shape, dim=self.axes)
            modes.append(new)
            fields.append(field)
            terms.append(self._forward(self.nonlinear(field)))

        taken = steps.copy()
        error = self._errors(modes, steps, ratio)
        due = active & (ending | ((self.blocks + 1) % ENERGY_EVERY == 0))
        energy = self._energies(fields, steps, due)
        rise = ENERGY_RISE[self.field.dtype]
        wrong = active & (
            ~np.isfinite(error)
            | (error > 4 * self.tolerance)
            | (due & ~(energy <= self.lowest + rise * np.abs(self.lowest)))
        )
        if wrong.any():
            self._count_rejections(wrong, size, error, energy)
        taken[wrong] = 0

        self.modes, self.modes_before = _pick(modes, taken + 1), _pick(modes, taken)
        self.terms, self.terms_before = _pick(terms, taken + 1), _pick(terms, taken)
        self.field = _pick(fields, taken)
        good = active & ~wrong
        self.time[good] = np.where(ending, time, self.time + steps * size)[good]
        self.last[good] = size[good]
        self.blocks[good] += 1
        self.steps_taken[good] += steps[good]
        self.rejections[good] = 0
        self.lowest[good & due] = energy[good & due]
        self.step[wrong] = size[wrong] / 2
        self._adapt(good, error, size)

    def _prepare(self, size: np.ndarray, ratio: np.ndarray) -> None:
        """Coefficients of `u`, `u-`, `G` and `G-`, for the trajectories whose steps changed."""
        for lane in np.flatnonzero(self.rest_step != size).tolist():
            self._coefficients(self.rest, lane, float(size[lane]), 1.0)
            self.rest_step[lane] = size[lane]
            self.first_key[lane] = np.nan
        for lane in np.flatnonzero((self.first_key != np.stack([size, ratio], axis=1)).any(axis=1)).tolist():
            if ratio[lane] == 1.0:
                self.first[:, lane] = self.rest[:, lane]
            else:
                self._coefficients(self.first, lane, float(size[lane]), float(ratio[lane]))
            self.first_key[lane] = size[lane], ratio[lane]

    def _coefficients(self, out: Tensor, lane: int, dt: float, r: float) -> None:
        linear = self.linear[min(lane, len(self.linear) - 1)]
        explicit = self.explicit[min(lane, len(self.explicit) - 1)]
        s = dt * self.stabiliser(lane, dt)
        scale = 1 / ((1 + 2 * r) / (1 + r) + s + dt * linear)
        for slot, value in enumerate(
            (
                (1 + r) * (1 + s),
                -(r**2) / (1 + r) - r * s,
                dt * explicit * (1 + r),
                -dt * explicit * r,
            )
        ):
            out[slot, lane] = (scale * value)[..., None].to(out)
        # Where nothing acts (the mean of a conserved field) the history would still add rounding errors.
        still = ((linear == 0) & (explicit == 0))[..., None].expand_as(out[0, lane])
        for slot in range(4):
            out[slot, lane][still] = float(slot == 0)

    def _errors(self, modes: list[Tensor], steps: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        """Second difference over the last two steps, relative to the field; of unequal steps, as if both were the last."""
        end, middle, begin = (_pick(modes, np.maximum(steps + 1 - back, 0)) for back in (0, 1, 2))
        r = torch.as_tensor(np.where(steps > 1, 1.0, ratio)).to(end).reshape(-1, *(1,) * (end.ndim - 1))
        bend = self._norms(2 * r / (1 + r) * ((end - middle) - r * (middle - begin)))
        norm = self._norms(end)
        return np.where(np.isfinite(norm), bend / np.where(norm == 0, 1.0, norm), np.nan)

    def _norms(self, modes: Tensor) -> np.ndarray:
        """L2 norm of each field about its mean, up to a common factor."""
        squares = modes.square() * self.norm_weights
        squares.flatten(2, -2)[:, :, 0] = 0  # the mean
        return squares.flatten(1).sum(1, dtype=torch.float64).sqrt().cpu().numpy()

    def _energies(self, fields: list[Tensor], steps: np.ndarray, due: np.ndarray) -> np.ndarray:
        if not due.any():
            return np.full(len(steps), np.inf)
        return self.energy(_pick(fields, steps) + self.offset).cpu().numpy()

    def _adapt(self, lanes: np.ndarray, error: np.ndarray, size: np.ndarray) -> None:
        # A step cut short to meet an asked time says what the full one would have done.
        expected = error * (self.step / size) ** 2
        factor = np.clip(0.9 * np.sqrt(self.tolerance / np.maximum(expected, 1e-300)), 0.5, 1.3)
        factor[(factor > 0.95) & (factor < 1.1)] = 1.0  # the coefficients stay as they are
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

    def _forward(self, field: Tensor) -> Tensor:
        return torch.view_as_real(torch.fft.rfftn(field, dim=self.axes))


def _pick(states: list[Tensor], which: np.ndarray) -> Tensor:
    """For each trajectory the state of its own number."""
    if (which == which[0]).all():
        return states[which[0]]
    picked = states[which.max()].clone()
    for number in np.unique(which[which < which.max()]):
        lanes = np.flatnonzero(which == number)
        picked[lanes] = states[number][lanes]
    return picked
