"""ConvGRU: a gated recurrent unit whose matrix products are replaced by convolutions."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from microevo.models.recurrent import Features, RecurrentForecaster, StackedNet, gate_conv


class ConvGRUCell(nn.Module):
    """One layer, without biases.

    With `*` a convolution and `.` a product pixel by pixel:

    r, z = sigmoid(W_x * x + W_h * h)       reset and update gate
    n    = tanh(W_x * x + r . (W_h * h))    candidate
    h'   = (1 - z) . n + z . h              hidden state
    """

    def __init__(self, c_in: int, hidden: int, filter_size: int):
        super().__init__()
        self.conv_x = gate_conv(c_in, 3 * hidden, filter_size)
        self.conv_h = gate_conv(hidden, 3 * hidden, filter_size)

    def forward(self, x: Float[Tensor, "B c_in h w"], h: Features) -> tuple[Features]:
        """The new hidden state."""
        r_x, z_x, n_x = self.conv_x(x).chunk(3, dim=1)
        r_h, z_h, n_h = self.conv_h(h).chunk(3, dim=1)
        z = (z_x + z_h).sigmoid()
        n = (n_x + (r_x + r_h).sigmoid() * n_h).tanh()
        return ((1 - z) * n + z * h,)


class ConvGRUNet(StackedNet):
    """Stacked ConvGRU cells and a 1x1 readout convolution.

    Ballas et al., "Delving Deeper into Convolutional Networks for Learning Video Representations", arXiv 1511.06432, with
    the reset gate after the convolution, as in Shi et al., arXiv 1706.03458, and in `torch.nn.GRU`.
    """

    cell, states = ConvGRUCell, 1


class ConvGRU(RecurrentForecaster):
    """Forecasts with a `ConvGRUNet`. Height and width of the frames must be divisible by `patch_size`.

    Args:
        hidden: Number of features of each layer.
        filter_size: Side of the convolution kernels, an odd number [pixels].
        kwargs: Settings of every recurrent forecaster, see `RecurrentForecaster`.
    """

    def __init__(self, hidden: Sequence[int] = (128, 128, 128, 128), filter_size: int = 5, **kwargs: Any):
        super().__init__(**kwargs)
        self.save_hyperparameters(logger=False)
        self.net = ConvGRUNet(self.patch_channels, hidden, filter_size)
