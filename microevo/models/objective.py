"""Objective: what a training minimises."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from microevo.metrics import Metric, squared_error
from microevo.processes.residual import EquationResidual


class Objective:
    """The terms of a training loss: how far a forecast is from the truth, and from solving the equation of the process.

    With `e` the error of the forecast in units of `scale`, and `r` the residual of the equation between successive frames in
    units of their root mean square change (see `EquationResidual`), each mean over all frames, fields and pixels:

        mean(e^2) + ssim_weight (1 - SSIM)        `error`
        physics_weight mean(r^2)                  `physics`

    The residual asks for no truth: it weighs what a forecast implies about the law, as in physics-informed training
    (arXiv 2606.20983).

    Args:
        ssim_weight: Weight of `1 - SSIM`.
        physics_weight: Weight of the squared residual.

    Attributes:
        terms: The mean squared error, and the squared residual if it has a weight, of the last call, to be logged.

    Raises:
        ValueError: `physics_weight` is negative.
    """

    def __init__(self, ssim_weight: float = 0.0, physics_weight: float = 0.0):
        if not physics_weight >= 0:
            raise ValueError(f"physics_weight must not be negative, got {physics_weight}.")
        self.ssim_weight, self.physics_weight = ssim_weight, physics_weight
        self.terms: dict[str, Tensor] = {}
        self._residual: EquationResidual | None = None
        self._change: Float[Tensor, "C 1 1"] | None = None
        self._trajectories: Int[Tensor, " B"] | None = None

    def error(
        self,
        prediction: Float[Tensor, "B T C H W"],
        target: Float[Tensor, "B T C H W"],
        ssim: Metric,
        scale: Float[Tensor, "C 1 1"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean squared error plus `ssim_weight * (1 - SSIM)`.

        Args:
            prediction: Forecast frames.
            target: True frames.
            ssim: The metric SSIM, for fields of this range.
            scale: What the squared error is measured in; the unit of the field unless given. It is logged in that unit.
        """
        mse = squared_error(prediction, target).mean()
        self.terms["mse"] = mse.detach()
        if scale is not None:
            mse = squared_error(prediction / scale, target / scale).mean()
        if self.ssim_weight == 0:
            return mse
        return mse + self.ssim_weight * (1 - ssim(prediction, target).mean())

    def set_equation(self, residual: EquationResidual, change_rms: Float[Tensor, " C"]) -> None:
        """Tell the equation that forecasts are to solve, and the root mean square change between frames."""
        self._residual, self._change = residual, change_rms[:, None, None]

    def begin(self, trajectories: Int[Tensor, " B"]) -> None:
        """Tell the trajectories of the next batch, whose parameters the equation has."""
        self._trajectories = trajectories

    def physics(
        self, before: Float[Tensor, "B 1 C H W"], prediction: Float[Tensor, "B T C H W"]
    ) -> Float[Tensor, ""] | float:
        """`physics_weight` times the mean squared residual of the equation; 0 without a weight or an equation.

        Args:
            before: The frame before the forecast.
            prediction: Forecast frames.
        """
        if self.physics_weight == 0 or self._residual is None or self._trajectories is None:
            return 0.0
        residual = self._residual(torch.cat([before, prediction], dim=1), self._trajectories)
        assert self._change is not None
        self._change = self._change.to(residual)
        squared = (residual / self._change).square().mean()
        self.terms["residual"] = squared.detach()
        return self.physics_weight * squared
