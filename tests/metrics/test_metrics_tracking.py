"""Particles followed through time: discs that grow, shrink, vanish and merge as told."""

import math

import numpy as np
import pytest
import torch

from microevo.metrics import Quantity, measure, measure_errors, particle_quantities
from microevo.metrics.objects import label
from microevo.metrics.particles import (
    follow,
    followed_areas,
    growth_rates,
    link,
    merged_or_split,
    particles_lost,
)


def discs(*circles: tuple[float, float, float], side: int = 48) -> np.ndarray:
    """Dark discs (y, x, radius) in a bright, periodic frame."""
    grid = np.arange(side)
    frame = np.ones((side, side), dtype=np.float32)
    for y, x, radius in circles:
        dy, dx = ((grid - centre + side / 2) % side - side / 2 for centre in (y, x))
        frame[np.hypot(dy[:, None], dx) < radius] = 0
    return frame


def numbered(frames: np.ndarray) -> np.ndarray:
    return np.stack([label(frame < 0.5, connectivity=8, periodic=True)[0] for frame in frames])


# One grows across the border, one shrinks and vanishes, one does nothing.
CIRCLES = [[(1, 10, 5 + 0.2 * t), (24, 24, 4.2 - 0.4 * t), (40, 36, 6)] for t in range(14)]
TRAJECTORY = np.stack([discs(*circles) for circles in CIRCLES])
AREAS = np.array([[(discs(circle) < 0.5).sum() for circle in circles] for circles in CIRCLES])


def brute_force(before: np.ndarray, after: np.ndarray) -> set[tuple[int, int]]:
    """Mutual best overlaps, pair by pair."""
    old, new = range(1, before.max() + 1), range(1, after.max() + 1)
    overlap = np.array([[((before == i) & (after == j)).sum() for j in new] for i in old])
    return {
        (i, j)
        for i in old
        for j in new
        if overlap[i - 1, j - 1] > 0 and overlap[i - 1].argmax() == j - 1 and overlap[:, j - 1].argmax() == i - 1
    }


def test_links_agree_with_brute_force():
    generator = np.random.default_rng(0)
    for _ in range(10):
        noise = generator.random((24, 24))
        pair = noise, np.roll(noise, 1, 0) * 0.6 + generator.random((24, 24)) * 0.4
        before, after = (label(u < 0.4, connectivity=8, periodic=True)[0] for u in pair)
        assert {tuple(row) for row in link(before, after).tolist()} == brute_force(before, after)


def test_particles_keep_their_numbers_for_life():
    areas = followed_areas(follow(numbered(TRAJECTORY)))
    order = [np.flatnonzero(areas[0] == area)[0] for area in AREAS[0]]
    np.testing.assert_array_equal(areas[:, order], AREAS)


def test_numbers_do_not_depend_on_how_the_later_frames_are_labelled():
    labels = numbered(TRAJECTORY)
    shuffled = labels.copy()
    for t in range(1, len(labels)):
        names = np.concatenate([[0], np.random.default_rng(t).permutation(labels[t].max()) + 1])
        shuffled[t] = names[labels[t]]
    np.testing.assert_array_equal(follow(shuffled), follow(labels))


def test_growth_rates_and_losses_by_hand():
    areas = np.array([[10.0, 5.0, np.nan], [12.0, 2.0, 4.0], [15.0, 0.0, 4.0], [15.0, 0.0, 7.0]])
    np.testing.assert_array_equal(growth_rates(areas), [[np.nan] * 3, [2, -3, np.nan], [3, np.nan, 0], [0, np.nan, 3]])
    np.testing.assert_array_equal(growth_rates(areas, lag=2)[2:], [[2.5, np.nan, np.nan], [1.5, np.nan, 1.5]])
    np.testing.assert_array_equal(particles_lost(areas), [np.nan, 0, 1, 0])


