"""A damped plane wave: a process with a closed form."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from microevo.processes.grid import Grid
from microevo.processes.process import Field, Process
from microevo.processes.stepper import Stepper

FRAMES_PER_PERIOD = 5.0  # with fewer the wave seems to stand, or to travel backwards


@dataclass(frozen=True, kw_only=True)
class PlaneWave(Process):
    """A plane wave that travels and decays, evaluated from its closed form.

        u = 1/2 + A exp(-alpha t) cos(k.x + omega t + phase)
        v =       A exp(-alpha t) sin(k.x + omega t + phase)

    Both u - 1/2 and v solve w_tt + 2 alpha w_t = c^2 lap w with c^2 = (omega^2 + alpha^2) / |k|^2. The quadrature v says
    which way the wave travels, which a single frame of u does not. The defaults are the published sample of MicroEvoEval
    (arXiv 2511.08955) in pixels and frames. Nothing is random: a set of different waves draws its parameters.

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

    fields: ClassVar[tuple[Field, ...]] = (Field("u", "wave", "1"), Field("v", "quadrature of the wave", "1"))
    parameters: ClassVar[tuple[str, ...]] = ("wavelength", "direction", "phase", "speed", "alpha", "amplitude")
    isotropic: ClassVar[bool] = True  # a mirror image is the wave of another direction

    grid: Grid = Grid(boundary="no-flux")
    wavelength: float = 30.27
    direction: float = 77.45
    phase: float = 2.816
    speed: float = 2.981
    alpha: float = 0.0075
    amplitude: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.grid.shape) != 2:
            raise ValueError(f"PlaneWave has two dimensions, but the grid's shape is {self.grid.shape}; give (y, x)")
        if self.grid.boundary != "no-flux":
            raise ValueError(
                f"the opposite sides of a plane wave do not match, but boundary is {self.grid.boundary}; set it to no-flux"
            )
        shortest = 2 * self.grid.image_spacing
        if not (torch.as_tensor(self.wavelength) > shortest).all():
            raise ValueError(f"wavelength must be above two pixels, {shortest:g}, but it is {self.wavelength}")
        amplitude, alpha = torch.as_tensor(self.amplitude), torch.as_tensor(self.alpha)
        if not ((amplitude > 0) & (amplitude <= 0.5)).all():
            raise ValueError(f"amplitude must be above 0 and at most 0.5, but it is {self.amplitude}")
        for name in ("direction", "phase"):
            if not torch.isfinite(torch.as_tensor(getattr(self, name))).all():
                raise ValueError(f"{name} must be a finite angle, but it is {getattr(self, name)}")
        if not (alpha >= 0).all():
            raise ValueError(f"alpha must not be negative, but it is {self.alpha}")
        omega_squared = torch.as_tensor((self.speed * self.wavenumber) ** 2 - self.alpha**2)
        if not ((torch.as_tensor(self.speed) > 0) & (omega_squared > 0)).all():
            raise ValueError(
                f"a wave needs speed |k| > alpha >= 0, but speed is {self.speed}, |k| {self.wavenumber} and alpha {self.alpha}"
            )
        frames = 2 * math.pi / float(omega_squared.max()) ** 0.5 / self.frame_interval
        if frames < FRAMES_PER_PERIOD:
            raise ValueError(
                f"a period of the wave has {frames:.2f} frames, but needs {FRAMES_PER_PERIOD:.0f}; raise wavelength, or lower "
                "speed or frame_interval"
            )

    @property
    def wavenumber(self) -> float | Tensor:
        """|k| [rad / l0]."""
        return 2 * math.pi / self.wavelength

    @property
    def omega(self) -> float | Tensor:
        """Angular frequency [rad / t0]."""
        return ((self.speed * self.wavenumber) ** 2 - self.alpha**2) ** 0.5

    def initial(self, generators: Sequence[torch.Generator]) -> Float[Tensor, "n 2 *cells"]:
        """The wave at time 0."""
        grid = self.grid
        y, x = (grid.spacing * (torch.arange(n, dtype=torch.float64) - (grid.coarsen - 1) / 2) for n in grid.shape)
        angle = torch.deg2rad(torch.as_tensor(self.direction, dtype=torch.float64))
        along = torch.cos(angle) * x + torch.sin(angle) * y[:, None]
        phase = torch.remainder(self.wavenumber * along + self.phase, 2 * math.pi)
        wave = torch.stack([0.5 + self.amplitude * torch.cos(phase), self.amplitude * torch.sin(phase)], dim=-3)
        return wave.reshape(-1, 2, *grid.shape).expand(len(generators), -1, -1, -1)

    def stepper(self) -> "TurningWave":
        """No solver: the closed form at each asked time."""
        omega, alpha = (
            torch.as_tensor(value, dtype=torch.float64).reshape(-1, 1, 1) for value in (self.omega, self.alpha)
        )
        return TurningWave(omega, alpha)

    def state_from_frames(self, past: Float[Tensor, "n n_past C *pixels"]) -> Float[Tensor, "n 2 *pixels"] | None:
        """The wave and its quadrature, from the last two frames of the wave alone."""
        if past.shape[1] < 2 or self.grid.coarsen > 1:
            return None
        omega, alpha = (
            torch.as_tensor(value, dtype=torch.float64).reshape(-1, 1, 1) * self.frame_interval
            for value in (self.omega, self.alpha)
        )
        before, now = (past[:, i, 0].double() - 0.5 for i in (-2, -1))
        quadrature = (torch.exp(-alpha) * before - torch.cos(omega) * now) / torch.sin(omega)
        return torch.stack([now + 0.5, quadrature], dim=1)


class TurningWave(Stepper):
    """The exact solution of a wave of one frequency: (u - 1/2, v) turns by `omega t` and shrinks by `exp(-alpha t)`.

    Args:
        omega: Angular frequency of each trajectory, or one for all, float64 [rad / t0].
        alpha: Rate of decay, likewise [1/t0].
    """

    def __init__(self, omega: Float[Tensor, "#n 1 1"], alpha: Float[Tensor, "#n 1 1"]) -> None:
        self.omega, self.alpha = omega, alpha

    def start(self, u0: Float[Tensor, "n 2 y x"], time: float = 0.0) -> None:
        """Begin with `u0`, the wave at `time`."""
        self.first = u0.clone()
        self.begin = self.time = time

    def advance(self, time: float) -> None:
        """Go to exactly `time`, which may also lie in the past."""
        self.time = time

    @property
    def t(self) -> float:
        """The present time [t0]."""
        return self.time

    @property
    def u(self) -> Float[Tensor, "n 2 y x"]:
        """The fields at the present time."""
        passed = self.time - self.begin
        turn = torch.remainder(self.omega * passed, 2 * math.pi)  # in float64: float32 would lose the phase
        decay = torch.exp(-self.alpha * passed)
        cos, sin = ((decay * part).to(self.first) for part in (torch.cos(turn), torch.sin(turn)))
        wave, quadrature = self.first[:, 0] - 0.5, self.first[:, 1]
        return torch.stack([0.5 + cos * wave - sin * quadrature, sin * wave + cos * quadrature], dim=1)
