"""Arrays of trajectories in files of NumPy, MATLAB, HDF5 and netCDF."""

import fnmatch
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import IO

import h5py
import numpy as np
import scipy.io

from microevo.data.readers.axes import NamedArray, array_source
from microevo.data.readers.hdf5 import hdf5_arrays
from microevo.data.readers.meaning import decoder
from microevo.data.readers.source import FrameSource, InputError, join_channels, join_trajectories

HDF5_SUFFIXES = (".h5", ".hdf5", ".he5", ".nc", ".nc4", ".mat")
SUFFIXES = (".npy", ".npz", *HDF5_SUFFIXES, ".cdf")


@dataclass(frozen=True, kw_only=True)
class ArrayOptions:
    """How the arrays of a file are understood.

    Attributes:
        fields: Names of the fields.
        dataset: Names of the arrays, separated by commas, one for each field; a `*` stands for the trajectories.
        axes: One letter of `NTCHW` for each axis.
    """

    fields: tuple[str, ...] = ("c",)
    dataset: str | None = None
    axes: str | None = None


def open_array(path: Path, options: ArrayOptions, stack: ExitStack) -> FrameSource:
    """Open a file of arrays.

    Raises:
        ValueError: The file is damaged or of another format, or its arrays cannot be trajectories.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{path} does not have a known format; give a {', '.join(SUFFIXES)} or .tif file, or a folder of numbered "
            "PNG, JPEG, TIFF or VTK (.vti) frames"
        )
    try:
        if suffix == ".npy":
            if options.dataset is not None:
                raise no_named_arrays(path, options.dataset)
            with path.open("rb") as stream:
                shape, dtype = _npy_header(stream)
            # A file of objects cannot be mapped; the error names it.
            array = np.empty(shape, dtype) if dtype.hasobject else np.load(path, mmap_mode="r")
            source = array_source(str(path), array, axes=options.axes, channels=len(options.fields))
        else:
            source = _combined(path, _named_arrays(path, suffix, options.dataset, stack), options)
    except InputError:
        raise
    # A broken file raises a different error in each of numpy, scipy, zipfile and HDF5.
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as {suffix} ({error}); it is damaged or of another format") from error

    def read(i: int) -> np.ndarray:
        try:
            return source.read(i)
        except OSError as error:
            raise ValueError(f"{path}, trajectory {i} cannot be read ({error}); the file is damaged") from error
        except InputError as error:
            raise InputError(f"{path}, trajectory {i} {error}") from error

    return FrameSource(source.shape, read, notes=source.notes)


def no_named_arrays(path: Path, dataset: str) -> InputError:
    """The error for a `dataset` that was given for an input without named arrays."""
    return InputError(f"dataset {dataset} was requested, but {path} has no named arrays; leave dataset out")


# ------------------------------------------------------------------ which arrays of a file are the trajectories


def _combined(path: Path, arrays: Mapping[str, NamedArray], options: ArrayOptions) -> FrameSource:
    """The trajectories that the requested arrays make together, or those that can be meant."""
    channels = len(options.fields)

    def source(name: str, count: int, one_trajectory: bool = False) -> FrameSource:
        entry = arrays[name]
        return array_source(
            f"{path}, array {name}",
            # Objects cannot be read; the error names them.
            np.empty(entry.shape, entry.dtype) if entry.dtype.hasobject else entry.open(),
            axes=options.axes,
            channels=count,
            one_trajectory=one_trajectory,
            reversed_axes=entry.reversed_axes,
            decode=entry.decode,
        )

    names, per_trajectory = _pick(path, arrays, options)
    if per_trajectory:
        sources = [source(name, channels, one_trajectory=True) for name in names]
        _check_equal(path, names, sources)
        return join_trajectories(sources)
    if len(names) > 1:
        sources = [source(name, 1) for name in names]
        _check_equal(path, names, sources)
        return join_channels(sources)
    return source(names[0], channels)


def _pick(path: Path, arrays: Mapping[str, NamedArray], options: ArrayOptions) -> tuple[list[str], bool]:
    """Names of the arrays to read, and whether each is one trajectory rather than one field."""
    listed = {name: entry for name, entry in arrays.items() if not entry.is_alias}
    inside = ", ".join(f"{name} {entry.shape}" for name, entry in listed.items()) or "nothing"
    if options.dataset is not None:
        names = [name.strip().strip("/") for name in options.dataset.split(",")]
        if len(names) == 1 and "*" in names[0]:
            matching = [name for name in listed if fnmatch.fnmatchcase(name, names[0])]
            if not matching:
                raise InputError(f"{path} has no dataset {options.dataset}; it holds {inside}")
            return matching, True
        for name in names:
            if name not in arrays:
                raise InputError(f"{path} has no dataset {name}; it holds {inside}")
        return names, False
    candidates = [name for name, entry in listed.items() if len(entry.shape) in (4, 5) and entry.dtype.kind in "biuf"]
    candidates = candidates or [name for name, entry in listed.items() if len(entry.shape) == 3] or list(listed)
    if len(candidates) == 1:
        return candidates, False
    leaves = {name: name.rpartition("/")[2] for name in candidates}
    by_field = [[name for name in candidates if leaves[name] == field] for field in options.fields]
    if all(len(found) == 1 for found in by_field):
        return [found[0] for found in by_field], False
    if len(candidates) > 1 and len(set(leaves.values())) == 1 and len({arrays[name].shape for name in candidates}) == 1:
        return candidates, True
    raise InputError(
        f"{path} should hold one array (N, T, H, W) or (N, T, C, H, W), but it holds {inside}; name one with dataset, or "
        "one for each field, separated by commas"
    )


def _check_equal(path: Path, names: list[str], sources: list[FrameSource]) -> None:
    for name, source in zip(names, sources, strict=True):
        if source.shape != sources[0].shape:
            raise InputError(
                f"{path} holds arrays of different sizes, N, T, C, H, W = {sources[0].shape} in {names[0]} and "
                f"{source.shape} in {name}; import them separately"
            )


# ------------------------------------------------------------------ formats


def _named_arrays(path: Path, suffix: str, dataset: str | None, stack: ExitStack) -> dict[str, NamedArray]:
    if suffix == ".npz":
        return npz_arrays(path)
    if h5py.is_hdf5(path):
        return hdf5_arrays(path, dataset, stack)
    if suffix == ".mat":
        return _mat_arrays(path)
    if suffix in (".nc", ".cdf"):
        return _netcdf_arrays(path, stack)
    with h5py.File(path, "r"):  # says what is wrong with it
        return {}


def npz_arrays(path: Path) -> dict[str, NamedArray]:
    """The arrays of a NumPy archive, each of which is read when it is opened."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for member in fnmatch.filter(archive.namelist(), "*.npy"):
            with archive.open(member) as stream:
                shape, dtype = _npy_header(stream)
            arrays[member.removesuffix(".npy")] = NamedArray(
                shape, dtype, lambda member=member: _npz_array(path, member)
            )
    return arrays


def _npz_array(path: Path, member: str) -> np.ndarray:
    with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        try:
            return np.lib.format.read_array(stream, allow_pickle=False)
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise OSError(str(error)) from error


def _npy_header(stream: IO[bytes] | BufferedIOBase) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    return shape, dtype


def _mat_arrays(path: Path) -> dict[str, NamedArray]:
    """Files of MATLAB before 7.3."""
    arrays = {}
    for name, values in scipy.io.loadmat(path).items():
        if isinstance(values, np.ndarray) and not name.startswith("__"):
            arrays[name] = NamedArray(values.shape, values.dtype, lambda values=values: values)
    return arrays


def _netcdf_arrays(path: Path, stack: ExitStack) -> dict[str, NamedArray]:
    """Files of netCDF before 4."""
    file = stack.enter_context(scipy.io.netcdf_file(path, "r", mmap=False))
    arrays = {}
    for name, variable in file.variables.items():
        dtype = np.dtype(variable.data.dtype)
        decode = decoder(f"{path}, variable {name}", variable._attributes, dtype)
        arrays[name] = NamedArray(variable.shape, dtype, lambda variable=variable: variable.data, decode)
    return arrays
