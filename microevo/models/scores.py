"""ForecastMetrics: what a forecaster is scored with, scaled by the spans of its fields and fit for the size of its frames."""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.nn import Module, ModuleList

from microevo.metrics import LeadMetric, Metric, applicable, find, registered
from microevo.metrics.lead import of_mean
from microevo.span import Span


class ForecastMetrics(Module):
    """All registered metrics of frames, averaged at each lead time.

    Args:
        horizon: Number of frames forecast.
        spans: The values between which each field lies, by name; a single one for all of them, whatever their number.

    Attributes:
        ssim: The SSIM of fields with these spans, also for a loss.
    """

    def __init__(self, horizon: int, spans: Mapping[str, Span]) -> None:
        super().__init__()
        on = [metric.on(list(spans.values())) for metric in registered()]
        self.ssim: Metric = next(metric for metric in on if metric.name == "ssim")
        self._derived = [metric for metric in on if metric.of == "mean"]
        # Not a MetricCollection, whose groups would merge metrics that agree on the first batch, for good.
        # Modules, so that their sums follow the model to its device.
        self._all = ModuleList(LeadMetric(metric, horizon) for metric in on if metric.of == "frames")
        self._shape: tuple[int, ...] | None = None
        self._chosen: list[LeadMetric] = list(self._all)  # type: ignore[arg-type]
        self.left_out: list[str] = []

    def choose(self, shape: Sequence[int]) -> None:
        """Keep the metrics that are defined for frames (C, H, W); the first time, say which are left out, and why."""
        if self._shape == tuple(shape):
            return
        everything: list[LeadMetric] = list(self._all)  # type: ignore[arg-type]
        defined, reasons = applicable([average.metric for average in everything], tuple(shape))
        self._shape, self._chosen = tuple(shape), [average for average in everything if average.metric in defined]
        self.left_out = [average.metric.name for average in everything if average.metric not in defined]
        for reason in reasons:
            rank_zero_info(reason)

    def reset(self) -> None:
        """Start counting anew."""
        for average in self._all:
            average.reset()  # type: ignore[operator]

    def update(self, forecast: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]) -> None:
        """Add a batch of forecasts."""
        self.choose(target.shape[2:])
        for average in self._chosen:
            average.update(forecast, target)

    def score(
        self, forecast: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]
    ) -> dict[str, Float[Tensor, "B T"]]:
        """Every metric per window and lead time, by name."""
        self.choose(target.shape[2:])
        return {average.metric.name: average.score(forecast, target) for average in self._chosen}

    def curves(self) -> dict[str, Float[Tensor, " horizon"]]:
        """The mean of every metric at each lead time, by name."""
        return {average.metric.name: average.compute().float() for average in self._chosen}

    def derived(self, means: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The metrics that are functions of some of these means, such as RMSE of that of MSE, by name."""
        return {
            metric.name: of_mean(metric, means[metric.source]) for metric in self._derived if metric.source in means
        }

    def needs(self, name: str) -> bool:
        """Whether a metric of this name is left out, or the one that it is a function of."""
        known = find(name)
        return name in self.left_out or (known is not None and known.source in self.left_out)
