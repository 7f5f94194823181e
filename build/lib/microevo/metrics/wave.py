"""What is measured on a plane wave."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float

from microevo.metrics.quantity import Frames, Quantity, Shared, Statistic
from microevo.statistics.wave import FrameWaves, fit_frames

PAST = 2  # frames that tell which way the wave travels


def wave_quantities(*, offset: float = 0.5) -> tuple[Quantity, ...]:
    """Amplitude, wavelength, direction and phase velocity, and what is no plane wave.

    A plane wave is fitted to every frame (`microevo.statistics.wave.fit_frames`), once for all quantities that are
    measured together. The sign of the wave vector comes from the travel between the last two past frames: a forecast that
    runs backwards has a negative phase velocity. After a frame that is not finite phases cannot be followed, and all
    later values are NaN.

    A frame that holds no wave has an amplitude and a residual, but neither wavelength, direction nor velocity, which are
    NaN, and so are their errors.

    Args:
        offset: Value about which the wave swings.
    """
    fitted = Shared(partial(_fit, offset=offset))

    def velocity(waves: FrameWaves) -> np.ndarray:
        return np.concatenate([[np.nan], waves.phase_velocity])

    return (
        Quantity(
            name="wave_amplitude",
            long_name="amplitude of the wave",
            unit="1",
            statistic=_of_waves(fitted, lambda waves: waves.amplitude),
            before=PAST,
        ),
        Quantity(
            name="wavelength",
            long_name="wavelength",
            unit="px",
            statistic=_of_waves(fitted, lambda waves: waves.wavelength),
            before=PAST,
        ),
        Quantity(
            name="wave_direction",
            long_name="angle of the wave vector, from x to y; the wave travels the other way",
            unit="degrees",
            statistic=_of_waves(fitted, lambda waves: np.degrees(np.arctan2(*waves.wave_vector.T))),
            distance=_angle_between,
            before=PAST,
        ),
        Quantity(
            name="phase_velocity",
            long_name="speed of the crests since the frame before",
            unit="px / fr",
            statistic=_of_waves(fitted, velocity),
            before=PAST,
        ),
        Quantity(
            name="wave_residual",
            long_name="root mean square of what one plane wave leaves of the frame",
            unit="1",
            statistic=_of_waves(fitted, lambda waves: waves.residual),
            before=PAST,
        ),
    )


def _fit(frames: Frames, offset: float) -> list[FrameWaves | None]:
    """The waves of each trajectory, as far as its frames are finite; none where the first one is not."""
    finite = np.isfinite(frames).all(axis=(-2, -1))
    known = np.where(finite.all(axis=1), finite.shape[1], finite.argmin(axis=1))
    return [
        _forwards(fit_frames(row[:until], offset=offset)) if until else None
        for row, until in zip(frames, known, strict=True)
    ]


def _forwards(waves: FrameWaves) -> FrameWaves:
    """The same waves, their phase growing from the first frame to the second."""
    sign = -1.0 if len(waves.phase) > 1 and waves.phase[1] < waves.phase[0] else 1.0
    return replace(waves, wave_vector=sign * waves.wave_vector, phase=sign * waves.phase)


def _of_waves(fitted: Shared[list[FrameWaves | None]], function: Callable[[FrameWaves], np.ndarray]) -> Statistic:
    def statistic(frames: Frames) -> Float[np.ndarray, "B T"]:
        values = np.full(frames.shape[:2], np.nan)
        for row, waves in zip(values, fitted(frames), strict=True):
            if waves is not None:
                found = function(waves)
                row[: len(found)] = found
        return values

    return statistic


def _angle_between(prediction: Float[np.ndarray, "B T"], target: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T"]:
    """Angle between the axes of two waves, up to 90 degrees: which way one travels is the sign of its velocity."""
    return np.abs((prediction - target + 90) % 180 - 90)
