"""Ensemble: several trainings of one network, which forecast together."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from microevo.models.batch import ParameterValues
from microevo.models.forecaster import Forecaster


class Ensemble(nn.Module):
    """Several trainings of one network: deep ensembles, arXiv 1612.01474.

    Args:
        members: The networks, which differ in their weights.
        names: What each is called in a message, for instance its checkpoint.

    Raises:
        ValueError: There are fewer than two, or two with the same weights, or they are not trainings of one network.
    """

    def __init__(self, members: Sequence[Forecaster], names: Sequence[str]) -> None:
        super().__init__()
        _check_members(members, names)
        self.members = nn.ModuleList(members)
        self.unit = members[0].unit

    def forward(
        self, past: Float[Tensor, "B n_past C H W"], horizon: int, *conditions: ParameterValues
    ) -> Float[Tensor, "B {horizon} C H W"]:
        """The mean of the members' forecasts; `conditions` are the parameters, if they are conditioned on any."""
        total = self.members[0](past, horizon, *conditions)
        for member in self.members[1:]:
            total = total + member(past, horizon, *conditions)
        return total / len(self.members)

    def forecast(
        self, past: Float[Tensor, "B n_past C H W"], horizon: int, boundary: str, parameters: ParameterValues = None
    ) -> Float[Tensor, "M B {horizon} C H W"]:
        """The forecast of each member, for frames of any size; see `Forecaster.forecast`."""
        return torch.stack([member.forecast(past, horizon, boundary, parameters) for member in self._forecasters])

    def loss(
        self,
        past: Float[Tensor, "B n_past C H W"],
        future: Float[Tensor, "B n_future C H W"],
        *conditions: ParameterValues,
    ) -> Float[Tensor, ""]:
        """The sum of the members' losses: its gradient trains each of them, at the cost of all their trainings."""
        return torch.stack([member.loss(past, future, *conditions) for member in self._forecasters]).sum()

    @property
    def _forecasters(self) -> list[Forecaster]:
        return list(self.members)  # type: ignore[arg-type]


def _check_members(members: Sequence[Forecaster], names: Sequence[str]) -> None:
    if len(members) < 2:
        raise ValueError(
            f"an ensemble needs at least two members, but {' and '.join(names) or 'none'} is given; give the checkpoints of "
            "several seeds"
        )
    first = _settings(members[0])
    for name, member in zip(names[1:], members[1:], strict=True):
        for setting, value in _settings(member).items():
            if value != first[setting] and None not in (value, first[setting]):
                raise ValueError(
                    f"the members of an ensemble are trainings of one network, but the {setting} of {names[0]} is "
                    f"{first[setting]} and that of {name} is {value}; give checkpoints of one experiment with different seeds"
                )
    for (name, a), (other, b) in itertools.combinations(zip(names, members, strict=True), 2):
        if all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)):
            raise ValueError(
                f"two members of an ensemble, {name} and {other}, have the same weights; give checkpoints of different seeds"
            )


def _settings(member: Forecaster) -> dict[str, Any]:
    """What the trainings of one network have in common; None for what an older checkpoint does not tell."""
    return {
        "network": type(member).__name__,
        "number of fields": member.channels,
        "fields": ", ".join(member.trained_spans) or None,
        "parameters": ", ".join(member.parameter_names),
        "n_past": member.n_past,
        "horizon": member.horizon,
        "number of weights": sum(weight.numel() for weight in member.parameters()),
    }
