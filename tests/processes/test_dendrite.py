import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from starts import generators
from torch import Tensor

from microevo.processes import Grid, simulate
from microevo.processes.dendrite import DendriticSolidification

SMALL = Grid(shape=(64, 64), spacing=0.03)
QUARTER = Grid(shape=(128, 128), spacing=0.03, coarsen=4)  # a quarter of the published area, enough for 20 frames


def grown(law: DendriticSolidification, time: float) -> Tensor:
    """The fields (2, y, x) at a time."""
    stepper = law.stepper()
    stepper.start(law.initial(generators(0)).to(law.dtype))
    stepper.advance(time)
    return stepper.u[0]


def tip_radius(phi: Tensor) -> float:
    """Largest distance of a solid pixel from the middle [px]."""
    y, x = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in phi.shape), indexing="ij")
    return float(torch.hypot(y, x)[phi > 0.5].max())


@dataclass(frozen=True, kw_only=True)
class Poisoned(DendriticSolidification):
    """The third trajectory of a batch starts with a NaN."""

    def initial(self, generators: Sequence[torch.Generator], p: object = None) -> Tensor:
        u = super().initial(generators, p)
        u[2, 0, 5, 5] = torch.nan
        return u


@pytest.mark.parametrize("heat", ["explicit", "implicit"])
@pytest.mark.parametrize(("precision", "drift"), [("float64", 1e-13), ("float32", 1e-6)])
def test_heat_is_that_of_the_solid(precision: str, drift: float, heat: str) -> None:
    law = DendriticSolidification(grid=SMALL, precision=precision, heat=heat)
    start = law.initial(generators(0))[0]
    phi, temperature = grown(law, 0.05).double()
    assert float(phi.mean()) > 2 * float(start[0].mean())
    balance = (temperature - law.latent_heat * phi).mean() + law.latent_heat * start[0].mean()
    assert abs(float(balance)) < drift


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-11), ("float32", 1e-3)])
@pytest.mark.parametrize("heat", ["explicit", "implicit"])
def test_a_crystal_of_four_branches_keeps_its_symmetry(precision: str, tolerance: float, heat: str) -> None:
    law = DendriticSolidification(grid=SMALL, mode=4, theta0=0.0, delta=0.04, precision=precision, heat=heat)
    u = grown(law, 0.04)
    for image in (u.flip(1), u.flip(2), u.transpose(1, 2), u.rot90(1, (1, 2))):
        assert float((u - image).abs().max()) < tolerance
    turned = grown(
        DendriticSolidification(grid=SMALL, mode=4, theta0=45.0, delta=0.04, precision=precision, heat=heat), 0.04
    )
    assert float((u - turned).abs().max()) > 0.1


def test_orientation_is_an_angle_from_x_to_y() -> None:
    six = {theta0: grown(DendriticSolidification(grid=SMALL, theta0=theta0), 0.04) for theta0 in (20.0, -40.0, -20.0)}
    torch.testing.assert_close(six[20.0], six[-40.0], atol=1e-3, rtol=0)  # 60 degrees apart
    torch.testing.assert_close(six[20.0], six[-20.0].flip(1), atol=1e-3, rtol=0)
    assert float((six[20.0] - six[-20.0]).abs().max()) > 0.1
    phi = grown(DendriticSolidification(grid=QUARTER, theta0=20.0), 0.04)[0]
    y, x = torch.meshgrid(*(torch.arange(128) - 63.5,) * 2, indexing="ij")
    far = torch.hypot(x, y) * (phi > 0.5)
    angle = torch.rad2deg(torch.atan2(y, x)).flatten()[far.argmax()]
    assert float((angle - 20 + 30) % 60 - 30) == pytest.approx(0, abs=4)


@pytest.mark.parametrize("mode", [4, 6])
def test_interface_moves_down_the_gradient_of_its_energy(mode: int) -> None:
    """The energy, integral of eps^2 |grad phi|^2 / 2, written with an arctangent and differentiated by autograd."""
    n, h = 128, 0.02
    law = DendriticSolidification(
        grid=Grid(shape=(n, n), spacing=h), mode=mode, theta0=10.0, delta=0.1, dt=1e-5, precision="float64"
    )
    y, x = torch.meshgrid(*(2 * math.pi * torch.arange(n, dtype=torch.float64) / n,) * 2, indexing="ij")
    phi = (0.5 + 0.2 * torch.sin(x + 0.3) * torch.cos(y) + 0.1 * torch.cos(x - 2 * y)).requires_grad_()

    gy, gx = ((phi.roll(-1, axis) - phi.roll(1, axis)) / (2 * h) for axis in (0, 1))
    theta = torch.atan2(gy, gx) - math.radians(law.theta0)
    eps = law.eps_bar * (1 + law.delta * torch.cos(mode * theta))
    (slope,) = torch.autograd.grad((eps**2 * (gx**2 + gy**2)).sum() / 2, phi)
    phi = phi.detach()
    steep = torch.hypot(gx, gy).detach() > 0.3  # its direction jumps where phi is extreme

    dt = 1e-7
    stepper = law.stepper()
    stepper.start(torch.stack([phi, torch.full_like(phi, law.undercooling)])[None])  # no driving force
    stepper.advance(dt)
    rate = law.tau * (stepper.u[0, 0] - phi) / dt - phi * (1 - phi) * (phi - 0.5)
    assert float((rate + slope)[steep].norm() / slope[steep].norm()) < 0.03


