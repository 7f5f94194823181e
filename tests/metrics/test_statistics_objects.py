import numpy as np
import pytest
from scipy import ndimage

from microevo.metrics import area_fraction, areas, count_objects, label, object_areas, threshold_mask

STRUCTURE = {4: ndimage.generate_binary_structure(2, 1), 8: ndimage.generate_binary_structure(2, 2)}


def wrapped_by_hand(mask: np.ndarray, connectivity: int, periodic: bool) -> tuple[np.ndarray, int]:
    """scipy's labels, those that touch across the border then joined one pair after the other."""
    labels, count = ndimage.label(mask, STRUCTURE[connectivity])
    if periodic:
        height, width = mask.shape
        steps = [(0, 1), (1, 0)] + ([(1, 1), (1, -1)] if connectivity == 8 else [])
        for dy, dx in steps:
            for y, x in np.argwhere(mask):
                other = labels[(y + dy) % height, (x + dx) % width]
                if other:
                    labels[labels == max(other, labels[y, x])] = min(other, labels[y, x])
        count = len(np.unique(labels[mask]))
    return labels, count


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("connectivity", [4, 8])
def test_labels_are_those_of_scipy_with_a_wrap_made_by_hand(connectivity: int, periodic: bool) -> None:
    generator = np.random.default_rng(0)
    for share in (0.1, 0.3, 0.5, 0.7):
        mask = generator.random((13, 18)) < share
        labels, count = label(mask, connectivity=connectivity, periodic=periodic)
        expected, number = wrapped_by_hand(mask, connectivity, periodic)
        assert count == number
        pairs = set(zip(labels.ravel().tolist(), expected.ravel().tolist(), strict=True))
        assert len(pairs) == count + 1  # the same parts under other numbers, and the background
        assert sorted(np.unique(labels)) == list(range(count + 1))


def test_a_checkerboard_hangs_together_at_its_corners_and_across_the_border() -> None:
    even = np.indices((6, 8)).sum(axis=0) % 2 == 0
    odd = np.indices((7, 7)).sum(axis=0) % 2 == 0  # equal colours meet at the border
    assert [label(even, connectivity=4, periodic=p)[1] for p in (False, True)] == [24, 24]
    assert [label(even, connectivity=8, periodic=p)[1] for p in (False, True)] == [1, 1]
    # The 16 pixels of the border are one chain on the torus: each row and column meets its other end.
    assert [label(odd, connectivity=4, periodic=p)[1] for p in (False, True)] == [25, wrapped_by_hand(odd, 4, True)[1]]
    corners = np.zeros((5, 7), dtype=bool)
    corners[0, 0] = corners[4, 6] = True
    assert [label(corners, connectivity=c, periodic=True)[1] for c in (4, 8)] == [2, 1]


def test_discs_are_counted_and_measured() -> None:
    y, x = np.indices((64, 64))
    frame = np.ones((64, 64))
    for centre in ((0.0, 0.0), (20.0, 20.0), (20.0, 63.0), (40.0, 35.0)):
        dy, dx = (np.abs(axis - c) for axis, c in zip((y, x), centre, strict=True))
        frame[np.hypot(np.minimum(dy, 64 - dy), np.minimum(dx, 64 - dx)) < 6.0] = 0
    settings = {"threshold": 0.5, "below": True, "connectivity": 8}
    assert count_objects(frame, **settings, periodic=True) == 4
    assert count_objects(frame, **settings, periodic=False) == 4 + 1 + 2 + 1  # cut into four, whole, in two, whole
    found = object_areas(frame, **settings, periodic=True)
    np.testing.assert_allclose(found, np.pi * 36, rtol=0.05)
    assert area_fraction(frame, threshold=0.5, below=True) == pytest.approx(found.sum() / 64**2)


def test_frames_of_any_batch_shape() -> None:
    frames = np.random.default_rng(1).random((2, 3, 9, 11))
    settings = {"threshold": 0.6, "below": False, "connectivity": 4, "periodic": True}
    counts = count_objects(frames, **settings)
    assert counts.shape == (2, 3)
    assert counts[1, 2] == count_objects(frames[1, 2], **settings)
    assert count_objects(frames[:0], **settings).shape == (0, 3)
    np.testing.assert_array_equal(threshold_mask(frames, threshold=0.6, below=False), frames > 0.6)


def test_nothing_and_everything() -> None:
    empty, full = np.zeros((4, 5), dtype=bool), np.ones((4, 5), dtype=bool)
    assert label(empty, connectivity=4, periodic=True)[1] == 0
    assert areas(label(empty, connectivity=4, periodic=True)[0]).tolist() == []
    assert areas(label(full, connectivity=8, periodic=False)[0]).tolist() == [20]
