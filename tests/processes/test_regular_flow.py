import pytest
import torch
from torch import Tensor

from microevo.processes import Grid, Parameters
from microevo.processes.integrators.base import StepError
from microevo.processes.integrators.fixed_step import FixedStepBDF, combine
from microevo.processes.integrators.transforms import modes_of
from microevo.processes.kernels import fixed_step as kernel
from microevo.processes.regular_flow import RegularFlow

GRIDS = [
    Grid(shape=(11,), spacing=0.5, boundary="no-flux"),
    Grid(shape=(7, 12), spacing=0.5, boundary="periodic"),
    Grid(shape=(8, 5), spacing=0.7, boundary="no-flux"),
    Grid(shape=(4, 6, 5), spacing=0.5, boundary="periodic"),
]
CLOSE = [(torch.float32, 2e-5), (torch.float64, 1e-12)]


def fields(grid: Grid, dtype: torch.dtype) -> Tensor:
    """Random compositions, some of them in the pure phases and beyond."""
    random = torch.Generator().manual_seed(0)
    return (1.1 * torch.rand(3, 1, *grid.shape, generator=random, dtype=torch.float64) - 0.05).to(dtype)


NUMBERS = {"omega": 4.83, "kappa": 2.6, "diffusivity": 90.0}


def parameters(grid: Grid, n: int) -> Parameters:
    factor = 1 + torch.arange(n, dtype=torch.float64).reshape(-1, *(1,) * (1 + len(grid.shape))) / 3
    return Parameters(NUMBERS, {"omega": 2.5 * factor, "kappa": 2.6 * factor, "diffusivity": 90.0 * factor})


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{len(grid.shape)}-D {grid.boundary}")
@pytest.mark.parametrize(("dtype", "close"), CLOSE)
@pytest.mark.parametrize("laws", [1, 3])
def test_the_compiled_rate_is_that_of_tensors(grid: Grid, dtype: torch.dtype, close: float, laws: int) -> None:
    flow = RegularFlow(grid, parameters(grid, laws))
    c = fields(grid, dtype)
    compiled, tensors = torch.full_like(c, 7.0), torch.full_like(c, 8.0)
    flow.rate(c, compiled)
    flow.rate_on_tensors(c, tensors)
    assert float((compiled - tensors).abs().max()) < close * float(tensors.abs().max())


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{len(grid.shape)}-D {grid.boundary}")
def test_the_rate_is_the_divergence_of_the_flux(grid: Grid) -> None:
    # Of the potential cell by cell, with numpy's rolls for neighbours and no flux through walls.
    flow = RegularFlow(grid, Parameters(NUMBERS, {}))
    c = fields(grid, torch.float64).clamp(1e-3, 1 - 1e-3)
    mu = flow.potential(c)
    expected = torch.zeros_like(c)
    for axis in range(2, c.ndim):
        a = (c + c.roll(-1, axis)) / 2
        flux = 90.0 * a * (1 - a) * (mu.roll(-1, axis) - mu) / grid.spacing
        if grid.boundary == "no-flux":
            flux.index_fill_(axis, torch.tensor([c.shape[axis] - 1]), 0.0)
        expected += (flux - flux.roll(1, axis)) / grid.spacing
    rate = torch.empty_like(c)
    flow.rate(c, rate)
    torch.testing.assert_close(rate, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    assert float(rate.flatten(1).sum(1).abs().max()) < 1e-11 * float(rate.abs().sum())


def test_a_lone_trajectory_has_the_rate_that_it_has_among_others() -> None:
    grid = Grid(shape=(16, 13), spacing=0.5, boundary="no-flux")
    flow, c = RegularFlow(grid, Parameters(NUMBERS, {})), fields(Grid(shape=(16, 13)), torch.float32)
    together, alone = torch.empty_like(c), torch.empty_like(c[:1])
    flow.rate(c, together)
    for lane in range(3):
        flow.rate(c[lane : lane + 1], alone)
        assert torch.equal(alone[0], together[lane])


# ------------------------------------------------- the integrator's own loops


@pytest.mark.parametrize(("dtype", "close"), CLOSE)
@pytest.mark.parametrize("laws", [1, 3])
def test_the_compiled_increment_is_that_of_tensors(dtype: torch.dtype, close: float, laws: int) -> None:
    random = torch.Generator().manual_seed(0)
    drive, before, increment = torch.rand(3, 3, 2, 24, generator=random, dtype=torch.float64).to(dtype)
    factors = torch.rand(2, laws, 1, 24, generator=random, dtype=torch.float64).to(dtype)
    compiled = increment.clone()
    arrays = [values.numpy() for values in (drive, before, compiled, *factors)]
    kernel.combine(*arrays, arrays[0].dtype.type(0.3))
    combine(drive, before, increment, *factors, 0.3)
    torch.testing.assert_close(compiled, increment, rtol=close, atol=close)


def decay(grid: Grid, rate: float, schedule: list[tuple[float, float]], order: int = 1) -> FixedStepBDF:
    """A field that decays everywhere; nothing is stabilised, and the mean, the zero mode, stays."""

    def slope(u: Tensor, out: Tensor) -> None:
        torch.mul(u, -rate, out=out)

    return FixedStepBDF(
        grid=grid,
        rate=slope,
        stabiliser=torch.full((1, 1, *modes_of(grid).shape), 1e-12, dtype=torch.float64),
        order=order,
        schedule=schedule,
        bounds=(-2.0, 2.0),
    )


def test_a_late_start_takes_late_steps() -> None:
    grid = Grid(shape=(6, 8), boundary="no-flux")
    u0 = fields(grid, torch.float64)
    early, late = (decay(grid, 0.1, [(1.0, 0.01), (float("inf"), 0.5)]) for _ in range(2))
    early.start(u0)
    early.advance(3.0)
    late.start(u0, time=1.0)
    late.advance(3.0)
    assert (early.steps_taken, late.steps_taken) == (104, 4)
    assert late.t == 3.0
    torch.testing.assert_close(late.u, u0 * (1 - 0.05) ** 4)


@pytest.mark.parametrize("wrong", [float("nan"), 2.5])
@pytest.mark.parametrize("order", [1, 2])
def test_a_field_out_of_bounds_is_told_by_its_number(wrong: float, order: int) -> None:
    grid = Grid(shape=(6, 8), boundary="no-flux")
    u0 = fields(grid, torch.float32)
    u0[1, 0, 2, 3] = wrong
    with pytest.raises(StepError, match="at time 5") as caught:
        decay(grid, -1.0, [(float("inf"), 0.1)], order).start(u0, time=5.0)
    assert caught.value.index == 1
