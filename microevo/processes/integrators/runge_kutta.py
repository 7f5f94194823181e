"""The integrator for any right-hand side: adaptive, explicit, third order in time.

Every trajectory of a batch chooses its own steps, so that it does not matter which others it is computed with.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from microevo.processes.integrators.base import StepError, Stepper

FIRST_CHANGE = 1e-2  # of the field in the first step, relative
SAFETY, SHORTEST, LONGEST = (
    0.9,
    0.2,
    5.0,
)  # of the step that the error asks for; and that step relative to the one before
MAX_REJECTIONS = 40  # in a row, before giving up
NEGLIGIBLE = 1e-3  # norm of a component relative to the largest, below which errors are not relative to its own


class RungeKutta(Stepper):
    """Explicit Runge-Kutta method of third order with an error estimate of second order.

    Integrates `u_t = rhs(u)` (Bogacki & Shampine, Appl. Math. Lett. 2 (1989) 321). The estimate also keeps the steps below
    the stability limit: a stiff equation is integrated right, but in many steps; give such an equation a linear part that
    `SpectralBDF2` takes implicitly.

    Args:
        rhs: `du/dt` of fields, given which trajectories of the batch they are.
        tolerance: Error per step that is allowed, relative to the norm of each component of the field; may be set before
            `start`.
    """

    def __init__(
        self, rhs: Callable[[Float[Tensor, "n C *cells"], Tensor], Float[Tensor, "n C *cells"]], tolerance: float = 1e-4
    ) -> None:
        self.rhs, self.tolerance = rhs, tolerance

    def _fields(self) -> Float[Tensor, "n C *cells"]:
        """The fields at the present time."""
        return self.field

    def _start(self, u0: Float[Tensor, "n C *cells"]) -> None:
        n = len(u0)
        self.field = u0.clone(memory_format=torch.contiguous_format)
        self.slope = self.rhs(self.field, torch.arange(n, device=u0.device))
        norms, rates = self._norms(self.field), self._norms(self.slope)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = (FIRST_CHANGE * norms.max(1)) / rates.max(1)
        self.step = np.where(np.isfinite(step) & (step > 0), step, 1.0)
        self.steps_taken: Int[np.ndarray, " n"] = np.zeros(n, dtype=np.int64)

    def _advance(self, time: float) -> None:
        now = np.full(len(self.field), self.t)
        rejections = np.zeros(len(now), dtype=np.int64)
        while (now < time).any():
            moving = np.flatnonzero(now < time)
            left = time - now[moving]
            # The last steps before `time` are shortened evenly.
            count = np.maximum(np.ceil(left / self.step[moving] - 1e-9), 1)
            size = np.where(count <= 2, left / count, self.step[moving])
            error = self._try(moving, size)
            accepted = error <= self.tolerance  # false for a NaN
            self._keep(moving, accepted)
            now[moving[accepted]] = np.where(count <= 1, time, now[moving] + size)[accepted]
            self.steps_taken[moving[accepted]] += 1
            rejections[moving] = np.where(accepted, 0, rejections[moving] + 1)
            if rejections.max() > MAX_REJECTIONS:
                index = int(rejections.argmax())
                raise StepError(index, f"at time {now[index]:.6g} no step down to {self.step[index]:.1e} is accepted")
            with np.errstate(divide="ignore", invalid="ignore"):
                factor = SAFETY * (self.tolerance / error) ** (1 / 3)
            factor = np.clip(np.where(np.isnan(factor), SHORTEST, factor), SHORTEST, LONGEST)
            # A step that was shortened to meet `time` says less about how long the next one may be.
            self.step[moving] = np.where(
                accepted & (factor > 1), np.maximum(self.step[moving], factor * size), factor * size
            )

    def _try(self, moving: Int[np.ndarray, " k"], size: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
        """A step of some trajectories, held in `self.tried`; its error relative to the tolerance's norm."""
        which = torch.from_numpy(moving).to(self.field.device)
        dt = torch.from_numpy(size).to(self.field).reshape(-1, *(1,) * (self.field.ndim - 1))
        u, k1 = self.field[which], self.slope[which]
        k2 = self.rhs(u + dt / 2 * k1, which)
        k3 = self.rhs(u + 3 * dt / 4 * k2, which)
        new = u + dt / 9 * (2 * k1 + 3 * k2 + 4 * k3)
        k4 = self.rhs(new, which)
        self.tried = which, new, k4
        errors, norms = self._norms(dt / 72 * (-5 * k1 + 6 * k2 + 8 * k3 - 9 * k4)), self._norms(new)
        scale = np.maximum(norms, NEGLIGIBLE * norms.max(1, keepdims=True))
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(errors == 0, 0.0, errors / scale)
        return np.sqrt((relative**2).mean(1))

    def _keep(self, moving: Int[np.ndarray, " k"], accepted: np.ndarray) -> None:
        which, new, slope = self.tried
        if accepted.all() and len(moving) == len(self.field):
            self.field, self.slope = new, slope
        elif accepted.any():
            good = torch.from_numpy(accepted).to(new.device)
            self.field = self.field.index_copy(0, which[good], new[good])
            self.slope = self.slope.index_copy(0, which[good], slope[good])

    def _norms(self, values: Float[Tensor, "k C *cells"]) -> Float[np.ndarray, "k C"]:
        """Norm of each component of each trajectory."""
        flat = values.flatten(2)
        # One by one: the order of a sum may depend on how many there are.
        return np.array([[float(part.square().sum(dtype=torch.float64)) ** 0.5 for part in own] for own in flat])
