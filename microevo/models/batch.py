"""Batches of windows as a forecaster sees them, and callbacks that change those of a training."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from lightning.pytorch import Callback
from torch import Tensor

if TYPE_CHECKING:
    from microevo.models.forecaster import Forecaster

ParameterValues = Float[Tensor, "B P"] | Mapping[str, float] | None  # of each sample, or by name the same for all


@runtime_checkable
class WindowBatch(Protocol):
    """The parts of a batch that a forecaster reads. `microevo.data.Window` has them."""

    @property
    def past(self) -> Float[Tensor, "B n_past C H W"]: ...  # noqa: D102
    @property
    def future(self) -> Float[Tensor, "B n_future C H W"]: ...  # noqa: D102
    @property
    def trajectory(self) -> Int[Tensor, " B"]: ...  # noqa: D102
    @property
    def start(self) -> Int[Tensor, " B"]: ...  # noqa: D102
    @property
    def parameters(self) -> Float[Tensor, "B P"]: ...  # noqa: D102
    def _replace(self, **parts: Any) -> "WindowBatch": ...


class WindowTransform(Callback, ABC):
    """A callback that changes the windows a model is trained on, such as their length. It applies to any model.

    Those of a trainer are applied in their order. Random numbers come from torch's global generator, which each training step
    starts anew, so that a resumed training is exact.
    """

    @abstractmethod
    def transform(self, model: "Forecaster", batch: WindowBatch) -> WindowBatch:
        """The windows of one training step, in place of `batch`, which stays as it is."""
