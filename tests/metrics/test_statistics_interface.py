import math

import numpy as np
import pytest
from skimage.measure import perimeter_crofton

from microevo.metrics import (
    contour_curvature,
    grain_boundary_profile,
    interface_length,
    interface_width,
    squared_gradient,
)

SIZE = 64


def disc(radius: float, centre: tuple[float, float], scale: float = 1.0, periodic: bool = True) -> np.ndarray:
    """1 inside and 0 outside, with a tanh of the half-width `scale` between."""
    apart = [np.abs(np.arange(SIZE) - c) for c in centre]
    if periodic:
        apart = [np.minimum(d, SIZE - d) for d in apart]
    return 0.5 - 0.5 * np.tanh((np.hypot(apart[0][:, None], apart[1]) - radius) / scale)


def stripe(scale: float, angle: float) -> np.ndarray:
    """A straight interface through the middle."""
    y, x = np.indices((SIZE, SIZE)) - (SIZE - 1) / 2
    return 0.5 + 0.5 * np.tanh((y * math.sin(angle) + x * math.cos(angle)) / scale)


# ------------------------------------------------------------------ width


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 4])
@pytest.mark.parametrize("scale", [0.8, 1.0, 1.5, 3.0])
def test_width_of_a_tanh(scale: float, angle: float) -> None:
    expected = 2 * math.atanh(0.8) * scale
    # Cubic splines through less than two pixels per width overshoot a little.
    assert interface_width(stripe(scale, angle), periodic=False) == pytest.approx(
        expected, rel=0.04 if scale < 1 else 0.02
    )


def test_width_is_relative_to_the_phases() -> None:
    frame = stripe(1.0, 0.2)
    expected = interface_width(frame, periodic=False)
    assert interface_width(0.2 + 0.7 * frame, periodic=False, level=0.55) == pytest.approx(expected, rel=1e-3)


def test_width_across_a_periodic_border() -> None:
    inside, across = disc(15, (31.5, 31.5)), disc(15, (0.5, 2.5))
    expected = 2 * math.atanh(0.8)
    assert interface_width(inside, periodic=True) == pytest.approx(expected, rel=0.02)
    assert interface_width(across, periodic=True) == pytest.approx(expected, rel=0.02)


def test_no_interface_has_no_width() -> None:
    assert math.isnan(interface_width(np.full((SIZE, SIZE), 0.2), periodic=True))


# ------------------------------------------------------------------ length


@pytest.mark.parametrize("centre", [(31.3, 30.2), (0.4, 31.0), (63.2, 0.1)])
@pytest.mark.parametrize("radius", [5.0, 12.0, 20.0])
def test_length_of_a_circle_wherever_it_is(radius: float, centre: tuple[float, float]) -> None:
    assert interface_length(disc(radius, centre), periodic=True) == pytest.approx(2 * math.pi * radius, rel=0.005)


def test_length_agrees_with_a_count_of_crossings() -> None:
    frame = np.maximum(disc(9, (20.0, 22.0)), disc(7, (45.0, 40.0)))
    crofton = perimeter_crofton(frame > 0.5, directions=4)
    assert interface_length(frame, periodic=False) == pytest.approx(crofton, rel=0.06)  # it counts pixels, not greys


def test_length_up_to_the_walls() -> None:
    quarter = disc(20, (-0.5, -0.5), periodic=False)  # the corner of the outermost pixel
    assert interface_length(quarter, periodic=False) == pytest.approx(math.pi * 10, rel=0.005)
    assert interface_length(stripe(1.0, 0.0), periodic=False) == pytest.approx(SIZE, rel=1e-9)
    assert interface_length(stripe(1.0, 0.0), periodic=True) == pytest.approx(2 * SIZE, rel=1e-9)  # and at the border


def test_length_of_a_batch() -> None:
    frames = np.stack([disc(r, (31.0, 31.0)) for r in (6, 9, 12, 15)]).reshape(2, 2, SIZE, SIZE)
    found = interface_length(frames, periodic=True)
    np.testing.assert_allclose(found, 2 * np.pi * np.array([[6, 9], [12, 15]]), rtol=0.005)


# ------------------------------------------------------------------ curvature


