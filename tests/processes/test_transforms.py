import math

import pytest
import torch
from torch import Tensor

from microevo.processes.grid import Grid
from microevo.processes.integrators.transforms import CosineModes, modes_of

SHAPES = [(8,), (7,), (6, 9), (5, 8), (3, 4, 5)]


def minus_second_difference(u: Tensor, axis: int, grid: Grid) -> Tensor:
    """Along one axis, by hand; a wall repeats the cell beside it."""
    before, after = u.roll(1, 2 + axis), u.roll(-1, 2 + axis)
    if grid.boundary == "no-flux":
        before.select(2 + axis, 0).copy_(u.select(2 + axis, 0))
        after.select(2 + axis, -1).copy_(u.select(2 + axis, -1))
    return (2 * u - before - after) / grid.spacing**2


@pytest.mark.parametrize("boundary", ["periodic", "no-flux"])
@pytest.mark.parametrize("shape", SHAPES)
def test_inverse_undoes_forward(shape: tuple[int, ...], boundary: str) -> None:
    modes = modes_of(Grid(shape=shape, boundary=boundary))
    u = torch.randn(2, 3, *shape, dtype=torch.float64)
    assert modes.forward(u).shape == (2, 3, *modes.shape)
    torch.testing.assert_close(modes.inverse(modes.forward(u)), u, atol=1e-14, rtol=0)


@pytest.mark.parametrize("boundary", ["periodic", "no-flux"])
@pytest.mark.parametrize("shape", SHAPES)
def test_weighted_squares_sum_up_to_those_of_the_field(shape: tuple[int, ...], boundary: str) -> None:
    modes = modes_of(Grid(shape=shape, boundary=boundary))
    u = torch.randn(2, 3, *shape, dtype=torch.float64)
    squares = (modes.forward(u).square() * modes.weights()).flatten(2).sum(2)
    torch.testing.assert_close(squares, u.square().flatten(2).sum(2))


@pytest.mark.parametrize("boundary", ["periodic", "no-flux"])
@pytest.mark.parametrize("shape", SHAPES)
def test_second_differences(shape: tuple[int, ...], boundary: str) -> None:
    grid = Grid(shape=shape, spacing=0.7, boundary=boundary)
    modes = modes_of(grid)
    u = torch.randn(2, 1, *shape, dtype=torch.float64)
    for axis, eigenvalue in enumerate(modes.second_differences()):
        spectral = modes.inverse(modes.forward(u) * eigenvalue)
        torch.testing.assert_close(spectral, minus_second_difference(u, axis, grid), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("boundary", "turn"), [("periodic", 2 * math.pi), ("no-flux", math.pi)])
@pytest.mark.parametrize("shape", [(8,), (7,), (6, 9), (4, 6, 8), (5, 4, 7)])
def test_wavenumbers_are_those_of_the_laplacian(shape: tuple[int, ...], boundary: str, turn: float) -> None:
    grid = Grid(shape=shape, spacing=0.7, boundary=boundary)
    modes = modes_of(grid)
    assert modes.wavenumbers_squared().dtype == torch.float64
    # One wave along each axis, or half a one between walls: an eigenfunction, of which the sum of k^2 is the eigenvalue.
    wave = torch.ones((), dtype=torch.float64)
    for cells in shape:
        wave = wave[..., None] * torch.cos(turn * (torch.arange(cells, dtype=torch.float64) + 0.5) / cells)
    found = modes.inverse(modes.forward(wave[None, None]) * modes.wavenumbers_squared())[0, 0]
    expected = sum((turn / (cells * 0.7)) ** 2 for cells in shape)
    torch.testing.assert_close(found, expected * wave, atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", [*SHAPES, (2, 3), (16, 10)])
def test_cosine_modes_can_be_made_of_fourier_transforms(shape: tuple[int, ...]) -> None:
    modes = CosineModes(Grid(shape=shape, boundary="no-flux"))
    u = torch.randn(2, 3, *shape, dtype=torch.float64)
    torch.testing.assert_close(modes.forward_by_fourier(u), modes.forward(u), atol=1e-13, rtol=0)
    torch.testing.assert_close(modes.inverse_by_fourier(u), modes.inverse(u), atol=1e-13, rtol=0)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("boundary", ["periodic", "no-flux"])
@pytest.mark.parametrize("cells", [16, 27, 32, 48, 64])
def test_modes_are_the_same_bytes_in_any_batch(cells: int, boundary: str, precision: torch.dtype) -> None:
    modes = modes_of(Grid(shape=(cells, cells), boundary=boundary))
    u = torch.randn(8, 1, cells, cells, dtype=precision)
    together = modes.forward(u)
    back = modes.inverse(together)
    for size in (1, 2, 3):
        assert torch.equal(torch.cat([modes.forward(part.clone()) for part in u.split(size)]), together)
        assert torch.equal(torch.cat([modes.inverse(part.clone()) for part in together.split(size)]), back)


@pytest.mark.parametrize("width", [1, 3, 7])
def test_ghosts_wrap_or_reflect(width: int) -> None:
    u = torch.arange(5 * 6).reshape(5, 6)
    padded = (5 + 2 * width, 6 + 2 * width)
    periodic = u.flatten()[Grid(shape=(5, 6)).ghosts(width)].reshape(padded)
    walls = u.flatten()[Grid(shape=(5, 6), boundary="no-flux").ghosts(width)].reshape(padded)
    for result, extended in ((periodic, u.repeat(5, 5)), (walls, torch.cat([u, u.flip(0)]).repeat(4, 1))):
        if result is walls:
            extended = torch.cat([extended, extended.flip(1)], dim=1).repeat(1, 4)
        top, left = (20, 24) if result is walls else (10, 12)
        expected = extended[top - width : top + 5 + width, left - width : left + 6 + width]
        assert torch.equal(result, expected)
