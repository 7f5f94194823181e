"""No-flux walls.

A problem between walls is one half, along each axis, of a periodic problem that starts from its even reflection. Grain
growth is in cells and 1/(L m), dendrites in the units of Kobayashi's model.
"""

import itertools
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import starts
import torch
from figures import Figure
from torch import Tensor

from microevo.processes import DendriticSolidification, GrainGrowth, Grid, simulate
from microevo.processes.dendrite import DendriteStepper
from microevo.processes.grain_stepper import GrainStepper, euler_torch
from microevo.processes.kernels.grain_growth import SMALLEST, disc, euler_kernel, near
from microevo.processes.shared_order import SharedOrder

SLOW = pytest.mark.slow
FIELDS = 10  # of all grains here: the kernel is compiled for each number
EVEN = "even reflection on a periodic grid of twice the size"

generators = partial(starts.generators, seed=5)


def walled(*shape: int, spacing: float = 1.0) -> Grid:
    return Grid(shape=shape, spacing=spacing, boundary="no-flux")


def doubled(grid: Grid) -> Grid:
    return replace(grid, shape=tuple(2 * cells for cells in grid.shape), boundary="periodic")


def reflected(u: Tensor) -> Tensor:
    """A field between walls and its mirror images, over the last two axes."""
    for axis in (-2, -1):
        u = torch.cat([u, u.flip(axis)], dim=axis)
    return u


def grains(grid: Grid, k: float = 1.235, **settings: object) -> GrainGrowth:
    defaults = {"k": k, "mobility": k, "gamma": 1.5, "precision": "float64", "order_parameters": FIELDS}
    return GrainGrowth(grid=grid, **(defaults | settings))


def started(law: GrainGrowth, numbers: Tensor) -> GrainStepper:
    stepper = law.stepper()
    assert isinstance(stepper, GrainStepper)
    stepper.start(torch.stack([torch.ones_like(numbers), numbers])[None].to(law.dtype))
    return stepper


def polycrystal(law: GrainGrowth) -> Tensor:
    return law.initial(generators(0))[0, 1]


def area(stepper: GrainStepper, grain: int) -> float:
    """Of a grain, by its share of `sum eta^2`."""
    squares = stepper.order_parameters().double().square()
    return float((squares[stepper.trajectories[0].order.field_of[grain]] / squares.sum(dim=0)).sum())


# ------------------------------------------------------------------- grains


@pytest.mark.parametrize(
    ("shape", "count", "fields"),
    [
        ((96, 80), 60, FIELDS),
        pytest.param((150, 121), 130, FIELDS, marks=SLOW),
        pytest.param((96, 80), 60, None, marks=SLOW),
    ],
)
def test_grains_are_those_of_the_reflected_problem(
    figure: Figure, shape: tuple[int, int], count: int, fields: int | None
) -> None:
    law = grains(walled(*shape), grains=count, order_parameters=fields)
    whole = replace(law, grid=doubled(law.grid))
    numbers = polycrystal(law)
    one, other = started(law, numbers), started(whole, reflected(numbers))
    inside = (..., slice(shape[0]), slice(shape[1]))
    before, after = 0.0, 0.0
    for time in range(1, 102, 4):
        moves = one.trajectories[0].order.moves
        one.advance(float(time))
        other.advance(float(time))
        eta, images = one.order_parameters(), other.order_parameters()
        assert torch.equal(one.u[0, 1], other.u[0, 1][inside])
        assert one.trajectories[0].order.moves == other.trajectories[0].order.moves
        assert 4 * law.free_energy(eta) == pytest.approx(whole.free_energy(reflected(eta)), rel=1e-12)
        difference = float((eta - images[inside]).abs().max())
        before, after = (max(before, difference), after) if not moves else (before, max(after, difference))
    moves = one.trajectories[0].order.moves
    where = f"grain growth, {shape[0]}x{shape[1]}, {count} grains, {fields or 'dense'}"
    figure(
        f"{where}, largest difference of an order parameter" + " until the first grain is reassigned" * bool(fields),
        measured=before,
        expected=0,
        tolerance=1e-12,
        source=EVEN,
    )
    if fields:
        assert moves > 0
        # A reassigned grain is cut where two grains are equally far, and of equals the first in the order of the cells
        # counts: the periodic images then are no longer exact ones, and this reaches the original.
        figure(f"{where}, the same after {moves} reassigned", measured=after, expected=0, tolerance=1e-5, source=EVEN)


