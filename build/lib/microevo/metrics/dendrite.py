"""What is measured on a crystal that grows from a seed."""

from functools import partial

import numpy as np
from jaxtyping import Float

from microevo.metrics.quantity import Frames, Quantity, all_frames
from microevo.statistics.dendrite import mean_gradient_magnitude, solid_fraction, tip_radius

LAG = 5  # frames over which the speed is taken: the radius wobbles by tenths of a pixel


def dendrite_quantities(*, level: float = 0.5, periodic: bool = True, lag: int = LAG) -> tuple[Quantity, ...]:
    """Tip position and speed, solid fraction and interface.

    Args:
        level: Phase field above which a pixel is solid.
        periodic: Whether frames go on beyond a border on the opposite side.
        lag: Frames over which the speed is taken; as many past frames are needed.
    """
    radius = all_frames(partial(tip_radius, level=level, subpixel=True))

    def speed(frames: Frames) -> Float[np.ndarray, "B T"]:
        radii = radius(frames)
        speeds = np.full(radii.shape, np.nan)
        speeds[:, lag:] = (radii[:, lag:] - radii[:, :-lag]) / lag
        return speeds

    return (
        Quantity(name="tip_radius", long_name="distance of the tips from the centre", unit="px", statistic=radius),
        Quantity(
            name="tip_speed",
            long_name=f"speed of the tips over the last {lag} frames",
            unit="px / fr",
            statistic=speed,
            before=lag,
        ),
        Quantity(
            name="solid_fraction",
            long_name="mean of the phase field",
            unit="1",
            statistic=all_frames(solid_fraction),
        ),
        Quantity(
            name="gradient_magnitude",
            long_name="mean gradient magnitude, the length of interface per area",
            unit="1/px",
            statistic=all_frames(partial(mean_gradient_magnitude, periodic=periodic)),
        ),
    )
