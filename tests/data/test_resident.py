"""Windows cut on the training device equal those that a loader collates."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from microevo.cli import main
from microevo.data import TrajectoryDataModule, TrajectoryStore

SYMMETRIES = ["shift", "flip", "rotate"]


def batches(store: TrajectoryStore, cache: str, epochs: int = 2, seen: int = 0, **settings: object) -> list:
    data = TrajectoryDataModule(
        str(store.path), **({"n_past": 3, "n_future": 2, "horizon": 4, "batch_size": 4, "cache": cache} | settings)
    )
    if seen:
        data._seen = 0, seen
    data.setup("fit")
    loader = data.train_dataloader()
    return [[*loader] for _ in range(epochs)]


@pytest.mark.parametrize("symmetries", [[], SYMMETRIES, ["flip"]])
@pytest.mark.parametrize("shape", [(6, 6), (4, 6)])
def test_batches_are_those_of_a_loader(make_store: Callable[..., TrajectoryStore], shape: tuple, symmetries: list):
    speed = {"speed": np.array([1.0, 2.0, 3.0, 4.0, 5.0])}
    allowed = {
        "symmetries": tuple(SYMMETRIES),
        "fields": ("a", "b"),
        "shape": shape,
        "frames": 9,
        "per_trajectory": speed,
    }
    store = make_store(splits=("train", "val", "train", "train", "test"), **allowed)
    settings = {"fields": ["b", "a"], "symmetries": symmetries, "parameters": ["speed"]}
    ours, theirs = (batches(store, cache, **settings) for cache in ("device", "yes"))
    assert [len(epoch) for epoch in ours] == [len(epoch) for epoch in theirs] == [3, 3]
    for mine, other in zip(chain(*ours), chain(*theirs), strict=True):
        for name in mine._fields:
            assert torch.equal(getattr(mine, name), getattr(other, name)), name
    assert not torch.equal(ours[0][0].past, ours[1][0].past)
    assert torch.equal(ours[0][0].parameters[:, 0], ours[0][0].trajectory + 1.0)


def test_a_resumed_epoch_leaves_out_what_was_seen(make_store: Callable[..., TrajectoryStore]):
    store = make_store(splits=("train", "train", "train", "val"), frames=9)
    (whole,) = batches(store, "device", epochs=1, fields=["c"])
    (rest,) = batches(store, "device", epochs=1, fields=["c"], seen=1)
    assert [batch.start.tolist() for batch in rest] == [batch.start.tolist() for batch in whole[1:]]


def test_a_batch_larger_than_the_data_holds_all(make_store: Callable[..., TrajectoryStore]):
    store = make_store(splits=("train", "val"), frames=9)
    ((batch,),) = batches(store, "device", epochs=1, batch_size=50, fields=["c"])
    assert len(batch.past) == 5


@pytest.mark.slow
def test_trains_to_the_same_weights(small_store: Path, tmp_path: Path):
    weights = []
    for cache in ("yes", "device"):
        run = tmp_path / cache
        settings = {
            "--data": "TrajectoryDataModule",
            "--data.init_args.store": small_store,
            "--data.init_args.n_past": 4,
            "--data.init_args.n_future": 4,
            "--data.init_args.horizon": 6,
            "--data.init_args.symmetries": "[shift, flip, rotate]",
            "--data.init_args.cache": cache,
            "--model": "ConvLSTM",
            "--model.init_args.hidden": "[4]",
            "--trainer.max_steps": 5,
            "--trainer.logger": "false",
            "--trainer.accelerator": "cpu",
            "--run_dir": run,
        }
        main(["fit", *(f"{name}={value}" for name, value in settings.items())])
        weights.append(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
