"""Spinodal decomposition: quartic well, constant mobility.

Lengths, times and energies are those of PFHub benchmark 1 (Jokisaari et al., Comput. Mater. Sci. 126 (2017) 139) where
nothing else is said.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from figures import Figure
from starts import generators, mass_stays_and_energy_falls
from torch import Tensor

from microevo.processes import Grid, SpinodalDecomposition, rollout, simulate

SLOW = pytest.mark.slow
CAHN_HILLIARD = "Cahn & Hilliard (1958)"
LIFSHITZ_SLYOZOV = "t^(1/3), Lifshitz & Slyozov (1961)"


def pfhub(shape: tuple[int, ...], spacing: float = 1.0, **settings: object) -> SpinodalDecomposition:
    """The parameters of PFHub benchmark 1; delta is 2.236."""
    fixed = {"c_alpha": 0.3, "c_beta": 0.7, "rho": 5.0, "kappa": 2.0, "mobility": 5.0, "noise": 0.02}
    return SpinodalDecomposition(**({"grid": Grid(shape=shape, spacing=spacing)} | fixed | settings))


def centres(grid: Grid) -> list[Tensor]:
    axes = [grid.spacing * (torch.arange(n, dtype=torch.float64) + 0.5) for n in grid.shape]
    return list(torch.meshgrid(*axes, indexing="ij"))


def band_limited(grid: Grid, count: int, amplitude: float) -> Tensor:
    """Sums of the same few long waves on whatever grid, (count, 1, *cells)."""
    random = torch.Generator().manual_seed(0)
    sides = [n * grid.spacing for n in grid.shape]
    total = torch.zeros(count, 1, *grid.shape, dtype=torch.float64)
    for numbers in np.ndindex(*(4,) * len(sides)):
        phase = sum(2 * math.pi * n * x / side for n, x, side in zip(numbers, centres(grid), sides, strict=True))
        parts = torch.randn(2, count, *(1,) * (1 + len(sides)), generator=random, dtype=torch.float64)
        if any(numbers):
            total += amplitude * (parts[0] * torch.cos(phase) + parts[1] * torch.sin(phase))
    return total


def run(law: SpinodalDecomposition, u0: Tensor, *times: float) -> Tensor:
    stepper = law.stepper()
    stepper.start(u0.to(law.dtype))
    for time in times:
        stepper.advance(time)
    return stepper.u


def distance(a: Tensor, b: Tensor) -> float:
    """Relative to the deviation from the mean."""
    return float((a.double() - b.double()).norm() / (b - b.mean()).double().norm())


# --------------------------------------------------------------- conservation


@pytest.mark.parametrize(
    ("precision", "drift", "rise", "shape"),
    [
        ("float64", 1e-13, 1e-8, (48, 48)),
        ("float32", 1e-7, 1e-6, (48, 48)),
        pytest.param("float64", 1e-13, 1e-8, (16, 12, 20), marks=SLOW),
        pytest.param("float32", 1e-7, 1e-6, (16, 12, 20), marks=SLOW),
    ],
)
def test_mass_stays_and_energy_falls(
    figure: Figure, precision: str, drift: float, rise: float, shape: tuple[int, ...]
) -> None:
    law = pfhub(shape, precision=precision)
    where = f"{len(shape)}-D, {precision}"
    times = [i * i / 75 for i in range(1, 151)]  # often while it unmixes
    u = mass_stays_and_energy_falls(figure, law, times, drift=drift, rise=rise, where=where)
    assert float(u.max() - u.min()) > 0.3  # it has unmixed


# --------------------------------------------------------------- closed forms


@pytest.mark.parametrize(
    ("shape", "numbers"),
    [
        pytest.param((32, 32), [(1, 0), (2, 0), (0, 2), (2, 1), (3, 1)], marks=SLOW),
        ((24, 40), [(1, 1), (1, 3), (0, 2), (2, 0)]),
        pytest.param((16, 16, 16), [(1, 0, 0), (1, 1, 0), (1, 0, 1)], marks=SLOW),
    ],
)
def test_dispersion(figure: Figure, shape: tuple[int, ...], numbers: list[tuple[int, ...]]) -> None:
    law = pfhub(shape, composition=0.48, precision="float64", tolerance=1e-6)
    waves, rates = [], []
    for wave in numbers:
        k = [2 * math.pi * n / cells for n, cells in zip(wave, shape, strict=True)]
        waves.append(torch.cos(sum(ki * x for ki, x in zip(k, centres(law.grid), strict=True))))
        k2 = sum(ki**2 for ki in k)
        curvature = 4 * 5.0 * (3 * (0.48 - 0.5) ** 2 - 0.2**2)
        rates.append(-5.0 * k2 * (curvature + 2.0 * k2))
    wave, rate = torch.stack(waves)[:, None], torch.tensor(rates, dtype=torch.float64)
    assert bool((rate > 0).all())
    stepper = law.stepper()
    stepper.start(0.48 + 1e-6 * wave)
    amplitudes = []
    for time in (2.0, 10.0):
        stepper.advance(time)
        amplitudes.append(((stepper.u - 0.48) * wave).flatten(1).sum(1))
    error = (amplitudes[1] / amplitudes[0]).log() / 8 / rate - 1
    figure(
        f"growth rate of {len(numbers)} waves over that of theory, less 1, {'x'.join(map(str, shape))} cells, the worst",
        measured=float(error[error.abs().argmax()]),
        expected=0,
        tolerance=5e-4,
        source=f"linear stability, {CAHN_HILLIARD}",
    )


@pytest.mark.parametrize(("cells", "sigma", "profile"), [(64, 1e-5, 1e-5), pytest.param(44, 1e-3, 1e-3, marks=SLOW)])
def test_flat_interface(figure: Figure, cells: int, sigma: float, profile: float) -> None:
    spacing = 64 / cells
    law = pfhub((4, cells), spacing, precision="float64", tolerance=1e-4)
    delta = math.sqrt(2 / 10) / 0.2
    x = spacing * (torch.arange(cells, dtype=torch.float64) + 0.5)
    slab = 0.5 + 0.2 * (torch.tanh((x - 16) / delta) - torch.tanh((x - 48) / delta) - 1)
    u = run(law, slab.expand(1, 1, 4, cells).contiguous(), 200.0)
    energy = float(law.free_energy(u)) / (2 * 4 * spacing)
    closed = math.sqrt(2 * 2.0 * 5.0) * 0.4**3 / 6
    where = f"delta/h {delta / spacing:.2f}"
    figure(
        f"energy of a flat interface, {where}",
        measured=energy,
        expected=closed,
        tolerance=sigma,
        relative=True,
        source=f"sqrt(2 kappa rho) (c_beta - c_alpha)^3 / 6, {CAHN_HILLIARD}",
    )
    figure(
        f"profile of a flat interface, largest difference, {where}",
        measured=float((u - slab).abs().max()),
        expected=0,
        tolerance=profile,
        source="tanh(x / delta)",
    )


# ------------------------------------------------------------------ accuracy


def etdrk4(law: SpinodalDecomposition, u0: Tensor, time: float, steps: int) -> Tensor:
    """Exponential Runge-Kutta of fourth order (Kassam & Trefethen, SIAM J. Sci. Comput. 26 (2005) 1214).

    Shares nothing with the solver but the equation; the coefficients are means over a circle in the complex plane.
    """
    w, y = (law.c_beta - law.c_alpha) / 2, u0.numpy() - (law.c_alpha + law.c_beta) / 2
    k = [2 * np.pi * np.fft.fftfreq(n, law.grid.spacing) for n in law.grid.shape]
    k2 = sum(component**2 for component in np.meshgrid(*k, indexing="ij"))
    h = time / steps
    linear = -law.mobility * k2 * (law.kappa * k2 - 4 * law.rho * w**2)
    z = h * linear[..., None] + np.exp(1j * np.pi * (np.arange(32) + 0.5) / 32)
    e, e2 = np.exp(h * linear), np.exp(h * linear / 2)
    half = h * ((np.exp(z / 2) - 1) / z).mean(-1).real
    f1 = h * ((-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3).mean(-1).real
    f2 = h * ((2 + z + np.exp(z) * (z - 2)) / z**3).mean(-1).real
    f3 = h * ((-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3).mean(-1).real
    axes = tuple(range(-len(k), 0))

    def nonlinear(v: np.ndarray) -> np.ndarray:
        return -law.mobility * k2 * np.fft.fftn(4 * law.rho * np.fft.ifftn(v, axes=axes).real ** 3, axes=axes)

    v = np.fft.fftn(y, axes=axes)
    for _ in range(steps):
        nv = nonlinear(v)
        a = e2 * v + half * nv
        na = nonlinear(a)
        nb = nonlinear(e2 * v + half * na)
        nc = nonlinear(e2 * a + half * (2 * nb - nv))
        v = e * v + f1 * nv + 2 * f2 * (na + nb) + f3 * nc
    return torch.from_numpy(np.fft.ifftn(v, axes=axes).real) + (law.c_alpha + law.c_beta) / 2


@pytest.fixture(scope="module")
def exact() -> tuple[Tensor, Tensor]:
    """A state and what becomes of it in 100 units of time, 64 x 64 cells."""
    law = pfhub((64, 64), precision="float64")
    u0 = law.initial(generators(0))
    return u0, etdrk4(law, u0, 100.0, 2000)


@pytest.mark.slow
@pytest.mark.parametrize(("tolerance", "error"), [(1e-3, 6e-3), (3e-4, 1.5e-3)])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_another_integrator(
    figure: Figure, exact: tuple[Tensor, Tensor], tolerance: float, error: float, precision: str
) -> None:
    u = run(pfhub((64, 64), precision=precision, tolerance=tolerance), exact[0], 100.0)
    figure(
        f"field at t = 100 against ETDRK4, tolerance {tolerance:g}, {precision}",
        measured=distance(u, exact[1]),
        expected=0,
        tolerance=error,
        source="Kassam & Trefethen (2005)",
    )


@pytest.mark.slow
def test_order_in_time(figure: Figure) -> None:
    # Under a tolerance that allows much longer steps, every asked time is met by a single one.
    law = pfhub((32, 32), precision="float64", tolerance=1e-2)
    u0 = run(law, 0.5 + band_limited(law.grid, 2, 0.005), *(0.1 * i for i in range(1, 101)))

    def end(dt: float) -> Tensor:
        # The first steps, which the solver chooses, are the same ones for every dt.
        start = [0.01 * i for i in range(1, 100)]
        return run(law, u0, *start, *(1 + dt * i for i in range(round(5 / dt) + 1)))

    truth = end(0.0125)
    coarse, half, quarter = (distance(end(dt), truth) for dt in (0.2, 0.1, 0.05))
    for name, ratio in (("0.2 and 0.1", coarse / half), ("0.1 and 0.05", half / quarter)):
        figure(
            f"error at a step over that at half of it, steps {name}",
            measured=ratio,
            expected=4,
            tolerance=0.5,
            source="second order",
        )


def test_precision(figure: Figure) -> None:
    laws = [pfhub((48, 48), precision=precision) for precision in ("float32", "float64")]
    u0 = laws[0].initial(generators(0, 1)).float()
    low, high = (run(law, u0, 100.0) for law in laws)
    figure(
        "float32 against float64 at t = 100",
        measured=distance(low, high),
        expected=0,
        tolerance=4e-4,
        source="the same solver",
    )


@pytest.mark.slow
def test_grid_convergence(figure: Figure) -> None:
    def end(cells: int) -> Tensor:
        law = pfhub((cells, cells), 32 / cells, precision="float64", tolerance=1e-5)
        return run(law, 0.5 + band_limited(law.grid, 2, 0.005), 20.0)

    # In cells of a third the middle one has the same centre.
    figure(
        "field at t = 20 on cells of delta/h 2.24 against 6.7",
        measured=distance(end(32), end(96)[..., 1::3, 1::3]),
        expected=0,
        tolerance=1e-4,
        source="the finer grid",
    )


@pytest.mark.slow
def test_another_solver(figure: Figure) -> None:
    pde = pytest.importorskip("pde")

    def difference(cells: int) -> float:
        # In the units of py-pde: f' = c^3 - c, M = 1.
        law = SpinodalDecomposition(
            grid=Grid(shape=(cells, cells), spacing=24 / cells),
            rho=0.25,
            kappa=2.0,
            c_alpha=-1.0,
            c_beta=1.0,
            precision="float64",
            tolerance=1e-5,
        )
        u0 = band_limited(law.grid, 1, 0.05)
        grid = pde.CartesianGrid([[0, 24]] * 2, cells, periodic=True)
        equation = pde.CahnHilliardPDE(interface_width=2.0)
        dt = 0.5 * 2 / (2.0 * (8 * cells**2 / 24**2) ** 2)
        theirs = equation.solve(
            pde.ScalarField(grid, u0[0, 0].numpy()), t_range=20.0, dt=dt, solver="euler", tracker=None
        )
        return distance(torch.from_numpy(theirs.data), run(law, u0, 20.0)[0, 0])

    coarse, fine = difference(24), difference(48)
    source = "py-pde, five-point differences"
    figure("field at t = 20, delta/h 4", measured=fine, expected=0, tolerance=1e-2, source=source)
    figure(
        "difference at delta/h 2 over that at 4: all of it is the error of the differences",
        measured=coarse / fine,
        expected=4,
        tolerance=0.5,
        source=source,
    )


# ---------------------------------------------------------------- coarsening


def mean_wavelength(c: Tensor) -> Tensor:
    """2 pi over the first moment of the structure factor, of each field [cells]."""
    power = torch.fft.fft2((c - c.mean()).double()).abs().square()[:, 0]
    k = 2 * math.pi * torch.fft.fftfreq(c.shape[-1], dtype=torch.float64)
    k = (k[:, None] ** 2 + k**2).sqrt()
    return 2 * math.pi * power.sum((1, 2)) / (k * power).sum((1, 2))


@pytest.mark.slow
def test_coarsening(figure: Figure) -> None:
    law = pfhub((256, 256), tolerance=1e-3)
    stepper = law.stepper()
    stepper.start(law.initial(generators(*range(8))).float())
    times = np.geomspace(100.0, 2000.0, 14)
    inverse, lengths = [], []
    for time in times:
        stepper.advance(float(time))
        inverse.append(float((1 / law.free_energy(stepper.u)).mean()))
        lengths.append(float(mean_wavelength(stepper.u).mean()))
    late = times >= 199
    figure(
        "exponent of coarsening, from 1/F, t = 200 to 2000, 8 runs of 256x256",
        measured=float(np.polyfit(np.log(times[late]), np.log(np.array(inverse)[late]), 1)[0]),
        expected=1 / 3,
        tolerance=0.03,
        source=LIFSHITZ_SLYOZOV,
    )
    free = np.array(lengths) < 256 / 5  # not yet of the box
    roots, lengths = np.cbrt(times[free]), np.array(lengths)[free]
    line = np.polyval(np.polyfit(roots, lengths, 1), roots)
    figure(
        "wavelength 2 pi/<k>, largest deviation from a straight line in t^(1/3)",
        measured=float(np.abs(lengths / line - 1).max()),
        expected=0,
        tolerance=0.03,
        source=LIFSHITZ_SLYOZOV,
    )


ENERGIES = {  # of converged spectral solutions, by where the initial field is sampled: (i + 1/2) h, and i h
    1.0: (318.86, 318.86),
    10.0: (297.95, 297.97),
    20.0: (212.95, 213.10),
    50.0: (167.37, 167.30),
    100.0: (137.02, 136.80),
    200.0: (118.72, 118.19),
    500.0: (99.45, 98.53),
    1000.0: (84.84, 85.15),
}


@pytest.mark.slow
def test_pfhub_benchmark_1a(figure: Figure) -> None:
    law = pfhub((256, 256), 200 / 256, tolerance=3e-4)
    fields = []
    for shift in (0.0, law.grid.spacing / 2):
        y, x = (axis - shift for axis in centres(law.grid))
        fields.append(
            0.5
            + 0.01
            * (
                torch.cos(0.105 * x) * torch.cos(0.11 * y)
                + (torch.cos(0.13 * x) * torch.cos(0.087 * y)) ** 2
                + torch.cos(0.025 * x - 0.15 * y) * torch.cos(0.07 * x - 0.02 * y)
            )
        )
    stepper = law.stepper()
    stepper.start(torch.stack(fields)[:, None].float())
    for time, expected in ENERGIES.items():
        stepper.advance(time)
        for i, points in enumerate(("(i + 1/2) h", "i h")):
            figure(
                f"PFHub 1a, free energy at t = {time:g}, points {points}",
                measured=float(law.free_energy(stepper.u)[i]),
                expected=expected[i],
                tolerance=1e-3 if time == 1 else 3e-3 if time <= 200 else 5e-3,
                relative=True,
                source="PFHub problem, another spectral solver, converged",
            )


# ------------------------------------------------------------------ any grid


@pytest.mark.parametrize("precision", ["float32", pytest.param("float64", marks=SLOW)])
@pytest.mark.parametrize(
    "shape", [(96, 80), pytest.param((27, 50), marks=SLOW), pytest.param((16, 12, 20), marks=SLOW)]
)
def test_any_grid(precision: str, shape: tuple[int, ...]) -> None:
    def law(cells: tuple[int, ...]) -> SpinodalDecomposition:
        coarsen = 1 if cells[0] % 2 or cells[-1] % 2 else 2
        grid = Grid(shape=cells, spacing=0.8, coarsen=coarsen)
        return pfhub(cells, grid=grid, precision=precision, first_frame=5.0, frame_interval=20.0)

    one, other = law(shape), law(shape[::-1])
    frames = simulate(one, generators(0, 1), 3)
    assert frames.dtype == torch.float32
    assert frames.shape == (2, 3, 1, *one.grid.image_shape)
    # Turned, the axes change their roles in every transform.
    turned = run(other, one.initial(generators(0, 1)).movedim((2, -1), (-1, 2)).contiguous(), 5.0, 25.0, 45.0)
    turned = other.image(turned).movedim((2, -1), (-1, 2))
    assert float(turned.max() - turned.min()) > 0.3
    assert distance(turned, frames[:, 2]) < (1e-3 if precision == "float32" else 1e-6)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_a_run_that_fails_names_trajectory_time_and_step(value: float) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Corrupted(SpinodalDecomposition):
        def initial(self, generators: Sequence[torch.Generator], p: object = None) -> Tensor:
            u = super().initial(generators, p)
            u[1, 0, 3, 4] = value
            return u

    frames = rollout(Corrupted(grid=Grid(shape=(16, 16))), generators(0, 1, 2), 1, names=[4, 5, 6])
    with pytest.raises(
        ValueError,
        match=r"Corrupted, trajectory 5: at time 0(.* step .*\de-\d.*(error|energy)|, component 0 .*not finite)",
    ):
        list(frames)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"spacing": 1.7}, r"interface is 2.89 cells wide \(10-90 %\), but needs 3"),
        ({"tolerance": 0.02}, r"tolerance must be between 1e-8 and 0.01, but it is 0.02"),
    ],
)
def test_inaccurate_choices_are_refused_with_their_limit(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pfhub((32, 32), **settings)
