"""Real modes of a grid: the basis in which constant-coefficient difference operators are plain factors."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import Grid


class RealModes:
    """Fourier modes of a periodic grid, cosine modes (DCT-II) of one with no-flux walls; both as real numbers.

    One real Fourier transform along each axis, last axis first, each leaving an axis of two (cosine and sine part)
    behind. Between walls the cells are reordered before, evens up and odds down, and turned by a quarter cell after
    (Makhoul, IEEE Trans. Acoust. Speech Signal Process. 28 (1980) 27): the two parts of mode k then are the cosine modes
    k and, but for its sign, N - k. Some modes therefore appear twice, which does no harm to a product.

    Args:
        grid: The grid.
        device: Where to compute.
        dtype: Floating-point type of the fields.
    """

    def __init__(self, grid: Grid, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float64) -> None:
        self.shape = grid.shape
        self.walls = grid.boundary == "no-flux"
        self.spacing = grid.spacing
        if self.walls:
            order = torch.arange(math.prod(self.shape)).reshape(self.shape)
            for axis, cells in enumerate(self.shape):
                evens_up = torch.arange(0, cells, 2)
                odds_down = torch.arange(1, cells, 2).flip(0)
                order = order.index_select(axis, torch.cat([evens_up, odds_down]))
            self.order = order.flatten().to(device)
            self.back = order.flatten().argsort().to(device)
            like = torch.zeros((), dtype=dtype).to(torch.complex64 if dtype == torch.float32 else torch.complex128)
            self.turns = [self._turn(axis).to(like).to(device) for axis in range(len(self.shape))]
            self.turns_back = [turn.conj().resolve_conj() for turn in self.turns]

    def _turn(self, axis: int) -> Tensor:
        cells, dimensions = self.shape[axis], len(self.shape)
        angle = -math.pi / (2 * cells) * torch.arange(cells // 2 + 1, dtype=torch.float64)
        turn = torch.polar(torch.ones_like(angle), angle)
        # After it come the later axes and the pairs that they left.
        return turn.reshape(-1, *(1,) * (2 * (dimensions - 1 - axis)))

    def forward(self, u: Float[Tensor, "n C *cells"]) -> Float[Tensor, "n C *modes"]:
        """The modes of a field."""
        if self.walls:
            u = _reorder(u, self.order)
        for axis in reversed(range(len(self.shape))):
            modes = torch.fft.rfft(u, dim=2 + axis)
            if self.walls:
                modes = modes.mul_(self.turns[axis])
            u = torch.view_as_real(modes)
        return u

    def inverse(self, modes: Float[Tensor, "n C *modes"]) -> Float[Tensor, "n C *cells"]:
        """The field of given modes."""
        for axis, cells in enumerate(self.shape):
            # An inverse transform leaves its own axis innermost, where the next pair has to be.
            pairs = torch.view_as_complex(modes.contiguous() if axis else modes)
            if self.walls:
                pairs = pairs * self.turns_back[axis]
            modes = torch.fft.irfft(pairs, n=cells, dim=2 + axis)
        if self.walls:
            modes = _reorder(modes, self.back)
        return modes

    def eigenvalues(self) -> list[Float[Tensor, "..."]]:
        """For each axis, minus the second difference along it, `(2 - 2 cos k h) / h^2`; float64, broadcasts to modes [l0^-2]."""
        values = []
        dimensions = len(self.shape)
        for axis, cells in enumerate(self.shape):
            k = torch.arange(cells // 2 + 1, dtype=torch.float64)
            angle = (
                torch.stack([k, cells - k], dim=1) * math.pi / cells if self.walls else 2 * math.pi / cells * k[:, None]
            )
            value = (2 - 2 * torch.cos(angle)) / self.spacing**2
            shape = [1] * (2 * dimensions)
            shape[axis], shape[2 * dimensions - 1 - axis] = value.shape
            values.append(value.reshape(shape))
        return values


def _reorder(u: Tensor, order: Tensor) -> Tensor:
    flat = u.flatten(2)
    return flat.gather(2, order.expand(flat.shape)).view(u.shape)
