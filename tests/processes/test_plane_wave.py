import math
from pathlib import Path

import numpy as np
import pytest
import torch
from starts import generators
from torch import Tensor

from microevo.data import TrajectoryStore, generate
from microevo.data.generate import Range
from microevo.processes import Grid, simulate
from microevo.processes.plane_wave import PlaneWave

PUBLISHED = Path(__file__).parents[3] / "shared" / "real" / "Plane_wave_propagation_test_10_10.npy"
OPEN = Grid(shape=(32, 32), boundary="no-flux")
OMEGA, ALPHA, KY, KX = 0.61871, 0.007503, 0.20264, 0.04510  # least squares over 112 published frames


def closed_form(frames: int) -> np.ndarray:
    t, y, x = np.ogrid[:frames, :64, :64]
    return 0.5 + 0.5 * np.exp(-ALPHA * t) * np.cos(KX * x + KY * y + OMEGA * t + 2.816)


@pytest.fixture(scope="module")
def published() -> Tensor:
    """112 frames with the parameters of the published sample; u and v."""
    k = math.hypot(KX, KY)
    law = PlaneWave(
        wavelength=2 * math.pi / k,
        direction=math.degrees(math.atan2(KY, KX)),
        speed=math.hypot(OMEGA, ALPHA) / k,
        alpha=ALPHA,
    )
    return simulate(law, generators(0), 112)[0].double()


def test_every_frame_is_the_closed_form(published: Tensor) -> None:
    np.testing.assert_allclose(published[:, 0].numpy(), closed_form(112), atol=1e-6)


def test_statistics_of_the_published_sample(published: Tensor) -> None:
    u = published[:, 0]
    for t, std in {0: 0.353, 10: 0.328, 40: 0.262, 111: 0.154}.items():
        assert float(u[t].std()) == pytest.approx(std, rel=0.02)
    assert float(u[0].min()) == pytest.approx(0, abs=1e-3)
    assert float(u[0].max()) == pytest.approx(1, abs=1e-3)
    assert float(u[111].min()) == pytest.approx(0.283, abs=1e-3)
    assert float(u[111].max()) == pytest.approx(0.717, abs=1e-3)
    exact = closed_form(112)
    for t, published_change in {0: 0.215, 110: 0.094}.items():
        change = float((u[t + 1] - u[t]).square().mean().sqrt())
        assert change == pytest.approx(float(np.sqrt(((exact[t + 1] - exact[t]) ** 2).mean())), abs=1e-4)
        assert change == pytest.approx(published_change, abs=2e-3)
    for t in (0, 111):
        slope = float((u[t].diff(dim=0) ** 2).mean() + (u[t].diff(dim=1) ** 2).mean())
        assert slope == pytest.approx((KX**2 + KY**2) * 0.25 * math.exp(-2 * ALPHA * t) / 2, rel=0.02)


@pytest.mark.parametrize(("lead", "rmse"), [(1, 0.192), (5, 0.621), (10, 0.037), (50, 0.159), (90, 0.245)])
def test_persistence_errs_as_on_the_published_sample(published: Tensor, lead: int, rmse: float) -> None:
    starts = torch.tensor([0, 4, 8, 12])
    error = published[starts + 9 + lead, 0] - published[starts + 9, 0]
    assert float(error.square().mean(dim=(1, 2)).sqrt().mean()) == pytest.approx(rmse, abs=1e-3)


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published samples are not at ../shared/real")
def test_the_defaults_are_the_published_sample() -> None:
    windows = np.load(PUBLISHED).astype(np.float32)
    frames = simulate(PlaneWave(), generators(0), 88)[0, :, 0].numpy()
    for i, window in enumerate(windows):
        assert np.abs(frames[4 * i : 4 * i + 20] - window).max() < 0.01


