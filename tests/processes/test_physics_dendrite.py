"""Dendritic solidification.

Lengths and times are those of Kobayashi's model, in which heat diffuses at rate 1.
"""

import math

import numpy as np
import pytest
import torch
from figures import Figure
from starts import generators
from torch import Tensor

from microevo.processes import DendriticSolidification, Grid, StepError, simulate

SMALL = Grid(shape=(64, 64), spacing=0.03)


def grown(time: float, **settings: object) -> Tensor:
    """phi and T (2, y, x) at a time."""
    law = DendriticSolidification(**({"grid": SMALL, "precision": "float64"} | settings))
    stepper = law.stepper()
    stepper.start(law.initial(generators(0)).to(law.dtype))
    stepper.advance(time)
    return stepper.u[0]


def rms(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).square().mean().sqrt())


# ------------------------------------------------- conservation and symmetry


@pytest.mark.parametrize("heat", ["explicit", "implicit"])
@pytest.mark.parametrize(("precision", "drift", "asymmetry"), [("float64", 1e-13, 1e-11), ("float32", 1e-6, 1e-3)])
def test_heat_and_symmetry(figure: Figure, heat: str, precision: str, drift: float, asymmetry: float) -> None:
    settings = {"mode": 4, "theta0": 0.0, "delta": 0.04, "heat": heat, "precision": precision}
    seed, crystal = (grown(time, **settings) for time in (0.0, 0.04))
    assert float(crystal[0].mean()) > 2 * float(seed[0].mean())
    balance = [(u[1].double() - 1.645 * u[0].double()).mean() for u in (seed, crystal)]
    where = f"{heat} heat, {precision}"
    figure(
        f"drift of the mean of T - K phi, {where}",
        measured=abs(float(balance[1] - balance[0])),
        expected=0,
        tolerance=drift,
        source="conservation law",
    )
    images = (crystal.flip(1), crystal.flip(2), crystal.transpose(1, 2), crystal.rot90(1, (1, 2)))
    figure(
        f"four-fold crystal against its mirror images and quarter turn, the worst, {where}",
        measured=max(float((crystal - image).abs().max()) for image in images),
        expected=0,
        tolerance=asymmetry,
        source="symmetry of the equations",
    )


def test_flat_interface_at_rest(figure: Figure) -> None:
    h, width = 0.005, 2 * math.sqrt(2) * 0.01
    law = DendriticSolidification(
        grid=Grid(shape=(4, 128), spacing=h), delta=0.0, heat="implicit", dt=1e-5, latent_heat=1e-12, seed_radius=0.005
    )
    x = h * (torch.arange(128, dtype=torch.float64) - 63.5)
    slab = (0.5 * (1 - torch.tanh((x.abs() - 0.16) / width))).expand(4, 128)
    stepper = law.stepper()
    stepper.start(torch.stack([slab, torch.full_like(slab, law.undercooling)])[None])  # no driving force
    stepper.advance(10 * law.tau)
    figure(
        "profile of a flat interface at rest, largest difference",
        measured=float((stepper.u[0, 0] - slab).abs().max()),
        expected=0,
        tolerance=2e-3,
        source="tanh(x / (2 sqrt(2) eps))",
    )


# ------------------------------------------------------------------ accuracy


def tip(phi: Tensor) -> float:
    """Largest distance of a solid cell from the middle [cells]."""
    y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in phi.shape), indexing="ij")
    return float(np.hypot(y, x)[phi.numpy() > 0.5].max())


