"""How far ahead a model forecasts while it is trained."""

from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch import Callback

from microevo.models import Forecaster


class Unrolling(Callback):
    """Trains on more and more frames of the model's own forecast as a run proceeds.

    Single steps teach a model that steps from frame to frame most of the law and cost little; the long forecasts at the end,
    with the gradient through all of them, teach it not to let its errors grow (arXiv 2402.12971). A step on twice as
    many frames takes about twice as long, so that stages are measured in computing time, and the one-cycle learning rate
    follows it too.

    Args:
        frames: Frames forecast in each stage; the last one at most `n_future` of the data.
        shares: Share of the computing time of each stage; equal ones unless given.

    Raises:
        ValueError: A stage has no frames or no share.
    """

    def __init__(self, frames: list[int], shares: list[float] | None = None) -> None:
        if not frames or min(frames) < 1:
            raise ValueError(f"frames must be numbers from 1 on, one for each stage, but they are {frames}")
        if shares is not None and (len(shares) != len(frames) or min(shares) <= 0):
            raise ValueError(
                f"shares must be {len(frames)} positive numbers, one for each stage, but they are {shares}"
            )
        self.frames = frames
        times = np.asarray(shares or [1.0] * len(frames), dtype=np.float64)
        steps = times / np.asarray(frames)
        self._ends = np.cumsum(times) / times.sum()  # of the stages, in shares of the time
        self._ends_in_steps = np.cumsum(steps) / steps.sum()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the model measure its progress in computing time."""
        assert isinstance(pl_module, Forecaster)
        pl_module.pace = self.time_spent

    def time_spent(self, steps: float) -> float:
        """Share of the computing time that the first `steps`, a share of all steps, take."""
        return float(np.interp(steps, [0.0, *self._ends_in_steps], [0.0, *self._ends]))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Choose the stage.

        Raises:
            ValueError: Training windows have fewer future frames than the last stage forecasts.
        """
        assert isinstance(pl_module, Forecaster)
        there = batch.future.shape[1]
        if max(self.frames) > there:
            raise ValueError(
                f"Unrolling forecasts up to {max(self.frames)} frames, but training windows have {there} future frames; "
                "raise data.init_args.n_future or give smaller numbers"
            )
        stage = int(np.searchsorted(self._ends, pl_module.progress() + 1e-9, side="right"))
        pl_module.trained_frames = self.frames[min(stage, len(self.frames) - 1)]
