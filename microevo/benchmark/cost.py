"""What a forecast costs: parameters, arithmetic, memory and time."""

import copy
import platform
import statistics
import time
import typing
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, runtime_checkable

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from microevo.metrics import squared_error

TRAINING_BATCH = 8  # windows, if there are as many

ForecastFunction = Callable[[Tensor, int], Tensor]


class Memory(NamedTuple):
    """Peak memory of a forecast: how much, and how it was found."""

    megabytes: float
    method: str


def measure_cost(
    forecasters: Mapping[str, ForecastFunction],
    windows: Callable[[int], tuple[Tensor, Tensor]],
    repeats: int = 5,
    warmup: int = 1,
    largest_batch: int = 32,
) -> pd.DataFrame:
    """The cost table: everything below for each model, one row per model.

    Args:
        forecasters: Named models or other functions, called as `forecaster(past, horizon)`. One that runs elsewhere than
            where the windows are (the reference solver, always on the CPU) says so by its attribute `device`.
        windows: Past and future frames of so many windows, on the device to be timed.
        repeats: Timed calls of each model.
        warmup: Calls of each model before, not timed.
        largest_batch: Largest batch that is tried for the best throughput.

    Returns:
        Columns `competitor`, `parameters`, `multiply_adds` (of one forecast), `multiply_adds_block` (of as many frames as the
        input has: what arXiv 2602.19915 quotes for the FCN), `seconds` (median, of one forecast on its own),
        `forecasts_per_second` and `best_batch` (of the batch that gives most of them), `training_seconds` (median, of one
        step on `training_batch` windows of as many future as past frames), `peak_memory_mb` (of one forecast),
        `memory_method` and `device`, that of the model. What a plain function does not have is NaN.
    """
    past, future = windows(1)
    horizon = future.shape[1]
    seconds = measure_seconds(forecasters, past, horizon, repeats, warmup)
    throughput = measure_throughput(forecasters, lambda size: windows(size)[0], horizon, repeats, warmup, largest_batch)
    trained = {name: net for name, net in forecasters.items() if isinstance(net, Trainable) and parameters(net)}
    batch = min(TRAINING_BATCH, largest_batch)
    training = measure_training(trained, *windows(batch), repeats=repeats, warmup=warmup)
    rows = []
    for name, forecaster in forecasters.items():
        device = getattr(forecaster, "device", past.device)
        memory = peak_memory(forecaster, past.to(device), horizon)
        network = isinstance(forecaster, nn.Module)
        per_second, best = throughput[name]
        rows.append(
            {
                "competitor": name,
                "parameters": parameters(forecaster) if isinstance(forecaster, nn.Module) else float("nan"),
                "multiply_adds": multiply_adds(forecaster, past, horizon) if network else float("nan"),
                "multiply_adds_block": multiply_adds(forecaster, past, past.shape[1]) if network else float("nan"),
                "seconds": statistics.median(seconds[name]),
                "forecasts_per_second": per_second,
                "best_batch": best,
                "training_seconds": statistics.median(training[name]) if name in training else float("nan"),
                "training_batch": batch if name in training else float("nan"),
                "peak_memory_mb": memory.megabytes,
                "memory_method": memory.method,
                "device": device_name(device),
            }
        )
    return pd.DataFrame(rows)


def measure_throughput(
    forecasters: Mapping[str, ForecastFunction],
    past: Callable[[int], Float[Tensor, "B n_past C H W"]],
    horizon: int,
    repeats: int = 5,
    warmup: int = 1,
    largest_batch: int = 32,
) -> dict[str, tuple[float, int]]:
    """Most forecasts per second of each model, and the smallest batch that gives about as many.

    Batches are doubled until a model gains less than 5 % or has no memory left; at each size the models take turns.
    """
    best: dict[str, tuple[float, int]] = dict.fromkeys(forecasters, (0.0, 1))
    running, size = dict(forecasters), 1
    while running and size <= largest_batch:
        for name in list(running):
            try:
                with _evaluating(running[name]), torch.no_grad():
                    running[name](past(size), horizon)
            except torch.OutOfMemoryError:
                del running[name]
        seconds = measure_seconds(running, past(size), horizon, repeats, max(0, warmup - 1), progress=False)
        for name, each in seconds.items():
            per_second = size / statistics.median(each)
            if per_second < 1.05 * best[name][0]:
                del running[name]
            else:
                best[name] = per_second, size
        size *= 2
    return best


