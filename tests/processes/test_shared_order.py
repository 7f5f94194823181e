import numpy as np
import pytest
import torch
from skimage.measure import label

from microevo.processes import trajectory_generator
from microevo.processes.initial import random_voronoi, voronoi
from microevo.processes.kernels.grain_growth import disc, near
from microevo.processes.shared_order import CONFLICT_DISTANCE, START_DISTANCE, SharedOrder, freest_field

FLOAT = np.dtype(np.float32)


def stripes(*widths: int, rows: int = 12) -> np.ndarray:
    """Grains side by side along x, numbered from the left."""
    return np.tile(np.repeat(np.arange(len(widths)), widths), (rows, 1))


def pairwise(ids: np.ndarray) -> np.ndarray:
    """Squared periodic distances between grains, the plain way."""
    count = ids.max() + 1
    cells = [np.argwhere(ids == grain) for grain in range(count)]
    result = np.full((count, count), np.inf)
    for i in range(count):
        for j in range(count):
            if i != j:
                apart = np.abs(cells[i][:, None] - cells[j][None])
                apart = np.minimum(apart, np.array(ids.shape) - apart)
                result[i, j] = (apart**2).sum(axis=2).min()
    return result


def test_voronoi_cells_hold_what_is_nearest() -> None:
    points = np.random.default_rng(0).random((7, 2)) * (20, 30)
    centres = np.stack(np.mgrid[:20, :30], axis=2)[:, :, None] + 0.5
    apart = np.abs(centres - points)
    assert np.array_equal(voronoi(points, (20, 30), wrap=False), (apart**2).sum(axis=3).argmin(axis=2))
    apart = np.minimum(apart, np.array([20, 30]) - apart)
    assert np.array_equal(voronoi(points, (20, 30)), (apart**2).sum(axis=3).argmin(axis=2))


