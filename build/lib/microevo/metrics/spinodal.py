"""What is measured on the composition of a mixture that unmixes."""

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Float

from microevo.metrics.distribution import histogram, total_variation, wasserstein
from microevo.metrics.quantity import (
    Bins,
    Fit,
    Frames,
    Quantity,
    Shared,
    Statistic,
    all_frames,
    each_frame,
    log_ratio,
)
from microevo.metrics.trend import growth_exponent
from microevo.processes import Grid, Parameters, RegularSolution, SpinodalDecomposition
from microevo.statistics.interface import contour_curvature, interface_length, squared_gradient
from microevo.statistics.objects import area_fraction, count_objects
from microevo.statistics.structure import (
    characteristic_length,
    power_spectrum,
    structure_factor,
    wave_numbers,
)

BANDS = (0.0, 0.25, 0.5, 1.0, 2.0, float(np.pi))  # edges of the bands of wave numbers [rad/px]
# Power of white noise with the variance that rounding to 256 greys between 0 and 1 adds: no picture shows less.
ROUNDING = (1 / 255) ** 2 / 12  # of `power_spectrum`, whose mean is the variance [px^2]
CURVATURES = Bins("curvature of the interface", "1/px", tuple(np.arange(-0.6, 0.61, 0.05).round(2).tolist()))


def spinodal_quantities(
    shape: tuple[int, int],
    *,
    periodic: bool,
    threshold: float = 0.5,
    below: bool = True,
    energy: Callable[[Frames], Float[np.ndarray, "B T"]] | None = None,
    energy_unit: str = "e0",
) -> tuple[Quantity, ...]:
    """Conservation, energy, structure factor, coarsening and interfaces.

    The bands of the structure factor are compared by the logarithm of their ratio, with the power that rounding to eight
    bits adds on both sides (`ROUNDING`). The curvature of the interfaces has two distances: the total variation, in which
    samples just across the edge of a bin count as wholly different, and the Wasserstein-1 distance, in which they count by
    the width of a bin at most. A forecast without interfaces, if the truth has any, has the worst value of both: 1, and
    the width of the bins.

    Followed particles are `microevo.metrics.tracking.tracking_metrics`.

    Args:
        shape: Pixels along (y, x), which set the wave numbers of the structure factor.
        periodic: Whether frames go on beyond a border on the opposite side; if not, there are no-flux walls.
        threshold: Composition that tells the phases apart.
        below: Whether particles (and the phase whose fraction is given) are below the threshold.
        energy: Free energy of frames, see `image_free_energy`; without it the energies are left out.
        energy_unit: Unit of the energy.
    """
    shell = 2 * np.pi / min(shape)
    rings = len(structure_factor(np.zeros(shape), periodic=periodic)[0])
    bands = Shared(all_frames(partial(_band_powers, periodic=periodic)))
    particles = partial(count_objects, threshold=threshold, below=below, connectivity=8, periodic=periodic)
    edges = np.array(CURVATURES.edges)

    def curvature_counts(frame: np.ndarray) -> np.ndarray:
        return histogram(contour_curvature(frame, periodic=periodic, level=threshold), edges)

    curvatures = Shared(each_frame(curvature_counts, len(edges) - 1))
    quantities = [
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
        Quantity(
            name="structure_factor",
            long_name="structure factor, relative error over all wave numbers",
            unit="px^2",
            statistic=all_frames(lambda frames: structure_factor(frames, periodic=periodic)[1]),
            distance=_relative_l1,
            error_unit="1",
            bins=Bins("wave number", "rad/px", tuple((shell * (np.arange(rings + 1) + 0.5)).tolist())),
        ),
        *(_band(number, bands) for number in range(len(BANDS) - 1)),
        Quantity(
            name="characteristic_length",
            long_name="2 pi / mean wave number",
            unit="px",
            statistic=all_frames(partial(characteristic_length, periodic=periodic)),
            fit=Fit("coarsening_exponent", "1", growth_exponent),
        ),
        Quantity(
            name="particle_count",
            long_name="number of particles",
            unit="1",
            statistic=all_frames(particles),
        ),
        Quantity(
            name="interface_length",
            long_name="length of the interfaces",
            unit="px",
            statistic=all_frames(partial(interface_length, periodic=periodic, level=threshold)),
        ),
        Quantity(
            name="squared_gradient",
            long_name="mean squared gradient, which falls where interfaces blur",
            unit="1/px^2",
            statistic=all_frames(partial(squared_gradient, periodic=periodic)),
        ),
        Quantity(
            name="curvature_tv",
            long_name="curvature distribution of the interfaces, total variation",
            unit="samples",
            statistic=curvatures,
            distance=total_variation,
            error_unit="1",
            bins=CURVATURES,
        ),
        Quantity(
            name="curvature_w1",
            long_name="curvature distribution of the interfaces, Wasserstein-1",
            unit="samples",
            statistic=curvatures,
            distance=partial(wasserstein, edges=edges),
            error_unit=CURVATURES.unit,
            bins=CURVATURES,
        ),
    ]
    if energy is not None:
        quantities += [
            Quantity(
                name="free_energy",
                long_name="free energy per pixel",
                unit=f"{energy_unit} / pixel",
                statistic=energy,
            ),
            Quantity(
                name="energy_rise",
                long_name="rise of the free energy per pixel since the frame before, which the second law forbids",
                unit=f"{energy_unit} / pixel",
                statistic=partial(_rise, energy=energy),
                distance=_of_the_forecast,
                better="low",
                before=1,
            ),
        ]
    return tuple(quantities)


