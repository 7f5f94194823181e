"""How far ahead a model forecasts while it is trained."""

import math
from typing import Literal

import numpy as np
import torch
from lightning import LightningModule, Trainer

from microevo.models import Forecaster, WindowTransform
from microevo.models.batch import WindowBatch

FORWARD = 1 / 3  # share of a training step without its backward pass, which takes twice as long


class Unrolling(WindowTransform):
    """Trains on more and more frames of the model's own forecast as a run proceeds.

    Single steps teach a model that steps from frame to frame most of the law and cost little; the long forecasts at the end
    teach it not to let its errors grow (arXiv 2402.12971). A network that predicts blocks of frames is trained on several blocks
    likewise, with `frames` a multiple of them. A step on twice as many frames takes about twice as long, so that stages are
    measured in computing time, and the one-cycle learning rate follows it too.

    Args:
        frames: Frames forecast in each stage; the last one at most `n_future` of the data.
        shares: Share of the computing time of each stage; equal ones unless given.
        gradient: With `all` the loss is that of all frames, and its gradient flows through the whole forecast. With `last` the
            frames before the last call of the network are forecast without gradient, and only those of the last call are
            trained (the pushforward trick, arXiv 2202.03376): less time, and no more memory than for a single call.

    Raises:
        ValueError: A stage has no frames or no share.
    """

    def __init__(
        self, frames: list[int], shares: list[float] | None = None, gradient: Literal["all", "last"] = "all"
    ) -> None:
        if not frames or min(frames) < 1:
            raise ValueError(f"frames must be numbers from 1 on, one for each stage, but they are {frames}")
        if shares is not None and (len(shares) != len(frames) or min(shares) <= 0):
            raise ValueError(
                f"shares must be {len(frames)} positive numbers, one for each stage, but they are {shares}"
            )
        if gradient not in ("all", "last"):
            raise ValueError(f"gradient must be all or last, but it is {gradient}")
        self.frames, self.gradient = frames, gradient
        self._times = np.asarray(shares or [1.0] * len(frames), dtype=np.float64)
        self._ends = np.cumsum(self._times) / self._times.sum()  # of the stages, in shares of the time
        self._divide_steps(np.asarray(frames))

    def _divide_steps(self, costs: np.ndarray) -> None:
        """Find which share of the steps each stage has, of which one step takes a time proportional to its cost."""
        steps = self._times / costs
        self._ends_in_steps = np.cumsum(steps) / steps.sum()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the model measure its progress in computing time.

        Raises:
            ValueError: The model cannot be trained on its last frames alone.
        """
        assert isinstance(pl_module, Forecaster)
        if self.gradient == "last" and stage == "fit":
            block = pl_module.block_length
            if block is None:
                raise ValueError(
                    f"Unrolling has gradient = last, but {type(pl_module).__name__} carries more along than its last n_past "
                    "frames (a hidden state or a context); set gradient to all"
                )
            self._divide_steps(np.asarray([1 + FORWARD * (math.ceil(frames / block) - 1) for frames in self.frames]))
        pl_module.pace = self.time_spent

    def time_spent(self, steps: float) -> float:
        """Share of the computing time that the first `steps`, a share of all steps, take."""
        return float(np.interp(steps, [0.0, *self._ends_in_steps], [0.0, *self._ends]))

    def transform(self, model: Forecaster, batch: WindowBatch) -> WindowBatch:
        """Windows with the future frames of the present stage, of which those before the last call may have passed.

        Raises:
            ValueError: Training windows have fewer future frames than the last stage forecasts.
        """
        there = batch.future.shape[1]
        if max(self.frames) > there:
            raise ValueError(
                f"Unrolling forecasts up to {max(self.frames)} frames, but training windows have {there} future frames; "
                "raise data.init_args.n_future or give smaller numbers"
            )
        stage = int(np.searchsorted(self._ends, model.progress() + 1e-9, side="right"))
        frames = self.frames[min(stage, len(self.frames) - 1)]
        batch = batch._replace(future=batch.future[:, :frames])
        return self._push_forward(model, batch) if self.gradient == "last" else batch

    def _push_forward(self, model: Forecaster, batch: WindowBatch) -> WindowBatch:
        """The window of the last call, whose input is the forecast of the frames before."""
        past, future, block = batch.past, batch.future, model.block_length
        assert block is not None
        ahead = block * (math.ceil(future.shape[1] / block) - 1)
        if ahead == 0:
            return batch
        with torch.no_grad():
            forecast = model(past, ahead, *model.conditions(model.parameters_of(batch))).to(past)
        torch.clear_autocast_cache()  # which may hold weights without their gradient now
        past = torch.cat([past, forecast], dim=1)[:, -past.shape[1] :]
        return batch._replace(past=past, future=future[:, ahead:])
