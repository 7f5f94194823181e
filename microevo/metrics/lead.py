"""The mean of a metric at each lead time, exact for any batch size, number of processes and precision of the model."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric as TorchMetric

from microevo.metrics.pixel import Array, as_tensor
from microevo.metrics.registry import Metric, find


class LeadMetric(TorchMetric):
    """Mean of a metric over samples, kept separately for every lead time.

    `update` adds to one float64 sum per lead time and `compute` divides, so the result is the same for any batch size and
    any number of processes. Before the first `update` the answer is NaN, with torchmetrics' warning. Inside a
    `MetricCollection` pass `compute_groups=False`: metrics that agree on one batch would be merged for good.

    Args:
        metric: What is averaged: a metric, the name of a registered one, or one that is a function of another's mean, such
            as `rmse`.
        horizon: Number of frames forecast.
    """

    full_state_update = False
    is_differentiable = False

    total: Tensor
    count: Tensor

    def __init__(self, metric: Metric | str, horizon: int):
        super().__init__()
        found = find(metric) if isinstance(metric, str) else metric
        source = find(found.source) if found is not None and found.of == "mean" else found
        if found is None or source is None or source.of != "frames":
            raise ValueError(f"there is no metric {metric} of frames; register it first")
        if horizon < 1:
            raise ValueError(f"horizon must be at least 1 frame, got {horizon}.")
        self.metric, self.horizon = found, horizon
        self.score: Callable[[Tensor, Tensor], Tensor] = source
        self.add_state("total", torch.zeros(horizon, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(horizon, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"]) -> None:
        """Add a batch of forecasts, tensors or NumPy arrays.

        Raises:
            ValueError: If the batch does not hold `horizon` frames, or the two shapes differ.
        """
        if target.shape[1] != self.horizon:
            raise ValueError(
                f"This {self.metric.name} was built for a horizon of {self.horizon} frames, got "
                f"{target.shape[1]}: build it with horizon={target.shape[1]} or cut the forecast."
            )
        score = self.score(as_tensor(prediction), as_tensor(target)).to(self.total)
        self.total += score.sum(dim=0)
        self.count += len(score)

    def compute(self) -> Float[Tensor, " horizon"]:
        """The mean at each lead time, lead 1 first."""
        mean = self.total / self.count
        return of_mean(self.metric, mean) if self.metric.of == "mean" else mean

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Module:
        # A model in half precision must not round its metrics: of what `fn` does, follow only the device.
        # Apple's MPS has no float64, hence float32 there and the cast on the CPU.
        def move(state: Tensor) -> Tensor:
            device = fn(torch.empty(0, device=state.device)).device
            return state.cpu().to(torch.float32 if device.type == "mps" else torch.float64).to(device)

        return super()._apply(move, exclude_state)


def of_mean(metric: Metric, mean: Tensor) -> Tensor:
    """The value of a metric that is a function of its source's mean."""
    return torch.as_tensor(metric.function(mean.cpu().numpy())).to(mean)
