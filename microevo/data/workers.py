"""Trajectories simulated batch by batch, in this process or shared among several."""

import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import numpy as np
import torch

from microevo.data.store import TrajectoryStore
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

    def run(self, batch: Sequence[int], progress: Callable[[int], object]) -> None:
        """Simulate some trajectories together and write them.

        Args:
            batch: Their numbers.
            progress: Told the number of new frames, again and again.

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
        progress: Told the number of new frames, again and again.

    Raises:
        ValueError: A trajectory became NaN or infinite.
        RuntimeError: A worker was killed.
    """
    workers = min(workers, len(waiting))
    if workers <= 1:
        with same_arithmetic():
            for batch in waiting:
                simulation.run(batch, progress)
        return
    crew: dict[Connection, BaseProcess] = {}
    todo = iter(waiting)
    try:
        with _ignoring_interrupts():
            for _ in range(workers):
                pipe, worker = _start(simulation)
                crew[pipe] = worker
        for pipe, worker in crew.items():
            _hand_over(pipe, worker, next(todo))
        busy = set(crew)
        while busy:
            ready = wait(list(busy))
            for pipe in [pipe for pipe in busy if pipe in ready]:
                news = _receive(pipe, crew[pipe])
                if isinstance(news, Exception):
                    raise news
                if news is not None:
                    progress(news)
                elif following := next(todo, None):
                    _hand_over(pipe, crew[pipe], following)
                else:
                    busy.remove(pipe)
    finally:
        for worker in crew.values():
            worker.kill()
        for pipe, worker in crew.items():
            worker.join()
            pipe.close()


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


# ------------------------------------------------------------- in the parent


def _start(simulation: Simulation) -> tuple[Connection, BaseProcess]:
    # Spawned: a fork of a process in which torch runs threads may hang. A pipe for each: a worker that is killed while
    # it holds the lock of a common queue would block the others.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=_work, args=(simulation, theirs), daemon=True)
    worker.start()
    theirs.close()  # or the end of the worker would not end the pipe
    return ours, worker


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Processes started herein never see the Ctrl-C that a terminal sends to all; their parent does, and ends them."""
    resource_tracker.ensure_running()  # starts with the first process, and would lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _hand_over(pipe: Connection, worker: BaseProcess, batch: Sequence[int]) -> None:
    try:
        pipe.send(batch)
    except OSError:
        raise _lost(worker) from None


def _receive(pipe: Connection, worker: BaseProcess) -> int | Exception | None:
    """The number of new frames, what went wrong, or None for the end of a batch."""
    try:
        return pipe.recv()
    except (EOFError, OSError):
        raise _lost(worker) from None


def _lost(worker: BaseProcess) -> RuntimeError:
    worker.join()
    code = worker.exitcode or 0
    if code >= 0:
        return RuntimeError(
            f"a worker process ended by itself with exit code {code}, for the reason that it printed above; with workers 1 "
            "there is none"
        )
    cause = ", as happens when memory runs out" if -code == signal.SIGKILL else ""
    return RuntimeError(
        f"a worker process was ended by {signal.Signals(-code).name}{cause}; whole trajectories are kept: give the command "
        "again, with fewer workers or a smaller batch_size"
    )


# ------------------------------------------------------------- in the worker


def _work(simulation: Simulation, pipe: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with same_arithmetic(), contextlib.suppress(EOFError, ConnectionError):
        while True:
            batch = pipe.recv()
            try:
                simulation.run(batch, pipe.send)
            except ConnectionError:  # the parent is gone
                return
            except Exception as error:
                pipe.send(_portable(error))
                return
            pipe.send(None)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _portable(error: Exception) -> Exception:
    """The same error if it can travel, else its text; either way with the traceback as a note."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note("".join(traceback.format_exception(error)))
    return copy
