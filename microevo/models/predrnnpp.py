"""PredRNN++: PredRNN with a deeper transition within a step, and a shortcut for the gradient through time."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microevo.models.predrnn import FORGET_BIAS
from microevo.models.recurrent import Features, RecurrentForecaster, RecurrentNet, gate_conv, gated, stacked, zero_state

State = tuple[list[tuple[Features, Features]], Features, Features]
HIGHWAY_RANGE = 0.001  # of the initial weights, as published


class CausalLSTMCell(nn.Module):
    """One layer, without biases: the new cell state `c` enters the gates of the memory `m`, one after the other.

    With `*` a convolution, `.` a product pixel by pixel and `b` the forget bias:

        i, g   = sigmoid(W * x + W * h + W * c), tanh(W * x + W * h + W * c)
        f      = sigmoid(W * x + W * h + W * c + b)
        c'     = f . c + i . g
        i', g' = sigmoid(W * x + W * m + W * c'), tanh(W * x + W * c')
        f'     = sigmoid(W * x + W * m + W * c' + b)
        m'     = f' . tanh(W * m) + i' . g'
        o      = tanh(W * x + W * h + W * c' + W * m')
        h'     = o . tanh(W_1x1 * [c', m'])

    Args:
        c_in: Number of channels of `x`.
        hidden: Number of features of `h`, `c` and `m`.
        filter_size: Side of the convolution kernels, an odd number [pixels].
        memory_as_cell: Take `W * m` for `W * c` in the first three lines.
    """

    def __init__(self, c_in: int, hidden: int, filter_size: int, memory_as_cell: bool = False):
        super().__init__()
        self.memory_as_cell = memory_as_cell
        self.conv_x = gate_conv(c_in, 7 * hidden, filter_size)
        self.conv_h = gate_conv(hidden, 4 * hidden, filter_size)
        self.conv_c = gate_conv(hidden, 3 * hidden, filter_size)
        self.conv_m = gate_conv(hidden, 3 * hidden, filter_size)
        self.conv_c2m = gate_conv(hidden, 4 * hidden, filter_size)
        self.conv_om = gate_conv(hidden, hidden, filter_size)
        self.conv_last = gate_conv(2 * hidden, hidden, 1)

    def forward(
        self, x: Float[Tensor, "B c_in h w"], h: Features, c: Features, m: Features
    ) -> tuple[Features, Features, Features]:
        """The new hidden state, cell state and memory."""
        i_x, f_x, g_x, im_x, fm_x, gm_x, o_x = self.conv_x(x).chunk(7, dim=1)
        i_h, f_h, g_h, o_h = self.conv_h(h).chunk(4, dim=1)
        i_c, f_c, g_c = self.conv_c(m if self.memory_as_cell else c).chunk(3, dim=1)
        i_m, f_m, m_m = self.conv_m(m).chunk(3, dim=1)
        c = gated(c, f_x + f_h + f_c + FORGET_BIAS, i_x + i_h + i_c, g_x + g_h + g_c)
        # The published weights hold the candidate before the forget gate here.
        i_n, g_n, f_n, o_n = self.conv_c2m(c).chunk(4, dim=1)
        m = gated(m_m.tanh(), fm_x + f_m + f_n + FORGET_BIAS, im_x + i_m + i_n, gm_x + g_n)
        o = (o_x + o_h + o_n + self.conv_om(m)).tanh()
        return o * self.conv_last(torch.cat([c, m], dim=1)).tanh(), c, m


class GradientHighway(nn.Module):
    """A gated unit between the first and the second layer, on whose state `z` the gradient travels far back in time.

    p  = tanh(W * x + W * z)
    s  = sigmoid(W * x + W * z)     switch
    z' = s . p + (1 - s) . z
    """

    def __init__(self, hidden: int, filter_size: int):
        super().__init__()
        self.conv_x = gate_conv(hidden, 2 * hidden, filter_size)
        self.conv_z = gate_conv(hidden, 2 * hidden, filter_size)
        for conv in (self.conv_x, self.conv_z):
            nn.init.uniform_(conv.weight, -HIGHWAY_RANGE, HIGHWAY_RANGE)

    def forward(self, x: Features, z: Features) -> Features:
        """The new state of the highway."""
        p, s = (self.conv_x(x) + self.conv_z(z)).chunk(2, dim=1)
        return s.sigmoid() * p.tanh() + (1 - s.sigmoid()) * z


class PredRNNppNet(RecurrentNet):
    """Stacked causal LSTM cells, a gradient highway after the first one, and a 1x1 readout convolution.

    Wang et al., "PredRNN++: Towards A Resolution of the Deep-in-Time Dilemma in Spatiotemporal Predictive Learning",
    arXiv 1804.06300. As in PredRNN, the memory of the last layer at one frame enters the first layer at the next one.
    The form is that of OpenSTL, where the output gate is a tanh, `m` is replaced by `tanh(W * m)`, and the candidate
    of the memory does not see `m`. OpenSTL's cells also contain a convolution that is never used, which is left out.

    Args:
        channels: Number of channels of a frame. The other arguments are those of `PredRNNpp`.

    Raises:
        ValueError: `hidden` is below 1, `layers` is below 2, or `filter_size` is even.
    """

    def __init__(
        self, channels: int, hidden: int = 128, layers: int = 4, filter_size: int = 5, memory_as_cell: bool = False
    ):
        super().__init__()
        if layers < 2:
            raise ValueError(f"layers must be at least 2, got {layers}: the highway is between the first two.")
        self.hidden = hidden
        cell = partial(CausalLSTMCell, memory_as_cell=memory_as_cell)
        self.cells = stacked(cell, channels, [hidden] * layers, filter_size)
        self.highway = GradientHighway(hidden, filter_size)
        self.readout = gate_conv(hidden, channels, 1)

    def forward(self, frame: Float[Tensor, "B C h w"], state: State | None) -> tuple[Float[Tensor, "B C h w"], State]:
        """Predict the frame after `frame`. The state holds `(h, c)` for each layer, the memory and the highway."""
        if state is None:
            zero = zero_state(frame, self.hidden)
            state = [(zero, zero)] * len(self.cells), zero, zero
        layers, m, z = state
        x, new_layers = frame, []
        for cell, (h, c) in zip(self.cells, layers, strict=True):
            x, c, m = cell(x, h, c, m)
            new_layers.append((x, c))
            if cell is self.cells[0]:
                x = z = self.highway(x, z)
        return self.readout(x), (new_layers, m, z)


class PredRNNpp(RecurrentForecaster):
    """Forecasts with a `PredRNNppNet`. Height and width of the frames must be divisible by `patch_size`.

    Args:
        hidden: Number of features of each layer. It is the same for all layers, since they share the memory.
        layers: Number of layers, at least 2.
        filter_size: Side of the convolution kernels, an odd number [pixels].
        memory_as_cell: Whether the gates of the cell state see the memory in place of the cell state. They do in
            OpenSTL v0.3.0 and in the code published with arXiv 2602.19915, but not in the paper on PredRNN++.
        kwargs: Settings of every recurrent forecaster, see `RecurrentForecaster`.
    """

    def __init__(
        self, hidden: int = 128, layers: int = 4, filter_size: int = 5, memory_as_cell: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.save_hyperparameters(logger=False)
        self.net = PredRNNppNet(self.patch_channels, hidden, layers, filter_size, memory_as_cell)
