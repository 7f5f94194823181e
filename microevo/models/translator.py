"""The translator of SimVPv2 and TAU: a row of attention blocks, with a 1x1 convolution where the width changes."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from microevo.models.convolutions import PointwiseConv2d
from microevo.models.normalisation import BatchNorm2d
from microevo.models.randomness import draw_for_windows


class ConvMLP(nn.Module):
    """Pointwise expansion, depthwise 3x3, GELU, pointwise projection."""

    def __init__(self, n: int, hidden: int):
        super().__init__()
        self.expand = PointwiseConv2d(n, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.project = PointwiseConv2d(hidden, n)

    def forward(self, x: Float[Tensor, "B n h w"]) -> Float[Tensor, "B n h w"]:
        """Mix the features of each pixel and its neighbours."""
        return self.project(F.gelu(self.depthwise(self.expand(x))))


class TranslatorBlock(nn.Module):
    """Attention and MLP, each with BatchNorm, layer scale, stochastic depth and a residual connection."""

    def __init__(self, n: int, attention: nn.Module, mlp_ratio: float, drop_path: float):
        super().__init__()
        self.norm1 = BatchNorm2d(n)
        self.attention = attention
        self.scale1 = nn.Parameter(torch.full((n, 1, 1), 0.01))
        self.norm2 = BatchNorm2d(n)
        self.mlp = ConvMLP(n, int(mlp_ratio * n))
        self.scale2 = nn.Parameter(torch.full((n, 1, 1), 0.01))
        self.drop_path = drop_path

    def forward(self, x: Float[Tensor, "B n h w"]) -> Float[Tensor, "B n h w"]:
        """Add the attention branch, then the MLP branch."""
        u = self.norm1(x)
        # The residual connection inside the branch adds the normalised input u, not x.
        x = x + self._keep(x) * self.scale1 * (self.attention(u) + u)
        return x + self._keep(x) * self.scale2 * self.mlp(self.norm2(x))

    def _keep(self, x: Float[Tensor, "B n h w"]) -> Float[Tensor, "B 1 1 1"]:
        """Stochastic depth: 0 for a dropped sample, the inverse survival probability for the others."""
        if not (self.training and self.drop_path):
            return x.new_ones(x.shape[0], 1, 1, 1)
        return draw_for_windows(lambda count: F.dropout(x.new_ones(count, 1, 1, 1), self.drop_path), x.shape[0])


class Translator(nn.Sequential):
    """`n_t` blocks on all frames together, the first at `width` channels and the others at `hid_t`.

    Args:
        width: Features of all frames together.
        hid_t: Features of all blocks but the first.
        n_t: Number of blocks, at least 2.
        drop_path: Probability of stochastic depth in the last block; 0 disables it in all blocks.
        block: Builds a block for a number of features and a probability of stochastic depth.

    Raises:
        ValueError: `n_t` is below 2, or `drop_path` is not a probability below 1.
    """

    def __init__(self, width: int, hid_t: int, n_t: int, drop_path: float, block: Callable[[int, float], nn.Module]):
        if n_t < 2:
            raise ValueError(f"n_t must be at least 2, got {n_t}: the first and the last block change the width.")
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path is a probability below 1, got {drop_path}.")
        sizes = [width, *[hid_t] * (n_t - 1), width]
        # The rates of the reference start at 0.01 even for drop_path = 0, which still drops up to 1 % of the
        # branches. Here 0 means none.
        rates = [*torch.linspace(min(0.01, drop_path), drop_path, n_t - 1, device="cpu").tolist(), drop_path]
        layers: list[nn.Module] = []
        for n, n_next, rate in zip(sizes, sizes[1:], rates, strict=False):
            layers.append(block(n, rate))
            if n != n_next:
                layers.append(PointwiseConv2d(n, n_next))
        super().__init__(*layers)


def scale_by_fan_out(module: nn.Module) -> None:
    """Sample the weights of all convolutions from a normal distribution of variance `2 / fan_out`; biases are 0."""
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            fan_out = math.prod(conv.kernel_size) * conv.out_channels // conv.groups
            nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
