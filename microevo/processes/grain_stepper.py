"""Explicit Euler steps of grain growth, compiled for the CPU and in torch for other devices."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import neighbours
from microevo.processes.integrators.base import StepError, Stepper
from microevo.processes.kernels import grain_growth as kernel
from microevo.processes.shared_order import SharedOrder

CHECK_EVERY = 6.0  # between two looks at the distances of grains [1/(L m)]; a boundary moves less than l meanwhile


@dataclass
class Trajectory:
    """One trajectory: its order parameters and where it stands between two checks."""

    order: SharedOrder
    rate: float
    since_check: float = 0.0


class GrainStepper(Stepper):
    """Fan-Chen equations with shared order parameters; the state is `sum eta^2` and the grain number of each cell.

    Every trajectory is integrated on its own, so that it does not matter which others it is computed with.

    Args:
        gamma: Coefficient of the product terms.
        k: Gradient coefficient [cells^2].
        rates: Reduced time per time of each trajectory, or one for all, `L m` [1/t0].
        limit: Largest step [1/(L m)].
        fields: Number of shared order parameters; None for one per grain.
        dtype: Floating-point type of the order parameters.
        walls: Whether the border of the grid reflects; otherwise it is periodic.
    """

    def __init__(
        self,
        *,
        gamma: float,
        k: float,
        rates: Float[Tensor, " #n"],
        limit: float,
        fields: int | None,
        dtype: torch.dtype,
        walls: bool,
    ) -> None:
        self.gamma, self.k, self.rates = gamma, k, rates
        self.limit, self.fields, self.dtype, self.walls = limit, fields, dtype, walls
        self.trajectories: list[Trajectory] = []

    def _start(self, u0: Float[Tensor, "n 2 H W"]) -> None:
        """Begin with order parameters 1 inside the grains whose numbers `u0` holds, and 0 outside."""
        self.device = u0.device
        numbers = u0[:, 1].cpu().double()
        for index, ids in enumerate(numbers):
            if not bool(((ids >= 0) & (ids == ids.round())).all()):
                raise StepError(index, f"at time {self.t:g} a grain number is not one of 0, 1, 2, ...")
        dtype = np.dtype(str(self.dtype).removeprefix("torch."))
        length = math.sqrt(8 * self.k)
        self.trajectories = [
            Trajectory(SharedOrder(ids.long().numpy(), self.fields, length, dtype, self.walls), float(rate))
            for ids, rate in zip(numbers, self.rates.expand(len(numbers)), strict=True)
        ]

    def _advance(self, time: float) -> None:
        for index, trajectory in enumerate(self.trajectories):
            left = (time - self.t) * trajectory.rate
            steps = math.ceil(left / self.limit - 1e-9)
            done = 0
            while done < steps:
                dt = left / steps
                until_check = max(1, math.ceil((CHECK_EVERY - trajectory.since_check) / dt - 1e-9))
                count = min(until_check, steps - done)
                self._euler(trajectory.order, dt, count)
                done += count
                now = self.t + (time - self.t) * done / steps
                if not trajectory.order.track():
                    raise StepError(
                        index, f"at time {now:.6g} an order parameter is not finite (step {dt / trajectory.rate:.3g})"
                    )
                trajectory.since_check += count * dt
                if count == until_check:
                    trajectory.since_check = 0.0
                    self._keep_apart(index, trajectory.order, now)

    def _fields(self) -> Float[Tensor, "n 2 H W"]:
        """`sum eta^2` and the grain number of each cell at the present time."""
        states = [
            torch.from_numpy(np.stack([trajectory.order.squares, trajectory.order.ids]))
            for trajectory in self.trajectories
        ]
        return torch.stack(states).to(device=self.device, dtype=self.dtype)

    def order_parameters(self, index: int = 0) -> Float[Tensor, "Q H W"]:
        """The fields of one trajectory."""
        return torch.from_numpy(self.trajectories[index].order.eta).movedim(2, 0).clone()

    # ----------------------------------------------------------------- steps

    def _euler(self, order: SharedOrder, dt: float, steps: int) -> None:
        kind = order.eta.dtype.type
        coefficients = (
            kind(1 + dt - 4 * self.k * dt),
            kind(dt * (2 * self.gamma - 1)),
            kind(2 * self.gamma * dt),
            kind(self.k * dt),
            kind(kernel.SMALLEST),
        )
        if self.device.type == "cpu":
            spare = np.empty_like(order.eta)
            euler = kernel.euler_kernel(order.eta.shape[2], self.walls)
            euler(order.eta, spare, *coefficients, steps)
            order.eta = spare if steps % 2 else order.eta
        else:
            eta = torch.from_numpy(order.eta).to(self.device)
            order.eta = euler_torch(eta, steps, *map(float, coefficients), walls=self.walls).cpu().numpy()

    def _keep_apart(self, index: int, order: SharedOrder, time: float) -> None:
        nearest = order.reassign()
        if nearest < order.length:
            raise StepError(
                index,
                f"at time {time:.6g} two grains of one order parameter are {nearest:.1f} cells apart and would merge; "
                f"use more than {self.fields} order_parameters or fewer grains",
            )


def euler_torch(
    eta: Float[Tensor, "H W Q"],
    steps: int,
    c0: float,
    c1: float,
    c2: float,
    c3: float,
    smallest: float,
    *,
    walls: bool = False,
) -> Float[Tensor, "H W Q"]:
    """What `kernel.euler_kernel` computes, as tensor operations for any device."""
    for _ in range(steps):
        factor = c0 - c2 * eta.square().sum(dim=2, keepdim=True)
        north, south = neighbours(eta, 0, walls)
        west, east = neighbours(eta, 1, walls)
        around = north + south + west + east
        eta = eta * (factor + c1 * eta.square()) + c3 * around
        eta = torch.where(eta < smallest, torch.zeros_like(eta), eta)
    return eta
