"""A mixture that unmixes: composition, energy, structure, interfaces, and the particles of its minority phase."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from microevo.metrics.interface import interface_quantities
from microevo.metrics.objects import area_fraction, count_objects
from microevo.metrics.particles import particle_quantities
from microevo.metrics.quantity import Frames, Quantity, Shared, Statistic, all_frames
from microevo.metrics.structure import structure_quantities

EVEN = 1e-3  # distance of a mean composition from the threshold below which neither phase is the minority


def mixture_quantities(
    first: Float[np.ndarray, "B H W"],
    *,
    periodic: bool,
    threshold: float = 0.5,
    energy: Callable[[Frames], Float[np.ndarray, "B T"]] | None = None,
    from_quench: bool = False,
) -> tuple[Quantity, ...]:
    """What is measured on trajectories of a mixture: `spinodal_quantities`, and the particles that are followed.

    Particles are made of the minority phase of each trajectory; where there is about as much of both, of the phase below
    the threshold.

    Args:
        first: First frame of each trajectory, whose mean tells the minority phase.
        periodic: Whether frames continue on their opposite side; if not, there are no-flux walls.
        threshold: Composition that separates the phases.
        energy: Free energy of frames; without it the energies are left out.
        from_quench: Whether times count from the quench, as a coarsening exponent needs.
    """
    common = spinodal_quantities(first.shape[1:], periodic=periodic, threshold=threshold, energy=energy)
    followed = particle_quantities(periodic=periodic, threshold=threshold)
    above = np.array([float(frame.mean()) for frame in first]) < threshold - EVEN
    view = Shared(partial(_minority_below, above, threshold))
    viewed = [
        _viewed(quantity, view) if quantity.name.startswith("particle") else quantity
        for quantity in (*common, *followed)
    ]
    return tuple(viewed if from_quench else [replace(quantity, fit=None) for quantity in viewed])


def spinodal_quantities(
    shape: tuple[int, int],
    *,
    periodic: bool,
    threshold: float = 0.5,
    below: bool = True,
    energy: Callable[[Frames], Float[np.ndarray, "B T"]] | None = None,
) -> tuple[Quantity, ...]:
    """Conservation, structure factor and coarsening, number of particles, interfaces, and energy.

    Args:
        shape: Pixels along (y, x), which set the wave numbers of the structure factor.
        periodic: Whether frames continue on their opposite side; if not, there are no-flux walls.
        threshold: Composition that separates the phases.
        below: Whether particles (and the phase whose fraction is given) are below the threshold.
        energy: Free energy of frames, such as `image_free_energy` of a process; without it the energies are left out.
    """
    particles = partial(count_objects, threshold=threshold, below=below, connectivity=8, periodic=periodic)
    return (
        Quantity(
            name="composition_drift",
            long_name="mean composition less that of the last past frame",
            unit="1",
            statistic=_drift,
            before=1,
        ),
        Quantity(
            name="phase_fraction",
            long_name=f"share of pixels {'below' if below else 'above'} {threshold:g}",
            unit="1",
            statistic=all_frames(partial(area_fraction, threshold=threshold, below=below)),
        ),
        *structure_quantities(shape, periodic=periodic),
        Quantity(name="particle_count", long_name="number of particles", unit="1", statistic=all_frames(particles)),
        *interface_quantities(periodic=periodic, level=threshold),
        *(() if energy is None else energy_quantities(energy)),
    )


def energy_quantities(energy: Statistic) -> tuple[Quantity, ...]:
    """Free energy per pixel, `energy`, and its rise from frame to frame."""
    return (
        Quantity(name="free_energy", long_name="free energy per pixel", unit="e0 / pixel", statistic=energy),
        Quantity(
            name="energy_rise",
            long_name="rise of the free energy per pixel since the frame before, which the second law forbids",
            unit="e0 / pixel",
            statistic=partial(_rise, energy=energy),
            distance=_of_the_forecast,
            better="low",
            before=1,
        ),
    )


def _minority_below(
    above: Bool[np.ndarray, " B"], threshold: float, frames: Float[np.ndarray, "B T H W"]
) -> Float[np.ndarray, "B T H W"]:
    """Frames of which those whose particles are above the threshold are reflected about it."""
    return np.where(above[:, None, None, None], 2 * threshold - frames, frames) if above.any() else frames


def _viewed(quantity: Quantity, view: Callable[[np.ndarray], np.ndarray]) -> Quantity:
    """A quantity of frames that pass through a function first."""
    if quantity.statistic is None:
        distance = quantity.distance
        return replace(quantity, distance=lambda prediction, target: distance(view(prediction), view(target)))
    statistic = quantity.statistic
    return replace(quantity, statistic=lambda frames: statistic(view(frames)))


def _drift(frames: Frames) -> Float[np.ndarray, "B T"]:
    means = all_frames(lambda finite: finite.mean(axis=(-2, -1)))(frames)
    return means - means[:, :1]


def _rise(frames: Frames, energy: Statistic) -> Float[np.ndarray, "B T"]:
    rise = np.maximum(np.diff(energy(frames), axis=1), 0)
    return np.concatenate([np.full((len(frames), 1), np.nan), rise], axis=1)


def _of_the_forecast(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    return prediction
