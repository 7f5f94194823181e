"""Stores in zip files and at URLs: read like those in a folder, damage included, and never written."""

import os
import shutil
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr
from shared import small_process

from microevo.benchmark import Protocol
from microevo.data import TrajectoryDataModule, TrajectoryStore, generate, import_frames
from microevo.data.location import locate
from microevo.models import Persistence
from microevo.predict import predict


def zipped(store: TrajectoryStore, path: Path, top: str = "") -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(store.folder.rglob("*")):
            if file.is_file():
                archive.write(file, Path(top) / file.relative_to(store.folder))
    return str(path)


def uploaded(store: TrajectoryStore, url: str) -> str:
    files, root = fsspec.url_to_fs(url)
    files.put(str(store.folder), root, recursive=True)
    return url


@pytest.fixture
def memory():
    """A URL of fsspec's file system in memory, which is emptied at the end."""
    yield "memory://bucket/store.zarr"
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


PLACES = ["zip", "zip of the folder", "memory", "file"]


@pytest.fixture
def placed(tmp_path, memory):
    """Puts a copy of a store somewhere."""
    return lambda store, where: {
        "zip": lambda: zipped(store, tmp_path / "store.zarr.zip"),
        "zip of the folder": lambda: zipped(store, tmp_path / "store.zip", top="made.zarr"),
        "memory": lambda: uploaded(store, memory),
        "file": lambda: uploaded(store, f"file://{tmp_path}/other.zarr"),
    }[where]()


@pytest.mark.parametrize("where", PLACES)
def test_a_store_elsewhere_holds_the_same(make_store, placed, where):
    store = make_store(fields=("c", "T"), per_trajectory={"seed": np.arange(4)})
    shutil.copytree(store.folder, store.folder.with_name("keep.zarr"))
    path = placed(store, where)
    other = TrajectoryStore.open(path)
    assert str(other.path) == path
    assert other.fingerprint == store.fingerprint
    assert (len(other), other.frames, other.image_shape) == (4, 6, (4, 5))
    for i in range(4):
        np.testing.assert_array_equal(other.read(i), store.read(i))
    np.testing.assert_array_equal(other.read(2, 1, 3, ["T"]), store.read(2, 1, 3, ["T"]))
    np.testing.assert_array_equal(other.split("train"), [0, 1])
    np.testing.assert_array_equal(other.per_trajectory["seed"], np.arange(4))
    assert Protocol(store=path, n_past=2, horizon=3).windows(["c"])[0].past.shape == (2, 1, 4, 5)
    data = TrajectoryDataModule(path, n_past=2, n_future=2, horizon=3, cache="no")
    data.setup("fit")
    np.testing.assert_array_equal(data.datasets["train"][0].past, store.read(0, 0, 2, ["c"]))


def test_layouts_of_other_tools_are_read_too(make_store, placed):
    store = make_store()
    values = np.asarray(zarr.open_group(store.folder)["c"])
    shutil.rmtree(store.folder / "c")
    zarr.open_group(store.folder).create_array("c", data=values, chunks=(1, 3, 4, 5), fill_value=np.nan)
    for where in ("zip", "memory"):
        np.testing.assert_array_equal(TrajectoryStore.open(placed(store, where)).read(3), values[3, :, None])


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_damage_is_found_there_too(make_store, placed, where, damage):
    store = make_store()
    chunk = store.folder / "c/c/2/0/0/0"
    chunk.unlink() if damage == "missing" else chunk.write_bytes(chunk.read_bytes()[:-20])
    path = placed(store, where)
    with pytest.raises(
        ValueError, match=r"is damaged: trajectory 2 of 4 is missing or incomplete; copy the store there again"
    ):
        TrajectoryStore.open(path)


def test_a_zip_file_that_is_cut_off_or_corrupt_is_one_sentence(make_store, placed):
    path = Path(placed(make_store(), "zip"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(
        ValueError, match=r"store.zarr.zip is not a zip file, or only a part of one; copy it there again"
    ):
        TrajectoryStore.open(path)
    with zipfile.ZipFile(placed(make_store("second.zarr"), "zip")) as archive:
        place = archive.getinfo("c/c/1/0/0/0").header_offset + 200
    damaged = bytearray(whole)
    damaged[place] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"store.zarr.zip is damaged: trajectory 1 of 4"):
        TrajectoryStore.open(path).read(1)


def test_what_is_not_there_or_not_a_store_is_one_sentence(tmp_path, memory):
    for path in (str(tmp_path / "absent.zip"), memory):
        with pytest.raises(FileNotFoundError, match=f"no trajectory store at {path}"):
            TrajectoryStore.open(path)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("thesis.txt", "years of work")
    fsspec.filesystem("memory").pipe("/bucket/store.zarr/zarr.json", b"{}")
    for path in (str(tmp_path / "other.zip"), memory):
        with pytest.raises(ValueError, match=f"{path} is not a trajectory store"):
            TrajectoryStore.open(path)
    with pytest.raises(ValueError, match=r"nope://x cannot be read \(Protocol not known: nope\)"):
        TrajectoryStore.open("nope://x")


def test_a_missing_package_is_named(monkeypatch):
    def absent(*_: object, **__: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "url_to_fs", absent)
    with pytest.raises(ValueError, match=r"s3://b/x.zarr cannot be read, since a package is missing: Install s3fs"):
        TrajectoryStore.open("s3://b/x.zarr")


def test_nothing_is_written_there(tmp_path, make_store, placed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).random((4, 6, 8, 8), dtype=np.float32))
    path = placed(make_store(), "zip")
    for output in ("memory://bucket/x.zarr", "s3://bucket/x.zarr", "x.zarr.zip", path):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(
            ValueError, match=f"{output} cannot be written: zip files and URLs are only read; write to a folder"
        ):
            generate(small_process(), output, splits={"train": 1}, frames=2)
        with pytest.raises(ValueError, match="cannot be written"):
            import_frames("x.npy", output, overwrite=True)
        assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(
        ValueError, match=r"s3://bucket/x.npy is a URL, from which only stores are read; download it first"
    ):
        import_frames("s3://bucket/x.npy", "out.zarr")


def test_predict_forecasts_such_a_store(make_store, placed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("microevo.predict.load_model", lambda path: Persistence(n_past=4, horizon=3))
    monkeypatch.setattr("microevo.predict.read_checkpoint", lambda path: {})
    Path("a.ckpt").touch()
    store = make_store()
    for where in ("zip", "memory"):
        made = predict("a.ckpt", placed(store, where), pictures=0)
        assert made.folder == Path("store-forecasts.zarr" if where == "zip" else "store-forecasts-2.zarr")
        np.testing.assert_array_equal(made.read(3), store.read(3)[[5] * 3])
    with pytest.raises(ValueError, match="cannot be written"):
        predict("a.ckpt", str(store.path), "s3://bucket/out.zarr")


def test_a_forked_process_opens_the_file_anew(make_store, placed, monkeypatch):
    """Two processes that shared an open file would also share the place in it where they read."""
    store = TrajectoryStore.open(placed(make_store(), "zip"))
    before = store._arrays["c"]
    assert store._arrays["c"] is before
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert store._arrays["c"] is not before


def test_the_chunks_of_a_server_that_does_not_list_them_are_asked_for_one_by_one(make_store, placed, monkeypatch):
    place = locate(placed(make_store(), "memory"))
    whole = place.size("c/c/1/0/0/0")
    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "find", lambda *_, **__: {})
    fresh = locate(place.path)
    assert fresh.size("c/c/1/0/0/0") == whole == 6 * 4 * 5 * 4
    assert fresh.size("c/c/9/0/0/0") is None
