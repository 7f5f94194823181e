"""VTK image data for ParaView, written by VTK itself, which is installed with the extra `vtk`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from microevo.data.store import TrajectoryStore
from microevo.provenance import write_file

SERIES = "trajectory-{:04d}"  # a folder of frames, and the .pvd that lists them with their times


def write_vti(folder: Path, store: TrajectoryStore, trajectories: Sequence[int], fields: Sequence[str]) -> None:
    """Write a folder of frames (.vti) for each trajectory, and beside it the .pvd that ParaView plays.

    The values are at points, which lie at the centres of the pixels. One frame is in memory at a time.

    Raises:
        ValueError: VTK is not installed.
    """
    for i in tqdm(trajectories, desc="writing vti", unit="trajectory", delay=1.0):
        series = SERIES.format(i)
        (folder / series).mkdir()
        entries = []
        for t, time in enumerate(store.times):
            name = f"{series}/frame-{t:05d}.vti"
            frame = store.read(i, t, t + 1, fields=fields)[0]
            _write(folder / name, dict(zip(fields, frame, strict=True)), store.attributes["spacing"], float(time))
            entries.append(f'    <DataSet timestep="{time:.10g}" file="{name}"/>\n')
        write_file(
            folder / f"{series}.pvd",
            '<?xml version="1.0"?>\n<VTKFile type="Collection" version="0.1">\n  <Collection>\n'
            + "".join(entries)
            + "  </Collection>\n</VTKFile>\n",
        )


def _write(path: Path, arrays: dict[str, np.ndarray], spacing: float, time: float) -> None:
    try:
        from vtkmodules.util.numpy_support import numpy_to_vtk
        from vtkmodules.vtkCommonDataModel import vtkImageData
        from vtkmodules.vtkIOXML import vtkXMLImageDataWriter
    except ImportError as error:
        raise ValueError('.vti is written by VTK, which is not installed; pip install "microevo[vtk]"') from error
    shape = next(iter(arrays.values())).shape
    image: Any = vtkImageData()
    image.SetDimensions([*shape[::-1], *[1] * (3 - len(shape))])  # VTK counts x first
    image.SetSpacing([spacing] * 3)
    image.SetOrigin([spacing / 2] * len(shape) + [0.0] * (3 - len(shape)))
    for name, values in arrays.items():
        array = numpy_to_vtk(values.ravel(), deep=1)
        array.SetName(name)
        image.GetPointData().AddArray(array)
    clock = numpy_to_vtk(np.array([time]), deep=1)
    clock.SetName("TimeValue")  # as ParaView reads it
    image.GetFieldData().AddArray(clock)
    writer = vtkXMLImageDataWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(image)
    if not writer.Write():
        raise OSError(f"{path} cannot be written; make room on the disk, or choose another output")
