"""Fields with their recent past in Fourier space, and the step that carries them on."""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor


class SpectralState:
    """Trajectories that step together, few enough to stay in the cache. The scheme is `SpectralBDF2`'s.

    A mode is held as two real numbers side by side, in arrays (n, C, rows, 2 columns). On the CPU a step is one compiled
    pass over them and the two transforms.

    Args:
        field: The fields at the beginning.
        linear: `L` of each mode (n or 1, C or 1, modes), float64 [1/t0].
        explicit: `P` of each mode, likewise.
        nonlinear: Writes the function of the field that comes first, whose transform is `G`, into the one that comes second.
        weights: How many modes each one of the last axis stands for.
        memory: How long errors matter, for each trajectory or one for all [t0].
    """

    def __init__(
        self,
        field: Float[Tensor, "n C *cells"],
        *,
        linear: Float[Tensor, "#n #C *modes"],
        explicit: Float[Tensor, "#n #C *modes"],
        nonlinear: Callable[[Tensor, Tensor], None],
        weights: Float[Tensor, " last"],
        memory: Float[Tensor, " #n"],
    ) -> None:
        self.field, self.nonlinear = field, nonlinear
        self.shape, self.axes = field.shape[2:], tuple(range(2, field.ndim))
        spectrum = torch.fft.rfftn(field, dim=self.axes)
        self.rows = math.prod(spectrum.shape[2:-1]), 2 * spectrum.shape[-1]
        self.modes = self._real(spectrum).clone()
        self.spectrum = torch.view_as_complex(self.modes.view(*spectrum.shape, 2))  # shares their memory
        self.change = torch.zeros_like(self.modes)
        self.modes_kept, self.change_kept = torch.empty_like(self.modes), torch.empty_like(self.modes)
        self.slope = torch.empty_like(field)
        self.terms = self.terms_before = self._terms(field, self.slope)

        weights = weights.repeat_interleave(2).repeat(2, 1)
        weights[0, :2] = 0  # the mean
        linear, explicit = (self._real(torch.complex(values, values)).to(self.modes) for values in (linear, explicit))
        self.law = linear, explicit, memory.to(self.modes), weights.to(self.modes)
        self.on_cpu = field.is_cpu
        if self.on_cpu:
            from microevo.processes import spectral_kernel  # numba takes its time to import

            self.kernel = spectral_kernel.bdf2
            self.arrays = tuple(values.numpy() for values in (self.modes, self.change, *self.law))

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
        self.modes_kept.copy_(self.modes)
        self.change_kept.copy_(self.change)
        self.before = self.field, self.terms, self.terms_before
        everyone = steps.min()
        for i in range(int(steps.max())):
            moving = steps > i
            self._update(moving, rest if i else first, sums)
            if i < everyone:
                self.field = self._field(self.spectrum)
                self.terms_before, self.terms = self.terms, self._terms(self.field, self.slope)
            else:
                self._transform_some(self._lanes(moving))

    def take_back(self, wrong: Bool[np.ndarray, " n"]) -> None:
        """Undo the last `advance` of some trajectories."""
        if wrong.any():
            lanes = self._lanes(wrong)
            self.modes[lanes], self.change[lanes] = self.modes_kept[lanes], self.change_kept[lanes]
            now = self.field, self.terms, self.terms_before
            self.field, self.terms, self.terms_before = (
                after.index_copy(0, lanes, before[lanes]) for after, before in zip(now, self.before, strict=True)
            )

    def _update(self, moving: np.ndarray, numbers: np.ndarray, sums: np.ndarray) -> None:
        if self.on_cpu:
            self.kernel(moving, numbers, *self.arrays, self.terms.numpy(), self.terms_before.numpy(), sums)
        else:
            device = self.field.device
            found = torch.zeros(sums.shape, dtype=torch.float64, device=device)
            which, table = torch.from_numpy(moving).to(device), torch.from_numpy(numbers).to(device)
            bdf2(which, table, self.modes, self.change, *self.law, self.terms, self.terms_before, found)
            sums[moving] = found.cpu().numpy()[moving]

    def _field(self, spectrum: Tensor) -> Tensor:
        # MKL's inverse real transform of a single field rounds otherwise than that of several.
        several = torch.cat([spectrum, spectrum]) if len(spectrum) == 1 else spectrum
        return torch.fft.irfftn(several, s=self.shape, dim=self.axes)[: len(spectrum)]

    def _terms(self, field: Tensor, slope: Tensor) -> Tensor:
        self.nonlinear(field, slope)
        return self._real(torch.fft.rfftn(slope, dim=self.axes))

    def _transform_some(self, lanes: Int64[Tensor, " some"]) -> None:
        """What follows a step that not all trajectories took."""
        field = self._field(self.spectrum[lanes])
        terms = self._terms(field, torch.empty_like(field))
        self.field = self.field.index_copy(0, lanes, field)
        self.terms_before = self.terms_before.index_copy(0, lanes, self.terms[lanes])
        self.terms = self.terms.index_copy(0, lanes, terms)

    def _real(self, spectrum: Tensor) -> Float[Tensor, "n C rows columns"]:
        """The two parts of each mode side by side, the last axis of modes in rows."""
        return torch.view_as_real(spectrum).view(*spectrum.shape[:2], *self.rows)

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
    """What `spectral_kernel.bdf2` computes, as tensor operations for any device."""
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
