"""Grain growth.

Lengths are cells, times 1/(L m) and energies m, so that L kappa is `k`; `l = sqrt(8 k)` is the length of a boundary.
"""

import math
from functools import cache, partial

import numpy as np
import pytest
import starts
import torch
from figures import Figure
from scipy.integrate import solve_bvp
from torch import Tensor

from microevo.processes import GrainGrowth, Grid, StepError, simulate
from microevo.processes.grain_stepper import GrainStepper
from microevo.processes.integrators.fixed_step import FixedStepBDF
from microevo.processes.integrators.transforms import modes_of

SLOW = pytest.mark.slow
CURVATURE = "motion by curvature, Allen & Cahn (1979)"


generators = partial(starts.generators, seed=5)


def reduced(shape: tuple[int, int], k: float, **settings: object) -> GrainGrowth:
    return GrainGrowth(**({"grid": Grid(shape=shape), "k": k, "mobility": k, "gamma": 1.5} | settings))


def started(law: GrainGrowth, numbers: Tensor | None = None) -> GrainStepper:
    """From grain numbers (H, W), or a random polycrystal."""
    stepper = law.stepper()
    assert isinstance(stepper, GrainStepper)
    if numbers is None:
        stepper.start(law.initial(generators(0)).to(law.dtype))
    else:
        stepper.start(torch.stack([torch.ones_like(numbers), numbers])[None].to(law.dtype))
    return stepper


def area(stepper: GrainStepper, grain: int) -> float:
    """Of a grain, by its share of `sum eta^2`."""
    squares = stepper.order_parameters().double().square()
    return float((squares[stepper.trajectories[0].order.field_of[grain]] / squares.sum(dim=0)).sum())


def slope(x: list[float], y: list[float]) -> float:
    return float(np.polyfit(x, y, 1)[0])


def rms(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).square().mean().sqrt())


# --------------------------------------------------------------- closed forms


