"""VTK image data (.vti), read by VTK itself, which is installed with the extra `vtk`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

VTK_SUFFIX = ".vti"


def read_vti(path: Path, fields: Sequence[str]) -> np.ndarray:
    """A file of image data as one frame (1, C, H, W), with the rows along y or, of a plane through x or y, along z.

    Args:
        path: The file.
        fields: Names of the arrays at its points or in its cells. A file with one array needs no name.

    Raises:
        ValueError: VTK is not installed, or the file is damaged, is not a plane, or lacks an array.
    """
    image = _image_data(path)
    points = tuple(int(size) for size in image.GetDimensions())
    cells = tuple(max(size - 1, 1) for size in points)
    arrays = _arrays(image.GetCellData(), cells) | _arrays(image.GetPointData(), points)
    inside = ", ".join(f"{name} {values.shape}" for name, values in arrays.items()) or "no arrays"
    named = [arrays[name] for name in fields if name in arrays]
    if len(named) < len(fields) and len(arrays) == 1:
        named = list(arrays.values())
    frame = np.concatenate(named) if named else np.empty((0, *points))
    if len(frame) != len(fields):
        raise ValueError(
            f"{path} holds {inside} (C, z, y, x), but fields are {', '.join(fields)}; give the names of its arrays as fields"
        )
    plane = [axis for axis, size in enumerate(frame.shape) if axis == 0 or size > 1]
    if len(plane) != 3:
        raise ValueError(f"{path} holds {inside} (C, z, y, x), but a frame is a plane; save a slice of one point")
    return frame.reshape(1, *(frame.shape[axis] for axis in plane))


def _image_data(path: Path) -> Any:
    try:
        from vtkmodules.vtkCommonCore import vtkObject
        from vtkmodules.vtkIOXML import vtkXMLImageDataReader
    except ImportError as error:
        raise ValueError(f'{path} is read by VTK, which is not installed; pip install "microevo[vtk]"') from error
    shown = vtkObject.GetGlobalWarningDisplay()
    vtkObject.GlobalWarningDisplayOff()  # what is wrong is reported below, not page by page on stderr
    try:
        reader = vtkXMLImageDataReader()
        reader.SetFileName(str(path))
        reader.Update()
        image = reader.GetOutput()
    finally:
        vtkObject.SetGlobalWarningDisplay(shown)
    if 0 in image.GetDimensions() or reader.GetErrorCode():
        raise ValueError(f"{path} cannot be read as VTK image data; it is damaged or of another format")
    return image


def _arrays(attributes: Any, sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The arrays of real numbers as (C, z, y, x); VTK counts x first."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    arrays = {}
    for number in range(attributes.GetNumberOfArrays()):
        if (array := attributes.GetArray(number)) is not None and array.GetNumberOfTuples() == np.prod(sizes):
            arrays[array.GetName()] = vtk_to_numpy(array).reshape(*sizes[::-1], -1).transpose(3, 0, 1, 2)
    return arrays