def test_the_larger_of_two_that_merge_lives_on():
    labels = numbered(np.stack([discs((20, 16, 6), (20, 27, 4)), discs((20, 16, 6.5), (20, 26, 4.5))]))
    areas = followed_areas(follow(labels))
    large, small = areas[0].argmax(), areas[0].argmin()
    assert areas[1, small] == 0
    assert areas[1, large] == (labels[1] > 0).sum()
    assert particles_lost(areas)[1] == 1


BRIDGE = np.s_[19:22, 20:25]


def joined(frame: np.ndarray) -> np.ndarray:
    """The two static discs of `TWO` with a bridge between them."""
    frame = frame.copy()
    frame[BRIDGE] = 0
    return frame


TWO = discs((20, 16, 6), (20, 29, 6), (38, 10, 4))


def test_who_merged_or_split():
    frames = np.stack([TWO, TWO, joined(TWO), joined(TWO), TWO])
    followed = follow(numbered(frames))
    names = [followed[0, y, x] - 1 for y, x in ((20, 16), (20, 29), (38, 10))]
    survivor = followed[2, 20, 16] - 1
    swallowed = names[1] if survivor == names[0] else names[0]
    changed = merged_or_split(followed)
    assert changed.shape == (5, 4)  # the part that is split off is new
    expected = np.zeros((5, 4), dtype=bool)
    expected[[2, 4], survivor] = True
    np.testing.assert_array_equal(changed, expected)
    rates = growth_rates(followed_areas(followed), lag=2, changed=changed)
    # It merged at frame 2 and split at 4, one of which lies within any two frames from 2 on.
    assert np.isnan(rates[:, survivor]).all()
    assert np.isnan(rates[:, swallowed]).all()
    np.testing.assert_array_equal(rates[2:, names[2]], 0)
    assert merged_or_split(followed[:1]).tolist() == [[False] * 3]
    assert merged_or_split(np.zeros((2, 4, 4), dtype=np.int32)).shape == (2, 0)


def test_rates_leave_out_those_that_changed_within_the_lag():
    areas = np.array([[1.0], [2], [9], [10], [11], [12]])
    changed = np.array([[False], [False], [True], [False], [False], [False]])
    rates = growth_rates(areas, lag=2, changed=changed)
    np.testing.assert_array_equal(rates[:, 0], [np.nan, np.nan, np.nan, np.nan, 1, 1])


def test_a_particle_that_is_born_has_no_area_before():
    areas = followed_areas(follow(numbered(np.stack([discs((10, 10, 4)), discs((10, 10, 4), (30, 30, 3))]))))
    assert np.isnan(areas[0, 1])
    assert areas[1, 1] > 0


# ---------------------------------------------------------------- metrics

METRICS = particle_quantities(lag=2)
QUANTITIES = [metric for metric in METRICS if isinstance(metric, Quantity)]


def tensors(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames)[None, :, None]


PAST, FUTURE = tensors(TRAJECTORY[:4]), tensors(TRAJECTORY[4:])


def test_values_agree_with_the_areas():
    values = measure(QUANTITIES, FUTURE, PAST)
    areas = followed_areas(follow(numbered(TRAJECTORY)))
    rates = growth_rates(areas, lag=2)[4:]
    grows = [row[row > 0].mean() if (row > 0).any() else 0 for row in rates]
    np.testing.assert_allclose(values["particle_growth"][0], grows)
    np.testing.assert_array_equal(values["particles_lost"][0], np.cumsum(particles_lost(areas)[4:]))
    assert values["particles_lost"][0, -1] == 1
    assert values["particle_shrinkage"].min() < 0
    np.testing.assert_array_equal(values["particle_rate_w1"][0].sum(axis=1), (~np.isnan(rates)).sum(axis=1))


def test_a_perfect_forecast_has_no_error_and_a_frozen_one_the_change_of_area():
    for name, errors in measure_errors(METRICS, FUTURE.clone(), FUTURE, PAST).items():
        assert errors.abs().max() == 0, name
    frozen = measure_errors(METRICS, PAST[:, -1:].expand_as(FUTURE), FUTURE, PAST)
    expected = np.abs(AREAS[4:] - AREAS[3]).mean(axis=1)
    np.testing.assert_allclose(frozen["particle_area"][0], expected, rtol=1e-6)
    assert frozen["particle_growth"][0, -1] > 0


