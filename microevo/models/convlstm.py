"""ConvLSTM: an LSTM whose matrix products are replaced by convolutions."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from microevo.models.recurrent import Features, RecurrentForecaster, StackedNet, gate_conv, gated


class ConvLSTMCell(nn.Module):
    """One layer, without biases and without peephole connections.

    With `*` a convolution and `.` a product pixel by pixel:

    i, f, o = sigmoid(W_x * x + W_h * h)      input, forget and output gate
    g       = tanh(W_x * x + W_h * h)         candidate
    c'      = f . c + i . g                   cell state
    h'      = o . tanh(c')                    hidden state

    Args:
        c_in: Number of channels of `x`.
        hidden: Number of features of `h` and `c`.
        filter_size: Side of the convolution kernels, an odd number [pixels].
        candidate_as_cell: Take `g` for `tanh(c')` in the last line.
    """

    def __init__(self, c_in: int, hidden: int, filter_size: int, candidate_as_cell: bool = False):
        super().__init__()
        self.candidate_as_cell = candidate_as_cell
        self.conv_x = gate_conv(c_in, 4 * hidden, filter_size)
        self.conv_h = gate_conv(hidden, 4 * hidden, filter_size)

    def forward(self, x: Float[Tensor, "B c_in h w"], h: Features, c: Features) -> tuple[Features, Features]:
        """The new hidden state and cell state."""
        i, f, g, o = (self.conv_x(x) + self.conv_h(h)).chunk(4, dim=1)
        c = gated(c, f, i, g)
        return o.sigmoid() * (g if self.candidate_as_cell else c).tanh(), c


class ConvLSTMNet(StackedNet):
    """Stacked ConvLSTM cells and a 1x1 readout convolution.

    Shi et al., "Convolutional LSTM Network", arXiv 1506.04214, in the form of OpenSTL, where the output gate
    multiplies `tanh(c)`. OpenSTL's cells also contain two convolutions that are never used, which are left out here.

    Args:
        channels: Number of channels of a frame. The other arguments are those of `ConvLSTM`.
    """

    cell, states = ConvLSTMCell, 2

    def __init__(
        self,
        channels: int,
        hidden: Sequence[int] = (128, 128, 128, 128),
        filter_size: int = 5,
        candidate_as_cell: bool = False,
    ):
        cell = partial(ConvLSTMCell, candidate_as_cell=candidate_as_cell)
        super().__init__(channels, hidden, filter_size, cell)


class ConvLSTM(RecurrentForecaster):
    """Forecasts with a `ConvLSTMNet`. Height and width of the frames must be divisible by `patch_size`.

    Args:
        hidden: Number of features of each layer.
        filter_size: Side of the convolution kernels, an odd number [pixels].
        candidate_as_cell: Whether the output gate multiplies the candidate in place of the cell state, which then has no effect.
            It does in OpenSTL v0.3.0 and in the code published with arXiv 2602.19915, but not in the paper on ConvLSTM.
        kwargs: Settings of every recurrent forecaster, see `RecurrentForecaster`.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (128, 128, 128, 128),
        filter_size: int = 5,
        candidate_as_cell: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.save_hyperparameters(logger=False)
        self.net = ConvLSTMNet(self.patch_channels, hidden, filter_size, candidate_as_cell)
