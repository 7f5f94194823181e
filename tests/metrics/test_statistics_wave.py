import math

import numpy as np
import pytest
import torch

from microevo.metrics import fit_damped_wave, fit_frames, measure, measure_errors, wave_quantities
from microevo.processes import Grid, PlaneWave, simulate, trajectory_generator


def still(wavelength: float, direction: float, *, amplitude: float = 0.4, phase: float = 0.3) -> np.ndarray:
    """One frame of a wave: wavelength [px], direction of the wave vector from x to y [degrees], phase [rad]."""
    y, x = np.indices((64, 64))
    along = math.sin(math.radians(direction)) * y + math.cos(math.radians(direction)) * x
    return 0.5 + amplitude * np.cos(2 * math.pi / wavelength * along + phase)


def faint_noise(level: float = 1e-6) -> np.ndarray:
    return 0.5 + level * np.random.default_rng(0).standard_normal((64, 64))


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
    with pytest.raises(ValueError, match="but 0 of these do"):
        fit_damped_wave(frames[:2])


@pytest.mark.parametrize(("wavelength", "direction"), [(30.27, -12.5), (11.87, 77.5), (45.0, 20.0), (18.0, 110.0)])
def test_a_wave_is_found_wherever_the_one_before_was(wavelength: float, direction: float) -> None:
    found = fit_frames(np.stack([still(30.27, 77.5), still(30.27, 77.5, phase=0.8), still(wavelength, direction)]))
    np.testing.assert_allclose(found.wavelength, [30.27, 30.27, wavelength], rtol=1e-4)
    angle = np.degrees(np.arctan2(*found.wave_vector[2]))
    assert abs((angle - direction + 90) % 180 - 90) < 1e-2
    assert found.residual.max() < 1e-5


def test_the_sign_of_the_wave_vector_is_carried_on_when_the_search_begins_anew() -> None:
    # The second wave is so far off that only the spectrum leads to it, which does not tell k from -k.
    for direction in (70.0, 250.0):
        frames = [still(30.0, direction), still(30.0, direction, phase=0.8), still(12.0, direction, phase=0.9)]
        found = fit_frames(np.stack(frames))
        np.testing.assert_allclose(np.degrees(np.arctan2(*found.wave_vector.T)) % 360, direction, atol=1e-2)


@pytest.mark.parametrize("noise", [faint_noise(), faint_noise() + 0.1, np.full((64, 64), 0.6)])
def test_noise_and_grey_are_no_wave(noise: np.ndarray) -> None:
    found = fit_frames(
        np.stack([still(30.27, 77.5), still(30.27, 77.5, phase=0.8), noise, still(30.27, 77.5, phase=1.8)])
    )
    assert np.isnan(found.wavelength).tolist() == [False, False, True, False]
    assert np.isnan(found.phase).tolist() == [False, False, True, False]
    np.testing.assert_allclose(found.phase[[0, 1, 3]], [0.3, 0.8, 1.8], atol=1e-4)
    assert found.amplitude[2] == pytest.approx(abs(float(noise.mean()) - 0.5), abs=2e-6)
    np.testing.assert_allclose(found.phase_velocity, [0.5 * 30.27 / (2 * math.pi), np.nan, np.nan], rtol=1e-4)


def test_half_of_the_variance_makes_a_wave() -> None:
    frame = still(20.0, 30.0, amplitude=0.1 * math.sqrt(2))  # rms 0.1
    noise = np.random.default_rng(1).standard_normal((64, 64))
    found = fit_frames(np.stack([frame + 0.08 * noise, frame + 0.12 * noise]))
    assert found.wavelength[0] == pytest.approx(20.0, rel=0.01)
    assert np.isnan(found.wavelength[1])
    assert found.residual == pytest.approx([0.08, 0.12], rel=0.02)


def test_a_faint_wave_is_as_good_as_a_strong_one() -> None:
    found = fit_frames(
        np.stack([still(30.27, 77.5), still(25.0, 60.0, amplitude=1e-4), still(25.0, 60.0, amplitude=1e-7)])
    )
    np.testing.assert_allclose(found.wavelength[1:], 25.0, rtol=1e-5)
    np.testing.assert_allclose(found.amplitude[1:], [1e-4, 1e-7], rtol=1e-5)


def test_errors_of_forecasts_of_another_wave_or_none() -> None:
    truth = np.stack([still(30.27, 77.5, phase=0.5 * t) for t in range(5)])
    past, future = (torch.from_numpy(frames)[None, :, None] for frames in (truth[:2], truth[2:]))
    frames = np.stack([still(30.27, -12.5), faint_noise(), still(11.87, 77.5)])
    forecast = torch.from_numpy(frames)[None, :, None]
    values = measure(wave_quantities(), forecast, past)
    assert np.isnan(values["wave_direction"][0]).tolist() == [False, True, False]
    errors = {
        name: error[0].numpy() for name, error in measure_errors(wave_quantities(), forecast, future, past).items()
    }
    np.testing.assert_allclose(errors["wave_direction"], [90, np.nan, 0], atol=0.01)
    np.testing.assert_allclose(errors["wave_amplitude"], [0, 0.4, 0], atol=1e-4)
    np.testing.assert_allclose(errors["wavelength"], [0, np.nan, 30.27 - 11.87], atol=1e-3)
