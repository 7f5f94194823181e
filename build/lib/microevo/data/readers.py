"""File formats in, arrays out: what `import_frames` can read, one trajectory at a time."""

import fnmatch
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from itertools import islice, pairwise
from pathlib import Path
from typing import IO

import h5py
import imageio.v3 as iio
import numpy as np

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")
SPLIT_WORDS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
Axes = tuple[int, ...]  # sizes of N T C H W


@dataclass(frozen=True)
class FrameSource:
    """Trajectories as they lie in a file or folder.

    Attributes:
        shape: Sizes of the axes `N T C H W`.
        read: Gives trajectory `i` as numbers of the input's own type, (T, C, H, W).
        splits: The split of each trajectory, where the file names say it.
    """

    shape: Axes
    read: Callable[[int], np.ndarray]
    splits: tuple[str, ...] | None = None


@contextmanager
def open_frames(
    path: Path, *, channels: int = 1, dataset: str | None = None, scale_integers: bool = True
) -> Iterator[FrameSource]:
    """Open an input, whatever its format, for as long as the context lasts.

    Args:
        path: An `.npy`, `.npz` or HDF5 file, one of a pair `X_*`, `Y_*` of past and future, or a folder of
            numbered images, of such folders, or of such pairs.
        channels: Fields wanted; three of them take the channels of a colour image.
        dataset: Which array of an `.npz` or HDF5 file.
        scale_integers: Divide integer images by the largest value of their type.

    Raises:
        FileNotFoundError: There is nothing at `path`, or half of a pair is missing.
        ValueError: It is no such input, or a damaged one.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is nothing to import at {path}; check the path")
    with ExitStack() as stack:
        if path.is_dir():
            pairs = _pairs(path)
            if dataset is not None and not pairs:
                raise _no_datasets(path, dataset)
            if pairs:
                yield _open_pairs(pairs, dataset, stack)
            else:
                yield _open_images(path, channels, scale_integers)
        elif _pair_name(path) is not None:
            yield _open_pair(path.with_name("X" + path.name[1:]), dataset, stack)
        else:
            yield _open_array(path, dataset, stack)


# ------------------------------------------------------------------ arrays


class _RefusedError(ValueError):
    """A sentence meant for the reader, not to be wrapped into another one."""


def _open_array(path: Path, dataset: str | None, stack: ExitStack) -> FrameSource:
    openers = {".npy": _open_npy, ".npz": _open_npz, ".h5": _open_hdf5, ".hdf5": _open_hdf5}
    suffix = path.suffix.lower()
    if suffix not in openers:
        raise ValueError(
            f"{path} is of no known format; give a .npy, .npz, .h5 or .hdf5 file or a folder of numbered PNG "
            "or TIFF frames"
        )
    try:
        axes, array = openers[suffix](path, dataset, stack)
    except _RefusedError:
        raise
    # One place for every way in which a file can be broken: numpy, zipfile and HDF5 each have their own.
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
        raise _no_datasets(path, dataset)
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
    # Room for a chunk that many trajectories share, which would else be decompressed for each of them.
    file = stack.enter_context(h5py.File(path, "r", rdcc_nbytes=2**28))
    datasets: dict[str, h5py.Dataset] = {}

    def keep(name: str, entry: h5py.Dataset | h5py.Group) -> None:
        if isinstance(entry, h5py.Dataset):
            datasets[name] = entry

    file.visititems(keep)
    name = _pick(path, {name: entry.shape or () for name, entry in datasets.items()}, dataset)
    array = datasets[name]
    return _axes(f"{path}, dataset {name}", array.shape or (), array.dtype), array


def _no_datasets(path: Path, dataset: str) -> _RefusedError:
    return _RefusedError(f"dataset {dataset} was asked for, but {path} has no named arrays; leave dataset out")


def _npy_header(stream: IO[bytes] | BufferedIOBase) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    return shape, dtype


def _pick(path: Path, shapes: Mapping[str, tuple[int, ...]], dataset: str | None) -> str:
    """The array asked for, or the only one that can be meant."""
    inside = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "nothing"
    if dataset is not None:
        name = dataset.strip("/")
        if name not in shapes:
            raise _RefusedError(f"{path} has no dataset {dataset}; it holds {inside}")
        return name
    candidates = [name for name, shape in shapes.items() if len(shape) in (4, 5)] or list(shapes)
    if len(candidates) != 1:
        raise _RefusedError(
            f"{path} should hold one array (N, T, H, W) or (N, T, C, H, W), but it holds {inside}; name one "
            "with dataset"
        )
    return candidates[0]


def _axes(label: str, shape: tuple[int, ...], dtype: np.dtype) -> Axes:
    """Sizes of `N T C H W`."""
    if dtype.hasobject:
        raise _RefusedError(
            f"{label} holds Python objects, as a ragged list does; save one array of numbers in which all "
            "trajectories have the same frames and size"
        )
    if dtype.kind not in "biuf":
        raise _RefusedError(f"{label} holds numbers of the type {dtype}; save real numbers")
    if len(shape) not in (4, 5):
        raise _RefusedError(f"{label} has the shape {shape}; reshape it to (N, T, H, W) or (N, T, C, H, W)")
    if 0 in shape:
        raise _RefusedError(f"{label} is empty, its shape is {shape}; give at least one trajectory")
    if len(shape) == 4:
        return (*shape[:2], 1, *shape[2:])
    if shape[4] == 1 and min(shape[2:4]) >= 8:  # images with the channel last, not images one pixel wide
        return (*shape[:2], 1, *shape[2:4])
    return shape


# ------------------------------------------------------------------ past and future in two files


def _pair_name(path: Path) -> str | None:
    match = re.fullmatch(r"[XY]_(.+\.np[yz])", path.name)
    return match[1] if match else None


def _pairs(folder: Path) -> list[Path]:
    """The X file of each pair."""
    names = {name for path in folder.iterdir() if (name := _pair_name(path)) is not None}
    return [folder / f"X_{name}" for name in sorted(names)]


def _open_pair(past_path: Path, dataset: str | None, stack: ExitStack) -> FrameSource:
    future_path = past_path.with_name("Y" + past_path.name[1:])
    for there, absent in ((past_path, future_path), (future_path, past_path)):
        if not absent.exists():
            raise FileNotFoundError(
                f"{there} is half of a pair of past (X) and future (Y), but there is no {absent}; put it "
                "there, or rename the file if it holds whole trajectories"
            )
    past, future = _open_array(past_path, dataset, stack), _open_array(future_path, dataset, stack)
    (n, t_past, *image), (n_future, t_future, *image_future) = past.shape, future.shape
    if (n, image) != (n_future, image_future):
        raise ValueError(
            f"{past_path.name} and {future_path.name} should hold the same windows, but they are {n} of C, "
            f"H, W = {tuple(image)} and {n_future} of {tuple(image_future)}; give a matching pair"
        )
    return FrameSource((n, t_past + t_future, *image), lambda i: np.concatenate([past.read(i), future.read(i)]))


def _open_pairs(paths: Sequence[Path], dataset: str | None, stack: ExitStack) -> FrameSource:
    if len(paths) == 1:
        return _open_pair(paths[0], dataset, stack)
    by_split: dict[str, Path] = {}
    families = set()
    for path in paths:
        words = path.stem.split("_")[1:]
        for split in {SPLIT_WORDS[word.lower()] for word in words if word.lower() in SPLIT_WORDS}:
            by_split[split] = path
        families.add((*(word for word in words if word.lower() not in SPLIT_WORDS), path.suffix))
    if len(by_split) != len(paths) or len(set(by_split.values())) != len(paths) or len(families) > 1:
        raise ValueError(
            f"{paths[0].parent} holds several pairs ({', '.join(path.name for path in paths)}) that are not "
            "the train, val and test of one set; give one of the files"
        )
    order = [split for split in ("train", "val", "test") if split in by_split]
    sources = [_open_pair(by_split[split], dataset, stack) for split in order]
    for split, source in zip(order, sources, strict=True):
        if source.shape[1:] != sources[0].shape[1:]:
            raise ValueError(
                f"{by_split[order[0]].name} and {by_split[split].name} with their futures have different T, "
                f"C, H, W ({sources[0].shape[1:]} and {source.shape[1:]}); import them separately"
            )
    places = [(source, i) for source in sources for i in range(source.shape[0])]
    names = [split for split, source in zip(order, sources, strict=True) for _ in range(source.shape[0])]
    return FrameSource((len(places), *sources[0].shape[1:]), lambda i: places[i][0].read(places[i][1]), tuple(names))


# ------------------------------------------------------------------ images


def _open_images(folder: Path, channels: int, scale_integers: bool) -> FrameSource:
    folders = [folder]
    if not _images(folder):
        folders = sorted((entry for entry in folder.iterdir() if entry.is_dir()), key=_natural)
        folders = [entry for entry in folders if not entry.name.startswith(".")]
    trajectories = [_numbered(entry) for entry in folders]
    for entry, frames in zip(folders, trajectories, strict=True):
        if len(frames) != len(trajectories[0]):
            raise ValueError(
                f"all trajectories need the same frames, but {folders[0]} has {len(trajectories[0])} and "
                f"{entry} has {len(frames)}; remove or complete one"
            )
    if not any(trajectories):
        raise ValueError(
            f"{folder} holds neither numbered PNG or TIFF frames nor folders of them nor a pair X_*, Y_*; "
            "give a folder that does"
        )
    first = trajectories[0][0]
    shape = _read_image(first, channels, scale_integers).shape

    def read(i: int) -> np.ndarray:
        images = [_read_image(path, channels, scale_integers) for path in trajectories[i]]
        for path, image in zip(trajectories[i], images, strict=True):
            if image.shape != shape:
                raise ValueError(
                    f"all images need the same size, but {first} has C, H, W = {shape} and {path} has "
                    f"{image.shape}; crop or remove one"
                )
        return np.stack(images)

    return FrameSource((len(trajectories), len(trajectories[0]), *shape), read)


def _images(folder: Path) -> list[Path]:
    files = sorted(folder.iterdir(), key=_natural)
    return [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")]


def _natural(path: Path) -> str:
    return re.sub("[0-9]+", lambda digits: digits[0].zfill(20), path.name)


def _numbered(folder: Path) -> list[Path]:
    """The frames of a folder in the order of their numbers, the last number of each name."""
    frames: dict[int, Path] = {}
    for path in _images(folder):
        digits = re.findall("[0-9]+", path.stem)
        if not digits:
            raise ValueError(f"{path} has no number in its name; number the frames from first to last")
        number = int(digits[-1])
        if number in frames:
            raise ValueError(f"{path} and {frames[number].name} have the same number {number}; remove one of them")
        frames[number] = path
    numbers = sorted(frames)
    steps = [after - before for before, after in pairwise(numbers)]
    # Solvers often number frames by time step; equal steps are no gaps, if there are enough to tell.
    stride = min(steps) if len(steps) > 1 and all(step % min(steps) == 0 for step in steps) else 1
    absent = (number for before, after in pairwise(numbers) for number in range(before + stride, after, stride))
    named = [str(number) for number in islice(absent, 11)]
    if named:
        raise ValueError(
            f"{folder} has frames from {numbers[0]} to {numbers[-1]} but misses {', '.join(named[:10])}"
            f"{', ...' if len(named) > 10 else ''}; complete or renumber the frames"
        )
    return [frames[number] for number in numbers]


def _read_image(path: Path, channels: int, scale_integers: bool) -> np.ndarray:
    """One image as (C, H, W)."""
    try:
        with iio.imopen(path, "r", plugin="pillow") as file:
            pages = file.read(index=...)  # type: ignore[arg-type]  # all of them; only this plugin can
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(
            f"{path} cannot be read as an image ({error}); it is damaged or no PNG or TIFF of 8 or 16 bit "
            "integers or 32 bit floats"
        ) from error
    if len(pages) != 1:
        raise ValueError(f"{path} holds {len(pages)} pages; save one frame to a file")
    image = pages[0][None] if pages.ndim == 3 else np.moveaxis(pages[0], -1, 0)
    if len(image) in (2, 4):
        if (image[-1] != np.iinfo(image.dtype).max).any():
            raise ValueError(f"{path} is partly transparent; save it without an alpha channel")
        image = image[:-1]
    if len(image) == 3 and channels != 3:
        if (image != image[:1]).any():
            raise ValueError(f"{path} is a colour image; save it in grey, or give three fields for its channels")
        image = image[:1]
    if not scale_integers or image.dtype.kind == "f":
        return image
    if image.dtype.kind == "i":  # what Pillow makes of all wider integers, so the full scale is lost
        raise ValueError(f"{path} holds integers of unknown full scale; give value_range")
    return image / np.float32(1 if image.dtype.kind == "b" else np.iinfo(image.dtype).max)