@pytest.mark.parametrize(("precision", "rise"), [("float64", 1e-8), pytest.param("float32", 1e-6, marks=SLOW)])
def test_energy_of_grains_falls(figure: Figure, precision: str, rise: float) -> None:
    law = grains(walled(96, 80), grains=60, precision=precision)
    stepper = started(law, polycrystal(law))
    energies = []
    for time in range(1, 100):
        stepper.advance(float(time))
        energies.append(law.free_energy(stepper.order_parameters()))
    assert stepper.trajectories[0].order.moves > 0
    figure(
        f"largest rise of the free energy of grains between 100 times, relative, {precision}",
        measured=max(0.0, *((after - before) / before for before, after in itertools.pairwise(energies))),
        expected=0,
        tolerance=rise,
        source="second law",
    )


def quarter_and_full(k: float, cells: int) -> tuple[float, float]:
    """d(R^2)/dt of a quarter of a circle in a corner and of a full circle, over -2 k."""
    radius, smallest = 0.8 * cells, 4.2 * math.sqrt(8 * k)
    corner, middle = torch.arange(cells) + 0.5, torch.arange(2 * cells) + 0.5 - cells
    rates = []
    for grid, x, part in ((walled(cells, cells), corner, 4), (Grid(shape=(2 * cells,) * 2), middle, 1)):
        stepper = started(grains(grid, k), (x[:, None] ** 2 + x**2 < radius**2).double())
        times, squared = np.linspace(0.1, 1, 7) * (radius**2 - smallest**2) / (2 * k), []
        for time in times:
            stepper.advance(float(time))
            squared.append(part * area(stepper, 1) / math.pi)
        rates.append(float(np.polyfit(times, squared, 1)[0]) / (-2 * k))
    return rates[0], rates[1]


@pytest.mark.parametrize(("k", "cells"), [(4.0, 44), pytest.param(8.0, 90, marks=SLOW)])
def test_a_quarter_of_a_circle_in_a_corner_shrinks_like_the_circle(figure: Figure, k: float, cells: int) -> None:
    quarter, full = quarter_and_full(k, cells)
    figure(
        f"d(R^2)/dt of a quarter of a circle in a corner over -2 L kappa, k = {k:g}, R {0.8 * cells:.0f} cells",
        measured=quarter,
        expected=1,
        tolerance=0.01,
        source="motion by curvature, Allen & Cahn (1979)",
    )
    figure(
        f"the same over that of the full circle, k = {k:g}",
        measured=quarter / full,
        expected=1,
        tolerance=1e-6,
        source="symmetry of the equations",
    )


@pytest.mark.parametrize("k", [4.0, pytest.param(8.0, marks=SLOW)])
def test_a_boundary_meets_a_wall_at_a_right_angle(figure: Figure, k: float) -> None:
    """A tilted boundary straightens as the diffusion equation of its position has it, for small slopes."""
    rows, columns, tilt = 64, 64, 0.2
    y, x = torch.arange(rows) + 0.5, torch.arange(columns) + 0.5 - columns / 2
    stepper = started(grains(walled(rows, columns), k), (x > tilt * (y[:, None] - rows / 2)).double())
    places = []
    times = (0.04 * rows**2 / k, 0.09 * rows**2 / k)
    for time in times:
        stepper.advance(time)
        # Where the grains are equally strong, along each row.
        apart = (stepper.order_parameters()[1] - stepper.order_parameters()[0]).numpy()
        places.append(np.array([np.interp(0, row, x.numpy()) for row in apart]))
    for wall, place in (("first", places[0]), ("last", places[0][::-1])):
        # The slope at the wall, half a cell from the first row, of a parabola through the nearest cells.
        slope = np.polynomial.Polynomial.fit(y[:8], place[:8], 2).deriv()(0.0)
        figure(
            f"angle between a grain boundary and the {wall} wall [degrees], boundary of {3.107 * math.sqrt(k):.1f} cells",
            measured=90 - math.degrees(math.atan(float(slope))),
            expected=90,
            tolerance=0.3,
            source="no torque at a wall of equal energies",
        )
    assert np.ptp(places[0]) > 0.5 * tilt * rows  # it is still tilted in between
    modes = np.arange(1, 40, 2)[:, None]
    for time, place in zip(times, places, strict=True):
        series = (
            np.cos(math.pi * modes * y.numpy() / rows) / modes**2 * np.exp(-k * (math.pi * modes / rows) ** 2 * time)
        )
        expected = -4 * tilt * rows / math.pi**2 * series.sum(axis=0)
        figure(
            f"tilted grain boundary between walls after {time:.0f}, largest deviation [cells], k = {k:g}",
            measured=float(np.abs(place - expected).max()),
            expected=0,
            tolerance=0.02 * tilt * rows,
            source="diffusion equation of its position, to the square of its slope",
        )


