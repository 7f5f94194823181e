import math

import pytest
import torch
from starts import generators
from torch import Tensor

from microevo.processes import Grid, SpinodalDecomposition, simulate, trajectory_generator


def waves(grid: Grid, *numbers: tuple[int, ...]) -> Tensor:
    """cos(2 pi n . x / cells), one trajectory for each wave vector `n`."""
    axes = torch.meshgrid(*(2 * math.pi * torch.arange(n, dtype=torch.float64) / n for n in grid.shape), indexing="ij")
    return torch.stack([torch.cos(sum(n * x for n, x in zip(wave, axes, strict=True))) for wave in numbers])[:, None]


def pfhub(points: int, box: float = 200.0, **settings: object) -> SpinodalDecomposition:
    """The parameters of PFHub benchmark 1 (Jokisaari et al., Comput. Mater. Sci. 126 (2017) 139)."""
    fixed = {"c_alpha": 0.3, "c_beta": 0.7, "rho": 5.0, "kappa": 2.0, "mobility": 5.0, "noise": 0.02}
    return SpinodalDecomposition(grid=Grid(shape=(points, points), spacing=box / points), **(fixed | settings))


@pytest.mark.parametrize(("precision", "drift", "rise"), [("float64", 1e-13, 1e-8), ("float32", 1e-7, 1e-6)])
def test_mass_stays_and_energy_falls(precision: str, drift: float, rise: float) -> None:
    law = SpinodalDecomposition(grid=Grid(shape=(48, 48)), precision=precision)
    stepper = law.stepper()
    stepper.start(law.initial(generators(0, 1, 2)).to(law.dtype))
    mass = stepper.u.double().mean(dim=(1, 2, 3))
    torch.testing.assert_close(mass, torch.full((3,), 0.5, dtype=torch.float64), atol=drift, rtol=0)
    energy = law.free_energy(stepper.u.double())
    for time in range(10, 500, 10):
        stepper.advance(float(time))
        after = law.free_energy(stepper.u.double())
        assert bool((after <= energy * (1 + rise)).all())
        energy = after
    assert float((stepper.u.double().mean(dim=(1, 2, 3)) - mass).abs().max()) < drift


@pytest.mark.parametrize(
    ("shape", "numbers"),
    [
        ((32, 32), [(1, 0), (0, 2), (2, 1), (3, 0)]),
        pytest.param((16, 16, 16), [(1, 0, 0), (1, 1, 0), (1, 0, 1)], marks=pytest.mark.slow),
    ],
)
def test_small_waves_grow_as_the_linear_theory_says(shape: tuple[int, ...], numbers: list) -> None:
    law = SpinodalDecomposition(grid=Grid(shape=shape), precision="float64", composition=0.45, tolerance=1e-6)
    wave = waves(law.grid, *numbers)
    k_squared = torch.tensor([sum((2 * math.pi * n / shape[0]) ** 2 for n in wave) for wave in numbers])
    rate = law.growth_rate(k_squared.double())
    assert bool((rate > 0).all())
    stepper = law.stepper()
    stepper.start(0.45 + 1e-6 * wave)
    stepper.advance(20.0)
    start, end = 20.0, 60.0
    first = ((stepper.u - 0.45) * wave).flatten(1).sum(1)
    stepper.advance(end)
    grown = (((stepper.u - 0.45) * wave).flatten(1).sum(1) / first).log() / (end - start)
    torch.testing.assert_close(grown, rate, rtol=5e-4, atol=0)


def test_flat_interface_has_the_energy_and_profile_of_theory() -> None:
    law = SpinodalDecomposition(grid=Grid(shape=(4, 64)), precision="float64")
    x = torch.arange(64, dtype=torch.float64) + 0.5
    delta = math.sqrt(2.5 / 2) / 0.5
    slab = 0.5 + 0.5 * (torch.tanh((x - 16) / delta) - torch.tanh((x - 48) / delta) - 1)
    stepper = law.stepper()
    stepper.start(slab.expand(2, 1, 4, 64).contiguous())
    stepper.advance(800.0)
    assert float((stepper.u - slab).abs().max()) < 1e-5
    energy = law.free_energy(stepper.u) / (2 * 4)
    torch.testing.assert_close(energy, torch.full_like(energy, law.interface_energy), rtol=1e-5, atol=0)
    assert law.interface_width == pytest.approx(2.197 * delta, rel=1e-3)