def test_voronoi_depends_on_its_generator_alone() -> None:
    first, again, other = (random_voronoi(trajectory_generator(0, i), 9, (16, 16)) for i in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_distances_are_those_between_cells_across_the_border_too() -> None:
    ids = random_voronoi(torch.Generator().manual_seed(0), 12, (24, 40))
    expected = pairwise(ids)
    expected[expected > 49] = np.inf
    assert np.array_equal(near(ids.astype(np.int32), np.zeros(12, np.int32), disc(7.0)), expected)
    group = np.arange(12, dtype=np.int32) % 2
    expected[group[:, None] != group] = np.inf
    assert np.array_equal(near(ids.astype(np.int32), group, disc(7.0)), expected)


def test_disc_is_sorted_and_has_no_centre() -> None:
    assert disc(1.5)[:, :2].tolist() == [[-1, 0], [0, -1], [0, 1], [1, 0], [-1, -1], [-1, 1], [1, -1], [1, 1]]


def test_the_freest_field_is_that_of_the_farthest_grain() -> None:
    inf, free = np.inf, np.zeros(3, dtype=bool)
    assert freest_field(np.array([inf, 3.0, 5.0, 4.0]), np.array([0, 0, 1, 2]), free) == (1, 5.0)
    assert freest_field(np.array([inf, 3.0, 5.0, inf]), np.array([-1, 0, 0, 1]), free) == (2, inf)
    assert freest_field(np.array([inf, 3.0, 5.0, inf]), np.array([-1, 0, 0, 1]), np.array([False, False, True])) == (
        1,
        inf,
    )


def test_grains_of_one_field_start_apart() -> None:
    ids = random_voronoi(torch.Generator().manual_seed(1), 40, (96, 96))
    order = SharedOrder(ids, 16, 3.14, FLOAT)
    distances = np.sqrt(pairwise(ids))
    for i in range(40):
        mates = (order.field_of == order.field_of[i]) & (np.arange(40) != i)
        assert (distances[i][mates] >= START_DISTANCE * 3.14).all()
    assert order.unresolved == 0
    assert np.array_equal(order.eta.sum(axis=2), np.ones((96, 96)))
    assert np.array_equal(order.field_of[ids], order.eta.argmax(axis=2))


def test_one_field_for_each_grain_is_the_dense_model() -> None:
    ids = stripes(10, 10, 10)
    for fields in (None, 3, 5):
        order = SharedOrder(ids, fields, 3.0, FLOAT)
        assert order.eta.shape == (12, 30, fields or 3)
        assert order.field_of.tolist() == [0, 1, 2]
        assert order.reassign() == np.inf


def test_numbers_follow_their_grains() -> None:
    ids = random_voronoi(torch.Generator().manual_seed(2), 30, (80, 80))
    order = SharedOrder(ids, 12, 3.14, FLOAT)
    areas = order.areas
    for _ in range(5):  # more than a grain's radius in all
        order.eta = np.roll(order.eta, (2, -3), (0, 1))
        assert order.track()
    assert np.array_equal(order.ids, np.roll(ids, (10, -15), (0, 1)))
    assert np.array_equal(order.areas, areas)
    assert np.array_equal(order.squares, np.ones((80, 80)))


def test_a_vanished_grain_leaves_its_cells_to_its_neighbour() -> None:
    ids = stripes(20, 20)
    ids[3:9, 8:14] = 2
    order = SharedOrder(ids, None, 3.0, FLOAT)
    order.eta[ids == 2] = (1, 0, 0)
    order.track()
    assert np.array_equal(order.ids, stripes(20, 20))
    assert order.areas.tolist() == [240, 240, 0]


def test_a_number_that_is_not_finite_is_noticed() -> None:
    order = SharedOrder(stripes(10, 10), None, 3.0, FLOAT)
    assert order.track()
    order.eta[5, 5, 1] = np.nan
    assert not order.track()


def near_pair(fields: int) -> SharedOrder:
    """Four stripes, of which 0 and 2 share a field although only six cells lie between them."""
    order = SharedOrder(stripes(20, 6, 16, 30), None, 3.14, FLOAT)
    order.dense = False
    smooth = np.exp(-((np.arange(-10, 11) / 1.5) ** 2))
    eta = np.apply_along_axis(
        lambda u: np.convolve(np.pad(u, 10, "wrap"), smooth / smooth.sum(), "valid"), 1, order.eta
    )
    order.field_of = np.array([0, 1, 0, 2], dtype=np.int32)
    order.eta = np.zeros((12, 72, fields), np.float32)
    for grain, field in enumerate(order.field_of):
        order.eta[..., field] += eta[..., grain]
    order.track()
    return order


def test_a_grain_that_comes_near_changes_its_field_and_nothing_else() -> None:
    order = near_pair(fields=4)
    ids, squares = order.ids.copy(), order.squares.copy()
    assert order.reassign() == np.inf
    assert (order.moves, order.unresolved) == (1, 0)
    assert order.field_of.tolist() == [0, 1, 3, 2]  # the smaller of the two, into the free field
    order.track()
    assert np.array_equal(order.ids, ids)
    # Only at the cut between the two did both count together.
    assert np.abs(order.squares - squares).max() < 1e-3
    assert order.reassign() == np.inf
    assert order.moves == 1


def test_without_a_free_field_the_pair_is_counted() -> None:
    order = near_pair(fields=3)
    assert order.reassign() == 7.0  # from cell centre to cell centre
    assert (order.moves, order.unresolved) == (0, 1)
    assert CONFLICT_DISTANCE * 3.14 > 7.0


def test_a_field_that_a_vanishing_grain_still_fills_is_not_free() -> None:
    order = near_pair(fields=5)
    order.eta[4:8, 32:36, 3] = 0.2
    order.reassign()
    assert order.field_of[2] == 4


def test_numbers_agree_with_connected_components() -> None:
    ids = random_voronoi(torch.Generator().manual_seed(3), 20, (64, 64), wrap=False)
    order = SharedOrder(ids, 10, 3.0, FLOAT)
    order.track()
    parts = label(order.eta.argmax(axis=2) + 1, connectivity=1)
    pairs = set(zip(parts.ravel().tolist(), order.ids.ravel().tolist(), strict=True))
    assert len(pairs) == parts.max() == len(np.unique(order.ids))


@pytest.mark.parametrize("fields", [2, 3])
def test_too_few_fields_are_noticed_at_the_start(fields: int) -> None:
    ids = random_voronoi(torch.Generator().manual_seed(1), 40, (96, 96))
    assert SharedOrder(ids, fields, 3.14, FLOAT).unresolved > 0