@pytest.mark.parametrize(("heat", "dt"), [("explicit", 1e-4), ("implicit", 1e-4), ("implicit", 4e-4)])
def test_heat_without_a_crystal_diffuses(heat: str, dt: float) -> None:
    law = DendriticSolidification(grid=SMALL, heat=heat, dt=dt, tau=1e-3, precision="float64")
    wave = torch.cos(2 * math.pi * 3 * torch.arange(64, dtype=torch.float64) / 64).expand(64, 64)
    stepper = law.stepper()
    stepper.start(torch.stack([torch.zeros_like(wave), wave])[None])
    stepper.advance(100 * dt)
    stiffness = (2 - 2 * math.cos(2 * math.pi * 3 / 64)) / 0.03**2
    factor = 1 - dt * stiffness if heat == "explicit" else 1 / (1 + dt * stiffness)
    torch.testing.assert_close(stepper.u[0, 1], factor**100 * wave, atol=1e-12, rtol=0)
    assert not stepper.u[0, 0].any()


def test_a_flat_interface_at_rest_has_the_profile_of_theory() -> None:
    h = 0.005
    law = DendriticSolidification(
        grid=Grid(shape=(4, 128), spacing=h),
        delta=0.0,
        heat="implicit",
        dt=1e-5,
        latent_heat=1e-12,
        seed_radius=0.005,
        precision="float64",
    )
    x = h * (torch.arange(128, dtype=torch.float64) - 63.5)
    slab = (0.5 * (1 - torch.tanh((x.abs() - 0.16) / (2 * math.sqrt(2) * law.eps_bar)))).expand(4, 128)
    stepper = law.stepper()
    stepper.start(torch.stack([slab, torch.full_like(slab, law.undercooling)])[None])
    stepper.advance(10 * law.tau)
    assert float((stepper.u[0, 0] - slab).abs().max()) < 2e-3
    assert law.interface_width == pytest.approx(2 * 2 * math.sqrt(2) * law.eps_bar * math.atanh(0.8))


@pytest.mark.slow
def test_both_schemes_are_of_first_order_and_agree() -> None:
    def run(heat: str, dt: float) -> Tensor:
        return grown(DendriticSolidification(grid=SMALL, heat=heat, dt=dt, precision="float64"), 0.012)[0]

    truth = run("explicit", 6.25e-6)
    for heat in ("explicit", "implicit"):
        coarse, fine = (float((run(heat, dt) - truth).norm()) for dt in (1e-4, 5e-5))
        assert 1.8 < coarse / fine < 2.6
        assert fine < 0.02 * float(truth.norm())


