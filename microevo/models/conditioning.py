"""Conditioning: forecasts that depend on the parameters of a trajectory, such as its mobility."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microevo.models.batch import ParameterValues
from microevo.models.ensemble import Ensemble
from microevo.models.forecaster import Forecaster


class ParameterEncoder(nn.Module):
    """A vector that says at which parameters the fields evolve.

    The parameters are standardised with their mean and standard deviation over the training trajectories, which are kept in the
    checkpoint together with their range.

    Args:
        names: Names of the parameters, in the order of the axis P.
        size: Size of the vector.
        width: Features of the hidden layer.
    """

    mean: Tensor
    std: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(self, names: Sequence[str], size: int = 32, width: int = 32):
        super().__init__()
        self.names, self.size = tuple(names), size
        self.net = nn.Sequential(nn.Linear(len(names), width), nn.SiLU(), nn.Linear(width, size))
        self.register_buffer("mean", torch.zeros(len(names)))
        self.register_buffer("std", torch.ones(len(names)))
        self.register_buffer("lowest", torch.full((len(names),), -math.inf))
        self.register_buffer("highest", torch.full((len(names),), math.inf))

    def take_statistics(self, values: Float[Tensor, "N P"]) -> list[str]:
        """Standardise with the values of the training trajectories; return the parameters that are the same in all of them."""
        spread = values.double().std(dim=0, correction=0).to(values)
        fixed = values.amax(dim=0) == values.amin(dim=0)
        self.mean.copy_(values.double().mean(dim=0))
        self.std.copy_(torch.where(fixed, torch.ones_like(spread), spread))
        self.lowest.copy_(values.amin(dim=0))
        self.highest.copy_(values.amax(dim=0))
        return [name for name, same in zip(self.names, fixed.tolist(), strict=True) if same]

    def forward(self, values: ParameterValues, past: Float[Tensor, "B n_past C H W"]) -> Float[Tensor, "B {self.size}"]:
        """The vector of each sample.

        Args:
            values: The parameters of each sample, or those of all of them by name.
            past: The input frames of the samples.

        Raises:
            ValueError: A parameter is missing or unknown.
        """
        rows = self.rows(values, past).to(past)
        return self.net((rows - self.mean) / self.std)

    def rows(self, values: ParameterValues, past: Float[Tensor, "B n_past C H W"]) -> Float[Tensor, "B P"]:
        """The parameters of each sample; see `forward`."""
        samples = past.shape[0]
        if isinstance(values, Tensor):
            if values.ndim != 2 or values.shape[0] != samples or values.shape[1] != len(self.names):
                raise ValueError(
                    f"this model is conditioned on {', '.join(self.names)}, one row of which for each sample has the shape "
                    f"{(samples, len(self.names))}, but {tuple(values.shape)} was given; set `parameters` of the data to "
                    f"{list(self.names)}"
                )
            return values
        given = values or {}
        if missing := [name for name in self.names if name not in given]:
            raise ValueError(
                f"this model is conditioned on {', '.join(self.names)}, but {', '.join(missing)} is not given; give a value by "
                f"name, as in parameters={{'{missing[0]}': 1.0}}"
            )
        if unknown := [name for name in given if name not in self.names]:
            raise ValueError(
                f"this model is conditioned on {', '.join(self.names)}, not on {', '.join(unknown)}; leave it out"
            )
        return torch.tensor([[float(given[name]) for name in self.names]]).expand(samples, -1)

    def outside(self, values: Float[Tensor, "N P"]) -> list[str]:
        """Parameters with values beyond those of the training trajectories, in words, with that range."""
        bounds = zip(self.names, values.T, self.lowest.tolist(), self.highest.tolist(), strict=True)
        return [
            f"{name} ({low:.6g} to {high:.6g} in training)"
            for name, column, low, high in bounds
            if column.min() < low or column.max() > high
        ]


class Conditioned(nn.Module):
    """A forecaster at fixed values of its parameters, which is called like any other.

    Args:
        forecaster: A forecaster, or an ensemble, that is conditioned on parameters.
        values: Their values.
    """

    values: Tensor

    def __init__(self, forecaster: Forecaster | Ensemble, values: Float[Tensor, " P"]):
        super().__init__()
        self.forecaster = forecaster
        self.register_buffer("values", values)

    def forward(self, past: Float[Tensor, "B n_past C H W"], horizon: int) -> Float[Tensor, "B {horizon} C H W"]:
        """Forecast the `horizon` frames that follow `past`."""
        return self.forecaster(past, horizon, self.values.expand(len(past), -1))

    def loss(
        self, past: Float[Tensor, "B n_past C H W"], future: Float[Tensor, "B n_future C H W"]
    ) -> Float[Tensor, ""]:
        """The training loss of the forecaster."""
        return self.forecaster.loss(past, future, self.values.expand(len(past), -1))
