import math

import numpy as np
import pytest
from scipy.fft import dctn

from microevo.metrics import (
    characteristic_length,
    mean_wave_number,
    peak_wave_number,
    power_spectrum,
    structure_factor,
    wave_numbers,
)


def cosine(size: tuple[int, int], modes: tuple[int, int]) -> np.ndarray:
    y, x = np.indices(size)
    return 0.3 + 0.1 * np.cos(2 * math.pi * (modes[0] * y / size[0] + modes[1] * x / size[1]))


@pytest.mark.parametrize(("size", "modes"), [((64, 64), (0, 5)), ((64, 64), (3, 4)), ((48, 60), (7, 0))])
def test_a_periodic_cosine_has_one_wave_number(size: tuple[int, int], modes: tuple[int, int]) -> None:
    q = 2 * math.pi * math.hypot(modes[0] / size[0], modes[1] / size[1])
    frame = cosine(size, modes)
    assert mean_wave_number(frame, periodic=True) == pytest.approx(q, rel=1e-9)
    assert characteristic_length(frame, periodic=True) == pytest.approx(2 * math.pi / q, rel=1e-9)
    shell = 2 * math.pi / min(size)
    assert abs(peak_wave_number(frame, periodic=True) - q) <= shell / 2


@pytest.mark.parametrize("half_waves", [1, 5, 9])
def test_a_cosine_between_walls_may_have_half_waves(half_waves: int) -> None:
    x = (np.arange(64) + 0.5) / 64
    frame = np.broadcast_to(np.cos(math.pi * half_waves * x), (32, 64))
    assert mean_wave_number(frame, periodic=False) == pytest.approx(math.pi * half_waves / 64, rel=1e-9)
    if half_waves % 2:  # the sides do not match: as a periodic frame it has a step
        assert mean_wave_number(frame, periodic=True) != pytest.approx(math.pi * half_waves / 64, rel=0.02)


def test_two_cosines_have_the_mean_of_their_wave_numbers_by_power() -> None:
    frame = 2 * cosine((64, 64), (0, 4)) + cosine((64, 64), (0, 12))
    assert mean_wave_number(frame, periodic=True) == pytest.approx(2 * math.pi / 64 * (4 * 4 + 12 * 1) / 5, rel=1e-9)


def test_the_spectrum_adds_up_to_the_variance() -> None:
    frames = np.random.default_rng(0).random((3, 24, 20))
    for periodic in (True, False):
        power = power_spectrum(frames, periodic=periodic)
        np.testing.assert_allclose(power.mean(axis=(-2, -1)), frames.var(axis=(-2, -1)), rtol=1e-12)
        assert power.shape[-2:] == wave_numbers(24, 20, periodic=periodic).shape


def test_between_walls_the_spectrum_is_that_of_the_cosine_transform() -> None:
    frame = np.random.default_rng(1).random((16, 12))
    modes = dctn(frame - frame.mean(), type=2)
    np.testing.assert_allclose(power_spectrum(frame, periodic=False)[:16, :12], modes**2 / (4 * 16 * 12), atol=1e-12)


def test_rings_are_means_over_the_modes_nearest_to_a_multiple() -> None:
    frames = np.random.default_rng(2).random((2, 24, 24))
    for periodic in (True, False):
        q, found = structure_factor(frames, periodic=periodic)
        shell = 2 * math.pi / 24
        np.testing.assert_allclose(q, shell * np.arange(1, 12))
        numbers = wave_numbers(24, 24, periodic=periodic)
        power = power_spectrum(frames, periodic=periodic)
        for i, middle in enumerate(q):
            rounding = 1e-9 if i % 2 else -1e-9  # ring i + 1: those half-way go to the even one
            ring = np.abs(numbers - middle) < shell / 2 + rounding
            np.testing.assert_allclose(found[:, i], power[:, ring].mean(axis=1), rtol=1e-9)


@pytest.mark.parametrize("middle", [0.47, 0.5, 0.53])
def test_the_peak_of_a_smooth_spectrum_is_found_between_rings(middle: float) -> None:
    q = wave_numbers(128, 128, periodic=True)
    phases = np.angle(np.fft.fft2(np.random.default_rng(3).random((128, 128))))  # of a real field
    frame = np.fft.ifft2(np.exp(-((q - middle) ** 2) / (4 * 0.12**2) + 1j * phases)).real
    assert peak_wave_number(frame, periodic=True) == pytest.approx(middle, abs=0.01)  # a fifth of a ring


def test_a_uniform_frame_has_no_wave_number() -> None:
    assert math.isnan(mean_wave_number(np.full((8, 8), 0.5), periodic=True))
