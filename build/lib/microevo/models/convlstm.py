"""ConvLSTM: an LSTM whose products are convolutions."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from microevo.models.recurrent import RecurrentForecaster, RecurrentNet

CellState = tuple[Float[Tensor, "B _ h w"], Float[Tensor, "B _ h w"]]  # hidden and cell state; sizes differ by layer


class ConvLSTMCell(nn.Module):
    """One layer: gates from the input and the hidden state, no bias and no peepholes."""

    def __init__(self, c_in: int, hidden: int, filter_size: int):
        super().__init__()
        self.conv_x = nn.Conv2d(c_in, 4 * hidden, filter_size, padding=filter_size // 2, bias=False)
        self.conv_h = nn.Conv2d(hidden, 4 * hidden, filter_size, padding=filter_size // 2, bias=False)

    def forward(
        self, x: Float[Tensor, "B c_in h w"], h: Float[Tensor, "B n h w"], c: Float[Tensor, "B n h w"]
    ) -> tuple[Float[Tensor, "B n h w"], Float[Tensor, "B n h w"]]:
        """The new hidden state and cell state."""
        i, f, g, o = (self.conv_x(x) + self.conv_h(h)).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class ConvLSTMNet(RecurrentNet):
    """Stacked ConvLSTM cells and a 1x1 readout.

    Shi et al., "Convolutional LSTM Network", arXiv 1506.04214, in the form of OpenSTL, with the output gate
    acting on `tanh(c)`. (OpenSTL v0.3.0, and the code published with arXiv 2602.19915, take the gate `g` in
    its place, which leaves the cell state without effect.) OpenSTL's cells also hold two convolutions that
    are never used; they are not made here.

    Args:
        channels: Channels of a frame.
        hidden: Features of each layer.
        filter_size: Side of the convolution kernels; odd.
    """

    def __init__(self, channels: int, hidden: Sequence[int] = (128, 128, 128, 128), filter_size: int = 5):
        super().__init__()
        if not hidden or min(hidden) < 1:
            raise ValueError(f"hidden must list at least one layer, each with at least 1 feature, got {hidden}.")
        if filter_size % 2 == 0:
            raise ValueError(f"filter_size must be odd to keep the image size, got {filter_size}.")
        self.hidden = tuple(hidden)
        self.cells = nn.ModuleList(
            ConvLSTMCell(c_in, n, filter_size) for c_in, n in zip([channels, *hidden], hidden, strict=False)
        )
        self.readout = nn.Conv2d(hidden[-1], channels, 1, bias=False)

    def forward(
        self, frame: Float[Tensor, "B C h w"], state: list[CellState] | None
    ) -> tuple[Float[Tensor, "B C h w"], list[CellState]]:
        """Predict the frame after `frame`; the state holds `(h, c)` for each layer."""
        if state is None:
            batch, _, height, width = frame.shape
            zeros = [frame.new_zeros(batch, n, height, width) for n in self.hidden]
            state = [(zero, zero) for zero in zeros]
        x, new_state = frame, []
        for cell, (h, c) in zip(self.cells, state, strict=True):
            x, c = cell(x, h, c)
            new_state.append((x, c))
        return self.readout(x), new_state


class ConvLSTM(RecurrentForecaster):
    """Forecasts with a `ConvLSTMNet`. Height and width must be divisible by `patch_size`.

    Args:
        hidden: Features of each layer.
        filter_size: Side of the convolution kernels; odd.
        kwargs: Settings of every recurrent forecaster, see `RecurrentForecaster`.
    """

    def __init__(self, hidden: Sequence[int] = (128, 128, 128, 128), filter_size: int = 5, **kwargs: Any):
        super().__init__(**kwargs)
        self.save_hyperparameters(logger=False)
        self.net = ConvLSTMNet(self.patch_channels, hidden, filter_size)
