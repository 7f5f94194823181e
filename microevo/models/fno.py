"""FNO: the Fourier neural operator of the library neuraloperator, on stacked frames."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from microevo.models.blockwise import BlockwiseForecaster, BlockwiseNet


def neural_operator(**settings: Any) -> nn.Module:
    """The `FNO` of neuraloperator. It is imported here, since it takes seconds and few need it.

    Raises:
        RuntimeError: The package is not installed.
    """
    try:
        from neuralop.models import FNO as operator  # noqa: N811
    except ModuleNotFoundError as error:
        raise RuntimeError(
            "FNO needs the package neuraloperator, which is not installed; install it with: pip install microevo[fno]"
        ) from error
    return operator(**settings)


class FNONet(BlockwiseNet):
    """FNO: all fields of all past frames are the channels of one image, and so are those of the predicted frames.

    Li et al., "Fourier Neural Operator for Parametric Partial Differential Equations", arXiv 2010.08895: layers that
    multiply the lowest Fourier modes of the features by learned matrices, beside a 1x1 convolution. Opposite borders of
    a frame are thus neighbours. As FNO-2D of the paper it steps from frame to frame, with 12 positive and 12
    negative frequencies along each axis and 32 features.

    Args:
        frames: Number of input frames.
        channels: Number of fields in a frame.
        frames_out: Number of output frames.
        n_modes: Number of Fourier modes along each axis, negative frequencies included.
        width: Number of features.
        layers: Number of Fourier layers.
        coordinates: Whether the network sees the coordinates of each pixel, as in the paper. Without them it is
            equivariant under shifts, as the processes are.

    Raises:
        RuntimeError: The package neuraloperator is not installed.
        ValueError: A size is not possible, as the message says.
    """

    def __init__(
        self,
        frames: int = 10,
        channels: int = 1,
        frames_out: int = 1,
        n_modes: int = 24,
        width: int = 32,
        layers: int = 4,
        coordinates: bool = True,
    ):
        for name, value in {"n_modes": n_modes, "width": width, "layers": layers}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        super().__init__(frames, frames_out, channels, factor=1)
        self.operator = neural_operator(
            n_modes=(n_modes, n_modes),
            in_channels=frames * channels,
            out_channels=frames_out * channels,
            hidden_channels=width,
            n_layers=layers,
            positional_embedding="grid" if coordinates else None,
        )

    def forward(self, past: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B {self.frames_out} C H W"]:
        """The `frames_out` frames that follow `past`.

        Raises:
            ValueError: The number of frames or the number of fields does not fit.
        """
        self.check_shape(past)
        return self.operator(past.flatten(1, 2)).unflatten(1, (self.frames_out, self.channels))

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The weights, without the settings that neuraloperator adds, which could not be loaded safely."""
        state = super().state_dict(*args, **kwargs)
        state.pop("_metadata", None)
        return state


class FNO(BlockwiseForecaster):
    """Forecasts with an `FNONet`, whose next input is the last `n_past` frames, known or predicted.

    It needs the package neuraloperator: `pip install microevo[fno]`.

    Args:
        n_modes: Number of Fourier modes along each axis, negative frequencies included.
        width: Number of features.
        layers: Number of Fourier layers.
        coordinates: Whether the network sees the coordinates of each pixel, as in the paper on FNO.
        frames_per_call: Frames that it predicts in one call.
        kwargs: Settings of every forecaster, see `Forecaster`.
    """

    def __init__(
        self,
        n_modes: int = 24,
        width: int = 32,
        layers: int = 4,
        coordinates: bool = True,
        frames_per_call: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.save_hyperparameters(logger=False)
        self.net = FNONet(self.n_past, self.channels, frames_per_call, n_modes, width, layers, coordinates)