@runtime_checkable
class Trainable(typing.Protocol):
    """A network with a training loss."""

    def loss(self, past: Tensor, future: Tensor) -> Tensor: ...  # noqa: D102
    def parameters(self) -> Iterator[nn.Parameter]: ...  # noqa: D102


def measure_training(
    networks: Mapping[str, Any],
    past: Float[Tensor, "B n_past C H W"],
    future: Float[Tensor, "B T C H W"],
    repeats: int = 5,
    warmup: int = 1,
) -> dict[str, list[float]]:
    """Wall-clock time of each training step, loss, gradient and AdamW, of copies of the networks that take turns."""
    copies = {name: copy.deepcopy(network).train() for name, network in networks.items()}
    optimisers = {name: torch.optim.AdamW(network.parameters()) for name, network in copies.items()}
    future = future[:, : past.shape[1]]

    def step(name: str) -> None:
        optimisers[name].zero_grad()
        copies[name].loss(past, future).backward()
        optimisers[name].step()

    return _take_turns(step, list(networks), past.device, repeats, warmup, progress=False)


def parameters(net: nn.Module) -> int:
    """Number of trainable and frozen weights; buffers do not count."""
    return sum(weight.numel() for weight in net.parameters())


def multiply_adds(forecaster: ForecastFunction, past: Float[Tensor, "B n_past C H W"], horizon: int) -> int:
    """Multiply-adds of the forecast of one trajectory, `horizon` frames long.

    Counts convolutions, linear layers and attention (half of what `torch.utils.flop_counter` reports, which
    counts a multiply-add as two). Norms, activations and Fourier transforms are left out. The paper's 9.327 G
    for the FCN (arXiv 2602.19915, table 1) comes from fvcore, which adds the norms, and is one block of 10
    frames from 10; its figures for the recurrent networks are forecasts of 90 frames.
    """
    counter = FlopCounterMode(display=False)
    with _evaluating(forecaster), torch.no_grad(), counter:
        forecaster(past[:1], horizon)
    return counter.get_total_flops() // 2


def peak_memory(forecaster: ForecastFunction, past: Float[Tensor, "B n_past C H W"], horizon: int) -> Memory:
    """Most memory in use at any moment of one forecast: weights, input, and all tensors alive [10^6 bytes].

    On CUDA the allocator's own peak is read. On a CPU every tensor is followed from the operation that makes
    it to its release; scratch space inside an operation is not seen. `method` says which of the two it is.
    """
    states = _states(forecaster)
    held = sum(state.nbytes for state in states) + past.nbytes
    with _evaluating(forecaster), torch.no_grad():
        if past.device.type == "cuda":
            torch.cuda.synchronize(past.device)
            torch.cuda.reset_peak_memory_stats(past.device)
            before = torch.cuda.memory_allocated(past.device)  # other models may be on the device
            forecaster(past, horizon)
            torch.cuda.synchronize(past.device)
            made = torch.cuda.max_memory_allocated(past.device) - before
            return Memory((held + made) / 1e6, "CUDA allocator")
        with _LiveTensors([*states, past]) as live:
            forecaster(past, horizon)
    return Memory((held + live.peak) / 1e6, "live tensors")


def mean_rmse(forecast: Float[Tensor, "B T C H W"], future: Float[Tensor, "B T C H W"]) -> float:
    """RMSE of some windows at each lead, mean over the leads [field units]; not finite if the forecast is not."""
    return float(squared_error(forecast, future).mean(dim=0).sqrt().mean())


