"""FCN: SimVPv2 with gated spatiotemporal attention (gSTA), a fully convolutional forecaster."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from microevo.models.forecaster import Forecaster


class ConvStage(nn.Module):
    """3x3 convolution, GroupNorm and SiLU, which halve, keep or double the image size."""

    def __init__(self, c_in: int, c_out: int, resize: Literal["down", "keep", "up"] = "keep"):
        super().__init__()
        up = resize == "up"
        self.conv = nn.Conv2d(c_in, 4 * c_out if up else c_out, 3, stride=2 if resize == "down" else 1, padding=1)
        self.shuffle = nn.PixelShuffle(2) if up else nn.Identity()
        self.norm = nn.GroupNorm(2, c_out)
        nn.init.trunc_normal_(self.conv.weight, std=0.02)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Float[Tensor, "B c_in H W"]) -> Float[Tensor, "B c_out h w"]:
        """Apply convolution, normalisation and activation."""
        return F.silu(self.norm(self.shuffle(self.conv(x))))


class Encoder(nn.Module):
    """Encodes each frame alone as `hid_s` features, at `1 / 2^(n_s/2)` of the image size."""

    def __init__(self, channels: int, hid_s: int, n_s: int):
        super().__init__()
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
        self.readout = nn.Conv2d(hid_s, channels, 1)

    def forward(self, x: Float[Tensor, "N c h w"], skip: Float[Tensor, "N c H W"]) -> Float[Tensor, "N C H W"]:
        """The frames, decoded from their features."""
        for stage in self.stages[:-1]:
            x = stage(x)
        return self.readout(self.stages[-1](x + skip))


class GatedAttention(nn.Module):
    """gSTA: features gated by their neighbourhood, seen through a 5x5 and a dilated 7x7 depthwise convolution."""

    def __init__(self, n: int):
        super().__init__()
        self.project_in = nn.Conv2d(n, n, 1)
        self.near = nn.Conv2d(n, n, 5, padding=2, groups=n)
        self.far = nn.Conv2d(n, n, 7, padding=9, dilation=3, groups=n)
        self.split = nn.Conv2d(n, 2 * n, 1)
        self.project_out = nn.Conv2d(n, n, 1)

    def forward(self, u: Float[Tensor, "B n h w"]) -> Float[Tensor, "B n h w"]:
        """Gate the normalised features `u`."""
        v = F.gelu(self.project_in(u))
        value, gate = self.split(self.far(self.near(v))).chunk(2, dim=1)
        return self.project_out(gate.sigmoid() * value)


class ConvMLP(nn.Module):
    """Pointwise expansion, depthwise 3x3, GELU, pointwise projection."""

    def __init__(self, n: int, hidden: int):
        super().__init__()
        self.expand = nn.Conv2d(n, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.project = nn.Conv2d(hidden, n, 1)

    def forward(self, x: Float[Tensor, "B n h w"]) -> Float[Tensor, "B n h w"]:
        """Mix the features of each pixel and its neighbours."""
        return self.project(F.gelu(self.depthwise(self.expand(x))))


class TranslatorBlock(nn.Module):
    """Attention and MLP, each with BatchNorm, layer scale, stochastic depth and a residual connection."""

    def __init__(self, n: int, mlp_ratio: float, drop_path: float):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(n)
        self.attention = GatedAttention(n)
        self.scale1 = nn.Parameter(torch.full((n, 1, 1), 0.01))
        self.norm2 = nn.BatchNorm2d(n)
        self.mlp = ConvMLP(n, int(mlp_ratio * n))
        self.scale2 = nn.Parameter(torch.full((n, 1, 1), 0.01))
        self.drop_path = drop_path
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                fan_out = math.prod(conv.kernel_size) * conv.out_channels // conv.groups
                nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
                assert conv.bias is not None
                nn.init.zeros_(conv.bias)

    def forward(self, x: Float[Tensor, "B n h w"]) -> Float[Tensor, "B n h w"]:
        """Add the attention branch, then the MLP branch."""
        u = self.norm1(x)
        # The residual connection inside the branch adds the normalised input u, not x.
        x = x + self._keep(x) * self.scale1 * (self.attention(u) + u)
        return x + self._keep(x) * self.scale2 * self.mlp(self.norm2(x))

    def _keep(self, x: Float[Tensor, "B n h w"]) -> Float[Tensor, "B 1 1 1"]:
        """Stochastic depth: 0 for a dropped sample, the inverse survival probability for the others."""
        return F.dropout(x.new_ones(len(x), 1, 1, 1), self.drop_path, self.training)


class Translator(nn.Sequential):
    """`n_t` blocks on all frames together, the first at `width` channels and the others at `hid_t`."""

    def __init__(self, width: int, hid_t: int, n_t: int, mlp_ratio: float, drop_path: float):
        sizes = [width, *[hid_t] * (n_t - 1), width]
        # The rates of the reference start at 0.01 even for drop_path = 0, which still drops up to 1 % of the
        # branches. Here 0 means none.
        rates = [*torch.linspace(min(0.01, drop_path), drop_path, n_t - 1, device="cpu").tolist(), drop_path]
        layers: list[nn.Module] = []
        for n, n_next, rate in zip(sizes, sizes[1:], rates, strict=False):
            layers.append(TranslatorBlock(n, mlp_ratio, rate))
            if n != n_next:
                layers.append(nn.Conv2d(n, n_next, 1))
        super().__init__(*layers)


class SimVPNet(nn.Module):
    """SimVPv2 with gSTA: takes `frames` frames and predicts the next `frames` frames.

    Tan et al., "SimVPv2: Towards Simple yet Powerful Spatiotemporal Predictive Learning", arXiv 2211.12509.
    The default sizes are those of arXiv 2602.19915 (18,603,009 parameters for one field). The first translator
    block has `frames * hid_s` channels and is by far the widest. Height and width must be divisible by
    `2^(n_s / 2)`.

    Args:
        frames: Number of input frames, and of output frames.
        channels: Number of fields in a frame.
        hid_s: Features per frame in encoder and decoder, an even number.
        hid_t: Features of the translator, for all frames together.
        n_s: Stages of the encoder and of the decoder, an even number. Every second stage halves the image size.
        n_t: Blocks of the translator, at least 2.
        mlp_ratio: Expansion ratio of the MLP in each block.
        drop_path: Probability of stochastic depth in the last block; 0 disables it in all blocks.

    Raises:
        ValueError: A size is not possible, as the message says.
    """

    def __init__(
        self,
        frames: int = 10,
        channels: int = 1,
        hid_s: int = 64,
        hid_t: int = 256,
        n_s: int = 4,
        n_t: int = 8,
        mlp_ratio: float = 8.0,
        drop_path: float = 0.0,
    ):
        super().__init__()
        if n_s < 2 or n_s % 2:
            raise ValueError(f"n_s must be 2, 4, 6, ..., got {n_s}: encoder stages come in pairs.")
        if n_t < 2:
            raise ValueError(f"n_t must be at least 2, got {n_t}: the first and the last block change the width.")
        if hid_s < 2 or hid_s % 2:
            raise ValueError(f"hid_s must be even, got {hid_s}: its features are normalised in 2 groups.")
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path is a probability below 1, got {drop_path}.")
        self.frames, self.channels, self.factor = frames, channels, 2 ** (n_s // 2)
        self.encoder = Encoder(channels, hid_s, n_s)
        self.translator = Translator(frames * hid_s, hid_t, n_t, mlp_ratio, drop_path)
        self.decoder = Decoder(channels, hid_s, n_s)

    def forward(self, past: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B T C H W"]:
        """The `frames` frames that follow `past`.

        Raises:
            ValueError: The number of frames, the number of fields or the image size does not fit.
        """
        self._check_shape(past)
        batch = len(past)
        latent, skip = self.encoder(rearrange(past, "B T C H W -> (B T) C H W"))
        latent = self.translator(rearrange(latent, "(B T) c h w -> B (T c) h w", B=batch))
        frames = self.decoder(rearrange(latent, "B (T c) h w -> (B T) c h w", T=self.frames), skip)
        return rearrange(frames, "(B T) C H W -> B T C H W", B=batch)

    def _check_shape(self, past: Float[Tensor, "B T C H W"]) -> None:
        _, frames, channels, height, width = past.shape
        if (frames, channels) != (self.frames, self.channels):
            raise ValueError(
                f"The network takes {self.frames} frames of {self.channels} field(s), got {frames} frames of "
                f"{channels} field(s); build it with frames={frames}, channels={channels}."
            )
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"The network needs a height and width divisible by {self.factor}, got {height} x {width}; "
                "lower n_s or crop the frames."
            )


def rollout(
    net: Callable[[Tensor], Tensor], past: Float[Tensor, "B T C H W"], horizon: int
) -> Float[Tensor, "B {horizon} C H W"]:
    """Forecast `horizon` frames with a network that predicts as many frames as it takes.

    Each predicted block of T frames is the next input, and the last block is cut to the horizon. The gradient flows
    through all blocks.

    Args:
        net: The network.
        past: Input frames.
        horizon: Number of frames to forecast.
    """
    blocks = []
    for _ in range(math.ceil(horizon / past.shape[1])):
        past = net(past)
        blocks.append(past)
    return torch.cat(blocks, dim=1)[:, :horizon]


class FCN(Forecaster):
    """The forecaster of arXiv 2602.19915: `SimVPNet`, where each predicted block of `n_past` frames is the next input.

    Height and width of the frames must be divisible by `2^(n_s / 2)`.

    Args:
        hid_s: Features per frame in encoder and decoder, an even number.
        hid_t: Features of the translator, for all frames together.
        n_s: Stages of the encoder and of the decoder, an even number. Every second stage halves the image size.
        n_t: Blocks of the translator, at least 2.
        mlp_ratio: Expansion ratio of the MLP in each block.
        drop_path: Probability of stochastic depth in the last block; 0 disables it in all blocks.
        kwargs: Settings of every forecaster, see `Forecaster`.
    """

    def __init__(
        self,
        hid_s: int = 64,
        hid_t: int = 256,
        n_s: int = 4,
        n_t: int = 8,
        mlp_ratio: float = 8.0,
        drop_path: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.save_hyperparameters(logger=False)
        self.net = SimVPNet(self.n_past, self.channels, hid_s, hid_t, n_s, n_t, mlp_ratio, drop_path)

    def forward(self, past: Float[Tensor, "B n_past C H W"], horizon: int) -> Float[Tensor, "B {horizon} C H W"]:
        """Forecast the `horizon` frames that follow `past`, which holds `n_past` frames."""
        return rollout(self.net, past, horizon)
