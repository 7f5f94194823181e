"""Objects of a microstructure: droplets, particles or grains as connected regions of pixels."""

from typing import Literal

import cc3d
import numpy as np
from jaxtyping import Bool, Float, Int


def label(
    mask: Bool[np.ndarray, "H W"], *, connectivity: Literal[4, 8], periodic: bool
) -> tuple[Int[np.ndarray, "H W"], int]:
    """Number the connected regions of a mask.

    Args:
        mask: Where the objects are.
        connectivity: Neighbours of a pixel: 4 share a side with it, 8 a side or a corner.
        periodic: Whether an object continues beyond a border on the opposite side.

    Returns:
        Numbers 1 to n, 0 outside of objects; and n.
    """
    labels, count = cc3d.connected_components(
        mask, connectivity=connectivity, periodic_boundary=periodic, return_N=True
    )
    return labels.astype(np.int32), int(count)


def threshold_mask(
    frames: Float[np.ndarray, "*batch H W"], *, threshold: float, below: bool
) -> Bool[np.ndarray, "*batch H W"]:
    """Pixels strictly below a threshold, or strictly above it."""
    return frames < threshold if below else frames > threshold


def count_objects(
    frames: Float[np.ndarray, "*batch H W"],
    *,
    threshold: float,
    below: bool,
    connectivity: Literal[4, 8],
    periodic: bool,
) -> Int[np.ndarray, "*batch"]:
    """Number of objects in each frame; `object_areas` of one frame tells their sizes.

    Args:
        frames: What is measured, finite.
        threshold: Value that tells object from surroundings [that of the frames].
        below: Whether objects are darker than the threshold (droplets of the published spinodal samples) or brighter
            (grains).
        connectivity: Neighbours of a pixel; see `label`.
        periodic: Whether an object continues beyond a border on the opposite side.
    """
    masks = threshold_mask(frames, threshold=threshold, below=below)
    counts = [
        label(mask, connectivity=connectivity, periodic=periodic)[1] for mask in masks.reshape(-1, *masks.shape[-2:])
    ]
    return np.array(counts, dtype=np.int64).reshape(masks.shape[:-2])


def areas(labels: Int[np.ndarray, "H W"]) -> Int[np.ndarray, " n"]:
    """Area of each object, in the order of their numbers [px^2]."""
    return np.bincount(labels.ravel())[1:]


def object_areas(
    frame: Float[np.ndarray, "H W"], *, threshold: float, below: bool, connectivity: Literal[4, 8], periodic: bool
) -> Int[np.ndarray, " n"]:
    """Area of each object of one frame; settings as for `count_objects` [px^2]."""
    mask = threshold_mask(frame, threshold=threshold, below=below)
    return areas(label(mask, connectivity=connectivity, periodic=periodic)[0])


def area_fraction(
    frames: Float[np.ndarray, "*batch H W"], *, threshold: float, below: bool
) -> Float[np.ndarray, "*batch"]:
    """Share of the pixels that lie in objects [1]."""
    return np.asarray(threshold_mask(frames, threshold=threshold, below=below).mean(axis=(-2, -1)))
