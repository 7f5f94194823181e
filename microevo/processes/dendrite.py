"""Dendritic solidification: a crystal that grows into an undercooled melt (Kobayashi)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import Grid
from microevo.processes.integrators.base import Stepper
from microevo.processes.integrators.transforms import modes_of
from microevo.processes.parameters import Parameters
from microevo.processes.process import Field, Process

if TYPE_CHECKING:
    import microevo.metrics

SAFETY = 0.5  # of the stability limits; nearer to them nothing looks broken, but a fifth of the solid is missing
CELLS_PER_INTERFACE = 2.0  # of the 10-90 % width; the published parameters have 2.07
FLAT = 1e-12  # squared gradient below which it has no direction [l0^-2]


@dataclass(frozen=True, kw_only=True)
class DendriticSolidification(Process):
    """Kobayashi's phase-field model of a crystal growing from a seed into an undercooled melt, in 2-D.

    The grid is periodic or with no-flux walls, through which passes no heat, and of phi no flux: eps^2 dphi/dn and the
    anisotropic flux are both zero there.

        tau dphi/dt = div(eps^2 grad phi) - d/dx(eps eps' dphi/dy) + d/dy(eps eps' dphi/dx)
                      + phi (1 - phi) (phi - 1/2 + m)
        dT/dt = lap T + K dphi/dt

        eps = eps_bar (1 + delta cos j(theta - theta0)),    theta = atan2(dphi/dy, dphi/dx)
        m = (alpha / pi) atan(gamma (Te - T))

    (Kobayashi, Physica D 63 (1993) 410.) phi is 1 in the solid and 0 in the melt; T is 0 at the start, and lengths and
    times are in units in which heat diffuses at rate 1. The mean of T - K phi never changes. Nothing is random: a set of
    different crystals samples its parameters. With `eps_bar` a third of a cell the solution depends on the grid and the
    time step; the defaults were fitted to published samples (MicroEvoEval, arXiv 2511.08955) together with `spacing`, `dt`
    and the explicit scheme, and belong to them.

    Args:
        grid: Where it is solved, and how the image is made of it.
        first_frame: Time of the first saved frame; the seed is set at time 0 [t0].
        frame_interval: Time between saved frames [t0].
        precision: Floating-point numbers of the solver; frames are saved as float32.
        eps_bar: Mean of eps, about a sixth of the width of the interface [l0].
        tau: Time constant of phi [t0].
        delta: Strength of the anisotropy.
        mode: j, number of branches.
        theta0: Angle of a branch, from x (along the columns) to y (down the rows) [degrees].
        latent_heat: K, heat set free on solidification.
        undercooling: Te, equilibrium temperature above that of the melt.
        alpha: Largest driving force, below 1 (above, phi would leave the double well).
        gamma: Steepness of the driving force in T.
        seed_radius: Radius of the solid at time 0, in the middle of the grid [l0].
        heat: Scheme of the heat equation, `explicit` or `implicit` (in the modes of the grid, a step costs half as much
            again; stable for any `dt`). The other equation is explicit.
        dt: Longest time step; shortened evenly to meet the frames [t0].
    """

    fields: ClassVar[tuple[Field, ...]] = (
        Field("phi", "phase, 1 in the solid", "1", span=(0.0, 1.0)),
        Field("T", "temperature", "1", span=(0.0, 1.0)),
    )
    parameters: ClassVar[tuple[str, ...]] = ("delta", "theta0", "latent_heat", "undercooling", "seed_radius")
    # A quarter turn of a crystal with six branches grows under another theta0. A shift is a solution of the same
    # equations, although every simulated crystal starts in the middle.
    isotropic: ClassVar[bool] = False

    grid: Grid = Grid(shape=(256, 256), spacing=0.03, coarsen=4)
    frame_interval: float = 0.003806
    eps_bar: float = 0.01
    tau: float = 3.75e-4
    delta: float = 0.023
    mode: Literal[4, 6] = 6
    theta0: float = 16.3
    latent_heat: float = 1.645
    undercooling: float = 1.0
    alpha: float = 0.9
    gamma: float = 10.0
    seed_radius: float = 0.4185
    heat: Literal["explicit", "implicit"] = "explicit"
    dt: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_two_dimensions()
        if self.mode not in (4, 6):
            raise ValueError(f"mode must be 4 or 6, but it is {self.mode}")
        self._check_positive("eps_bar", "tau", "latent_heat", "undercooling", "alpha", "gamma", "seed_radius", "dt")
        if not 0 <= self.delta < 1:
            raise ValueError(f"delta must be at least 0 and below 1, but it is {self.delta}")
        if self.alpha >= 1:
            raise ValueError(f"alpha must be below 1, but it is {self.alpha}")
        half = self.grid.spacing * min(self.grid.shape) / 2
        if not self.seed_radius < half:
            raise ValueError(
                f"the seed must fit in the grid, but seed_radius is {self.seed_radius} and half a side {half:g}"
            )
        cells = self.interface_width / self.grid.spacing
        self._check_resolved(cells, CELLS_PER_INTERFACE, "raise eps_bar or lower the grid's spacing")
        self._check_long_steps()

    def _longest_step(self) -> tuple[str, float]:
        """The explicit equation that limits the step, and the longest one with which it is accurate [t0]."""
        quarter = self.grid.spacing**2 / 4
        limits = {"phase-field": self.tau * quarter / (self.eps_bar * (1 + self.delta)) ** 2}
        if self.heat == "explicit":
            limits["heat"] = quarter
        equation, limit = min(limits.items(), key=lambda item: item[1])
        return equation, SAFETY * limit

    def _check_long_steps(self) -> None:
        equation, longest = self._longest_step()
        if self.dt > longest:
            remedy = "lower dt or set heat to implicit" if equation == "heat" else "lower dt or raise tau"
            raise ValueError(
                f"the explicit {equation} equation is accurate for dt up to {longest:.6g}, half its stability limit on "
                f"this grid, but dt is {self.dt:g}; {remedy}"
            )

    @property
    def distance_per_frame(self) -> float:
        """Length over which heat diffuses, sqrt(t)."""
        return math.sqrt(self.frame_interval)

    @property
    def interface_width(self) -> float:
        """10-90 % width of a flat interface at rest, without anisotropy [l0]."""
        return 4 * math.sqrt(2) * math.atanh(0.8) * self.eps_bar

    def initial(
        self, generators: Sequence[torch.Generator], p: Parameters | None = None
    ) -> Float[Tensor, "n 2 *cells"]:
        """A round solid seed in a melt at temperature 0."""
        y, x = (self.grid.spacing * (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) for n in self.grid.shape)
        state = torch.zeros(len(generators), 2, *self.grid.shape, dtype=torch.float64)
        state[:, :1] = ((y[:, None] ** 2 + x**2) < (p or self.vary({})).seed_radius ** 2).double()
        return state

    def quantities(
        self, first: Float[np.ndarray, "n H W"], p: Parameters | None = None
    ) -> Sequence["microevo.metrics.Quantity"]:
        """Solid fraction, tips and interface of the crystal."""
        from microevo.metrics.dendrite import dendrite_quantities  # takes its time to import

        return dendrite_quantities(periodic=self.grid.boundary == "periodic")

    def stepper(self, p: Parameters | None = None) -> "DendriteStepper":
        """Explicit Euler in phi, explicit or implicit in T."""
        return DendriteStepper(self, p or self.vary({}))

    def fast(self) -> "DendriticSolidification":
        """Implicit heat, and steps as long as the default explicit ones or twice that."""
        return replace(self, heat="implicit", dt=max(self.dt, 2e-4 * self.grid.spacing**2 / 0.03**2))

    def coarser(self) -> "DendriticSolidification | None":
        """Half as many steps between two frames, if the explicit equations bear that."""
        steps = math.ceil(self.frame_interval / self.dt - 1e-9)
        dt = self.frame_interval / math.ceil(steps / 2)
        return replace(self, dt=dt) if self.dt < dt <= self._longest_step()[1] else None


class GhostedField:
    """Fields with one layer of ghost cells, so that the neighbours of all cells are views (n, y, x) of one array.

    Args:
        shape: Trajectories, rows and columns.
        like: Its device and type are taken.
        walls: The ghost cells reflect the border cells; otherwise they continue the fields periodically.
        odd: Walls reflect with the opposite sign, so that the mean over a wall's faces is zero.
    """

    def __init__(self, shape: tuple[int, int, int], like: Tensor, *, walls: bool, odd: bool = False) -> None:
        n, height, width = shape
        self.all = like.new_zeros(n, height + 2, width + 2)
        self.rows, self.columns = self.all[:, :, 1:-1], self.all[:, 1:-1]  # with the ghost cells along one axis
        self.cells = self.rows[:, 1:-1]
        self.above, self.below = self.rows[:, :-2], self.rows[:, 2:]
        self.left, self.right = self.columns[..., :-2], self.columns[..., 2:]
        self.across_x = (self.columns[..., 1:], self.columns[..., :-1])  # the two sides of each face
        self.across_y = (self.rows[:, 1:], self.rows[:, :-1])
        before, after = (1, -2) if walls else (-2, 1)  # the border cells that the ghost cells copy
        self.ghosts = (
            (self.columns[..., 0], self.columns[..., before]),
            (self.columns[..., -1], self.columns[..., after]),
            (self.rows[:, 0], self.rows[:, before]),
            (self.rows[:, -1], self.rows[:, after]),
        )
        self.odd = walls and odd

    def fill_ghosts(self) -> None:
        """Bring the ghost cells up to date; those at the corners are never read."""
        for ghosts, source in self.ghosts:
            if self.odd:
                torch.neg(source, out=ghosts)
            else:
                ghosts.copy_(source)


@dataclass(frozen=True)
class Group:
    """Trajectories that are computed together, and what differs between them (n, 1, 1)."""

    phi: GhostedField
    heat: GhostedField
    latent_heat: Tensor
    drive: Tensor  # gamma Te
    cosine: Tensor  # delta cos(j theta0), times what the multiple angle leaves out
    sine: Tensor


class DendriteStepper(Stepper):
    """Euler steps in buffers that are allocated once, equal between two times that are asked for.

    On a CPU the trajectories follow each other, each in buffers that stay in the cache; on a GPU they go together.

    Args:
        law: The equations.
        p: The parameters of each trajectory.
    """

    def __init__(self, law: DendriticSolidification, p: Parameters) -> None:
        self.law, self.p = law, p
        self.walls = law.grid.boundary == "no-flux"

    def _start(self, u0: Float[Tensor, "n 2 y x"]) -> None:
        count, _, height, width = u0.shape
        together = 1 if u0.device.type == "cpu" else count
        shape = (together, height, width)
        self.groups = [self._group(u0, first, shape) for first in range(0, count, together)]
        self.eps2 = GhostedField(shape, u0, walls=self.walls)
        self.cross_x, self.cross_y = (GhostedField(shape, u0, walls=self.walls, odd=True) for _ in range(2))
        self.buffers = [u0.new_empty(shape) for _ in range(6)]
        self.change = u0.new_empty(shape)
        self.face_x = [u0.new_empty(together, height, width + 1) for _ in range(2)]
        self.face_y = [u0.new_empty(together, height + 1, width) for _ in range(2)]
        self.modes = modes_of(self.law.grid)
        # Of the five-point stencil, not k^2: both schemes then differ in time only.
        rows, columns = self.modes.second_differences()
        self.stencil = (rows + columns).to(u0.device)

    def _advance(self, time: float) -> None:
        left = time - self.t
        steps = math.ceil(left / self.law.dt - 1e-9)
        if not steps:
            return
        dt = left / steps
        # What the implicit scheme takes off each mode: exactly nothing off the mean.
        self.smoother = (-dt * self.stencil / (1 + dt * self.stencil)).to(self.change)
        for group in self.groups:
            for _ in range(steps):
                self._step_phase(group, dt)
                self._step_heat(group, dt)

    def _fields(self) -> Float[Tensor, "n 2 y x"]:
        """The fields at the present time."""
        return torch.cat([torch.stack([group.phi.cells, group.heat.cells], dim=1) for group in self.groups])

    # ----------------------------------------------------------------- steps

    def _group(self, u0: Tensor, first: int, shape: tuple[int, int, int]) -> Group:
        law, own = self.law, slice(first, first + shape[0])

        def column(name: str) -> Tensor:
            return self.p.flat(name).expand(len(u0))[own].reshape(-1, 1, 1)

        angle = law.mode * torch.deg2rad(column("theta0"))
        strength = {4: 1, 6: 4}[law.mode] * column("delta")
        phi, heat = (GhostedField(shape, u0, walls=self.walls) for _ in range(2))
        for field, values in ((phi, u0[own, 0]), (heat, u0[own, 1])):
            field.cells.copy_(values)
            field.fill_ghosts()
        numbers = (
            column("latent_heat"),
            law.gamma * column("undercooling"),
            strength * torch.cos(angle),
            strength * torch.sin(angle),
        )
        return Group(phi, heat, *(number.to(u0) for number in numbers))

    def _step_phase(self, group: Group, dt: float) -> None:
        """A step of phi by conservative fluxes; `self.change` becomes its change."""
        law, phi, change = self.law, group.phi, self.change
        gx, gy, a, b, eps, slope = self.buffers
        torch.sub(phi.right, phi.left, out=gx)  # 2 h times the gradient
        torch.sub(phi.below, phi.above, out=gy)
        self._multiple_angle(gx, gy)  # a and b are now cos and sin of j theta, up to a factor

        torch.mul(a, group.cosine, out=eps).addcmul_(b, group.sine).add_(1)  # over eps_bar
        torch.mul(b, group.cosine, out=slope).addcmul_(a, group.sine, value=-1)
        slope.mul_(eps)  # eps eps' over -j eps_bar^2
        for field, left, right in ((self.eps2, eps, eps), (self.cross_x, slope, gx), (self.cross_y, slope, gy)):
            torch.mul(left, right, out=field.cells)
            field.fill_ghosts()

        (flux_x, jump_x), (flux_y, jump_y) = self.face_x, self.face_y
        torch.add(*self.eps2.across_x, out=flux_x).mul_(torch.sub(*phi.across_x, out=jump_x))
        torch.add(*self.eps2.across_y, out=flux_y).mul_(torch.sub(*phi.across_y, out=jump_y))
        torch.sub(flux_x[..., 1:], flux_x[..., :-1], out=change)
        change.add_(flux_y[:, 1:]).sub_(flux_y[:, :-1])
        # Means over faces and central differences, all over h^2: the fluxes above are twice, these four times theirs.
        j = law.mode / 2
        change.add_(self.cross_y.right, alpha=j).sub_(self.cross_y.left, alpha=j)
        change.sub_(self.cross_x.below, alpha=j).add_(self.cross_x.above, alpha=j)
        change.mul_(dt * law.eps_bar**2 / (2 * law.tau * law.grid.spacing**2))

        torch.sub(group.drive, group.heat.cells, alpha=law.gamma, out=a).atan_()
        torch.add(phi.cells, a, alpha=law.alpha / math.pi, out=a).sub_(0.5)
        torch.addcmul(phi.cells, phi.cells, phi.cells, value=-1, out=b)
        change.addcmul_(a, b, value=dt / law.tau)

        torch.add(phi.cells, change, out=a)
        torch.sub(a, phi.cells, out=change)  # less what rounding loses: float32 would set heat free without a change
        phi.cells.copy_(a)
        phi.fill_ghosts()

    def _multiple_angle(self, gx: Tensor, gy: Tensor) -> None:
        """`cos j theta` and `sin j theta` from a gradient by multiple-angle formulas, both 0 where it is flat.

        For six branches a quarter of them. An arctangent of the gradient would double the cost of a step.
        """
        _, _, a, b, c, d = self.buffers
        torch.mul(gx, gx, out=a)
        torch.mul(gy, gy, out=b)
        torch.add(a, b, out=c)
        torch.threshold_(c, FLAT * (2 * self.law.grid.spacing) ** 2, math.inf).reciprocal_()
        a.sub_(b).mul_(c)  # cos 2 theta
        torch.mul(gx, gy, out=b).mul_(c).mul_(2)  # sin 2 theta
        torch.mul(a, a, out=c)
        if self.law.mode == 4:
            torch.mul(a, b, out=d)
            torch.addcmul(c, b, b, value=-1, out=a)
            torch.add(d, d, out=b)
        else:
            torch.sub(c, 0.75, out=d)
            a.mul_(d)
            b.mul_(c.sub_(0.25))

    def _step_heat(self, group: Group, dt: float) -> None:
        """The change of phi sets heat free, the very same numbers, so that the mean of T - K phi stays."""
        heat, lap = group.heat, self.buffers[0]
        if self.law.heat == "explicit":
            torch.add(heat.left, heat.right, out=lap).add_(heat.above).add_(heat.below).sub_(heat.cells, alpha=4)
            heat.cells.add_(lap, alpha=dt / self.law.grid.spacing**2).addcmul_(self.change, group.latent_heat)
        else:
            heat.cells.addcmul_(self.change, group.latent_heat)
            heat.cells.add_(self._smoothed(heat.cells))
        heat.fill_ghosts()

    def _smoothed(self, heat: Float[Tensor, "n y x"]) -> Float[Tensor, "n y x"]:
        """What the implicit scheme adds."""
        return self.modes.inverse(self.modes.forward(heat[:, None]).mul_(self.smoother))[:, 0]
