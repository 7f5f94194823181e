"""Batch normalisation over the batches of all processes that train together."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose statistics are those of the batches of all processes together.

    Several processes then train as one does on all their windows. `torch.nn.SyncBatchNorm` does the same on GPUs alone, and
    `torch.nn.BatchNorm2d`, which this is in a single process, normalises the batch of each process for itself.
    """

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Normalise each channel."""
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        values = x.float()
        mean = _mean_of_processes(values.mean((0, 2, 3)))
        centred = values - mean[:, None, None]
        variance = _mean_of_processes(centred.square().mean((0, 2, 3)))
        with torch.no_grad():
            count = dist.get_world_size() * x.numel() // x.shape[1]
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x)


class _Sum(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def _mean_of_processes(values: Tensor) -> Tensor:
    """The mean over all processes, through which gradients flow."""
    return _Sum.apply(values) / dist.get_world_size()
