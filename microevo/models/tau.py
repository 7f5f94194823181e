"""TAU: SimVP whose translator attends to space in each feature and, by a gate for each feature, to time."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from microevo.models.convolutions import DilatedDepthwiseConv2d, PointwiseConv2d
from microevo.models.fcn import FCN, SimVPNet
from microevo.models.translator import TranslatorBlock, scale_by_fan_out

TEMPERATURE, EPSILON = 0.1, 1e-12  # of the difference divergence, as published


class TemporalAttention(nn.Module):
    """Features gated by their neighbourhood (static attention), and each as a whole (dynamic attention).

    The channels hold the features of all frames, so that a gate for each channel weighs times.
    """

    def __init__(self, n: int):
        if n < 4:
            raise ValueError(f"hid_t and frames * hid_s must be at least 4, got {n}.")
        super().__init__()
        self.project_in = PointwiseConv2d(n, n)
        self.near = nn.Conv2d(n, n, 5, padding=2, groups=n)
        self.far = DilatedDepthwiseConv2d(n, 7, dilation=3)
        self.mix = PointwiseConv2d(n, n)
        # A reduction of n by 16 was meant; the published implementation has about 16 features for any n.
        squeezed = n // max(n // 16, 4)
        self.squeeze = nn.Linear(n, squeezed, bias=False)
        self.excite = nn.Linear(squeezed, n, bias=False)
        self.project_out = PointwiseConv2d(n, n)

    def forward(self, u: Float[Tensor, "B n h w"]) -> Float[Tensor, "B n h w"]:
        """Gate the normalised features `u`."""
        v = F.gelu(self.project_in(u))
        static = self.mix(self.far(self.near(v)))
        dynamic = self.excite(F.relu(self.squeeze(v.mean(dim=(2, 3))))).sigmoid()
        return self.project_out(dynamic[..., None, None] * static * v)


class TAUNet(SimVPNet):
    """SimVP with temporal attention units: takes `frames` frames and predicts the next `frames` frames.

    Tan et al., "Temporal Attention Unit: Towards Efficient Spatiotemporal Predictive Learning", arXiv 2206.12126, in the
    form of OpenSTL. It is `SimVPNet` with another attention; the default sizes have 17,810,049 parameters for ten frames
    of one field.
    """

    @staticmethod
    def block(n: int, drop_path: float, mlp_ratio: float) -> TranslatorBlock:
        """A block of the translator for `n` features, whose attention keeps PyTorch's initial weights, as published."""
        block = TranslatorBlock(n, TemporalAttention(n), mlp_ratio, drop_path)
        scale_by_fan_out(block.mlp)
        return block


def difference_divergence(
    prediction: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]
) -> Float[Tensor, ""]:
    """Divergence between the distributions over pixels and fields that the differences between frames make.

    With `p` and `q` the softmax of the differences of prediction and target, divided by 0.1, the mean over all entries of
    `p log(p / q)`. As published it is a mean, and thus the Kullback-Leibler divergence divided by the number of pixels
    and fields, and it is 0 for less than three frames.
    """
    if prediction.shape[1] <= 2:
        return prediction.new_zeros(())
    p, q = ((frames.diff(dim=1).flatten(2) / TEMPERATURE).softmax(dim=-1) for frames in (prediction, target))
    return (p * torch.log(p / (q + EPSILON) + EPSILON)).mean()


class TAU(FCN):
    """Forecasts with a `TAUNet`, where each predicted block of `n_past` frames is the next input.

    Args:
        divergence_weight: Weight of `difference_divergence` in the loss.
        kwargs: Sizes of the network, see `FCN`; `hid_t` is at least 4.
    """

    network = TAUNet

    def __init__(self, *, divergence_weight: float = 0.1, **kwargs: Any):
        super().__init__(**kwargs)
        self.save_hyperparameters(logger=False)
        self.divergence_weight = divergence_weight

    def objective(
        self, prediction: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]
    ) -> Float[Tensor, ""]:
        """The objective of every forecaster, plus the divergence of the differences between frames."""
        return super().objective(prediction, target) + self.divergence_weight * difference_divergence(
            prediction, target
        )
