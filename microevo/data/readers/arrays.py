"""Arrays of trajectories in NumPy and HDF5 files."""

import fnmatch
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from io import BufferedIOBase
from pathlib import Path
from typing import IO

import h5py
import numpy as np

from microevo.data.readers.source import Axes, FrameSource, InputError


def open_array(path: Path, dataset: str | None, stack: ExitStack) -> FrameSource:
    """Open one file that holds an array (N, T, H, W) or (N, T, C, H, W)."""
    openers = {".npy": _open_npy, ".npz": _open_npz, ".h5": _open_hdf5, ".hdf5": _open_hdf5}
    suffix = path.suffix.lower()
    if suffix not in openers:
        raise ValueError(
            f"{path} does not have a known format; give a .npy, .npz, .h5 or .hdf5 file or a folder of numbered PNG "
            "or TIFF frames"
        )
    try:
        axes, array = openers[suffix](path, dataset, stack)
    except InputError:
        raise
    # A broken file raises a different error in each of numpy, zipfile and HDF5.
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as {suffix} ({error}); it is damaged or of another format") from error

    def read(i: int) -> np.ndarray:
        try:
            return np.asarray(array[i]).reshape(axes[1:])
        except OSError as error:
            raise ValueError(f"{path}, trajectory {i} cannot be read ({error}); the file is damaged") from error

    return FrameSource(axes, read)


def _open_npy(path: Path, dataset: str | None, stack: ExitStack) -> tuple[Axes, np.ndarray]:
    if dataset is not None:
        raise no_named_arrays(path, dataset)
    with path.open("rb") as stream:
        axes = _axes(str(path), *_npy_header(stream))
    return axes, np.load(path, mmap_mode="r")


def _open_npz(path: Path, dataset: str | None, stack: ExitStack) -> tuple[Axes, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        headers = {}
        for member in fnmatch.filter(archive.namelist(), "*.npy"):
            with archive.open(member) as stream:
                headers[member.removesuffix(".npy")] = _npy_header(stream)
        name = _pick(path, {name: shape for name, (shape, _) in headers.items()}, dataset)
        axes = _axes(f"{path}, array {name}", *headers[name])
        with archive.open(f"{name}.npy") as stream:
            return axes, np.lib.format.read_array(stream, allow_pickle=False)


def _open_hdf5(path: Path, dataset: str | None, stack: ExitStack) -> tuple[Axes, h5py.Dataset]:
    # Large enough for a chunk that many trajectories share, which would otherwise be decompressed for each.
    file = stack.enter_context(h5py.File(path, "r", rdcc_nbytes=2**28))
    datasets: dict[str, h5py.Dataset] = {}

    def keep(name: str, entry: h5py.Dataset | h5py.Group) -> None:
        if isinstance(entry, h5py.Dataset):
            datasets[name] = entry

    file.visititems(keep)
    name = _pick(path, {name: entry.shape or () for name, entry in datasets.items()}, dataset)
    array = datasets[name]
    return _axes(f"{path}, dataset {name}", array.shape or (), array.dtype), array


def no_named_arrays(path: Path, dataset: str) -> InputError:
    """The error for a `dataset` that was given for an input without named arrays."""
    return InputError(f"dataset {dataset} was requested, but {path} has no named arrays; leave dataset out")


def _npy_header(stream: IO[bytes] | BufferedIOBase) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    return shape, dtype


def _pick(path: Path, shapes: Mapping[str, tuple[int, ...]], dataset: str | None) -> str:
    """Name of the requested array, or of the only one that has a suitable shape."""
    inside = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
    if dataset is not None:
        name = dataset.strip("/")
        if name not in shapes:
            raise InputError(f"{path} has no dataset {dataset}; it holds {inside}")
        return name
    candidates = [name for name, shape in shapes.items() if len(shape) in (4, 5)] or list(shapes)
    if len(candidates) != 1:
        raise InputError(
            f"{path} should hold one array (N, T, H, W) or (N, T, C, H, W), but it holds {inside}; name one "
            "with dataset"
        )
    return candidates[0]


def _axes(label: str, shape: tuple[int, ...], dtype: np.dtype) -> Axes:
    """Sizes of `N T C H W`."""
    if dtype.hasobject:
        raise InputError(
            f"{label} holds Python objects, as a ragged list does; save one array of numbers in which all "
            "trajectories have the same frames and size"
        )
    if dtype.kind not in "biuf":
        raise InputError(f"{label} holds numbers of the type {dtype}; save real numbers")
    if len(shape) not in (4, 5):
        raise InputError(f"{label} has the shape {shape}; reshape it to (N, T, H, W) or (N, T, C, H, W)")
    if 0 in shape:
        raise InputError(f"{label} is empty, its shape is {shape}; give at least one trajectory")
    if len(shape) == 4:
        return (*shape[:2], 1, *shape[2:])
    if shape[4] == 1 and min(shape[2:4]) >= 8:  # images with the channel last, not images one pixel wide
        return (*shape[:2], 1, *shape[2:4])
    return shape
