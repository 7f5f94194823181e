"""Trajectories as images: folders of numbered files, and files of many pages."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from microevo.data.readers.exodus import EXODUS_SUFFIXES, read_exodus
from microevo.data.readers.numbering import natural_key, ordered_frames
from microevo.data.readers.pairs import SPLIT_WORDS
from microevo.data.readers.pixels import IMAGE_SUFFIXES, TIFF_SUFFIXES, read_image
from microevo.data.readers.source import FrameSource, Scale
from microevo.data.readers.vtk import VTK_SUFFIX, read_vti

Trajectory = list[Path]  # its frames, or one file that holds all of them


def open_images(
    folder: Path, fields: Sequence[str], scale_integers: bool, frame_number: str | None = None
) -> FrameSource:
    """Open a folder of images as one trajectory, or a folder of such folders as one trajectory each.

    A TIFF file of many pages or an exodus file is a trajectory too, alone or among others in a folder. Folders that are
    called train, val and test give the splits. Files of VTK image data are frames like those of images.

    Args:
        folder: The folder, or a file of many frames.
        fields: Names of the fields. Three fields take the channels of a colour image, and the arrays of VTK and the variables
            of exodus have these names.
        scale_integers: Whether to divide the integers of images by the largest value of their type.
        frame_number: Regular expression with one group, the frame number in the names.

    Raises:
        ValueError: There are no frames, their order is ambiguous, or they differ in number or size.
    """
    scales: dict[Path, Scale] = {}

    def read_frames(path: Path) -> np.ndarray:
        if path.suffix.lower() in EXODUS_SUFFIXES:
            frames, scales[path] = read_exodus(path, fields)
            if scales[path] != (first := next(iter(scales.values()))):
                raise ValueError(
                    f"all trajectories need the same times and spacing, but {next(iter(scales))} has {first} and {path} has "
                    f"{scales[path]}; import them separately"
                )
            return frames
        if path.suffix.lower() == VTK_SUFFIX:
            return read_vti(path, fields)
        return read_image(path, len(fields), scale_integers)

    source = _open(folder, frame_number, read_frames)
    return replace(source, scale=next(iter(scales.values()), None))


def _open(folder: Path, frame_number: str | None, read_frames: Callable[[Path], np.ndarray]) -> FrameSource:
    if folder.is_file():
        return _source([[folder]], read_frames)
    folders = _subfolders(folder)
    if folders and all(entry.name.lower() in SPLIT_WORDS for entry in folders) and not _images(folder):
        by_split = [(SPLIT_WORDS[entry.name.lower()], entry) for entry in folders]
        found = {entry: _trajectories(entry, frame_number, read_frames) for _, entry in by_split}
        names = tuple(split for split, entry in by_split for _ in found[entry])
        return _source([trajectory for _, entry in by_split for trajectory in found[entry]], read_frames, names)
    source = _source(trajectories := _trajectories(folder, frame_number, read_frames), read_frames)
    images = sum(len(_images(entry)) for entry in (folder, *folders))
    left_out = images - sum(len(trajectory) for trajectory in trajectories)
    if not left_out:
        return source
    return replace(
        source, notes=(f"{folder}: {left_out} of {images} images do not match frame_number and were left out",)
    )


def _trajectories(
    folder: Path, frame_number: str | None, read_frames: Callable[[Path], np.ndarray]
) -> list[Trajectory]:
    """The trajectories of a folder: its frames, its files of many pages, or its folders of frames."""
    images, folders = _images(folder), _subfolders(folder)
    for entry in (folder, *folders):
        _check_not_mixed(entry)
    if images:
        suffix = images[0].suffix.lower()
        if suffix in EXODUS_SUFFIXES or (suffix in TIFF_SUFFIXES and len(read_frames(images[0])) > 1):
            return [[path] for path in images]
        return [ordered_frames(images, frame_number)]
    trajectories = [ordered_frames(_images(entry), frame_number) for entry in folders]
    for entry, frames in zip(folders, trajectories, strict=True):
        if len(frames) != len(trajectories[0]):
            raise ValueError(
                f"all trajectories need the same frames, but {folders[0]} has {len(trajectories[0])} and "
                f"{entry} has {len(frames)}; remove or complete one"
            )
    if not any(trajectories):
        raise ValueError(
            f"{folder} holds neither numbered PNG, JPEG, TIFF or VTK frames nor folders of them nor a pair X_*, Y_*; "
            "give a folder that does"
        )
    return trajectories


def _check_not_mixed(folder: Path) -> None:
    """Check that a folder does not hold images and folders of images."""
    images, with_images = _images(folder), [entry for entry in _subfolders(folder) if _images(entry)]
    if images and with_images:
        raise ValueError(
            f"{folder} holds images ({images[0].name}) beside folders of images ({with_images[0].name}), and only one of "
            "them can be the frames; give the folder of a trajectory, or move the images elsewhere"
        )


def _source(
    trajectories: Sequence[Trajectory],
    read_frames: Callable[[Path], np.ndarray],
    splits: tuple[str, ...] | None = None,
) -> FrameSource:
    first = trajectories[0][0]
    pages, *shape = read_frames(first).shape

    def read(i: int) -> np.ndarray:
        frames = []
        for path in trajectories[i]:
            frames.append(read_frames(path))
            if frames[-1].shape[1:] != tuple(shape):
                raise ValueError(
                    f"all images need the same size, but {first} has C, H, W = {tuple(shape)} and {path} has "
                    f"{frames[-1].shape[1:]}; crop or remove one"
                )
            if len(frames[-1]) != pages:
                raise ValueError(
                    f"all images need the same number of pages, but {first} has {pages} and {path} has "
                    f"{len(frames[-1])}; save one frame to a file, or all frames of a trajectory"
                )
        return np.concatenate(frames)

    length = len(trajectories[0])
    for trajectory in trajectories:
        if len(trajectory) != length:
            raise ValueError(
                f"all trajectories need the same frames, but {first.parent} has {length} and "
                f"{trajectory[0].parent} has {len(trajectory)}; remove or complete one"
            )
    return FrameSource((len(trajectories), length * pages, *shape), read, splits)


def _images(folder: Path) -> list[Path]:
    files = sorted(folder.iterdir(), key=lambda entry: natural_key(entry.name))
    suffixes = (*IMAGE_SUFFIXES, VTK_SUFFIX, *EXODUS_SUFFIXES)
    return [path for path in files if path.suffix.lower() in suffixes and not path.name.startswith(".")]


def _subfolders(folder: Path) -> list[Path]:
    folders = sorted((entry for entry in folder.iterdir() if entry.is_dir()), key=lambda entry: natural_key(entry.name))
    return [entry for entry in folders if not entry.name.startswith(".")]
