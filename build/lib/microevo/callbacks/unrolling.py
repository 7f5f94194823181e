"""How far ahead a model forecasts while it is trained."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch import Callback

from microevo.models import Forecaster


class Unrolling(Callback):
    """Trains on more and more frames of the model's own forecast as a run proceeds.

    Each stage takes an equal share of the planned run. Single steps teach a model that steps from frame to frame most of the
    law and cost little; the long forecasts at the end, with the gradient through all of them, teach it not to let its
    errors grow (arXiv 2402.12971).

    Args:
        frames: Frames forecast in each stage; the last one at most `n_future` of the data.

    Raises:
        ValueError: A stage has no frames.
    """

    def __init__(self, frames: list[int]) -> None:
        if not frames or min(frames) < 1:
            raise ValueError(f"frames must be numbers from 1 on, one for each stage, but they are {frames}")
        self.frames = frames

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
        stage = min(int(pl_module.progress() * len(self.frames)), len(self.frames) - 1)
        pl_module.trained_frames = self.frames[stage]