@pytest.mark.parametrize("centre", [(31.3, 30.2), (63.2, 0.1)])
@pytest.mark.parametrize("radius", [5.0, 8.0, 15.0])
def test_curvature_of_a_disc_and_of_a_hole(radius: float, centre: tuple[float, float]) -> None:
    # Smoothing shrinks a circle to exp(-sigma^2 / 2 r^2) of its radius.
    expected = math.exp(1.5**2 / (2 * radius**2)) / radius
    frame = disc(radius, centre)
    found = contour_curvature(frame, periodic=True)
    assert found.mean() == pytest.approx(expected, rel=0.01)
    assert found.std() < 0.06 * expected
    assert len(found) == pytest.approx(2 * math.pi * radius / 0.5, rel=0.02)
    assert contour_curvature(1 - frame, periodic=True).mean() == pytest.approx(-expected, rel=0.01)


def test_curvature_at_walls_is_that_of_the_mirrored_disc() -> None:
    found = contour_curvature(disc(15, (-0.5, 20.0), periodic=False), periodic=False)
    assert found.mean() == pytest.approx(1 / 15, rel=0.02)
    assert np.abs(found - 1 / 15).max() < 0.1 / 15
    assert len(found) == pytest.approx(math.pi * 15 / 0.5, rel=0.03)


def test_a_straight_interface_is_not_curved() -> None:
    assert np.abs(contour_curvature(stripe(1.0, 0.0), periodic=False)).max() < 1e-6
    assert np.abs(contour_curvature(stripe(1.0, 0.5), periodic=False)[20:-20]).max() < 0.02
    assert not len(contour_curvature(np.zeros((SIZE, SIZE)), periodic=True))


def test_an_ellipse_has_its_distribution_of_curvature() -> None:
    a, b = 24.0, 16.0
    y, x = np.indices((SIZE, SIZE)) - 31.5
    frame = 0.5 - 0.5 * np.tanh((np.hypot(x / a, y / b) - 1) * 15)
    found = contour_curvature(frame, periodic=True)
    angle = np.linspace(0, 2 * np.pi, 20001)
    speed = np.hypot(a * np.sin(angle), b * np.cos(angle))
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff([a * np.cos(angle), b * np.sin(angle)], axis=1)))])
    even = np.interp(np.linspace(0, length[-1], 2000), length, a * b / speed**3)
    np.testing.assert_allclose(np.percentile(found, [10, 50, 90]), np.percentile(even, [10, 50, 90]), atol=0.002)


# ------------------------------------------------------------------ gradient, grain boundaries


def test_squared_gradient_of_a_cosine() -> None:
    k = 2 * math.pi * 3 / SIZE
    x = np.arange(SIZE)
    frame = np.broadcast_to(np.cos(k * x), (2, SIZE, SIZE))
    np.testing.assert_allclose(squared_gradient(frame, periodic=True), 2 * math.sin(k / 2) ** 2, rtol=1e-12)
    assert squared_gradient(np.broadcast_to(0.25 * x, (9, SIZE)), periodic=False) == pytest.approx(0.0625)
    frame = np.random.default_rng(0).random((7, 9))
    expected = np.square(np.diff(frame, axis=0)).mean() + np.square(np.diff(frame, axis=1)).mean()
    assert squared_gradient(frame, periodic=False) == pytest.approx(expected)


def test_profile_of_straight_grain_boundaries() -> None:
    # 1 - depth sech^2(x / w): half of the depth at +-0.8814 w; 10 and 90 % at 1.8184 w and 0.3275 w.
    depth, width = 0.8, 1.3
    y = np.arange(SIZE)
    lines = sum(np.cosh((y - centre) / width) ** -2 for centre in (12.0, 44.0))
    frame = np.broadcast_to(1 - depth * lines, (SIZE, SIZE))
    for found in (
        grain_boundary_profile(f, periodic=True) for f in (frame, frame.T.copy(), np.roll(frame, 20, axis=1))
    ):
        assert found.full_width == pytest.approx(2 * 0.8814 * width, rel=0.02)
        assert found.flank == pytest.approx((1.8184 - 0.3275) * width, rel=0.02)
        assert found.floor == pytest.approx(1 - depth, abs=0.005)
        assert found.profiles >= 2 * SIZE


def test_no_grain_boundary_has_no_profile() -> None:
    found = grain_boundary_profile(np.ones((8, 8)), periodic=True)
    assert found.profiles == 0
    assert math.isnan(found.full_width)
