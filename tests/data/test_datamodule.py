import pickle
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from microevo.data import TrajectoryDataModule
from microevo.data.samplers import EvaluationSampler


def module(store, **settings):
    return TrajectoryDataModule(str(store), **({"n_past": 4, "n_future": 2, "horizon": 10, "batch_size": 4} | settings))


def test_batches_have_the_promised_shapes(small_store):
    data = module(small_store, stride=3, eval_batch_size=2)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch.past.shape == (4, 4, 1, 16, 16)
    assert batch.future.shape == (4, 2, 1, 16, 16)
    assert batch.past.dtype == torch.float32
    val = list(data.val_dataloader())
    assert [tuple(b.future.shape) for b in val] == [(2, 10, 1, 16, 16)]


def test_splits_share_no_trajectory(small_store):
    data = module(small_store)
    for stage in ("fit", "test", "predict"):
        data.setup(stage)
    seen = {name: {trajectory for trajectory, _ in dataset.windows} for name, dataset in data.datasets.items()}
    assert seen["train"] == {0, 1, 2, 3}
    assert seen["val"] == {4, 5}
    assert seen["test"] == seen["predict"] == {6, 7}


def test_evaluation_windows(small_store):
    assert len(_windows(module(small_store), "test")) == 2
    assert _windows(module(small_store, eval_stride=5), "test") == [
        (6, 0),
        (6, 5),
        (6, 10),
        (7, 0),
        (7, 5),
        (7, 10),
    ]
    assert _windows(module(small_store, predict_count=1), "predict") == [(6, 0)]


def test_training_on_the_first_trajectories(small_store):
    data = module(small_store, train_count=2)
    data.setup("fit")
    assert {trajectory for trajectory, _ in data.datasets["train"].windows} == {0, 1}
    assert {trajectory for trajectory, _ in data.datasets["val"].windows} == {4, 5}
    with pytest.raises(ValueError, match=r"train_count is 5, but .* has 4 training trajectories; lower it"):
        module(small_store, train_count=5).setup("fit")


def _windows(data, stage):
    data.setup(stage)
    loader = data.test_dataloader() if stage == "test" else data.predict_dataloader()
    return [
        (trajectory, start)
        for batch in loader
        for trajectory, start in zip(batch.trajectory.tolist(), batch.start.tolist(), strict=True)
    ]


def test_a_horizon_longer_than_the_store_is_refused(small_store):
    data = module(small_store, horizon=90)
    with pytest.raises(ValueError, match=r"4 \+ 90 = 94 frames, but .* has 24; lower n_future or horizon"):
        data.setup("test")


def test_a_missing_split_is_refused(make_store):
    store = make_store(splits=("train", "test"), frames=20)
    with pytest.raises(ValueError, match=r"no trajectory in the split val \(it has 1 train, 0 val, 1 test\)"):
        module(store.path).setup("fit")


@pytest.mark.parametrize("name", ["n_past", "n_future", "horizon", "stride", "batch_size", "eval_stride"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, but it is 0"):
        module("x.zarr", **{name: 0})


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("cache", ["yes", "no"])
def test_workers_give_the_same_batches(small_store, cache, method):
    data = module(small_store, cache=cache, horizon=12)
    data.setup("test")
    alone = [batch.future for batch in data.test_dataloader()]
    loader = DataLoader(data.datasets["test"], batch_size=4, num_workers=1, multiprocessing_context=method)
    assert all(torch.equal(a, b.future) for a, b in zip(alone, loader, strict=True))


def test_it_can_be_pickled(small_store):
    data = module(small_store)
    data.setup("test")
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy.datasets["test"][0].past, data.datasets["test"][0].past)


@pytest.mark.parametrize(("samples", "processes"), [(7, 2), (9, 2), (5, 3)])
def test_the_sampler_deals_out_each_sample_once(samples, processes):
    dealt = [list(EvaluationSampler(range(samples), processes, rank)) for rank in range(processes)]
    assert sorted(index for part in dealt for index in part) == list(range(samples))


def test_more_processes_than_windows_are_refused(small_store):
    data = module(small_store)  # two windows in val
    data.setup("fit")
    data.trainer = SimpleNamespace(world_size=2, global_rank=1)
    assert [len(batch.trajectory) for batch in data.val_dataloader()] == [1]
    data.trainer = SimpleNamespace(world_size=3, global_rank=1)
    with pytest.raises(ValueError, match="2 windows cannot be shared by 3 processes; use fewer devices or more"):
        data.val_dataloader()


def test_the_checkpoint_names_its_data(small_store):
    data = module(small_store)
    data.setup("fit")
    assert data.state_dict() == {"store": str(small_store), "fingerprint": data.fingerprint}
    assert len(data.fingerprint) == 64
    with pytest.warns(UserWarning, match="other data"):
        data.load_state_dict({"store": "old.zarr", "fingerprint": "0"})