def test_a_late_loss_is_better_than_none_at_all():
    small, gone = discs((10, 10, 3), (30, 30, 5)), discs((30, 30, 5))
    past, future = np.stack([small] * 2), [small, gone, gone, gone, gone]
    # What was lost before the last past frame is no matter of the forecast.
    past[0] = discs((10, 10, 3), (30, 30, 5), (40, 10, 3))
    costs = []
    for forecast in (future, [small, *future[:-1]], [small] * 5):
        arguments = (tensors(np.stack(frames)) for frames in (forecast, future, past))
        costs.append(measure_errors(METRICS, *arguments)["particles_lost"][0].tolist())
    assert costs == [[0] * 5, [0, 1, 0, 0, 0], [0, 1, 1, 1, 1]]
    assert measure(QUANTITIES, tensors(np.stack(future)), tensors(past))["particles_lost"].tolist() == [[0, 1, 1, 1, 1]]


def test_what_a_bridge_joins_does_not_grow():
    past, future = np.stack([TWO, TWO]), np.stack([TWO, joined(TWO), joined(TWO), joined(TWO)])
    values = measure(QUANTITIES, tensors(future), tensors(past))
    assert values["particle_growth"].tolist() == [[0] * 4]
    # Both joined discs are left out while the junction lies within the last two frames.
    assert values["particle_rate_w1"][0].sum(axis=1).tolist() == [3, 1, 1, 2]
    assert values["particles_lost"].tolist() == [[0, 1, 1, 1]]


def test_a_particle_of_the_wrong_place_counts_as_lost():
    """The same areas elsewhere: statistics agree, the particles do not."""
    moved = FUTURE.roll((12, 36), (3, 4))  # onto no particle
    errors = measure_errors(METRICS, moved, FUTURE, PAST)
    np.testing.assert_allclose(errors["particle_area"][0], AREAS[4:].mean(axis=1), rtol=1e-6)
    assert errors["particle_growth"][0, 3:].max() == 0


def test_after_a_frame_that_is_not_finite_nothing_is_followed():
    prediction = FUTURE.clone()
    prediction[0, 3, 0, 0, 0] = math.nan
    for name, errors in measure_errors(METRICS, prediction, FUTURE, PAST).items():
        assert errors[0].isnan().tolist() == [False] * 3 + [True] * 7, name
    prediction = torch.full_like(FUTURE, math.inf)
    for name, errors in measure_errors(METRICS, prediction, FUTURE, PAST).items():
        assert errors.isnan().all(), name


def test_frames_without_particles():
    blank = torch.ones_like(FUTURE)
    errors = measure_errors(METRICS, blank, FUTURE, PAST)
    assert errors["particle_area"][0, 0] > 0
    assert (
        measure_errors(METRICS, blank, blank, torch.ones_like(PAST))["particle_area"].isnan().all()
    )  # no particle to follow


def test_no_value_depends_on_the_batch():
    frames = torch.cat([FUTURE, FUTURE.roll(5, 3), FUTURE.flip(4)])
    past = torch.cat([PAST, PAST.roll(5, 3), PAST.flip(4)])
    whole = measure_errors(METRICS, past[:, -1:].expand_as(frames), frames, past)
    for i in range(3):
        one = measure_errors(
            METRICS, past[i : i + 1, -1:].expand(1, *frames.shape[1:]), frames[i : i + 1], past[i : i + 1]
        )
        for name in whole:
            torch.testing.assert_close(one[name][0], whole[name][i], rtol=0, atol=0, equal_nan=True)


def test_too_few_past_frames_are_refused():
    with pytest.raises(ValueError, match="looks back over 2 frames, but past has 1"):
        measure_errors(METRICS, FUTURE, FUTURE, PAST[:, :1])
    with pytest.raises(ValueError, match="looks back over 2 frames, but past has 0"):
        measure(QUANTITIES, FUTURE)
