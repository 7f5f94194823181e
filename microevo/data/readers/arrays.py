"""Arrays of trajectories in files of NumPy, MATLAB, HDF5 and netCDF."""

import fnmatch
import itertools
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from tokenize import TokenError
from typing import IO

import h5py
import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from microevo.data.readers.axes import NamedArray, array_source
from microevo.data.readers.hdf5 import hdf5_arrays
from microevo.data.readers.meaning import decoder
from microevo.data.readers.source import FrameSource, InputError, join_channels, join_trajectories

HDF5_SUFFIXES = (".h5", ".hdf5", ".he5", ".nc", ".nc4", ".mat")
SUFFIXES = (".npy", ".npz", *HDF5_SUFFIXES, ".cdf")
# A broken file raises a different error in each of numpy, scipy, zipfile and HDF5.
BROKEN = (
    OSError,
    ValueError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    TokenError,
    zipfile.BadZipFile,
    zlib.error,
    MatReadError,
)


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
            "PNG, JPEG, TIFF or VTK (.vti) frames, or an exodus file (.e)"
        )
    with damage_named(path):
        if suffix == ".npy":
            if options.dataset is not None:
                raise no_named_arrays(path, options.dataset)
            with path.open("rb") as stream:
                shape, dtype = _npy_header(stream)
            # A file of objects cannot be mapped; the error names it.
            array = np.empty(shape, dtype) if dtype.hasobject else np.load(path, mmap_mode="r")
            source = array_source(str(path), array, axes=options.axes, channels=len(options.fields))
        else:
            source = _combined(path, named_arrays(path, suffix, options.dataset, stack), options)

    def read(i: int) -> np.ndarray:
        try:
            return source.read(i)
        except OSError as error:
            raise ValueError(f"{path}, trajectory {i} cannot be read ({error}); the file is damaged") from error
        except InputError as error:
            raise InputError(f"{path}, trajectory {i} {error}") from error

    return FrameSource(source.shape, read, notes=source.notes)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Say of a file that cannot be read that it is damaged."""
    try:
        yield
    except InputError:
        raise
    except BROKEN as error:
        suffix = path.suffix.lower()
        raise ValueError(f"{path} cannot be read as {suffix} ({error}); it is damaged or of another format") from error


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

    columns, per_trajectory = _pick(path, arrays, options)
    # An array of its own for each field, or one that holds all of them.
    count = 1 if len(columns) > 1 else channels
    by_field = [[source(name, count, per_trajectory) for name in names] for names in columns]
    _check_equal(path, list(itertools.chain(*columns)), list(itertools.chain(*by_field)))
    trajectories = [
        join_channels(sources) if len(columns) > 1 else sources[0] for sources in zip(*by_field, strict=True)
    ]
    return join_trajectories(trajectories) if per_trajectory else trajectories[0]


def _pick(path: Path, arrays: Mapping[str, NamedArray], options: ArrayOptions) -> tuple[list[list[str]], bool]:
    """Names of the arrays to read, a list for each array of fields, and whether the entries of a list are trajectories."""
    listed = {name: entry for name, entry in arrays.items() if not entry.is_alias}
    inside = _listing(listed)
    if options.dataset is not None:
        names = [name.strip().strip("/") for name in options.dataset.split(",")]
        per_trajectory = all("*" in name for name in names)
        columns = [fnmatch.filter(listed, name) if per_trajectory else [name] for name in names]
        for name, found in zip(names, columns, strict=True):
            if not found or not set(found) <= set(arrays):
                raise InputError(f"{path} has no dataset {name}; it holds {inside}")
        _check_same_groups(path, columns)
        return columns, per_trajectory
    candidates = [name for name, entry in listed.items() if len(entry.shape) in (4, 5) and entry.dtype.kind in "biuf"]
    candidates = candidates or [name for name, entry in listed.items() if len(entry.shape) == 3] or list(listed)
    if len(candidates) == 1:
        return [candidates], False
    leaves = {name: name.rpartition("/")[2] for name in candidates}
    by_field = [[name for name in candidates if leaves[name] == field] for field in options.fields]
    if all(len(found) == 1 for found in by_field):
        return by_field, False
    if all(by_field):
        _check_same_groups(path, by_field)
        return by_field, True
    if len(candidates) > 1 and len(set(leaves.values())) == 1 and len({arrays[name].shape for name in candidates}) == 1:
        return [candidates], True
    raise InputError(
        f"{path} should hold one array (N, T, H, W) or (N, T, C, H, W), but it holds {inside}; name one with dataset, or "
        "one for each field, separated by commas"
    )


def _listing(arrays: Mapping[str, NamedArray]) -> str:
    """The first arrays of a file, for messages."""
    shown = [f"{name} {entry.shape}" for name, entry in itertools.islice(arrays.items(), 6)]
    others = len(arrays) - len(shown)
    return ", ".join(shown) + (f" and {others} more" if others else "") or "nothing"


def _check_same_groups(path: Path, columns: list[list[str]]) -> None:
    """Check that each trajectory has all fields."""
    lengths = {len(names) for names in columns}
    if len(lengths) > 1:
        few, many = min(columns, key=len), max(columns, key=len)
        raise InputError(
            f"{path} has {len(many)} arrays like {many[0]} but {len(few)} like {few[0]}; each trajectory needs all fields"
        )


def _check_equal(path: Path, names: list[str], sources: list[FrameSource]) -> None:
    for name, source in zip(names, sources, strict=True):
        if source.shape != sources[0].shape:
            raise InputError(
                f"{path} holds arrays of different sizes, N, T, C, H, W = {sources[0].shape} in {names[0]} and "
                f"{source.shape} in {name}; import them separately"
            )


# ------------------------------------------------------------------ formats


def named_arrays(path: Path, suffix: str, dataset: str | None, stack: ExitStack) -> dict[str, NamedArray]:
    """All arrays of a file, opened for as long as the stack."""
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

    def add(name: str, values: np.ndarray) -> None:
        if values.dtype.names and values.size == 1:  # a struct
            for field in values.dtype.names:
                add(f"{name}/{field}", values[field].item())
        elif isinstance(values, np.ndarray):
            arrays[name] = NamedArray(values.shape, values.dtype, lambda: values)

    for name, values in scipy.io.loadmat(path).items():
        if not name.startswith("__"):
            add(name, values)
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
