"""Spinodal decomposition of a regular solution with degenerate mobility: the physics of the published samples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import Grid
from microevo.processes.integrators.fixed_step import FixedStepBDF
from microevo.processes.integrators.transforms import modes_of
from microevo.processes.mixture import Mixture
from microevo.processes.parameters import Parameters
from microevo.processes.regular_flow import DILUTE, RegularFlow

BOUNDS = (-0.01, 1.01)  # of c; a solution that leaves them is no longer one
ACCURATE_LIMIT = 0.15  # longest step of the second-order scheme [kappa / diffusivity]
LATE_STEP = {"accurate": 0.004, "fast": 0.02}  # of each scheme, unless given [fr]
# Time until which a step holds, and that step in units of the late one.
FAST = ((1.0, 1 / 40), (5.0, 1 / 8), (20.0, 1 / 2), (math.inf, 1.0))
ACCURATE = (*((2.0 ** (i - 16), 2.0 ** (i - 12)) for i in range(10)), (0.3, 1 / 8), (2.0, 1 / 2), (math.inf, 1.0))


@dataclass(frozen=True, kw_only=True)
class RegularSolution(Mixture):
    """Cahn-Hilliard equation of a regular solution, with a mobility that vanishes in the pure phases.

        dc/dt = div( D c(1-c) grad mu ),    mu = ln(c / (1-c)) + Omega (1-2c) - kappa lap c

    (Cahn & Hilliard, J. Chem. Phys. 28 (1958) 258; Cahn & Taylor, Acta Metall. Mater. 42 (1994) 1045.) Energies are in
    units of kT, lengths in pixels and times in frames of the published samples, which the defaults were fitted to. With
    Omega = 4.83 the phases have the compositions 0.0086 and 0.9914, a flat interface the 10-90 % width 0.942 sqrt(kappa)
    and the energy 0.7385 sqrt(kappa). The mean of c never changes and the free energy never rises.

    Args:
        grid: Where it is solved, and how the image is made of it.
        first_frame: Time of the first saved frame; the quench is at time 0 [fr].
        frame_interval: Time between saved frames [fr].
        precision: Floating-point numbers of the solver; frames are saved as float32.
        composition: Mean of c.
        noise: Largest deviation from the mean at the quench, uniform in each cell.
        omega: Interaction of unlike neighbours, Omega; above 2 the mixture unmixes [kT].
        kappa: Gradient energy coefficient [kT px^2].
        diffusivity: D, of one kind of atom among many of the other [px^2/fr].
        scheme: `accurate`, of second order in time, or `fast`, of first order with a fifth of the steps: for data whose
            statistics alone matter, since single droplets vanish at other times.
        time_step: Longest step, taken from time 2 (accurate) or 20 (fast) on, shorter ones in proportion before. Unless
            given, it is 0.02 (fast), or 0.004 but at most 0.15 kappa / diffusivity (accurate), of the values given here
            also where those of the trajectories differ: all of a store take the same [fr].
    """

    parameters: ClassVar[tuple[str, ...]] = ("composition", "noise", "omega", "kappa", "diffusivity")

    grid: Grid = Grid(shape=(128, 128), spacing=0.5, boundary="no-flux", coarsen=2)
    first_frame: float = 40.0
    frame_interval: float = 1.0
    composition: float = 0.7507
    noise: float = 0.02
    omega: float = 4.83
    kappa: float = 2.585
    diffusivity: float = 94.0
    scheme: Literal["accurate", "fast"] = "accurate"
    time_step: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_positive("noise", "kappa", "diffusivity")
        if not self.omega > 2:
            raise ValueError(f"omega must be above 2, where a mixture unmixes, but it is {self.omega}")
        if not self.noise < self.composition < 1 - self.noise:
            raise ValueError(
                f"composition +- noise must lie between 0 and 1, but they are {self.composition} and {self.noise}"
            )
        self._check_interface("raise kappa, or lower omega or the grid's spacing")
        if not self.longest_step > 0:
            raise ValueError(f"time_step must be positive, but it is {self.time_step}")
        self._check_longest_step(self._accurate_limit)

    def _check_longest_step(self, limit: float) -> None:
        if self.scheme == "accurate" and self.longest_step > limit * (1 + 1e-9):
            raise ValueError(
                f"the accurate scheme needs steps of at most {ACCURATE_LIMIT} kappa / diffusivity = {limit:.4g}, but the "
                f"longest is {self.longest_step:g}; set time_step to at most {_rounded_down(limit):g}"
            )

    # ------------------------------------------------------------ closed forms

    @property
    def longest_step(self) -> float:
        """The late time step [fr]."""
        if self.time_step is not None:
            return self.time_step
        late = LATE_STEP[self.scheme]
        return min(late, self._accurate_limit) if self.scheme == "accurate" else late

    @property
    def _accurate_limit(self) -> float:
        """Longest step of the second-order scheme [fr]."""
        return ACCURATE_LIMIT * (self.kappa / self.diffusivity)

    @property
    def distance_per_frame(self) -> float:
        """Length over which matter diffuses in either phase, sqrt(D t) [px]."""
        return math.sqrt(self.diffusivity * self.frame_interval)

    @property
    def middle(self) -> float:
        """Composition halfway between the two phases."""
        return 0.5

    @property
    def wells(self) -> tuple[float, float]:
        """Compositions of the two phases."""
        return _wells(self.omega)

    @property
    def interface_width(self) -> float:
        """10-90 % width of a flat interface [px]."""
        low, high = self.wells
        return math.sqrt(self.kappa) * 0.8 * (high - low) * _mean_of_barrier(self.omega, 0.1, 0.9, -0.5) / math.sqrt(2)

    @property
    def interface_energy(self) -> float:
        """Energy of a flat interface per length [kT px]."""
        low, high = self.wells
        return math.sqrt(2 * self.kappa) * (high - low) * _mean_of_barrier(self.omega, 0.0, 1.0, 0.5)

    def growth_rate(self, k_squared: float | Tensor, p: Parameters | None = None) -> float | Tensor:
        """Rate at which a small wave of wave number `k` grows on the mean composition [1/fr]."""
        p = p or self.vary({})
        mixing = p.composition * (1 - p.composition)
        return -p.diffusivity * k_squared * (1 - 2 * p.omega * mixing + mixing * p.kappa * k_squared)

    # ------------------------------------------------------------ functionals

    def chemical_potential(
        self, u: Float[Tensor, "n 1 *cells"], p: Parameters | None = None, grid: Grid | None = None
    ) -> Float[Tensor, "n 1 *cells"]:
        """`mu` of each cell, as the solver sees it [kT]; see `free_energy` for the arguments."""
        return RegularFlow(grid or self.grid, p or self.vary({})).potential(u)

    def free_energy(
        self, u: Float[Tensor, "n 1 *cells"], p: Parameters | None = None, grid: Grid | None = None
    ) -> Float[Tensor, " n"]:
        """Integral of the free energy density `Omega c(1-c) + c ln c + (1-c) ln(1-c) + kappa/2 |grad c|^2` [kT px^d].

        Beyond 0 and 1, where there is no mixture, the density without the gradient continues as a steep straight line, so that
        a field which leaves these bounds (a bad forecast may) never gains by it.
        """
        u, p, grid = u.double(), p or self.vary({}), grid or self.grid
        omega = p.to(u).omega
        # Summed by parts, so that mu is exactly its derivative.
        gradient = self.chemical_potential(u, p, grid) - torch.logit(u, DILUTE) - omega * (1 - 2 * u)
        # Outside, Omega c(1-c) would fall without end; with the slope of the logarithms it is convex for every Omega.
        inside = u.clamp(DILUTE, 1 - DILUTE)
        outside = torch.logit(inside) * (u - inside)
        density = _free_energy_density(inside, omega) + outside + u * gradient / 2
        return grid.cell_volume * density.flatten(1).sum(1)

    # ------------------------------------------------------------- simulation

    def _check_values(self, values: Mapping[str, Sequence[float] | np.ndarray]) -> None:
        super()._check_values(values)
        # Chosen anew, the step of a trajectory would depend on the parameters of the others in its batch.
        kappa, diffusivity = (np.asarray(values.get(name, getattr(self, name))) for name in ("kappa", "diffusivity"))
        ratio = kappa / diffusivity
        if ratio.size:
            self._check_longest_step(ACCURATE_LIMIT * float(ratio.min()))

    def fast(self) -> "RegularSolution":
        """First order, a fifth of the steps."""
        return replace(self, scheme="fast", time_step=None)

    def coarser(self) -> "RegularSolution | None":
        """First order with steps twice as long, which stay stable; none once a step is as long as a frame interval."""
        if self.scheme == "accurate":
            return self.fast()
        if self.longest_step >= self.frame_interval:
            return None
        return replace(self, time_step=2 * self.longest_step)

    def stepper(self, p: Parameters | None = None) -> FixedStepBDF:
        """Stabilised by half the diffusivity and a quarter of the largest mobility times kappa (half of it at first order)."""
        p = p or self.vary({})
        eigenvalues = modes_of(self.grid).second_differences()
        zero = torch.zeros((), dtype=torch.float64)
        k2 = sum(eigenvalues, zero)
        k4 = sum((k * (1 + k * self.grid.spacing**2 / 12) for k in eigenvalues), zero)
        kappa, diffusivity = (p.flat(name).reshape(-1, *(1,) * (1 + k2.ndim)) for name in ("kappa", "diffusivity"))
        second = self.scheme == "accurate"
        return FixedStepBDF(
            grid=self.grid,
            rate=RegularFlow(self.grid, p).rate,
            stabiliser=diffusivity * k2 * (1 / 2 + kappa * k4 * (1 / 4 if second else 1 / 8)),
            order=2 if second else 1,
            schedule=[(until, self.longest_step * part) for until, part in (ACCURATE if second else FAST)],
            bounds=BOUNDS,
        )


@lru_cache(maxsize=1024)
def _wells(omega: float) -> tuple[float, float]:
    """Compositions of the two phases."""
    gap = 1.0
    for _ in range(1000):  # mu = 0 as a fixed point of 1 - 2c
        gap = math.tanh(omega * gap / 2)
    return (1 - gap) / 2, (1 + gap) / 2


@lru_cache(maxsize=1024)
def _mean_of_barrier(omega: float, start: float, end: float, power: float) -> float:
    """Mean power of the free energy above the common tangent, from `start` to `end` of the way between the wells [kT]."""
    points = 4000
    low, high = _wells(omega)
    way = start + (end - start) * (torch.arange(points, dtype=torch.float64) + 0.5) / points
    at_well = _free_energy_density(torch.tensor(low, dtype=torch.float64), omega)
    barrier = _free_energy_density(low + (high - low) * way, omega) - at_well
    return float((barrier**power).mean())


def _free_energy_density(c: Tensor, omega: float | Tensor) -> Tensor:
    """Without the gradient term [kT]."""
    inside = c.clamp(DILUTE, 1 - DILUTE)
    return omega * c * (1 - c) + torch.xlogy(inside, inside) + torch.xlogy(1 - inside, 1 - inside)


def _rounded_down(value: float) -> float:
    """To three digits."""
    scale = 10.0 ** (2 - math.floor(math.log10(value)))
    return math.floor(value * scale) / scale
