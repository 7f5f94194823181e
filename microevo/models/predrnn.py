"""PredRNN: a recurrent network with a second memory, which is passed from layer to layer."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microevo.models.recurrent import Features, RecurrentForecaster, RecurrentNet, gate_conv, gated, stacked, zero_state

State = tuple[list[tuple[Features, Features]], Features]
FORGET_BIAS = 1.0


class SpatiotemporalLSTMCell(nn.Module):
    """One layer, without biases. The cell state `c` stays in the layer, the memory `m` is passed to the next layer.

    With `*` a convolution, `.` a product pixel by pixel and `b` the forget bias:

        i, g   = sigmoid(W * x + W * h), tanh(W * x + W * h)
        f      = sigmoid(W * x + W * h + b)
        c'     = f . c + i . g
        i', g' = sigmoid(W * x + W * m), tanh(W * x + W * m)
        f'     = sigmoid(W * x + W * m + b)
        m'     = f' . m + i' . g'
        o      = sigmoid(W * x + W * h + W * [c', m'])
        h'     = o . tanh(W_1x1 * [c', m'])
    """

    def __init__(self, c_in: int, hidden: int, filter_size: int):
        super().__init__()
        self.conv_x = gate_conv(c_in, 7 * hidden, filter_size)
        self.conv_h = gate_conv(hidden, 4 * hidden, filter_size)
        self.conv_m = gate_conv(hidden, 3 * hidden, filter_size)
        self.conv_o = gate_conv(2 * hidden, hidden, filter_size)
        self.conv_last = gate_conv(2 * hidden, hidden, 1)

    def forward(
        self, x: Float[Tensor, "B c_in h w"], h: Features, c: Features, m: Features
    ) -> tuple[Features, Features, Features]:
        """The new hidden state, cell state and memory."""
        i_x, f_x, g_x, im_x, fm_x, gm_x, o_x = self.conv_x(x).chunk(7, dim=1)
        i_h, f_h, g_h, o_h = self.conv_h(h).chunk(4, dim=1)
        i_m, f_m, g_m = self.conv_m(m).chunk(3, dim=1)
        c = gated(c, f_x + f_h + FORGET_BIAS, i_x + i_h, g_x + g_h)
        m = gated(m, fm_x + f_m + FORGET_BIAS, im_x + i_m, gm_x + g_m)
        both = torch.cat([c, m], dim=1)
        o = (o_x + o_h + self.conv_o(both)).sigmoid()
        return o * self.conv_last(both).tanh(), c, m


class PredRNNNet(RecurrentNet):
    """Stacked spatiotemporal LSTM cells and a 1x1 readout convolution.

    The memory of the last layer at one frame enters the first layer at the next frame. Wang et al., "PredRNN:
    Recurrent Neural Networks for Predictive Learning using Spatiotemporal LSTMs", NeurIPS 2017.

    Args:
        channels: Number of channels of a frame. The other arguments are those of `PredRNN`.

    Raises:
        ValueError: `hidden` or `layers` is below 1, or `filter_size` is even.
    """

    def __init__(self, channels: int, hidden: int = 128, layers: int = 4, filter_size: int = 5):
        super().__init__()
        self.hidden = hidden
        self.cells = stacked(SpatiotemporalLSTMCell, channels, [hidden] * layers, filter_size)
        self.readout = gate_conv(hidden, channels, 1)

    def forward(self, frame: Float[Tensor, "B C h w"], state: State | None) -> tuple[Float[Tensor, "B C h w"], State]:
        """Predict the frame after `frame`. The state holds `(h, c)` for each layer, and the memory."""
        if state is None:
            zero = zero_state(frame, self.hidden)
            state = [(zero, zero)] * len(self.cells), zero
        layers, m = state
        x, new_layers = frame, []
        for cell, (h, c) in zip(self.cells, layers, strict=True):
            x, c, m = cell(x, h, c, m)
            new_layers.append((x, c))
        return self.readout(x), (new_layers, m)


class PredRNN(RecurrentForecaster):
    """Forecasts with a `PredRNNNet`. Height and width of the frames must be divisible by `patch_size`.

    Args:
        hidden: Number of features of each layer. It is the same for all layers, since they share the memory.
        layers: Number of layers.
        filter_size: Side of the convolution kernels, an odd number [pixels].
        kwargs: Settings of every recurrent forecaster, see `RecurrentForecaster`.
    """

    def __init__(self, hidden: int = 128, layers: int = 4, filter_size: int = 5, **kwargs: Any):
        super().__init__(**kwargs)
        self.save_hyperparameters(logger=False)
        self.net = PredRNNNet(self.patch_channels, hidden, layers, filter_size)
