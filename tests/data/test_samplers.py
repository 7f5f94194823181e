"""The order of the training windows: random, another in each epoch, shared by the processes, and resumed where it was."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from microevo.data import TrajectoryDataModule
from microevo.data.samplers import ShuffledSampler

WINDOWS = 24


def sampler(**settings: int) -> ShuffledSampler:
    return ShuffledSampler(range(WINDOWS), **settings)


def epochs(count: int, **settings: int) -> list[list[tuple[int, int]]]:
    one = sampler(**settings)
    return [list(one) for _ in range(count)]


def test_every_window_occurs_once_in_a_random_order() -> None:
    first, second = epochs(2)
    for epoch in (first, second):
        order = [index for index, _ in epoch]
        assert sorted(order) == list(range(WINDOWS))
        assert order != list(range(WINDOWS))
    assert [index for index, _ in first] != [index for index, _ in second]
    assert epochs(2) == [first, second]
    assert epochs(2, seed=1)[0] != first


def test_lightning_says_which_epoch_it_is() -> None:
    one = sampler()
    one.set_epoch(3)
    assert list(one) == epochs(4)[3]


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_share_the_windows(processes: int) -> None:
    ranks = [epochs(1, processes=processes, rank=rank)[0] for rank in range(processes)]
    assert len({len(part) for part in ranks}) == 1
    counts = Counter(index for part in ranks for index, _ in part)
    assert set(counts) == set(range(WINDOWS))
    assert sum(counts.values()) - WINDOWS < processes
    assert not set(ranks[0][: len(ranks[0]) // 2]) & set(ranks[1])


def test_each_window_is_transformed_anew_in_each_epoch_and_process() -> None:
    seeds = [seed for rank in range(2) for epoch in epochs(3, processes=2, rank=rank) for _, seed in epoch]
    assert len(set(seeds)) == len(seeds) == 3 * WINDOWS


@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_epoch_continues_behind_what_was_seen(processes: int) -> None:
    for rank in range(processes):
        first, second = epochs(2, processes=processes, rank=rank)
        resumed = sampler(processes=processes, rank=rank)
        resumed.skip(0, 4)
        assert list(resumed) == first[4:]
        assert list(resumed) == second


# ------------------------------------------------------------------ the same of the data module's loader


def module(store, **settings) -> TrajectoryDataModule:
    defaults = {
        "n_past": 2,
        "n_future": 2,
        "horizon": 2,
        "batch_size": 4,
        "stride": 2,
        "symmetries": ["flip", "rotate"],
    }
    data = TrajectoryDataModule(str(store.path), **(defaults | settings))
    data.setup("fit")
    return data


def batches(loader) -> list[list[tuple[int, int]]]:
    return [list(zip(b.trajectory.tolist(), b.start.tolist(), strict=True)) for b in loader]


@pytest.fixture
def symmetric_store(make_store):
    """Three training trajectories of 8 frames, each with three windows."""
    return make_store(
        splits=("train", "train", "train", "val"), frames=8, shape=(6, 6), symmetries=("shift", "flip", "rotate")
    )


@pytest.mark.parametrize("cache", ["yes", "no", "device"])
def test_the_loader_shuffles_and_resumes(symmetric_store, cache) -> None:
    loader = module(symmetric_store, cache=cache).train_dataloader()
    first, second = batches(loader), batches(loader)
    assert first != second
    assert len(first) == 2
    assert len({window for batch in first for window in batch}) == 8  # the ninth window is left out
    assert [window for batch in first for window in batch] != sorted(window for batch in first for window in batch)
    data = module(symmetric_store, cache=cache)
    data.load_state_dict({"store": "", "fingerprint": data.fingerprint, "epoch": 0, "batches": 1})
    loader = data.train_dataloader()
    assert batches(loader) == first[1:]
    assert batches(loader) == second


def test_the_processes_of_a_training_see_different_windows(symmetric_store) -> None:
    seen = []
    for rank in range(2):
        data = module(symmetric_store, batch_size=2)
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank)
        seen.append({window for batch in batches(data.train_dataloader()) for window in batch})
    assert not seen[0] & seen[1]


def images_of(frames: torch.Tensor) -> list[torch.Tensor]:
    """The eight images of frames under flips and quarter turns."""
    turned = [frames.rot90(k, dims=(-2, -1)) for k in range(4)]
    return [*turned, *(image.flip(-1) for image in turned)]


@pytest.mark.parametrize("cache", ["yes", "device"])
def test_training_windows_are_transformed_as_a_whole(symmetric_store, cache) -> None:
    loader = module(symmetric_store, cache=cache).train_dataloader()
    found: dict[tuple[int, int], set[int]] = {}
    for _ in range(12):
        for batch in loader:
            for past, future, trajectory, start, _ in zip(*batch, strict=True):
                source = torch.from_numpy(symmetric_store.read(int(trajectory), int(start), int(start) + 4))
                window = torch.cat([past, future])
                matching = [k for k, image in enumerate(images_of(source)) if torch.equal(image, window)]
                assert matching, "past and future must be transformed alike"
                found.setdefault((int(trajectory), int(start)), set()).update(matching)
    assert all(len(images) > 2 for images in found.values())
    assert set().union(*found.values()) == set(range(8))


def test_windows_for_evaluation_are_not_transformed(symmetric_store) -> None:
    for batch in module(symmetric_store).val_dataloader():
        for past, future, trajectory, start, _ in zip(*batch, strict=True):
            source = torch.from_numpy(symmetric_store.read(int(trajectory), int(start), int(start) + 4))
            assert torch.equal(torch.cat([past, future]), source)
