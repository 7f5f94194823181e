"""Importing: each format gives the numbers it holds, nothing leaks, a failure leaves nothing behind."""

import re
from pathlib import Path

import h5py
import imageio.v3 as iio
import numpy as np
import pytest
import scipy.io
import xarray as xr

from microevo.data.imports import import_frames
from microevo.data.store import TrajectoryStore

REAL = Path(__file__).parents[3] / "shared" / "real"


@pytest.fixture
def frames() -> np.ndarray:
    """Five unrelated trajectories of six frames, (N, T, H, W)."""
    return np.random.default_rng(0).random((5, 6, 12, 10), dtype=np.float32)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder for the output alone, so that whatever is left behind shows."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def everything(store: TrajectoryStore) -> np.ndarray:
    return np.stack([store.read(i) for i in range(len(store))])


def save_pair(folder: Path, name: str, frames: np.ndarray, n_past: int = 2, keys: tuple[str, str] = ("X", "Y")) -> Path:
    for part, key, values in zip("XY", keys, (frames[:, :n_past], frames[:, n_past:]), strict=True):
        np.savez(folder / f"{part}_{name}.npz", **{key: values})  # type: ignore[arg-type]
    return folder / f"X_{name}.npz"


def save_images(folder: Path, images: np.ndarray, suffix: str = ".png", first: int = 0) -> Path:
    folder.mkdir(parents=True)
    for number, image in enumerate(images, start=first):
        iio.imwrite(folder / f"frame{number}{suffix}", image)
    return folder


def sliding_windows(trajectory: np.ndarray, length: int, stride: int) -> np.ndarray:
    starts = range(0, len(trajectory) - length + 1, stride)
    return np.stack([trajectory[start : start + length] for start in starts])


# ------------------------------------------------------------------ formats


