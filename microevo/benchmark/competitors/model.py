"""Trained models, and Persistence, as competitors."""

import hashlib
from pathlib import Path
from typing import Literal

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from microevo.benchmark.competitors.base import BASELINE, Competitor, Forecast
from microevo.benchmark.protocol import Protocol
from microevo.data import Window, WindowDataset
from microevo.data.parameters import known_parameters, parameter_values
from microevo.models import Conditioned, Forecaster, Persistence, load_model
from microevo.models.folder import model_fingerprint


class Model(Competitor):
    """A forecaster in memory, or one in a checkpoint.

    Args:
        name: Name of the row.
        forecaster: The forecaster, or the checkpoint that holds it.
        seed: Seed of the training; that of the checkpoint unless given.
    """

    def __init__(self, name: str, forecaster: Forecaster | str | Path, seed: int | None = None) -> None:
        if isinstance(forecaster, Forecaster):
            self.forecaster, self.checkpoint = forecaster, None
        else:
            self.forecaster, self.checkpoint = load_model(forecaster), Path(forecaster)
        super().__init__(name, self.forecaster.trained_seed if seed is None else seed)
        self._left_out: set[str] = set()  # protocols of which it was said

    @property
    def source(self) -> str:
        """Where it is from, for messages: its checkpoint, or name and seed of one in memory."""
        return self.label if self.checkpoint is None else str(self.checkpoint)

    def fingerprint(self, protocol: str) -> str:
        """The digest of the checkpoint, or of the weights in memory."""
        if self.checkpoint is not None:
            return model_fingerprint(self.checkpoint)
        digest = hashlib.sha256()
        for name, weight in self.forecaster.state_dict().items():
            digest.update(name.encode() + weight.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return f"{type(self.forecaster).__name__} {digest.hexdigest()}"

    def supports(self, name: str, protocol: Protocol, windows: WindowDataset) -> bool:
        """Whether the store has the parameters that the network is conditioned on; says so if it has not."""
        names = self.forecaster.parameter_names
        known = known_parameters(windows.store) if names else {}
        missing = [parameter for parameter in names if parameter not in known]
        if missing and name not in self._left_out:
            self._left_out.add(name)
            print(
                f"{name}: {self.label} is left out, since it is conditioned on {', '.join(missing)}, which {windows.store.path} "
                "does not have"
            )
        return not missing

    def prepare(self, name: str, protocol: Protocol, windows: WindowDataset, device: torch.device) -> Forecast:
        """Return the forecast from as many input frames as the network takes."""
        forecaster = self.forecaster.to(device).eval()
        if forecaster.channels != len(windows.fields):
            raise ValueError(
                f"{self.name} forecasts {forecaster.channels} fields, but the benchmark asks for {len(windows.fields)} "
                f"({', '.join(windows.fields)}); change fields, or leave the model out"
            )

        def forecast(window: Window) -> Tensor:
            past = self.input_frames(window.past.to(device), protocol)
            boundary, parameters = windows.store.attributes["boundary"], self.parameters(window, windows)
            return forecaster.forecast(past, protocol.horizon, boundary, parameters)

        return forecast

    def parameters(self, window: Window, windows: WindowDataset) -> Float[Tensor, "B P"] | None:
        """The parameters of a batch of windows that the network is conditioned on, if it is."""
        if not self.forecaster.parameter_names:
            return None
        values = torch.from_numpy(parameter_values(windows.store, self.forecaster.parameter_names))
        return values[window.trajectory].to(self.forecaster.device)

    def timed(self, window: Window, windows: WindowDataset) -> Forecaster | Conditioned:
        """The network as a forecaster to be timed: with the parameters of the first of some windows, whatever its input."""
        parameters = self.parameters(window, windows)
        return self.forecaster if parameters is None else Conditioned(self.forecaster, parameters[0])

    def input_frames(
        self, past: Float[Tensor, "B n_input C H W"], protocol: Protocol
    ) -> Float[Tensor, "B n_past C H W"]:
        """Cut or pad the input frames of a protocol to as many as the network takes."""
        forecaster = self.forecaster
        if past.shape[1] > forecaster.n_past:
            return past[:, -forecaster.n_past :]
        if forecaster.any_past and protocol.missing_past != "zeros":
            return past
        return pad_input(past, forecaster.n_past, protocol.missing_past)


def pad_input(
    past: Float[Tensor, "B n_input C H W"], n_past: int, how: Literal["first", "linear", "zeros"]
) -> Float[Tensor, "B {n_past} C H W"]:
    """Put frames before the input frames, so that there are `n_past`.

    `first` repeats the first frame; `linear` extrapolates the first two backwards, clipped to the smallest and largest
    value of the input. `zeros` is a microstructure that never existed; the paper uses it (arXiv 2602.19915). The demo's
    FCN, given 5 frames of its validation trajectories, has an RMSE over the next 45 frames of 0.095 with `first`, 0.097
    with `linear` and 0.263 with `zeros`.

    Raises:
        ValueError: There are more input frames than the network takes.
    """
    absent = n_past - past.shape[1]
    if absent < 0:
        raise ValueError(
            f"there are {past.shape[1]} input frames, but the network takes {n_past}; lower n_past of the protocol"
        )
    first = past[:, :1]
    if how == "zeros":
        before = torch.zeros_like(first).expand(-1, absent, -1, -1, -1)
    else:
        before = repeat(first, "B 1 C H W -> B T C H W", T=absent)
        if how == "linear" and past.shape[1] > 1:
            steps = torch.arange(absent, 0, -1, device=past.device, dtype=past.dtype)
            before = before - torch.einsum("T, B C H W -> B T C H W", steps, past[:, 1] - past[:, 0])
            low, high = (getattr(past, name)(dim=(1, 3, 4), keepdim=True) for name in ("amin", "amax"))
            before = before.clamp(low, high)
    return torch.cat([before, past], dim=1)


def persistence(fields: int) -> Model:
    """The baseline of every table, which repeats the last input frame."""
    return Model(BASELINE, Persistence(n_past=1, channels=fields))