def test_both_fields_solve_the_damped_wave_equation() -> None:
    law = PlaneWave(grid=OPEN, alpha=0.02, speed=2.0, precision="float64")
    stepper = law.stepper()
    stepper.start(law.initial(generators(0)))

    def at(time: float) -> Tensor:
        stepper.advance(time)
        return stepper.u - torch.tensor([0.5, 0.0]).reshape(2, 1, 1)

    d = 1e-3
    before, now, after = at(30 - d), at(30.0), at(30 + d)
    left = (after - 2 * now + before) / d**2 + 2 * law.alpha * (after - before) / (2 * d)
    torch.testing.assert_close(left, -((law.speed * law.wavenumber) ** 2) * now, atol=1e-5, rtol=0)
    assert law.omega**2 + law.alpha**2 == pytest.approx((law.speed * law.wavenumber) ** 2)


def test_it_travels_against_its_wave_vector() -> None:
    law = PlaneWave(grid=OPEN, wavelength=16.0, direction=0.0, speed=2.0, alpha=0.0, precision="float64")
    frames = simulate(law, generators(0), 2)[0, :, 0]
    torch.testing.assert_close(frames[1, :, :-2], frames[0, :, 2:])
    down = simulate(PlaneWave(grid=OPEN, wavelength=16.0, direction=90.0, speed=2.0, alpha=0.0), generators(0), 2)
    torch.testing.assert_close(down[0, 1, 0, :-2], down[0, 0, 0, 2:])


def test_a_late_phase_is_exact_in_float32() -> None:
    low, high = (
        simulate(PlaneWave(grid=OPEN, first_frame=1e6, alpha=0.0, precision=precision), generators(0), 1)
        for precision in ("float32", "float64")
    )
    torch.testing.assert_close(low, high, atol=5e-7, rtol=0)


def test_a_coarser_image_shows_the_same_wave() -> None:
    fine = Grid(shape=(128, 128), spacing=0.25, coarsen=4, boundary="no-flux")
    torch.testing.assert_close(
        simulate(PlaneWave(grid=fine), generators(0), 3),
        simulate(PlaneWave(grid=OPEN), generators(0), 3),
        atol=3e-3,
        rtol=0,
    )


def test_same_bytes_in_any_batch() -> None:
    values = {"wavelength": [20.0, 25.0, 40.0], "direction": [0.0, 100.0, 290.0], "alpha": [0.0, 0.01, 0.005]}
    together = simulate(PlaneWave(grid=OPEN), generators(0, 1, 2), 20, PlaneWave(grid=OPEN).vary(values))
    for i in range(3):
        one = {name: value[i] for name, value in values.items()}
        assert torch.equal(together[i : i + 1], simulate(PlaneWave(grid=OPEN, **one), generators(0), 20))


def test_a_store_of_different_waves(tmp_path: Path) -> None:
    draw = {"wavelength": Range(low=15.0, high=48.0, log=True), "phase": Range(low=0.0, high=2 * math.pi)}
    generate(PlaneWave(grid=OPEN), tmp_path / "waves.zarr", splits={"train": 5}, frames=4, sample=draw)
    attributes = TrajectoryStore.open(tmp_path / "waves.zarr").attributes
    assert attributes["symmetries"] == ["flip", "rotate"]
    assert set(attributes["statistics"]) == {"u", "v"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"grid": Grid()}, "no-flux"),
        ({"grid": Grid(shape=(8, 8, 8), boundary="no-flux")}, "two dimensions"),
        ({"wavelength": 14.0}, "period of the wave has 4.70 frames"),
        ({"frame_interval": 2.1}, "period"),
        ({"wavelength": 2.0}, "two pixels"),
        ({"wavelength": float("nan")}, "wavelength"),
        ({"amplitude": 0.6}, "amplitude"),
        ({"amplitude": 0.0}, "amplitude"),
        ({"alpha": -0.1}, "alpha"),
        ({"alpha": 2.0}, "alpha"),
        ({"speed": 0.0}, "speed"),
        ({"phase": float("nan")}, "phase"),
        ({"direction": float("inf")}, "direction"),
        ({"speed": -3.0}, "speed"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PlaneWave(**settings)


def test_one_too_fast_wave_among_many_is_refused() -> None:
    with pytest.raises(ValueError, match="period"):
        PlaneWave().vary({"wavelength": [30.0, 12.0]})