def image_free_energy(
    process: SpinodalDecomposition | RegularSolution, parameters: Parameters | None = None
) -> Statistic:
    """The free energy of a process, per pixel, evaluated on images [e0 / pixel].

    The process's own functional, with the pixels as its cells. An image is coarser than the solver's grid, so that the
    energy of its interfaces is another one: compare forecasts with images of the truth, never with the solver's energy.
    A forecast that leaves the range of a regular solution, [0, 1], pays for it (`RegularSolution.free_energy`).

    Args:
        process: The equation.
        parameters: Those of each trajectory of the batch, in its order; those of the process unless given.
    """

    def energy(frames: Frames) -> Float[np.ndarray, "B T"]:
        for name, column in parameters.columns.items() if parameters else ():
            if len(column) != len(frames):
                raise ValueError(
                    f"the parameters have {name} for {len(column)} trajectories, but the batch has {len(frames)}; give the "
                    "parameters of the batch"
                )
        values = []
        for number, trajectory in enumerate(frames):
            own = parameters.select([number]) if parameters else None
            values.append(all_frames(partial(_per_pixel, process=process, parameters=own))(trajectory))
        return np.stack(values)

    return energy


def _per_pixel(
    frames: Float[np.ndarray, "n H W"],
    process: SpinodalDecomposition | RegularSolution,
    parameters: Parameters | None,
) -> Float[np.ndarray, " n"]:
    pixels = Grid(shape=frames.shape[-2:], spacing=process.grid.image_spacing, boundary=process.grid.boundary)
    energy = process.free_energy(torch.from_numpy(frames)[:, None], parameters, pixels)
    return energy.numpy() / (frames.shape[-2] * frames.shape[-1])


def _band_powers(frames: Float[np.ndarray, "n H W"], periodic: bool) -> Float[np.ndarray, "n bands"]:
    q = wave_numbers(*frames.shape[-2:], periodic=periodic)
    power = power_spectrum(frames, periodic=periodic)
    inside = [(q > low) & (q <= high) for low, high in itertools.pairwise(BANDS)]
    unknown = np.full(len(frames), np.nan)  # a small frame has no waves as long as the first band's
    return np.stack([power[:, band].mean(axis=-1) if band.any() else unknown for band in inside], axis=-1)


def _band(number: int, bands: Shared[np.ndarray]) -> Quantity:
    low, high = BANDS[number : number + 2]
    return Quantity(
        name=f"structure_band_{number + 1}",
        long_name=f"structure factor from {low:g} to {high:.3g} rad/px",
        unit="px^2",
        statistic=lambda frames: bands(frames)[..., number],
        distance=partial(log_ratio, floor=ROUNDING),
        error_name="log ratio of forecast to truth",
        error_unit="1",
    )


def _drift(frames: Frames) -> Float[np.ndarray, "B T"]:
    means = all_frames(lambda finite: finite.mean(axis=(-2, -1)))(frames)
    return means - means[:, :1]


def _rise(frames: Frames, energy: Statistic) -> Float[np.ndarray, "B T"]:
    rise = np.maximum(np.diff(energy(frames), axis=1), 0)
    return np.concatenate([np.full((len(frames), 1), np.nan), rise], axis=1)


def _of_the_forecast(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    return prediction


def _relative_l1(
    prediction: Float[np.ndarray, "B T K"], target: Float[np.ndarray, "B T K"]
) -> Float[np.ndarray, "B T"]:
    """`sum |prediction - target| / sum |target|` over the curve."""
    apart = np.abs(prediction - target).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(apart == 0, 0.0, apart / np.abs(target).sum(axis=-1))
