import errno
import hashlib
import json
import os
import pathlib
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
import xarray
import zarr

from microevo.data import StoreSchema, TrajectoryStore
from microevo.processes import Field


def schema(**settings):
    defaults = {
        "fields": (Field("c", "composition", "1"),),
        "frames": 6,
        "image_shape": (4, 5),
        "splits": ("train", "val", "test"),
        "process": "noise",
        "recipe": {"seed": 3},
        "command": "python -m microevo simulate --config x.yaml",
    }
    return StoreSchema(**(defaults | settings))


def frames(seed=0, fields=1, shape=(4, 5)):
    return np.random.default_rng(seed).random((6, fields, *shape), dtype=np.float32)


def test_what_is_read_is_what_was_written(tmp_path):
    store = TrajectoryStore.create(tmp_path / "a.zarr", schema(fields=(Field("c", "c", "1"), Field("mu", "mu", "J"))))
    written = [frames(i, fields=2) for i in range(3)]
    for i, values in enumerate(written):
        store.write(i, values)
    store.finish()
    read = TrajectoryStore.open(tmp_path / "a.zarr")
    assert read.fields == ("c", "mu")
    assert (len(read), read.frames, read.image_shape) == (3, 6, (4, 5))
    for i, values in enumerate(written):
        np.testing.assert_array_equal(read.read(i), values)
        np.testing.assert_array_equal(read.read(i, 2, 5, ["mu"]), values[2:5, 1:])


def test_the_memory_map_and_zarr_give_the_same_answer(make_store, tmp_path):
    store = make_store(fields=("c", "T"))
    other = tmp_path / "compressed.zarr"
    shutil.copytree(store.path, other)
    for name in store.fields:
        values = np.asarray(zarr.open_group(store.path)[name])
        shutil.rmtree(other / name)
        zarr.open_group(other).create_array(
            name,
            data=values,
            chunks=(2, 3, 4, 5),
            shards=(2, 6, 4, 5),
            dimension_names=("trajectory", "time", "y", "x"),
        )
    compressed = TrajectoryStore.open(other)
    assert all(store._plain.values())
    assert not any(compressed._plain.values())
    for i in range(len(store)):
        np.testing.assert_array_equal(compressed.read(i, 1, 4), store.read(i, 1, 4))


def test_xarray_reads_it_as_it_is(make_store):
    store = make_store(per_trajectory={"mobility": np.array([1.0, 2.0, 3.0, 4.0])}, frame_interval=0.5, spacing=2.0)
    data = xarray.open_zarr(store.path, consolidated=False)
    assert data.c.dims == ("trajectory", "time", "y", "x")
    np.testing.assert_array_equal(data.c[1], store.read(1)[:, 0])
    np.testing.assert_allclose(data.time, 0.5 * np.arange(6))
    np.testing.assert_allclose(data.x, 2.0 * (np.arange(5) + 0.5))
    assert data.mobility.dims == ("trajectory",)
    assert "split" in data.coords
    assert data.attrs["process"] == "noise"


def test_statistics_are_those_of_the_training_split_alone(make_store):
    store = make_store(splits=("test", "train", "val", "train"))
    train = np.stack([store.read(1), store.read(3)]).astype(np.float64)
    numbers = store.attributes["statistics"]["c"]
    assert numbers["mean"] == pytest.approx(train.mean(), rel=1e-12)
    assert numbers["std"] == pytest.approx(train.std(), rel=1e-9)
    assert (numbers["min"], numbers["max"]) == (train.min(), train.max())


@pytest.mark.parametrize(
    "settings",
    [
        {"chunks": (1, 3, 4, 5)},
        {"chunks": (2, 6, 4, 5)},
        {"chunks": (1, 6, 2, 5)},
        {"serializer": zarr.codecs.BytesCodec(endian="big"), "chunks": (1, 6, 4, 5)},
        {"dtype": "<f8", "chunks": (1, 6, 4, 5)},
        {"chunk_key_encoding": {"name": "default", "separator": "."}, "chunks": (1, 6, 4, 5)},
        {"compressors": zarr.codecs.ZstdCodec(), "chunks": (1, 6, 4, 5)},
    ],
    ids=str,
)
def test_bare_numbers_in_another_layout_are_read_as_zarr_reads_them(make_store, tmp_path, settings):
    store = make_store(fields=("c", "T"))
    values = np.asarray(zarr.open_group(store.path)["T"])
    shutil.copytree(store.path, tmp_path / "other.zarr")
    shutil.rmtree(tmp_path / "other.zarr" / "T")
    settings = {"dtype": "<f4", "compressors": None, "fill_value": np.nan} | settings
    array = zarr.open_group(tmp_path / "other.zarr").create_array("T", shape=values.shape, **settings)
    array[:] = values
    other = TrajectoryStore.open(tmp_path / "other.zarr")
    for i in range(len(store)):
        np.testing.assert_array_equal(other.read(i), store.read(i))
        np.testing.assert_array_equal(other.read(i, 2, 5, ["T"]), values[i, 2:5, None])


