"""SimVP: the first version, whose translator is a U-shaped stack of Inception blocks (IncepU)."""

from functools import partial, reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from microevo.models.blockwise import BlockwiseForecaster
from microevo.models.encoder_decoder import EncoderDecoderNet

KERNELS = (3, 5, 7, 11)
GROUPS = 8


class GroupConv(nn.Module):
    """Grouped convolution that keeps the image size, GroupNorm and LeakyReLU."""

    def __init__(self, c_in: int, c_out: int, kernel: int, groups: int):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, groups=groups)
        self.norm = nn.GroupNorm(groups, c_out)

    def forward(self, x: Float[Tensor, "B c_in h w"]) -> Float[Tensor, "B c_out h w"]:
        """Apply convolution, normalisation and activation."""
        return F.leaky_relu(self.norm(self.conv(x)), 0.2)


class InceptionBlock(nn.Module):
    """A bottleneck of 1x1, and the sum of what branches with kernels of 3, 5, 7 and 11 pixels make of it."""

    def __init__(self, c_in: int, bottleneck: int, c_out: int):
        super().__init__()
        groups = GROUPS if bottleneck % GROUPS == 0 else 1
        if c_out % groups:
            raise ValueError(
                f"frames * hid_s and hid_t must be divisible by {groups}, got {c_out}: their features are normalised in "
                f"{groups} groups."
            )
        self.reduce = nn.Conv2d(c_in, bottleneck, 1)
        self.branches = nn.ModuleList(GroupConv(bottleneck, c_out, kernel, groups) for kernel in KERNELS)

    def forward(self, x: Float[Tensor, "B c_in h w"]) -> Float[Tensor, "B c_out h w"]:
        """The sum of all branches."""
        x = self.reduce(x)
        return reduce(torch.add, (branch(x) for branch in self.branches))


class IncepU(nn.Module):
    """`n_t` blocks that encode and `n_t` blocks that decode, all at the same image size, with skip connections.

    A decoder block sees the one before it beside the output of its mirror image among the encoder blocks.
    """

    def __init__(self, width: int, hid_t: int, n_t: int):
        super().__init__()
        half = hid_t // 2
        self.encoder = nn.ModuleList(InceptionBlock(width if i == 0 else hid_t, half, hid_t) for i in range(n_t))
        self.decoder = nn.ModuleList(
            InceptionBlock(hid_t if i == 0 else 2 * hid_t, half, width if i == n_t - 1 else hid_t) for i in range(n_t)
        )

    def forward(self, x: Float[Tensor, "B n h w"]) -> Float[Tensor, "B n h w"]:
        """Translate the features of all frames together."""
        kept = []
        for block in self.encoder:
            x = block(x)
            kept.append(x)
        kept.pop()  # the last one is the input of the decoder
        x = self.decoder[0](x)
        for block in self.decoder[1:]:
            x = block(torch.cat([x, kept.pop()], dim=1))
        return x


class IncepUNet(EncoderDecoderNet):
    """SimVP with the translator IncepU: takes `frames` frames and predicts the next `frames` frames.

    Gao et al., "SimVP: Simpler yet Better Video Prediction", arXiv 2206.05099, in the form of OpenSTL. The default sizes
    have 57,946,113 parameters for ten frames of one field.

    Args:
        frames: Number of input frames, and of output frames.
        channels: Number of fields in a frame. The other arguments are those of `SimVP`.

    Raises:
        ValueError: A size is not possible, as the message says.
    """

    def __init__(
        self, frames: int = 10, channels: int = 1, hid_s: int = 64, hid_t: int = 512, n_s: int = 4, n_t: int = 8
    ):
        if n_t < 1:
            raise ValueError(f"n_t must be at least 1, got {n_t}.")
        if hid_t < 2 or hid_t % 2:
            raise ValueError(f"hid_t must be even, got {hid_t}: the blocks reduce it to its half.")
        super().__init__(frames, channels, hid_s, n_s, partial(IncepU, hid_t=hid_t, n_t=n_t))


class SimVP(BlockwiseForecaster):
    """Forecasts with an `IncepUNet` (SimVP v1), where each predicted block of `n_past` frames is the next input.

    Height and width of the frames must be divisible by `2^(n_s / 2)`.

    Args:
        hid_s: Features per frame in encoder and decoder, an even number.
        hid_t: Features of the translator, for all frames together, an even number.
        n_s: Stages of the encoder and of the decoder, an even number. Every second stage halves the image size.
        n_t: Blocks of the translator's encoder, and of its decoder.
        kwargs: Settings of every forecaster, see `Forecaster`.
    """

    def __init__(self, hid_s: int = 64, hid_t: int = 512, n_s: int = 4, n_t: int = 8, **kwargs: Any):
        super().__init__(**kwargs)
        self.save_hyperparameters(logger=False)
        self.net = IncepUNet(self.n_past, self.channels, hid_s, hid_t, n_s, n_t)
