"""Exodus files: time steps of variables at the nodes or in the elements of a regular grid."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from microevo.data import import_frames

ROWS, COLUMNS = 3, 4  # elements
STEP = 0.25


@pytest.fixture
def frames() -> np.ndarray:
    """Two fields at the nodes at five times: (C, T, H, W)."""
    return np.random.default_rng(0).random((2, 5, ROWS + 1, COLUMNS + 1))


@pytest.fixture
def save(tmp_path, frames):
    """Writes a mesh of squares, in an order that is not that of the pixels, with what is given in place of its arrays."""

    def write(name: str = "out.e", **changes: np.ndarray) -> Path:
        y, x = np.meshgrid(STEP * np.arange(ROWS + 1), STEP * np.arange(COLUMNS + 1), indexing="ij")
        number = np.arange(x.size).reshape(x.shape)
        corners = [number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]]
        mixed = np.random.default_rng(1).permutation(x.size)  # node in each place of the file
        place = np.argsort(mixed)
        arrays = {
            "time_whole": 10 + 0.5 * np.arange(5),
            "coordx": x.ravel()[mixed],
            "coordy": y.ravel()[mixed],
            "coordz": np.zeros(x.size),
            "connect1": 1 + place[np.stack([corner.ravel() for corner in corners], axis=1)],
            "name_nod_var": texts("c", "eta"),
            "vals_nod_var1": frames[0].reshape(5, -1)[:, mixed],
            "vals_nod_var2": frames[1].reshape(5, -1)[:, mixed],
            "name_elem_var": texts("grain"),
            "vals_elem_var1eb1": frames[0, :, :-1, :-1].reshape(5, -1),
        } | changes
        path = tmp_path / name
        if path.suffix == ".exo":  # as the netCDF 4 library writes it
            with h5py.File(path, "w") as file:
                for key, values in arrays.items():
                    file[key] = values
            return path
        with scipy.io.netcdf_file(path, "w", version=2) as file:
            for key, values in arrays.items():
                names = [f"{key}{axis}" for axis in range(values.ndim)]
                for dimension, size in zip(names, values.shape, strict=True):
                    file.createDimension(dimension, size)
                kind = {"i": "i4", "S": "c"}.get(values.dtype.kind, "f8")
                file.createVariable(key, kind, names)[:] = values
        return path

    return write


def texts(*words: str) -> np.ndarray:
    return np.array([list(word.encode().ljust(8, b"\0")) for word in words], np.uint8).view("S1")


@pytest.fixture
def imported(tmp_path):
    return lambda path, **settings: import_frames(path, tmp_path / "out.zarr", overwrite=True, **settings)


@pytest.mark.parametrize("name", ["out.e", "out.exo"])
def test_time_steps_on_a_grid_are_a_trajectory(save, imported, frames, name):
    path = save(name)
    store = imported(path, fields=["eta", "c"])
    np.testing.assert_array_equal(store.read(0), np.float32(frames[::-1]).transpose(1, 0, 2, 3))
    about = store.attributes
    assert (about["frame_interval"], about["first_frame"], about["spacing"]) == (0.5, 10.0, STEP)
    grain = imported(path, fields=["grain"], frame_interval=2.0, spacing=3.0)
    np.testing.assert_array_equal(grain.read(0)[:, 0], np.float32(frames[0, :, :-1, :-1]))
    assert (grain.attributes["frame_interval"], grain.attributes["spacing"]) == (2.0, 3.0)


def test_elements_in_several_blocks(save, imported, frames):
    with scipy.io.netcdf_file(save(), mmap=False) as file:
        connect, values = file.variables["connect1"].data, file.variables["vals_elem_var1eb1"].data
    blocks = {"connect1": connect[:7], "connect2": connect[7:]}
    values = {"vals_elem_var1eb1": values[:, :7], "vals_elem_var1eb2": values[:, 7:]}
    store = imported(save(**blocks, **values), fields=["grain"])
    np.testing.assert_array_equal(store.read(0)[:, 0], np.float32(frames[0, :, :-1, :-1]))


def test_a_folder_of_files_is_a_set_of_trajectories(save, imported, frames, tmp_path):
    for run in range(2):
        save(f"run{run}.e", vals_nod_var1=frames[run].reshape(5, -1))
    (tmp_path / "runs").mkdir()
    for path in tmp_path.glob("*.e"):
        path.rename(tmp_path / "runs" / path.name)
    assert imported(tmp_path / "runs").read(1).shape == (5, 1, ROWS + 1, COLUMNS + 1)
    save("other.e", time_whole=np.arange(5.0)).rename(tmp_path / "runs" / "run2.e")
    with pytest.raises(ValueError, match=r"need the same times and spacing, but .*run0.e has .* and .*run2.e has"):
        imported(tmp_path / "runs")


def test_nodes_of_a_periodic_mesh_are_taken_once(save, imported, frames, capsys):
    with pytest.raises(
        ValueError, match=r"the values at opposite edges of the mesh in .*out.e differ; correct boundary"
    ):
        imported(save(), boundary="periodic")
    frames[:, :, -1], frames[..., -1] = frames[:, :, 0], frames[..., 0]
    store = imported(save(), boundary="periodic")
    np.testing.assert_array_equal(store.read(0)[:, 0], np.float32(frames[0, :, :-1, :-1]))
    assert "nodes of the last row and column repeat those of the first, and were left out" in capsys.readouterr().err
    assert imported(save(), boundary="periodic", fields=["grain"]).image_shape == (
        ROWS,
        COLUMNS,
    )  # elements are there once


def test_what_is_not_a_regular_grid_is_one_sentence(save, imported):
    nodes = (ROWS + 1) * (COLUMNS + 1)
    for changes, fields, said in (
        (
            {"coordx": np.linspace(0, 1, nodes) ** 2},
            ["c"],
            r"20 nodes at 20 x 4 different positions, .* a regular grid of squares",
        ),
        (
            {"coordx": np.repeat(np.arange(5.0), 4), "coordy": np.tile(2 * np.arange(4.0), 5)},
            ["c"],
            r"20 nodes at 5 x 4",
        ),
        ({"coordy": np.zeros(nodes)}, ["c"], "a 1-dimensional mesh, but a frame is a plane"),
        ({"coordz": np.arange(nodes) % 2.0}, ["c"], "a 3-dimensional mesh, but a frame is a plane"),
        (
            {"time_whole": np.array([0, 0.1, 0.3, 0.7, 1.5])},
            ["c"],
            r"times 0, 0.1, 0.3, 0.7, ..., which are not evenly spaced",
        ),
        ({}, ["phi"], r"has the variables grain, c, eta, but fields are phi; give the names of its variables"),
        ({}, ["c", "grain"], "some of c, grain at nodes and others in elements"),
        (
            {"vals_elem_var1eb1": np.zeros((5, 6))},
            ["grain"],
            "lacks some of grain in a block",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            imported(save(**changes), fields=fields)
    path = save()
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ValueError, match=r"cannot be read as .e .* it is damaged or of another format"):
        imported(path)
