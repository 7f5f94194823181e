"""Integrator with fixed steps: the same for every trajectory, so that none depends on its neighbours."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from microevo.processes.grid import Grid
from microevo.processes.integrators.base import StepError, Stepper
from microevo.processes.integrators.transforms import modes_of

MAX_HALVINGS = 4  # of a step of first order that leaves the bounds


class FixedStepBDF(Stepper):
    """Stabilised backward differentiation of first or second order, in real space.

    Integrates `u_t = E(u)`, with `E` explicit and a stabiliser `S`, diagonal in the modes of the grid, implicit. With
    `d = u - u-`, `d+ = u+ - u`, `r = dt / dt_before`, and a minus for the step before, the second order is

        [(1+2r)/(1+r) + dt S] d+ = [r^2/(1+r) + r dt S] d + dt [(1+r) E - r E-]

    and the first order the same with `r = 0`, as is the first step of either (Ascher, Ruuth & Wetton, SIAM J. Numer.
    Anal. 32 (1995) 797). The zero mode does not change. A trajectory that leaves the bounds in a step of first order, as
    when two droplets meet, takes that step again in halves, alone; one of second order stops.

    Args:
        grid: Where the fields live.
        rate: Writes `E` of the field that comes first into the one that comes second.
        stabiliser: `S` of each mode (batch or 1, 1, modes of the grid), float64 [1/t0].
        order: Of the scheme in time.
        schedule: Pairs of a time and the step until then, in order; the last time is infinite [t0].
        bounds: What the field must not leave.
    """

    def __init__(
        self,
        *,
        grid: Grid,
        rate: Callable[[Tensor, Tensor], None],
        stabiliser: Float[Tensor, "#n 1 *modes"],
        order: int,
        schedule: Sequence[tuple[float, float]],
        bounds: tuple[float, float],
    ) -> None:
        self.grid, self.rate, self.stabiliser = grid, rate, stabiliser
        self.order, self.schedule, self.bounds = order, schedule, bounds

    def _start(self, u0: Float[Tensor, "n C *cells"]) -> None:
        self.modes = modes_of(self.grid)
        # A late step adds less than float32 resolves.
        self.total = u0.to(torch.float64, copy=True, memory_format=torch.contiguous_format)
        self.before = torch.empty_like(self.total)
        self.field = u0.clone(memory_format=torch.contiguous_format)
        self.slope = torch.empty_like(self.field)
        self.increment = u0.new_zeros(*u0.shape[:2], *self.modes.shape)
        self.drives = [torch.zeros_like(self.increment) for _ in range(2)]
        self.coefficients = [self.increment.new_empty(self.stabiliser.shape) for _ in range(2)]
        self.key = (math.nan, math.nan)
        self.last = math.inf  # the step just taken; an infinite one makes the next of first order
        self.now = self.t  # where the step ends that is being taken
        self.steps_taken = 0
        if u0.is_cpu:
            from microevo.processes.kernels import fixed_step  # numba takes its time to import

            self.kernel = fixed_step
        wrong = self._outside()
        if wrong is not None:
            raise self._failure(wrong, 0.0)

    def _advance(self, time: float) -> None:
        begin = self.t
        while begin < time:
            until, longest = next(stage for stage in self.schedule if begin < stage[0])
            target = min(until, time)
            count = max(1, math.ceil((target - begin) / longest - 1e-6))  # rounding must not cost a step
            dt = (target - begin) / count
            for i in range(count):
                self.now, self.steps_taken = begin + (i + 1) * dt, self.steps_taken + 1
                self._step(dt)
            begin = target

    def _fields(self) -> Float[Tensor, "n C *cells"]:
        """The fields at the present time."""
        return self.total.to(self.field.dtype, copy=True)

    # ----------------------------------------------------------------- steps

    def _step(self, dt: float, only: Tensor | None = None, halvings: int = 0) -> None:
        """One step, in which the trajectories of the mask `only`, all unless given, must stay within bounds."""
        r = dt / self.last if self.order == 2 else 0.0
        self._prepare(dt, r)
        self.rate(self.field, self.slope)
        self.drives = [self.modes.forward(self.slope), self.drives[0]]
        self._combine(r / (1 + r))
        wrong = self._add(self.modes.inverse(self.increment))
        self.total, self.before = self.before, self.total
        self.last = dt
        if wrong is not None and only is not None:
            wrong = wrong & only
        if wrong is not None and wrong.any():
            if self.order == 2 or halvings == MAX_HALVINGS:
                raise self._failure(wrong, dt)
            self._repeat(wrong, dt / 2, halvings + 1)

    def _combine(self, share: float) -> None:
        """Make the increment of `E - share E-` and of the increment before."""
        if self.field.is_cpu:
            arrays = [values.flatten(2).numpy() for values in (*self.drives, self.increment, *self.coefficients)]
            self.kernel.combine(*arrays, arrays[0].dtype.type(share))
        else:
            drive, drive_before = self.drives
            of_drive, of_increment = self.coefficients
            combine(drive, drive_before, self.increment, of_drive, of_increment, share)

    def _add(self, increment: Float[Tensor, "n C *cells"]) -> Bool[Tensor, " n"] | None:
        """Write the field and its increment to `before`, and look which trajectories then are out of bounds."""
        if self.field.is_cpu:
            arrays = [array.flatten(1).numpy() for array in (self.total, increment, self.before, self.field)]
            outside = np.empty(len(increment), dtype=np.int64)
            self.kernel.add(*arrays, *self.bounds, outside)
            return torch.from_numpy(outside > 0) if outside.any() else None
        torch.add(self.total, increment, out=self.before)
        self.field.copy_(self.before)
        return self._outside()

    def _repeat(self, only: Tensor, dt: float, halvings: int) -> None:
        """Take the last step again in two halves; those of the mask keep the result, the others what they had."""
        whole = self.total.clone()
        self.total.copy_(self.before)
        self.field.copy_(self.total)
        for _ in range(2):
            self._step(dt, only, halvings)
        torch.where(only.reshape(-1, *(1,) * (whole.ndim - 1)), self.total, whole, out=self.total)
        self.field.copy_(self.total)

    def _prepare(self, dt: float, r: float) -> None:
        """Factors of `E - r/(1+r) E-` and of `d`."""
        if (dt, r) == self.key:
            return
        s = dt * self.stabiliser
        scale = torch.where(s == 0, 0.0, 1 / ((1 + 2 * r) / (1 + r) + s))
        self.coefficients[0].copy_(scale * dt * (1 + r))
        self.coefficients[1].copy_(scale * (r**2 / (1 + r) + r * s))
        self.key = (dt, r)

    def _outside(self) -> Tensor | None:
        """Which trajectories are out of bounds or not finite; None if all are well."""
        low, high = self.bounds
        least, most = torch.aminmax(self.field)
        if least >= low and most <= high:  # false for a NaN
            return None
        values = self.field.flatten(1)
        return ~((values >= low) & (values <= high)).all(1)

    def _failure(self, outside: Tensor, dt: float) -> StepError:
        index = int(outside.nonzero()[0])
        field = self.field[index]
        if field.isfinite().all():
            low, high = self.bounds
            what = f"runs from {float(field.min()):.4g} to {float(field.max()):.4g}, outside [{low:g}, {high:g}]"
        else:
            what = "is not finite"
        return StepError(
            index, f"at time {self.now:.6g}, in step {self.steps_taken} of length {dt:.3g}, the field {what}"
        )


def combine(
    drive: Float[Tensor, "n C *modes"],
    drive_before: Float[Tensor, "n C *modes"],
    increment: Float[Tensor, "n C *modes"],
    of_drive: Float[Tensor, "#n #C *modes"],
    of_increment: Float[Tensor, "#n #C *modes"],
    share: float,
) -> None:
    """What `kernels.fixed_step.combine` computes, as tensor operations for any device."""
    increment.mul_(of_increment).add_(of_drive * torch.sub(drive, drive_before, alpha=share))
