"""Entries of a benchmark: whatever can answer a protocol's windows with frames."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from lightning import LightningModule
from torch import Tensor

from microevo.benchmark.past import fill_past
from microevo.benchmark.protocol import Protocol
from microevo.data import Window, WindowDataset
from microevo.models import Forecaster, Persistence
from microevo.provenance import fingerprint

Answer = Callable[[Window], Float[Tensor, "B T C H W"]]
TRUTH = "Truth"


class Entry(ABC):
    """One row of the leaderboard, or one seed of it.

    Args:
        model: Name of the row.
        seed: Seed of the training, where there was one.
    """

    def __init__(self, model: str, seed: int | None = None) -> None:
        self.model, self.seed = model, seed

    @property
    def label(self) -> str:
        """Name and seed, for files and progress."""
        return self.model if self.seed is None else f"{self.model}-seed{self.seed}"

    @abstractmethod
    def identity(self, protocol: str) -> str:
        """What changes whenever the entry's answers to a protocol may change."""

    @abstractmethod
    def prepare(self, name: str, protocol: Protocol, windows: WindowDataset, device: torch.device) -> Answer:
        """The function that answers a batch of the protocol's windows.

        Raises:
            ValueError: The entry cannot answer this protocol, and why.
        """

    def takes_part(self, name: str, protocol: Protocol, windows: WindowDataset) -> bool:
        """Whether the entry has an answer to this protocol at all."""
        return True


class Truth(Entry):
    """The true future: its physical statistics stand beside those of the forecasts."""

    def __init__(self) -> None:
        super().__init__(TRUTH)

    def identity(self, protocol: str) -> str:
        """Always the same."""
        return "truth"

    def prepare(self, name: str, protocol: Protocol, windows: WindowDataset, device: torch.device) -> Answer:
        """The frames that follow."""
        return lambda window: window.future


class Model(Entry):
    """A forecaster in memory, or one trained and saved.

    Args:
        model: Name of the row.
        forecaster: The forecaster, or the checkpoint that holds it.
        seed: Seed of the training; that of the checkpoint unless given.
    """

    def __init__(self, model: str, forecaster: Forecaster | str | Path, seed: int | None = None) -> None:
        if isinstance(forecaster, Forecaster):
            self._forecaster, self._checkpoint = forecaster, None
        else:
            self._forecaster, self._checkpoint = load(forecaster), Path(forecaster)
        super().__init__(model, self._forecaster.trained_seed if seed is None else seed)

    @property
    def forecaster(self) -> Forecaster:
        """The forecaster, as it is in memory."""
        return self._forecaster

    def identity(self, protocol: str) -> str:
        """The digest of the checkpoint, or of the weights in memory."""
        if self._checkpoint is not None:
            return fingerprint(self._checkpoint)
        digest = hashlib.sha256()
        for name, weight in self._forecaster.state_dict().items():
            digest.update(name.encode() + weight.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return f"{type(self._forecaster).__name__} {digest.hexdigest()}"

    def prepare(self, name: str, protocol: Protocol, windows: WindowDataset, device: torch.device) -> Answer:
        """The forecast from as many past frames as the network takes."""
        forecaster = self._forecaster.to(device).eval()
        if forecaster.channels != len(windows.fields):
            raise ValueError(
                f"{self.model} forecasts {forecaster.channels} fields, but the benchmark asks for {len(windows.fields)} "
                f"({', '.join(windows.fields)}); change fields, or leave the model out"
            )

        def answer(window: Window) -> Tensor:
            return forecaster(self.past(window.past.to(device), protocol), protocol.horizon)

        return answer

    def past(self, shown: Float[Tensor, "B n_shown C H W"], protocol: Protocol) -> Float[Tensor, "B n_past C H W"]:
        """What the network is given of the frames shown."""
        forecaster = self._forecaster
        if shown.shape[1] > forecaster.n_past:
            return shown[:, -forecaster.n_past :]
        if forecaster.any_past and protocol.missing_past != "zeros":
            return shown
        return fill_past(shown, forecaster.n_past, protocol.missing_past)


def persistence(fields: int) -> Model:
    """The floor of every table."""
    return Model("Persistence", Persistence(n_past=1, channels=fields))


def load(checkpoint: str | Path) -> Forecaster:
    """The model of a checkpoint.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The checkpoint is no model of ours.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(
            f"there is no checkpoint at {checkpoint}; train the model first, or correct `checkpoints`"
        )
    forecaster = LightningModule.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    if not isinstance(forecaster, Forecaster):
        raise ValueError(f"{checkpoint} holds a {type(forecaster).__name__}, which is no microevo model")
    return forecaster
