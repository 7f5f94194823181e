"""The free energy of a process, evaluated on images."""

from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microevo.metrics.quantity import Frames, Statistic, all_frames
from microevo.processes.grid import Grid
from microevo.processes.parameters import Parameters


@runtime_checkable
class FreeEnergyProcess(Protocol):
    """A process that has a free energy, which it can evaluate on any grid."""

    @property
    def grid(self) -> Grid: ...  # noqa: D102

    def free_energy(self, u: Tensor, p: Parameters | None, grid: Grid | None, /) -> Float[Tensor, " n"]: ...  # noqa: D102


def image_free_energy(process: FreeEnergyProcess, parameters: Parameters | None = None) -> Statistic:
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
    process: FreeEnergyProcess,
    parameters: Parameters | None,
) -> Float[np.ndarray, " n"]:
    pixels = Grid(shape=frames.shape[-2:], spacing=process.grid.image_spacing, boundary=process.grid.boundary)
    energy = process.free_energy(torch.from_numpy(frames)[:, None], parameters, pixels)
    return energy.numpy() / (frames.shape[-2] * frames.shape[-1])
