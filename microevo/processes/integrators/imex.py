"""Fields with their recent past in the modes of a grid, and the step that carries them on."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from microevo.processes.integrators.transforms import Modes

PROBE = {torch.float32: 1e-3, torch.float64: 1e-6}  # relative difference of the fields between which a slope is taken


class SpectralState:
    """Trajectories that step together, few enough to stay in the cache. The scheme is `SpectralBDF2`'s.

    On the CPU a step is one compiled pass over the modes and the two transforms.

    Args:
        field: The fields at the beginning.
        basis: The modes in which they step.
        linear: `L` of each mode (n or 1, C or 1, modes), float64 [1/t0].
        explicit: `P` of each mode, likewise.
        nonlinear: Writes the function of the fields that come first, whose transform is `G`, into those that come second,
            given which of the trajectories they are.
        decay_time: How long errors matter, for each trajectory or one for all [t0].
    """

    def __init__(
        self,
        field: Float[Tensor, "n C *cells"],
        *,
        basis: Modes,
        linear: Float[Tensor, "#n #C *modes"],
        explicit: Float[Tensor, "#n #C *modes"],
        nonlinear: Callable[[Tensor, Tensor, np.ndarray], None],
        decay_time: Float[Tensor, " #n"],
    ) -> None:
        self.field, self.basis, self.nonlinear = field, basis, nonlinear
        self.trajectories = np.arange(len(field))
        self.modes = basis.forward(field)
        self.change = torch.zeros_like(self.modes)
        self.terms = self._terms(field, self.trajectories)
        self.terms_before = self.terms.clone()
        self.kept = [torch.empty_like(self.modes) for _ in range(3)]

        weights = basis.weights().repeat(2, 1)
        if not (linear.flatten(2)[..., 0].any() or explicit.flatten(2)[..., 0].any()):
            weights[0, 0] = 0  # the mean, which is conserved
        linear, explicit = (self._in_rows(values).to(self.modes) for values in (linear, explicit))
        self.law = linear, explicit, decay_time.to(self.modes), weights.to(self.modes)
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
        common = steps.min()
        for i in range(int(steps.max())):
            moving = steps > i
            self._update(moving, rest if i else first, sums)
            if i < common:
                self.field = self.basis.inverse(self.modes)
                self.terms_before, self.terms = self.terms, self._terms(self.field, self.trajectories)
            else:
                self._transform_some(np.flatnonzero(moving))

    def reject(self, rejected: Bool[np.ndarray, " n"]) -> None:
        """Undo the last `advance` of some trajectories."""
        if rejected.any():
            some = np.flatnonzero(rejected)
            where = torch.from_numpy(some).to(self.field.device)
            for kept, values in zip(self.kept, (self.modes, self.change, self.terms_before), strict=True):
                values.index_copy_(0, where, kept[where])
            field = self.basis.inverse(self.modes[where])
            self.field.index_copy_(0, where, field)
            self.terms.index_copy_(0, where, self._terms(field, some))

    # ------------------------------------------------- what the steps adapt to

    def rate(self) -> Float[Tensor, "n C *modes"]:
        """`du/dt` of each mode."""
        linear, explicit, _, _ = self.law
        modes, terms = map(self._in_rows, (self.modes, self.terms))
        return (explicit * terms - linear * modes).reshape(self.modes.shape)

    def norms(self, modes: Float[Tensor, "n C *modes"]) -> Float[np.ndarray, " n"]:
        """Norm of the fields of some modes, about their mean if it is conserved."""
        rows = self._in_rows(modes)
        weights = self.law[-1][[0] + [1] * (rows.shape[2] - 1)]
        # One by one: the order of a sum may depend on how many there are.
        return np.array([float((row.square() * weights).sum(dtype=torch.float64)) ** 0.5 for row in rows])

    def slopes(self) -> Float[np.ndarray, "n 2"]:
        """The lowest and the highest slope of the nonlinear part in the cells of each trajectory."""
        probe = PROBE[self.field.dtype]
        step = (probe * self.field.abs().flatten(1).amax(1)).clamp(min=probe**2)
        step = step.reshape(-1, *(1,) * (self.field.ndim - 1))
        here, there = torch.empty_like(self.field), torch.empty_like(self.field)
        self.nonlinear(self.field, here, self.trajectories)
        self.nonlinear(self.field + step, there, self.trajectories)
        slope = ((there - here) / step).flatten(1)
        return torch.stack([slope.amin(1), slope.amax(1)], dim=1).double().cpu().numpy()

    # ---------------------------------------------------------------- internals

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

    def _terms(self, field: Float[Tensor, "n C *cells"], trajectories: np.ndarray) -> Float[Tensor, "n C *modes"]:
        slope = torch.empty_like(field)
        self.nonlinear(field, slope, trajectories)
        return self.basis.forward(slope)

    def _transform_some(self, some: Int[np.ndarray, " some"]) -> None:
        """What follows a step that not all trajectories took."""
        where = torch.from_numpy(some).to(self.field.device)
        field = self.basis.inverse(self.modes[where])
        self.field.index_copy_(0, where, field)
        self.terms_before.index_copy_(0, where, self.terms[where])
        self.terms.index_copy_(0, where, self._terms(field, some))

    def _in_rows(self, values: Float[Tensor, "n C *modes"]) -> Float[Tensor, "n C rows columns"]:
        """All axes of the modes but the last as one."""
        return values.reshape(*values.shape[:2], -1, values.shape[-1])


def bdf2(
    moving: Bool[Tensor, " n"],
    numbers: Float[Tensor, "n 3"],
    modes: Float[Tensor, "n C rows columns"],
    change: Float[Tensor, "n C rows columns"],
    linear: Float[Tensor, "#n #C rows columns"],
    explicit: Float[Tensor, "#n #C rows columns"],
    decay_time: Float[Tensor, " #n"],
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
    second, after = new - r * change, modes + new
    weights = weights[[0] + [1] * (modes.shape[2] - 1)]
    slow = weights / (1 + decay_time[:, None, None, None] * linear) ** 2
    squares = torch.stack([second**2 * weights, second**2 * slow, after**2 * slow], dim=1)
    sums[moving] = squares.flatten(2).sum(2, dtype=torch.float64)[moving]
    change[moving] = new[moving]
    modes[moving] = after[moving]
