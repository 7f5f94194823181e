"""Files of arrays: the order of their axes, which arrays are meant, and what their numbers mean."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from microevo.data import TrajectoryStore, import_frames
from microevo.data.readers import open_frames

N, T, H, W = 3, 4, 8, 9


@pytest.fixture
def frames() -> np.ndarray:
    """Random trajectories (N, T, H, W)."""
    return np.random.default_rng(0).random((N, T, H, W), dtype=np.float32)


@pytest.fixture
def imported(tmp_path: Path):
    def run(path: Path, **settings: object) -> np.ndarray:
        store = import_frames(str(path), str(tmp_path / "store.zarr"), overwrite=True, **settings)  # type: ignore[arg-type]
        return np.stack([store.read(i) for i in range(len(store))])

    return run


def arranged(frames: np.ndarray, axes: str) -> np.ndarray:
    """The frames (N, T, C, H, W) with their axes in another order, and without those of length one that it leaves out."""
    dropped = tuple("NTCHW".index(letter) for letter in "NC" if letter not in axes)
    kept = "".join(letter for letter in "NTCHW" if letter in axes)
    return frames.squeeze(dropped).transpose([kept.index(letter) for letter in axes])


# ------------------------------------------------------------------ axes


@pytest.mark.parametrize(
    "axes", ["TNHW", "NHWT", "HWTN", "NTHWC", "TNCHW", "THW", "HWT", "THWC", "n t h w", "N,T,C,H,W"]
)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_the_order_of_the_axes_can_be_given(tmp_path, imported, frames, axes, suffix) -> None:
    letters = axes.upper().replace(" ", "").replace(",", "")
    channels = 2 if "C" in letters else 1
    whole = np.stack([frames, 1 - frames][:channels], axis=2)[: N if "N" in letters else 1]
    path = tmp_path / f"set{suffix}"
    save(path, arranged(whole, letters))
    np.testing.assert_array_equal(imported(path, axes=axes, fields=["c", "d"][:channels]), whole)


def save(path: Path, values: np.ndarray) -> None:
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, values)
    else:
        with h5py.File(path, "w") as file:
            file["c"] = values


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("NTH", "axes has one letter for each axis"),
        ("NTHX", "axes has one letter for each axis"),
        ("NTHH", "axes has one letter for each axis"),
        ("NTCHW", r"has the shape \(3, 4, 8, 9\), which axes NTCHW does not fit"),
    ],
)
def test_axes_that_do_not_fit(tmp_path, imported, frames, axes: str, message: str) -> None:
    np.save(tmp_path / "set.npy", frames)
    with pytest.raises(ValueError, match=message):
        imported(tmp_path / "set.npy", axes=axes)


@pytest.mark.parametrize(
    ("shape", "fields", "read_as"),
    [
        ((3, 4, 8, 9), ["c"], "N T H W"),
        ((3, 4, 2, 8, 9), ["c", "d"], "N T C H W"),
        ((3, 4, 8, 9, 2), ["c", "d"], "N T H W C"),
        ((4, 2, 8, 9), ["c", "d"], "T C H W"),
        ((4, 8, 9, 2), ["c", "d"], "T H W C"),
        ((4, 8, 9), ["c"], "T H W"),
    ],
)
def test_what_was_assumed_is_said(tmp_path, imported, capsys, shape, fields, read_as) -> None:
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    np.save(tmp_path / "set.npy", values)
    read = imported(tmp_path / "set.npy", fields=fields)
    assert f"set.npy {shape} was read as {read_as}; another order is set with --axes" in capsys.readouterr().err
    np.testing.assert_array_equal(read, imported(tmp_path / "set.npy", fields=fields, axes=read_as))


def test_channels_that_stand_last_are_named(tmp_path, imported) -> None:
    np.save(tmp_path / "set.npy", np.zeros((3, 4, 8, 9, 2), np.float32))
    with pytest.raises(ValueError, match=r"2 channels seem to stand last, but fields names 1; .* or give --axes"):
        imported(tmp_path / "set.npy")


def test_time_before_trajectories_is_suspected(tmp_path, imported, capsys) -> None:
    noise = np.random.default_rng(0)
    slow = noise.random((5, 1, 8, 8)) + 0.01 * noise.random((5, 6, 8, 8)).cumsum(axis=1)
    np.save(tmp_path / "set.npy", slow.swapaxes(0, 1))
    imported(tmp_path / "set.npy")
    assert "the first may be time (--axes TNHW)" in capsys.readouterr().err
    np.save(tmp_path / "set.npy", slow)
    imported(tmp_path / "set.npy")
    assert "may be time" not in capsys.readouterr().err
    np.save(tmp_path / "set.npy", slow[0, :, None])  # (T, 1, H, W)
    imported(tmp_path / "set.npy")
    assert "each trajectory then has one frame, so that the first axis may be time" in capsys.readouterr().err


# ------------------------------------------------------------------ formats


def test_matlab_files(tmp_path, imported, frames) -> None:
    scipy.io.savemat(tmp_path / "five.mat", {"c": frames, "comment": "a text", "x": np.arange(3.0)})
    np.testing.assert_array_equal(imported(tmp_path / "five.mat")[:, :, 0], frames)
    # Version 7.3 is HDF5 with the axes reversed, known by an attribute.
    with h5py.File(tmp_path / "seven.mat", "w", userblock_size=512) as file:
        file["c"] = frames.transpose()
        file["c"].attrs["MATLAB_class"] = np.bytes_("single")
    np.testing.assert_array_equal(imported(tmp_path / "seven.mat")[:, :, 0], frames)
    with h5py.File(tmp_path / "seven.mat", "w", userblock_size=512) as file:
        file["c"] = frames.transpose(2, 3, 1, 0).transpose()  # MATLAB's (H, W, T, N)
        file["c"].attrs["MATLAB_class"] = np.bytes_("single")
    np.testing.assert_array_equal(imported(tmp_path / "seven.mat", axes="HWTN")[:, :, 0], frames)


def test_arrays_in_a_struct_of_matlab(tmp_path, imported, frames) -> None:
    scipy.io.savemat(tmp_path / "five.mat", {"run": {"c": frames, "x": np.arange(3.0)}})
    np.testing.assert_array_equal(imported(tmp_path / "five.mat")[:, :, 0], frames)
    np.testing.assert_array_equal(imported(tmp_path / "five.mat", dataset="run/c")[:, :, 0], frames)


def test_netcdf_files(tmp_path, imported, frames) -> None:
    with scipy.io.netcdf_file(tmp_path / "old.nc", "w") as file:
        for name, size in zip("NTHW", frames.shape, strict=True):
            file.createDimension(name, size)
        variable = file.createVariable("c", "i2", tuple("NTHW"))
        variable[:] = np.round(1000 * frames)
        variable.scale_factor, variable.add_offset = 0.001, 2.0
    expected = (0.001 * np.round(1000 * frames).astype(np.float64) + 2).astype(np.float32)
    np.testing.assert_allclose(imported(tmp_path / "old.nc")[:, :, 0], expected, rtol=1e-6)


def test_fields_in_arrays_of_their_own(tmp_path, imported, frames) -> None:
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["t0_fields/phi"], file["t0_fields/T"], file["t0_fields/other"] = frames, 1 - frames, 2 * frames
    both = np.stack([frames, 1 - frames], axis=2)
    np.testing.assert_array_equal(imported(tmp_path / "set.h5", fields=["phi", "T"]), both)
    named = imported(tmp_path / "set.h5", fields=["a", "b"], dataset="t0_fields/phi, t0_fields/T")
    np.testing.assert_array_equal(named, both)
    np.testing.assert_array_equal(imported(tmp_path / "set.h5", fields=["T"])[:, :, 0], 1 - frames)
    with pytest.raises(ValueError, match="name one with dataset, or one for each field"):
        imported(tmp_path / "set.h5", fields=["c"])
    with h5py.File(tmp_path / "set.h5", "a") as file:
        file["short"] = frames[:, :2]
    with pytest.raises(ValueError, match=r"arrays of different sizes, .*\(3, 2, 1, 8, 9\) in short"):
        imported(tmp_path / "set.h5", fields=["a", "b"], dataset="t0_fields/phi,short")


@pytest.mark.parametrize("settings", [{}, {"dataset": "*/data"}])
def test_a_group_for_each_trajectory(tmp_path, imported, frames, settings) -> None:
    with h5py.File(tmp_path / "set.h5", "w") as file:
        for i, trajectory in enumerate(np.concatenate([frames] * 4)):  # 12: names are ordered by number
            file[f"run{i}/data"] = trajectory + i
            file[f"run{i}/grid/x"] = np.arange(9)
    read = imported(tmp_path / "set.h5", **settings)[:, :, 0]
    np.testing.assert_array_equal(read, np.stack([frames[i % 3] + i for i in range(12)]))


@pytest.mark.parametrize("settings", [{}, {"dataset": "*/c, */T"}])
def test_a_group_of_several_fields_for_each_trajectory(tmp_path, imported, frames, settings) -> None:
    with h5py.File(tmp_path / "set.h5", "w") as file:
        for i, trajectory in enumerate(frames):
            file[f"run{i}/c"], file[f"run{i}/T"], file[f"run{i}/other"] = trajectory, 1 - trajectory, 2 * trajectory
    read = imported(tmp_path / "set.h5", fields=["c", "T"], **settings)
    np.testing.assert_array_equal(read, np.stack([frames, 1 - frames], axis=2))
    np.testing.assert_array_equal(imported(tmp_path / "set.h5", fields=["T"])[:, :, 0], 1 - frames)
    with pytest.raises(ValueError, match=r"it holds run0/T .* and 3 more; name one with dataset"):
        imported(tmp_path / "set.h5", fields=["phi"])
    with h5py.File(tmp_path / "set.h5", "a") as file:
        del file["run1/T"]
    with pytest.raises(
        ValueError, match=r"has 3 arrays like run0/c but 2 like run0/T; each trajectory needs all fields"
    ):
        imported(tmp_path / "set.h5", fields=["c", "T"], **settings)


# ------------------------------------------------------------------ what the numbers mean


def hdf5(path: Path, values: np.ndarray, **attributes: object) -> Path:
    with h5py.File(path, "w") as file:
        file["c"] = values
        for name, value in attributes.items():
            file["c"].attrs[name] = value
    return path


def test_scale_and_offset_are_applied(tmp_path, imported) -> None:
    stored = np.random.default_rng(0).integers(-25000, 25000, (N, T, H, W), dtype=np.int16)
    path = hdf5(tmp_path / "set.h5", stored, scale_factor=2e-5, add_offset=[0.5], _FillValue=np.int16(-32768))
    expected = (stored.astype(np.float64) * 2e-5 + 0.5).astype(np.float32)
    np.testing.assert_array_equal(imported(path)[:, :, 0], expected)
    scaled = imported(path, value_range=(0.0, 2.0))[:, :, 0]  # in the units of the values
    np.testing.assert_allclose(scaled, expected / 2, rtol=1e-6)
    path = hdf5(tmp_path / "set.h5", stored, _Unsigned="true")
    np.testing.assert_array_equal(imported(path)[:, :, 0], stored.view(np.uint16).astype(np.float32))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"_FillValue": np.int16(7)}, r"trajectory 1 has missing values"),
        ({"missing_value": np.int16(7)}, r"trajectory 1 has missing values"),
        ({"valid_range": [-5, 5]}, r"trajectory 1 has values outside of the valid range"),
        ({"valid_max": 5}, r"trajectory 1 has values outside of the valid range"),
        ({"IMAGE_WHITE_IS_ZERO": 1}, r"image with a palette or with white as zero"),
    ],
)
def test_values_that_are_missing_or_mean_something_else(tmp_path, imported, attributes, message) -> None:
    stored = np.zeros((N, T, H, W), np.int16)
    stored[1, 2, 3, 4] = 7
    with pytest.raises(ValueError, match=message):
        imported(hdf5(tmp_path / "set.h5", stored, **attributes))


def test_gaps_in_hdf5_files_are_not_zeros(tmp_path, imported, frames) -> None:
    with h5py.File(tmp_path / "set.h5", "w") as file:
        dataset = file.create_dataset("c", frames.shape, chunks=(1, T, H, W), dtype="f4")
        dataset[0] = frames[0]
    with pytest.raises(ValueError, match=r"dataset c misses 2 of 3 chunks"):
        imported(tmp_path / "set.h5")
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file.create_dataset("c", frames.shape, dtype="f4")
    with pytest.raises(ValueError, match=r"dataset c has no values yet"):
        imported(tmp_path / "set.h5")
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["c"] = frames
    layout = h5py.VirtualLayout(frames.shape, "f4")
    layout[:] = h5py.VirtualSource("part.h5", "c", frames.shape)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file.create_virtual_dataset("c", layout)
    np.testing.assert_array_equal(imported(tmp_path / "set.h5")[:, :, 0], frames)
    (tmp_path / "part.h5").unlink()
    with pytest.raises(ValueError, match=r"dataset c refers to part.h5, which is not there"):
        imported(tmp_path / "set.h5")


# ------------------------------------------------------------------ links, writers


def test_links_are_followed(tmp_path, imported, frames) -> None:
    hdf5(tmp_path / "part.h5", frames)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["there"] = h5py.ExternalLink("part.h5", "/c")
        file["loop"] = h5py.SoftLink("/")
    np.testing.assert_array_equal(imported(tmp_path / "set.h5")[:, :, 0], frames)
    with h5py.File(tmp_path / "part.h5", "a") as file:
        file["alias"] = h5py.SoftLink("/c")
        file["again"] = file["c"]
    np.testing.assert_array_equal(imported(tmp_path / "part.h5")[:, :, 0], frames)
    np.testing.assert_array_equal(imported(tmp_path / "part.h5", dataset="alias")[:, :, 0], frames)
    (tmp_path / "part.h5").unlink()
    with pytest.raises(ValueError, match=r"link there leads to part.h5 /c, which is not there"):
        imported(tmp_path / "set.h5")


def test_a_file_that_is_being_written_is_not_called_damaged(tmp_path, frames) -> None:
    path = hdf5(tmp_path / "set.h5", frames)
    writer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print(1, flush=True); input()",
            path,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    try:
        with pytest.raises(ValueError, match="still open in a program that writes it") as raised, open_frames(path):
            pass
        assert "damaged" not in str(raised.value)
    finally:
        writer.communicate(b"\n")


def test_stores_say_how_they_were_read(tmp_path, frames) -> None:
    np.save(tmp_path / "set.npy", frames.swapaxes(0, 1))
    import_frames(str(tmp_path / "set.npy"), str(tmp_path / "set.zarr"), axes="TNHW")
    assert TrajectoryStore.open(tmp_path / "set.zarr").attributes["recipe"]["axes"] == "TNHW"
