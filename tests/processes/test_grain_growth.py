import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import starts
import torch
from torch import Tensor

from microevo.processes import Grid, rollout, simulate
from microevo.processes.grain_growth import GrainGrowth
from microevo.processes.grain_stepper import GrainStepper, euler_torch
from microevo.processes.kernels.grain_growth import SMALLEST, euler_kernel

SMALL = {"grid": Grid(shape=(64, 64), spacing=0.25, coarsen=4), "first_frame": 2.0, "grains": 20}


generators = partial(starts.generators, seed=5)


def reduced(shape: tuple[int, int], k: float, **settings: object) -> GrainGrowth:
    """Lengths in cells and times in 1/(L m)."""
    return GrainGrowth(**({"grid": Grid(shape=shape), "k": k, "mobility": k, "gamma": 1.5} | settings))


def started(law: GrainGrowth, numbers: Tensor) -> GrainStepper:
    stepper = law.stepper()
    assert isinstance(stepper, GrainStepper)
    stepper.start(torch.stack([torch.ones_like(numbers), numbers])[None].to(law.dtype))
    return stepper


def slab(columns: int) -> Tensor:
    """Two grains with two flat boundaries, at the border and in the middle."""
    return (torch.arange(columns) >= columns // 2).double().expand(4, columns)


def disc(cells: int, radius: float) -> Tensor:
    """A round grain, number 1, inside another."""
    x = torch.arange(cells) + 0.5 - cells / 2
    return (x[:, None] ** 2 + x**2 < radius**2).double()


def area(stepper: GrainStepper, grain: int) -> float:
    """Area of a grain from its share of `sum eta^2` [cells]."""
    squares = stepper.order_parameters().double().square()
    return float((squares[stepper.trajectories[0].order.field_of[grain]] / squares.sum(dim=0)).sum())


def slope(x: list[float], y: list[float]) -> float:
    return float(np.polyfit(x, y, 1)[0])


# ------------------------------------------------------------------- physics


@pytest.mark.parametrize(
    ("gamma", "energy", "width"),
    [
        pytest.param(0.75, 0.3045, 4.862, marks=pytest.mark.slow),
        pytest.param(1.0, 0.3875, 3.793, marks=pytest.mark.slow),
        (1.5, math.sqrt(2) / 3, 3.107),
        pytest.param(2.0, 0.5178, 2.833, marks=pytest.mark.slow),
        pytest.param(3.0, 0.5717, 2.581, marks=pytest.mark.slow),
    ],
)
def test_flat_boundary_has_the_energy_and_width_of_theory(gamma: float, energy: float, width: float) -> None:
    law = reduced((4, 720), 250.0, gamma=gamma, precision="float64")
    stepper = started(law, slab(720))
    stepper.advance(25.0)
    eta = stepper.order_parameters()
    sigma = law.free_energy(eta) / (2 * 4 * math.sqrt(law.k))
    assert sigma == pytest.approx(energy, abs=1e-4)
    profile = eta[1, 0, 180:540].numpy()
    ten, ninety = np.interp([0.1, 0.9], profile, np.arange(360))
    assert ninety - ten == pytest.approx(width * math.sqrt(law.k), rel=1e-3)
    assert law.boundary_cells == pytest.approx(width * math.sqrt(law.k))


def test_boundary_profile_is_a_tanh_at_gamma_three_halves() -> None:
    law = reduced((4, 400), 60.0, precision="float64")
    stepper = started(law, slab(400))
    stepper.advance(25.0)
    x = torch.arange(400) + 0.5 - 200
    expected = (1 + torch.tanh(x.double() / math.sqrt(2 * law.k))) / 2
    profile = stepper.order_parameters()[1, 0]
    assert float((profile - expected)[100:300].abs().max()) < 5e-4
    # The closed form of the image.
    brightness = 2 * stepper.u[0, 0, 0] - 1
    assert float((brightness - torch.tanh(x / math.sqrt(2 * law.k)) ** 2)[100:300].abs().max()) < 2e-3


@pytest.mark.parametrize(
    ("gamma", "k", "cells", "ratio", "tolerance"),
    # The last ones: what the five-point stencil takes from the boundaries of the default, of 3 cells.
    [
        (1.5, 8.0, 128, 1.0, 0.01),
        pytest.param(2.0, 8.0, 128, 1.0, 0.01, marks=pytest.mark.slow),
        (1.5, 1.235, 80, 0.957, 0.01),
        (2.0, 1.235, 80, 0.945, 0.01),
    ],
)
def test_a_circle_shrinks_by_curvature(gamma: float, k: float, cells: int, ratio: float, tolerance: float) -> None:
    law = reduced((cells, cells), k, gamma=gamma)
    radius, smallest = 0.44 * cells, 4.2 * math.sqrt(8 * k)
    stepper = started(law, disc(cells, radius))
    times, squared = [], []
    for time in np.linspace(0.1, 1, 9) * (radius**2 - smallest**2) / (2 * k):
        stepper.advance(float(time))
        times.append(float(time))
        squared.append(area(stepper, 1) / math.pi)
    assert math.sqrt(squared[-1]) > 4 * math.sqrt(8 * k)
    assert slope(times, squared) == pytest.approx(-2 * k * ratio, rel=tolerance)
    # The number map says the same.
    assert float((stepper.u[0, 1] == 1).sum()) == pytest.approx(math.pi * squared[-1], rel=0.02)


def test_energy_falls() -> None:
    law = reduced((64, 64), 2.0, grains=20)
    stepper = law.stepper()
    assert isinstance(stepper, GrainStepper)
    stepper.start(law.initial(generators(0)).float())
    energies = []
    for time in range(1, 40, 3):
        stepper.advance(float(time))
        energies.append(law.free_energy(stepper.order_parameters()))
    assert stepper.trajectories[0].order.moves == 0
    assert all(after < before for before, after in itertools.pairwise(energies))


@pytest.mark.slow
def test_mobility_is_an_area_per_time_on_any_grid() -> None:
    # 20 units of length across; twice as fine with the same boundary in cells moves as fast.
    lost = []
    for cells in (100, 200):
        law = GrainGrowth(grid=Grid(shape=(cells, cells), spacing=20 / cells), mobility=0.8, k=4.0, gamma=1.5)
        stepper = started(law, disc(cells, 0.4 * cells))
        stepper.advance(2.0)
        first = area(stepper, 1)
        stepper.advance(6.0)
        lost.append((first - area(stepper, 1)) * law.grid.cell_volume / 4)
    assert lost == pytest.approx([2 * math.pi * 0.8] * 2, rel=0.02)


# ---------------------------------------------------- shared order parameters


def compare_with_dense(law: GrainGrowth, dense: GrainGrowth, index: int, times: Sequence[float]) -> float:
    """Largest rms difference of `sum eta^2`; the grains must be the same ones."""
    worst = 0.0
    shared_stepper, dense_stepper = law.stepper(), dense.stepper()
    for stepper in (shared_stepper, dense_stepper):
        stepper.start(law.initial(generators(index)).float())
    for time in times:
        shared_stepper.advance(time)
        dense_stepper.advance(time)
        shared, own = shared_stepper.u[0], dense_stepper.u[0]
        worst = max(worst, float((shared[0] - own[0]).square().mean().sqrt()))
        assert abs(len(shared[1].unique()) - len(own[1].unique())) <= 1
        assert float((shared[1] != own[1]).float().mean()) < 0.01
    return worst


@pytest.mark.slow
def test_shared_order_parameters_follow_the_dense_model() -> None:
    # Crowded: grains of 14 cells, boundaries of 7.
    settings = {"grid": Grid(shape=(96, 96)), "k": 5.0, "mobility": 5.0, "gamma": 1.5, "grains": 46}
    shared, dense = GrainGrowth(order_parameters=14, **settings), GrainGrowth(order_parameters=None, **settings)
    assert compare_with_dense(shared, dense, 3, (10.0, 30.0, 60.0)) < 5e-3


def test_grains_keep_their_numbers_and_vanish_once() -> None:
    law = GrainGrowth(
        grid=Grid(shape=(96, 96), spacing=0.25, coarsen=2), grains=30, order_parameters=9, first_frame=0.5
    )
    stepper = law.stepper()
    assert isinstance(stepper, GrainStepper)
    stepper.start(law.initial(generators(1)).float())
    alive, sizes = set(range(30)), []
    for time in range(1, 25):
        stepper.advance(float(time))
        now = {int(number) for number in stepper.u[0, 1].unique()}
        assert now <= alive
        alive = now
        order = stepper.trajectories[0].order
        assert np.array_equal(order.field_of[order.ids], order.eta.argmax(axis=2))
        sizes.append(len(alive))
    assert order.moves > 0
    assert sizes[-1] < 20


def test_tensor_operations_step_like_the_compiled_kernel() -> None:
    eta = torch.rand((6, 9, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 2
    coefficients = (0.44, 0.42, 0.56, 0.17, SMALLEST)
    for steps in (1, 2, 3):
        fields, spare = eta.numpy().copy(), np.empty(eta.shape)
        euler_kernel(5)(fields, spare, *coefficients, steps)
        expected = spare if steps % 2 else fields
        np.testing.assert_allclose(euler_torch(eta, steps, *coefficients).numpy(), expected, rtol=1e-12)


# ------------------------------------------------------------ batches, frames


def test_same_seed_same_bytes_in_any_batch() -> None:
    law = GrainGrowth(**SMALL)
    together = simulate(law, generators(0, 1, 2), 3)
    assert torch.equal(together, simulate(law, generators(2, 1, 0), 3).flip(0))
    for i in range(3):
        assert torch.equal(together[i : i + 1], simulate(law, generators(i), 3))


def test_drawn_parameters_equal_those_given_one_by_one() -> None:
    law = GrainGrowth(**SMALL)
    mobility, grains = [1.1, 2.0], [14.6, 25.2]
    together = simulate(law, generators(0, 1), 2, law.vary({"mobility": mobility, "grains": grains}))
    for i in range(2):
        alone = GrainGrowth(**(SMALL | {"mobility": mobility[i], "grains": round(grains[i])}))
        assert torch.equal(together[i : i + 1], simulate(alone, generators(i), 2))


def test_frames_in_between_hardly_matter_and_times_are_met() -> None:
    law = GrainGrowth(**SMALL)
    few, many = law.stepper(), law.stepper()
    for stepper in (few, many):
        stepper.start(law.initial(generators(0)).float())
    for time in (0.1, 1 / 3, 0.5, 1.7, 2.0):
        many.advance(time)
        assert many.t == time
    few.advance(2.0)
    assert float((few.u[:, 0] - many.u[:, 0]).square().mean().sqrt()) < 1e-3
    with pytest.raises(ValueError, match="forward only"):
        many.advance(1.0)


def test_float32_follows_float64() -> None:
    low, high = (
        simulate(GrainGrowth(**SMALL, precision=precision), generators(0), 2) for precision in ("float32", "float64")
    )
    assert float((low[:, :, 0] - high[:, :, 0]).abs().max()) < 1e-4


def test_half_the_step_changes_little() -> None:
    default, half = (simulate(GrainGrowth(**SMALL, time_step=step), generators(0), 2) for step in (None, 0.07))
    assert float((default[:, :, 0] - half[:, :, 0]).square().mean().sqrt()) < 1.5e-3


def test_image_is_bright_in_grains_and_holds_the_number_at_the_middle_of_a_pixel() -> None:
    law = GrainGrowth(grid=Grid(shape=(4, 8), spacing=0.25, coarsen=4), contrast=2.0, floor=0.1)
    u = torch.ones(1, 2, 4, 8)
    u[0, 0, :, 4:] = 0.75
    u[0, 0, :, 0] = 0.0
    u[0, 1] = torch.arange(32).reshape(4, 8)
    image = law.image(u)
    assert image.dtype == torch.float32
    torch.testing.assert_close(image, torch.tensor([[[[(0.1 + 3) / 4, 0.5]], [[18.0, 22.0]]]]))


def test_frames_look_like_a_polycrystal() -> None:
    law = GrainGrowth(**SMALL)
    frames = simulate(law, generators(0, 1), 12)
    brightness, numbers = frames[:, :, 0], frames[:, :, 1]
    assert frames.shape == (2, 12, 2, 16, 16)
    assert float(brightness.min()) >= law.floor
    assert float(brightness.max()) == pytest.approx(1, abs=1e-5)
    assert bool((brightness.mean(dim=(2, 3))[:, 11] > brightness.mean(dim=(2, 3))[:, 0] + 0.03).all())
    assert torch.equal(numbers, numbers.round())
    assert len(numbers[0, 11].unique()) < len(numbers[0, 0].unique()) <= 20


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"grid": Grid(shape=(16, 16, 16))}, "two dimensions"),
        ({"grid": Grid(shape=(32, 32, 32))}, "two dimensions"),
        ({"k": 1.0}, "boundary is 2.83 cells"),
        ({"k": -1.0}, "k must be positive"),
        ({"mobility": 0.0}, "mobility"),
        ({"gamma": 0.5}, "gamma"),
        ({"contrast": 0.0}, "contrast"),
        ({"floor": 1.0}, "floor"),
        ({"floor": -0.1}, "floor"),
        ({"grains": 1}, "grains"),
        ({"order_parameters": 1}, "order_parameters"),
        ({"time_step": 0.16}, "0.1553"),
        ({"time_step": 0.0}, "time_step"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GrainGrowth(**settings)


def test_parameters_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(ValueError, match="gamma"):
        GrainGrowth().vary({"gamma": [1.5, 2.0]})
    with pytest.raises(ValueError, match="grains"):
        GrainGrowth().vary({"grains": [60.0, 0.0]})


@dataclass(frozen=True, kw_only=True)
class Poisoned(GrainGrowth):
    """The second trajectory of a batch starts with a NaN."""

    def initial(self, generators: Sequence[torch.Generator], p: object = None) -> Tensor:
        u = super().initial(generators, p)
        u[1, 1, 5, 5] = torch.nan
        return u


def test_what_is_not_finite_is_blamed_on_its_trajectory() -> None:
    with pytest.raises(ValueError, match=r"Poisoned, trajectory 20: at time 0, .*finite"):
        list(rollout(Poisoned(**SMALL), generators(0, 1, 2), 1, names=[10, 20, 30]))
    law = GrainGrowth(**SMALL)
    stepper = law.stepper()
    assert isinstance(stepper, GrainStepper)
    stepper.start(law.initial(generators(0, 1)).float())
    stepper.advance(0.5)
    stepper.trajectories[1].order.eta[3, 3, 3] = np.nan
    with pytest.raises(ArithmeticError, match=r"at time 0\.6.* not finite \(step 0\.00") as raised:
        stepper.advance(1.0)
    assert getattr(raised.value, "index", None) == 1


def test_grains_that_would_merge_stop_the_run() -> None:
    with pytest.raises(ValueError, match=r"trajectory 0: .*would merge; use more than 3 order_parameters"):
        simulate(GrainGrowth(**SMALL, order_parameters=3), generators(0), 1)


# ----------------------------------------------------------------- long tests
