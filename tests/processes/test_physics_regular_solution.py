"""Spinodal decomposition: regular solution, degenerate mobility.

Lengths are pixels and times frames of the data sets; the parameters are the defaults but for the grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from figures import Figure
from scipy import integrate, optimize
from starts import generators, mass_stays_and_energy_falls
from torch import Tensor

from microevo.processes import Grid, RegularSolution, rollout, simulate

SLOW = pytest.mark.slow
OMEGA, KAPPA, D, MEAN = 4.83, 2.585, 94.0, 0.7507


def law(shape: tuple[int, ...], boundary: str = "no-flux", **settings: object) -> RegularSolution:
    fixed = {"omega": OMEGA, "kappa": KAPPA, "diffusivity": D, "composition": MEAN, "noise": 0.02}
    return RegularSolution(**({"grid": Grid(shape=shape, spacing=0.5, boundary=boundary)} | fixed | settings))


def run(process: RegularSolution, u0: Tensor, *times: float, step: float | None = None) -> Tensor:
    """The field at the last time, by the process's own steps or by equal ones from the start."""
    stepper = process.stepper()
    if step is not None:
        stepper.schedule = [(math.inf, step)]
    stepper.start(u0.to(process.dtype))
    for time in times:
        stepper.advance(time)
    return stepper.u


def distance(a: Tensor, b: Tensor) -> float:
    """Relative to the deviation from the mean."""
    return float((a.double() - b.double()).norm() / (b - b.mean()).double().norm())


# --------------------------------------------------------------- conservation


@pytest.mark.parametrize(
    ("boundary", "shape", "scheme"),
    [
        ("no-flux", (32, 28), "accurate"),
        pytest.param("periodic", (32, 28), "accurate", marks=SLOW),
        pytest.param("no-flux", (32, 28), "fast", marks=SLOW),
        pytest.param("no-flux", (12, 10, 14), "accurate", marks=SLOW),
    ],
)
@pytest.mark.parametrize(("precision", "drift", "rise"), [("float64", 1e-13, 1e-8), ("float32", 1e-7, 1e-6)])
def test_mass_stays_and_energy_falls(
    figure: Figure, boundary: str, shape: tuple[int, ...], scheme: str, precision: str, drift: float, rise: float
) -> None:
    process = law(shape, boundary, scheme=scheme, precision=precision)
    where = f"{len(shape)}-D, {'walls' if boundary == 'no-flux' else boundary}, {scheme}, {precision}"
    times = [1e-4 * i * i / 2 for i in range(1, 101)]
    u = mass_stays_and_energy_falls(figure, process, times, drift=drift, rise=rise, where=where)
    assert float(u.max() - u.min()) > 0.9  # it has unmixed


# --------------------------------------------------------------- closed forms


