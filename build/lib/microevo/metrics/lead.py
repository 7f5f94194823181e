"""Metrics at each lead time, exact for any batch size, number of processes and precision of the model."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric

from microevo.metrics.pixel import Array, absolute_error, as_tensor, relative_l2, squared_error, ssim


class LeadMetric(Metric):
    """Mean over samples of a value per frame, kept separately for every lead time.

    `update` adds to one float64 sum per lead time and `compute` divides, so the result is the same for any
    batch size and any number of processes. Before the first `update` the answer is NaN, with torchmetrics'
    warning. Inside a `MetricCollection` pass `compute_groups=False`: metrics that agree on one batch would be
    merged for good.

    A new metric is a subclass with one method, `score`.

    Args:
        horizon: Number of frames forecast.
    """

    full_state_update = False
    is_differentiable = False

    total: Tensor
    count: Tensor

    def __init__(self, horizon: int):
        super().__init__()
        if horizon < 1:
            raise ValueError(f"horizon must be at least 1 frame, got {horizon}.")
        self.horizon = horizon
        self.add_state("total", torch.zeros(horizon, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(horizon, dtype=torch.float64), dist_reduce_fx="sum")

    @abstractmethod
    def score(self, prediction: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T"]:
        """The value of each frame."""

    def update(self, prediction: Float[Array, "B T C H W"], target: Float[Array, "B T C H W"]) -> None:
        """Add a batch of forecasts, tensors or NumPy arrays.

        Raises:
            ValueError: If the batch does not hold `horizon` frames, or the two shapes differ.
        """
        if target.shape[1] != self.horizon:
            raise ValueError(
                f"This {type(self).__name__} was built for a horizon of {self.horizon} frames, got "
                f"{target.shape[1]}: build it with horizon={target.shape[1]} or cut the forecast."
            )
        score = self.score(as_tensor(prediction), as_tensor(target)).to(self.total)
        self.total += score.sum(dim=0)
        self.count += len(score)

    def compute(self) -> Float[Tensor, " horizon"]:
        """The mean at each lead time, lead 1 first."""
        return self.total / self.count

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Module:
        # A model in half precision must not round its metrics: of what `fn` does, follow only the device.
        # Apple's MPS has no float64, hence float32 there and the cast on the CPU.
        def move(state: Tensor) -> Tensor:
            device = fn(torch.empty(0, device=state.device)).device
            return state.cpu().to(torch.float32 if device.type == "mps" else torch.float64).to(device)

        return super()._apply(move, exclude_state)


class MSE(LeadMetric):
    """Mean squared error at each lead time [field units squared].

    Args:
        horizon: Number of frames forecast.
    """

    higher_is_better = False

    def score(self, prediction: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T"]:
        """See `microevo.metrics.squared_error`."""
        return squared_error(prediction, target)


class RMSE(MSE):
    """Root of the mean squared error at each lead time [field units]; not a mean of roots.

    Args:
        horizon: Number of frames forecast.
    """

    def compute(self) -> Float[Tensor, " horizon"]:
        """The root of the mean at each lead time, lead 1 first."""
        return super().compute().sqrt()


class MAE(LeadMetric):
    """Mean absolute error at each lead time [field units].

    Args:
        horizon: Number of frames forecast.
    """

    higher_is_better = False

    def score(self, prediction: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T"]:
        """See `microevo.metrics.absolute_error`."""
        return absolute_error(prediction, target)


class RelativeL2(LeadMetric):
    """Mean of `||prediction - target|| / ||target||` at each lead time [1].

    Args:
        horizon: Number of frames forecast.
    """

    higher_is_better = False

    def score(self, prediction: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T"]:
        """See `microevo.metrics.relative_l2`."""
        return relative_l2(prediction, target)


class SSIM(LeadMetric):
    """Mean structural similarity at each lead time [1]; see `microevo.metrics.ssim` for which one.

    Args:
        horizon: Number of frames forecast.
        data_range: Largest minus smallest value a field can take [field units].
    """

    higher_is_better = True

    def __init__(self, horizon: int, data_range: float = 1.0):
        super().__init__(horizon)
        self.data_range = data_range

    def score(self, prediction: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T"]:
        """See `microevo.metrics.ssim`."""
        return ssim(prediction, target, self.data_range)
