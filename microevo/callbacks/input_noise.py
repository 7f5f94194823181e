"""Noise on the input frames of a training."""

from typing import Any

import torch
from jaxtyping import Float
from lightning import LightningModule, Trainer
from torch import Tensor

from microevo.models import Forecaster, WindowTransform
from microevo.models.batch import WindowBatch
from microevo.models.randomness import draw_for_windows


class InputNoise(WindowTransform):
    """Adds Gaussian noise to the input frames of training windows, and leaves the target frames as they are.

    A model that is fed its own forecasts sees frames with small errors, which it learns to correct in this way, at no cost
    (arXiv 2002.09405). The noise is independent at each pixel. Its unit is what a single forecast step is about:
    the root mean square change of a field from one frame to the next in the training split.

    Args:
        std: Standard deviation of the noise [root mean square change between frames].

    Raises:
        ValueError: `std` is negative.
    """

    def __init__(self, std: float) -> None:
        if not std >= 0:
            raise ValueError(f"std must not be negative, but it is {std}")
        self.std = std
        self._scale: Float[Tensor, "C 1 1"] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Measure the changes of the training split.

        Raises:
            ValueError: The trainer has no datamodule that measures them.
        """
        data: Any = getattr(trainer, "datamodule", None)
        if stage != "fit":
            return
        if not hasattr(data, "change_statistics"):
            raise ValueError("InputNoise needs a TrajectoryDataModule, whose changes between frames are its unit")
        self._scale = self.std * torch.from_numpy(data.change_statistics().change_rms)[:, None, None]

    def transform(self, model: Forecaster, batch: WindowBatch) -> WindowBatch:
        """Windows with noise on the past frames."""
        assert self._scale is not None
        past, self._scale = batch.past, self._scale.to(batch.past)
        noise = draw_for_windows(
            lambda count: torch.randn(count, *past.shape[1:], dtype=past.dtype, device=past.device), len(past)
        )
        return batch._replace(past=past + self._scale * noise)