@pytest.mark.parametrize("shape", [(24, 40), (9, 14)])
def test_distances_between_grains_do_not_cross_a_wall(shape: tuple[int, int]) -> None:
    numbers = polycrystal(grains(walled(*shape), grains=9)).numpy().astype(np.int32)
    assert len(np.unique(numbers)) == 9
    cells = [np.argwhere(numbers == grain) for grain in range(9)]
    expected = np.full((9, 9), np.inf)
    for i, j in itertools.permutations(range(9), 2):
        expected[i, j] = ((cells[i][:, None] - cells[j]) ** 2).sum(axis=2).min()
    expected[expected > 12.0**2] = np.inf
    assert np.array_equal(near(numbers, np.zeros(9, np.int32), disc(12.0), True), expected)


@pytest.mark.parametrize(("walls", "grain"), [(False, 1), (True, 0)])
def test_a_cell_takes_its_number_from_its_own_side_of_a_wall(walls: bool, grain: int) -> None:
    ids = np.full((24, 24), 2)
    ids[6:9], ids[20:] = 0, 1
    order = SharedOrder(ids, None, 3.0, np.dtype(np.float64), walls)
    order.field_of = np.array([0, 0, 1], dtype=np.int32)
    order.eta = np.stack([ids != 2, ids == 2], axis=2).astype(np.float64)
    order.eta[0, 12] = (1, 0)  # next to grain 1 across the border, six cells from grain 0
    order.track()
    assert order.ids[0, 12] == grain


def test_grains_start_as_the_points_nearest_inside_the_walls() -> None:
    law = grains(walled(32, 24), grains=20)
    assert torch.equal(polycrystal(law), polycrystal(replace(law, cut=True)))
    assert torch.equal(polycrystal(law), polycrystal(replace(law, grid=Grid(shape=(32, 24)), cut=True)))
    assert not torch.equal(polycrystal(law), polycrystal(replace(law, grid=Grid(shape=(32, 24)))))


def test_tensor_operations_step_like_the_compiled_kernel() -> None:
    eta = torch.rand((6, 9, FIELDS), generator=generators(0)[0], dtype=torch.float64) / 2
    coefficients = (0.44, 0.42, 0.56, 0.17, SMALLEST)
    for steps in (1, 2, 3):
        fields, spare = eta.numpy().copy(), np.empty(eta.shape)
        euler_kernel(FIELDS, True)(fields, spare, *coefficients, steps)
        expected = spare if steps % 2 else fields
        np.testing.assert_allclose(euler_torch(eta, steps, *coefficients, walls=True).numpy(), expected, rtol=1e-12)


def test_grains_are_the_same_bytes_in_any_batch() -> None:
    law = grains(Grid(shape=(48, 64), spacing=0.25, coarsen=4, boundary="no-flux"), first_frame=1.0)
    values = {"mobility": [1.1, 2.0, 1.5], "grains": [14.6, 25.2, 20.0]}
    together = simulate(law, generators(0, 1, 2), 3, law.vary(values))
    assert together.shape == (3, 3, 2, 12, 16)
    for i in range(3):
        alone = replace(law, mobility=values["mobility"][i], grains=round(values["grains"][i]))
        assert torch.equal(together[i : i + 1], simulate(alone, generators(i), 3))


