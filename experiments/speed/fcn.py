"""How much faster our FCN is than a plain transcription with the same weights: CPU, one thread, interleaved.

The machine may be shared: both sides take turns, many short ones, and the ratio is that of the two calls of a turn in
seconds of CPU time. The table has the medians. Each side has a process of its own, as a user would run it: how the C library
reuses memory depends on all that a process did before, and costs as much as the layout of the arrays.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

import torch
from plain_fcn import PlainSimVPNet
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from microevo.models import SimVPNet

SIZES = {"paper": ({}, 64), "demo": ({"hid_s": 16, "hid_t": 64, "n_t": 4}, 32)}
PRODUCT = 1024  # rows and columns of the matrix product that measures the peak


def inference(net: nn.Module, past: torch.Tensor) -> Callable[[], object]:
    """One forecast of ten frames."""
    net.eval()

    def call() -> None:
        with torch.inference_mode():
            net(past)

    return call


def training(net: nn.Module, past: torch.Tensor) -> Callable[[], object]:
    """One step of Adam."""
    net.train()
    optimiser, target = torch.optim.Adam(net.parameters(), 1e-3), torch.rand_like(past)

    def call() -> None:
        optimiser.zero_grad()
        F.mse_loss(net(past), target).backward()
        optimiser.step()

    return call


def prepare(side: str, task: str, batch: int, size: str) -> Callable[[], object]:
    """The call to time."""
    torch.manual_seed(0)
    if side == "product":
        a, b = torch.rand(2, PRODUCT, PRODUCT)
        return lambda: a @ b
    settings, pixels = SIZES[size]
    net: nn.Module = SimVPNet(**settings)
    if side == "plain":
        plain = PlainSimVPNet(**settings)
        plain.load_state_dict(net.state_dict())
        net = plain
    past = torch.rand(batch, 10, 1, pixels, pixels)
    return (inference if task == "inference" else training)(net, past)


def serve(connection: Connection, *of_call: Any) -> None:
    """Send the CPU time [s] of a call at each request, until the request is False."""
    torch.set_num_threads(1)
    call = prepare(*of_call)
    while connection.recv():
        begin = time.process_time()
        call()
        connection.send(time.process_time() - begin)


def turns(count: int, task: str, batch: int, size: str) -> list[tuple[float, ...]]:
    """CPU times [s] of the plain network, ours and a matrix product, which take turns."""
    context, connections = multiprocessing.get_context("fork"), []
    with ExitStack() as stack:
        for side in ("plain", "ours", "product"):
            here, there = context.Pipe()
            process = context.Process(target=serve, args=(there, side, task, batch, size), daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(here.send, False)
            connections.append(here)
        times = []
        for _ in range(count + 2):
            turn = []
            for connection in connections:
                connection.send(True)
                turn.append(connection.recv())
            times.append(tuple(turn))
    return times[2:]  # the first two warm up


def operations(size: str, batch: int) -> int:
    """Additions and multiplications of a forecast; a training step takes three times as many."""
    settings, pixels = SIZES[size]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        PlainSimVPNet(**settings)(torch.rand(batch, 10, 1, pixels, pixels))
    return counter.get_total_flops()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument("--tasks", nargs="*", choices=["inference", "training"], default=["inference", "training"])
    parser.add_argument("--batches", nargs="*", type=int, help="instead of 1 and 8 for inference, 4 (16) for training")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("size   task       batch  plain [ms]  ours [ms]  plain : ours  quartiles   of the peak [GFLOP/s]")
    for size in arguments.sizes:
        for task in arguments.tasks:
            default = [1, 8] if task == "inference" else [4 if size == "paper" else 16]
            for batch in arguments.batches or default:
                arithmetic = operations(size, batch) * (3 if task == "training" else 1)
                times = turns(arguments.turns, task, batch, size)
                plain, ours, product = (statistics.median(side) for side in zip(*times, strict=True))
                low, middle, high = statistics.quantiles([a / b for a, b, _ in times], n=4)
                peak = 2 * PRODUCT**3 / product / 1e9
                share = arithmetic / ours / 1e9 / peak
                print(
                    f"{size:6} {task:10} {batch:5} {1e3 * plain:11.1f} {1e3 * ours:10.1f} {middle:13.2f}"
                    f" {low:6.2f}-{high:.2f} {share:7.0%} of {peak:.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
