"""Trajectories simulated batch by batch, in this process or shared among several."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from microevo.data.store import TrajectoryStore
from microevo.pool import share
from microevo.processes import Process, rollout, trajectory_generator


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """All that it takes to simulate any trajectory of a store.

    Args:
        process: What evolves.
        values: The sampled parameters, one value per trajectory of the store.
        seed: Seed of the store.
        store: Where trajectories are written.
        device: Where to simulate.
    """

    process: Process
    values: Mapping[str, np.ndarray]
    seed: int
    store: TrajectoryStore
    device: str = "cpu"

    def __call__(self, batch: Sequence[int], progress: Callable[[int], object]) -> None:
        """Do as `run` does, with the arithmetic that does not depend on the number of processes."""
        with same_arithmetic():
            self.run(batch, progress)

    def run(self, batch: Sequence[int], progress: Callable[[int], object]) -> None:
        """Simulate some trajectories together and write them.

        Args:
            batch: Their numbers.
            progress: Called with the number of new frames, again and again.

        Raises:
            ValueError: A trajectory became NaN or infinite; none of the batch is written.
        """
        parameters = self.process.vary({name: column[list(batch)] for name, column in self.values.items()})
        generators = [trajectory_generator(self.seed, i) for i in batch]
        images = []
        for image in rollout(self.process, generators, self.store.frames, parameters, self.device, names=batch):
            images.append(image.cpu().numpy())
            progress(len(batch))
        for trajectory, saved in zip(batch, np.stack(images, axis=1), strict=True):
            self.store.write(trajectory, saved)


def batches(trajectories: Sequence[int], batch_size: int, workers: int) -> list[list[int]]:
    """Trajectories in order, in the fewest batches of at most `batch_size` that occupy all workers to the end."""
    if not trajectories:
        return []
    rounds = math.ceil(len(trajectories) / (batch_size * workers))
    count = min(len(trajectories), rounds * workers)
    return [part.tolist() for part in np.array_split(np.asarray(trajectories), count)]


def simulate_batches(
    simulation: Simulation, waiting: Sequence[Sequence[int]], workers: int, progress: Callable[[int], object]
) -> None:
    """Simulate and write batches, in this process or shared among several.

    However this ends, no worker outlives it: one that is killed leaves whole trajectories or nothing of them, as does one
    whose parent is.

    Args:
        simulation: What to simulate.
        waiting: The batches.
        workers: Number of processes, each with one thread; with 1 there is no process besides this one. The others
            import the main script: in a script of one's own the call belongs below `if __name__ == "__main__":`.
        progress: Called with the number of new frames, again and again.

    Raises:
        ValueError: A trajectory became NaN or infinite.
        RuntimeError: A worker was killed.
    """
    workers = min(workers, len(waiting))
    if workers <= 1:
        for batch in waiting:
            simulation(batch, progress)
        return
    with contextlib.closing(share([simulation] * workers, waiting)) as news:
        for frames in news:
            progress(frames)


@contextlib.contextmanager
def same_arithmetic() -> Iterator[None]:
    """Compute in one thread, and flush subnormal numbers to zero.

    Sums and transforms round otherwise when they are shared by several threads. Decaying modes end in subnormal
    numbers, which slow a CPU down tenfold; to flush them is a setting of the calling thread alone.
    """
    threads = torch.get_num_threads()
    flushes = bool(torch.tensor(1e-40) * 1 == 0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushes)
