"""Which physical quantities belong to which data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from microevo.benchmark.known_physics import Physics
from microevo.data import TrajectoryStore
from microevo.metrics import (
    Comparison,
    Quantity,
    dendrite_quantities,
    grain_quantities,
    image_free_energy,
    spinodal_quantities,
    tracking_metrics,
    wave_quantities,
)
from microevo.processes import DendriticSolidification, GrainGrowth, PlaneWave, RegularSolution, SpinodalDecomposition

Kind = Literal["spinodal", "grains", "dendrite", "wave", "none"]


def kind_of(store: TrajectoryStore) -> Kind:
    """The physics of simulated data; `none` where the process is not one of ours."""
    if not Physics.known(store):
        return "none"
    match Physics(store).process:
        case SpinodalDecomposition() | RegularSolution():
            return "spinodal"
        case GrainGrowth():
            return "grains"
        case DendriticSolidification():
            return "dendrite"
        case PlaneWave():
            return "wave"
    return "none"


@dataclass(frozen=True)
class PhysicalQuantities:
    """What is measured on some trajectories of a store, which may differ in their parameters.

    Args:
        store: The data.
        kind: Their physics.
        n_past: Past frames shown; what looks further back is left out.
    """

    store: TrajectoryStore
    kind: Kind
    n_past: int

    def __call__(self, trajectories: Sequence[int]) -> list[Quantity | Comparison]:
        """The quantities for frames of these trajectories, in this order."""
        return [quantity for quantity in self._all(trajectories) if quantity.before <= self.n_past]

    def _all(self, trajectories: Sequence[int]) -> Sequence[Quantity | Comparison]:
        periodic = self.store.attributes["boundary"] == "periodic"
        match self.kind:
            case "spinodal":
                height, width = self.store.image_shape
                process = self._process(trajectories)
                energy = image_free_energy(process) if process is not None else None
                threshold = process.middle if isinstance(process, SpinodalDecomposition) else 0.5
                below = _mean_composition(self.store) >= threshold  # particles are the minority
                return (
                    *spinodal_quantities(
                        (height, width), periodic=periodic, threshold=threshold, below=below, energy=energy
                    ),
                    *tracking_metrics(periodic=periodic, threshold=threshold, below=below),
                )
            case "grains":
                # Areas in pixels: the data card's slopes are.
                return grain_quantities(periodic=periodic)
            case "dendrite":
                return dendrite_quantities(periodic=periodic)
            case "wave":
                return wave_quantities()
        return ()

    def _process(self, trajectories: Sequence[int]) -> SpinodalDecomposition | RegularSolution | None:
        if not Physics.known(self.store):
            return None
        physics = Physics(self.store)
        process = physics.drawn(physics.process, trajectories)
        return process if isinstance(process, SpinodalDecomposition | RegularSolution) else None


def _mean_composition(store: TrajectoryStore) -> float:
    """Over all trajectories, so that it is the same for every batch."""
    first = store.fields[:1]
    return float(np.mean([store.read(i, 0, 1, first).mean() for i in range(len(store))]))
