"""A crystal that grows from a seed: how much is solid, how far and how fast its tips reach, how branched it is."""

from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from microevo.metrics.objects import areas, label
from microevo.metrics.quantity import Frames, Quantity, all_frames


def solid_fraction(frames: Float[np.ndarray, "*batch H W"]) -> Float[np.ndarray, "*batch"]:
    """Mean of the phase field, which is 1 in the solid and 0 in the melt [1]."""
    return np.asarray(frames.mean(axis=(-2, -1), dtype=np.float64))


def tip_radius(
    frames: Float[np.ndarray, "*batch H W"], *, level: float = 0.5, subpixel: bool = False
) -> Float[np.ndarray, "*batch"]:
    """Distance from the centre of the frame to the farthest point of the crystal; NaN where nothing is solid [px].

    The crystal is the 8-connected region above `level` that holds the middle of the frame, else the largest one: what a
    forecast has put elsewhere is not a tip.

    Args:
        frames: Phase field.
        level: Value above which a pixel is solid.
        subpixel: Whether the crystal ends where the field, linear between neighbours along y or x, falls to `level`; else
            in the middle of its last pixel, as the published values are measured, on average 0.3 px (at most 1 px) less.
    """
    height, width = frames.shape[-2:]
    y, x = np.arange(height)[:, None] - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    rows = frames.reshape(-1, height, width).astype(np.float64)
    solid = np.array([_crystal(row > level) for row in rows], dtype=bool).reshape(rows.shape)
    radii = np.where(solid, np.hypot(y, x), -np.inf).max(axis=(1, 2))
    for dy, dx in ((1, 0), (0, 1)) if subpixel else ():
        here, there = np.s_[:, : height - dy, : width - dx], np.s_[:, dy:, dx:]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (level - rows[here]) / (rows[there] - rows[here])  # of the way to the neighbour
        share = np.where(solid[here] != solid[there], share, np.nan)
        distance = np.hypot(y[: height - dy] + dy * share, x[: width - dx] + dx * share)
        radii = np.maximum(radii, np.where(np.isfinite(distance), distance, -np.inf).max(axis=(1, 2), initial=-np.inf))
    return np.where(np.isfinite(radii), radii, np.nan).reshape(frames.shape[:-2])


def _crystal(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """The region in the middle of the frame, else the largest one; nothing where there is none."""
    labels, count = label(mask, connectivity=8, periodic=False)
    if not count:
        return mask
    height, width = mask.shape
    # One pixel, or the two or four nearest the centre, which touch each other.
    middle = int(labels[(height - 1) // 2 : height // 2 + 1, (width - 1) // 2 : width // 2 + 1].max())
    return labels == (middle or 1 + int(areas(labels).argmax()))


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


# ------------------------------------------------------------------ quantities


LAG = 5  # frames over which the speed is taken: the radius wobbles by tenths of a pixel


def dendrite_quantities(*, periodic: bool = True, lag: int = LAG) -> tuple[Quantity, ...]:
    """Tip position and speed, solid fraction and interface.

    Args:
        periodic: Whether frames continue beyond a border on the opposite side.
        lag: Frames over which the speed is taken; as many past frames are needed.
    """
    radius = all_frames(partial(tip_radius, subpixel=True))

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
            name="solid_fraction", long_name="mean of the phase field", unit="1", statistic=all_frames(solid_fraction)
        ),
        Quantity(
            name="gradient_magnitude",
            long_name="mean gradient magnitude, the length of interface per area",
            unit="1/px",
            statistic=all_frames(partial(mean_gradient_magnitude, periodic=periodic)),
        ),
    )