@pytest.mark.slow
def test_steps_of_the_dendrite(figure: Figure) -> None:
    def end(dt: float, heat: str = "explicit") -> Tensor:
        grid = Grid(shape=(256, 256), spacing=0.03)
        return grown(0.12, grid=grid, tau=3e-4, latent_heat=1.6, dt=dt, heat=heat, precision="float32")[0]

    truth = end(2.5e-5)
    solid = float(truth.double().mean())
    assert tip(truth) > 45  # it has branched
    errors = {}
    for dt, heat, near, tips in (
        (5e-5, "explicit", 8e-3, 1.0),
        (1e-4, "explicit", 2e-2, 1.5),
        (1e-4, "implicit", 1e-2, 1.0),
        (2e-4, "implicit", 2e-2, 1.5),
    ):
        phi = end(dt, heat)
        errors[dt, heat] = rms(phi, truth)
        where = f"six-fold, t = 0.12, {heat} heat, dt {dt:g}"
        source = "explicit steps of 2.5e-5"
        figure(f"rms of phi, {where}", measured=errors[dt, heat], expected=0, tolerance=near, source=source)
        figure(
            f"solid fraction, {where}",
            measured=float(phi.double().mean()),
            expected=solid,
            tolerance=0.03,
            relative=True,
            source=source,
        )
        figure(f"tip [cells], {where}", measured=tip(phi), expected=tip(truth), tolerance=tips, source=source)
    figure(
        "error of explicit steps of 1e-4 over that of 5e-5, against 2.5e-5",
        measured=errors[1e-4, "explicit"] / errors[5e-5, "explicit"],
        expected=3,
        tolerance=0.5,
        source="first order",
    )


@pytest.mark.slow
@pytest.mark.parametrize("heat", ["explicit", "implicit"])
def test_order_in_time(figure: Figure, heat: str) -> None:
    coarse, half, quarter = (grown(0.012, dt=dt, heat=heat)[0] for dt in (2.5e-5, 1.25e-5, 6.25e-6))
    figure(
        f"change on halving the step over that on halving it again, {heat} heat, steps of 2.5e-5",
        measured=rms(coarse, half) / rms(half, quarter),
        expected=2,
        tolerance=0.2,
        source="first order",
    )


def test_precision(figure: Figure) -> None:
    low, high = (grown(0.03, precision=precision)[0] for precision in ("float32", "float64"))
    figure(
        "float32 against float64, phi at t = 0.03, rms",
        measured=rms(low, high),
        expected=0,
        tolerance=6e-6,
        source="the same solver",
    )


# ------------------------------------------------------------------ any grid


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "coarsen", "heat"), [((192, 160), 4, "explicit"), ((81, 54), 3, "implicit")])
def test_any_grid(precision: str, shape: tuple[int, int], coarsen: int, heat: str) -> None:
    def of(cells: tuple[int, ...], theta0: float) -> Tensor:
        law = DendriticSolidification(
            grid=Grid(shape=cells, spacing=0.03, coarsen=coarsen), theta0=theta0, heat=heat, precision=precision
        )
        frames = simulate(law, generators(0), 4)
        assert frames.dtype == torch.float32
        assert frames.shape == (1, 4, 2, *(n // coarsen for n in cells))
        return frames[0, -1]

    # Turned over the diagonal, an angle becomes what it lacks to a right one.
    one, other = of(shape, 20.0), of(shape[::-1], 70.0)
    assert rms(one, other.transpose(1, 2)) < 1e-5


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        # Half of h^2 / 4, and half of tau h^2 / (4 eps^2).
        ({"dt": 1.13e-4}, r"explicit heat equation is accurate for dt up to 0\.0001125, .* but dt is 0\.000113"),
        ({"dt": 5e-4, "heat": "implicit"}, r"explicit phase-field equation is accurate for dt up to 0\.000403"),
        ({"grid": Grid(shape=(64, 64), spacing=0.04)}, r"interface is 1\.55 cells wide \(10-90 %\), but needs 2"),
    ],
)
def test_unstable_choices_are_refused_with_their_limit(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DendriticSolidification(**({"grid": SMALL} | settings))


@pytest.mark.parametrize("field", ["phi", "heat"])
def test_a_number_that_is_not_finite_names_trajectory_time_and_step(field: str) -> None:
    law = DendriticSolidification(grid=SMALL)
    stepper = law.stepper()
    stepper.start(law.initial(generators(0, 1, 2)).float())
    stepper.advance(0.004)
    getattr(stepper.groups[1], field).cells[0, 3, 4] = torch.inf
    with pytest.raises(
        StepError, match=r"at time 0\.014, in the step of length 0\.01, component [01] .* not finite"
    ) as raised:
        stepper.advance(0.014)
    assert raised.value.index == 1