@pytest.mark.parametrize("axes", ["N T H W", "N T C H W", "N T H W 1"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_arrays_round_trip(tmp_path: Path, place: Path, frames: np.ndarray, suffix: str, axes: str) -> None:
    saved = {"N T H W": frames, "N T C H W": frames[:, :, None], "N T H W 1": frames[..., None]}[axes]
    path = tmp_path / f"set{suffix}"
    if suffix == ".npy":
        np.save(path, saved)
    elif suffix == ".npz":
        np.savez_compressed(path, solution=saved, label=np.arange(5))
    else:
        with h5py.File(path, "w") as file:
            file["group/solution"] = saved
            file["label"] = np.arange(5)
    store = import_frames(str(path), str(place / "set.zarr"), frame_interval=0.5, process="spinodal")
    assert np.array_equal(everything(store), frames[:, :, None])
    assert [len(store.split(name)) for name in ("train", "val", "test")] == [3, 1, 1]
    assert store.attributes["process"] == "spinodal"
    assert store.attributes["recipe"]["input"] == str(path)
    assert [entry.name for entry in place.iterdir()] == ["set.zarr"]


def test_several_fields_and_fortran_order(tmp_path: Path, place: Path, frames: np.ndarray) -> None:
    both = np.stack([frames, 1 - frames], axis=2)
    np.save(tmp_path / "two.npy", np.asfortranarray(both))
    store = import_frames(str(tmp_path / "two.npy"), str(place / "two.zarr"), fields=["phi", "T"])
    assert store.fields == ("phi", "T")
    assert np.array_equal(everything(store), both)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int16", ">f4"])
def test_other_number_types_become_float32(tmp_path: Path, place: Path, frames: np.ndarray, dtype: str) -> None:
    saved = (100 * frames).astype(dtype)
    np.save(tmp_path / "set.npy", saved)
    store = import_frames(str(tmp_path / "set.npy"), str(place / "set.zarr"))
    assert store.read(0).dtype == np.float32
    assert np.array_equal(everything(store)[:, :, 0], saved.astype(np.float32))


def test_value_range_becomes_zero_to_one(tmp_path: Path, place: Path) -> None:
    saved = np.random.default_rng(0).choice([-1.0, 0.0, 3.0], size=(2, 3, 8, 8))
    np.save(tmp_path / "set.npy", saved)
    store = import_frames(str(tmp_path / "set.npy"), str(place / "set.zarr"), value_range=(-1.0, 3.0))
    assert np.array_equal(everything(store)[:, :, 0], (saved.astype(np.float32) + 1) / 4)


@pytest.mark.parametrize("given", ["X_set.npz", "Y_set.npz", "."])
def test_pair_is_joined_along_time(tmp_path: Path, place: Path, frames: np.ndarray, given: str) -> None:
    folder = tmp_path / "pair"
    folder.mkdir()
    save_pair(folder, "set", frames, keys=("arr_0", "data"))
    store = import_frames(str(folder / given), str(place / "set.zarr"))
    assert np.array_equal(everything(store)[:, :, 0], frames)


def test_pairs_named_after_splits_keep_them(
    tmp_path: Path, place: Path, frames: np.ndarray, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    for name, part in {"test": frames[:1], "train": frames[1:4], "valid": frames[4:]}.items():
        save_pair(folder, name, part)
    store = import_frames(str(folder), str(place / "set.zarr"))
    assert np.array_equal(everything(store)[:, :, 0], frames[[1, 2, 3, 4, 0]])
    assert store.split("train").tolist() == [0, 1, 2]
    assert store.split("val").tolist() == [3]
    assert store.split("test").tolist() == [4]
    assert "3 train, 1 val, 1 test (as the files are named)" in capsys.readouterr().err


def test_hdf5_dataset_by_name(tmp_path: Path, place: Path, frames: np.ndarray) -> None:
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["run/phi"], file["run/eta"] = frames, 1 - frames
    with pytest.raises(ValueError, match=r"run/eta .*run/phi .*name one with dataset"):
        import_frames(str(tmp_path / "set.h5"), str(place / "set.zarr"))
    store = import_frames(str(tmp_path / "set.h5"), str(place / "set.zarr"), dataset="/run/eta")
    assert np.array_equal(everything(store)[:, :, 0], 1 - frames)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_images_are_scaled_and_ordered_by_number(tmp_path: Path, place: Path, dtype: str, suffix: str) -> None:
    full = np.iinfo(dtype).max
    images = np.random.default_rng(0).integers(0, full, (12, 9, 8), dtype=dtype, endpoint=True)
    folder = save_images(tmp_path / "run", images, suffix, first=1)
    (folder / "notes.txt").write_text("not a frame")
    store = import_frames(str(folder), str(place / "run.zarr"))
    assert np.array_equal(everything(store)[0, :, 0], images / np.float32(full))
    kept = import_frames(str(folder), str(place / "kept.zarr"), value_range=(0.0, 2.0))
    assert np.array_equal(everything(kept)[0, :, 0], images.astype(np.float32) / 2)


def test_folders_of_folders_and_float_tiff(tmp_path: Path, place: Path, frames: np.ndarray) -> None:
    for i, trajectory in enumerate(frames):
        save_images(tmp_path / "runs" / f"run{4 * i}", trajectory, ".tiff")
    store = import_frames(str(tmp_path / "runs"), str(place / "runs.zarr"))
    assert np.array_equal(everything(store)[:, :, 0], frames)


def test_frames_numbered_by_time_step(tmp_path: Path, place: Path, frames: np.ndarray) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for number, image in enumerate(frames[0]):
        iio.imwrite(folder / f"c_{500 * number}.tif", image)
    assert np.array_equal(import_frames(str(folder), str(place / "run.zarr")).read(0)[:, 0], frames[0])


def test_colour_images(tmp_path: Path, place: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (3, 8, 9, 3), dtype=np.uint8)
    folder = save_images(tmp_path / "colour", colour)
    with pytest.raises(ValueError, match=r"frame0.png is a colour image; .* three fields"):
        import_frames(str(folder), str(place / "colour.zarr"))
    store = import_frames(str(folder), str(place / "colour.zarr"), fields=["r", "g", "b"])
    assert np.array_equal(store.read(0), np.moveaxis(colour, -1, 1) / np.float32(255))

    opaque = np.concatenate([colour[..., :1]] * 3 + [np.full_like(colour[..., :1], 255)], axis=-1)
    grey = import_frames(str(save_images(tmp_path / "grey", opaque)), str(place / "grey.zarr"))
    assert np.array_equal(grey.read(0)[:, 0], colour[..., 0] / np.float32(255))

    opaque[1, 0, 0, 3] = 0
    with pytest.raises(ValueError, match=r"frame1.png is partly transparent"):
        import_frames(str(save_images(tmp_path / "clear", opaque)), str(place / "clear.zarr"))


def test_xarray_opens_the_result(tmp_path: Path, place: Path, frames: np.ndarray) -> None:
    np.save(tmp_path / "set.npy", frames)
    import_frames(str(tmp_path / "set.npy"), str(place / "set.zarr"), fields=["phi"], frame_interval=2.0, spacing=0.5)
    dataset = xr.open_zarr(place / "set.zarr", consolidated=False)
    assert np.array_equal(dataset.phi, frames)
    assert dataset.phi.dims == ("trajectory", "time", "y", "x")
    assert dataset.time.values.tolist() == [0, 2, 4, 6, 8, 10]
    assert dataset.group.values.tolist() == [0, 1, 2, 3, 4]


# ------------------------------------------------------------------ splits


def test_windows_of_one_trajectory_stay_together(tmp_path: Path, place: Path, capsys: pytest.CaptureFixture) -> None:
    generator = np.random.default_rng(0)
    # Three trajectories cut into windows that share frames, one cut without overlap, all with blank frames.
    trajectories = generator.random((4, 20, 8, 8), dtype=np.float32)
    trajectories[:, 3] = 0
    parts = [sliding_windows(t, 5, stride) for t, stride in zip(trajectories, (3, 2, 4, 5), strict=True)]
    origin = np.repeat(np.arange(4), [len(part) for part in parts])
    origin[origin == 3] += np.arange(4)  # windows without a common frame count as trajectories of their own
    shuffled = generator.permutation(len(origin))
    np.save(tmp_path / "set.npy", np.concatenate(parts)[shuffled])
    splits = {"train": 0.5, "val": 0.25, "test": 0.25}
    store = import_frames(str(tmp_path / "set.npy"), str(place / "set.zarr"), splits=splits)

    groups, origin = store.per_trajectory["group"], origin[shuffled]
    assert len(set(groups)) == 7
    assert len(set(zip(groups, origin, strict=True))) == 7
    found = [set(origin[store.split(name)]) for name in splits]
    assert sum(map(len, found)) == 7
    assert all(found)
    assert "18 windows share frames and were cut from 3 trajectories" in capsys.readouterr().err


def test_one_trajectory_leaves_splits_empty_and_says_so(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture
) -> None:
    trajectory = np.random.default_rng(0).random((20, 8, 8), dtype=np.float32)
    np.save(tmp_path / "set.npy", sliding_windows(trajectory, 8, 4))
    store = import_frames(str(tmp_path / "set.npy"), str(place / "set.zarr"))
    assert store.split("train").tolist() == [0, 1, 2, 3]
    printed = capsys.readouterr().err
    assert "4 train, 0 val, 0 test" in printed
    assert "4 windows share frames and were cut from 1 trajectory: kept together in the split train" in printed
    assert "val and test stay empty: the input holds only 1 independent trajectory" in printed


def test_assignment_follows_fractions_and_seed(tmp_path: Path, place: Path) -> None:
    np.save(tmp_path / "set.npy", np.random.default_rng(0).random((40, 2, 8, 8), dtype=np.float32))
    stores = [
        import_frames(str(tmp_path / "set.npy"), str(place / f"{name}.zarr"), seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert all([len(s.split(name)) for name in ("train", "val", "test")] == [32, 4, 4] for s in stores)
    assert stores[0].split("test").tolist() == stores[1].split("test").tolist()
    assert stores[0].split("test").tolist() != stores[2].split("test").tolist()
    whole = import_frames(str(tmp_path / "set.npy"), str(place / "test.zarr"), splits={"test": 1.0})
    assert len(whole.split("test")) == 40


def test_named_splits_that_leak_are_refused(tmp_path: Path, place: Path) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    windows = sliding_windows(np.random.default_rng(0).random((20, 8, 8), dtype=np.float32), 8, 4)
    save_pair(folder, "train", windows[:2])
    save_pair(folder, "test", windows[2:])
    with pytest.raises(ValueError, match=r"4 windows that share frames .* test and train"):
        import_frames(str(folder), str(place / "set.zarr"))
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    "name", ["Dendrite_growth", "Grain_growth", "Plane_wave_propagation", "Spinodal_decomposition"]
)
def test_published_samples(place: Path, name: str) -> None:
    path = REAL / f"{name}_test_10_10.npy"
    if not path.exists():
        pytest.skip(f"the published sample {path.name} is not in ../shared/real")
    store = import_frames(str(path), str(place / "set.zarr"), splits={"test": 1.0})
    assert np.array_equal(everything(store)[:, :, 0], np.load(path).astype(np.float32))
    assert (len(store), store.frames, store.image_shape) == (18, 20, (64, 64))
    assert store.per_trajectory["group"].tolist() == [0] * 18


# ------------------------------------------------------------------ refusals


def damaged(frames: np.ndarray, value: float) -> np.ndarray:
    bad = frames.copy()
    bad[3, 2, 5, 5] = value
    return bad


BAD_ARRAYS = {
    "nan": (lambda f: damaged(f, np.nan), r"trajectory 3, frame 2 .*not finite"),
    "inf": (lambda f: damaged(f, np.inf), r"trajectory 3, frame 2 .*not finite"),
    "too large": (lambda f: 1e300 * f.astype(np.float64), r"trajectory 0, frame 0 .*not finite in float32"),
    "rank 2": (lambda f: f[0, 0], r"shape \(12, 10\); reshape it to \(T, H, W\), \(N, T, H, W\)"),
    "empty": (lambda f: f[:0], r"is empty"),
    "no frames": (lambda f: f[:, :0], r"is empty"),
    "complex": (lambda f: f + 1j, r"complex64; save real numbers"),
    "text": (lambda f: f.astype(str), r"save real numbers"),
    "ragged": (lambda f: np.array([f[0], f[1, :3]], dtype=object), r"Python objects, as a ragged list"),
    "channels": (lambda f: np.stack([f, f], axis=2), r"2 channels .* fields names 1 \(c\)"),
}


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("fault", BAD_ARRAYS)
def test_bad_arrays(tmp_path: Path, place: Path, frames: np.ndarray, fault: str, suffix: str) -> None:
    change, message = BAD_ARRAYS[fault]
    path = tmp_path / f"bad{suffix}"
    (np.save if suffix == ".npy" else np.savez)(path, change(frames))
    refused(path, place, message)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".mat", ".nc"])
def test_damaged_and_foreign_files(tmp_path: Path, place: Path, frames: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"set{suffix}"
    if suffix == ".npy":
        np.save(path, frames)
    elif suffix == ".npz":
        np.savez(path, frames)
    elif suffix == ".mat":
        scipy.io.savemat(path, {"c": frames})
    elif suffix == ".nc":
        with scipy.io.netcdf_file(path, "w") as file:
            for axis, size in zip("NTHW", frames.shape, strict=True):
                file.createDimension(axis, size)
            file.createVariable("c", "f4", tuple("NTHW"))[:] = frames
    else:
        with h5py.File(path, "w") as file:
            file["c"] = frames
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:100], b"hello", b""):
        path.write_bytes(content)
        refused(path, place, rf"set{suffix} cannot be read as {suffix} .*damaged or of another format")


def test_options_for_another_kind_of_input_are_refused(tmp_path: Path, place: Path, frames: np.ndarray) -> None:
    np.save(tmp_path / "set.npy", frames)
    refused(tmp_path / "set.npy", place, "not a folder of images; leave frame_number out", frame_number="t(.)")
    (tmp_path / "stack.tif").touch()
    refused(tmp_path / "stack.tif", place, "not a file of named arrays; leave axes out", axes="THW")
    refused(tmp_path / "stack.tif", place, "not a file of named arrays; leave dataset out", dataset="c")
    (tmp_path / "run").mkdir()
    refused(tmp_path / "run", place, "not an array; leave axes out", axes="THW")


def test_inputs_that_are_none(tmp_path: Path, place: Path, frames: np.ndarray) -> None:
    refused(tmp_path / "absent.npy", place, r"nothing to import at .*absent.npy", FileNotFoundError)
    (tmp_path / "movie.gif").touch()
    refused(tmp_path / "movie.gif", place, r"does not have a known format; give a .npy")
    (tmp_path / "nothing").mkdir()
    refused(tmp_path / "nothing", place, r"holds neither numbered PNG, JPEG, TIFF or VTK frames nor folders")
    np.savez(tmp_path / "two.npz", a=frames, b=frames)
    refused(tmp_path / "two.npz", place, r"a \(5, 6, 12, 10\), b \(5, 6, 12, 10\); name one with dataset")
    refused(tmp_path / "two.npz", place, r"has no dataset c; it holds a", dataset="c")
    np.savez(tmp_path / "none.npz")
    refused(tmp_path / "none.npz", place, r"it holds nothing")
    np.save(tmp_path / "set.npy", frames)
    refused(tmp_path / "set.npy", place, r"has no named arrays; leave dataset out", dataset="c")
    refused(tmp_path / "set.npy", place, r"1 channel .* fields names 2 \(phi, T\)", fields=["phi", "T"])


def test_pairs_that_do_not_match(tmp_path: Path, place: Path, frames: np.ndarray) -> None:
    past = save_pair(tmp_path, "set", frames)
    future = tmp_path / "Y_set.npz"
    np.savez(future, frames[:4])
    refused(past, place, r"X_set.npz and Y_set.npz should hold the same windows, .* 5 .* and 4")
    np.savez(future, frames[..., :9])
    refused(past, place, r"\(1, 12, 10\) and 5 of \(1, 12, 9\)")
    future.unlink()
    refused(past, place, r"X_set.npz is half of a pair", FileNotFoundError)
    save_pair(tmp_path, "set", frames)
    save_pair(tmp_path, "other", frames)
    refused(tmp_path, place, r"several pairs \(X_other.npz, X_set.npz\)")


def test_bad_image_folders(tmp_path: Path, place: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8), dtype=np.uint8)
    folder = save_images(tmp_path / "runs" / "a", images)
    (folder / "frame3.png").rename(folder / "moved3.png")
    save_images(tmp_path / "runs" / "b", images[:5])
    refused(tmp_path / "runs", place, r"a has 9 and .*b has 5")
    (folder / "frame7.png").unlink()
    (folder / "frame5.png").unlink()
    refused(folder, place, r"frames from 0 to 8 but misses 5, 7; complete")
    iio.imwrite(folder / "frame05.png", images[5])
    iio.imwrite(folder / "frame7.tif", images[7])
    iio.imwrite(folder / "frame07.png", images[7])
    refused(folder, place, r"frame7.tif and frame07.png have the same number 7")
    (folder / "frame07.png").unlink()
    iio.imwrite(folder / "frame4.png", images[4, :7])
    refused(folder, place, r"frame0.png has C, H, W = \(1, 8, 8\) and .*frame4.png has \(1, 7, 8\)")
    (folder / "frame4.png").write_bytes(b"hello")
    refused(folder, place, r"frame4.png cannot be read as an image")
    iio.imwrite(folder / "frame4.png", images[4])
    iio.imwrite(folder / "mean.png", images[4])
    refused(folder, place, r"mean.png has no number in its name")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"splits": {"train": 0.5, "val": 0.2}}, r"sum to 1, but .*\(sum 0.7\)"),
        ({"splits": {"train": 1.2, "val": -0.2}}, r"fractions from 0 to 1"),
        ({"splits": {"train": 0.5, "dev": 0.5}}, r"splits are train, val, test, but dev"),
        ({"splits": {}}, r"sum to 1"),
        ({"value_range": (1.0, 1.0)}, r"value_range is two finite numbers, the lower one first"),
        ({"frame_interval": 0.0}, r"frame_interval must be a positive number"),
        ({"spacing": float("nan")}, r"spacing must be a positive number"),
        ({"fields": ["x"]}, r"other than time, z, y, x"),
        ({"fields": ["c", "c"]}, r"fields are different names"),
        ({"fields": []}, r"none was given"),
        ({"boundary": "no-flux", "symmetries": ["shift"]}, r"shift needs periodic boundaries"),
    ],
)
def test_bad_settings(tmp_path: Path, place: Path, frames: np.ndarray, setting: dict, message: str) -> None:
    np.save(tmp_path / "set.npy", frames)
    refused(tmp_path / "set.npy", place, message, **setting)


