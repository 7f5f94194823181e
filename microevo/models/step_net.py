"""StepNet: what a small network sees in the neighbourhood of each pixel, and the change that it concludes from it."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class LocalConv(nn.Module):
    """3x3 convolution whose border continues as the boundary condition says."""

    def __init__(self, c_in: int, c_out: int, dilation: int = 1, periodic: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, dilation=dilation)
        self.dilation, self.mode = dilation, "circular" if periodic else "replicate"

    def forward(self, x: Float[Tensor, "B c_in H W"]) -> Float[Tensor, "B c_out H W"]:
        """The convolution of the continued field."""
        return self.conv(F.pad(x, (self.dilation,) * 4, mode=self.mode))


class Block(nn.Module):
    """Residual convolution, `x + gelu(conv(x))`; a context vector may scale and shift what the convolution gives."""

    def __init__(self, width: int, dilation: int, periodic: bool, context: int):
        super().__init__()
        self.conv = LocalConv(width, width, dilation, periodic)
        self.modulation = nn.Linear(context, 2 * width) if context else None

    def forward(self, x: Float[Tensor, "B c H W"], context: Float[Tensor, "B k"] | None) -> Float[Tensor, "B c H W"]:
        """`x` with its residual."""
        hidden = self.conv(x)
        if self.modulation is not None and context is not None:
            scale, shift = self.modulation(context)[..., None, None].chunk(2, dim=1)
            hidden = hidden * (1 + scale) + shift
        return x + F.gelu(hidden)


class ContextEncoder(nn.Module):
    """A vector that describes a whole sequence of frames, for instance how fast it evolves."""

    def __init__(self, channels: int, size: int, width: int = 32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(2 * channels, width, 4, stride=4), nn.SiLU(), nn.Conv2d(width, width, 2, stride=2), nn.SiLU()
        )
        self.head = nn.Linear(width, size)

    def forward(self, past: Float[Tensor, "B T C H W"], scale: Float[Tensor, " C"]) -> Float[Tensor, "B k"]:
        """The mean of what each pair of successive frames says."""
        changes = past.diff(dim=1) / scale[:, None, None]
        pairs = torch.cat([past[:, 1:], changes], dim=2)
        features = self.net(pairs.flatten(0, 1)).mean(dim=(2, 3))
        return self.head(features.unflatten(0, pairs.shape[:2]).mean(dim=1))


class StepNet(nn.Module):
    """Change of the fields from the last input frame to the next frames, seen from a neighbourhood of each pixel.

    With one entry in `widths` the network is a row of residual 3x3 convolutions. Each further entry adds a scale, half as
    fine as the one before, which the network goes down to and comes back from (a U shape), so that it sees farther
    at little cost.

    Args:
        channels: Fields in a frame.
        frames_in: Frames that it sees.
        frames_out: Frames that it advances in one call.
        widths: Features at each scale, the finest first.
        blocks: Residual convolutions at each scale, on the way down and again on the way up.
        dilations: Dilation of the convolutions at the finest scale, repeated as often as needed.
        patch: Side of the patches that are folded into features before the first convolution [px].
        periodic: Whether opposite borders of a frame are neighbours. Otherwise frames are mirrored at their borders.
        context: Size of the context vector; 0 for none.
        outputs: Numbers for each field, frame and pixel: 1 for a change, 2 for fluxes along y and x.
    """

    def __init__(
        self,
        channels: int,
        frames_in: int = 1,
        frames_out: int = 1,
        widths: Sequence[int] = (64,),
        blocks: int = 5,
        dilations: Sequence[int] = (1,),
        patch: int = 2,
        periodic: bool = True,
        context: int = 0,
        outputs: int = 1,
    ):
        super().__init__()
        self.patch, self.periodic, self.scales = patch, periodic, len(widths)
        self.blocks, self.dilations = blocks, [dilations[i % len(dilations)] for i in range(blocks)]

        def row(width: int, level: int) -> nn.ModuleList:
            steps = self.dilations if level == 0 else [1] * blocks
            return nn.ModuleList(Block(width, dilation, periodic, context) for dilation in steps)

        folded = patch**2
        self.stem = LocalConv(frames_in * channels * folded, widths[0], periodic=periodic)
        self.down_blocks = nn.ModuleList(row(width, level) for level, width in enumerate(widths))
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.up_blocks = nn.ModuleList(row(fine, level) for level, (fine, _) in enumerate(pairs))
        self.head = LocalConv(widths[0], outputs * frames_out * channels * folded, periodic=periodic)
        nn.init.normal_(self.head.conv.weight, std=1e-3)  # an untrained network forecasts next to no change
        assert self.head.conv.bias is not None
        nn.init.zeros_(self.head.conv.bias)

    @property
    def unit(self) -> int:
        """Number of pixels that height and width must be divisible by."""
        return self.patch * 2 ** (self.scales - 1)

    @property
    def receptive_field(self) -> int:
        """Largest distance of a pixel that can influence the change of another one, along an axis [px]."""
        finest = self.patch * (2 + sum(self.dilations) * (2 if self.scales > 1 else 1))
        coarser = sum(
            self.patch * 2**level * self.blocks * (2 if level < self.scales - 1 else 1)
            for level in range(1, self.scales)
        )
        return finest + coarser + self.unit - 1  # the last term: how far the cells of the coarsest scale reach

    def forward(
        self, frames: Float[Tensor, "B n C H W"], context: Float[Tensor, "B k"] | None = None
    ) -> Float[Tensor, "B m H W"]:
        """The outputs for all frames and fields in one axis, `m = frames_out * outputs * C`."""
        x = F.gelu(self.stem(F.pixel_unshuffle(frames.flatten(1, 2), self.patch)))
        kept = []
        for level, blocks in enumerate(self.down_blocks):
            if level:
                kept.append(x)
                x = self.down[level - 1](x)
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, context)
        for level in reversed(range(self.scales - 1)):
            x = self.up[level](x) + kept[level]
            for block in self.up_blocks[level]:  # type: ignore[attr-defined]
                x = block(x, context)
        return F.pixel_shuffle(self.head(x), self.patch)