def test_energy_is_that_of_each_trajectory_and_its_kappa() -> None:
    law = SpinodalDecomposition(grid=Grid(shape=(32, 32)), precision="float64")
    u = torch.rand(2, 1, 32, 32, dtype=torch.float64)
    drawn = law.free_energy(u, law.vary({"kappa": [2.5, 4.0]}))
    for i, kappa in enumerate((2.5, 4.0)):
        alone = SpinodalDecomposition(grid=law.grid, precision="float64", kappa=kappa).free_energy(u[i : i + 1])
        torch.testing.assert_close(drawn[i : i + 1], alone)
    uniform = law.free_energy(torch.full((1, 1, 32, 32), 0.5, dtype=torch.float64))
    assert float(uniform) == pytest.approx(32 * 32 * 0.5**4)


def test_defaults_show_phases_that_coarsen() -> None:
    law = SpinodalDecomposition()
    frames = simulate(law, generators(0, 1, 2), 100)
    assert float(frames[:, 0].amin()) < 0.05
    assert float(frames[:, 0].amax()) > 0.95

    def change(lead: int) -> float:
        return float((frames[:, 9 + lead] - frames[:, 9]).square().mean().sqrt())

    assert 0.01 < change(1) < 0.05
    assert 0.08 < change(10) < 0.3
    energy = [float(law.free_energy(frames[:, i].double()).mean()) for i in (0, 99)]
    assert energy[1] < 0.75 * energy[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"grid": Grid(spacing=2.0)}, "interface"),
        ({"kappa": 0.5}, "interface"),
        ({"c_alpha": 0.7, "c_beta": 0.7}, "c_alpha"),
        ({"mobility": 0.0}, "mobility"),
        ({"kappa": -2.5}, "kappa"),
        ({"rho": 0.0}, "rho"),
        ({"rho": float("nan")}, "rho"),
        ({"noise": -0.1}, "noise"),
        ({"tolerance": 0.1}, "tolerance"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"composition": 1.2}, "composition"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SpinodalDecomposition(**settings)


@pytest.mark.slow
def test_length_grows_with_the_cube_root_of_time() -> None:
    law = pfhub(256, 256.0)
    stepper = law.stepper()
    stepper.start(law.initial(generators(0, 1, 2, 3)).to(law.dtype))
    times = [200.0 * 10 ** (i / 6) for i in range(7)]
    lengths = []
    for time in times:
        stepper.advance(time)
        lengths.append(float((1 / law.free_energy(stepper.u)).mean()))
    x = torch.tensor(times).log()
    y = torch.tensor(lengths).log()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    assert slope == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.slow
