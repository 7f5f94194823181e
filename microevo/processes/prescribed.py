"""Integrator with prescribed steps: the same for every trajectory, so that none depends on its neighbours."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import Grid
from microevo.processes.stepper import StepError, Stepper
from microevo.processes.transform import RealModes

MAX_HALVINGS = 4  # of a step of first order that leaves the bounds


class PrescribedBDF(Stepper):
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
        stabiliser: `S` of each mode (batch or 1, 1, modes of `RealModes`), float64 [1/t0].
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

    # ---------------------------------------------------------------- public

    def start(self, u0: Float[Tensor, "n C *cells"]) -> None:
        """Begin at time 0 with `u0`."""
        self.modes = RealModes(self.grid, u0.device, u0.dtype)
        # A late step adds less than float32 resolves.
        self.total = u0.to(torch.float64, copy=True, memory_format=torch.contiguous_format)
        self.before = torch.empty_like(self.total)
        self.field = u0.clone(memory_format=torch.contiguous_format)
        self.rates = [torch.empty_like(self.field) for _ in range(2)]
        self.increment = torch.zeros_like(self.modes.forward(_paired(self.field)))
        self.coefficients = [torch.empty_like(self.increment[: len(self.stabiliser)]) for _ in range(2)]
        self.key = (math.nan, math.nan)
        self.last = math.inf  # the step just taken; an infinite one makes the next of first order
        self.time = 0.0
        self.steps_taken = 0
        wrong = self._outside()
        if wrong is not None:
            raise self._failure(wrong, 0.0)

    def advance(self, time: float) -> None:
        """Integrate to exactly `time`."""
        if time < self.time:
            raise ValueError(f"a stepper runs forward only, from {self.time} not to {time}")
        while self.time < time:
            until, longest = next(stage for stage in self.schedule if self.time < stage[0])
            target = min(until, time)
            count = max(1, math.ceil((target - self.time) / longest - 1e-6))  # rounding must not cost a step
            dt = (target - self.time) / count
            begin = self.time
            for i in range(count):
                self.time, self.steps_taken = begin + (i + 1) * dt, self.steps_taken + 1
                self._step(dt)
            self.time = target

    @property
    def t(self) -> float:
        """The present time [t0]."""
        return self.time

    @property
    def u(self) -> Float[Tensor, "n C *cells"]:
        """The fields at the present time."""
        return self.total.to(self.field.dtype, copy=True)

    # ----------------------------------------------------------------- steps

    def _step(self, dt: float, lanes: Tensor | None = None, halvings: int = 0) -> None:
        """One step, in which only `lanes`, all unless given, must stay within bounds."""
        r = dt / self.last if self.order == 2 else 0.0
        self._prepare(dt, r)
        now, before = self.rates
        self.rate(self.field, now)
        drive = before.mul_(-r / (1 + r)).add_(now) if r else now
        modes = self.modes.forward(_paired(drive)).mul_(self.coefficients[0])
        if r:
            modes.addcmul_(self.coefficients[1], self.increment)
        self.increment = modes
        torch.add(self.total, self.modes.inverse(modes)[: len(self.total)], out=self.before)
        self.total, self.before = self.before, self.total
        self.field.copy_(self.total)
        self.rates = [before, now]
        self.last = dt
        wrong = self._outside()
        if wrong is not None and lanes is not None:
            wrong = wrong & lanes
        if wrong is not None and wrong.any():
            if self.order == 2 or halvings == MAX_HALVINGS:
                raise self._failure(wrong, dt)
            self._repeat(wrong, dt / 2, halvings + 1)

    def _repeat(self, lanes: Tensor, dt: float, halvings: int) -> None:
        """Take the last step again in two halves; `lanes` keep the result, the others what they had."""
        whole = self.total.clone()
        self.total.copy_(self.before)
        self.field.copy_(self.total)
        for _ in range(2):
            self._step(dt, lanes, halvings)
        torch.where(lanes.reshape(-1, *(1,) * (whole.ndim - 1)), self.total, whole, out=self.total)
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
        lanes = self.field.flatten(1)
        return ~((lanes >= low) & (lanes <= high)).all(1)

    def _failure(self, lanes: Tensor, dt: float) -> StepError:
        lane = int(lanes.nonzero()[0])
        field = self.field[lane]
        if field.isfinite().all():
            low, high = self.bounds
            what = f"runs from {float(field.min()):.4g} to {float(field.max()):.4g}, outside [{low:g}, {high:g}]"
        else:
            what = "is not finite"
        return StepError(
            lane, f"at time {self.time:.6g}, in step {self.steps_taken} of length {dt:.3g}, the field {what}"
        )


def _paired(u: Tensor) -> Tensor:
    """A single field twice: transforms of a batch of one round otherwise than those of several."""
    return u.repeat(2, *(1,) * (u.ndim - 1)) if len(u) == 1 else u
