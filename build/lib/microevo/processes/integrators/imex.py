"""Fields with their recent past in Fourier space, and the step that carries them on."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from microevo.processes.integrators.transforms import Modes


class SpectralState:
    """Trajectories that step together, few enough to stay in the cache. The scheme is `SpectralBDF2`'s.

    On the CPU a step is one compiled pass over the modes and the two transforms.

    Args:
        field: The fields at the beginning.
        basis: The modes in which they step.
        linear: `L` of each mode (n or 1, C or 1, modes), float64 [1/t0].
        explicit: `P` of each mode, likewise.
        nonlinear: Writes the function of the field that comes first, whose transform is `G`, into the one that comes second.
        memory: How long errors matter, for each trajectory or one for all [t0].
    """

    def __init__(
        self,
        field: Float[Tensor, "n C *cells"],
        *,
        basis: Modes,
        linear: Float[Tensor, "#n #C *modes"],
        explicit: Float[Tensor, "#n #C *modes"],
        nonlinear: Callable[[Tensor, Tensor], None],
        memory: Float[Tensor, " #n"],
    ) -> None:
        self.field, self.basis, self.nonlinear = field, basis, nonlinear
        self.modes = basis.forward(field)
        self.change = torch.zeros_like(self.modes)
        self.terms = self._terms(field)
        self.terms_before = self.terms.clone()
        self.kept = [torch.empty_like(self.modes) for _ in range(3)]

        weights = basis.weights().repeat(2, 1)
        weights[0, 0] = 0  # the mean
        linear, explicit = (self._in_rows(values).to(self.modes) for values in (linear, explicit))
        self.law = linear, explicit, memory.to(self.modes), weights.to(self.modes)
        self.on_cpu = field.is_cpu
        if self.on_cpu:
            from microevo.processes.kernels import imex as kernel  # numba takes its time to import

            self.kernel = kernel.bdf2
            self.law_arrays = tuple(values.numpy() for values in self.law)

    def advance(
        self,
        steps: Int[np.ndarray, " n"],
        first: Float[np.ndarray, "n 3"],
        rest: Float[np.ndarray, "n 3"],
        sums: Float[np.ndarray, "n 3"],
    ) -> None:
        """So many steps of each trajectory.

        Args:
            steps: How many.
            first: Size, its ratio to that of the step before, and `A`, in the first step.
            rest: The same in the steps after it.
            sums: Receives what `bdf2` sums in the last step.
        """
        for kept, values in zip(self.kept, (self.modes, self.change, self.terms_before), strict=True):
            kept.copy_(values)
        everyone = steps.min()
        for i in range(int(steps.max())):
            moving = steps > i
            self._update(moving, rest if i else first, sums)
            if i < everyone:
                self.field = self.basis.inverse(self.modes)
                self.terms_before, self.terms = self.terms, self._terms(self.field)
            else:
                self._transform_some(self._lanes(moving))

    def take_back(self, wrong: Bool[np.ndarray, " n"]) -> None:
        """Undo the last `advance` of some trajectories."""
        if wrong.any():
            lanes = self._lanes(wrong)
            for kept, values in zip(self.kept, (self.modes, self.change, self.terms_before), strict=True):
                values.index_copy_(0, lanes, kept[lanes])
            field = self.basis.inverse(self.modes[lanes])
            self.field.index_copy_(0, lanes, field)
            self.terms.index_copy_(0, lanes, self._terms(field))

    def _update(self, moving: np.ndarray, numbers: np.ndarray, sums: np.ndarray) -> None:
        modes, change, terms, terms_before = map(
            self._in_rows, (self.modes, self.change, self.terms, self.terms_before)
        )
        if self.on_cpu:
            arrays = modes.numpy(), change.numpy(), *self.law_arrays, terms.numpy(), terms_before.numpy()
            self.kernel(moving, numbers, *arrays, sums)
        else:
            device = self.field.device
            found = torch.zeros(sums.shape, dtype=torch.float64, device=device)
            which, table = torch.from_numpy(moving).to(device), torch.from_numpy(numbers).to(device)
            bdf2(which, table, modes, change, *self.law, terms, terms_before, found)
            sums[moving] = found.cpu().numpy()[moving]

    def _terms(self, field: Float[Tensor, "n C *cells"]) -> Float[Tensor, "n C *modes"]:
        slope = torch.empty_like(field)
        self.nonlinear(field, slope)
        return self.basis.forward(slope)

    def _transform_some(self, lanes: Int64[Tensor, " some"]) -> None:
        """What follows a step that not all trajectories took."""
        field = self.basis.inverse(self.modes[lanes])
        self.field.index_copy_(0, lanes, field)
        self.terms_before.index_copy_(0, lanes, self.terms[lanes])
        self.terms.index_copy_(0, lanes, self._terms(field))

    def _in_rows(self, values: Float[Tensor, "n C *modes"]) -> Float[Tensor, "n C rows columns"]:
        """All axes of the modes but the last as one."""
        return values.reshape(*values.shape[:2], -1, values.shape[-1])

    def _lanes(self, which: Bool[np.ndarray, " n"]) -> Int64[Tensor, " some"]:
        return torch.from_numpy(np.flatnonzero(which)).to(self.field.device)


def bdf2(
    moving: Bool[Tensor, " n"],
    numbers: Float[Tensor, "n 3"],
    modes: Float[Tensor, "n C rows columns"],
    change: Float[Tensor, "n C rows columns"],
    linear: Float[Tensor, "#n #C rows columns"],
    explicit: Float[Tensor, "#n #C rows columns"],
    memory: Float[Tensor, " #n"],
    weights: Float[Tensor, "2 columns"],
    terms: Float[Tensor, "n C rows columns"],
    terms_before: Float[Tensor, "n C rows columns"],
    sums: Float[Tensor, "n 3"],
) -> None:
    """What `kernels.imex.bdf2` computes, as tensor operations for any device."""
    dt, r, shift = numbers[..., None, None, None].unbind(1)
    p, q = dt * explicit, dt * linear
    new = (r**2 / (1 + r) - r * shift * p) * change - q * modes + p * ((1 + r) * terms - r * terms_before)
    new = new / ((1 + 2 * r) / (1 + r) - shift * p + q)
    bend, after = new - r * change, modes + new
    weights = weights[[0] + [1] * (modes.shape[2] - 1)]
    slow = weights / (1 + memory[:, None, None, None] * linear) ** 2
    squares = torch.stack([bend**2 * weights, bend**2 * slow, after**2 * slow], dim=1)
    sums[moving] = squares.flatten(2).sum(2, dtype=torch.float64)[moving]
    change[moving] = new[moving]
    modes[moving] = after[moving]
