"""BlockwiseForecaster: training and forecasting with a network that predicts several frames in one pass."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microevo.models.network import NetworkForecaster
from microevo.models.padding import Padding, continue_borders


class BlockwiseNet(nn.Module, ABC):
    """A network that takes `frames` frames and predicts the next `frames_out` frames.

    Args:
        frames: Number of input frames.
        frames_out: Number of output frames.
        channels: Number of fields in a frame.
        factor: Number that height and width must be divisible by [pixels].
    """

    remedy: ClassVar[str] = "crop the frames"  # for an image size that does not fit

    def __init__(self, frames: int, frames_out: int, channels: int, factor: int):
        super().__init__()
        for name, value in {"frames": frames, "frames_out": frames_out, "channels": channels}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        self.frames, self.frames_out, self.channels, self.factor = frames, frames_out, channels, factor

    @abstractmethod
    def forward(self, past: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B {self.frames_out} C H W"]:
        """The frames that follow `past`.

        Raises:
            ValueError: The number of frames, the number of fields or the image size does not fit.
        """

    def check_shape(self, past: Float[Tensor, "B T C H W"]) -> None:
        """Check that the network was built for frames like these.

        Raises:
            ValueError: The number of frames, the number of fields or the image size does not fit.
        """
        _, frames, channels, height, width = past.shape
        if (frames, channels) != (self.frames, self.channels):
            raise ValueError(
                f"The network takes {self.frames} frames of {self.channels} field(s), got {frames} frames of "
                f"{channels} field(s); build it with frames={frames}, channels={channels}."
            )
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"The network needs a height and width divisible by {self.factor}, got {height} x {width}; {self.remedy}."
            )


class BlockwiseForecaster(NetworkForecaster):
    """Forecasts with a `BlockwiseNet`, whose predictions are its next input.

    Args:
        increments: Whether the network predicts the change of each frame from the last input frame, in units of the root mean
            square change between frames of the training split, which is kept in the checkpoint.
        padding: What convolutions see beyond the border of a frame: `zeros`, as published, or with `boundary` what the
            physics has there: the other side of a periodic frame, the mirror image at a wall.
        kwargs: Settings of every network, see `NetworkForecaster`.
    """

    net: BlockwiseNet
    change_rms: Tensor

    @abstractmethod  # a subclass sets `net`
    def __init__(self, increments: bool = False, padding: Padding = "zeros", **kwargs: Any):
        super().__init__(**kwargs)
        self.save_hyperparameters(logger=False)
        self.increments, self.padding = increments, padding
        if increments:
            self.register_buffer("change_rms", torch.ones(self.channels))

    def setup(self, stage: str) -> None:
        """Measure the changes between frames, if a new training predicts them."""
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if self.increments and data is not None and self.is_new(stage):
            self.change_rms.copy_(torch.from_numpy(data.change_statistics().change_rms))

    @property
    def unit(self) -> int:
        """Number of pixels that must divide height and width of the frames."""
        return self.net.factor

    @property
    def block_length(self) -> int:
        """Number of frames that one call of the network predicts."""
        return self.net.frames_out

    def forward(self, past: Float[Tensor, "B n_past C H W"], horizon: int) -> Float[Tensor, "B {horizon} C H W"]:
        """Forecast the `horizon` frames that follow `past`, which holds `n_past` frames."""
        if self.padding == "boundary":
            continue_borders(self.net, self.periodic)
        return rollout(self.block, past, horizon)

    def block(self, past: Float[Tensor, "B n_past C H W"]) -> Float[Tensor, "B m C H W"]:
        """The frames that one call of the network predicts."""
        frames = self.call(self.net, past)
        return past[:, -1:] + self.change_rms[:, None, None] * frames if self.increments else frames


def rollout(
    net: Callable[[Tensor], Tensor], past: Float[Tensor, "B T C H W"], horizon: int
) -> Float[Tensor, "B {horizon} C H W"]:
    """Forecast `horizon` frames with a network that predicts one or more frames in one pass.

    The next input is always the last T frames, known or predicted. If the network predicts T frames, it is thus the
    block that was predicted. The last block is cut to the horizon. The gradient flows through all blocks.
    """
    frames, blocks, missing = past.shape[1], [], horizon
    while missing > 0:
        block = net(past)
        blocks.append(block)
        missing -= block.shape[1]
        past = block if block.shape[1] == frames else torch.cat([past, block], dim=1)[:, -frames:]
    return torch.cat(blocks, dim=1)[:, :horizon]
