import math

import numpy as np
import pytest

from microevo.metrics import mean_gradient_magnitude, solid_fraction, tip_radius


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


def test_the_tip_is_the_farthest_pixel_of_the_crystal() -> None:
    frame = np.zeros((4, 9, 9))
    # Along a diagonal and then straight on; the corner opposite is no part of it.
    frame[0, [4, 3, 2, 1], [4, 5, 6, 6]] = frame[0, 8, 0] = 1
    frame[2, 4, 4] = frame[2, :3, 6:] = 1  # the small one in the middle, not the large one outside
    frame[3, 0, 0] = frame[3, 6, 4:8] = 1  # nothing in the middle: the largest
    expected = [math.hypot(3, 2), np.nan, 0, math.hypot(2, 3)]
    np.testing.assert_allclose(tip_radius(frame), expected)
    np.testing.assert_allclose(tip_radius(frame.reshape(2, 2, 9, 9)), np.reshape(expected, (2, 2)))
    assert tip_radius(frame[:0]).shape == (0,)


def test_a_stray_pixel_does_not_move_the_tip() -> None:
    y, x = np.indices((64, 64)) - 31.5
    frame = 0.5 - 0.5 * np.tanh(np.hypot(y, x) - 10)
    stray = frame.copy()
    stray[0, 0] = 1
    for subpixel in (False, True):
        assert tip_radius(stray, subpixel=subpixel) == tip_radius(frame, subpixel=subpixel)


def test_between_two_pixels_the_tip_is_where_the_field_falls_to_the_level() -> None:
    frame = np.zeros((3, 9, 9))
    frame[:, 4, 4:7] = 1
    frame[0, 4, 7] = 0.25  # 0.5 lies two thirds of the way from 1 at 2 px to 0.25 at 3 px
    frame[1, 4, 6:9] = 1  # up to the border, where it ends half a pixel to either side
    frame[2, 4, 2] = frame[2, 4, 3] = 0.6  # on the left 0.6 at 2 px to 0 at 3 px, on the right 1 to 0
    np.testing.assert_allclose(tip_radius(frame, subpixel=True), [2 + 2 / 3, math.hypot(4, 0.5), 2.5])
    np.testing.assert_allclose(tip_radius(frame[2], level=0.55, subpixel=True), 2.45)
    assert np.isnan(tip_radius(frame, level=2.0, subpixel=True)).all()


def test_a_disc_that_grows_by_less_than_a_pixel() -> None:
    y, x = np.indices((64, 64)) - 31.5
    radii = np.arange(8, 20, 0.1)
    frames = 0.5 - 0.5 * np.tanh((np.hypot(y, x) - radii[:, None, None]) / 1.5)
    fine, coarse = tip_radius(frames, subpixel=True), tip_radius(frames)
    np.testing.assert_allclose(fine, radii, atol=0.06)
    assert np.diff(fine).min() > 0.03
    assert np.diff(coarse).min() == 0
    assert (fine - coarse).min() >= 0
    assert (fine - coarse).mean() < 0.5


def test_gradient_of_a_ramp_with_and_without_a_border() -> None:
    ramp = np.broadcast_to(0.1 * np.arange(10.0), (6, 10))
    assert mean_gradient_magnitude(ramp, periodic=False) == pytest.approx(0.1)
    assert mean_gradient_magnitude(ramp) == pytest.approx((8 * 0.1 + 2 * 0.4) / 10)
