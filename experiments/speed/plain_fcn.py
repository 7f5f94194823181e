"""The network of the FCN as one would write it down from the papers: what `microevo.models.SimVPNet` is measured against.

SimVPv2 with gSTA (arXiv 2211.12509) at the sizes of arXiv 2602.19915, in plain PyTorch, with the parameters of
`SimVPNet` under the same names. It computes the same numbers: the golden files of the tests hold for it too.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class ConvStage(nn.Module):
    """3x3 convolution, GroupNorm and SiLU, which halve, keep or double the image size."""

    def __init__(self, c_in: int, c_out: int, resize: str = "keep"):
        super().__init__()
        up = resize == "up"
        self.conv = nn.Conv2d(c_in, 4 * c_out if up else c_out, 3, stride=2 if resize == "down" else 1, padding=1)
        self.shuffle = nn.PixelShuffle(2) if up else nn.Identity()
        self.norm = nn.GroupNorm(2, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N c h w) of an image (N C H W)."""
        return F.silu(self.norm(self.shuffle(self.conv(x))))


class Encoder(nn.Module):
    """Encodes each frame alone."""

    def __init__(self, channels: int, hid_s: int, n_s: int):
        super().__init__()
        self.stages = nn.ModuleList(
            ConvStage(channels if i == 0 else hid_s, hid_s, "down" if i % 2 else "keep") for i in range(n_s)
        )

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The features of each frame, and those of the first stage for the skip connection."""
        x = skip = self.stages[0](frames)
        for stage in self.stages[1:]:
            x = stage(x)
        return x, skip


class Decoder(nn.Module):
    """Decodes each frame alone."""

    def __init__(self, channels: int, hid_s: int, n_s: int):
        super().__init__()
        self.stages = nn.ModuleList(ConvStage(hid_s, hid_s, "keep" if i % 2 else "up") for i in range(n_s))
        self.readout = nn.Conv2d(hid_s, channels, 1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """The frames."""
        for stage in self.stages[:-1]:
            x = stage(x)
        return self.readout(self.stages[-1](x + skip))


class GatedAttention(nn.Module):
    """gSTA: features gated by their neighbourhood."""

    def __init__(self, n: int):
        super().__init__()
        self.project_in = nn.Conv2d(n, n, 1)
        self.near = nn.Conv2d(n, n, 5, padding=2, groups=n)
        self.far = nn.Conv2d(n, n, 7, padding=9, dilation=3, groups=n)
        self.split = nn.Conv2d(n, 2 * n, 1)
        self.project_out = nn.Conv2d(n, n, 1)

    def forward(self, u: Tensor) -> Tensor:
        """Gate the normalised features (B n h w)."""
        value, gate = self.split(self.far(self.near(F.gelu(self.project_in(u))))).chunk(2, dim=1)
        return self.project_out(gate.sigmoid() * value)


class ConvMLP(nn.Module):
    """Pointwise expansion, depthwise 3x3, GELU, pointwise projection."""

    def __init__(self, n: int, hidden: int):
        super().__init__()
        self.expand = nn.Conv2d(n, hidden, 1)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.project = nn.Conv2d(hidden, n, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the features (B n h w) of each pixel and its neighbours."""
        return self.project(F.gelu(self.depthwise(self.expand(x))))


class Block(nn.Module):
    """Attention and MLP, each with BatchNorm, layer scale and a residual connection; no stochastic depth."""

    def __init__(self, n: int, mlp_ratio: float):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(n)
        self.attention = GatedAttention(n)
        self.scale1 = nn.Parameter(torch.full((n, 1, 1), 0.01))
        self.norm2 = nn.BatchNorm2d(n)
        self.mlp = ConvMLP(n, int(mlp_ratio * n))
        self.scale2 = nn.Parameter(torch.full((n, 1, 1), 0.01))

    def forward(self, x: Tensor) -> Tensor:
        """Add the attention branch, then the MLP branch, to the features (B n h w)."""
        u = self.norm1(x)
        x = x + self.scale1 * (self.attention(u) + u)
        return x + self.scale2 * self.mlp(self.norm2(x))


class PlainSimVPNet(nn.Module):
    """Takes and predicts `frames` frames of `channels` fields; the other sizes are those of `microevo.models.FCN`."""

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
        assert drop_path == 0
        super().__init__()
        self.encoder = Encoder(channels, hid_s, n_s)
        sizes = [frames * hid_s, *[hid_t] * (n_t - 1), frames * hid_s]
        layers: list[nn.Module] = []
        for n, n_next in itertools.pairwise(sizes):
            layers.append(Block(n, mlp_ratio))
            if n != n_next:
                layers.append(nn.Conv2d(n, n_next, 1))
        self.translator = nn.Sequential(*layers)
        self.decoder = Decoder(channels, hid_s, n_s)

    def forward(self, past: Tensor) -> Tensor:
        """The frames (B T C H W) that follow as many past frames."""
        batch, frames, channels, height, width = past.shape
        latent, skip = self.encoder(past.reshape(batch * frames, channels, height, width))
        _, c, h, w = latent.shape
        latent = self.translator(latent.reshape(batch, frames * c, h, w))
        return self.decoder(latent.reshape(batch * frames, c, h, w), skip).reshape(past.shape)
