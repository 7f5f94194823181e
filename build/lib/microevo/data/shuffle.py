"""The order of the training windows: it follows from the seed and the epoch, whatever happened before."""

from collections.abc import Iterator, Sized

import numpy as np
from torch.utils.data import DataLoader, DistributedSampler

from microevo.data.windows import Window


class Shuffle(DistributedSampler):
    """Deals out all windows in a random order, each with the seed of its random transformation.

    A resumed training thus sees the windows that an uninterrupted one would have seen, and the number of
    loader processes changes nothing. The epoch is said by Lightning with `set_epoch`; without Lightning each
    pass counts as one.

    Args:
        windows: What to deal out.
        processes: Number of processes that share the windows; each gets equally many, some of them twice if need be.
        rank: Which of them this is.
        seed: Seed of the training.
    """

    def __init__(self, windows: Sized, *, processes: int = 1, rank: int = 0, seed: int = 0) -> None:
        super().__init__(windows, num_replicas=processes, rank=rank, seed=seed)  # type: ignore[arg-type]
        self._windows = len(windows)
        self._seen = (-1, 0)

    def skip(self, epoch: int, count: int) -> None:
        """Leave out this process's first `count` windows of one epoch, which were seen before an interruption."""
        self._seen = (epoch, count)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Index of each window and the seed of its transformation."""
        random = np.random.default_rng([self.seed, self.epoch])
        order = np.resize(random.permutation(self._windows), self.total_size)
        seeds = random.integers(2**63, size=self.total_size)
        epoch, count = self._seen
        first = count if epoch == self.epoch else 0
        mine = slice(self.rank + first * self.num_replicas, None, self.num_replicas)
        self.epoch += 1
        return zip(order[mine].tolist(), seeds[mine].tolist(), strict=True)


class ShuffledLoader(DataLoader[Window]):
    """A loader that asks its sampler for the order at the first batch, not before.

    Lightning makes the first iterator of a run before it tells the sampler which epoch it is.
    """

    def __iter__(self) -> Iterator[Window]:  # type: ignore[override]
        yield from super().__iter__()
