"""RecurrentForecaster: how networks that take one frame at a time are trained and run on."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from microevo.models.forecaster import Forecaster


class RecurrentNet(nn.Module, ABC):
    """A network that sees one frame and predicts the next."""

    @abstractmethod
    def forward(self, frame: Float[Tensor, "B C h w"], state: Any) -> tuple[Float[Tensor, "B C h w"], Any]:
        """Predict the frame after `frame`.

        Args:
            frame: The present frame.
            state: What this method returned at the frame before, `None` at the first frame.

        Returns:
            The prediction, and the state to pass on with the next frame.
        """


class RecurrentForecaster(Forecaster):
    """Runs a `RecurrentNet` over the past frames and on, each prediction being the next input.

    Frames are cut into patches of `patch_size * patch_size` pixels, which become channels of a smaller image.
    Height and width must be divisible by `patch_size`; the number of past frames and the horizon are free.

    Training uses scheduled sampling (Bengio et al., arXiv 1506.03099): after the past frames the network is
    shown either the true frame or its own last prediction, drawn for each sample and step. The probability of
    the true frame falls linearly from 1 to 0. The published schedule takes 50,000 optimiser steps, so a
    shorter run would be trained almost wholly on true frames and tested wholly on predictions; here it takes
    a part of the run by default.

    Args:
        patch_size: Side of a patch [pixels].
        sampling_until: Part of the run after which no true frames are shown; 0 shows none at all.
        sampling_steps: The same as a number of optimiser steps, in place of `sampling_until`; 50000 is the
            published schedule.
        kwargs: Settings of every forecaster, see `Forecaster`.
    """

    any_past: ClassVar[bool] = True

    net: RecurrentNet

    @abstractmethod  # a subclass sets `net`
    def __init__(
        self,
        patch_size: int = 4,
        sampling_until: float = 0.5,
        sampling_steps: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if patch_size < 1:
            raise ValueError(f"patch_size must be at least 1 pixel, got {patch_size}.")
        if not 0 <= sampling_until <= 1:
            raise ValueError(f"sampling_until is a part of the run between 0 and 1, got {sampling_until}.")
        if sampling_steps is not None and sampling_steps < 0:
            raise ValueError(f"sampling_steps must not be negative, got {sampling_steps}.")
        self.save_hyperparameters(logger=False)
        self.patch_size = patch_size
        self.sampling_until, self.sampling_steps = sampling_until, sampling_steps

    @property
    def patch_channels(self) -> int:
        """Channels of a patched frame."""
        return self.patch_size**2 * self.channels

    def forward(self, past: Float[Tensor, "B n_past C H W"], horizon: int) -> Float[Tensor, "B {horizon} C H W"]:
        """Forecast the `horizon` frames that follow `past`, of which there may be any number."""
        return self.unroll(past, horizon)[:, -horizon:]

    def loss(
        self, past: Float[Tensor, "B n_past C H W"], future: Float[Tensor, "B n_future C H W"]
    ) -> Float[Tensor, ""]:
        """`objective` of the predictions of all frames but the first, those of past frames included."""
        samples, steps = len(future), future.shape[1] - 1
        shown = torch.rand(samples, steps, device=future.device) < self.sampling_probability()
        prediction = self.unroll(past, future.shape[1], future, shown)
        return self.objective(prediction, torch.cat([past[:, 1:], future], dim=1))

    def sampling_probability(self) -> float:
        """Probability that training shows the true frame rather than the prediction; 1 without a trainer."""
        if not self.attached:
            return 1.0
        steps: float
        if self.sampling_steps is None:
            steps = self.sampling_until * self.planned_steps()
        else:
            steps = self.sampling_steps
        return max(0.0, 1 - self.trainer.global_step / steps) if steps else 0.0

    def unroll(
        self,
        past: Float[Tensor, "B n_past C H W"],
        horizon: int,
        future: Float[Tensor, "B n_future C H W"] | None = None,
        shown: Bool[Tensor, "B n_shown"] | None = None,
    ) -> Float[Tensor, "B n_predicted C H W"]:
        """Predict every frame but the first: `n_past - 1` past ones, then `horizon` future ones.

        Args:
            past: Past frames, always shown.
            horizon: Frames to predict after the past.
            future: True frames after the past; without them only predictions are shown.
            shown: Where to show the true frame of `future`, whose last one is never shown.

        Raises:
            ValueError: If the image cannot be cut into patches.
        """
        n_past, height, width = past.shape[1], past.shape[3], past.shape[4]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"{type(self).__name__} needs a height and width divisible by patch_size = "
                f"{self.patch_size}, got {height} x {width}; change patch_size or crop the frames."
            )
        seen = to_patches(past, self.patch_size)
        truth = None if future is None else to_patches(future, self.patch_size)
        state: Any = None
        predictions: list[Tensor] = []
        for step in range(n_past + horizon - 1):
            if step < n_past:
                frame = seen[:, step]
            else:
                frame = predictions[-1]
                if truth is not None and shown is not None:
                    choice = rearrange(shown[:, step - n_past], "B -> B 1 1 1")
                    frame = torch.where(choice, truth[:, step - n_past], frame)
            prediction, state = self.net(frame, state)
            predictions.append(prediction)
        return from_patches(torch.stack(predictions, dim=1), self.patch_size)


def to_patches(frames: Float[Tensor, "B T C H W"], size: int) -> Float[Tensor, "B T c h w"]:
    """Cut frames into patches of `size * size` pixels: row, column and field in a patch give the channel."""
    return rearrange(frames, "B T C (h row) (w col) -> B T (row col C) h w", row=size, col=size)


def from_patches(patches: Float[Tensor, "B T c h w"], size: int) -> Float[Tensor, "B T C H W"]:
    """The inverse of `to_patches`."""
    return rearrange(patches, "B T (row col C) h w -> B T C (h row) (w col)", row=size, col=size)
