"""How fast a training runs, and whether it waits for its data."""

import resource
import sys
from time import perf_counter
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.utilities import rank_zero_info

FETCH = "train_dataloader_next"  # how Lightning's profilers call the wait for a batch
WARM_UP = 2  # first batches of a run, which are not counted: workers start, memory is allocated
ENOUGH = 10  # batches before a share of waiting says anything
PATIENCE = 0.05  # share of the time that a training may wait for data before it is said


class FetchClock(PassThroughProfiler):
    """Measures how long each batch was waited for: on a CPU the loader's time, on a GPU the time in which it stood idle.

    A GPU works through its queue while the host loads the next batch; it waits only once the queue is empty. Two events in the
    queue, before and after the loading, have the idle time between them.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._on_gpu = device.type == "cuda"
        self._since: Any = None
        self._waits: list[Any] = []

    def start(self, action_name: str) -> None:
        """Start the clock before a batch is fetched."""
        if action_name.endswith(FETCH):
            self._since = self._mark()

    def stop(self, action_name: str) -> None:
        """Stop it when the batch is there."""
        if action_name.endswith(FETCH) and self._since is not None:
            self._waits.append((self._since, self._mark()))
            self._since = None

    def take(self) -> list[float]:
        """The waits since the last call [s]."""
        waits, self._waits = self._waits, []
        if self._on_gpu:
            torch.cuda.synchronize()
            return [before.elapsed_time(after) / 1e3 for before, after in waits]
        return [after - before for before, after in waits]

    def _mark(self) -> Any:
        if not self._on_gpu:
            return perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class Throughput(Callback):
    """Logs, for each epoch, the windows per second, the share of the time spent waiting for data, and the peak of memory.

    These are `train/windows_per_second`, of all processes together, `train/data_wait` from 0 to 1, and `train/memory_GiB`: of
    the GPU what PyTorch allocated in the epoch, of a CPU the most that the process ever held. Validations are not counted. A
    training that waits more than 5 % of its time says so once, with what to change. With a profiler of one's own, which
    tells the wait itself (`[_TrainingEpochLoop].train_dataloader_next`), that share is left out.
    """

    def __init__(self) -> None:
        self._clock: FetchClock | None = None
        self._said = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the clock where Lightning reports its waits."""
        self._clock, self._said = None, False
        where: Any = trainer  # whose profiler is set in a way that type checkers do not see
        if type(where.profiler) in (PassThroughProfiler, FetchClock):
            self._clock = where.profiler = FetchClock(pl_module.device)
        self._fetched = 0
        self._forget()  # a training that resumes within an epoch does not start it

    def _forget(self) -> None:
        self._windows, self._batches, self._validating = 0, 0, 0.0
        self._since: float | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._forget()
        if self._fetched >= WARM_UP:
            self._start()
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch, unless it is one of the first."""
        self._fetched += 1
        if self._since is None:
            if self._fetched >= WARM_UP:
                self._start()
            return
        self._windows += len(batch[0])
        self._batches += 1

    def _start(self) -> None:
        if self._clock is not None:
            self._clock.take()
        self._since = perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock during a validation."""
        self._stopped = perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let it run again."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._validating += perf_counter() - self._stopped

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch."""
        if self._since is None or not self._batches:
            return
        waits = self._clock.take() if self._clock is not None else []
        seconds = perf_counter() - self._since - self._validating
        values = {
            "train/windows_per_second": self._windows / seconds * trainer.world_size,
            "train/memory_GiB": peak_memory(pl_module.device) / 2**30,
        }
        if self._clock is not None:
            values["train/data_wait"] = wait = sum(waits[: self._batches]) / seconds
            if wait > PATIENCE and self._batches >= ENOUGH and not self._said:
                self._said = True
                rank_zero_info(_advice(wait, pl_module.device, getattr(trainer, "datamodule", None)))
        # The mean over processes, which train at the same pace. Not by the module's `log`, whose values are combined where
        # they are first read, which may be in one process alone.
        means = trainer.strategy.reduce(torch.tensor(list(values.values()), device=pl_module.device), reduce_op="mean")
        for logger in trainer.loggers:
            logger.log_metrics(dict(zip(values, means.tolist(), strict=True)), step=trainer.global_step)


def peak_memory(device: torch.device) -> int:
    """Most memory held: on a GPU by PyTorch since the count was reset, otherwise by this process [bytes]."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _advice(wait: float, device: torch.device, data: Any) -> str:
    """What to change when a training waits for its data."""
    sentence = f"the training waited for data {100 * wait:.0f} % of the time"
    workers, cache = getattr(data, "num_workers", None), getattr(data, "cache", None)
    held = cache == "device" or getattr(getattr(data, "datasets", {}).get("train"), "memory", None) is not None
    if device.type == "cuda" and cache != "device":
        return f"{sentence}: set data.init_args.cache to device, if the trajectories fit on it"
    if not held and cache is not None:
        return (
            f"{sentence}: set data.init_args.cache to yes, if the trajectories fit into memory, or raise "
            f"data.init_args.num_workers (now {workers})"
        )
    return f"{sentence}: raise data.init_args.batch_size, or data.init_args.num_workers (now {workers})"
