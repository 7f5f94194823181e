"""Grains: hexagons and Voronoi diagrams with known answers, scipy with tiled copies, forecasts with known faults."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial import Voronoi, cKDTree

from microevo.metrics import grain_quantities, histogram, measure, measure_errors, wasserstein
from microevo.metrics.grains import (
    ANGLES,
    adjacent_grains,
    grain_sides,
    junction_angles,
    relative_radii,
    segment_grains,
    triple_junctions,
)
from microevo.metrics.objects import areas

QUANTITIES = grain_quantities()
PUBLISHED = Path(__file__).parents[3] / "shared" / "real" / "Grain_growth_test_10_10.npy"


def nearest_point(points: np.ndarray, box: tuple[float, float], shape: tuple[int, int]):
    """Which point is nearest to each pixel of a periodic box, and how much farther the second one is."""
    y, x = (np.arange(n) * side / n for n, side in zip(shape, box, strict=True))
    places = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)
    distance, index = cKDTree(points, boxsize=box).query(places, k=2)
    return index[..., 0], distance[..., 1] - distance[..., 0]


def micrograph(points: np.ndarray, side: int) -> np.ndarray:
    """Bright Voronoi grains with dark lines about 2 px wide between them."""
    _, gap = nearest_point(points, (side, side), (side, side))
    return np.tanh(gap / 1.2) ** 2


@pytest.fixture(scope="module")
def points():
    """Thirty points with a distance of at least 8 px, in a box of 64 px."""
    generator = np.random.default_rng(0)
    chosen = [generator.random(2) * 64]
    while len(chosen) < 30:
        new = generator.random(2) * 64
        step = (np.array(chosen) - new + 32) % 64 - 32
        if np.hypot(*step.T).min() > 8:
            chosen.append(new)
    return np.array(chosen)


@pytest.fixture(scope="module")
def frame(points):
    return micrograph(points, 64)


def hexagons(width: float) -> np.ndarray:
    """Labels of 36 hexagons, `width` px from side to side."""
    rows = np.arange(6)
    lattice = np.array([(r * math.sqrt(3) / 2 + 0.123, (c + 0.5 * (r % 2) + 0.217) % 6) for r in rows for c in rows])
    box = (6 * math.sqrt(3) / 2, 6.0)
    labels, _ = nearest_point(lattice, box, (round(box[0] * width), round(box[1] * width)))
    return (labels + 1).astype(np.int32)


# ------------------------------------------------------------- statistics


def test_every_grain_is_found_once_also_across_the_border(frame, points):
    labels = segment_grains(frame)
    assert sorted(np.unique(labels)) == list(range(1, 31))
    assert areas(labels).sum() == frame.size
    truth, _ = nearest_point(points, (64, 64), (64, 64))
    assert len({(a, b) for a, b in zip(labels.ravel(), truth.ravel(), strict=True)}) < 30 + 80
    agreeing = sum(np.bincount(labels[truth == grain]).max() for grain in range(30))
    assert agreeing > 0.97 * frame.size


def test_the_count_agrees_with_scipy_on_tiled_copies(frame):
    """Regions of 3 x 3 copies that touch the middle one, those that are shifts of each other counted once."""
    tiled, _ = ndimage.label(np.tile(frame > 0.8, (3, 3)))
    middle = tiled[64:128, 64:128]
    keys = set()
    for number in np.unique(middle[middle > 0]):
        inside = np.argwhere(tiled == number)
        if len(inside):
            keys.add(tuple((inside % 64)[np.lexsort((inside % 64).T)][0]))
    assert segment_grains(frame).max() == len(keys) == 30
    assert segment_grains(frame, periodic=False).max() == ndimage.label(frame > 0.8)[1] > 30


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published samples are not at ../shared/real")
def test_the_published_frames_have_as_many_grains_as_counted_by_others():
    """Windows start every 4 frames."""
    windows = np.load(PUBLISHED).astype(np.float64)
    frames = [windows[0, 0], windows[0, 10], windows[5, 0], windows[10, 0], windows[15, 0]]
    counts = [int(segment_grains(frame).max()) for frame in frames]
    np.testing.assert_allclose(counts, [73, 58, 52, 33, 28], atol=1)


def test_hexagons_have_six_sides_and_two_junctions_each():
    labels = hexagons(12)
    assert grain_sides(labels).tolist() == [6] * 36
    assert len(triple_junctions(labels)[0]) == 72
    assert len(adjacent_grains(labels)) == 108
    np.testing.assert_allclose(relative_radii(labels), 1, atol=0.03)


@pytest.mark.parametrize("width", [8, 10, 12, 16, 20])
def test_hexagons_meet_at_120_degrees(width):
    angles = junction_angles(hexagons(width))
    assert len(angles) >= 65
    np.testing.assert_allclose(angles.sum(axis=1), 360)
    assert angles.std() < 12


def test_square_bricks_meet_at_90_and_180_degrees():
    """A wall: two grains side by side under one."""
    labels = np.ones((33, 33), dtype=np.int32)
    labels[17:, :17], labels[17:, 17:] = 2, 3
    angles = junction_angles(labels, periodic=False)
    np.testing.assert_allclose(np.sort(angles), [[90, 90, 180]], atol=12)


def test_neighbours_agree_with_scipys_voronoi_diagram(points):
    labels, _ = nearest_point(points * 8, (512, 512), (512, 512))  # fine pixels, to see short sides
    found = {tuple(pair) for pair in (adjacent_grains((labels + 1).astype(np.int32)) - 1).tolist()}
    copies = np.concatenate([points + np.array([dy, dx]) * 64 for dy in (0, -1, 1) for dx in (0, -1, 1)])
    ridges = Voronoi(copies).ridge_points
    ridges = ridges[(ridges < 30).any(axis=1)] % 30
    expected = {tuple(sorted(pair)) for pair in ridges.tolist()}
    assert found == expected
    assert grain_sides((labels + 1).astype(np.int32)).mean() == pytest.approx(6, abs=0.2)  # Euler


def test_relative_radii_by_hand():
    labels = np.ones((4, 5), dtype=np.int32)
    labels[0, :4] = 2  # areas 16 and 4: radii 2 to 1
    np.testing.assert_allclose(relative_radii(labels), [4 / 3, 2 / 3])


def test_a_frame_without_bright_grains_has_none():
    labels = segment_grains(np.full((16, 16), 0.3))
    assert labels.max() == 0
    assert len(relative_radii(labels)) == len(grain_sides(labels)) == len(junction_angles(labels)) == 0


# ---------------------------------------------------------------- metrics


def batch(*frames: np.ndarray) -> torch.Tensor:
    """One trajectory of one frame for each."""
    return torch.from_numpy(np.stack(frames)).float()[:, None, None]


def test_values_of_a_known_polycrystal(frame):
    values = measure(QUANTITIES, batch(frame))
    assert values["grain_count"] == [[30]]
    assert values["grain_area"] == pytest.approx(4096 / 30)
    assert values["grain_size_w1"].sum() == values["grain_sides_tv"].sum() == 30
    assert values["junction_angle_w1"].sum() % 3 == 0


def test_the_perfect_forecast_has_no_error_and_a_shifted_one_has_its_statistics(frame):
    truth = batch(frame)
    for name, error in measure_errors(QUANTITIES, truth.clone(), truth).items():
        assert error.item() == 0, name
    shifted = measure_errors(QUANTITIES, truth.roll((13, 40), (3, 4)), truth)
    assert shifted["grain_count"].item() == shifted["grain_area"].item() == 0
    assert shifted["grain_size_w1"].item() < 0.03  # a few pixels between two grains go to the other one
    assert shifted["junction_angle_w1"].item() < 2


def test_other_polycrystals_are_told_apart(frame):
    generator = np.random.default_rng(3)
    fine = micrograph(generator.random((60, 2)) * 64, 64)
    errors = measure_errors(QUANTITIES, batch(fine), batch(frame))
    assert errors["grain_count"].item() > 15
    assert errors["grain_size_tv"].item() > 0.2
    assert all(error.item() > 0 for error in errors.values())


def test_a_blurred_forecast_loses_its_grains(frame):
    errors = measure_errors(QUANTITIES, batch(ndimage.gaussian_filter(frame, 3, mode="wrap")), batch(frame))
    assert errors["grain_count"].item() > 5


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_only_the_frame_that_is_not_finite_has_no_value(frame, value):
    truth = batch(frame, frame, frame)
    prediction = truth.clone()
    prediction[1, 0, 0, 3, 3] = value
    for name, error in measure_errors(QUANTITIES, prediction, truth).items():
        assert error.isnan().flatten().tolist() == [False, True, False], name


def test_no_grains_is_a_count_of_zero_and_no_mean_area(frame):
    values = measure(QUANTITIES, torch.zeros(1, 1, 1, 16, 16))
    assert values["grain_count"] == 0
    assert np.isnan(values["grain_area"])


def test_a_forecast_without_grains_has_the_worst_distributions(frame):
    grey = np.full((64, 64), 0.7)
    errors = {name: error.item() for name, error in measure_errors(QUANTITIES, batch(grey), batch(frame)).items()}
    assert errors["grain_count"] == 30
    assert math.isnan(errors["grain_area"])  # no grain, no mean
    assert errors["grain_size_tv"] == errors["grain_sides_tv"] == 1
    assert errors["grain_size_w1"] == 3
    assert errors["junction_angle_w1"] == 350
    # Forecast or truth, and nothing differs where neither has any.
    assert measure_errors(QUANTITIES, batch(frame), batch(grey))["grain_size_tv"].item() == 1
    assert measure_errors(QUANTITIES, batch(grey), batch(grey))["grain_size_tv"].item() == 0


def test_angles_about_120_degrees_are_in_one_bin_and_sharp_ones_apart():
    edges = np.array(ANGLES.edges)
    counts = [histogram(np.array([angle]), edges) for angle in (119.9, 120.1, 20.0, 60.0, 240.0, 340.0)]
    distances = [wasserstein(one, other, edges) for one, other in zip(counts[::2], counts[1::2], strict=True)]
    assert distances == [0, 40, 100]
    assert 120 in ANGLES.middles


def test_no_value_depends_on_the_batch(frame, points):
    frames = batch(frame, micrograph(points[:20], 64), frame.T)
    whole = measure(QUANTITIES, frames)
    for name, values in whole.items():
        parts = [measure(QUANTITIES, one[None])[name] for one in frames]
        np.testing.assert_array_equal(np.concatenate(parts), values)


def test_the_mean_area_grows_by_its_slope():
    fit = next(quantity.fit for quantity in QUANTITIES if quantity.name == "grain_area")
    times = np.arange(5.0)
    assert fit.function(np.array([[3 + 1.7 * t for t in times]]), times) == pytest.approx(1.7)
