"""EncoderDecoderNet: the frame of all SimVP networks, into which each of them puts a translator of its own."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from microevo.models.blockwise import BlockwiseNet
from microevo.models.convolutions import PatchConv2d, PointwiseConv2d, arranged

# At a time, as 16 MiB. For arrays above 32 MiB the C library asks the system for new pages each time, which then costs up to
# a third of a training step.
FEATURES_AT_A_TIME = 2**22


class ConvStage(nn.Module):
    """3x3 convolution, GroupNorm and SiLU, which halve, keep or double the image size."""

    def __init__(self, c_in: int, c_out: int, resize: Literal["down", "keep", "up"] = "keep"):
        super().__init__()
        up = resize == "up"
        self.conv = PatchConv2d(c_in, 4 * c_out if up else c_out, 3, stride=2 if resize == "down" else 1, padding=1)
        self.shuffle = nn.PixelShuffle(2) if up else nn.Identity()
        self.norm = nn.GroupNorm(2, c_out)
        nn.init.trunc_normal_(self.conv.weight, std=0.02)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Float[Tensor, "B c_in H W"]) -> Float[Tensor, "B c_out h w"]:
        """Apply convolution, normalisation and activation."""
        return F.silu(self.norm(self.shuffle(self.conv(x))), inplace=not torch.is_grad_enabled())


class Encoder(nn.Module):
    """Encodes each frame alone as `hid_s` features, at `1 / 2^(n_s/2)` of the image size."""

    def __init__(self, channels: int, hid_s: int, n_s: int):
        super().__init__()
        self.hid_s = hid_s
        self.stages = nn.ModuleList(
            ConvStage(channels if i == 0 else hid_s, hid_s, "down" if i % 2 else "keep") for i in range(n_s)
        )

    def forward(self, frames: Float[Tensor, "N C H W"]) -> tuple[Float[Tensor, "N c h w"], Float[Tensor, "N c H W"]]:
        """The features of each frame, and those of the first stage, at full size, for the skip connection."""
        x = skip = self.stages[0](frames)
        for stage in self.stages[1:]:
            x = stage(x)
        return x, skip


class Decoder(nn.Module):
    """The mirrored encoder. The skip connection is added, not concatenated, before the last stage."""

    def __init__(self, channels: int, hid_s: int, n_s: int):
        super().__init__()
        self.stages = nn.ModuleList(ConvStage(hid_s, hid_s, "keep" if i % 2 else "up") for i in range(n_s))
        self.readout = PointwiseConv2d(hid_s, channels)

    def forward(self, x: Float[Tensor, "N c h w"], skip: Float[Tensor, "N c H W"]) -> Float[Tensor, "N C H W"]:
        """The frames, decoded from their features."""
        for stage in self.stages[:-1]:
            x = stage(x)
        return self.readout(self.stages[-1](x + skip))


class EncoderDecoderNet(BlockwiseNet):
    """Encodes each frame, translates the features of all frames together, and decodes each frame.

    The translator sees `frames * hid_s` channels, frame by frame, and predicts as many frames as it sees.

    Args:
        frames: Number of input frames, and of output frames.
        channels: Number of fields in a frame.
        hid_s: Features per frame in encoder and decoder, an even number.
        n_s: Stages of the encoder and of the decoder, an even number. Every second stage halves the image size.
        translator: Builds the translator for a number of channels.

    Raises:
        ValueError: A size is not possible, as the message says.
    """

    remedy: ClassVar[str] = "lower n_s or crop the frames"

    def __init__(self, frames: int, channels: int, hid_s: int, n_s: int, translator: Callable[[int], nn.Module]):
        if n_s < 2 or n_s % 2:
            raise ValueError(f"n_s must be 2, 4, 6, ..., got {n_s}: encoder stages come in pairs.")
        if hid_s < 2 or hid_s % 2:
            raise ValueError(f"hid_s must be even, got {hid_s}: its features are normalised in 2 groups.")
        super().__init__(frames, frames, channels, factor=2 ** (n_s // 2))
        self.encoder = Encoder(channels, hid_s, n_s)
        self.translator = translator(frames * hid_s)
        self.decoder = Decoder(channels, hid_s, n_s)

    def forward(self, past: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T C H W"]:
        """The `frames` frames that follow `past`.

        Raises:
            ValueError: The number of frames, the number of fields or the image size does not fit.
        """
        self.check_shape(past)
        batch, few = past.shape[0], self._few(past)  # `len` would make a constant of it in an exported program
        frames = arranged(rearrange(past, "B T C H W -> (B T) C H W"))
        encoded = [self.encoder(some) for some in parted(frames, few)]
        latent = rearrange(joined([x for x, _ in encoded]), "(B T) c h w -> B (T c) h w", B=batch)
        latent = self.translator(arranged(latent))
        latent = arranged(rearrange(latent, "B (T c) h w -> (B T) c h w", T=self.frames))
        parts = zip(parted(latent, few), encoded, strict=True)
        frames = joined([self.decoder(x, skip) for x, (_, skip) in parts])
        return rearrange(frames, "(B T) C H W -> B T C H W", B=batch)

    def _few(self, past: Float[Tensor, "B T C H W"]) -> int | None:
        """Number of frames to encode or decode at a time; None for all of them."""
        if past.device.type != "cpu" or torch.compiler.is_exporting():
            return None
        return max(1, FEATURES_AT_A_TIME // (self.encoder.hid_s * past.shape[-2] * past.shape[-1]))


def parted(frames: Float[Tensor, "N c h w"], few: int | None) -> Sequence[Float[Tensor, "_ c h w"]]:
    """A few frames at a time."""
    return [frames] if few is None else frames.split(few)


def joined(parts: list[Float[Tensor, "_ c h w"]]) -> Float[Tensor, "N c h w"]:
    """The frames of all parts, without a copy where there is one."""
    return torch.cat(parts) if len(parts) > 1 else parts[0]
