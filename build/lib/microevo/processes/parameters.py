"""The parameters of a batch of trajectories, some of which may differ from one trajectory to the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Parameters:
    """The settings of a process as its equation sees them; `Process.vary` makes them.

    Of parameters `p`, `p.kappa` is the number that the process has, or, where it varies over the batch, a column
    (n, 1, 1, ...) that broadcasts over fields (n, C, *cells): an equation reads the same in both cases.

    Args:
        numbers: All settings of the process.
        columns: One value per trajectory of those that vary, (n, 1, *1s), float64 unless `to` has changed that.
    """

    numbers: Mapping[str, Any]
    columns: Mapping[str, Float[Tensor, "n 1 *ones"]]

    def __getattr__(self, name: str) -> Any:
        # Python asks for special names before there are any attributes, as when it copies.
        if name.startswith("_") or name in ("numbers", "columns") or name not in self.numbers:
            raise AttributeError(f"the process has no setting {name}")
        return self.columns.get(name, self.numbers[name])

    def flat(self, name: str) -> Float[Tensor, " #n"]:
        """One parameter as a row of float64: of one value per trajectory, or of one for all."""
        if name in self.columns:
            return self.columns[name].double().flatten()
        return torch.tensor([self.numbers[name]], dtype=torch.float64)

    def to(self, like: Tensor) -> "Parameters":
        """The same on the device and of the floating-point type of a tensor."""
        return Parameters(self.numbers, {name: column.to(like) for name, column in self.columns.items()})

    def select(self, trajectories: Sequence[int] | Tensor) -> "Parameters":
        """Those of some trajectories of the batch."""
        return Parameters(self.numbers, {name: column[trajectories] for name, column in self.columns.items()})
