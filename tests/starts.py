"""Where the trajectories of the tests start, and the laws that they keep to from there."""

import math
from collections.abc import Sequence

import torch
from figures import Figure
from torch import Tensor

from microevo.processes import RegularSolution, SpinodalDecomposition, trajectory_generator


def generators(*indices: int, seed: int = 0) -> list[torch.Generator]:
    """The random numbers of these trajectories."""
    return [trajectory_generator(seed, index) for index in indices]


def mass_stays_and_energy_falls(
    figure: Figure,
    process: SpinodalDecomposition | RegularSolution,
    times: Sequence[float],
    *,
    drift: float,
    rise: float,
    where: str,
) -> Tensor:
    """Check both from noise to the last time, on two trajectories; the fields then."""
    stepper = process.stepper()
    stepper.start(process.initial(generators(0, 1)).to(process.dtype))
    mass, energy = stepper.u.double().flatten(1).mean(1), process.free_energy(stepper.u)
    worst = -math.inf
    for time in times:
        stepper.advance(time)
        before, energy = energy, process.free_energy(stepper.u)
        worst = max(worst, float(((energy - before) / before.abs()).max()))
    figure(
        f"drift of the mean, {where}",
        measured=float((stepper.u.double().flatten(1).mean(1) - mass).abs().max()),
        expected=0,
        tolerance=drift,
        source="conservation law",
    )
    figure(
        f"largest rise of the free energy between {len(times)} times, relative, {where}",
        measured=max(worst, 0.0),
        expected=0,
        tolerance=rise,
        source="second law",
    )
    return stepper.u
