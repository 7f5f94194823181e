"""Which physical quantities belong to which data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from microevo.benchmark.competitors.reference_solver import StoredProcess
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
from microevo.metrics.quantity import Shared
from microevo.processes import (
    DendriticSolidification,
    GrainGrowth,
    Parameters,
    PlaneWave,
    RegularSolution,
    SpinodalDecomposition,
)

Kind = Literal["spinodal", "grains", "dendrite", "wave", "none"]
OF_PARTICLES = (
    "particle_count",
    "particle_growth",
    "particle_shrinkage",
    "particle_rate_w1",
    "particles_lost",
    "particle_area",
)
EVEN = 1e-3  # distance of a mean composition from the middle that is no preference


def kind_of(store: TrajectoryStore) -> Kind:
    """The physics of simulated data; `none` where the process is not one of ours."""
    if not StoredProcess.known(store):
        return "none"
    match StoredProcess(store).process:
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
                process, p = self._process(trajectories)
                energy = image_free_energy(process, p) if process is not None else None
                threshold = process.middle if isinstance(process, SpinodalDecomposition) else 0.5
                common = spinodal_quantities((height, width), periodic=periodic, threshold=threshold, energy=energy)
                followed = tracking_metrics(periodic=periodic, threshold=threshold)
                minority = Shared(partial(_minority_below, self._minority_above(trajectories, threshold), threshold))
                turned = [_seen(one, minority) if one.name in OF_PARTICLES else one for one in (*common, *followed)]
                # The clock of imported frames does not start at the quench, which an exponent needs.
                return turned if process is not None else [_without_fit(one) for one in turned]
            case "grains":
                # Areas in pixels: the data card's slopes are.
                return grain_quantities(periodic=periodic)
            case "dendrite":
                return dendrite_quantities(periodic=periodic)
            case "wave":
                return wave_quantities()
        return ()

    def _process(
        self, trajectories: Sequence[int]
    ) -> tuple[SpinodalDecomposition | RegularSolution | None, Parameters | None]:
        if not StoredProcess.known(self.store):
            return None, None
        physics = StoredProcess(self.store)
        process = physics.process
        known = process if isinstance(process, SpinodalDecomposition | RegularSolution) else None
        return known, physics.parameters(process, trajectories)

    def _minority_above(self, trajectories: Sequence[int], threshold: float) -> Bool[np.ndarray, " B"]:
        """Of each trajectory whether the phase above the threshold is the minority, and so what particles are made of.

        Trajectories of one store may differ in it. What has next to as much of both phases has particles below.
        """
        first = self.store.fields[:1]
        means = [float(self.store.read(i, 0, 1, first).mean()) for i in trajectories]
        return np.array(means) < threshold - EVEN


def _minority_below(
    above: Bool[np.ndarray, " B"], threshold: float, frames: Float[np.ndarray, "B T H W"]
) -> Float[np.ndarray, "B T H W"]:
    """Frames of which those whose particles are above the threshold are reflected about it."""
    return np.where(above[:, None, None, None], 2 * threshold - frames, frames) if above.any() else frames


def _seen(one: Quantity | Comparison, view: Callable[[np.ndarray], np.ndarray]) -> Quantity | Comparison:
    """A quantity of frames that are looked at through a function."""
    if isinstance(one, Quantity):
        statistic = one.statistic
        return replace(one, statistic=lambda frames: statistic(view(frames)))
    error = one.error
    return replace(one, error=lambda prediction, target: error(view(prediction), view(target)))


def _without_fit(one: Quantity | Comparison) -> Quantity | Comparison:
    return replace(one, fit=None) if isinstance(one, Quantity) else one
