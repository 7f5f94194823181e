"""Random numbers for the windows of a batch, which are the same however many processes share the batch."""

from collections.abc import Callable

import torch.distributed as dist
from torch import Tensor


def draw_for_windows(draw: Callable[[int], Tensor], windows: int) -> Tensor:
    """The random numbers of this process's windows, a row for each of them.

    The processes of a training take turns with the windows of a step, and `SeedSteps` starts all of them from the same random
    numbers. Each of them draws for the windows of all, and keeps the rows of its own: they are those that one process would
    draw for the same windows.

    Args:
        draw: Draws random numbers for a number of windows, a row for each.
        windows: Number of windows in the batch of this process.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return draw(windows)
    processes, rank = dist.get_world_size(), dist.get_rank()
    return draw(windows * processes)[rank::processes]
