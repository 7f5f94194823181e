"""MinimalCNN: the network that learns a law of evolution from a single simulation, as published."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microevo.models.blockwise import BlockwiseForecaster, BlockwiseNet
from microevo.models.normalisation import BatchNorm2d
from microevo.models.padding import Padding

MARGIN = 0.02  # how far a bounded forecast may leave the range of the training data, as a share of that range


class NormalisedConv(nn.Sequential):
    """Convolution that keeps the image size, batch normalisation and GELU."""

    def __init__(self, c_in: int, c_out: int, kernel: int):
        super().__init__(nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), BatchNorm2d(c_out), nn.GELU())


class FusedBlock(nn.Module):
    """Two convolutions, whose features are merged with those before them by a 1x1 convolution."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.convs = nn.Sequential(NormalisedConv(width, width, kernel), NormalisedConv(width, width, kernel))
        self.fuse = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B c H W"]:
        """The merged features."""
        return self.fuse(torch.cat([self.convs(x), x], dim=1))


class MinimalCNNNet(BlockwiseNet):
    """The convolutional network of arXiv 2511.10171: a row of residual blocks at full resolution.

    With the published sizes, 8 blocks of 32 features and 3x3 kernels, it has 166,049 parameters and sees 17 pixels to each side.

    Args:
        frames: Number of input frames.
        channels: Number of fields in a frame.
        frames_out: Number of output frames.
        width: Features.
        blocks: Blocks of two convolutions.
        kernel: Side of the kernels, odd [px].

    Raises:
        ValueError: A size is not possible, as the message says.
    """

    def __init__(
        self, frames: int = 1, channels: int = 1, frames_out: int = 1, width: int = 32, blocks: int = 8, kernel: int = 3
    ):
        for name, value in {"width": width, "blocks": blocks}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        if kernel % 2 == 0 or kernel < 1:
            raise ValueError(f"kernel must be odd, so that images keep their size, got {kernel}.")
        super().__init__(frames, frames_out, channels, factor=1)
        self.first = NormalisedConv(frames * channels, width, kernel)
        self.blocks = nn.Sequential(*(FusedBlock(width, kernel) for _ in range(blocks)))
        self.last = nn.Conv2d(width, frames_out * channels, 1)

    def forward(self, past: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B {self.frames_out} C H W"]:
        """The `frames_out` frames that follow `past`.

        Raises:
            ValueError: The number of frames or the number of fields does not fit.
        """
        self.check_shape(past)
        return self.last(self.blocks(self.first(past.flatten(1, 2)))).unflatten(1, (self.frames_out, self.channels))


class MinimalCNN(BlockwiseForecaster):
    """Forecasts frame by frame with a `MinimalCNNNet`.

    As published it sees one frame (`n_past: 1` of the data), wraps around periodic frames, is trained on single steps with
    noise of 1e-4 on its input, and a sigmoid keeps its forecasts in the range of the data.

    Args:
        width: Features.
        blocks: Blocks of two convolutions.
        kernel: Side of the kernels, odd [px].
        frames_per_call: Frames that it predicts in one call.
        bounded: Whether forecasts stay within the range of each field in the training split, and a fiftieth of it beyond. That
            range is kept in the checkpoint. Not together with increments.
        padding: What convolutions see beyond the border of a frame, see `BlockwiseForecaster`.
        kwargs: Settings of every network of blocks, see `BlockwiseForecaster`.

    Raises:
        ValueError: A setting is out of its range.
    """

    lowest: Tensor
    highest: Tensor

    def __init__(
        self,
        width: int = 32,
        blocks: int = 8,
        kernel: int = 3,
        frames_per_call: int = 1,
        bounded: bool = True,
        padding: Padding = "boundary",
        **kwargs: Any,
    ):
        super().__init__(padding=padding, **kwargs)
        self.save_hyperparameters(logger=False)
        if bounded and self.increments:
            raise ValueError(
                "increments have no bounds, but bounded and increments are both true; set bounded to false"
            )
        self.bounded = bounded
        self.net = MinimalCNNNet(self.n_past, self.channels, frames_per_call, width, blocks, kernel)
        if bounded:
            self.register_buffer("lowest", torch.zeros(self.channels))
            self.register_buffer("highest", torch.ones(self.channels))

    def setup(self, stage: str) -> None:
        """Measure the range of the fields when a new training begins."""
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if self.bounded and data is not None and self.is_new(stage):
            changes = data.change_statistics()
            lowest, highest = torch.from_numpy(changes.lowest), torch.from_numpy(changes.highest)
            self.lowest.copy_(lowest - MARGIN * (highest - lowest))
            self.highest.copy_(highest + MARGIN * (highest - lowest))

    def block(self, past: Float[Tensor, "B n_past C H W"]) -> Float[Tensor, "B m C H W"]:
        """The frames that one call of the network predicts."""
        frames = super().block(past)
        if not self.bounded:
            return frames
        return self.lowest[:, None, None] + (self.highest - self.lowest)[:, None, None] * frames.sigmoid()