# ---------------------------------------------------------------- dendrites


def dendrite(grid: Grid, **settings: object) -> DendriticSolidification:
    return DendriticSolidification(grid=grid, **({"precision": "float64", "seed_radius": 0.2} | settings))


def seeded(law: DendriticSolidification) -> Tensor:
    """A round seed that touches two walls, in a cold melt (2, y, x)."""
    y, x = (law.grid.spacing * (torch.arange(n, dtype=torch.float64) + 0.5) for n in law.grid.shape)
    phi = ((y[:, None] - 0.2) ** 2 + (x - 0.35) ** 2 < 0.4**2).double()
    return torch.stack([phi, torch.zeros_like(phi)])


def at(law: DendriticSolidification, u0: Tensor) -> DendriteStepper:
    stepper = law.stepper()
    assert isinstance(stepper, DendriteStepper)
    stepper.start(u0[None].to(law.dtype))
    return stepper


@pytest.mark.parametrize(
    ("mode", "theta0", "shape", "heat"),
    [
        (6, 0.0, (31, 40), "explicit"),
        (6, 16.3, (40, 37), "implicit"),
        (4, -20.0, (33, 35), "explicit"),
        (4, 45.0, (40, 40), "implicit"),
        pytest.param(6, 16.3, (101, 90), "explicit", marks=SLOW),
        pytest.param(4, -20.0, (101, 90), "implicit", marks=SLOW),
    ],
)
def test_dendrites_are_those_of_the_reflected_problem(
    figure: Figure, mode: int, theta0: float, shape: tuple[int, int], heat: str
) -> None:
    law = dendrite(walled(*shape, spacing=0.03), heat=heat, mode=mode, theta0=theta0, delta=0.04)
    u0 = seeded(law)
    one, other = at(law, u0), at(replace(law, grid=doubled(law.grid)), reflected(u0))
    # Mirror images grow under the mirrored angle, which an axis of the crystal along the walls leaves as it is.
    turned = reflected(torch.ones(shape, dtype=torch.float64))
    turned[shape[0] :] *= -1
    turned[:, shape[1] :] *= -1
    other.groups = [replace(group, sine=group.sine * turned) for group in other.groups]
    worst = 0.0
    for time in (0.004, 0.012, 0.024):
        one.advance(time)
        other.advance(time)
        worst = max(worst, float((one.u - other.u[..., : shape[0], : shape[1]]).abs().max()))
    phi = one.u[0, 0]
    assert all(float(border.max()) > 0.9 and float(border.min()) < 0.1 for border in (phi[0], phi[:, 0]))
    figure(
        f"dendrite, {mode} branches, theta0 {theta0:g}, {shape[0]}x{shape[1]}, {heat} heat, largest difference of phi and T",
        measured=worst,
        expected=0,
        tolerance=1e-11,
        source=EVEN,
    )


@pytest.mark.parametrize("heat", ["explicit", "implicit"])
@pytest.mark.parametrize(("precision", "drift"), [("float64", 1e-13), ("float32", 1e-6)])
def test_heat_between_walls_is_that_of_the_solid(figure: Figure, precision: str, drift: float, heat: str) -> None:
    law = dendrite(walled(48, 41, spacing=0.03), precision=precision, heat=heat)
    stepper = at(law, seeded(law))
    means = []
    for time in (0.0, 0.05):
        stepper.advance(time)
        phi, temperature = stepper.u[0].double()
        means.append((float(phi.mean()), float((temperature - law.latent_heat * phi).mean())))
    assert means[1][0] > 1.5 * means[0][0]
    figure(
        f"drift of the mean of T - K phi between walls, {heat} heat, {precision}",
        measured=abs(means[1][1] - means[0][1]),
        expected=0,
        tolerance=drift,
        source="conservation law",
    )