@cache
def flat_boundary(gamma: float) -> tuple[float, float, float]:
    """Energy, 10-90 % width and where the two fields cross, of the ordinary differential equation; k = m = 1."""

    def slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        a, b, da, db = y
        return np.array([da, db, a**3 - a + 2 * gamma * a * b**2, b**3 - b + 2 * gamma * b * a**2])

    def ends(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.array([left[0] - left[1], left[2] + left[3], right[0] - 1, right[1]])

    x = np.linspace(0, 14, 1001)
    t = np.tanh(x / math.sqrt(2))
    step = (1 - t**2) / math.sqrt(8)
    solution = solve_bvp(
        slopes, ends, x, np.array([(1 + t) / 2, (1 - t) / 2, step, -step]), tol=1e-9, max_nodes=100_000
    )
    assert solution.success
    x = np.linspace(0, 14, 100_001)
    a, b, da, db = solution.sol(x)
    well = (a**4 + b**4) / 4 - (a**2 + b**2) / 2 + gamma * a**2 * b**2 + 1 / 4
    energy = 2 * float(np.trapezoid(well + (da**2 + db**2) / 2, x))
    whole, profile = np.concatenate([-x[::-1], x[1:]]), np.concatenate([b[::-1], a[1:]])
    ten, ninety = np.interp([0.1, 0.9], profile, whole)
    return energy, ninety - ten, float(a[0])


@pytest.mark.parametrize(
    "gamma", [*(pytest.param(gamma, marks=SLOW) for gamma in (0.75, 1.0)), 1.5, 2.0, pytest.param(3.0, marks=SLOW)]
)
def test_flat_boundary(figure: Figure, gamma: float) -> None:
    law = reduced((4, 600), 180.0, gamma=gamma, precision="float64")
    stepper = started(law, (torch.arange(600) >= 300).double().expand(4, 600))
    stepper.advance(25.0)
    eta = stepper.order_parameters()
    energy, width, crossing = flat_boundary(gamma)
    if gamma == 1.5:
        assert energy == pytest.approx(math.sqrt(2) / 3, abs=1e-7)
        assert width == pytest.approx(2 * math.sqrt(2) * math.atanh(0.8), abs=1e-6)
    root = math.sqrt(law.k)
    profile = eta[1, 0, 150:450].numpy()
    ten, ninety = np.interp([0.1, 0.9], profile, np.arange(300))
    source = "closed form (tanh)" if gamma == 1.5 else "boundary-value problem, scipy"
    figure(
        f"energy of a flat boundary over sqrt(m kappa), gamma {gamma:g}",
        measured=law.free_energy(eta) / (2 * 4 * root),
        expected=energy,
        tolerance=1e-4,
        source=source,
    )
    figure(
        f"10-90 % width over sqrt(kappa/m), gamma {gamma:g}",
        measured=(ninety - ten) / root,
        expected=width,
        tolerance=1e-3,
        relative=True,
        source=source,
    )
    figure(
        f"order parameters where they cross, gamma {gamma:g}",
        measured=float((eta[1, 0, 299] + eta[1, 0, 300]) / 2),
        expected=crossing,
        tolerance=1e-3,
        source=source,
    )
    assert law.boundary_cells == pytest.approx(width * root, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gamma", "k", "cells", "tolerance"),
    # Wide boundaries are the law's; the default of about 3 cells is slowed by its grid.
    [(1.5, 8.0, 192, 0.01), (2.0, 8.0, 192, 0.01), (1.5, 1.235, 80, 0.06), (2.0, 1.235, 80, 0.06)],
)
def test_a_circle_shrinks_by_curvature(figure: Figure, gamma: float, k: float, cells: int, tolerance: float) -> None:
    law = reduced((cells, cells), k, gamma=gamma)
    length = math.sqrt(8 * k)
    radius, smallest = min(10.2 * length, 0.44 * cells), 4.2 * length
    x = torch.arange(cells) + 0.5 - cells / 2
    stepper = started(law, (x[:, None] ** 2 + x**2 < radius**2).double())
    times, squared = [], []
    for time in np.linspace(0.03, 1, 13) * (radius**2 - smallest**2) / (2 * k):
        stepper.advance(float(time))
        times.append(float(time))
        squared.append(area(stepper, 1) / math.pi)
    assert math.sqrt(squared[-1]) > 4 * length
    figure(
        f"d(R^2)/dt of a circle over -2 L kappa, from {math.sqrt(squared[0]) / length:.1f} to "
        f"{math.sqrt(squared[-1]) / length:.1f} l, gamma {gamma:g}, boundary of {law.boundary_cells:.1f} cells",
        measured=slope(times, squared) / (-2 * k),
        expected=1,
        tolerance=tolerance,
        source=CURVATURE,
    )


@pytest.mark.slow
def test_a_sphere_shrinks_by_curvature(figure: Figure) -> None:
    """The equations of GrainGrowth, which is two-dimensional, by an integrator that is not."""
    grid, k, gamma, dt = Grid(shape=(48, 48, 48)), 1.62, 1.5, 0.2
    length = math.sqrt(8 * k)

    def rate(eta: Tensor, out: Tensor) -> None:
        lap = -7.5 * eta  # of fourth order, since the boundary is 4 cells wide
        for axis in (2, 3, 4):
            lap += (4 / 3) * (eta.roll(1, axis) + eta.roll(-1, axis))
            lap -= (1 / 12) * (eta.roll(2, axis) + eta.roll(-2, axis))
        squares = eta.square()
        others = squares.sum(dim=1, keepdim=True) - squares
        out.copy_(k * lap + eta * (1 - squares - 2 * gamma * others))

    eigenvalues = modes_of(grid).second_differences()
    stabiliser = 1 + k * sum((value * (1 + value / 12) for value in eigenvalues), torch.zeros(()))
    stepper = FixedStepBDF(
        grid=grid,
        rate=rate,
        stabiliser=stabiliser[None, None],
        order=2,
        schedule=[(1.0, dt / 10), (math.inf, dt)],
        bounds=(-0.1, 1.1),
    )
    x = torch.arange(48, dtype=torch.float64) + 0.5 - 24
    distance = (x[:, None, None] ** 2 + x[:, None] ** 2 + x**2).sqrt()
    inside = (1 - torch.tanh((distance - 6 * length) / math.sqrt(2 * k))) / 2
    stepper.start(torch.stack([inside, 1 - inside])[None])
    times, squared = [], []
    for time in np.linspace(3, 0.25 * (36 - 16.5) * length**2 / k, 12):
        stepper.advance(float(time))
        parts = stepper.u[0].square()
        volume = float((parts[0] / parts.sum(dim=0)).sum())
        times.append(float(time))
        squared.append((3 * volume / (4 * math.pi)) ** (2 / 3))
    assert math.sqrt(squared[-1]) > 4 * length
    figure(
        f"d(R^2)/dt of a sphere over -4 L kappa, from {math.sqrt(squared[0]) / length:.1f} to "
        f"{math.sqrt(squared[-1]) / length:.1f} l, gamma {gamma:g}, the integrator in 3-D",
        measured=slope(times, squared) / (-4 * k),
        expected=1,
        tolerance=0.01,
        source=CURVATURE,
    )


@pytest.mark.slow
@pytest.mark.parametrize("sides", [4, 5, 6, 7, 8])
def test_von_neumann_mullins(figure: Figure, sides: int) -> None:
    # A round grain among `sides` sectors of a ring, all inside one more grain.
    cells, inner, outer = 256, 40.0, 105.0
    x = torch.arange(cells) + 0.5 - cells / 2
    radius = (x[:, None] ** 2 + x**2).sqrt()
    angle = torch.atan2(x[:, None], x.expand(cells, cells)) + math.pi
    numbers = 2 + (angle / (2 * math.pi) * sides).floor().clamp(max=sides - 1)
    numbers[radius < inner], numbers[radius > outer] = 0, 1
    law = reduced((cells, cells), 3.0, order_parameters=None)
    stepper = started(law, numbers.double())
    times, areas = [], []
    for time in range(60, 160, 10):
        stepper.advance(float(time))
        times.append(float(time))
        areas.append(area(stepper, 0))
    rate = slope(times, areas) / (math.pi / 3 * law.k)
    if sides == 6:
        figure(
            "growth of a grain of 6 sides over (pi/3) L kappa",
            measured=rate,
            expected=0,
            tolerance=0.01,
            source="von Neumann-Mullins, Mullins (1956)",
        )
    else:
        figure(
            f"growth of a grain of {sides} sides over (pi/3) L kappa (n - 6)",
            measured=rate / (sides - 6),
            expected=1,
            tolerance=0.05,
            source="von Neumann-Mullins, Mullins (1956)",
        )


@pytest.mark.slow
def test_grain_growth_law(figure: Figure) -> None:
    law = reduced((256, 256), 1.0, grains=900, order_parameters=48)
    times = list(range(50, 210, 10))
    radii, means, left = np.zeros(len(times)), np.zeros(len(times)), []
    runs = 8  # the rates of single ones scatter by a tenth; boundaries of 3 cells are slowed by 6 % besides
    for index in range(runs):
        stepper = law.stepper()
        assert isinstance(stepper, GrainStepper)
        stepper.start(law.initial(generators(index)).float())
        for i, time in enumerate(times):
            stepper.advance(float(time))
            areas = stepper.trajectories[0].order.areas
            areas = areas[areas > 0]
            radii[i] += np.sqrt(areas / math.pi).mean() ** 2 / runs
            means[i] += areas.mean() / runs
        left.append(len(areas))
    assert min(left) >= 150
    source = "linear in time, Burke & Turnbull (1952); constant of another Fan-Chen solver"
    figure(
        f"d<R>^2/dt over L kappa, {runs} runs from 900 to {round(np.mean(left))} grains, t = 50 to 200, boundary of "
        f"{law.boundary_cells:.1f} cells",
        measured=slope(times, list(radii)),
        expected=0.36,
        tolerance=0.04,
        source=source,
    )
    figure("d<A>/dt over L kappa", measured=slope(times, list(means)), expected=1.30, tolerance=0.15, source=source)
    line = np.polyval(np.polyfit(times, radii, 1), times)
    figure(
        "<R>^2 against time, rms deviation from a straight line",
        measured=float(np.sqrt(np.mean((radii / line - 1) ** 2))),
        expected=0,
        tolerance=0.02,
        source="exponent 1/2, Burke & Turnbull (1952)",
    )


# --------------------------------------------------------------------- energy


@pytest.mark.parametrize(("precision", "rise"), [pytest.param("float64", 1e-8, marks=SLOW), ("float32", 1e-6)])
def test_energy_falls(figure: Figure, precision: str, rise: float) -> None:
    law = reduced((96, 80), 1.235, grains=50, order_parameters=10, precision=precision)
    stepper = started(law)
    stepper.advance(1.0)
    energy, worst = law.free_energy(stepper.order_parameters()), -math.inf
    for i in range(1, 100):
        stepper.advance(1.0 + i)
        after = law.free_energy(stepper.order_parameters())
        worst = max(worst, (after - energy) / energy)
        energy = after
    moves = stepper.trajectories[0].order.moves
    assert moves > 0
    figure(
        f"largest rise of the free energy between 100 times, relative, {moves} grains reassigned, {precision}",
        measured=max(worst, 0.0),
        expected=0,
        tolerance=rise,
        source="second law",
    )


# --------------------------------------------------- shared order parameters


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cells", "k", "grains", "fields"), [(128, 5.0, 83, 16), (128, 5.0, 83, 20), (192, 1.235, 56, 16)]
)
def test_reassigned_grains(figure: Figure, cells: int, k: float, grains: int, fields: int) -> None:
    settings = {"grains": grains, "grid": Grid(shape=(cells, cells))}
    shared, dense = (reduced((cells, cells), k, order_parameters=q, **settings) for q in (fields, None))
    worst, moves = 0.0, 0
    for index in range(3):
        one, other = shared.stepper(), dense.stepper()
        assert isinstance(one, GrainStepper)
        for stepper in (one, other):
            stepper.start(shared.initial(generators(index)).float())
        for time in range(10, 210, 10):
            one.advance(float(time))
            other.advance(float(time))
            worst = max(worst, rms(one.u[0, 0], other.u[0, 0]))
            numbers, own = one.u[0, 1], other.u[0, 1]
            assert abs(len(numbers.unique()) - len(own.unique())) <= 1  # the map lags a check while one vanishes
            assert float((numbers != own).float().mean()) < 0.01
        moves += one.trajectories[0].order.moves
    figure(
        f"sum eta^2 of {fields} shared fields against one per grain, the worst of 20 frames, rms: {grains} grains, "
        f"{cells}x{cells}, l {math.sqrt(8 * k):.1f}, {moves} reassigned",
        measured=worst,
        expected=0,
        tolerance=5e-3,
        source="dense model",
    )