def forecast_rmse(
    forecaster: Callable[..., Tensor],
    past: Float[Tensor, "B n_past C H W"],
    future: Float[Tensor, "B T C H W"],
    *conditions: Float[Tensor, "B P"],
) -> float:
    """`mean_rmse` of a forecaster, which gets one window at a time: that needs no more memory than to time it.

    Args:
        forecaster: Called as `forecaster(past, horizon, *conditions)`.
        past: Input frames.
        future: Target frames.
        conditions: The parameters of each window, of a forecaster that is conditioned on them.
    """
    windows = zip(past[:, None], *(rows[:, None] for rows in conditions), strict=True)
    with _evaluating(forecaster), torch.no_grad():
        return mean_rmse(torch.cat([forecaster(window, future.shape[1], *row) for window, *row in windows]), future)


def measure_seconds(
    forecasters: Mapping[str, ForecastFunction],
    past: Float[Tensor, "B n_past C H W"],
    horizon: int,
    repeats: int = 5,
    warmup: int = 1,
    progress: bool = True,
) -> dict[str, list[float]]:
    """Wall-clock time of each call, the forecasters taking turns.

    Turns (A B C, A B C, ...) share out a machine's drift and its other users' load fairly. The device is
    synchronised before and after each call; modules are put in eval mode, gradients are off.

    Args:
        forecasters: Named callables `forecaster(past, horizon)`.
        past: Frames to start from, the whole batch, on the device to be timed.
        horizon: Frames to forecast.
        repeats: Timed calls of each forecaster.
        warmup: Calls of each forecaster before, not timed: caches, kernel selection, compilation.
        progress: Show a progress bar.

    Returns:
        Seconds per call of the whole batch, in the order measured.

    Raises:
        ValueError: If there is nothing to repeat.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f"repeats must be at least 1 and warmup at least 0, got {repeats} and {warmup}.")
    with ExitStack() as stack, torch.no_grad():
        for forecaster in forecasters.values():
            stack.enter_context(_evaluating(forecaster))
        return _take_turns(
            lambda name: forecasters[name](past, horizon), list(forecasters), past.device, repeats, warmup, progress
        )


def _take_turns(
    call: Callable[[str], object], names: list[str], device: torch.device, repeats: int, warmup: int, progress: bool
) -> dict[str, list[float]]:
    """Seconds of each call after the first `warmup` ones, by name; the device is synchronised before and after each."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    turns = [(turn, name) for turn in range(-warmup, repeats) for name in names]
    with tqdm(turns, desc="timing", unit="forecast", disable=not progress) as bar:
        for turn, name in bar:
            bar.set_postfix_str(name)
            _synchronise(device)
            start = time.perf_counter()
            call(name)
            _synchronise(device)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def device_name(device: torch.device) -> str:
    """The device in words, with the number of threads if it is a CPU: a time means nothing without it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"{platform.machine()} CPU, {threads} thread{'s' * (threads > 1)}"
    return device.type


def _states(forecaster: ForecastFunction) -> list[Tensor]:
    return [*forecaster.parameters(), *forecaster.buffers()] if isinstance(forecaster, nn.Module) else []


@contextmanager
def _evaluating(forecaster: ForecastFunction) -> Iterator[None]:
    """Eval mode inside; afterwards each submodule is as it was, a frozen one too."""
    modules = list(forecaster.modules()) if isinstance(forecaster, nn.Module) else []
    were_training = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, was_training in zip(modules, were_training, strict=True):
            module.training = was_training


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class _LiveTensors(TorchDispatchMode):
    """Follows the bytes of all storages made inside, and remembers the most alive at once."""

    def __init__(self, known: list[Tensor]):
        super().__init__()
        self.now = self.peak = 0
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in known}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if size == 0 or address in self._seen:  # a view, or changed in place
            return
        self._seen.add(address)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._release, address, size)

    def _release(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.now -= size
