"""Spinodal decomposition: a mixture that unmixes (Cahn-Hilliard)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import Grid
from microevo.processes.initial import uniform_noise
from microevo.processes.process import Field, Process
from microevo.processes.stepper import SpectralBDF2

CELLS_PER_INTERFACE = 3.0  # of the 10-90 % width; below, the grid pins and bends the interface


@dataclass(frozen=True, kw_only=True)
class SpinodalDecomposition(Process):
    """Cahn-Hilliard equation with a quartic double well and constant mobility, periodic.

        dc/dt = M lap( f'(c) - kappa lap c ),    f = rho (c - c_alpha)^2 (c_beta - c)^2

    (Cahn & Hilliard, J. Chem. Phys. 28 (1958) 258.) The two phases have the compositions `c_alpha` and `c_beta`. With
    w = (c_beta - c_alpha) / 2 a flat interface is w tanh(x / delta) about the middle, delta = sqrt(kappa / (2 rho)) / w;
    its 10-90 % width is 2.197 delta and its energy sqrt(2 kappa rho) (c_beta - c_alpha)^3 / 6. The mean of c never
    changes and the free energy never rises.

    Args:
        grid: Where it is solved, and how the image is made of it.
        first_frame: Time of the first saved frame; the quench is at time 0 [t0].
        frame_interval: Time between saved frames [t0].
        precision: Floating-point numbers of the solver; frames are saved as float32.
        composition: Mean of c.
        noise: Largest deviation from the mean at the quench, uniform in each cell.
        mobility: M [l0^5 / (e0 t0)].
        kappa: Gradient energy coefficient [e0 / l0].
        rho: Height of the double well [e0 / l0^3].
        c_alpha: Composition of the one phase.
        c_beta: Composition of the other phase, above `c_alpha`.
        tolerance: Bend of the field over four steps, relative to the field, that the step size is adapted to; 1e-3 errs
            by about 4e-3 after the first coarsening, 3e-4 by 1e-3.
    """

    fields: ClassVar[tuple[Field, ...]] = (Field("c", "composition", "1"),)
    parameters: ClassVar[tuple[str, ...]] = ("composition", "noise", "mobility", "kappa")
    isotropic: ClassVar[bool] = True

    grid: Grid = Grid()
    first_frame: float = 100.0
    frame_interval: float = 10.0
    composition: float = 0.5
    noise: float = 0.05
    mobility: float = 1.0
    kappa: float = 2.5
    rho: float = 1.0
    c_alpha: float = 0.0
    c_beta: float = 1.0
    tolerance: float = 3e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grid.boundary != "periodic":
            raise ValueError(
                f"SpinodalDecomposition is solved on periodic grids, but boundary is {self.grid.boundary}; set it to periodic"
            )
        if self.c_alpha >= self.c_beta:
            raise ValueError(f"c_alpha must be below c_beta, but they are {self.c_alpha} and {self.c_beta}")
        for name in ("mobility", "kappa", "rho", "noise"):
            if not (torch.as_tensor(getattr(self, name)) > 0).all():
                raise ValueError(f"{name} must be positive, but it is {getattr(self, name)}")
        if not 1e-8 <= self.tolerance <= 1e-2:
            raise ValueError(f"tolerance must be between 1e-8 and 1e-2, but it is {self.tolerance}")
        inside = torch.as_tensor(self.composition)
        if not ((self.c_alpha < inside) & (inside < self.c_beta)).all():
            raise ValueError(
                f"composition must lie between c_alpha and c_beta, {self.c_alpha} and {self.c_beta}, but it is "
                f"{self.composition}"
            )
        cells = float(torch.as_tensor(self.interface_width).min()) / self.grid.spacing
        if cells < CELLS_PER_INTERFACE:
            raise ValueError(
                f"the interface is {cells:.2f} cells wide (10-90 %), but needs {CELLS_PER_INTERFACE:.0f}; raise kappa, or "
                "lower rho or the grid's spacing"
            )

    # ------------------------------------------------------------ closed forms

    @property
    def half_gap(self) -> float:
        """Half the difference in composition of the two phases, w."""
        return (self.c_beta - self.c_alpha) / 2

    @property
    def middle(self) -> float:
        """Composition halfway between the two phases."""
        return (self.c_beta + self.c_alpha) / 2

    @property
    def interface_width(self) -> float | Tensor:
        """10-90 % width of a flat interface [l0]."""
        return 2.0 * math.atanh(0.8) * (self.kappa / (2 * self.rho)) ** 0.5 / self.half_gap

    @property
    def interface_energy(self) -> float | Tensor:
        """Energy of a flat interface per area [e0 / l0^2]."""
        return (2 * self.kappa * self.rho) ** 0.5 * (self.c_beta - self.c_alpha) ** 3 / 6

    def growth_rate(self, k_squared: float | Tensor) -> float | Tensor:
        """Growth rate of a small wave of squared wavenumber `k_squared` about the mean composition [1/t0]."""
        y = self.composition - self.middle
        curvature = 4 * self.rho * (3 * y**2 - self.half_gap**2)
        return -self.mobility * k_squared * (curvature + self.kappa * k_squared)

    def free_energy(self, c: Float[Tensor, "n 1 *cells"]) -> Float[Tensor, " n"]:
        """Total free energy, integral of `f + kappa/2 |grad c|^2`, in float64 [e0]."""
        y = c - self.middle
        well = self.rho * (y.square() - self.half_gap**2).square()
        axes = tuple(range(2, c.ndim))
        modes = torch.view_as_real(torch.fft.rfftn(y, dim=axes))
        k_squared = self.grid.wavenumbers_squared().to(modes)
        weights = (self.grid.mode_weights().to(modes) * k_squared)[..., None]
        cells = math.prod(self.grid.shape)
        slope = (modes.square() * weights).flatten(1).sum(1, dtype=torch.float64) / cells
        kappa = torch.as_tensor(self.kappa).flatten().to(slope)
        return self.grid.cell_volume * (well.flatten(1).sum(1, dtype=torch.float64) + kappa / 2 * slope)

    # ------------------------------------------------------------- simulation

    def initial(self, generators: Sequence[torch.Generator]) -> Float[Tensor, "n 1 *cells"]:
        """Noise about the mean composition: the state just after the quench."""
        return uniform_noise(self.grid.shape, generators, self.composition, self.noise)

    def stepper(self) -> SpectralBDF2:
        """Stabilised BDF2; the stabiliser is as large as the wells ask and no larger (it costs accuracy)."""
        k_squared = self.grid.wavenumbers_squared()
        mobility, kappa = (
            torch.as_tensor(value, dtype=torch.float64).reshape(-1, *(1,) * (1 + k_squared.ndim))
            for value in (self.mobility, self.kappa)
        )
        stiffest = 1.15 * 0.75 * 8 * self.rho * self.half_gap**2  # BDF2 needs 3/4 of f'' in the wells

        def stabiliser(trajectory: int, dt: float) -> Tensor:
            m, kap = (float(value.flatten()[min(trajectory, len(value) - 1)]) for value in (mobility, kappa))
            return m * max(0.0, stiffest - math.sqrt(kap / (m * dt))) * k_squared

        def nonlinear(y: Tensor) -> Tensor:
            return 4 * self.rho * y * (y.square() - self.half_gap**2)

        fastest = mobility * (4 * self.rho * self.half_gap**2) ** 2 / (4 * kappa)
        return SpectralBDF2(
            shape=self.grid.shape,
            linear=mobility * kappa * k_squared**2,
            explicit=-mobility * k_squared,
            stabiliser=stabiliser,
            nonlinear=nonlinear,
            energy=self.free_energy,
            weights=self.grid.mode_weights(),
            tolerance=self.tolerance,
            first_step=(4e-4 / fastest).flatten(),
            offset=self.middle,
        )