# ------------------------------------------------------------------ accuracy


@pytest.mark.slow
def test_order_in_time(figure: Figure) -> None:
    def end(step: float) -> Tensor:
        law = reduced((64, 64), 1.235, gamma=2.0, grains=12, time_step=step, precision="float64", order_parameters=None)
        stepper = started(law)
        stepper.advance(3.92)
        return stepper.u[0, 0]

    longest, coarse, half, quarter, fine = (end(step) for step in (0.14, 0.07, 0.035, 0.0175, 0.004375))
    figure(
        "change on halving the step over that on halving it again, steps of 0.07",
        measured=rms(coarse, half) / rms(half, quarter),
        expected=2,
        tolerance=0.2,
        source="first order",
    )
    figure(
        "sum eta^2 with the default step, 0.14, at t = 3.92, rms",
        measured=rms(longest, fine),
        expected=0,
        tolerance=1e-3,
        source="steps of 0.004375",
    )


def test_precision(figure: Figure) -> None:
    low, high = (started(reduced((64, 64), 1.235, grains=12, precision=p)) for p in ("float32", "float64"))
    for stepper in (low, high):
        stepper.advance(50.0)
    figure(
        "float32 against float64, sum eta^2 at t = 50, rms",
        measured=rms(low.u[0, 0], high.u[0, 0]),
        expected=0,
        tolerance=4e-6,
        source="the same solver",
    )


