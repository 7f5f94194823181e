"""VTK image data: frames whose arrays are called like the fields."""

import sys
from pathlib import Path

import numpy as np
import pytest

from microevo.data.imports import import_frames
from microevo.data.readers import open_frames


def save_vti(path: Path, points: dict[str, np.ndarray], cells: dict[str, np.ndarray] | None = None) -> None:
    """Save arrays (z, y, x) at the points, or (z, y, x, C), and in the cells between them."""
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkIOXML import vtkXMLImageDataWriter

    image = vtkImageData()
    if points:
        image.SetDimensions(next(iter(points.values())).shape[2::-1])
    else:
        image.SetDimensions([size + 1 for size in next(iter(cells.values())).shape[2::-1]])
    for attributes, arrays in ((image.GetPointData(), points), (image.GetCellData(), cells or {})):
        for name, values in arrays.items():
            array = numpy_to_vtk(values.reshape(-1, *values.shape[3:]), deep=1)
            array.SetName(name)
            attributes.AddArray(array)
    writer = vtkXMLImageDataWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    assert writer.Write()


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).random((2, 3, 4, 5))  # (C, T, H, W)


@pytest.fixture
def folder(tmp_path, frames):
    """Three frames of two fields."""
    pytest.importorskip("vtkmodules")
    path = tmp_path / "run"
    path.mkdir()
    for t in range(3):
        save_vti(path / f"out_{t}0.vti", {"c": frames[0, t][None], "T": frames[1, t][None]})
    return path


def test_a_folder_of_frames_is_a_trajectory(folder, frames, tmp_path):
    store = import_frames(folder, tmp_path / "out.zarr", fields=["T", "c"])
    np.testing.assert_array_equal(store.read(0), np.float32(frames[::-1]).transpose(1, 0, 2, 3))
    with (
        pytest.raises(ValueError, match=r"out_00.vti holds c .*, T .* but fields are phi"),
        open_frames(folder, fields=["phi"]),
    ):
        pass


def test_values_in_cells_and_of_any_name_where_there_is_one(tmp_path, frames):
    pytest.importorskip("vtkmodules")
    save_vti(tmp_path / "cells.vti", {}, {"eta": frames[0, 0][None]})
    save_vti(tmp_path / "vector.vti", {"u": np.moveaxis(frames[:, 0], 0, -1)[None]})
    save_vti(tmp_path / "upright.vti", {"c": frames[0, 0][:, None]})
    for name, fields, expected in (
        ("cells", ["c"], frames[:1, 0]),
        ("vector", ["u", "v"], frames[:, 0]),
        ("upright", ["c"], frames[:1, 0]),
    ):
        with open_frames(tmp_path / f"{name}.vti", fields=fields) as source:
            np.testing.assert_array_equal(source.read(0)[0], expected)


def test_what_is_not_a_frame_is_one_sentence(tmp_path, frames):
    pytest.importorskip("vtkmodules")

    def refused(name: str, said: str) -> None:
        with pytest.raises(ValueError, match=said), open_frames(tmp_path / name):
            pass

    save_vti(tmp_path / "two.vti", {"a": frames[0, 0][None], "b": frames[0, 0][None]})
    refused("two.vti", r"a \(1, 1, 4, 5\), b .* but fields are c; give the names of its arrays as fields")
    save_vti(tmp_path / "solid.vti", {"c": frames[0]})
    refused("solid.vti", "a frame is a plane; save a slice")
    (tmp_path / "cut.vti").write_bytes((tmp_path / "solid.vti").read_bytes()[:-200])
    refused("cut.vti", "cut.vti cannot be read as VTK image data; it is damaged")


def test_without_vtk_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vtkmodules.vtkCommonCore", None)
    (tmp_path / "a0.vti").touch()
    with (
        pytest.raises(ValueError, match=r'VTK, which is not installed; pip install "microevo\[vtk\]"'),
        open_frames(tmp_path),
    ):
        pass