@pytest.mark.parametrize("place", [(0, 0, 0, 0, 0), (1, 3, 0, 2, 2), (3, 5, 1, 3, 4), (2, 0, 1, 0, 0)])
def test_the_fingerprint_depends_on_every_pixel_of_every_field(make_store, place):
    values = np.random.default_rng(0).random((4, 6, 2, 4, 5), dtype=np.float32)
    one = make_store("a.zarr", values=values, fields=("c", "T"))
    changed = values.copy()
    changed[place] = np.nextafter(changed[place], np.float32(2))
    assert make_store("b.zarr", values=changed, fields=("c", "T")).fingerprint != one.fingerprint
    # Published fingerprints stay what they are: all trajectories in order, (T, C, H, W) of little-endian float32.
    assert one.fingerprint == hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()


def test_the_fingerprint_tells_data_apart(make_store):
    one, same, other = make_store("a.zarr"), make_store("b.zarr"), make_store("c.zarr", frames=5)
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_an_unfinished_store_is_refused_with_the_way_to_finish_it(tmp_path):
    store = TrajectoryStore.create(tmp_path / "a.zarr", schema())
    store.write(1, frames())
    with pytest.raises(ValueError, match=r"unfinished \(1 of 3 trajectories\).*simulate --config x.yaml"):
        TrajectoryStore.open(tmp_path / "a.zarr")
    partly = TrajectoryStore.open(tmp_path / "a.zarr", unfinished=True)
    assert partly.missing() == [0, 2]
    assert np.isnan(np.asarray(zarr.open_group(partly.path)["c"][0])).all()
    with pytest.raises(ValueError, match=r"unfinished: trajectory 0 of 3 is missing"):
        partly.read(0)
    with pytest.raises(ValueError, match="misses 2 of 3"):
        partly.finish()


def test_a_store_is_overwritten_only_when_asked(make_store):
    store = make_store()
    with pytest.raises(FileExistsError, match="--overwrite"):
        TrajectoryStore.create(store.path, schema())
    np.testing.assert_array_equal(TrajectoryStore.open(store.path).read(0), store.read(0))
    TrajectoryStore.create(store.path, schema(), overwrite=True)
    assert TrajectoryStore.open(store.path, unfinished=True).missing() == [0, 1, 2]