@pytest.mark.parametrize(
    ("boundary", "shape", "numbers"),
    [
        pytest.param("periodic", (32, 40), [(1, 0), (2, 1), (0, 3), (1, 2)], marks=SLOW),
        ("no-flux", (24, 20), [(1, 1), (2, 3), (4, 0), (0, 3)]),
        pytest.param("no-flux", (12, 12, 8), [(1, 0, 1), (2, 1, 0), (1, 1, 0)], marks=SLOW),
    ],
)
def test_dispersion(figure: Figure, boundary: str, shape: tuple[int, ...], numbers: list[tuple[int, ...]]) -> None:
    process = law(shape, boundary, precision="float64")
    x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) + 0.5 for n in shape), indexing="ij")
    waves, rates = [], []
    for wave in numbers:
        angles = [
            (2 if boundary == "periodic" else 1) * math.pi * n / cells for n, cells in zip(wave, shape, strict=True)
        ]
        waves.append(math.prod((torch.cos(a * xi) for a, xi in zip(angles, x, strict=True)), start=torch.tensor(1.0)))
        # Of the differences that the equation is discretised with: second order in the flux, fourth in mu.
        k2 = [(2 - 2 * math.cos(a)) / 0.5**2 for a in angles]
        k4 = sum(k * (1 + k * 0.5**2 / 12) for k in k2)
        mixing = MEAN * (1 - MEAN)
        rates.append(-D * mixing * sum(k2) * (1 / mixing - 2 * OMEGA + KAPPA * k4))
    wave, rate = torch.stack(waves)[:, None].double(), torch.tensor(rates, dtype=torch.float64)
    assert bool((rate > 5).all())

    def error(dt: float) -> Tensor:
        stepper = process.stepper()
        stepper.schedule = [(math.inf, dt)]
        stepper.start(MEAN + 1e-6 * wave)
        amplitudes = []
        for time in (0.03, 0.13):  # later, rounding noise in the fastest mode overtakes slow ones
            stepper.advance(time)
            amplitudes.append(((stepper.u - MEAN) * wave).flatten(1).sum(1))
        return (amplitudes[1] / amplitudes[0]).log() / 0.1 / rate - 1

    coarse, fine = error(5e-4), error(2.5e-4)
    cells = "x".join(map(str, shape))
    where = f"{cells} cells, {'walls' if boundary == 'no-flux' else boundary}"
    figure(
        f"growth rate of {len(numbers)} waves over that of theory, less 1, steps of 5e-4, {where}, the worst",
        measured=float(coarse[coarse.abs().argmax()]),
        expected=0,
        tolerance=2e-3,
        source="linear stability, Cahn & Hilliard (1958)",
    )
    figure(
        f"the same over that with half the steps, the fastest wave, {where}",
        measured=float((coarse / fine)[rate.argmax()]),
        expected=4,
        tolerance=0.5,
        source="second order",
    )


def equilibrium() -> tuple[float, float]:
    """Composition of the dilute phase, and energy of a flat interface, by quadrature."""

    def density(c: float) -> float:
        return OMEGA * c * (1 - c) + c * math.log(c) + (1 - c) * math.log(1 - c)

    well = optimize.brentq(lambda c: math.log(c / (1 - c)) + OMEGA * (1 - 2 * c), 1e-6, 0.1, xtol=1e-15)
    energy, _ = integrate.quad(lambda c: math.sqrt(max(0.0, 2 * KAPPA * (density(c) - density(well)))), well, 1 - well)
    return well, energy


@pytest.mark.parametrize("boundary", [pytest.param("periodic", marks=SLOW), "no-flux"])
def test_equilibrium(figure: Figure, boundary: str) -> None:
    well, sigma = equilibrium()
    cells = 56 if boundary == "periodic" else 28
    process = law((2, cells), boundary, precision="float64")
    x = 0.5 * (torch.arange(cells, dtype=torch.float64) + 0.5)
    slab = 0.5 + 0.49 * torch.tanh((7 - (x - 14).abs()) / 0.7)
    u = run(process, slab.expand(1, 1, 2, cells).contiguous(), 12.0, step=0.004)
    mu = process.chemical_potential(u)
    bulk = OMEGA * well * (1 - well) + well * math.log(well) + (1 - well) * math.log(1 - well)
    interfaces = 2 if boundary == "periodic" else 1
    energy = (float(process.free_energy(u)) - bulk * u.numel() * 0.25) / (interfaces * 2 * 0.5)
    where = "walls" if boundary == "no-flux" else boundary
    quadrature = "common tangent, quadrature"
    figure(
        f"composition of the dilute phase, {where}",
        measured=float(u.min()),
        expected=well,
        tolerance=5e-5,
        source=quadrature,
    )
    figure(
        f"composition of the other phase, {where}",
        measured=float(u.max()),
        expected=1 - well,
        tolerance=5e-5,
        source=quadrature,
    )
    figure(
        f"spread of the chemical potential of a slab at rest [kT], {where}",
        measured=float(mu.max() - mu.min()),
        expected=0,
        tolerance=1e-8,
        source="equilibrium",
    )
    figure(
        f"energy of a flat interface [kT px], {where}",
        measured=energy,
        expected=sigma,
        tolerance=5e-3,
        relative=True,
        source="Cahn & Hilliard (1958), quadrature",
    )


def test_constants_are_those_of_quadrature() -> None:
    well, sigma = equilibrium()
    assert well == pytest.approx(0.008604, abs=1e-6)
    assert sigma == pytest.approx(0.7385 * math.sqrt(KAPPA), rel=1e-4)
    process = law((32, 32))
    assert float(process.wells[0]) == pytest.approx(well, abs=1e-9)
    assert float(process.interface_energy) == pytest.approx(sigma, rel=1e-5)


