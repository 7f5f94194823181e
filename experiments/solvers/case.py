"""The case that all solvers are given: quartic Cahn-Hilliard from noise, and what its solution is."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cc3d
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from microevo.processes import Grid, SpinodalDecomposition, trajectory_generator

Space = Literal["Fourier", "5-point"]

FRAMES = 100  # at times 1, 2, ... 100
FORMED = 20  # time at which the phases have just formed
REFERENCE_STEPS = 20  # per frame, of fourth order
HALVINGS = 12  # of the first step
FREQUENCIES = (torch.fft.fftfreq, torch.fft.rfftfreq)


@dataclass(frozen=True)
class Case:
    """dc/dt = M lap( f'(c) - kappa lap c ), f = rho (c - c_alpha)^2 (c_beta - c)^2, periodic, from noise about the middle.

    Parameters of PFHub benchmark 1 (Jokisaari et al., Comput. Mater. Sci. 126 (2017) 139) on cells of size 1, where an
    interface is 4.9 cells wide (10-90 %). In y = c - 0.5 the equation is dy/dt = M lap( cubic y^3 + linear y - kappa lap y ).

    Attributes:
        cells: Cells along each side.
        seed: Seed of the initial fields.
        frames: Frames asked for, one per unit of time.
        reference_steps: Steps per frame of the converged solution.
    """

    cells: int
    seed: int = 0
    frames: int = FRAMES
    reference_steps: int = REFERENCE_STEPS

    mobility = 5.0
    kappa = 2.0
    cubic = 20.0  # 4 rho
    linear = -0.8  # -4 rho w^2, w half the difference of the phases
    middle = 0.5

    def law(
        self, precision: Literal["float32", "float64"] = "float64", tolerance: float = 1e-3
    ) -> SpinodalDecomposition:
        """The case as a process of microevo, whose first frame is at time 1."""
        return SpinodalDecomposition(
            grid=Grid(shape=(self.cells, self.cells)),
            first_frame=1.0,
            frame_interval=1.0,
            composition=self.middle,
            noise=0.02,
            mobility=self.mobility,
            kappa=self.kappa,
            rho=5.0,
            c_alpha=0.3,
            c_beta=0.7,
            precision=precision,
            tolerance=tolerance,
        )

    def start(self, batch: int = 1) -> NDArray[np.float64]:
        """The initial `y` of the first trajectories, (batch, cells, cells)."""
        generators = [trajectory_generator(self.seed, index) for index in range(batch)]
        return self.law().initial(generators)[:, 0].numpy() - self.middle

    def minus_laplacian(self, space: Space) -> Tensor:
        """Eigenvalues of `-lap` in the layout of `rfft2`, float64."""
        angles = [2 * math.pi * frequency(self.cells, dtype=torch.float64) for frequency in FREQUENCIES]
        y, x = (angle**2 if space == "Fourier" else 2 - 2 * torch.cos(angle) for angle in angles)
        return y[:, None] + x

    # ----------------------------------------------------------------- truth

    @cached_property
    def truth(self) -> dict[Space, NDArray[np.float64]]:
        """Frames of trajectory 0, converged in time on each of the two spatial discretisations, (frames, cells, cells)."""
        return {space: self._converged(space, self.reference_steps) for space in ("Fourier", "5-point")}

    @cached_property
    def doubt(self) -> float:
        """Largest difference of any frame from a solution with twice the steps: how converged the truth is."""
        rough = self._converged("Fourier", self.reference_steps // 2)
        return float(max(relative(a, b) for a, b in zip(rough, self.truth["Fourier"], strict=True)))

    @cached_property
    def events(self) -> list[int]:
        """Times of the frames, from `FORMED` on, that have another number of domains than the frame before."""
        counts = [self._domains(frame) for frame in self.truth["Fourier"]]
        return [time for time in range(FORMED + 1, self.frames + 1) if counts[time - 1] != counts[time - 2]]

    def _domains(self, frame: NDArray[np.float64]) -> tuple[int, int]:
        return tuple(
            cc3d.connected_components(phase.astype(np.uint8), connectivity=4, periodic_boundary=True, return_N=True)[1]
            for phase in (frame > 0, frame <= 0)
        )

    def _converged(self, space: Space, steps: int) -> NDArray[np.float64]:
        """By ETDRK4, which shares neither code nor scheme with the solvers that are measured."""
        dt = 1.0 / steps
        scheme = _ETDRK4(self, space)
        modes = torch.fft.rfft2(torch.from_numpy(self.start()[0]))
        # White noise decays within thousandths of a unit of time: its first steps grow with the time that has passed.
        for halvings in (HALVINGS, *range(HALVINGS, 0, -1)):
            modes = scheme.step(modes, dt / 2**halvings, 1)
        modes, frames = scheme.step(modes, dt, steps - 1), []
        for frame in range(self.frames):
            modes = scheme.step(modes, dt, steps) if frame else modes
            frames.append(torch.fft.irfft2(modes, s=(self.cells, self.cells)).numpy())
        return np.stack(frames)


class _ETDRK4:
    """Exponential integrator of fourth order (Cox & Matthews, J. Comput. Phys. 176 (2002) 430).

    The coefficients are means over a circle in the complex plane, since their closed forms cancel near 0 (Kassam &
    Trefethen, SIAM J. Sci. Comput. 26 (2005) 1214).
    """

    def __init__(self, case: Case, space: Space) -> None:
        k = case.minus_laplacian(space)
        self.shape = (case.cells, case.cells)
        self.linear = -case.mobility * k * (case.linear + case.kappa * k)
        self.cubic = -case.mobility * case.cubic * k
        self.dt = math.nan

    def step(self, modes: Tensor, dt: float, count: int) -> Tensor:
        """`count` steps of `dt`."""
        if dt != self.dt:
            self._prepare(dt)
        for _ in range(count):
            n = self._cube(modes)
            a = self.half * modes + self.q * n
            na = self._cube(a)
            nb = self._cube(self.half * modes + self.q * na)
            nc = self._cube(self.half * a + self.q * (2 * nb - n))
            modes = self.full * modes + self.f1 * n + 2 * self.f2 * (na + nb) + self.f3 * nc
        return modes

    def _prepare(self, dt: float) -> None:
        decay = dt * self.linear
        circle = torch.exp(1j * math.pi * (torch.arange(32, dtype=torch.float64) + 0.5) / 32)
        z = decay[..., None] + circle
        e = torch.exp(z)
        self.full, self.half = torch.exp(decay), torch.exp(decay / 2)
        self.q = dt * ((torch.exp(z / 2) - 1) / z).mean(-1).real
        self.f1 = dt * ((-4 - z + e * (4 - 3 * z + z**2)) / z**3).mean(-1).real
        self.f2 = dt * ((2 + z + e * (z - 2)) / z**3).mean(-1).real
        self.f3 = dt * ((-4 - 3 * z - z**2 + e * (4 - z)) / z**3).mean(-1).real
        self.dt = dt

    def _cube(self, modes: Tensor) -> Tensor:
        return self.cubic * torch.fft.rfft2(torch.fft.irfft2(modes, s=self.shape).pow_(3))


def relative(frame: NDArray[np.floating], truth: NDArray[np.float64]) -> float:
    """L2 difference, relative to the deviation of the truth from its mean."""
    return float(np.linalg.norm(frame - truth) / np.linalg.norm(truth - truth.mean()))
