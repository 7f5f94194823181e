"""Real modes of a grid: the bases in which operators with constant coefficients are plain factors."""

import math
from abc import ABC, abstractmethod
from functools import cache

import scipy  # which loads scipy.fft when it is first used
import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import Grid


class Modes(ABC):
    """Transforms fields of a grid to modes and back, in the same bytes whichever other fields are in the batch.

    Args:
        grid: The grid.

    Attributes:
        shape: Real numbers along each axis that the modes of a field are held in.
    """

    def __init__(self, grid: Grid, shape: tuple[int, ...]) -> None:
        self.cells, self.spacing, self.shape = grid.shape, grid.spacing, shape
        self.axes = tuple(range(2, 2 + len(grid.shape)))

    @abstractmethod
    def forward(self, u: Float[Tensor, "n C *cells"]) -> Float[Tensor, "n C *modes"]:
        """The modes of fields."""

    @abstractmethod
    def inverse(self, modes: Float[Tensor, "n C *modes"]) -> Float[Tensor, "n C *cells"]:
        """The fields of modes."""

    @abstractmethod
    def wavenumbers(self) -> list[Float[Tensor, "..."]]:
        """`k` along each axis, float64, to be broadcast over the modes [1/l0]."""

    @abstractmethod
    def weights(self) -> Float[Tensor, " last"]:
        """What to multiply squared modes by, along the last axis, so that they sum up to the squared field; float64."""

    def wavenumbers_squared(self) -> Float[Tensor, "*modes"]:
        """`|k|^2` of each mode, float64: the eigenvalues of minus the Laplacian [1/l0^2]."""
        return sum((k**2 for k in self.wavenumbers()), torch.zeros((), dtype=torch.float64))

    def second_differences(self) -> list[Float[Tensor, "..."]]:
        """Eigenvalues of minus the second difference along each axis, `(2 - 2 cos k h) / h^2`, float64 [1/l0^2]."""
        return [(2 - 2 * torch.cos(k * self.spacing)) / self.spacing**2 for k in self.wavenumbers()]

    def _along(self, axis: int, values: Float[Tensor, " own"]) -> Float[Tensor, "..."]:
        return values.reshape(-1, *(1,) * (len(self.cells) - 1 - axis))