def test_the_default_spacing_is_converged() -> None:
    def run(cells: int) -> Tensor:
        law = pfhub(cells, 32.0, precision="float64", tolerance=1e-5)
        random = torch.Generator().manual_seed(0)
        u = torch.zeros(2, 1, cells, cells, dtype=torch.float64)
        for ny in range(4):
            for nx in range(4):
                wave = waves(law.grid, (ny, nx))
                u += 0.01 * torch.randn(2, 1, 1, 1, generator=random, dtype=torch.float64) * wave * bool(ny + nx)
        stepper = law.stepper()
        stepper.start(0.5 + u)
        stepper.advance(20.0)
        # Grid points `i h` of the coarsest grid belong to all of them.
        return stepper.u[..., :: cells // 32, :: cells // 32]

    coarse, fine = run(32), run(96)
    assert float((coarse - fine).norm() / (fine - fine.mean()).norm()) < 1e-4


@pytest.mark.slow
def test_pfhub_benchmark_1a() -> None:
    # Energies of a converged spectral solution whose initial field is sampled at (i + 1/2) h.
    table = {1.0: 318.86, 10.0: 297.95, 20.0: 212.95, 50.0: 167.37, 100.0: 137.02, 200.0: 118.72}
    law = pfhub(256, tolerance=3e-4)
    x = (torch.arange(256, dtype=torch.float64) + 0.5) * 200 / 256
    y, x = torch.meshgrid(x, x, indexing="ij")
    c = 0.5 + 0.01 * (
        torch.cos(0.105 * x) * torch.cos(0.11 * y)
        + (torch.cos(0.13 * x) * torch.cos(0.087 * y)) ** 2
        + torch.cos(0.025 * x - 0.15 * y) * torch.cos(0.07 * x - 0.02 * y)
    )
    stepper = law.stepper()
    stepper.start(c[None, None].float())
    for time, energy in table.items():
        stepper.advance(time)
        assert float(law.free_energy(stepper.u)) == pytest.approx(energy, rel=1e-3 if time == 1 else 3e-3), time


def test_steps_longer_than_a_frame_are_checked_too():
    """A droplet that merges or vanishes when each frame takes a single step must not ring."""
    process = SpinodalDecomposition(
        grid=Grid(shape=(64, 64), spacing=0.5),
        rho=10.33,
        kappa=2.455,
        mobility=1.5,
        composition=0.75,
        noise=0.02,
        first_frame=10.0,
        frame_interval=1.0,
        tolerance=1e-3,
    )
    c = simulate(process, [trajectory_generator(0, i) for i in (1, 2, 4)], 90)
    assert c.min() > -0.05
    assert c.max() < 1.0  # 1.16 without an error estimate for single steps


@pytest.mark.parametrize(
    "numbers", [(1, 0), pytest.param((2, 1), marks=pytest.mark.slow), pytest.param((0, 3), marks=pytest.mark.slow)]
)
def test_between_walls_half_waves_grow_as_the_linear_theory_says(numbers: tuple[int, int]) -> None:
    law = SpinodalDecomposition(grid=Grid(shape=(32, 24), boundary="no-flux"), precision="float64", tolerance=1e-6)
    y, x = (
        math.pi * n * (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
        for n, cells in zip(numbers, (32, 24), strict=True)
    )
    wave = (torch.cos(y)[:, None] * torch.cos(x))[None, None]
    k_squared = sum((math.pi * n / cells) ** 2 for n, cells in zip(numbers, (32, 24), strict=True))
    stepper = law.stepper()
    stepper.start(0.5 + 1e-6 * wave)
    stepper.advance(20.0)
    first = float(((stepper.u - 0.5) * wave).sum())
    stepper.advance(60.0)
    rate = math.log(float(((stepper.u - 0.5) * wave).sum()) / first) / 40
    assert rate == pytest.approx(float(law.growth_rate(k_squared)), rel=5e-4)


def test_walls_keep_mass_and_let_energy_fall() -> None:
    law = SpinodalDecomposition(grid=Grid(shape=(24, 32), boundary="no-flux"), composition=0.4)
    p = law.vary({"kappa": [2.5, 3.5]})
    stepper = law.stepper(p)
    stepper.start(law.initial(generators(0, 1), p).to(law.dtype))
    mass = stepper.u.double().mean(dim=(1, 2, 3))
    energy = law.free_energy(stepper.u, p)
    for time in range(20, 400, 20):
        stepper.advance(float(time))
        after = law.free_energy(stepper.u, p)
        assert bool((after <= energy * (1 + 1e-6)).all())
        energy = after
    torch.testing.assert_close(stepper.u.double().mean(dim=(1, 2, 3)), mass, atol=1e-7, rtol=0)
    across = (stepper.u[..., 0, :] - stepper.u[..., -1, :]).abs().max()
    assert float(across) > 0.1  # opposite sides do not match
    outer, inner = ((stepper.u[..., i, :] - stepper.u[..., i + 1, :]).abs().mean() for i in (0, 3))
    assert float(outer) < 0.6 * float(inner)  # flat at the wall


def test_a_coarser_law_is_stable_beyond_the_tolerance_of_data() -> None:
    law = SpinodalDecomposition(grid=Grid(shape=(32, 32)), first_frame=60.0, frame_interval=5.0)
    start = simulate(law, generators(0, 1), 1)[:, 0]
    tolerances, ends, steps, rough = [], [], [], law
    while rough is not None:
        p = rough.vary({"kappa": [2.5, 3.0]})  # which looks at the limits again
        stepper = rough.stepper(p)
        stepper.start(start, time=60.0)
        mass = stepper.u.double().mean(dim=(1, 2, 3))
        for frame in range(1, 21):
            stepper.advance(60.0 + 5 * frame)
        assert bool((rough.free_energy(stepper.u, p) < rough.free_energy(start, p)).all())
        torch.testing.assert_close(stepper.u.double().mean(dim=(1, 2, 3)), mass, atol=1e-6, rtol=0)
        tolerances.append(rough.tolerance)
        ends.append(stepper.u)
        steps.append(int(stepper.steps_taken.sum()))
        rough = rough.coarser()
    assert tolerances == pytest.approx([1e-3 * 3**i for i in range(7)])  # 0.729; the next is above 1
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] < 0.3 * steps[0]
    errors = [float((end - ends[0]).square().mean().sqrt()) for end in ends[1:]]
    assert errors[0] < 0.01 < max(errors) < 0.1  # wrong, but a field still


def test_a_coarser_law_leaves_the_limit_of_data_alone() -> None:
    law = SpinodalDecomposition(tolerance=1e-2)
    rough = law.coarser()
    assert rough.tolerance == pytest.approx(3e-2)
    assert (law.tolerance, SpinodalDecomposition.largest_tolerance) == (1e-2, 1e-2)
    with pytest.raises(ValueError, match=r"between 1e-8 and 0.01, but it is 0.03"):
        SpinodalDecomposition(tolerance=3e-2)
