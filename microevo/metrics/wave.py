"""A plane wave in a sequence of frames: amplitude, wave vector, frequency and decay, by least squares."""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from microevo.metrics.quantity import Quantity, each_trajectory, of_each

PADDING = 4  # times the frame, to find the peak of the spectrum between its modes
SURE = 0.95  # share of a frame's variance that another wave vector cannot explain as well
FEWEST = 0.5  # share of a frame's variance that a wave explains; with less there is none
UNIFORM = 1e-12  # variance of a frame in units of its mean square, from rounding alone


@dataclass(frozen=True)
class FrameWaves:
    """The plane wave `offset + amplitude cos(ky y + kx x + phase)` in each of T frames.

    The sign of the wave vector, which one frame leaves open, is the one with which the phase grows with time.

    A frame of which the best wave explains less than half of the variance holds no wave: its wave vector and phase are
    NaN. It is the variance about the frame's own mean, so that a uniform frame holds none at any value.

    Attributes:
        amplitude: That of the best wave, be it one or not; not negative [that of the frames].
        wave_vector: (ky, kx) [rad/px].
        phase: In the middle of the first pixel, followed over the frames that hold a wave without jumps of 2 pi [rad].
        residual: Root mean square of what the wave leaves of the frame [that of the frames].
    """

    amplitude: Float[np.ndarray, " T"]
    wave_vector: Float[np.ndarray, "T 2"]
    phase: Float[np.ndarray, " T"]
    residual: Float[np.ndarray, " T"]

    @property
    def wavelength(self) -> Float[np.ndarray, " T"]:
        """2 pi / |k| [px]."""
        return 2 * math.pi / np.linalg.norm(self.wave_vector, axis=1)

    @property
    def phase_velocity(self) -> Float[np.ndarray, " changes"]:
        """Speed of the crests from each frame to the next, against the wave vector; T - 1 of them [px/frame].

        Needs more than two frames per period. NaN where either frame holds no wave.
        """
        number = np.linalg.norm(self.wave_vector, axis=1)
        return np.diff(self.phase) / ((number[1:] + number[:-1]) / 2)


@dataclass(frozen=True)
class DampedWave:
    """The plane wave `offset + amplitude exp(-decay t) cos(ky y + kx x + omega t + phase)`, t in frames from the first.

    Attributes:
        amplitude: At t = 0 [that of the frames].
        decay: Rate of decay [1/frame].
        wave_vector: (ky, kx) [rad/px].
        omega: Angular frequency, not negative [rad/frame].
        phase: At t = 0 in the middle of the first pixel, from -pi to pi [rad].
        residual: Root mean square of what the wave leaves of the frames [that of the frames].
    """

    amplitude: float
    decay: float
    wave_vector: tuple[float, float]
    omega: float
    phase: float
    residual: float

    @property
    def wavelength(self) -> float:
        """2 pi / |k| [px]."""
        return 2 * math.pi / math.hypot(*self.wave_vector)

    @property
    def phase_velocity(self) -> float:
        """Speed of the crests, against the wave vector [px/frame]."""
        return self.omega / math.hypot(*self.wave_vector)


def fit_frames(frames: Float[np.ndarray, "T H W"], *, offset: float = 0.5) -> FrameWaves:
    """Fit a plane wave to each frame on its own.

    The search in a frame begins at the wave vector of the frame before, and where that leads to no good fit at the peak
    of the frame's own spectrum, too; the better fit is kept. The wave vector turns by less than 90 degrees from one frame
    that holds a wave to the next: its sign is carried on. A frame that is not finite is NaN in everything.

    Args:
        frames: What is measured, at least two pixels per wavelength.
        offset: Value about which the wave swings.
    """
    rows = np.empty((len(frames), 5))
    near = None
    for t, frame in enumerate(frames.astype(np.float64) - offset):
        rows[t] = _fit_frame(frame, near)
        if np.isfinite(rows[t]).all():
            near = rows[t, 1:3]
    phase = rows[:, 3]
    there = np.isfinite(phase)
    phase[there] = followed = np.unwrap(phase[there])
    sign = -1.0 if len(followed) and followed[-1] < followed[0] else 1.0
    return FrameWaves(amplitude=rows[:, 0], wave_vector=sign * rows[:, 1:3], phase=sign * phase, residual=rows[:, 4])


