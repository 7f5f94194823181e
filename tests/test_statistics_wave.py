import math

import numpy as np
import pytest
import torch

from microevo.processes import Grid, PlaneWave, simulate, trajectory_generator
from microevo.statistics import fit_damped_wave, fit_frames


def wave(t: np.ndarray, ky: float, kx: float, omega: float, phase: float, decay: float = 0.01) -> np.ndarray:
    y, x = np.indices((40, 50))
    angle = ky * y + kx * x + omega * t[:, None, None] + phase
    return 0.5 + 0.4 * np.exp(-decay * t)[:, None, None] * np.cos(angle)


@pytest.mark.parametrize(
    ("ky", "kx", "omega", "phase"), [(0.2, 0.05, 0.6, 2.8), (-0.13, 0.4, 0.9, -1.0), (0.3, -0.3, 0.2, 0.1)]
)
def test_a_known_wave_is_found(ky: float, kx: float, omega: float, phase: float) -> None:
    t = np.arange(30.0)
    frames = wave(t, ky, kx, omega, phase)
    found = fit_damped_wave(frames)
    assert found.amplitude == pytest.approx(0.4, abs=1e-7)
    assert found.decay == pytest.approx(0.01, abs=1e-8)
    assert found.wave_vector == pytest.approx((ky, kx), abs=1e-7)
    assert found.omega == pytest.approx(omega, abs=1e-7)
    assert found.phase == pytest.approx(phase, abs=1e-6)
    assert found.residual < 1e-7
    assert found.phase_velocity == pytest.approx(omega / math.hypot(ky, kx))
    each = fit_frames(frames)
    np.testing.assert_allclose(each.amplitude, 0.4 * np.exp(-0.01 * t), atol=1e-6)
    np.testing.assert_allclose(each.wavelength, 2 * math.pi / math.hypot(ky, kx), rtol=1e-5)
    np.testing.assert_allclose(each.phase_velocity, omega / math.hypot(ky, kx), rtol=1e-4)
    np.testing.assert_allclose(each.wave_vector, np.broadcast_to([ky, kx], (30, 2)), atol=1e-5)


def test_a_wave_that_travels_the_other_way_has_the_other_wave_vector() -> None:
    frames = wave(np.arange(12.0), 0.2, 0.05, -0.6, 0.4)
    found = fit_damped_wave(frames)
    assert found.omega == pytest.approx(0.6)
    assert found.wave_vector == pytest.approx((-0.2, -0.05))


def test_noise_hardly_moves_the_fit_and_is_the_residual() -> None:
    frames = wave(np.arange(20.0), 0.2, 0.05, 0.6, 1.0)
    found = fit_damped_wave(frames + np.random.default_rng(0).normal(scale=0.05, size=frames.shape))
    assert found.residual == pytest.approx(0.05, rel=0.02)
    assert found.wave_vector == pytest.approx((0.2, 0.05), abs=3e-4)
    assert found.omega == pytest.approx(0.6, abs=1e-3)


def test_the_simulated_wave_has_the_parameters_of_its_process() -> None:
    law = PlaneWave(
        grid=Grid(shape=(48, 48), boundary="no-flux"), wavelength=20.0, direction=30.0, phase=1.0, alpha=0.01
    )
    frames = simulate(law, [trajectory_generator(0, 0)], 25)[0, :, 0].to(torch.float64).numpy()
    found = fit_damped_wave(frames)
    k = 2 * math.pi / 20
    assert found.wavelength == pytest.approx(20, rel=1e-5)
    assert found.wave_vector == pytest.approx((k * math.sin(math.pi / 6), k * math.cos(math.pi / 6)), rel=1e-5)
    assert found.omega == pytest.approx(float(law.omega), rel=1e-5)
    assert found.decay == pytest.approx(0.01, rel=1e-4)
    assert found.amplitude == pytest.approx(0.5, rel=1e-5)


def test_frames_without_a_wave() -> None:
    frames = np.full((3, 10, 10), 0.5)
    frames[2] = np.nan
    found = fit_frames(frames)
    assert found.amplitude[:2].tolist() == [0.0, 0.0]
    assert np.isnan(found.amplitude[2])
    assert np.isnan(found.wave_vector).all()
    with pytest.raises(ValueError, match="at least 2 frames"):
        fit_damped_wave(frames[:1])
