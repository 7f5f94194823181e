"""How fast frames change: from one to the next, and over the lead of a forecast that does nothing."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def rms_change(frames: Float[np.ndarray, "*batch T H W"]) -> Float[np.ndarray, "*batch changes"]:
    """Root mean square of the difference between each frame and the next, T - 1 of them.

    It bursts where an object vanishes: compare medians over several frames.
    """
    steps = np.diff(frames.astype(np.float64), axis=-3)
    return np.sqrt(np.square(steps).mean(axis=(-2, -1)))


def persistence_rmse(
    frames: Float[np.ndarray, "*batch T H W"], leads: Sequence[int], *, n_past: int = 10, starts: Sequence[int] = (0,)
) -> Float[np.ndarray, "*batch leads"]:
    """Error of the forecast that repeats the last frame of the past, averaged over some windows of a trajectory.

    Returns:
        Mean over the windows of the root mean square; NaN where a window of this lead goes beyond the frames.
    """
    found = []
    for lead in leads:
        last = [start + n_past - 1 for start in starts]
        if max(last) + lead >= frames.shape[-3]:
            found.append(np.full(frames.shape[:-3], np.nan))
            continue
        errors = frames[..., [i + lead for i in last], :, :].astype(np.float64) - frames[..., last, :, :]
        found.append(np.sqrt(np.square(errors).mean(axis=(-2, -1))).mean(axis=-1))
    return np.stack(found, axis=-1)
