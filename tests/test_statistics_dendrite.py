import math

import numpy as np
import pytest

from microevo.statistics import mean_gradient_magnitude, solid_fraction, tip_radius


def test_a_round_crystal() -> None:
    y, x = np.indices((64, 64)) - 31.5
    radii = np.array([8.0, 15.0, 22.0])
    frames = 0.5 - 0.5 * np.tanh((np.hypot(y, x) - radii[:, None, None]) / 1.5)
    # Mean of the tanh disc: pi (r^2 + pi^2 s^2 / 12); the co-area formula gives the perimeter for |grad u|.
    np.testing.assert_allclose(
        solid_fraction(frames), np.pi * (radii**2 + (math.pi * 1.5) ** 2 / 12) / 64**2, rtol=1e-3
    )
    np.testing.assert_allclose(tip_radius(frames), radii, atol=0.6)
    np.testing.assert_allclose(mean_gradient_magnitude(frames), 2 * np.pi * radii / 64**2, rtol=0.03)


def test_the_tip_is_the_farthest_pixel() -> None:
    frame = np.zeros((2, 9, 9))
    frame[0, 4, 4] = frame[0, 1, 8] = 1
    assert tip_radius(frame)[0] == pytest.approx(5.0)
    assert np.isnan(tip_radius(frame)[1])


def test_gradient_of_a_ramp_with_and_without_a_border() -> None:
    ramp = np.broadcast_to(0.1 * np.arange(10.0), (6, 10))
    assert mean_gradient_magnitude(ramp, periodic=False) == pytest.approx(0.1)
    assert mean_gradient_magnitude(ramp) == pytest.approx((8 * 0.1 + 2 * 0.4) / 10)
