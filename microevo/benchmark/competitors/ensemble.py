"""Several trainings of one network as one competitor."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from microevo.benchmark.competitors.base import Competitor, Forecast
from microevo.benchmark.competitors.model import Model
from microevo.benchmark.protocol import Protocol
from microevo.data import Window, WindowDataset
from microevo.models import Conditioned, Ensemble
from microevo.provenance import fingerprint


class EnsembleForecasts(Competitor):
    """The forecasts of several trainings of one network, of which the mean is compared with other forecasts.

    A batch holds the forecasts of all members in memory, so that large frames need a smaller `batch_size`.

    Args:
        name: Name of the row.
        members: The trainings.

    Raises:
        ValueError: They are not an ensemble; see `Ensemble`.
    """

    def __init__(self, name: str, members: Sequence[Model]) -> None:
        super().__init__(name)
        self.members = list(members)
        self.forecaster = Ensemble([model.forecaster for model in members], [model.source for model in members])

    def fingerprint(self, protocol: str) -> str:
        """The digest of the members' fingerprints."""
        return fingerprint("\n".join(model.fingerprint(protocol) for model in self.members))

    def supports(self, name: str, protocol: Protocol, windows: WindowDataset) -> bool:
        """Whether the store has the parameters that the members are conditioned on."""
        return self.members[0].supports(name, protocol, windows)

    def parameters(self, window: Window, windows: WindowDataset) -> Float[Tensor, "B P"] | None:
        """The parameters of a batch of windows that the members are conditioned on, if they are."""
        return self.members[0].parameters(window, windows)

    def timed(self, window: Window, windows: WindowDataset) -> Ensemble | Conditioned:
        """The members together as a forecaster to be timed, with the parameters of the first of some windows."""
        parameters = self.parameters(window, windows)
        return self.forecaster if parameters is None else Conditioned(self.forecaster, parameters[0])

    def prepare(self, name: str, protocol: Protocol, windows: WindowDataset, device: torch.device) -> Forecast:
        """Return the forecasts of the members, M B T C H W, which leave the device one by one."""
        forecasts = [model.prepare(name, protocol, windows, device) for model in self.members]

        def forecast(window: Window) -> Tensor:
            members = torch.empty(len(forecasts), *window.future.shape)
            for member, forecast_of in zip(members, forecasts, strict=True):
                member.copy_(forecast_of(window))
            return members

        return forecast