def fit_damped_wave(frames: Float[np.ndarray, "T H W"], *, offset: float = 0.5) -> DampedWave:
    """Fit one damped, travelling plane wave to all frames together.

    Args:
        frames: At least two frames of one trajectory that hold a wave, more than two per period.
        offset: Value about which the wave swings.

    Raises:
        ValueError: There is only one frame, or only one that holds a wave.
    """
    if len(frames) < 2:
        raise ValueError(f"a travelling wave is fitted to at least 2 frames, but {len(frames)} was given; give more")
    alone = fit_frames(frames, offset=offset)
    times = np.arange(len(frames), dtype=np.float64)
    there = np.isfinite(alone.phase)
    if there.sum() < 2:
        raise ValueError(
            f"a travelling wave is fitted to at least 2 frames that hold one, but {there.sum()} of these do"
        )
    slope, start = np.polyfit(times[there], np.log(np.maximum(alone.amplitude[there], 1e-12)), 1)
    omega, phase = np.polyfit(times[there], alone.phase[there], 1)
    ky, kx = np.median(alone.wave_vector[there], axis=0)
    values = frames.astype(np.float64) - offset
    t, y, x = times[:, None, None], np.arange(frames.shape[1])[:, None], np.arange(frames.shape[2])

    def parts(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        angle = p[2] * y + p[3] * x + p[4] * t + p[5]
        decay = np.exp(-p[1] * t)
        return decay, decay * np.cos(angle), p[0] * decay * np.sin(angle)

    def jacobian(p: np.ndarray) -> np.ndarray:
        _, wave, sine = parts(p)
        columns = [wave, -p[0] * t * wave, -y * sine, -x * sine, -t * sine, -sine]
        return np.stack([column.ravel() for column in columns], axis=1)

    guess = np.array([math.exp(start), -slope, ky, kx, omega, phase])
    fit = least_squares(lambda p: (p[0] * parts(p)[1] - values).ravel(), guess, jac=jacobian, x_scale="jac")
    amplitude, decay, ky, kx, omega, phase = (float(value) for value in fit.x)
    sign = -1.0 if omega < 0 else 1.0
    shift = 0.0 if amplitude >= 0 else math.pi
    return DampedWave(
        amplitude=abs(amplitude),
        decay=decay,
        wave_vector=(sign * ky, sign * kx),
        omega=sign * omega,
        phase=math.remainder(sign * phase + shift, 2 * math.pi),
        residual=float(np.sqrt(2 * fit.cost / values.size)),
    )


def _fit_frame(
    values: Float[np.ndarray, "H W"], near: Float[np.ndarray, " 2"] | None
) -> tuple[float, float, float, float, float]:
    """Amplitude, ky, kx, phase and residual of one frame; NaN for what a frame without a wave does not have.

    `near`, the wave vector of the frames before, is where the search begins, and gives the sign.
    """
    if not np.isfinite(values).all():
        return (math.nan,) * 5
    scale = float(np.sqrt(np.square(values).mean()))
    if scale == 0:
        return 0.0, math.nan, math.nan, math.nan, 0.0
    # The search stops at an absolute slope, which a faint wave must not lie below.
    values = values / scale
    variance = float(values.var())
    fits = [] if near is None else [_search(values, near)]
    if not fits or fits[0][1] > (1 - SURE) * variance:
        peak = _spectral_peak(values)
        fits.append(_search(values, -peak if near is not None and peak @ near < 0 else peak))
    best, left = min(fits, key=lambda fit: fit[1])
    ky, kx, cosine, sine = (float(value) for value in best)
    amplitude, residual = scale * math.hypot(cosine, sine), scale * math.sqrt(left)
    if variance < UNIFORM or left > (1 - FEWEST) * variance:
        return amplitude, math.nan, math.nan, math.nan, residual
    return amplitude, ky, kx, math.atan2(-sine, cosine), residual


def _search(values: Float[np.ndarray, "H W"], start: Float[np.ndarray, " 2"]) -> tuple[Float[np.ndarray, " 4"], float]:
    """The wave `c cos(ky y + kx x) + s sin(ky y + kx x)` of least squares near a wave vector.

    Returns:
        (ky, kx, c, s), and the mean square of what it leaves of the values.
    """
    y, x = np.arange(values.shape[0], dtype=np.float64)[:, None], np.arange(values.shape[1], dtype=np.float64)

    def residuals(p: np.ndarray) -> np.ndarray:
        angle = p[0] * y + p[1] * x
        return (p[2] * np.cos(angle) + p[3] * np.sin(angle) - values).ravel()

    def jacobian(p: np.ndarray) -> np.ndarray:
        angle = p[0] * y + p[1] * x
        cos, sin = np.cos(angle), np.sin(angle)
        slope = p[3] * cos - p[2] * sin
        return np.stack([(y * slope).ravel(), (x * slope).ravel(), cos.ravel(), sin.ravel()], axis=1)

    # For a given wave vector the amplitudes of cosine and sine enter linearly.
    basis = jacobian(np.array([*start, 0.0, 0.0]))[:, 2:]
    guess = np.concatenate([start, np.linalg.lstsq(basis, values.ravel(), rcond=None)[0]])
    fit = least_squares(residuals, guess, jac=jacobian, x_scale="jac")
    return fit.x, 2 * float(fit.cost) / values.size


def _spectral_peak(values: Float[np.ndarray, "H W"]) -> Float[np.ndarray, " 2"]:
    """Wave vector (ky, kx) of the largest mode of the tapered, padded frame [rad/px]."""
    taper = np.hanning(values.shape[0] + 2)[1:-1, None] * np.hanning(values.shape[1] + 2)[1:-1]
    size = [PADDING * n for n in values.shape]
    power = np.abs(np.fft.rfft2(values * taper, s=size))
    row, column = np.unravel_index(int(power.argmax()), power.shape)
    return 2 * math.pi * np.array([np.fft.fftfreq(size[0])[row], np.fft.rfftfreq(size[1])[column]])


# ------------------------------------------------------------------ quantities


PAST = 2  # frames that tell which way the wave travels


def wave_quantities(*, offset: float = 0.5) -> tuple[Quantity, ...]:
    """Amplitude, wavelength, direction and phase velocity, and what is not a plane wave.

    A plane wave is fitted to every frame (`fit_frames`), once for all quantities that are
    measured together. The sign of the wave vector comes from the travel between the last two past frames: a forecast that
    runs backwards has a negative phase velocity. After a frame that is not finite phases cannot be followed, and all
    later values are NaN.

    A frame that holds no wave has an amplitude and a residual, but neither wavelength, direction nor velocity, which are
    NaN, and so are their errors.

    Args:
        offset: Value about which the wave swings.
    """
    fitted = each_trajectory(lambda frames: _forwards(fit_frames(frames, offset=offset)))

    def velocity(waves: FrameWaves) -> np.ndarray:
        return np.concatenate([[np.nan], waves.phase_velocity])

    return (
        Quantity(
            name="wave_amplitude",
            long_name="amplitude of the wave",
            unit="1",
            statistic=of_each(fitted, lambda waves: waves.amplitude),
            before=PAST,
        ),
        Quantity(
            name="wavelength",
            long_name="wavelength",
            unit="px",
            statistic=of_each(fitted, lambda waves: waves.wavelength),
            before=PAST,
        ),
        Quantity(
            name="wave_direction",
            long_name="angle of the wave vector, from x to y; the wave travels the other way",
            unit="degrees",
            statistic=of_each(fitted, lambda waves: np.degrees(np.arctan2(*waves.wave_vector.T))),
            distance=_angle_between,
            before=PAST,
        ),
        Quantity(
            name="phase_velocity",
            long_name="speed of the crests since the frame before",
            unit="px / fr",
            statistic=of_each(fitted, velocity),
            before=PAST,
        ),
        Quantity(
            name="wave_residual",
            long_name="root mean square of what one plane wave leaves of the frame",
            unit="1",
            statistic=of_each(fitted, lambda waves: waves.residual),
            before=PAST,
        ),
    )


def _forwards(waves: FrameWaves) -> FrameWaves:
    """The same waves, their phase growing from the first frame to the second."""
    sign = -1.0 if len(waves.phase) > 1 and waves.phase[1] < waves.phase[0] else 1.0
    return replace(waves, wave_vector=sign * waves.wave_vector, phase=sign * waves.phase)


def _angle_between(prediction: Float[np.ndarray, "B T"], target: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T"]:
    """Angle between the axes of two waves, up to 90 degrees: which way one travels is the sign of its velocity."""
    return np.abs((prediction - target + 90) % 180 - 90)