@pytest.mark.parametrize("heat", ["explicit", "implicit"])
@pytest.mark.parametrize("cells", [64, 54])
def test_same_bytes_in_any_batch(cells: int, heat: str) -> None:
    law = DendriticSolidification(grid=Grid(shape=(cells, cells), spacing=0.03, coarsen=2), heat=heat)
    values = {
        "delta": [0.02, 0.03, 0.01],
        "theta0": [10.0, -20.0, 30.0],
        "latent_heat": [1.6, 1.5, 1.2],
        "undercooling": [1.0, 1.2, 1.4],
        "seed_radius": [0.4, 0.3, 0.2],
    }
    together = simulate(law, generators(0, 1, 2), 4, law.vary(values))
    assert together.shape == (3, 4, 2, cells // 2, cells // 2)
    for i in range(3):
        one = DendriticSolidification(grid=law.grid, heat=heat, **{name: value[i] for name, value in values.items()})
        assert torch.equal(together[i : i + 1], simulate(one, generators(0), 4))


def test_float32_follows_float64() -> None:
    low, high = (grown(DendriticSolidification(grid=SMALL, precision=p), 0.03).double() for p in ("float32", "float64"))
    assert float((low - high).square().mean().sqrt()) < 6e-6


def test_asked_times_are_met_exactly() -> None:
    law = DendriticSolidification(grid=SMALL)
    stepper = law.stepper()
    stepper.start(law.initial(generators(0, 1)).float())
    for time in (1e-5, 2.5e-4, 1 / 300):
        before = stepper.u
        stepper.advance(time)
        assert stepper.t == time
        assert not torch.equal(before, stepper.u)
    reached = stepper.u
    stepper.advance(1 / 300)
    assert torch.equal(reached, stepper.u)
    with pytest.raises(ValueError, match="forward only"):
        stepper.advance(0.001)


def test_frame_zero_is_the_bare_seed() -> None:
    first = simulate(DendriticSolidification(), generators(0, 1), 1)
    assert first.shape == (2, 1, 2, 64, 64)
    assert float(first[0, 0, 0].mean()) == pytest.approx(0.0094, abs=1e-4)
    assert not first[:, :, 1].any()


def test_first_frames_are_the_published_ones() -> None:
    phi = simulate(DendriticSolidification(grid=QUARTER), generators(0), 21)[0, :, 0]
    for frame, solid in {10: 0.0310, 20: 0.0487}.items():
        assert float(phi[frame].mean()) / 4 == pytest.approx(solid, rel=0.05)
    assert tip_radius(phi[20]) == pytest.approx(8.9, abs=1)


def test_a_nan_is_blamed_on_its_trajectory() -> None:
    with pytest.raises(ValueError, match=r"Poisoned, trajectory 2: at time 0, component 0 .*finite"):
        simulate(Poisoned(grid=SMALL), generators(0, 1, 2, 3), 2)


def test_a_coarser_law_takes_half_the_steps_between_frames() -> None:
    fast = DendriticSolidification().fast()  # 20 steps of 1.903e-4
    coarse = fast.coarser()
    assert coarse.dt == pytest.approx(3.806e-3 / 10)
    assert coarse.heat == "implicit"
    assert coarse.coarser() is None  # 7.612e-4 is above the limit of 4.03e-4
    assert DendriticSolidification().coarser() is None  # explicit: 2.0e-4 is above 1.125e-4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"grid": Grid(shape=(16, 16, 16), spacing=0.03)}, "two dimensions"),
        ({"grid": Grid(shape=(256, 256), spacing=0.04)}, "interface is 1.55 cells"),
        ({"grid": Grid(shape=(16, 16), spacing=0.03)}, "seed must fit"),
        ({"dt": 1.2e-4}, "heat equation is accurate for dt up to 0.0001125,"),
        ({"dt": 5e-4, "heat": "implicit"}, "phase-field equation is accurate for dt up to 0.000403"),
        ({"tau": 5e-5}, "phase-field"),
        ({"delta": -0.1}, "delta"),
        ({"delta": 1.0}, "delta"),
        ({"alpha": 1.0}, "alpha"),
        ({"undercooling": 0.0}, "undercooling"),
        ({"latent_heat": float("nan")}, "latent_heat"),
        ({"dt": 0.0}, "dt"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DendriticSolidification(**settings)


@pytest.mark.gpu
@pytest.mark.parametrize("heat", ["explicit", "implicit"])
def test_a_gpu_grows_the_same_crystals(heat: str) -> None:
    law = DendriticSolidification(grid=SMALL, heat=heat)
    p = law.vary({"theta0": [10.0, -20.0, 30.0]})
    host, device = (simulate(law, generators(0, 1, 2), 6, p, device).cpu() for device in ("cpu", "cuda"))
    torch.testing.assert_close(host, device, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_published_solid_fraction_and_tips() -> None:
    """The four published trajectories by their fitted parameters: two at undercooling 1, two stronger."""
    fitted = {"undercooling": [1.0, 1.21, 1.0, 1.37], "theta0": [16.3, 28.7, 28.1, -29.9]}
    law = DendriticSolidification()
    phi = simulate(law, generators(0, 1, 2, 3), 100, law.vary(fitted))[:, :, 0]
    assert float(phi.min()) > -0.006
    assert float(phi.max()) < 1.001
    solid = {
        0: {10: 0.0310, 20: 0.0487, 40: 0.090, 60: 0.148},
        1: {10: 0.0392, 20: 0.0715, 40: 0.150, 60: 0.266, 80: 0.411, 99: 0.551},
        2: {10: 0.0310, 20: 0.0492, 40: 0.092, 60: 0.149},
        3: {10: 0.0440, 20: 0.0905, 40: 0.206, 60: 0.377, 80: 0.587, 99: 0.725},
    }
    tips = {0: {20: 8.9, 60: 19.0}, 1: {20: 10.5, 60: 23.5, 99: 35.2}, 2: {20: 8.7, 60: 18.6}, 3: {20: 11.5, 60: 26.5}}
    for i in range(4):
        weak = fitted["undercooling"][i] == 1
        for frame, fraction in solid[i].items():
            assert float(phi[i, frame].mean()) == pytest.approx(fraction, rel=0.05 if weak else 0.12), (i, frame)
        for frame, radius in tips[i].items():
            assert tip_radius(phi[i, frame]) == pytest.approx(radius, abs=1 if weak else 2), (i, frame)