# ------------------------------------------------------------------ any grid


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(192, 160), (81, 54)])
def test_any_grid(precision: str, shape: tuple[int, int]) -> None:
    coarsen = 4 if shape[0] % 4 == 0 else 3
    grid = Grid(shape=shape, spacing=1 / coarsen, coarsen=coarsen)
    one = GrainGrowth(grid=grid, grains=24, precision=precision, first_frame=2.0, frame_interval=2.0)
    frames = simulate(one, generators(0), 2)
    assert frames.dtype == torch.float32
    assert frames.shape == (1, 2, 2, *grid.image_shape)
    other = GrainGrowth(grid=Grid(shape=shape[::-1], spacing=1 / coarsen, coarsen=coarsen), precision=precision)
    stepper = started(other, one.initial(generators(0))[0, 1].T.contiguous())
    for time in (2.0, 4.0):
        stepper.advance(time)
    turned = other.image(stepper.u)[0].transpose(1, 2)
    assert rms(turned[0], frames[0, 1, 0]) < 1e-4
    assert float((turned[1] == frames[0, 1, 1]).float().mean()) > 0.99


# ------------------------------------------------------------------ refusals


def test_unstable_steps_are_refused_with_their_limit() -> None:
    # The limit 2 / (8 k + max(2, 2 gamma - 1)) of Euler's steps, proven for the five-point stencil.
    for gamma, k, limit in ((2.0, 1.235, "0.1553"), (3.0, 2.0, "0.09524"), (1.0, 2.0, "0.1111")):
        with pytest.raises(ValueError, match=f"time_step must be above 0 and at most {limit}, the stability limit"):
            reduced((32, 32), k, gamma=gamma, time_step=float(limit) * 1.01)
        reduced((32, 32), k, gamma=gamma, time_step=float(limit) * 0.999)
    with pytest.raises(ValueError, match=r"boundary is 2.83 cells wide \(10-90 %\), but needs 3"):
        reduced((32, 32), 1.0, gamma=2.0)


def test_a_number_that_is_not_finite_names_trajectory_time_and_step() -> None:
    law = GrainGrowth(grid=Grid(shape=(64, 64), spacing=0.25, coarsen=4), grains=20)
    stepper = law.stepper()
    assert isinstance(stepper, GrainStepper)
    stepper.start(law.initial(generators(0, 1)).float())
    stepper.advance(0.5)
    stepper.trajectories[1].order.eta[3, 3, 3] = np.nan
    with pytest.raises(
        StepError, match=r"at time 0\.[56]\d* an order parameter is not finite \(step 0\.00\d+\)"
    ) as raised:
        stepper.advance(1.0)
    assert raised.value.index == 1
