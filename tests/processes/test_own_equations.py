"""Equations as somebody would add them: each is its terms, and the integrators are the public ones without a setting."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from starts import generators
from torch import Tensor

from microevo.processes import (
    Field,
    Grid,
    Parameters,
    Process,
    SpectralBDF2,
    SpinodalDecomposition,
    simulate,
    uniform_noise,
)


@dataclass(frozen=True, kw_only=True)
class AllenCahn(Process):
    """du/dt = M ( kappa lap u + u - u^3 )"""

    fields = (Field("u", "order parameter"),)
    parameters = ("mobility", "kappa")
    isotropic = True

    mobility: float = 1.0
    kappa: float = 2.0

    def initial(self, generators, p):
        return uniform_noise(self.grid.shape, generators, mean=0.0, amplitude=0.1)

    def linear(self, k2, p):
        return -p.mobility * p.kappa * k2

    def nonlinear(self, u, p):
        return p.mobility * (u - u**3)


@dataclass(frozen=True, kw_only=True)
class SwiftHohenberg(Process):
    """du/dt = r u - (1 + lap)^2 u - u^3"""

    fields = (Field("u", "order parameter"),)
    parameters = ("r",)
    isotropic = True

    r: float = 0.2

    def initial(self, generators, p):
        return uniform_noise(self.grid.shape, generators, mean=0.0, amplitude=0.1)

    def linear(self, k2, p):
        return p.r - (1 - k2) ** 2

    def nonlinear(self, u, p):
        return -(u**3)


@dataclass(frozen=True, kw_only=True)
class GrayScott(Process):
    """du/dt = 0.16 lap u - u v^2 + feed (1 - u),    dv/dt = 0.08 lap v + u v^2 - (feed + kill) v"""

    fields = (Field("u", "substrate"), Field("v", "catalyst"))
    parameters = ("feed", "kill")

    feed: float = 0.037
    kill: float = 0.06

    def initial(self, generators, p):
        v = uniform_noise(self.grid.shape, generators, mean=0.25, amplitude=0.05)
        return torch.cat([1 - 2 * v, v], dim=1)

    def rhs(self, u, p):
        (u, v), (lap_u, lap_v) = u.split(1, dim=1), self.grid.laplacian(u).split(1, dim=1)
        return torch.cat(
            [0.16 * lap_u - u * v**2 + p.feed * (1 - u), 0.08 * lap_v + u * v**2 - (p.feed + p.kill) * v], dim=1
        )


@dataclass(frozen=True, kw_only=True)
class CahnHilliard(SpinodalDecomposition):
    """The equation of `SpinodalDecomposition`, with the public integrator in place of the tuned one."""

    def stepper(self, p: Parameters | None = None) -> SpectralBDF2:
        return Process.stepper(self, p or self.vary({}))


SMALL = Grid(shape=(24, 24))
LAWS = [
    AllenCahn(grid=SMALL),
    SwiftHohenberg(grid=SMALL),
    GrayScott(grid=SMALL),
    CahnHilliard(grid=SMALL, first_frame=1.0, frame_interval=1.0),
]
VARIED = {
    AllenCahn: {"mobility": [0.5, 1.0, 2.0]},
    SwiftHohenberg: {"r": [0.1, 0.2, 0.3]},
    GrayScott: {"feed": [0.03, 0.035, 0.04], "kill": [0.06, 0.061, 0.062]},
    CahnHilliard: {"kappa": [2.5, 3.0, 3.5]},
}


def ends(law: Process, u0: Tensor, *times: float, tolerance: float | None = None, values: dict | None = None) -> Tensor:
    """The fields at the last of some times."""
    stepper = law.stepper(law.vary(values or {}))
    if tolerance:
        stepper.tolerance = tolerance
    stepper.start(u0.to(law.dtype))
    for time in times:
        stepper.advance(time)
    return stepper.u


def test_an_allen_cahn_interface_is_a_tanh_and_keeps_its_width() -> None:
    # u = tanh(x / sqrt(2 kappa)) is at rest; two of them, far apart, fit in a periodic box.
    law = AllenCahn(grid=Grid(shape=(4, 96), spacing=0.5), precision="float64")
    x = 0.5 * (torch.arange(96, dtype=torch.float64) + 0.5)

    def slab(width: float) -> Tensor:
        return (torch.tanh((x - 12) / width) - torch.tanh((x - 36) / width) - 1).expand(1, 1, 4, 96).contiguous()

    width = math.sqrt(2 * law.kappa)
    at_rest = ends(law, slab(width), 20.0)
    assert float((at_rest - slab(width)).abs().max()) < 1e-4
    # From a steeper start it relaxes to the same profile.
    assert float((ends(law, slab(0.5 * width), 20.0) - slab(width)).abs().max()) < 1e-3


def test_an_allen_cahn_circle_shrinks_by_its_curvature() -> None:
    # dR/dt = -M kappa / R for sharp interfaces, so that the area shrinks at the rate 2 pi M kappa.
    law = AllenCahn(grid=Grid(shape=(96, 96), spacing=0.5), kappa=0.5, precision="float64")
    x = 0.5 * (torch.arange(96, dtype=torch.float64) - 47.5)
    radius = (x[:, None] ** 2 + x**2).sqrt()
    stepper = law.stepper(law.vary({}))
    stepper.start(torch.tanh((16 - radius) / math.sqrt(2 * law.kappa))[None, None])
    areas = []
    for time in (20.0, 60.0):
        stepper.advance(time)
        areas.append(float((stepper.u > 0).sum() * 0.25 + 0 * time))
    assert (areas[0] - areas[1]) / 40 == pytest.approx(2 * math.pi * law.kappa, rel=0.03)


@pytest.mark.parametrize("r", [-0.1, 0.2, 0.5])
def test_swift_hohenberg_waves_grow_at_their_linear_rate(r: float) -> None:
    cells, numbers = 64, (2, 3, 5)
    law = SwiftHohenberg(grid=Grid(shape=(cells, 4), spacing=2 * math.pi * 3 / cells), r=r, precision="float64")
    x = torch.arange(cells, dtype=torch.float64)
    wave = torch.stack([torch.cos(2 * math.pi * n * x / cells) for n in numbers])[:, None, :, None].expand(
        -1, 1, cells, 4
    )
    stepper = law.stepper(law.vary({}))
    stepper.start(1e-5 * wave)
    stepper.advance(2.0)
    first = (stepper.u * wave).flatten(1).sum(1)
    stepper.advance(5.0)
    measured = ((stepper.u * wave).flatten(1).sum(1) / first).log() / 3
    k2 = torch.tensor([(n / 3) ** 2 for n in numbers], dtype=torch.float64)
    torch.testing.assert_close(measured, r - (1 - k2) ** 2, rtol=2e-3, atol=2e-4)


def test_swift_hohenberg_stripes_have_the_amplitude_of_theory() -> None:
    # u = a cos x with 3 a^2 / 4 = r close to the threshold.
    law = SwiftHohenberg(grid=Grid(shape=(32, 4), spacing=2 * math.pi * 2 / 32), r=0.05, precision="float64")
    wave = torch.cos(4 * math.pi * torch.arange(32, dtype=torch.float64) / 32)[None, None, :, None].expand(1, 1, 32, 4)
    u = ends(law, 0.1 * wave, 200.0)
    assert float(u.abs().max()) == pytest.approx(math.sqrt(4 * law.r / 3), rel=1e-2)


@pytest.mark.slow
def test_gray_scott_keeps_its_uniform_states_and_makes_spots() -> None:
    law = GrayScott(grid=Grid(shape=(64, 64)), first_frame=1000.0, frame_interval=1000.0)
    dead = torch.zeros(1, 2, 64, 64)
    dead[:, 0] = 1
    assert torch.equal(ends(law, dead, 100.0), dead)
    # With uniform fields it is an ordinary differential equation.
    u, v = 0.5, 0.25
    steps = 20000
    for _ in range(steps):
        u, v = (
            u + 20 / steps * (-u * v**2 + law.feed * (1 - u)),
            v + 20 / steps * (u * v**2 - (law.feed + law.kill) * v),
        )
    start = torch.tensor([0.5, 0.25]).reshape(1, 2, 1, 1).expand(1, 2, 64, 64)
    found = ends(law, start, 20.0)
    np.testing.assert_allclose([float(found[0, 0, 0, 0]), float(found[0, 1, 0, 0])], [u, v], rtol=2e-3)

    state = dead.clone()
    state[:, :, 24:40, 24:40] = law.initial(generators(0), law.vary({}))[:, :, 24:40, 24:40].float()
    spots = ends(law, state, 2000.0)
    assert bool(((spots > -1e-3) & (spots < 1.001)).all())
    assert float(spots[:, 1].std()) > 0.05  # a pattern, which has spread beyond its seed
    assert float(spots[:, 1, :16].max()) > 0.2


@pytest.mark.parametrize(
    "law",
    [pytest.param(law, id=type(law).__name__, marks=() if law in LAWS[1:3] else pytest.mark.slow) for law in LAWS],
)
def test_the_same_bytes_in_any_batch(law: Process) -> None:
    values = VARIED[type(law)]

    def run(*indices: int) -> Tensor:
        p = law.vary({name: [column[i] for i in indices] for name, column in values.items()})
        return simulate(law, generators(*indices), 3, p)

    together = run(0, 1, 2)
    assert bool(together.isfinite().all())
    assert not torch.equal(together[0], together[1])
    for i in range(3):
        assert torch.equal(together[i : i + 1], run(i))
        alone = replace(law, **{name: column[i] for name, column in values.items()})
        torch.testing.assert_close(together[i : i + 1], simulate(alone, generators(i), 3), rtol=0, atol=2e-4)
    assert torch.equal(together[[2, 0]], run(2, 0))


@pytest.mark.parametrize(
    ("law", "order"),
    [
        (AllenCahn(grid=SMALL, precision="float64"), 2),
        (SwiftHohenberg(grid=SMALL, precision="float64"), 2),
        (CahnHilliard(grid=SMALL, precision="float64"), 2),
        (GrayScott(grid=SMALL, precision="float64"), 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_error_follows_the_order_of_the_scheme(law: Process, order: int) -> None:
    u0 = ends(law, law.initial(generators(0), law.vary({})), 5.0, tolerance=1e-3)  # without the noise
    tolerances = np.array([4e-3, 1e-3, 2.5e-4]) if order == 2 else np.array([1e-6, 1e-7, 1e-8])
    truth = ends(law, u0, 5.0, tolerance=5e-6 if order == 2 else 1e-10)
    errors, steps = [], []
    for tolerance in tolerances:
        stepper = law.stepper(law.vary({}))
        stepper.tolerance = tolerance
        stepper.start(u0)
        stepper.advance(5.0)
        errors.append(float((stepper.u - truth).norm() / truth.norm()))
        steps.append(float(stepper.steps_taken.mean()))
    assert errors[0] < 10 * tolerances[0]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.35), (errors, steps)


def test_the_public_integrator_agrees_with_the_tuned_one() -> None:
    tuned = SpinodalDecomposition(grid=Grid(shape=(32, 32)), first_frame=20.0, frame_interval=20.0, tolerance=1e-4)
    public = CahnHilliard(grid=tuned.grid, first_frame=20.0, frame_interval=20.0)
    a, b = (simulate(law, generators(0, 1), 4) for law in (tuned, public))
    assert float((a - b).norm() / (a - a.mean()).norm()) < 5e-3
    mean = b.double().mean(dim=(2, 3, 4))
    torch.testing.assert_close(mean, torch.full_like(mean, 0.5), atol=1e-6, rtol=0)


def test_a_process_without_an_equation_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Empty(Process):
        fields = (Field("u", "nothing"),)

        def initial(self, generators: Sequence[torch.Generator], p: Parameters) -> Tensor:
            return torch.zeros(len(generators), 1, *self.grid.shape)

    with pytest.raises(
        TypeError, match="Empty needs its equation: the methods linear and nonlinear, or the method rhs"
    ):
        simulate(Empty(), generators(0), 1)


@pytest.mark.parametrize("law", [AllenCahn(grid=SMALL), GrayScott(grid=SMALL)], ids=lambda law: type(law).__name__)
def test_a_field_that_explodes_stops_the_run(law: Process) -> None:
    exploding = 1e30 * law.initial(generators(0, 1), law.vary({})).float()
    exploding[0] = 0.0
    stepper = law.stepper(law.vary({}))
    stepper.start(exploding)
    with pytest.raises(ArithmeticError) as caught:
        stepper.advance(10.0)
    assert caught.value.index == 1


def test_between_walls_and_in_one_and_three_dimensions() -> None:
    for grid in (Grid(shape=(32,)), Grid(shape=(8, 10, 12)), Grid(shape=(16, 12), boundary="no-flux")):
        for kind in (AllenCahn, SwiftHohenberg, GrayScott):
            frames = simulate(kind(grid=grid), generators(0), 2)
            assert frames.shape == (1, 2, len(kind.fields), *grid.shape)
            assert bool(frames.isfinite().all())
