"""Windows whose input frames (X) and target frames (Y) are stored in two files."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from microevo.data.readers.arrays import ArrayOptions, open_array
from microevo.data.readers.source import FrameSource, join_trajectories

SPLIT_WORDS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def is_half_of_pair(path: Path) -> bool:
    """Whether the file is called `X_*` or `Y_*`."""
    return _pair_name(path) is not None


def _pair_name(path: Path) -> str | None:
    match = re.fullmatch(r"[XY]_(.+\.np[yz])", path.name)
    return match[1] if match else None


def find_pairs(folder: Path) -> list[Path]:
    """The X file of each pair in a folder."""
    names = {name for path in folder.iterdir() if (name := _pair_name(path)) is not None}
    return [folder / f"X_{name}" for name in sorted(names)]


def open_pair(past_path: Path, options: ArrayOptions, stack: ExitStack) -> FrameSource:
    """Join the input and target frames of the same windows.

    Raises:
        FileNotFoundError: One of the two files is missing.
        ValueError: The files do not hold the same windows.
    """
    future_path = past_path.with_name("Y" + past_path.name[1:])
    for present, missing in ((past_path, future_path), (future_path, past_path)):
        if not missing.exists():
            raise FileNotFoundError(
                f"{present} is half of a pair of past (X) and future (Y), but {missing} does not exist; put it "
                "there, or rename the file if it holds complete trajectories"
            )
    past, future = open_array(past_path, options, stack), open_array(future_path, options, stack)
    (n, t_past, *image), (n_future, t_future, *image_future) = past.shape, future.shape
    if (n, image) != (n_future, image_future):
        raise ValueError(
            f"{past_path.name} and {future_path.name} should hold the same windows, but they are {n} of C, "
            f"H, W = {tuple(image)} and {n_future} of {tuple(image_future)}; give a matching pair"
        )
    return FrameSource(
        (n, t_past + t_future, *image), lambda i: np.concatenate([past.read(i), future.read(i)]), notes=past.notes
    )


def open_pairs(paths: Sequence[Path], options: ArrayOptions, stack: ExitStack) -> FrameSource:
    """Open one pair, or the pairs of the training, validation and test set, whose names give the splits."""
    if len(paths) == 1:
        return open_pair(paths[0], options, stack)
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
    sources = [open_pair(by_split[split], options, stack) for split in order]
    for split, source in zip(order, sources, strict=True):
        if source.shape[1:] != sources[0].shape[1:]:
            raise ValueError(
                f"{by_split[order[0]].name} and {by_split[split].name} with their futures have different T, "
                f"C, H, W ({sources[0].shape[1:]} and {source.shape[1:]}); import them separately"
            )
    names = [split for split, source in zip(order, sources, strict=True) for _ in range(source.shape[0])]
    return join_trajectories(sources, tuple(names))
