"""A crystal that grows from a seed: how much is solid, how far its tips reach, how branched it is."""

import numpy as np
from jaxtyping import Float


def solid_fraction(frames: Float[np.ndarray, "*batch H W"]) -> Float[np.ndarray, "*batch"]:
    """Mean of the phase field, which is 1 in the solid and 0 in the melt [1]."""
    return np.asarray(frames.mean(axis=(-2, -1), dtype=np.float64))


def tip_radius(frames: Float[np.ndarray, "*batch H W"], *, level: float = 0.5) -> Float[np.ndarray, "*batch"]:
    """Distance from the centre of the frame to the farthest pixel above `level`; NaN where there is none [px]."""
    height, width = frames.shape[-2:]
    y, x = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    solid = np.where(frames > level, np.hypot(y[:, None], x), -np.inf).max(axis=(-2, -1))
    return np.where(np.isfinite(solid), solid, np.nan)


def mean_gradient_magnitude(
    frames: Float[np.ndarray, "*batch H W"], *, periodic: bool = True
) -> Float[np.ndarray, "*batch"]:
    """Mean of |grad u| by central differences: the length of interface per area, of interfaces from 0 to 1 [1/px]."""
    u = frames.astype(np.float64)
    if periodic:
        slopes = [(np.roll(u, -1, axis) - np.roll(u, 1, axis)) / 2 for axis in (-2, -1)]
    else:
        slopes = [np.gradient(u, axis=axis) for axis in (-2, -1)]
    return np.asarray(np.hypot(*slopes).mean(axis=(-2, -1)))
