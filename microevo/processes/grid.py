"""The grid that a process is solved on, and the coarser image that is saved."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A uniform grid of cell centres `(i + 1/2) spacing`, in any number of dimensions.

    Args:
        shape: Solver cells along (y, x).
        spacing: Size of a solver cell [l0].
        boundary: `periodic`, or `no-flux` walls on all sides.
        coarsen: Solver cells per image pixel along each axis; a pixel is the mean of its cells.
    """

    shape: tuple[int, ...] = (64, 64)
    spacing: float = 1.0
    boundary: Literal["periodic", "no-flux"] = "periodic"
    coarsen: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple):
            raise TypeError(f"the shape of a grid must be a tuple, such as (64, 64), but it is {self.shape!r}")
        if not self.shape or min(self.shape) < 2:
            raise ValueError(f"a grid needs at least 2 cells along each axis, but its shape is {self.shape}")
        if self.spacing <= 0:
            raise ValueError(f"the cell size must be positive, but spacing is {self.spacing}")
        if self.coarsen < 1 or any(cells % self.coarsen for cells in self.shape):
            raise ValueError(
                f"coarsen must divide the grid, but {self.coarsen} does not divide {' x '.join(map(str, self.shape))} cells"
            )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Pixels along (y, x)."""
        return tuple(cells // self.coarsen for cells in self.shape)

    @property
    def image_spacing(self) -> float:
        """Distance between pixels [l0]."""
        return self.spacing * self.coarsen

    @property
    def cell_volume(self) -> float:
        """Volume of a cell [l0^d]."""
        return self.spacing ** len(self.shape)

    def block_mean(self, u: Float[Tensor, "n C *cells"]) -> Float[Tensor, "n C *pixels"]:
        """Average over the cells of each pixel."""
        for axis in range(2, u.ndim) if self.coarsen > 1 else ():
            u = u.unflatten(axis, (-1, self.coarsen)).mean(axis + 1)
        return u

    def laplacian(self, u: Float[Tensor, "n C *cells"]) -> Float[Tensor, "n C *cells"]:
        """Laplacian by second differences of neighbouring cells, second order in the spacing [1/l0^2]."""
        total = torch.zeros_like(u)
        for axis in range(2, u.ndim):
            before, after = neighbours(u, axis, self.boundary == "no-flux")
            total += before + after - 2 * u
        return total / self.spacing**2

    def ghosts(self, width: int) -> Int64[Tensor, " padded"]:
        """Which cell each one of the grid with `width` ghost cells on every side copies, both flattened."""
        source = torch.zeros((), dtype=torch.int64)
        for cells in self.shape:
            source = cells * source[..., None] + continued_places(cells, width, width, self.boundary == "periodic")
        return source.flatten()


def continued_places(
    cells: int, before: int, after: int, periodic: bool, device: torch.device | None = None
) -> Int64[Tensor, " more"]:
    """Which of the cells of a row each cell copies of one that has more `before` and `after` them.

    Beyond the border of a periodic row come the cells of its other side; a wall reflects.
    """
    place = torch.arange(-before, cells + after, device=device)
    if periodic:
        return place % cells
    place = place % (2 * cells)
    return torch.minimum(place, 2 * cells - 1 - place)


def neighbours(
    u: Float[Tensor, "*cells"], axis: int, walls: bool
) -> tuple[Float[Tensor, "*cells"], Float[Tensor, "*cells"]]:
    """The neighbours before and after each cell along an axis; beyond a wall comes the mirror image."""
    before, after = u.roll(1, axis), u.roll(-1, axis)
    if walls:
        before.select(axis, 0).copy_(u.select(axis, 0))
        after.select(axis, -1).copy_(u.select(axis, -1))
    return before, after
