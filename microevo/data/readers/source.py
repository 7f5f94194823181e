"""FrameSource: trajectories as they lie in a file or folder, read one at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Axes = tuple[int, ...]  # sizes of N T C H W


@dataclass(frozen=True)
class Scale:
    """Times and distances that a file gives.

    Attributes:
        frame_interval: Time between frames.
        first_frame: Time of the first frame.
        spacing: Distance between pixels.
        at_nodes: Whether pixels are the nodes of a mesh. If it is periodic, the last row and column repeat the first.
    """

    frame_interval: float
    first_frame: float
    spacing: float
    at_nodes: bool


@dataclass(frozen=True)
class FrameSource:
    """Trajectories in a file or folder.

    Attributes:
        shape: Sizes of the axes `N T C H W`.
        read: Reads trajectory `i` as (T, C, H, W), with the values that the format means.
        splits: The split of each trajectory, if the file names say it.
        notes: What was assumed in reading the input, in sentences.
        scale: Times and distances, if the file gives them.
    """

    shape: Axes
    read: Callable[[int], np.ndarray]
    splits: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    scale: Scale | None = None


class InputError(ValueError):
    """An input that cannot be imported, described in a sentence for the person who gave it."""


def as_float32(frames: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """The values of an input as float32; with a `value_range`, those two values become 0 and 1."""
    if value_range is not None:
        low, high = value_range
        frames = (frames.astype(np.float64) - low) / (high - low)
    with np.errstate(over="ignore"):  # a value too large for float32 becomes infinite and is reported by name
        return frames.astype(np.float32)


def join_channels(sources: Sequence[FrameSource]) -> FrameSource:
    """Sources of the same trajectories that hold one field each."""
    n, t, _, h, w = sources[0].shape
    channels = sum(source.shape[2] for source in sources)
    return FrameSource(
        (n, t, channels, h, w),
        lambda i: np.concatenate([source.read(i) for source in sources], axis=1),
        notes=sources[0].notes,
    )


def join_trajectories(sources: Sequence[FrameSource], splits: tuple[str, ...] | None = None) -> FrameSource:
    """Sources of different trajectories, one after the other."""
    places = [(source, i) for source in sources for i in range(source.shape[0])]
    return FrameSource(
        (len(places), *sources[0].shape[1:]),
        lambda i: places[i][0].read(places[i][1]),
        splits,
        sources[0].notes,
    )
