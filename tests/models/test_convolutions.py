"""Convolutions as matrix products, and dilated ones as plain ones of the phases: the numbers are PyTorch's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from microevo.models import SimVPNet, encoder_decoder
from microevo.models.convolutions import DilatedDepthwiseConv2d, PatchConv2d, PointwiseConv2d, arranged
from microevo.models.padding import continue_borders, padded


@pytest.mark.parametrize("size", [(9, 12), (8, 7), (4, 16), (1, 2)])
@pytest.mark.parametrize("border", ["zeros", "periodic", "no-flux"])
def test_a_dilated_convolution_is_pytorchs(size: tuple[int, int], border: str):
    torch.manual_seed(0)
    conv, x = DilatedDepthwiseConv2d(3, 7, dilation=3), torch.randn(2, 3, *size)
    if border == "zeros":
        expected = F.conv2d(x, conv.weight, conv.bias, padding=9, dilation=3, groups=3)
    else:
        continue_borders(conv, border == "periodic")
        expected = F.conv2d(padded(x, 9, 9, border == "periodic"), conv.weight, conv.bias, dilation=3, groups=3)
    assert torch.equal(conv(x), expected)  # in training
    with torch.no_grad():
        torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize(
    "conv", [PointwiseConv2d(3, 5), PatchConv2d(3, 5, 3, padding=1), PatchConv2d(3, 5, 3, stride=2)]
)
@pytest.mark.parametrize("arrange", [arranged, torch.Tensor.contiguous])
@torch.no_grad()
def test_a_convolution_as_a_product_is_pytorchs(conv: nn.Conv2d, arrange):
    torch.manual_seed(0)
    x = arrange(torch.randn(2, 3, 4, 6))
    torch.testing.assert_close(conv(x), nn.Conv2d.forward(conv, x))


@torch.no_grad()
def test_channels_stay_last_in_forecasts():
    x = torch.randn(2, 1, 8, 6)
    for conv in (PatchConv2d(1, 4, 3, padding=1), PointwiseConv2d(4, 8), DilatedDepthwiseConv2d(8, 7, dilation=3)):
        x = conv(x)
        assert x.is_contiguous(memory_format=torch.channels_last)


def test_neither_the_layout_nor_a_few_frames_at_a_time_change_the_numbers(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    net, past = SimVPNet(3, 2, hid_s=4, hid_t=8, n_s=2, n_t=2), torch.randn(2, 3, 2, 8, 8)
    net.eval()  # running statistics stay
    found = []
    for few in (6, 4):
        monkeypatch.setattr(encoder_decoder, "FEATURES_AT_A_TIME", few * 4 * 8 * 8)
        forecast = net(past)
        found.append((forecast, *torch.autograd.grad(forecast.square().sum(), list(net.parameters()))))
    for every, some in zip(*found, strict=True):
        torch.testing.assert_close(some, every, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(net(past), found[0][0], rtol=1e-4, atol=1e-5)
