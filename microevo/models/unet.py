"""UNet: a U-shaped convolutional network on stacked frames."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microevo.models.blockwise import BlockwiseForecaster, BlockwiseNet

GROUPS = 8


class DoubleConv(nn.Sequential):
    """Twice a 3x3 convolution, GroupNorm and GELU; the image keeps its size."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__(
            *(nn.Conv2d(c_in, c_out, 3, padding=1), nn.GroupNorm(GROUPS, c_out), nn.GELU()),
            *(nn.Conv2d(c_out, c_out, 3, padding=1), nn.GroupNorm(GROUPS, c_out), nn.GELU()),
        )


class UNetNet(BlockwiseNet):
    """U-Net: all fields of all past frames are the channels of one image, and so are those of the predicted frames.

    Ronneberger et al., "U-Net", arXiv 1505.04597: at each scale two 3x3 convolutions, between scales a maximum over 2x2
    pixels on the way down and a transposed convolution on the way up, which continues beside the features of the way
    down. Unlike there, images are padded with zeros to keep their size, and features are normalised in groups, as is
    usual where a U-Net forecasts fields (Gupta and Brandstetter, arXiv 2209.15616). The sizes of the paper, which are the
    default, have 31 million parameters.

    Args:
        frames: Number of input frames.
        channels: Number of fields in a frame.
        frames_out: Number of output frames.
        widths: Features at each scale, the finest first; each further scale is half as fine. Divisible by 8.

    Raises:
        ValueError: A size is not possible, as the message says.
    """

    remedy: ClassVar[str] = "give fewer widths or crop the frames"

    def __init__(
        self,
        frames: int = 10,
        channels: int = 1,
        frames_out: int = 10,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
    ):
        if not widths or any(width < 1 or width % GROUPS for width in widths):
            raise ValueError(
                f"widths must list at least one number, each divisible by {GROUPS}, got {list(widths)}: features are "
                f"normalised in {GROUPS} groups."
            )
        super().__init__(frames, frames_out, channels, factor=2 ** (len(widths) - 1))
        pairs = list(pairwise(widths))
        self.stem = DoubleConv(frames * channels, widths[0])
        self.down = nn.ModuleList(DoubleConv(fine, coarse) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in reversed(pairs))
        self.merge = nn.ModuleList(DoubleConv(2 * fine, fine) for fine, _ in reversed(pairs))
        self.pool = nn.MaxPool2d(2)
        self.readout = nn.Conv2d(widths[0], frames_out * channels, 1)

    def forward(self, past: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B {self.frames_out} C H W"]:
        """The `frames_out` frames that follow `past`.

        Raises:
            ValueError: The number of frames, the number of fields or the image size does not fit.
        """
        self.check_shape(past)
        x, kept = self.stem(past.flatten(1, 2)), []
        for down in self.down:
            kept.append(x)
            x = down(self.pool(x))
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([kept.pop(), up(x)], dim=1))
        return self.readout(x).unflatten(1, (self.frames_out, self.channels))


class UNet(BlockwiseForecaster):
    """Forecasts with a `UNetNet`, whose next input is the last `n_past` frames, known or predicted.

    Height and width of the frames must be divisible by 2 to the power of the number of widths less one.

    Args:
        widths: Features at each scale, the finest first; each further scale is half as fine. Divisible by 8.
        frames_per_call: Frames that it predicts in one call.
        kwargs: Settings of every forecaster, see `Forecaster`.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 512, 1024), frames_per_call: int = 10, **kwargs: Any):
        super().__init__(**kwargs)
        self.save_hyperparameters(logger=False)
        self.net = UNetNet(self.n_past, self.channels, frames_per_call, widths)
