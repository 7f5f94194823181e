"""The order in which windows are loaded: shuffled for training, in sequence for evaluation."""

from collections.abc import Iterator, Sized

import numpy as np
from torch.utils.data import DataLoader, DistributedSampler

from microevo.data.windows import Window


class ShuffledSampler(DistributedSampler):
    """Yields all windows in a random order, each with the seed of its random transformation.

    The order depends on the seed of the training, the epoch and the number of processes alone. A resumed training
    therefore sees the windows that an uninterrupted one would have seen, and the number of loader processes has no
    influence. Lightning announces the epoch with `set_epoch`; without Lightning, each pass counts as one epoch.

    Args:
        windows: The windows to shuffle.
        processes: Number of processes, which take turns with the windows. All of them get equally many.
        rank: Index of this process.
        seed: Seed of the training.
        drop_last: Whether the last windows of an epoch, fewer than there are processes, are left out. Otherwise up to
            `processes - 1` windows occur twice.
    """

    def __init__(
        self, windows: Sized, *, processes: int = 1, rank: int = 0, seed: int = 0, drop_last: bool = False
    ) -> None:
        super().__init__(windows, num_replicas=processes, rank=rank, seed=seed, drop_last=drop_last)  # type: ignore[arg-type]
        self._windows = len(windows)
        self._seen = (-1, 0)

    def skip(self, epoch: int, count: int) -> None:
        """Leave out the first `count` windows of this process in one epoch, for training has seen them already."""
        self._seen = (epoch, count)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Index of each window, and the seed of its transformation."""
        random = np.random.default_rng([self.seed, self.epoch])
        order = np.resize(random.permutation(self._windows), self.total_size)
        seeds = random.integers(2**63, size=self.total_size)
        epoch, count = self._seen
        first = count if epoch == self.epoch else 0
        mine = slice(self.rank + first * self.num_replicas, None, self.num_replicas)
        self.epoch += 1
        return zip(order[mine].tolist(), seeds[mine].tolist(), strict=True)


class ShuffledLoader(DataLoader[Window]):
    """A loader that asks its sampler for the order when the first batch is requested, and not before.

    Lightning creates the first iterator of a run before it announces the epoch to the sampler.
    """

    def __iter__(self) -> Iterator[Window]:  # type: ignore[override]
        yield from super().__iter__()


class EvaluationSampler(DistributedSampler):
    """Shares windows among processes without repeating any of them.

    PyTorch's own sampler repeats windows until all processes have equally many, which counts the repeated ones
    twice in every average. Lightning keeps this sampler, because it is a `DistributedSampler`.
    """

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]
