"""Past and future cut from trajectories."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from microevo.data.store import TrajectoryStore


class Window(NamedTuple):
    """What a forecaster sees and must produce; a batch has the axis `B` in front.

    Attributes:
        past: The frames given, (n_past, C, H, W).
        future: The frames that follow, (n_future, C, H, W).
        trajectory: Index of the trajectory in its store.
        start: Index of the first past frame in its trajectory.
    """

    past: Float[Tensor, "*B n_past C H W"]
    future: Float[Tensor, "*B n_future C H W"]
    trajectory: Int[Tensor, "*B"]
    start: Int[Tensor, "*B"]


class WindowDataset(Dataset[Window]):
    """Sliding windows over some trajectories of a store.

    Args:
        store: Where the trajectories are.
        trajectories: Indices of those to use.
        fields: Fields to read, in the order of the axis `C`.
        n_past: Frames given.
        n_future: Frames that follow.
        stride: Frames between the starts of two windows of a trajectory.
        symmetries: Random transformations of each window, any of `shift`, `flip`, `rotate`; the store must
            allow them.
        preload: Read everything into memory once.

    Raises:
        ValueError: The trajectories are too short for a window, the store lacks a field, or its symmetries
            do not allow a transformation.
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
        preload: bool = False,
    ) -> None:
        absent = [name for name in fields if name not in store.fields]
        if absent:
            raise ValueError(f"{store.path} has the fields {', '.join(store.fields)}, not {', '.join(absent)}")
        allowed = store.attributes["symmetries"]
        broken = [name for name in symmetries if name not in allowed]
        if broken:
            raise ValueError(
                f"{store.path} allows the symmetries {', '.join(allowed) or 'none'}, not {', '.join(broken)}; leave it out"
            )
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
        starts = range(0, store.frames - self.length + 1, stride)
        self.windows = [(i, start) for i in self.trajectories for start in starts]
        self.memory = {i: store.read(i, fields=self.fields) for i in self.trajectories} if preload else None

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int | tuple[int, int]) -> Window:
        """One window, by its index or by its index and the seed of its random transformation."""
        index, seed = index if isinstance(index, tuple) else (index, None)
        trajectory, start = self.windows[index]
        stop = start + self.length
        if self.memory is not None:
            frames = self.memory[trajectory][start:stop]
        else:
            frames = self.store.read(trajectory, start, stop, self.fields)
        window = torch.from_numpy(np.array(frames))  # a copy: neither the map nor the memory may be written to
        if self.symmetries:
            generator = None if seed is None else torch.Generator().manual_seed(seed)
            window = transform(window, self.symmetries, generator)
        return Window(window[: self.n_past], window[self.n_past :], torch.tensor(trajectory), torch.tensor(start))


def transform(
    frames: Shaped[Tensor, "T C H W"], symmetries: Sequence[str], generator: torch.Generator | None = None
) -> Shaped[Tensor, "T C H W"]:
    """Apply one random transformation, the same to all frames, drawn from `generator` or torch's global one."""
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
