"""A mixture that unmixes: what its processes have in common, whatever its free energy and mobility."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import Grid
from microevo.processes.initial import uniform_noise
from microevo.processes.parameters import Parameters
from microevo.processes.process import Field, Process

if TYPE_CHECKING:
    import microevo.metrics

CELLS_PER_INTERFACE = 3.0  # of the 10-90 % width; below, the grid pins and bends the interface


class Mixture(Process):
    """The composition c of a mixture after a quench, from noise about its mean.

    Attributes:
        composition: Mean of c.
        noise: Largest deviation from the mean at the quench.
    """

    fields: ClassVar[tuple[Field, ...]] = (Field("c", "composition", "1", span=(0.0, 1.0)),)
    isotropic: ClassVar[bool] = True

    composition: float
    noise: float

    @property
    @abstractmethod
    def middle(self) -> float:
        """Composition halfway between the two phases."""

    @property
    @abstractmethod
    def interface_width(self) -> float:
        """10-90 % width of a flat interface [l0]."""

    @abstractmethod
    def free_energy(
        self, u: Float[Tensor, "n 1 *cells"], p: Parameters | None = None, grid: Grid | None = None
    ) -> Float[Tensor, " n"]:
        """Total free energy, in float64 [e0].

        Args:
            u: Compositions.
            p: The parameters of each; those of the process unless given.
            grid: Where they live, such as the pixels of the image; the process's grid unless given.
        """

    def initial(
        self, generators: Sequence[torch.Generator], p: Parameters | None = None
    ) -> Float[Tensor, "n 1 *cells"]:
        """Noise about the mean composition: the state just after the quench."""
        p = p or self.vary({})
        return uniform_noise(self.grid.shape, generators, p.composition, p.noise)

    def quantities(
        self, first: Float[np.ndarray, "n H W"], p: Parameters | None = None
    ) -> Sequence["microevo.metrics.Quantity"]:
        """Composition, energy, structure, interfaces and particles of the mixture."""
        from microevo.metrics.spinodal import mixture_quantities  # takes its time to import
        from microevo.processes.image_energy import image_free_energy

        return mixture_quantities(
            first,
            periodic=self.grid.boundary == "periodic",
            threshold=self.middle,
            energy=image_free_energy(self, p),
            from_quench=True,
        )

    def _check_interface(self, remedy: str) -> None:
        self._check_resolved(self.interface_width / self.grid.spacing, CELLS_PER_INTERFACE, remedy)
