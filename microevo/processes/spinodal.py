"""Spinodal decomposition: a mixture that unmixes (Cahn-Hilliard)."""

import math
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import Grid
from microevo.processes.integrators.bdf2 import SpectralBDF2
from microevo.processes.integrators.transforms import modes_of
from microevo.processes.mixture import Mixture
from microevo.processes.parameters import Parameters

DOMAINS = 0.3  # deviation from the mean, in half gaps and root mean square, from which on the mixture has domains
LOOSEST = 1e-2  # tolerance of data; beyond, domains merge and vanish at other times than they should
COARSEST = 1.0  # tolerance of `coarser`: an error as large as the field; the frames limit the steps long before


@dataclass(frozen=True, kw_only=True)
class SpinodalDecomposition(Mixture):
    """Cahn-Hilliard equation with a quartic double well and constant mobility, periodic or with no-flux walls.

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
        tolerance: Error in time that the step size is adapted to, relative to the field. After the first coarsening, 1e-3
            leaves an error of about 1e-3 on 64 x 64 cells and 2e-3 on 256 x 256, 3e-4 a quarter to a third of that.
    """

    parameters: ClassVar[tuple[str, ...]] = ("composition", "noise", "mobility", "kappa")
    largest_tolerance: ClassVar[float] = LOOSEST

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
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.c_alpha >= self.c_beta:
            raise ValueError(f"c_alpha must be below c_beta, but they are {self.c_alpha} and {self.c_beta}")
        self._check_positive("mobility", "kappa", "rho", "noise")
        if not 1e-8 <= self.tolerance <= self.largest_tolerance:
            raise ValueError(
                f"tolerance must be between 1e-8 and {self.largest_tolerance:g}, but it is {self.tolerance}"
            )
        if not self.c_alpha < self.composition < self.c_beta:
            raise ValueError(
                f"composition must lie between c_alpha and c_beta, {self.c_alpha} and {self.c_beta}, but it is "
                f"{self.composition}"
            )
        self._check_interface("raise kappa, or lower rho or the grid's spacing")

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
    def distance_per_frame(self) -> float:
        """Length over which matter diffuses in either phase, sqrt(D t) with D = M f''."""
        return math.sqrt(self.mobility * 8 * self.rho * self.half_gap**2 * self.frame_interval)

    @property
    def interface_width(self) -> float:
        """10-90 % width of a flat interface [l0]."""
        return 2.0 * math.atanh(0.8) * (self.kappa / (2 * self.rho)) ** 0.5 / self.half_gap

    @property
    def interface_energy(self) -> float:
        """Energy of a flat interface per area [e0 / l0^2]."""
        return (2 * self.kappa * self.rho) ** 0.5 * (self.c_beta - self.c_alpha) ** 3 / 6

    def growth_rate(self, k_squared: float | Tensor, p: Parameters | None = None) -> float | Tensor:
        """Growth rate of a small wave of squared wavenumber `k_squared` about the mean composition [1/t0]."""
        p = p or self.vary({})
        y = p.composition - self.middle
        curvature = 4 * self.rho * (3 * y**2 - self.half_gap**2)
        return -p.mobility * k_squared * (curvature + p.kappa * k_squared)

    def free_energy(
        self, c: Float[Tensor, "n 1 *cells"], p: Parameters | None = None, grid: Grid | None = None
    ) -> Float[Tensor, " n"]:
        """Total free energy, integral of `f + kappa/2 |grad c|^2`, in float64 [e0]."""
        y, grid = c - self.middle, grid or self.grid
        return self._free_energy(y, modes_of(grid).forward(y), (p or self.vary({})).flat("kappa"), grid)

    def _free_energy(
        self,
        y: Float[Tensor, "n 1 *cells"],
        modes: Float[Tensor, "n 1 *modes"],
        kappa: Float[Tensor, " #n"],
        grid: Grid,
    ) -> Float[Tensor, " n"]:
        """That of `y`, the composition less the middle one, and its modes."""
        slopes = _squared_slope(grid).to(modes)
        if y.is_cpu:
            from microevo.processes.kernels.spinodal import double_well_energy  # numba takes its time to import

            fields = (values.reshape(len(values), -1, values.shape[-1]).numpy() for values in (y, modes))
            sums = torch.empty(len(y), 2, dtype=torch.float64)
            root = slopes.numpy().dtype.type(self.half_gap**2)
            double_well_energy(*fields, root, slopes.reshape(-1, slopes.shape[-1]).numpy(), sums.numpy())
        else:
            parts = (y.square() - self.half_gap**2).square(), modes.square() * slopes
            sums = torch.stack([part.flatten(1).sum(1, dtype=torch.float64) for part in parts], dim=1)
        return grid.cell_volume * (self.rho * sums[:, 0] + kappa.to(sums) / 2 * sums[:, 1])

    # ------------------------------------------------------------ the equation

    def linear(self, k2: Float[Tensor, "*modes"], p: Parameters) -> Tensor:
        """`-M lap kappa lap c`."""
        return -p.mobility * p.kappa * k2**2

    def nonlinear_symbol(self, k2: Float[Tensor, "*modes"], p: Parameters) -> Tensor:
        """`M lap` of the nonlinear part."""
        return -p.mobility * k2

    def nonlinear(self, u: Float[Tensor, "n 1 *cells"], p: Parameters) -> Float[Tensor, "n 1 *cells"]:
        """`f'(c)`."""
        y = u - self.middle
        return 4 * self.rho * y * (y.square() - self.half_gap**2)

    # ------------------------------------------------------------- simulation

    def fast(self) -> "SpinodalDecomposition":
        """A tolerance three times as large."""
        return replace(self, tolerance=min(3 * self.tolerance, LOOSEST))

    def coarser(self) -> "SpinodalDecomposition | None":
        """A tolerance three times as large, also beyond that of data: the stabilised scheme is stable for any step."""
        # Of a subclass only what it allows itself: a coarse solver would be that of another equation.
        coarse = _CoarseSpinodal if type(self) is SpinodalDecomposition else type(self)
        if 3 * self.tolerance > coarse.largest_tolerance:
            return None
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        return coarse(**(settings | {"tolerance": 3 * self.tolerance}))

    def state_from_frames(
        self, past: Float[Tensor, "n n_past C *pixels"], p: Parameters | None = None
    ) -> Float[Tensor, "n 1 *pixels"] | None:
        """The last frame, if its pixels are the solver's cells."""
        return past[:, -1] if self.grid.coarsen == 1 else None

    def stepper(self, p: Parameters | None = None) -> SpectralBDF2:
        """Stabilised BDF2, most accurate for the waves that grow fastest."""
        from microevo.processes.kernels.spinodal import double_well  # numba takes its time to import

        p = p or self.vary({})
        basis = modes_of(self.grid)
        k_squared = basis.wavenumbers_squared()
        mobility, kappa, composition = (p.flat(name) for name in ("mobility", "kappa", "composition"))
        curvature = 8 * self.rho * self.half_gap**2  # f'' in the phases
        fastest = mobility * (curvature / 2) ** 2 / (4 * kappa)  # growth rate at the middle composition
        unstable = 4 * self.rho * (3 * (composition - self.middle) ** 2 - self.half_gap**2).clamp(max=0).numpy()
        kappa_over_mobility = (kappa / mobility).numpy()

        def stabiliser(dt: np.ndarray, separation: np.ndarray) -> np.ndarray:
            # BDF2 needs 3/4 of f'', less the root, which the gradient term supplies; 15 % are for c beyond the phases.
            needed = 1.15 * 0.75 * curvature - np.sqrt(kappa_over_mobility / dt)
            # With 5/6 of f'' of the mixture the scheme's two errors cancel in the wave that grows fastest.
            best = 5 / 6 * unstable * np.maximum(0.0, 1 - (separation / DOMAINS) ** 2)
            return np.maximum(needed, best)

        height, root = np.array([4 * self.rho, self.half_gap**2], dtype=self.precision)

        def nonlinear(y: Tensor, out: Tensor, trajectories: np.ndarray) -> None:
            if y.is_cpu:
                double_well(y.view(-1).numpy(), out.view(-1).numpy(), height, root)
            else:
                torch.mul(y, y.square() - float(root), out=out).mul_(float(height))

        def energy(y: Tensor, modes: Tensor, trajectories: np.ndarray) -> Tensor:
            return self._free_energy(y, modes, kappa if len(kappa) == 1 else kappa[trajectories], self.grid)

        return SpectralBDF2(
            basis=basis,
            linear=self.linear(k_squared, p),
            symbol=self.nonlinear_symbol(k_squared, p),
            stabiliser=stabiliser,
            nonlinear=nonlinear,
            energy=energy,
            amplitude=self.half_gap,
            decay_time=1 / fastest,
            tolerance=self.tolerance,
            # The steps at most double from there: with a first one as short as for data, a coarse forecast would cost twice.
            first_step=4e-4 / fastest * max(1.0, self.tolerance / LOOSEST),
            offset=self.middle,
        )


class _CoarseSpinodal(SpinodalDecomposition):
    """The same, with errors that no data may have; see `SpinodalDecomposition.coarser`."""

    largest_tolerance: ClassVar[float] = COARSEST


@lru_cache(maxsize=8)
def _squared_slope(grid: Grid) -> Float[Tensor, "*modes"]:
    """What to multiply squared modes by, so that they sum up to the squared gradient."""
    # Kept by grid, not by process: a copy of a process on another grid must not find that of its original.
    basis = modes_of(grid)
    return basis.wavenumbers_squared() * basis.weights()
