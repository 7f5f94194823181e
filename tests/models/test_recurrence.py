"""The linear recurrence that a forecast may start from."""

import math

import pytest
import torch

from microevo.models import LocalNet
from microevo.models.recurrence import fit_recurrence, prolonged
from microevo.processes import Grid, PlaneWave, simulate, trajectory_generator

WAVE = PlaneWave(grid=Grid(shape=(16, 16), boundary="no-flux"), wavelength=20.0)


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    """The real part of a damped wave, 1 x 40 x 1 x 16 x 16."""
    return simulate(WAVE, [trajectory_generator(0, 0)], 40)[:, :, :1]


def test_a_damped_wave_has_the_coefficients_of_theory(frames: torch.Tensor):
    a, b, constant = fit_recurrence(frames[:, :10], 2)[0, 0].tolist()
    decay = math.exp(-WAVE.alpha)
    assert a == pytest.approx(2 * decay * math.cos(WAVE.omega), rel=1e-4)
    assert b == pytest.approx(-(decay**2), rel=1e-4)
    assert constant == pytest.approx((1 - a - b) / 2, abs=1e-5)  # it swings about 1/2


def test_frames_at_rest_stay_as_they_are():
    rest = torch.rand(2, 1, 2, 4, 4).expand(-1, 5, -1, -1, -1)
    torch.testing.assert_close(prolonged(rest, fit_recurrence(rest, 2), 3), rest[:, :3], rtol=0, atol=1e-4)


@pytest.mark.parametrize("frames_per_call", [1, 4])
def test_an_untrained_network_forecasts_a_wave(frames: torch.Tensor, frames_per_call: int):
    model = LocalNet(widths=[4], blocks=1, recurrence=2, frames_per_call=frames_per_call, boundary="no-flux")
    torch.nn.init.zeros_(model.net.head.conv.weight)
    torch.testing.assert_close(model(frames[:, :10], 30), frames[:, 10:], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recurrence": 10}, "recurrence must be below n_past = 10, and not negative, but it is 10"),
        ({"recurrence": -1}, "and not negative, but it is -1"),
        ({"recurrence": 2, "head": "conserving"}, "a recurrence does not conserve the mean, but head is conserving"),
    ],
)
def test_impossible_recurrences_are_refused(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        LocalNet(**settings)