# ------------------------------------------------------------------ the output


def test_output_that_exists_survives(
    tmp_path: Path, place: Path, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "old.npy", frames)
    np.save(tmp_path / "new.npy", 1 - frames)
    output = place / "set.zarr"
    fingerprint = import_frames(str(tmp_path / "old.npy"), str(output)).fingerprint
    with pytest.raises(FileExistsError, match=r"set.zarr exists already; use --overwrite"):
        import_frames(str(tmp_path / "new.npy"), str(output))

    def interrupt(self: TrajectoryStore) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrajectoryStore, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            import_frames(str(tmp_path / "new.npy"), str(output), overwrite=True)
    assert [entry.name for entry in place.iterdir()] == ["set.zarr"]
    assert TrajectoryStore.open(output).fingerprint == fingerprint

    store = import_frames(str(tmp_path / "new.npy"), str(output), overwrite=True)
    assert np.array_equal(everything(store)[:, :, 0], 1 - frames)
    assert [entry.name for entry in place.iterdir()] == ["set.zarr"]


def test_output_that_cannot_be_written(tmp_path: Path, place: Path, frames: np.ndarray) -> None:
    np.save(tmp_path / "set.npy", frames)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/set.zarr cannot be written, .*choose another output"):
        import_frames(str(tmp_path / "set.npy"), str(tmp_path / "file" / "set.zarr"))
    with pytest.raises(FileExistsError, match=r"is not a store that may be replaced"):
        import_frames(str(tmp_path / "set.npy"), str(tmp_path / "file"), overwrite=True)
    assert (tmp_path / "file").read_bytes() == b""


def test_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, place: Path, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: TrajectoryStore, trajectory: int, frames: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    np.save(tmp_path / "set.npy", frames)
    monkeypatch.setattr(TrajectoryStore, "write", full)
    refused(tmp_path / "set.npy", place, r"set.zarr cannot be written \(No space left on device\)", OSError)


def refused(path: Path, place: Path, message: str, error: type[Exception] = ValueError, **settings: object) -> None:
    """The import fails with one sentence, and nothing is left behind."""
    with pytest.raises(error) as raised:
        import_frames(str(path), str(place / "set.zarr"), **settings)  # type: ignore[arg-type]
    assert re.search(message, str(raised.value)), raised.value
    assert "\n" not in str(raised.value)
    assert not list(place.iterdir())
