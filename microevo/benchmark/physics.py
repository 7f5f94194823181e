"""Which physical quantities belong to which data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from microevo.benchmark.competitors.reference_solver import StoredProcess
from microevo.data import TrajectoryStore
from microevo.metrics import Quantity, dendrite_quantities, grain_quantities, mixture_quantities, wave_quantities

Kind = Literal["auto", "spinodal", "grains", "dendrite", "wave", "none"]


@dataclass(frozen=True)
class PhysicalQuantities:
    """What is measured on some trajectories of a store, which may differ in their parameters.

    Args:
        store: The data.
        kind: `auto` for the quantities that the process of simulated data brings; others for imported data, of which the
            frames alone are known.
        n_past: Input frames; a quantity that looks further back is left out.
    """

    store: TrajectoryStore
    kind: Kind
    n_past: int

    def __call__(self, trajectories: Sequence[int]) -> list[Quantity]:
        """The quantities for frames of these trajectories, in this order."""
        return [quantity for quantity in self._all(trajectories) if quantity.before <= self.n_past]

    def _all(self, trajectories: Sequence[int]) -> Sequence[Quantity]:
        if self.kind == "auto" and not StoredProcess.known(self.store):
            return ()
        periodic = self.store.attributes["boundary"] == "periodic"
        first = np.stack([self.store.read(i, 0, 1, self.store.fields[:1])[0, 0] for i in trajectories])
        match self.kind:
            case "auto":
                stored = StoredProcess(self.store)
                return stored.process.quantities(first, stored.parameters(stored.process, trajectories))
            case "spinodal":
                return mixture_quantities(first, periodic=periodic)
            case "grains":
                return grain_quantities(periodic=periodic)
            case "dendrite":
                return dendrite_quantities(periodic=periodic)
            case "wave":
                return wave_quantities()
        return ()
