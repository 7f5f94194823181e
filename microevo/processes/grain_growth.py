"""Grain growth: a polycrystal whose boundaries move towards their centres of curvature (Fan-Chen)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import Grid
from microevo.processes.initial import random_voronoi
from microevo.processes.integrators.base import Stepper
from microevo.processes.parameters import Parameters
from microevo.processes.process import Field, Process

if TYPE_CHECKING:
    import microevo.metrics

CELLS_PER_BOUNDARY = 3.0  # of the 10-90 % width; below, the grid pins the boundaries
# 10-90 % width of a flat boundary [sqrt(k)] against gamma; 2 sqrt(2) artanh(0.8) at 1.5, else of converged profiles.
GAMMAS = (0.75, 1.0, 1.5, 2.0, 3.0)
WIDTHS = (4.862, 3.793, 3.107, 2.833, 2.581)


@dataclass(frozen=True, kw_only=True)
class GrainGrowth(Process):
    """Curvature-driven grain growth with one order parameter for each orientation, in 2-D, periodic or with no-flux walls.

        d eta_i / dt = L m ( eta_i - eta_i^3 - 2 gamma eta_i sum_{j != i} eta_j^2 + k lap eta_i )

    (Fan & Chen, Acta Mater. 45 (1997) 611.) At a wall the normal derivative of each eta_i is zero: boundaries meet it at
    a right angle. The start is a Voronoi diagram of random points. A boundary moves at `L m k` times its curvature for
    every gamma and width, so that a grain of n sides grows at `(pi/3) mobility (n - 6)` (von Neumann-Mullins), with
    mobility = L m k; `L m` follows from it. Grains share few order parameters and change them when two of one come near
    to each other, which costs the same for any number of grains. The five-point stencil slows boundaries of 3 cells by
    5 % (of 8 cells by 0.5 %): the defaults were fitted to published frames with that stencil.

    The image is bright inside grains and dark on boundaries: `max(floor, 1 - contrast (1 - sum_i eta_i^2))`, averaged
    over the cells of a pixel. The second field is the number of the grain at the middle of the pixel; a grain keeps its
    number for life.

    Args:
        grid: Where it is solved, and how the image is made of it.
        first_frame: Time of the first saved frame; the Voronoi diagram is at time 0 and takes about 10 [t0] to look
            like a polycrystal [t0].
        frame_interval: Time between saved frames [t0].
        precision: Floating-point numbers of the solver; frames are saved as float32.
        grains: Voronoi cells at time 0; rounded to a whole number.
        mobility: Reduced mobility of the boundaries [l0^2 / t0].
        k: Gradient coefficient, which sets the boundary width [cells^2].
        gamma: Coefficient of the product terms, 0.75 to 3.
        contrast: How much darker than grains a boundary is, times `1 - sum eta^2`.
        floor: Darkest value of the image.
        cut: Cut the Voronoi diagram at the edges of a periodic box, across which grains then meet, rather than wrap it;
            walls always cut it.
        order_parameters: Order parameters that the grains share, 16 to 20 for most purposes; null gives every grain its
            own.
        time_step: Largest explicit step [1 / (L m)]; null takes nine tenths of the stability limit.
    """

    fields: ClassVar[tuple[Field, ...]] = (
        Field("micrograph", "brightness, grain boundaries dark", "1", span=(0.0, 1.0)),
        Field("grain", "grain number", "1"),
    )
    parameters: ClassVar[tuple[str, ...]] = ("mobility", "grains")
    isotropic: ClassVar[bool] = True

    grid: Grid = Grid(shape=(256, 256), spacing=0.25, coarsen=4)
    first_frame: float = 10.0
    grains: int | float = 100
    mobility: float = 1.52
    k: float = 1.235
    gamma: float = 2.0
    contrast: float = 1.73
    floor: float = 0.08
    cut: bool = False
    order_parameters: int | None = 16
    time_step: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_two_dimensions()
        self._check_positive("mobility", "k", "contrast")
        if not GAMMAS[0] <= self.gamma <= GAMMAS[-1]:
            raise ValueError(f"gamma must be between {GAMMAS[0]} and {GAMMAS[-1]}, but it is {self.gamma}")
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor must be at least 0 and below 1, but it is {self.floor}")
        if not self.grains >= 1.5:
            raise ValueError(f"grain growth needs at least 2 grains, but grains is {self.grains}")
        if self.order_parameters is not None and self.order_parameters < 2:
            raise ValueError(
                f"grains need at least 2 order_parameters, or null for one each, but there are {self.order_parameters}"
            )
        remedy = f"raise k above {self.k} or lower gamma"
        self._check_resolved(self.boundary_cells, CELLS_PER_BOUNDARY, remedy, what="boundary")
        if self.time_step is not None and not 0 < self.time_step <= self.largest_step:
            raise ValueError(
                f"time_step must be above 0 and at most {self.largest_step:.4g}, the stability limit of k = {self.k} and gamma "
                f"= {self.gamma}, but it is {self.time_step}; lower it or leave it out"
            )

    @property
    def walls(self) -> bool:
        """Whether the border of the grid reflects."""
        return self.grid.boundary == "no-flux"

    # ------------------------------------------------------------ closed forms

    @property
    def distance_per_frame(self) -> float:
        """Length over which a boundary moves by its curvature, the square root of mobility times time."""
        return math.sqrt(self.mobility * self.frame_interval)

    @property
    def boundary_cells(self) -> float:
        """10-90 % width of an order parameter across a flat boundary [cells]."""
        return float(np.interp(self.gamma, GAMMAS, WIDTHS)) * math.sqrt(self.k)

    @property
    def largest_step(self) -> float:
        """Stability limit of the explicit step [1 / (L m)]."""
        return 2 / (8 * self.k + max(2.0, 2 * self.gamma - 1))

    def quantities(
        self, first: Float[np.ndarray, "n H W"], p: Parameters | None = None
    ) -> Sequence["microevo.metrics.Quantity"]:
        """Number, areas, sides and angles of the grains, in pixels."""
        from microevo.metrics.grains import grain_quantities  # takes its time to import

        return grain_quantities(periodic=self.grid.boundary == "periodic")

    def free_energy(self, eta: Float[Tensor, "Q H W"]) -> float:
        """Total free energy of the order parameters of one trajectory, 0 without boundaries [m cells^2].

        The density is `sum (eta^4 / 4 - eta^2 / 2) + gamma sum_{i<j} eta_i^2 eta_j^2 + 1/4 + k/2 sum |grad eta|^2`, with
        the forward differences that belong to the five-point stencil: none across a wall.
        """
        eta = eta.double()
        squares = eta.square()
        total = squares.sum(dim=0)
        pairs = (total.square() - squares.square().sum(dim=0)) / 2
        wells = (squares.square() / 4 - squares / 2).sum(dim=0) + self.gamma * pairs + 0.25
        slopes = sum(
            eta.diff(dim=axis, append=None if self.walls else eta.narrow(axis, 0, 1)).square().sum() for axis in (1, 2)
        )
        return float(wells.sum() + self.k / 2 * slopes)

    # ------------------------------------------------------------- simulation

    def initial(self, generators: Sequence[torch.Generator], p: Parameters | None = None) -> Float[Tensor, "n 2 H W"]:
        """A Voronoi diagram for each trajectory: `sum eta^2` (1 everywhere), and grain numbers."""
        rows, columns = self.grid.shape
        counts = (p or self.vary({})).flat("grains").expand(len(generators))
        wrap = not (self.walls or self.cut)
        numbers = torch.stack(
            [
                torch.from_numpy(random_voronoi(generator, round(float(count)), (rows, columns), wrap=wrap))
                for generator, count in zip(generators, counts, strict=True)
            ]
        ).to(torch.float64)
        return torch.stack([torch.ones_like(numbers), numbers], dim=1)

    def stepper(self, p: Parameters | None = None) -> Stepper:
        """Explicit Euler steps, which the boundaries of about 3 cells make no slower than implicit ones."""
        from microevo.processes.grain_stepper import GrainStepper  # numba takes its time to import

        return GrainStepper(
            gamma=self.gamma,
            k=self.k,
            rates=(p or self.vary({})).flat("mobility") / (self.k * self.grid.spacing**2),
            limit=self.time_step or 0.9 * self.largest_step,
            fields=self.order_parameters,
            dtype=self.dtype,
            walls=self.walls,
        )

    def image(self, u: Float[Tensor, "n 2 H W"]) -> Float[Tensor, "n 2 h w"]:
        """Brightness averaged over each pixel, and the grain at its middle."""
        brightness = (1 - self.contrast * (1 - u[:, :1])).clamp(min=self.floor)
        middle = slice(self.grid.coarsen // 2, None, self.grid.coarsen)
        return torch.cat([self.grid.block_mean(brightness).float(), u[:, 1:, middle, middle].float()], dim=1)
