"""A store that has lost a part of itself says so wherever it is read, and `simulate` fills it again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from shared import small_process

from microevo.data import TrajectoryDataModule, TrajectoryStore, WindowDataset, generate

CHUNK = "c/c/{}/0/0/0"


def remove(chunk: Path) -> None:
    chunk.unlink()


def truncate(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes()[:-20])


def lengthen(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes() + b"more")


each_damage = pytest.mark.parametrize("damage", [remove, truncate, lengthen])


@each_damage
def test_a_damaged_trajectory_is_named_when_the_store_is_opened(make_store, damage):
    store = make_store()
    damage(store.path / CHUNK.format(3))
    with pytest.raises(ValueError, match=r"made.zarr is damaged: trajectory 3 of 4 is missing or incomplete"):
        TrajectoryStore.open(store.path)
    damage(store.path / CHUNK.format(1))
    with pytest.raises(ValueError, match=r"trajectory 1 and another one of 4 are missing or incomplete"):
        TrajectoryDataModule(str(store.path), n_past=1, n_future=1, horizon=1).setup("fit")


@each_damage
def test_a_trajectory_damaged_after_the_store_was_opened_is_named_when_it_is_read(make_store, damage):
    store = make_store()
    windows = WindowDataset(store, [0, 2], fields=["c"], n_past=1, n_future=1)
    damage(store.path / CHUNK.format(2))
    windows[0]
    with pytest.raises(ValueError, match=r"made.zarr is damaged: trajectory 2 of 4"):
        windows[5]


def rewritten(store: TrajectoryStore, path: Path, **settings: object) -> Path:
    """A copy with other chunks, as other tools write them."""
    shutil.copytree(store.path, path)
    values = np.asarray(zarr.open_group(store.path)["c"])
    shutil.rmtree(path / "c")
    zarr.open_group(path).create_array("c", data=values, **settings)
    return path


@pytest.mark.parametrize("layout", [{"chunks": (1, 3, 4, 5)}, {"chunks": (1, 3, 4, 5), "shards": (2, 6, 4, 5)}])
@pytest.mark.parametrize("damage", [remove, truncate])
def test_other_layouts_are_checked_too(make_store, tmp_path, layout, damage):
    path = rewritten(make_store(), tmp_path / "other.zarr", fill_value=np.nan, **layout)
    whole = TrajectoryStore.open(path)
    damage(path / "c" / "c" / ("1" if "shards" in layout else "3") / "0" / "0" / "0")
    with pytest.raises(ValueError, match=r"other.zarr is damaged: trajectory 3 of 4"):
        whole.read(3)
    if damage is remove:
        with pytest.raises(ValueError, match=r"other.zarr is damaged: trajectory [23]"):
            TrajectoryStore.open(path)


def test_a_chunk_that_equals_the_fill_value_is_not_damage(make_store, tmp_path):
    store = make_store(values=np.zeros((4, 6, 1, 4, 5), np.float32))
    path = rewritten(store, tmp_path / "zeros.zarr", chunks=(1, 6, 4, 5), fill_value=0)
    assert not (path / "c" / "c").exists()
    assert not TrajectoryStore.open(path).read(2).any()


def test_damaged_metadata_are_one_sentence(make_store):
    store = make_store(splits=("test", "train", "val"))
    shutil.rmtree(store.path / "split" / "c")
    # Without its chunk the split would be that of the training for all trajectories.
    with pytest.raises(ValueError, match=r"damaged: the split of its trajectories is missing"):
        TrajectoryStore.open(store.path).split("train")
    (store.path / "c" / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match=r"damaged: the metadata of the field c are missing or incomplete"):
        TrajectoryStore.open(store.path)


@each_damage
def test_simulate_fills_a_damaged_store_again(tmp_path, damage):
    settings = {"splits": {"train": 2, "val": 1, "test": 1}, "frames": 3, "command": "python -m microevo simulate"}
    whole = generate(small_process(), tmp_path / "a.zarr", **settings)
    values, fingerprint = whole.read(2), whole.fingerprint
    damage(whole.path / CHUNK.format(2))
    with pytest.raises(
        ValueError, match=r"trajectory 2 of 4 .*simulate it again by running: python -m microevo simulate"
    ):
        TrajectoryStore.open(whole.path)
    again = generate(small_process(), tmp_path / "a.zarr", trajectories="0:1", **settings)
    assert not again.attributes["complete"]
    again = generate(small_process(), tmp_path / "a.zarr", **settings)
    assert again.attributes["complete"]
    assert again.fingerprint == fingerprint == TrajectoryStore.open(whole.path).fingerprint
    np.testing.assert_array_equal(again.read(2), values)


def test_a_command_ends_with_the_sentence(small_store, tmp_path, in_process, capsys):
    path = tmp_path / "hole.zarr"
    shutil.copytree(small_store, path)
    remove(path / CHUNK.format(5))
    with pytest.raises(SystemExit):
        in_process(
            "fit", "--model", "FCN", "--data", "TrajectoryDataModule", "--data.store", path, "--trainer.max_steps", "1"
        )
    assert "hole.zarr is damaged: trajectory 5 of 8 is missing or incomplete" in capsys.readouterr().err
