"""Crystals and waves: closed forms, and forecasts that stand still, run backwards or are not finite."""

import math

import numpy as np
import pytest
import torch

from microevo.metrics import dendrite_quantities, measure, measure_errors, wave_quantities
from microevo.processes import PlaneWave, simulate
from microevo.processes.process import trajectory_generator

SPEED = 0.8  # px per frame


@pytest.fixture(scope="module")
def crystal():
    """A disc that grows in the middle of the frame, 6 past and 15 future frames."""
    centre = np.arange(64) - 31.5
    distance = np.hypot(centre[:, None], centre)
    frames = [0.5 - 0.5 * np.tanh(distance - (4 + SPEED * t)) for t in range(21)]
    frames = torch.from_numpy(np.stack(frames)).float()[None, :, None]
    return frames[:, :6], frames[:, 6:]


@pytest.fixture(scope="module")
def wave():
    process = PlaneWave()
    frames = simulate(process, [trajectory_generator(0, 0)], 24)[:, :, :1]
    return process, frames[:, :4], frames[:, 4:]


# --------------------------------------------------------------- crystals


def test_a_growing_disc(crystal):
    past, future = crystal
    values = measure(dendrite_quantities(), future, past)
    radii = 4 + SPEED * np.arange(6, 21)
    np.testing.assert_allclose(values["tip_radius"][0], radii, atol=0.8)  # to the middle of the last pixel
    assert values["tip_speed"].mean() == pytest.approx(SPEED, rel=0.05)
    np.testing.assert_allclose(values["solid_fraction"][0], math.pi * radii**2 / 4096, rtol=0.02)
    np.testing.assert_allclose(values["gradient_magnitude"][0], 2 * math.pi * radii / 4096, rtol=0.05)


def test_a_frozen_crystal_falls_behind_at_the_speed_of_the_true_one(crystal):
    past, future = crystal
    errors = measure_errors(dendrite_quantities(), past[:, -1:].expand_as(future), future, past)
    assert errors["tip_speed"][0, 5:].mean() == pytest.approx(SPEED, rel=0.1)
    for name in ("tip_radius", "solid_fraction", "gradient_magnitude"):
        assert (errors[name][0].diff() >= 0).all(), name
    assert all(
        (error == 0).all() for error in measure_errors(dendrite_quantities(), future.clone(), future, past).values()
    )


def test_a_crystal_of_melt_only_has_no_tip(crystal):
    past, future = crystal
    errors = measure_errors(dendrite_quantities(), torch.zeros_like(future), future, past)
    assert errors["tip_radius"].isnan().all()
    assert errors["solid_fraction"].isfinite().all()


def test_crystals_that_are_not_finite(crystal):
    past, future = crystal
    prediction = future.clone()
    prediction[0, 4] = math.inf
    for name, error in measure_errors(dendrite_quantities(lag=3), prediction, future, past).items():
        assert error[0].isnan().nonzero().flatten().tolist() == ([4, 7] if name == "tip_speed" else [4]), name


# ------------------------------------------------------------------ waves


def test_a_simulated_wave_has_its_parameters(wave):
    process, past, future = wave
    values = measure(wave_quantities(), future, past)
    times = 4 + np.arange(20)
    np.testing.assert_allclose(values["wave_amplitude"][0], 0.5 * np.exp(-process.alpha * times), rtol=1e-4)
    np.testing.assert_allclose(values["wavelength"], process.wavelength, rtol=1e-4)
    np.testing.assert_allclose(values["wave_direction"], process.direction, atol=0.01)
    omega = math.sqrt((process.speed * 2 * math.pi / process.wavelength) ** 2 - process.alpha**2)
    np.testing.assert_allclose(values["phase_velocity"], omega * process.wavelength / (2 * math.pi), rtol=1e-4)
    assert values["wave_residual"].max() < 1e-5


def test_a_standing_and_a_backward_forecast(wave):
    process, past, future = wave
    standing = past[:, -1:].expand_as(future)
    values = measure(wave_quantities(), standing, past)
    np.testing.assert_allclose(values["phase_velocity"], 0, atol=1e-4)
    backward = past[:, :3].flip(1)
    values = measure(wave_quantities(), backward, past)
    np.testing.assert_allclose(values["phase_velocity"], -process.speed, rtol=1e-3)
    errors = measure_errors(wave_quantities(), backward, future[:, :3], past)
    np.testing.assert_allclose(errors["phase_velocity"], 2 * process.speed, rtol=1e-3)
    assert errors["wave_direction"].max() < 0.01


def test_a_wave_of_half_the_contrast_is_wrong_in_amplitude_alone(wave):
    _, past, future = wave
    errors = measure_errors(wave_quantities(), 0.5 + (future - 0.5) / 2, future, past)
    np.testing.assert_allclose(
        errors["wave_amplitude"], measure(wave_quantities(), future, past)["wave_amplitude"] / 2, rtol=1e-3
    )
    assert errors["wavelength"].max() < 1e-2
    assert errors["phase_velocity"].max() < 1e-3


def test_waves_that_are_not_finite_or_not_there(wave):
    _, past, future = wave
    prediction = future.clone()
    prediction[0, 6, 0, 0, 0] = math.nan
    for name, error in measure_errors(wave_quantities(), prediction, future, past).items():
        assert error[0].isnan().tolist() == [False] * 6 + [True] * 14, name
    flat = measure(wave_quantities(), torch.full_like(future, 0.5), past)
    np.testing.assert_array_equal(flat["wave_amplitude"], 0)
    assert np.isnan(flat["wavelength"]).all()


def test_no_value_depends_on_the_batch(wave):
    _, past, future = wave
    frames, before = (torch.cat([u, u.flip(3), 1 - u]) for u in (future[:, :5], past))
    whole = measure(wave_quantities(), frames, before)
    for i in range(3):
        one = measure(wave_quantities(), frames[i : i + 1], before[i : i + 1])
        for name, values in whole.items():
            np.testing.assert_allclose(one[name][0], values[i], rtol=1e-9, err_msg=name)
