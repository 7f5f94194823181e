"""E3DLSTM: 3-D convolutions inside the recurrent cell, and attention to all earlier cell states."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from microevo.models.predrnn import FORGET_BIAS
from microevo.models.recurrent import RecurrentForecaster, RecurrentNet, gated, stacked

WINDOW = 2  # length of the time axis of all states
Features = Float[Tensor, "B n 2 h w"]
History = Float[Tensor, "B _ n"]  # grows by the rows of a state at each step
State = tuple[list[tuple[Features, Features, History]], Features, Float[Tensor, "B C h w"]]


class WindowConv(nn.Conv3d):
    """3-D convolution over the whole window and a square of pixels, whose result is repeated along the window."""

    def __init__(self, c_in: int, c_out: int, filter_size: int):
        pad = filter_size // 2
        super().__init__(c_in, c_out, (WINDOW, filter_size, filter_size), padding=(0, pad, pad), bias=False)

    def forward(self, x: Float[Tensor, "B c_in 2 hx wx"]) -> Float[Tensor, "B c_out 2 h w"]:
        """The convolution, the same at each time of the window."""
        return super().forward(x).expand(-1, -1, WINDOW, -1, -1)


class EideticLSTMCell(nn.Module):
    """One layer, without biases in the convolutions. It recalls the cell states `C` of all earlier steps.

    With `*` a convolution, `.` a product number by number and `b` the forget bias:

        i, o, r = sigmoid(W * x + W * h)
        g       = tanh(W * x + W * h)
        c'      = LayerNorm(c + softmax(r C^T) C) + i . g
        i', g'  = sigmoid(W * x + W * m), tanh(W * x + W * m)
        f'      = sigmoid(W * x + W * m + b)
        m'      = f' . tanh(W * m) + i' . g'
        h'      = sigmoid(tanh(W * x + W * h + W * c' + W * m')) . tanh(W_1x1 * [c', m'])

    Args:
        c_in: Number of channels of `x`.
        hidden: Number of features of `h`, `c` and `m`.
        filter_size: Side of the convolution kernels, an odd number [pixels].
        pass_memory: Whether there is a memory `m`; otherwise it is zero.
    """

    def __init__(self, c_in: int, hidden: int, filter_size: int, pass_memory: bool = False):
        super().__init__()
        self.hidden = hidden
        self.conv_x = WindowConv(c_in, 7 * hidden, filter_size)
        self.conv_h = WindowConv(hidden, 4 * hidden, filter_size)
        self.conv_m = WindowConv(hidden, 4 * hidden, filter_size) if pass_memory else None
        self.conv_new_c = WindowConv(hidden, hidden, filter_size)
        self.conv_new_m = WindowConv(hidden, hidden, filter_size)
        self.conv_last = nn.Conv3d(2 * hidden, hidden, 1, bias=False)
        # Of the normalisation. The published ones also have a weight for each pixel, which fixes the image size.
        self.scale = nn.Parameter(torch.ones(hidden, WINDOW, 1, 1))
        self.shift = nn.Parameter(torch.zeros(hidden, WINDOW, 1, 1))

    def forward(
        self, x: Float[Tensor, "B c_in 2 h w"], h: Features, c: Features, m: Features, history: History
    ) -> tuple[Features, Features, Features, History]:
        """The new hidden state, cell state and memory, and the history with the old cell state."""
        i_x, g_x, r_x, o_x, im_x, gm_x, fm_x = self.conv_x(x).chunk(7, dim=1)
        i_h, g_h, r_h, o_h = self.conv_h(h).chunk(4, dim=1)
        history = torch.cat([history, self.rows(c)], dim=1)
        query = self.rows((r_x + r_h).sigmoid())
        recalled = F.scaled_dot_product_attention(query, history, history, scale=1.0).reshape(c.shape)
        c = F.layer_norm(c + recalled, c.shape[1:]) * self.scale + self.shift
        c = c + (i_x + i_h).sigmoid() * (g_x + g_h).tanh()
        if self.conv_m is None:
            m = im_x.sigmoid() * gm_x.tanh()
        else:
            i_m, f_m, g_m, m_m = self.conv_m(m).chunk(4, dim=1)
            m = gated(m_m.tanh(), fm_x + f_m + FORGET_BIAS, im_x + i_m, gm_x + g_m)
        o = (o_x + o_h + self.conv_new_c(c) + self.conv_new_m(m)).tanh()
        return self.conv_last(torch.cat([c, m], dim=1)).tanh() * o.sigmoid(), c, m, history

    def rows(self, state: Features) -> History:
        """A state as queries or keys of `n` numbers.

        As published, a row is not the features of a pixel but `n` successive numbers of the state in memory.
        """
        return state.reshape(state.shape[0], -1, self.hidden)


class E3DLSTMNet(RecurrentNet):
    """Stacked eidetic LSTM cells and a 3-D readout convolution.

    Wang et al., "Eidetic 3D LSTM: A Model for Video Prediction and Beyond", ICLR 2019, in the form of OpenSTL. The first
    layer sees the present frame and the one before. The time and the memory for the recall grow with the square of the
    number of steps. OpenSTL's cells return the memory that they were given, so that it stays zero and a convolution has no
    effect, which is left out here unless `pass_memory` is set.

    Args:
        channels: Number of channels of a frame. The other arguments are those of `E3DLSTM`.

    Raises:
        ValueError: `hidden` or `layers` is below 1, or `filter_size` is even.
    """

    def __init__(
        self, channels: int, hidden: int = 128, layers: int = 4, filter_size: int = 5, pass_memory: bool = False
    ):
        super().__init__()
        self.hidden = hidden
        cell = partial(EideticLSTMCell, pass_memory=pass_memory)
        self.cells = stacked(cell, channels, [hidden] * layers, filter_size)
        self.readout = nn.Conv3d(hidden, channels, (WINDOW, 1, 1), bias=False)

    def forward(self, frame: Float[Tensor, "B C h w"], state: State | None) -> tuple[Float[Tensor, "B C h w"], State]:
        """Predict the frame after `frame`. The state holds `(h, c, history)` for each layer, the memory and the frame."""
        if state is None:
            zero = frame.new_zeros(frame.shape[0], self.hidden, WINDOW, *frame.shape[2:])
            empty = frame.new_zeros(frame.shape[0], 0, self.hidden)
            state = [(zero, zero, empty)] * len(self.cells), zero, torch.zeros_like(frame)
        layers, m, previous = state
        x, new_layers = torch.stack([previous, frame], dim=2), []
        for cell, (h, c, history) in zip(self.cells, layers, strict=True):
            x, c, m, history = cell(x, h, c, m, history)
            new_layers.append((x, c, history))
        return self.readout(x).squeeze(2), (new_layers, m, frame)


class E3DLSTM(RecurrentForecaster):
    """Forecasts with an `E3DLSTMNet`. Height and width of the frames must be divisible by `patch_size`.

    Args:
        hidden: Number of features of each layer. It is the same for all layers, since they share the memory.
        layers: Number of layers.
        filter_size: Side of the convolution kernels, an odd number [pixels].
        pass_memory: Whether the memory of a layer is passed on to the next one, and from the last layer to the first
            one at the next frame, as in the paper; in OpenSTL it stays zero.
        l1_weight: Weight of the mean absolute error in the loss.
        kwargs: Settings of every recurrent forecaster, see `RecurrentForecaster`.
    """

    def __init__(
        self,
        hidden: int = 128,
        layers: int = 4,
        filter_size: int = 5,
        pass_memory: bool = False,
        l1_weight: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.save_hyperparameters(logger=False)
        self.l1_weight = l1_weight
        self.net = E3DLSTMNet(self.patch_channels, hidden, layers, filter_size, pass_memory)

    def objective(
        self, prediction: Float[Tensor, "B T C H W"], target: Float[Tensor, "B T C H W"]
    ) -> Float[Tensor, ""]:
        """The objective of every forecaster, plus the mean absolute error."""
        return super().objective(prediction, target) + self.l1_weight * (prediction - target).abs().mean()
