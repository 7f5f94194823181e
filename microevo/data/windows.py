"""WindowDataset: windows of past and future frames, cut from trajectories."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from microevo.data.parameters import check_oriented, parameter_values
from microevo.data.store import TrajectoryStore


class Window(NamedTuple):
    """The input and the target of a forecast. A batch of windows has the axis `B` in front.

    Attributes:
        past: Input frames, (n_past, C, H, W).
        future: Target frames, which follow the input frames, (n_future, C, H, W).
        trajectory: Index of the trajectory in its store.
        start: Index of the first input frame in the trajectory.
        parameters: Values of the parameters of the trajectory that were asked for, (P,).
    """

    past: Float[Tensor, "*B n_past C H W"]
    future: Float[Tensor, "*B n_future C H W"]
    trajectory: Int[Tensor, "*B"]
    start: Int[Tensor, "*B"]
    parameters: Float[Tensor, "*B P"]


class ChangeStatistics(NamedTuple):
    """How much the fields of some trajectories change, and the range of their values.

    Attributes:
        change_rms: Root mean square change from one frame to the next, for each field [field units].
        lowest: Smallest value of each field.
        highest: Largest value of each field.
    """

    change_rms: Float[np.ndarray, " C"]
    lowest: Float[np.ndarray, " C"]
    highest: Float[np.ndarray, " C"]


class WindowDataset(Dataset[Window]):
    """Sliding windows over some trajectories of a store.

    Args:
        store: The store that holds the trajectories.
        trajectories: Indices of the trajectories to use.
        fields: Fields to read, in the order of the axis `C`.
        n_past: Number of input frames.
        n_future: Number of target frames.
        stride: Frames between the starts of two successive windows of a trajectory.
        symmetries: Random transformations of each window, any of `shift`, `flip` and `rotate`. The store must
            declare them.
        parameters: Parameters of its trajectory that each window brings; see `parameter_values`.
        preload: Whether to read all trajectories into memory at once.

    Raises:
        ValueError: The trajectories are too short for a window, the store lacks a field or a parameter, or it does not declare
            a symmetry.
    """

    def __init__(
        self,
        store: TrajectoryStore,
        trajectories: Sequence[int] | np.ndarray,
        *,
        fields: Sequence[str],
        n_past: int,
        n_future: int,
        stride: int = 1,
        symmetries: Sequence[str] = (),
        parameters: Sequence[str] = (),
        preload: bool = False,
    ) -> None:
        missing = [name for name in fields if name not in store.fields]
        if missing:
            raise ValueError(f"{store.path} has the fields {', '.join(store.fields)}, not {', '.join(missing)}")
        allowed = store.attributes["symmetries"]
        undeclared = [name for name in symmetries if name not in allowed]
        if undeclared:
            raise ValueError(
                f"{store.path} allows the symmetries {', '.join(allowed) or 'none'}, not {', '.join(undeclared)}; leave it out"
            )
        check_oriented(store, parameters, symmetries)
        self.length = n_past + n_future
        if self.length > store.frames:
            raise ValueError(
                f"a window needs past + future = {n_past} + {n_future} = {self.length} frames, but {store.path} has "
                f"{store.frames}; lower n_future or horizon, or simulate longer trajectories"
            )
        self.store = store
        self.trajectories = [int(i) for i in trajectories]
        self.fields = list(fields)
        self.n_past = n_past
        self.symmetries = tuple(symmetries)
        self.parameters = torch.from_numpy(parameter_values(store, parameters))  # of all trajectories (N, P)
        starts = range(0, store.frames - self.length + 1, stride)
        self.windows = [(i, start) for i in self.trajectories for start in starts]
        self.memory = {i: store.read(i, fields=self.fields) for i in self.trajectories} if preload else None

    def change_statistics(self) -> ChangeStatistics:
        """The statistics of all trajectories that the windows are cut from, in float32."""
        squares, lowest, highest = [], [], []
        for i in self.trajectories:
            frames = self.store.read(i, fields=self.fields) if self.memory is None else self.memory[i]
            squares.append(np.square(np.diff(frames.astype(np.float64), axis=0)).mean(axis=(0, 2, 3)))
            lowest.append(frames.min(axis=(0, 2, 3)))
            highest.append(frames.max(axis=(0, 2, 3)))
        change_rms = np.sqrt(np.mean(squares, axis=0)).astype(np.float32)
        return ChangeStatistics(change_rms, np.min(lowest, axis=0), np.max(highest, axis=0))

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int | tuple[int, int]) -> Window:
        """The window with this index. A tuple is the index and the seed of the random transformation."""
        index, seed = index if isinstance(index, tuple) else (index, None)
        trajectory, start = self.windows[index]
        stop = start + self.length
        if self.memory is not None:
            frames = self.memory[trajectory][start:stop]
        else:
            frames = self.store.read(trajectory, start, stop, self.fields)
        window = torch.from_numpy(np.array(frames))  # a copy, because neither the map nor the cache may be changed
        if self.symmetries:
            generator = None if seed is None else torch.Generator().manual_seed(seed)
            window = transform(window, self.symmetries, generator)
        past, future = window[: self.n_past], window[self.n_past :]
        return Window(past, future, torch.tensor(trajectory), torch.tensor(start), self.parameters[trajectory].clone())


def transform(
    frames: Shaped[Tensor, "T C H W"], symmetries: Sequence[str], generator: torch.Generator | None = None
) -> Shaped[Tensor, "T C H W"]:
    """Apply one random transformation to all frames alike."""
    height, width = frames.shape[-2:]
    if "shift" in symmetries:
        dy, dx = int(torch.randint(height, (), generator=generator)), int(torch.randint(width, (), generator=generator))
        frames = frames.roll((dy, dx), dims=(-2, -1))
    if "flip" in symmetries:
        mirrored = [axis for axis in (-2, -1) if torch.rand((), generator=generator) < 0.5]
        frames = frames.flip(mirrored)
    if "rotate" in symmetries:
        # A quarter turn exchanges height and width, so only half turns keep the shape of an oblong image.
        turns = (
            int(torch.randint(4, (), generator=generator))
            if height == width
            else 2 * int(torch.randint(2, (), generator=generator))
        )
        frames = frames.rot90(turns, dims=(-2, -1))
    return frames.contiguous()
