"""FrameSource: trajectories as they lie in a file or folder, read one at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Axes = tuple[int, ...]  # sizes of N T C H W


@dataclass(frozen=True)
class FrameSource:
    """Trajectories in a file or folder.

    Attributes:
        shape: Sizes of the axes `N T C H W`.
        read: Reads trajectory `i` as (T, C, H, W), in the input's own type of numbers.
        splits: The split of each trajectory, if the file names say it.
    """

    shape: Axes
    read: Callable[[int], np.ndarray]
    splits: tuple[str, ...] | None = None


class InputError(ValueError):
    """An input that cannot be imported, described in a sentence for the person who gave it."""
