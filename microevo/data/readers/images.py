"""Folders of numbered images, one frame in each file."""

import re
from itertools import islice, pairwise
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from microevo.data.readers.source import FrameSource

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")


def open_images(folder: Path, channels: int, scale_integers: bool) -> FrameSource:
    """Open a folder of images as one trajectory, or a folder of such folders as one trajectory each."""
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
    """The frames of a folder, in the order of the last number in each name."""
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
    # Solvers often number frames by time step. Equal steps are not gaps, if there are enough of them to tell.
    stride = min(steps) if len(steps) > 1 and all(step % min(steps) == 0 for step in steps) else 1
    missing = (number for before, after in pairwise(numbers) for number in range(before + stride, after, stride))
    named = [str(number) for number in islice(missing, 11)]
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
            f"{path} cannot be read as an image ({error}); it is damaged, or not a PNG or TIFF of 8 or 16 bit "
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