# ------------------------------------------------------------------ accuracy


def rate_of_change(c: np.ndarray, boundary: str) -> np.ndarray:
    """The right-hand side, written a second time: arrays with ghost cells, no transform, no shared code."""
    mode = {"periodic": "wrap", "no-flux": "symmetric"}[boundary]
    h = 0.5

    def moved(padded: np.ndarray, width: int, axis: int, by: int) -> np.ndarray:
        start = [width, width]
        start[axis] += by
        return padded[start[0] : start[0] + c.shape[0], start[1] : start[1] + c.shape[1]]

    two = np.pad(c, 2, mode=mode)
    laplacian = sum(
        (
            16 * (moved(two, 2, axis, 1) + moved(two, 2, axis, -1))
            - moved(two, 2, axis, 2)
            - moved(two, 2, axis, -2)
            - 30 * c
        )
        / (12 * h**2)
        for axis in (0, 1)
    )
    inside = np.clip(c, 1e-5, 1 - 1e-5)
    mu = np.pad(np.log(inside / (1 - inside)) + OMEGA * (1 - 2 * c) - KAPPA * laplacian, 1, mode=mode)
    one = np.pad(inside, 1, mode=mode)
    total = np.zeros_like(c)
    for axis in (0, 1):
        for side in (1, -1):
            a = (inside + moved(one, 1, axis, side)) / 2
            total += D * a * (1 - a) * (moved(mu, 1, axis, side) - moved(mu, 1, axis, 0)) / h**2
    return total


def rkl2(c: np.ndarray, boundary: str, time: float, tau: float, stages: int) -> np.ndarray:
    """Runge-Kutta-Legendre of second order (Meyer, Balsara & Aslam, J. Comput. Phys. 257 (2014) 594)."""
    j = np.arange(stages + 1)
    b = np.full(stages + 1, 1 / 3)
    b[2:] = (j[2:] ** 2 + j[2:] - 2) / (2 * j[2:] * (j[2:] + 1))
    w = 4 / (stages**2 + stages - 2)
    for _ in range(round(time / tau)):
        first = tau * rate_of_change(c, boundary)
        before, now = c, c + b[1] * w * first
        for i in range(2, stages + 1):
            mu, nu = (2 * i - 1) / i * b[i] / b[i - 1], -(i - 1) / i * b[i] / b[i - 2]
            step = tau * rate_of_change(now, boundary)
            after = mu * now + nu * before + (1 - mu - nu) * c + mu * w * (step - (1 - b[i - 1]) * first)
            before, now = now, after
        c = now
    return c


@pytest.mark.slow
@pytest.mark.parametrize(("boundary", "shape"), [("periodic", (128, 128)), ("no-flux", (96, 80))])
def test_another_integrator(figure: Figure, boundary: str, shape: tuple[int, ...]) -> None:
    process = law(shape, boundary, precision="float64")
    early = run(process, process.initial(generators(0)), 5.0)
    late = run(process, early, 5.0, step=0.004)
    assert distance(late, early) > 0.1
    # 131 stages are stable to 0.11; one explicit step would be to 2.6e-5.
    other = torch.from_numpy(rkl2(early[0, 0].numpy(), boundary, 5.0, 0.1, 131))
    figure(
        f"field from frame 5 to 10, steps of 0.004, against RKL2, {'walls' if boundary == 'no-flux' else boundary}, "
        f"{'x'.join(map(str, shape))} cells",
        measured=distance(late[0, 0], other),
        expected=0,
        tolerance=1e-3,
        source="Meyer, Balsara & Aslam (2014)",
    )


@pytest.fixture(scope="module")
def smooth() -> Tensor:
    process = law((24, 24), precision="float64")
    return run(process, process.initial(generators(0, 1)), 1.5)


