"""FCN: SimVPv2 with gated spatiotemporal attention (gSTA), a fully convolutional forecaster."""

from functools import partial
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from microevo.models.blockwise import BlockwiseForecaster
from microevo.models.convolutions import DilatedDepthwiseConv2d, PointwiseConv2d
from microevo.models.encoder_decoder import EncoderDecoderNet
from microevo.models.translator import Translator, TranslatorBlock, scale_by_fan_out


class GatedAttention(nn.Module):
    """gSTA: features gated by their neighbourhood, seen through a 5x5 and a dilated 7x7 depthwise convolution."""

    def __init__(self, n: int):
        super().__init__()
        self.project_in = PointwiseConv2d(n, n)
        self.near = nn.Conv2d(n, n, 5, padding=2, groups=n)
        self.far = DilatedDepthwiseConv2d(n, 7, dilation=3)
        self.split = PointwiseConv2d(n, 2 * n)
        self.project_out = PointwiseConv2d(n, n)

    def forward(self, u: Float[Tensor, "B n h w"]) -> Float[Tensor, "B n h w"]:
        """Gate the normalised features `u`."""
        v = F.gelu(self.project_in(u))
        value, gate = self.split(self.far(self.near(v))).chunk(2, dim=1)
        return self.project_out(gate.sigmoid() * value)


class SimVPNet(EncoderDecoderNet):
    """SimVPv2 with gSTA: takes `frames` frames and predicts the next `frames` frames.

    Tan et al., "SimVPv2: Towards Simple yet Powerful Spatiotemporal Predictive Learning", arXiv 2211.12509.
    The default sizes are those of arXiv 2602.19915 (18,603,009 parameters for one field). The first translator
    block has `frames * hid_s` channels and is by far the widest. Height and width must be divisible by
    `2^(n_s / 2)`.

    Args:
        frames: Number of input frames, and of output frames.
        channels: Number of fields in a frame. The other arguments are those of `FCN`.

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
        block = partial(self.block, mlp_ratio=mlp_ratio)
        translator = partial(Translator, hid_t=hid_t, n_t=n_t, drop_path=drop_path, block=block)
        super().__init__(frames, channels, hid_s, n_s, translator)

    @staticmethod
    def block(n: int, drop_path: float, mlp_ratio: float) -> TranslatorBlock:
        """A block of the translator for `n` features, with its initial weights."""
        block = TranslatorBlock(n, GatedAttention(n), mlp_ratio, drop_path)
        scale_by_fan_out(block)
        return block


class FCN(BlockwiseForecaster):
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

    network: ClassVar[type[SimVPNet]] = SimVPNet

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
        self.net = self.network(self.n_past, self.channels, hid_s, hid_t, n_s, n_t, mlp_ratio, drop_path)
