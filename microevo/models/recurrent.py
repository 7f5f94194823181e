"""RecurrentForecaster: training and forecasting with a network that takes one frame at a time."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from microevo.models.network import NetworkForecaster
from microevo.models.padding import Padding, continue_borders
from microevo.models.randomness import draw_for_windows

Features = Float[Tensor, "B n h w"]


class RecurrentNet(nn.Module, ABC):
    """A network that takes one frame and predicts the next."""

    @abstractmethod
    def forward(self, frame: Float[Tensor, "B C h w"], state: Any) -> tuple[Float[Tensor, "B C h w"], Any]:
        """Predict the frame after `frame`.

        Args:
            frame: The current frame.
            state: The state that was returned for the frame before; None at the first frame.

        Returns:
            The prediction, and the state to pass on with the next frame.
        """


def stacked(
    cell: Callable[[int, int, int], nn.Module], channels: int, hidden: Sequence[int], filter_size: int
) -> nn.ModuleList:
    """One cell for each layer, built for its input channels, its features and the side of its convolution kernels.

    Raises:
        ValueError: There is no layer, a layer has no features, or `filter_size` is even.
    """
    if not hidden or min(hidden) < 1:
        raise ValueError(
            f"There must be at least one layer, each with at least 1 feature, got hidden = {list(hidden)}."
        )
    if filter_size < 1 or filter_size % 2 == 0:
        raise ValueError(f"filter_size must be odd to keep the image size, got {filter_size}.")
    return nn.ModuleList(cell(c_in, n, filter_size) for c_in, n in zip([channels, *hidden], hidden, strict=False))


def gate_conv(c_in: int, c_out: int, filter_size: int) -> nn.Conv2d:
    """A convolution of the cells: without bias, and the image keeps its size."""
    return nn.Conv2d(c_in, c_out, filter_size, padding=filter_size // 2, bias=False)


def zero_state(frame: Float[Tensor, "B C h w"], features: int) -> Float[Tensor, "B {features} h w"]:
    """The state of a layer before the first frame."""
    return frame.new_zeros(frame.shape[0], features, *frame.shape[2:])


def gated(state: Tensor, forget: Tensor, enter: Tensor, candidate: Tensor) -> Tensor:
    """The state of an LSTM after one step: what the forget gate keeps, plus what the input gate takes in.

    All but `state` are given before their nonlinearity.
    """
    return forget.sigmoid() * state + enter.sigmoid() * candidate.tanh()


class StackedNet(RecurrentNet):
    """Stacked convolutional cells and a 1x1 readout convolution.

    A cell maps its input and its state to its new state. The first tensor of a state is the input of the next layer.

    Args:
        channels: Number of channels of a frame.
        hidden: Number of features of each layer.
        filter_size: Side of the convolution kernels, an odd number [pixels].
        cell: The cell with further settings, if it has any.

    Raises:
        ValueError: There is no layer, a layer has no features, or `filter_size` is even.
    """

    cell: ClassVar[type[nn.Module]]
    states: ClassVar[int]  # number of tensors in the state of a cell

    def __init__(
        self,
        channels: int,
        hidden: Sequence[int] = (128, 128, 128, 128),
        filter_size: int = 5,
        cell: Callable[..., nn.Module] | None = None,
    ):
        super().__init__()
        self.hidden = tuple(hidden)
        self.cells = stacked(cell or self.cell, channels, hidden, filter_size)
        self.readout = gate_conv(hidden[-1], channels, 1)

    def forward(
        self, frame: Float[Tensor, "B C h w"], state: list[tuple[Tensor, ...]] | None
    ) -> tuple[Float[Tensor, "B C h w"], list[tuple[Tensor, ...]]]:
        """Predict the frame after `frame`. The state holds that of each layer."""
        if state is None:
            state = [(zero_state(frame, n),) * self.states for n in self.hidden]
        x, new_state = frame, []
        for cell, old in zip(self.cells, state, strict=True):
            new_state.append(cell(x, *old))
            x = new_state[-1][0]
        return self.readout(x), new_state


class RecurrentForecaster(NetworkForecaster):
    """Runs a `RecurrentNet` over the past frames, and then continues with each prediction as the next input.

    Frames are cut into patches of `patch_size * patch_size` pixels, which become the channels of a smaller image.
    Height and width must be divisible by `patch_size`. The number of past frames and the horizon are arbitrary.

    Training uses scheduled sampling (Bengio et al., arXiv 1506.03099): after the past frames, the input of each
    sample and step is chosen at random to be either the true frame or the network's own last prediction. The
    probability of the true frame decreases linearly from 1 to 0. The published schedule takes 50,000 optimiser
    steps. A shorter run would be trained almost entirely on true frames and tested entirely on predictions, so the
    schedule here takes a fraction of the run by default.

    Args:
        patch_size: Side of a patch [pixels].
        sampling_until: Fraction of the run after which no true frames are used; 0 uses none at all.
        sampling_steps: The same as a number of optimiser steps, instead of `sampling_until`. The published
            schedule has 50000.
        padding: What convolutions see beyond the border of a frame: `zeros`, as published, or with `boundary` what the
            physics has there: the other side of a periodic frame, the mirror image at a wall.
        kwargs: Settings of every network, see `NetworkForecaster`.

    Raises:
        ValueError: `patch_size` is below 1, `sampling_until` is not a fraction, or `sampling_steps` is negative.
    """

    any_past = True

    net: RecurrentNet

    @abstractmethod  # a subclass sets `net`
    def __init__(
        self,
        patch_size: int = 4,
        sampling_until: float = 0.5,
        sampling_steps: int | None = None,
        padding: Padding = "zeros",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if patch_size < 1:
            raise ValueError(f"patch_size must be at least 1 pixel, got {patch_size}.")
        if not 0 <= sampling_until <= 1:
            raise ValueError(f"sampling_until is a fraction of the run between 0 and 1, got {sampling_until}.")
        if sampling_steps is not None and sampling_steps < 0:
            raise ValueError(f"sampling_steps must not be negative, got {sampling_steps}.")
        self.save_hyperparameters(logger=False)
        self.patch_size, self.padding = patch_size, padding
        self.sampling_until, self.sampling_steps = sampling_until, sampling_steps

    @property
    def patch_channels(self) -> int:
        """Number of channels of a frame that is cut into patches."""
        return self.patch_size**2 * self.channels

    def forward(self, past: Float[Tensor, "B n_past C H W"], horizon: int) -> Float[Tensor, "B {horizon} C H W"]:
        """Forecast the `horizon` frames that follow `past`, which holds any number of frames."""
        return self.unroll(past, horizon)[:, -horizon:]

    @property
    def unit(self) -> int:
        """Number of pixels that must divide height and width of the frames."""
        return self.patch_size

    def loss(  # type: ignore[override]  # no recurrent network takes parameters yet
        self, past: Float[Tensor, "B n_past C H W"], future: Float[Tensor, "B n_future C H W"]
    ) -> Float[Tensor, ""]:
        """`objective` and `physics` of the predictions of all frames but the first, including the past ones."""
        samples, steps = len(future), future.shape[1] - 1
        chance = draw_for_windows(lambda count: torch.rand(count, steps, device=future.device), samples)
        is_true = chance < self.sampling_probability()
        prediction = self.unroll(past, future.shape[1], future, is_true)
        error = self.objective(prediction, torch.cat([past[:, 1:], future], dim=1))
        return error + self.physics(past[:, :1], prediction)

    def sampling_probability(self) -> float:
        """Probability of the true frame as input, rather than the prediction; 1 without a trainer."""
        if not self.attached:
            return 1.0
        if self.sampling_steps is None and self.timed:
            return max(0.0, 1 - self.progress() / self.sampling_until) if self.sampling_until else 0.0
        steps = self.sampling_until * self.planned_steps() if self.sampling_steps is None else self.sampling_steps
        return max(0.0, 1 - self.trainer.global_step / steps) if steps else 0.0

    def unroll(
        self,
        past: Float[Tensor, "B n_past C H W"],
        horizon: int,
        future: Float[Tensor, "B n_future C H W"] | None = None,
        is_true: Bool[Tensor, "B n_chosen"] | None = None,
    ) -> Float[Tensor, "B n_predicted C H W"]:
        """Predict every frame but the first: `n_past - 1` past ones, then `horizon` future ones.

        Args:
            past: Past frames, which are always the inputs of their steps.
            horizon: Number of frames to predict after the past.
            future: True frames after the past. Without them all further inputs are predictions.
            is_true: Whether the input of a step after the past is the true frame of `future` rather than the
                prediction. The last frame of `future` is never an input.

        Raises:
            ValueError: The image cannot be cut into patches.
        """
        n_past, height, width = past.shape[1], past.shape[3], past.shape[4]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"{type(self).__name__} needs a height and width divisible by patch_size = "
                f"{self.patch_size}, got {height} x {width}; change patch_size or crop the frames."
            )
        if self.padding == "boundary":
            continue_borders(self.net, self.periodic)
        past_patches = to_patches(past, self.patch_size)
        future_patches = None if future is None else to_patches(future, self.patch_size)
        state: Any = None
        predictions: list[Tensor] = []
        for step in range(n_past + horizon - 1):
            if step < n_past:
                frame = past_patches[:, step]
            else:
                frame = predictions[-1]
                if future_patches is not None and is_true is not None:
                    choice = rearrange(is_true[:, step - n_past], "B -> B 1 1 1")
                    frame = torch.where(choice, future_patches[:, step - n_past], frame)
            prediction, state = self.call(self.net, frame, state)
            predictions.append(prediction)
        return from_patches(torch.stack(predictions, dim=1), self.patch_size)


def to_patches(frames: Float[Tensor, "B T C H W"], size: int) -> Float[Tensor, "B T c h w"]:
    """Cut frames into patches of `size * size` pixels; row, column and field within a patch become the channel."""
    return rearrange(frames, "B T C (h row) (w col) -> B T (row col C) h w", row=size, col=size)


def from_patches(patches: Float[Tensor, "B T c h w"], size: int) -> Float[Tensor, "B T C H W"]:
    """The inverse of `to_patches`."""
    return rearrange(patches, "B T (row col C) h w -> B T C (h row) (w col)", row=size, col=size)
