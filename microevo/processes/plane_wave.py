"""A damped plane wave: a process with a closed form."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import Grid
from microevo.processes.integrators.base import Stepper
from microevo.processes.parameters import Parameters
from microevo.processes.process import Field, Process

if TYPE_CHECKING:
    import microevo.metrics

FRAMES_PER_PERIOD = 5.0  # with fewer the wave seems to stand, or to travel backwards


@dataclass(frozen=True, kw_only=True)
class PlaneWave(Process):
    """A plane wave that travels and decays, evaluated from its closed form.

        u = 1/2 + A exp(-alpha t) cos(k.x + omega t + phase)
        v =       A exp(-alpha t) sin(k.x + omega t + phase)

    Both u - 1/2 and v solve w_tt + 2 alpha w_t = c^2 lap w with c^2 = (omega^2 + alpha^2) / |k|^2. The quadrature v says
    which way the wave travels, which a single frame of u does not. The defaults are the published sample of MicroEvoEval
    (arXiv 2511.08955) in pixels and frames. Nothing is random: a set of different waves samples its parameters.

    Args:
        grid: Where it is evaluated, and how the image is made of it. The image is cut out of an endless plane, so its
            sides do not match: boundary must be `no-flux`.
        first_frame: Time of the first saved frame [t0].
        frame_interval: Time between saved frames [t0].
        precision: Floating-point numbers of the fields; frames are saved as float32.
        wavelength: 2 pi / |k| [l0].
        direction: Angle of k, from x (along the columns) to y (down the rows); the wave travels the other way [degrees].
        phase: Phase at time 0 in the middle of the first pixel [rad].
        speed: c, how fast the wave would travel undamped [l0 / t0].
        alpha: Rate of decay [1/t0].
        amplitude: A, at most 1/2, so that u stays in [0, 1].
    """

    fields: ClassVar[tuple[Field, ...]] = (
        Field("u", "wave", "1", span=(0.0, 1.0)),
        Field("v", "quadrature of the wave", "1", span=(-0.5, 0.5)),
    )
    parameters: ClassVar[tuple[str, ...]] = ("wavelength", "direction", "phase", "speed", "alpha", "amplitude")
    isotropic: ClassVar[bool] = True  # a mirror image is the wave of another direction
    oriented: ClassVar[tuple[str, ...]] = ("direction", "phase")

    grid: Grid = Grid(boundary="no-flux")
    wavelength: float = 30.27
    direction: float = 77.45
    phase: float = 2.816
    speed: float = 2.981
    alpha: float = 0.0075
    amplitude: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_two_dimensions()
        if self.grid.boundary != "no-flux":
            raise ValueError(
                f"the opposite sides of a plane wave do not match, but boundary is {self.grid.boundary}; set it to no-flux"
            )
        shortest = 2 * self.grid.image_spacing
        if not self.wavelength > shortest:
            raise ValueError(f"wavelength must be above two pixels, {shortest:g}, but it is {self.wavelength}")
        if not 0 < self.amplitude <= 0.5:
            raise ValueError(f"amplitude must be above 0 and at most 0.5, but it is {self.amplitude}")
        for name in ("direction", "phase"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be a finite angle, but it is {getattr(self, name)}")
        if not self.alpha >= 0:
            raise ValueError(f"alpha must not be negative, but it is {self.alpha}")
        if not (self.speed > 0 and self.speed * self.wavenumber > self.alpha):
            raise ValueError(
                f"a wave needs speed |k| > alpha >= 0, but speed is {self.speed}, |k| {self.wavenumber} and alpha {self.alpha}"
            )
        frames = 2 * math.pi / self.omega / self.frame_interval
        if frames < FRAMES_PER_PERIOD:
            raise ValueError(
                f"a period of the wave has {frames:.2f} frames, but needs {FRAMES_PER_PERIOD:.0f}; raise wavelength, or lower "
                "speed or frame_interval"
            )

    @property
    def distance_per_frame(self) -> float:
        """How far the wave travels."""
        return self.speed * self.frame_interval

    @property
    def wavenumber(self) -> float:
        """|k| [rad / l0]."""
        return _wavenumber(self)

    @property
    def omega(self) -> float:
        """Angular frequency [rad / t0]."""
        return _omega(self)

    def initial(
        self, generators: Sequence[torch.Generator], p: Parameters | None = None
    ) -> Float[Tensor, "n 2 *cells"]:
        """The wave at time 0."""
        p, grid = p or self.vary({}), self.grid
        y, x = (grid.spacing * (torch.arange(n, dtype=torch.float64) - (grid.coarsen - 1) / 2) for n in grid.shape)
        angle = torch.deg2rad(p.flat("direction")).reshape(-1, 1, 1, 1)
        along = torch.cos(angle) * x + torch.sin(angle) * y[:, None]
        phase = torch.remainder(_wavenumber(p) * along + p.phase, 2 * math.pi)
        wave = torch.stack([0.5 + p.amplitude * torch.cos(phase), p.amplitude * torch.sin(phase)], dim=-3)
        return wave.reshape(-1, 2, *grid.shape).expand(len(generators), -1, -1, -1)

    def stepper(self, p: Parameters | None = None) -> "TurningWave":
        """No solver: the closed form at each time."""
        return TurningWave(*_turning(p or self.vary({})))

    def quantities(
        self, first: Float[np.ndarray, "n H W"], p: Parameters | None = None
    ) -> Sequence["microevo.metrics.Quantity"]:
        """Those of a plane wave fitted to each frame."""
        from microevo.metrics.wave import wave_quantities  # takes its time to import

        return wave_quantities()

    def state_from_frames(
        self, past: Float[Tensor, "n n_past C *pixels"], p: Parameters | None = None
    ) -> Float[Tensor, "n 2 *pixels"] | None:
        """The wave and its quadrature, from the last two frames of the wave alone."""
        if past.shape[1] < 2 or self.grid.coarsen > 1:
            return None
        omega, alpha = (rate * self.frame_interval for rate in _turning(p or self.vary({})))
        before, now = (past[:, i, 0].double() - 0.5 for i in (-2, -1))
        quadrature = (torch.exp(-alpha) * before - torch.cos(omega) * now) / torch.sin(omega)
        return torch.stack([now + 0.5, quadrature], dim=1)


def _wavenumber(p: Any) -> Any:
    """|k| of a wave or of the parameters of several [rad / l0]."""
    return 2 * math.pi / p.wavelength


def _omega(p: Any) -> Any:
    """Angular frequency, likewise [rad / t0]."""
    return ((p.speed * _wavenumber(p)) ** 2 - p.alpha**2) ** 0.5


def _turning(p: Parameters) -> tuple[Float[Tensor, "#n 1 1"], Float[Tensor, "#n 1 1"]]:
    """Angular frequency and rate of decay of each trajectory, float64 [1/t0]."""
    omega = torch.as_tensor(_omega(p), dtype=torch.float64)
    return omega.reshape(-1, 1, 1), p.flat("alpha").reshape(-1, 1, 1)


class TurningWave(Stepper):
    """The exact solution of a wave of one frequency: (u - 1/2, v) turns by `omega t` and shrinks by `exp(-alpha t)`.

    Args:
        omega: Angular frequency of each trajectory, or one for all, float64 [rad / t0].
        alpha: Rate of decay, likewise [1/t0].
    """

    def __init__(self, omega: Float[Tensor, "#n 1 1"], alpha: Float[Tensor, "#n 1 1"]) -> None:
        self.omega, self.alpha = omega, alpha

    def _start(self, u0: Float[Tensor, "n 2 y x"]) -> None:
        self.first, self.begin = u0.clone(), self.t
        self._advance(self.t)

    def _advance(self, time: float) -> None:
        passed = time - self.begin
        turn = torch.remainder(self.omega * passed, 2 * math.pi)  # in float64: float32 would lose the phase
        decay = torch.exp(-self.alpha * passed)
        cos, sin = ((decay * part).to(self.first) for part in (torch.cos(turn), torch.sin(turn)))
        wave, quadrature = self.first[:, 0] - 0.5, self.first[:, 1]
        self._wave = torch.stack([0.5 + cos * wave - sin * quadrature, sin * wave + cos * quadrature], dim=1)

    def _fields(self) -> Float[Tensor, "n 2 y x"]:
        """The fields at the present time."""
        return self._wave