@pytest.mark.slow
def test_order_in_time(figure: Figure, smooth: Tensor) -> None:
    def end(scheme: str, step: float) -> Tensor:
        return run(law((24, 24), precision="float64", scheme=scheme), smooth, 0.48, step=step)

    truth = end("accurate", 2.5e-4)
    assert distance(truth, smooth) > 0.01
    coarse, half, quarter = (distance(end("accurate", step), truth) for step in (0.004, 0.002, 0.001))
    for name, ratio in (("0.004 and 0.002", coarse / half), ("0.002 and 0.001", half / quarter)):
        figure(
            f"error at a step over that at half of it, accurate, steps {name}",
            measured=ratio,
            expected=4,
            tolerance=0.5,
            source="second order",
        )
    half, quarter = (distance(end("fast", step), truth) for step in (0.002, 0.001))
    figure(
        "error at a step over that at half of it, fast, steps 0.002 and 0.001",
        measured=half / quarter,
        expected=2,
        tolerance=0.2,
        source="first order",
    )


@pytest.mark.slow
def test_precision(figure: Figure) -> None:
    low, high = (law((32, 24), precision=precision) for precision in ("float32", "float64"))
    u0 = low.initial(generators(0, 1)).float()
    figure(
        "float32 against float64 at frame 2",
        measured=distance(run(low, u0, 2.0), run(high, u0, 2.0)),
        expected=0,
        tolerance=3e-3,
        source="the same solver",
    )


# ------------------------------------------------------------------ any grid


@pytest.mark.parametrize("precision", ["float32", pytest.param("float64", marks=SLOW)])
@pytest.mark.parametrize(
    ("boundary", "shape"),
    [
        ("no-flux", (96, 80)),
        ("periodic", (96, 80)),
        pytest.param("no-flux", (12, 10, 14), marks=SLOW),
        pytest.param("periodic", (10, 12, 14), marks=SLOW),
    ],
)
def test_any_grid(precision: str, boundary: str, shape: tuple[int, ...]) -> None:
    def of(cells: tuple[int, ...]) -> RegularSolution:
        grid = Grid(shape=cells, spacing=0.5, coarsen=2, boundary=boundary)
        return law(cells, grid=grid, precision=precision, first_frame=0.1, frame_interval=0.1)

    one, other = of(shape), of(shape[::-1])
    frames = simulate(one, generators(0, 1), 3)
    assert frames.dtype == torch.float32
    assert frames.shape == (2, 3, 1, *(n // 2 for n in shape))
    # Turned, the axes change their roles in every transform and difference.
    turned = run(other, one.initial(generators(0, 1)).movedim((2, -1), (-1, 2)).contiguous(), 0.1, 0.2, 0.3)
    turned = other.image(turned).movedim((2, -1), (-1, 2))
    assert float(turned.max() - turned.min()) > 0.5
    assert distance(turned, frames[:, 2]) < (1e-3 if precision == "float32" else 1e-6)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize("value", [math.nan, math.inf, 3.0])
def test_a_start_out_of_bounds_names_trajectory_time_and_step(value: float) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Corrupted(RegularSolution):
        def initial(self, generators: Sequence[torch.Generator], p: object = None) -> Tensor:
            u = super().initial(generators, p)
            u[1, 0, 3, 4] = value
            return u

    frames = rollout(Corrupted(grid=Grid(shape=(16, 16), spacing=0.5)), generators(0, 1, 2), 1, names=[4, 5, 6])
    with pytest.raises(
        ValueError, match=r"Corrupted, trajectory 5: at time 0, (in step 0 .*outside|component 0 .*not finite)"
    ):
        list(frames)


def test_a_step_that_is_too_long_stops_the_run() -> None:
    process = law((24, 24), scheme="fast", time_step=20.0, first_frame=0.0, frame_interval=20.0)
    with pytest.raises(
        ValueError, match=r"RegularSolution, trajectory \d: at time .*, in step \d+ of length .*outside"
    ):
        simulate(process, generators(0, 1), 20)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"time_step": 0.0042},
            r"at most 0.15 kappa / diffusivity = 0.004125, but the longest is 0.0042; set time_step to at most",
        ),
        ({"kappa": 2.5}, r"interface is 2.98 cells wide \(10-90 %\), but needs 3"),
    ],
)
def test_unstable_choices_are_refused_with_their_limit(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        law((32, 32), **settings)
