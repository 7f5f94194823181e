"""What is measured on micrographs of grains, from the image alone."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from microevo.metrics.distribution import histogram, total_variation, wasserstein
from microevo.metrics.quantity import Bins, Fit, Frames, Quantity, Shared, Statistic
from microevo.metrics.trend import slope
from microevo.statistics.grains import BRIGHT, grain_sides, junction_angles, relative_radii, segment_grains

RADII = Bins("radius / mean radius", "1", tuple(np.linspace(0, 3, 16).tolist()))
SIDES = Bins("sides of a grain", "1", tuple(np.arange(1.5, 13).tolist()))
# 120 degrees, where most angles are, is the middle of a bin: at an edge, the least deviation would count as a whole bin.
ANGLES = Bins("angle at a triple junction", "degrees", tuple(np.arange(5.0, 356, 10).tolist()))


def grain_quantities(*, level: float = BRIGHT, periodic: bool = True) -> tuple[Quantity, ...]:
    """Count, mean area with its slope, and the distributions of size, sides and junction angles.

    Grains are segmented on each frame anew (see `microevo.statistics.grains.segment_grains`), once for all quantities
    that are measured together. Distributions are counts in bins, which add up over trajectories. A frame in which no
    grains are found has empty ones: beside a truth that has grains their distances have the worst value (1 for the total
    variation, the width of the bins for Wasserstein-1), the count is 0, and the mean area does not exist and is NaN.

    Args:
        level: Grey that tells inside from boundary.
        periodic: Whether a grain goes on beyond a border on the opposite side.
    """
    segmented = Shared(partial(_segment, level=level, periodic=periodic))

    def counts(samples: Callable[[np.ndarray], np.ndarray], bins: Bins) -> Statistic:
        edges = np.array(bins.edges)
        return _of_labels(segmented, lambda labels: histogram(samples(labels), edges), len(edges) - 1)

    def mean_area(labels: np.ndarray) -> float:
        grains = int(labels.max())
        return labels.size / grains if grains else np.nan

    sizes = counts(relative_radii, RADII)
    return (
        Quantity(
            name="grain_count",
            long_name="number of grains",
            unit="1",
            statistic=_of_labels(segmented, lambda labels: float(labels.max())),
        ),
        Quantity(
            name="grain_area",
            long_name="mean area of a grain",
            unit="px^2",
            statistic=_of_labels(segmented, mean_area),
            fit=Fit("grain_area_slope", "px^2 / fr", slope),
        ),
        Quantity(
            name="grain_size_tv",
            long_name="grain-size distribution, total variation",
            unit="grains",
            statistic=sizes,
            distance=total_variation,
            error_unit="1",
            bins=RADII,
        ),
        Quantity(
            name="grain_size_w1",
            long_name="grain-size distribution, Wasserstein-1",
            unit="grains",
            statistic=sizes,
            distance=partial(wasserstein, edges=np.array(RADII.edges)),
            error_unit=RADII.unit,
            bins=RADII,
        ),
        Quantity(
            name="grain_sides_tv",
            long_name="distribution of the number of sides, total variation",
            unit="grains",
            statistic=counts(lambda labels: grain_sides(labels, periodic=periodic).astype(float), SIDES),
            distance=total_variation,
            error_unit="1",
            bins=SIDES,
        ),
        Quantity(
            name="junction_angle_w1",
            long_name="angles at triple junctions, Wasserstein-1",
            unit="angles",
            statistic=counts(lambda labels: junction_angles(labels, periodic=periodic).ravel(), ANGLES),
            distance=partial(wasserstein, edges=np.array(ANGLES.edges)),
            error_unit=ANGLES.unit,
            bins=ANGLES,
        ),
    )


def _segment(frames: Frames, level: float, periodic: bool) -> list[np.ndarray | None]:
    """Labels of every frame, in one row; none of a frame that is not finite."""
    return [
        segment_grains(frame, level=level, periodic=periodic) if np.isfinite(frame).all() else None
        for frame in frames.reshape(-1, *frames.shape[-2:])
    ]


def _of_labels(
    segmented: Shared[list[np.ndarray | None]], function: Callable[[np.ndarray], float | np.ndarray], *size: int
) -> Statistic:
    def statistic(frames: Frames) -> np.ndarray:
        labels: Sequence[np.ndarray | None] = segmented(frames)
        values = [np.full(size, np.nan) if one is None else function(one) for one in labels]
        return np.array(values, dtype=float).reshape(*frames.shape[:-2], *size)

    return statistic