@pytest.mark.parametrize("mode", [4, 6])
def test_no_flux_of_the_phase_passes_a_wall(mode: int) -> None:
    """At the equilibrium temperature phi changes by its fluxes and by the double well, whose sum is known."""
    law = dendrite(walled(30, 37, spacing=0.03), mode=mode, theta0=10.0, delta=0.2)
    phi = torch.rand(law.grid.shape, generator=generators(0)[0], dtype=torch.float64)
    stepper = at(law, torch.stack([phi, torch.full_like(phi, law.undercooling)]))
    stepper.advance(law.dt)
    change = (stepper.u[0, 0] - phi) * law.tau / law.dt
    by_fluxes = change - phi * (1 - phi) * (phi - 0.5)
    assert float(by_fluxes.abs().mean()) > 1e-2
    assert abs(float(by_fluxes.mean())) < 1e-13


@pytest.mark.parametrize(("heat", "dt"), [("explicit", 1e-4), ("implicit", 4e-4)])
@pytest.mark.parametrize("shape", [(48, 36), (31, 33)])
def test_heat_between_walls_diffuses_by_cosine_modes(heat: str, dt: float, shape: tuple[int, int]) -> None:
    law = dendrite(walled(*shape, spacing=0.03), heat=heat, dt=dt, tau=1e-3)
    along = [torch.cos(math.pi * m * (torch.arange(n) + 0.5).double() / n) for m, n in zip((3, 2), shape, strict=True)]
    wave = along[0][:, None] * along[1]
    stepper = at(law, torch.stack([torch.zeros_like(wave), wave]))
    stepper.advance(100 * dt)
    stiffness = sum(2 - 2 * math.cos(math.pi * m / n) for m, n in zip((3, 2), shape, strict=True)) / 0.03**2
    factor = 1 - dt * stiffness if heat == "explicit" else 1 / (1 + dt * stiffness)
    torch.testing.assert_close(stepper.u[0, 1], factor**100 * wave, atol=1e-12, rtol=0)


@pytest.mark.parametrize("heat", ["explicit", "implicit"])
def test_dendrites_are_the_same_bytes_in_any_batch(heat: str) -> None:
    law = dendrite(Grid(shape=(36, 54), spacing=0.03, coarsen=2, boundary="no-flux"), heat=heat, precision="float32")
    values = {"delta": [0.02, 0.03, 0.01], "theta0": [10.0, -20.0, 30.0], "seed_radius": [0.4, 0.3, 0.2]}
    together = simulate(law, generators(0, 1, 2), 6, law.vary(values))
    assert together.shape == (3, 6, 2, 18, 27)
    assert float(together[:, -1, 0].amax(dim=(1, 2)).min()) > 0.9
    for i in range(3):
        alone = replace(law, **{name: value[i] for name, value in values.items()})
        assert torch.equal(together[i : i + 1], simulate(alone, generators(0), 6))


@SLOW
@pytest.mark.parametrize("heat", ["explicit", "implicit"])
def test_a_crystal_in_a_corner_is_a_quarter_of_a_crystal(figure: Figure, heat: str) -> None:
    """The four-fold crystal of a periodic grid is symmetric about its middle, where walls may stand."""
    law = dendrite(Grid(shape=(256, 256), spacing=0.03), mode=4, theta0=0.0, delta=0.04, heat=heat)
    whole = law.initial(generators(0))[0]
    quarter = replace(law, grid=walled(128, 128, spacing=0.03))
    one, other = at(law, whole), at(quarter, whole[:, 128:, 128:])
    for stepper in (one, other):
        stepper.advance(0.1)
    assert float(other.u[0, 0].mean()) > 3 * float(whole[0].mean())
    figure(
        f"four-fold crystal of 256x256 against its quarter between walls, t = 0.1, {heat} heat, largest difference",
        measured=float((one.u[..., 128:, 128:] - other.u).abs().max()),
        expected=0,
        tolerance=1e-8,
        source="symmetry of the equations",
    )


# ----------------------------------------------------------------- refusals


@pytest.mark.parametrize("law", [GrainGrowth, DendriticSolidification])
def test_walls_in_three_dimensions_are_refused(law: type) -> None:
    with pytest.raises(ValueError, match=r"two dimensions, but the shape of the grid is \(32, 32, 32\)"):
        law(grid=walled(32, 32, 32, spacing=0.03))
