"""Convolutions that a CPU computes faster than PyTorch's own, with the same weights.

They serve forecasts, with the channels last in memory. In training neither paid in a whole step, which is left to PyTorch.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

FEW_CHANNELS = 4  # an input whose patches are a product worth taking


def pays(x: Float[Tensor, "N c h w"]) -> bool:
    """Whether these convolutions and channels last pay for `x`: on a CPU, in forecasts.

    A program that is exported is left plain, for other machines and of any batch size.
    """
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_exporting()


def arranged(x: Float[Tensor, "N c h w"]) -> Float[Tensor, "N c h w"]:
    """`x`, with its channels last in memory where that pays."""
    return x.contiguous(memory_format=torch.channels_last) if pays(x) else x


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution, with channels last as the matrix product that it is."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__(c_in, c_out, 1)

    def forward(self, x: Float[Tensor, "B c_in h w"]) -> Float[Tensor, "B c_out h w"]:
        """Mix the features of each pixel."""
        pixels = x.permute(0, 2, 3, 1)
        if not (pays(x) and pixels.is_contiguous()):
            return super().forward(x)
        return F.linear(pixels, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class PatchConv2d(nn.Conv2d):
    """A convolution, for few channels as the product of its weights with the patches of the image.

    PyTorch has this too, but takes it for single small images only; its kernel for batches is five times slower.
    """

    def forward(self, x: Float[Tensor, "B c_in H W"]) -> Float[Tensor, "B c_out h w"]:
        """Filter the image. The padding is that of the module, which may have been taken over by `continue_borders`."""
        if not pays(x) or self.in_channels > FEW_CHANNELS:
            return super().forward(x)
        assert not isinstance(self.padding, str)
        sizes = zip(x.shape[2:], self.padding, self.kernel_size, self.stride, strict=True)
        rows, columns = ((size + 2 * border - kernel) // step + 1 for size, border, kernel, step in sizes)
        patches = F.unfold(x, self.kernel_size, padding=self.padding, stride=self.stride).mT
        pixels = F.linear(patches, self.weight.flatten(1), self.bias)
        return pixels.unflatten(1, (rows, columns)).permute(0, 3, 1, 2)


class DilatedDepthwiseConv2d(nn.Conv2d):
    """A dilated convolution of each channel alone, as plain convolutions of the phases of the image.

    With dilation d, an output sees only every d-th row and column. The d x d images of such pixels become images of the
    batch, for which PyTorch has a kernel that is an order of magnitude faster than the dilated one.
    """

    def __init__(self, n: int, kernel: int, dilation: int):
        super().__init__(n, n, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=n)

    def forward(self, x: Float[Tensor, "B n h w"]) -> Float[Tensor, "B n ho wo"]:
        """Filter each channel. The padding is that of the module, which may have been taken over by `continue_borders`."""
        if not pays(x):
            return super().forward(x)
        assert not isinstance(self.padding, str)
        d, batch = self.dilation[0], len(x)
        rows, columns = (
            size + 2 * border - d * (kernel - 1)
            for size, border, kernel in zip(x.shape[-2:], self.padding, self.kernel_size, strict=True)
        )
        # Zeros up to a multiple of d, which the convolution would see there anyway or whose outputs are cropped.
        x = F.pad(x, (0, -x.shape[-1] % d, 0, -x.shape[-2] % d))
        phases = x.unflatten(-1, (-1, d)).unflatten(-3, (-1, d)).permute(3, 5, 0, 2, 4, 1)  # d d B h/d w/d n
        phases = phases.flatten(0, 2).permute(0, 3, 1, 2)
        padding = [border // d for border in self.padding]
        phases = F.conv2d(phases, self.weight, self.bias, padding=padding, groups=self.groups)
        y = phases.permute(0, 2, 3, 1).unflatten(0, (d, d, batch)).permute(2, 3, 0, 4, 1, 5)  # B h/d d w/d d n
        return arranged(y.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)[..., :rows, :columns])
