"""Training windows cut on the device that trains on them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from microevo.data.samplers import ShuffledSampler
from microevo.data.windows import Window, WindowDataset, transform


class ResidentLoader:
    """Batches of training windows from trajectories that are held on a device.

    A batch equals the one that a `DataLoader` would collate from the same windows, including their transformations.
    Only its indices are copied to the device, so that a GPU that trains on hundreds of windows per second does not wait
    for the host.

    Args:
        windows: Windows whose trajectories are in memory (`preload`).
        sampler: Gives the order of the windows, and the seed of the random transformation of each.
        batch_size: Windows in a batch.
        device: Device on which the frames are kept and the batches are made.
    """

    def __init__(self, windows: WindowDataset, sampler: ShuffledSampler, batch_size: int, device: torch.device) -> None:
        assert windows.memory is not None
        self.windows, self.sampler, self.batch_size, self.device = windows, sampler, batch_size, device
        self._row = {trajectory: row for row, trajectory in enumerate(windows.memory)}
        frames = torch.from_numpy(np.stack(list(windows.memory.values())))  # (trajectories, T, C, H, W)
        self._frames = frames.to(device)
        self._parameters = windows.parameters[list(self._row)].to(device)

    def __len__(self) -> int:
        """Number of batches. An incomplete last batch is left out if there are other batches."""
        return max(1, len(self.sampler) // self.batch_size)

    def __iter__(self) -> Iterator[Window]:
        """The batches of one epoch."""
        batch: list[tuple[int, int]] = []
        size = min(self.batch_size, len(self.sampler))
        for window in self.sampler:
            batch.append(window)
            if len(batch) == size:
                yield self._cut(batch)
                batch = []

    def _cut(self, batch: list[tuple[int, int]]) -> Window:
        where = [self.windows.windows[index] for index, _ in batch]
        trajectory, start = torch.tensor(where).T
        rows = torch.tensor([self._row[i] for i, _ in where])
        times = start[:, None] + torch.arange(self.windows.length)
        rows = self._moved(rows)
        cut = self._frames[rows[:, None], self._moved(times)]
        if self.windows.symmetries:
            pixels = self._moved(torch.stack([self._pixels(seed) for _, seed in batch]))
            cut = cut.flatten(-2).gather(-1, pixels[:, None, None].expand(*cut.shape[:3], -1)).view_as(cut)
        n_past = self.windows.n_past
        past, future = cut[:, :n_past], cut[:, n_past:]
        return Window(past, future, self._moved(trajectory), self._moved(start), self._parameters[rows])

    def _pixels(self, seed: int) -> Tensor:
        """Index of the pixel that each pixel of a transformed frame comes from."""
        height, width = self._frames.shape[-2:]
        numbers = torch.arange(height * width).view(1, 1, height, width)
        return transform(numbers, self.windows.symmetries, torch.Generator().manual_seed(seed)).flatten()

    def _moved(self, indices: Tensor) -> Tensor:
        pinned = indices.pin_memory() if self.device.type == "cuda" else indices
        return pinned.to(self.device, non_blocking=True)