def test_of_two_that_make_a_store_at_the_same_moment_the_slower_gives_way(tmp_path, monkeypatch):
    write = StoreSchema.write

    def slow(schema, path):
        write(schema, path)
        monkeypatch.setattr(StoreSchema, "write", write)
        TrajectoryStore.create(tmp_path / "a.zarr", schema).write(1, frames())

    monkeypatch.setattr(StoreSchema, "write", slow)
    with pytest.raises(FileExistsError, match="just been made by another process"):
        TrajectoryStore.create(tmp_path / "a.zarr", schema())
    assert TrajectoryStore.open(tmp_path / "a.zarr", unfinished=True).missing() == [0, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_a_writer_whose_work_another_has_done_and_finished_goes_on(tmp_path, monkeypatch):
    """The other one takes the half-written file for litter of a killed process."""
    slow = TrajectoryStore.create(tmp_path / "a.zarr", schema())
    fast = TrajectoryStore.open(tmp_path / "a.zarr", unfinished=True)
    for i in range(3):
        slow.write(i, frames(i))
    replace = pathlib.Path.replace

    def overtaken(path, target):
        assert path.suffix == ".partial"
        monkeypatch.setattr(pathlib.Path, "replace", replace)
        fast.finish()
        assert not path.exists()
        return replace(path, target)

    monkeypatch.setattr(pathlib.Path, "replace", overtaken)
    slow.write(1, frames(1))
    assert not slow.attributes["complete"]
    before = (tmp_path / "a.zarr/zarr.json").read_bytes()
    monkeypatch.setattr(pathlib.Path, "replace", overtaken)
    slow.finish()
    assert (tmp_path / "a.zarr/zarr.json").read_bytes() == before
    np.testing.assert_array_equal(TrajectoryStore.open(tmp_path / "a.zarr").read(1), frames(1))


def test_what_a_killed_process_left_is_swept_when_the_store_is_finished(tmp_path):
    store = TrajectoryStore.create(tmp_path / "a.zarr", schema())
    for i in range(3):
        store.write(i, frames(i))
    for leftover in ("c/c/1/0/0/0.123abc.partial", "zarr.123abc.partial"):
        (store.path / leftover).write_bytes(b"half a traj")
    store.finish()
    assert not list(store.path.rglob("*.partial"))
    assert store.missing() == []


def test_finished_stores_open_with_one_file_and_without_a_warning(make_store):
    store = make_store(fields=("c", "T"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xarray.open_zarr(store.path)
    assert {"c", "T"} == set(data.data_vars)
    assert data.attrs["complete"]
    metadata = json.loads((store.path / "zarr.json").read_text())["consolidated_metadata"]["metadata"]
    assert {"c", "T", "split", "time", "x", "y"} == set(metadata)


def test_overwrite_never_removes_what_is_not_a_store(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("years of work")
    with pytest.raises(FileExistsError, match="choose another path"):
        TrajectoryStore.create(tmp_path / "thesis", schema(), overwrite=True)
    assert (tmp_path / "thesis" / "chapter").read_text() == "years of work"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((6, 1, 4, 5), np.nan, np.float32), "frame 0 holds a value that is not finite"),
        (np.zeros((6, 1, 5, 4), np.float32), r"has the shape \(6, 1, 4, 5\)"),
    ],
)
def test_bad_trajectories_are_refused(tmp_path, values, message):
    store = TrajectoryStore.create(tmp_path / "a.zarr", schema())
    with pytest.raises(ValueError, match=message):
        store.write(0, values)
    assert store.missing() == [0, 1, 2]


def test_what_is_not_a_store_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="make it with"):
        TrajectoryStore.open(tmp_path / "absent.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="is not a trajectory store"):
        TrajectoryStore.open(tmp_path / "folder")
    zarr.create_group(tmp_path / "newer.zarr").attrs.update({"microevo_schema": 99})
    with pytest.raises(ValueError, match="update microevo"):
        TrajectoryStore.open(tmp_path / "newer.zarr")


def test_too_little_room_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(OSError, match="ask for fewer trajectories"):
        TrajectoryStore.create(tmp_path / "a.zarr", schema(frames=10**13))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_runs_full_leaves_whole_trajectories(tmp_path):
    store = TrajectoryStore.create(tmp_path / "a.zarr", schema(image_shape=(64, 64)))
    store.write(0, frames(shape=(64, 64)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError) as caught:  # noqa: PT011
            store.write(1, frames(shape=(64, 64)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert caught.value.errno == errno.EFBIG
    assert store.missing() == [1, 2]


@pytest.mark.slow
def test_kill_leaves_whole_trajectories_or_nothing(tmp_path):
    """SIGKILL at arbitrary moments: what counts as written is what was written, and the rest can still be."""
    # Importing takes seconds: one process does it, and each that is killed is forked from it, before any has threads.
    script = textwrap.dedent(
        """
        import os, sys, numpy as np
        from microevo.data import TrajectoryStore
        for line in sys.stdin:
            if child := os.fork():
                os.waitpid(child, 0)
                print("ended", flush=True)
                continue
            store = TrajectoryStore.open(sys.argv[1], unfinished=True)
            print(os.getpid(), flush=True)
            for i in store.missing():
                store.write(i, np.full((6, 1, 64, 64), i + 1, np.float32))
            os._exit(0)
        """
    )
    path = tmp_path / "a.zarr"
    store = TrajectoryStore.create(path, schema(image_shape=(64, 64), splits=("train",) * 400))
    written = 0
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
    ) as parent:
        for delay in (0.02, 0.05, 0.11):
            print("go", file=parent.stdin, flush=True)
            writer = int(parent.stdout.readline())
            time.sleep(delay)
            os.kill(writer, signal.SIGKILL)
            assert parent.stdout.readline() == "ended\n"
            there = set(range(400)) - set(store.missing())
            assert len(there) >= written
            written = len(there)
            for i in there:
                np.testing.assert_array_equal(store.read(i), i + 1)
        parent.stdin.close()
    assert 0 < written < 400
    with pytest.raises(ValueError, match="unfinished"):
        TrajectoryStore.open(path)


def test_stores_travel_to_worker_processes(make_store):
    store = make_store()
    store.read(0)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).read(1), store.read(1))


def test_a_read_only_store_is_readable(make_store):
    store = make_store()
    values = store.read(0)
    subprocess.run(["chmod", "-R", "a-w", store.path], check=True)
    np.testing.assert_array_equal(TrajectoryStore.open(store.path).read(0), values)
    subprocess.run(["chmod", "-R", "u+w", store.path], check=True)


def test_unknown_splits_are_refused():
    with pytest.raises(ValueError, match="splits are train, val, test, but trian was given"):
        schema(splits=("trian",))


def test_a_kill_while_a_store_is_finished_leaves_it_unfinished_or_whole(make_store, monkeypatch):
    written = []
    save = zarr.Group.update_attributes
    monkeypatch.setattr(
        zarr.Group, "update_attributes", lambda group, new: written.append(dict(new)) or save(group, new)
    )
    store = make_store()
    (last,) = [attributes for attributes in written if attributes.get("complete")]
    assert {"statistics", "fingerprint"} <= last.keys()
    # What an earlier version could leave.
    group = zarr.open_group(store.path, mode="r+")
    group.attrs.put(
        {name: value for name, value in store.attributes.items() if name not in ("statistics", "fingerprint")}
    )
    with pytest.raises(ValueError, match="is unfinished"):
        TrajectoryStore.open(store.path)
    TrajectoryStore.open(store.path, unfinished=True).finish()
    assert TrajectoryStore.open(store.path).fingerprint == store.fingerprint