class FourierModes(Modes):
    """Modes of a periodic grid: the half of a real Fourier transform that says all, real and imaginary parts in turn.

    Args:
        grid: The grid.
    """

    def __init__(self, grid: Grid) -> None:
        *others, last = grid.shape
        super().__init__(grid, (*others, 2 * (last // 2 + 1)))

    def forward(self, u: Float[Tensor, "n C *cells"]) -> Float[Tensor, "n C *modes"]:
        """The modes of fields."""
        if u.shape[0] == 1 and _differ_alone(self.cells, u.dtype, u.device)[0]:
            return self.forward(torch.cat([u, u]))[:1]
        return torch.view_as_real(torch.fft.rfftn(u, dim=self.axes)).view(*u.shape[:2], *self.shape)

    def inverse(self, modes: Float[Tensor, "n C *modes"]) -> Float[Tensor, "n C *cells"]:
        """The fields of modes."""
        if modes.shape[0] == 1 and _differ_alone(self.cells, modes.dtype, modes.device)[1]:
            return self.inverse(torch.cat([modes, modes]))[:1]
        spectrum = torch.view_as_complex(modes.view(*modes.shape[:-1], -1, 2))
        return torch.fft.irfftn(spectrum, s=self.cells, dim=self.axes)

    def wavenumbers(self) -> list[Float[Tensor, "..."]]:
        """`k` along each axis, float64, to be broadcast over the modes [1/l0]."""
        *others, last = (2 * math.pi * torch.fft.fftfreq(n, self.spacing, dtype=torch.float64) for n in self.cells)
        half = last[: self.shape[-1] // 2].abs()  # the highest one of an even number has a minus
        return [self._along(axis, k) for axis, k in enumerate([*others, half.repeat_interleave(2)])]

    def weights(self) -> Float[Tensor, " last"]:
        """What to multiply squared modes by, along the last axis, so that they sum up to the squared field; float64."""
        weights = torch.full((self.shape[-1] // 2,), 2.0, dtype=torch.float64)
        weights[0] = 1
        if self.cells[-1] % 2 == 0:
            weights[-1] = 1
        return weights.repeat_interleave(2) / math.prod(self.cells)


class CosineModes(Modes):
    """Modes of a grid between no-flux walls: the orthonormal cosine transform of type II.

    On a CPU it is SciPy's. Elsewhere it is made of real Fourier transforms of reordered cells, evens up and odds down,
    turned by a quarter cell after (Makhoul, IEEE Trans. Acoust. Speech Signal Process. 28 (1980) 27).

    Args:
        grid: The grid.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid, grid.shape)

    def forward(self, u: Float[Tensor, "n C *cells"]) -> Float[Tensor, "n C *modes"]:
        """The modes of fields."""
        if u.is_cpu:
            return torch.from_numpy(scipy.fft.dctn(u.numpy(), axes=self.axes, norm="ortho"))
        return self.forward_by_fourier(u)

    def inverse(self, modes: Float[Tensor, "n C *modes"]) -> Float[Tensor, "n C *cells"]:
        """The fields of modes."""
        if modes.is_cpu:
            return torch.from_numpy(scipy.fft.idctn(modes.numpy(), axes=self.axes, norm="ortho"))
        return self.inverse_by_fourier(modes)

    def wavenumbers(self) -> list[Float[Tensor, "..."]]:
        """`k` along each axis, float64, to be broadcast over the modes [1/l0]."""
        return [
            self._along(axis, math.pi / (n * self.spacing) * torch.arange(n, dtype=torch.float64))
            for axis, n in enumerate(self.cells)
        ]

    def weights(self) -> Float[Tensor, " last"]:
        """What to multiply squared modes by, along the last axis, so that they sum up to the squared field; float64."""
        return torch.ones(self.cells[-1], dtype=torch.float64)

    def forward_by_fourier(self, u: Float[Tensor, "n C *cells"]) -> Float[Tensor, "n C *modes"]:
        """The same on any device."""
        for axis, n in enumerate(self.cells):
            u = u.movedim(2 + axis, -1)
            order = torch.cat([torch.arange(0, n, 2), torch.arange(1, n, 2).flip(0)]).to(u.device)
            turned = torch.fft.rfft(u[..., order]) * _turn(n).to(u.device, u.dtype.to_complex())
            u = torch.cat([turned.real, -turned.imag[..., 1 : (n + 1) // 2].flip(-1)], dim=-1).movedim(-1, 2 + axis)
        return u.contiguous()

    def inverse_by_fourier(self, modes: Float[Tensor, "n C *modes"]) -> Float[Tensor, "n C *cells"]:
        """The same on any device."""
        for axis, n in enumerate(self.cells):
            modes = modes.movedim(2 + axis, -1)
            real, others = modes[..., : n // 2 + 1], modes[..., n // 2 + 1 :].flip(-1)
            imag = torch.zeros_like(real)
            imag[..., 1 : (n + 1) // 2] = -others
            if n % 2 == 0:
                imag[..., -1] = -real[..., -1]  # the middle mode is both its own and its partner
            turned = torch.complex(real, imag) / _turn(n).to(modes.device, modes.dtype.to_complex())
            order = torch.cat([torch.arange(0, n, 2), torch.arange(1, n, 2).flip(0)]).to(modes.device)
            modes = torch.fft.irfft(turned, n=n)[..., order.argsort()].movedim(-1, 2 + axis)
        return modes.contiguous()


def modes_of(grid: Grid) -> Modes:
    """The modes that suit a grid's boundary."""
    return FourierModes(grid) if grid.boundary == "periodic" else CosineModes(grid)


def _turn(n: int) -> Tensor:
    """What makes orthonormal cosine modes of the Fourier modes of `n` reordered cells."""
    k = torch.arange(n // 2 + 1, dtype=torch.float64)
    size = torch.full_like(k, math.sqrt(2 / n))
    size[0] = math.sqrt(1 / n)
    return torch.polar(size, -math.pi / (2 * n) * k)


@cache
def _differ_alone(cells: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> tuple[bool, bool]:
    """Whether the transforms of a single field, there and back, round otherwise than among others.

    MKL's do for some sizes on some processors. A single field is then transformed twice; two and more agree.
    """
    fields = torch.rand((3, 1, *cells), generator=torch.Generator().manual_seed(0), dtype=dtype).to(device)
    axes = tuple(range(2, fields.ndim))
    modes = torch.fft.rfftn(fields, dim=axes)
    back = torch.fft.irfftn(modes, s=cells, dim=axes)
    lone = torch.fft.rfftn(fields[1:2].clone(), dim=axes)
    lone_back = torch.fft.irfftn(modes[1:2].clone(), s=cells, dim=axes)
    return not torch.equal(lone, modes[1:2]), not torch.equal(lone_back, back[1:2])
