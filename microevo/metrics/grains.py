"""Grains of a micrograph, bright inside and dark on boundaries: what is measured on them, from the image alone."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float, Int
from skimage.segmentation import watershed

from microevo.metrics.distribution import histogram, total_variation, wasserstein
from microevo.metrics.objects import areas, label
from microevo.metrics.quantity import Bins, Fit, Frames, Quantity, Shared, Statistic
from microevo.metrics.trend import slope

BRIGHT = 0.8  # grey above which a pixel is inside a grain; at 0.5 regions leak through their boundaries
WRAP = 8  # pixels beyond a periodic border that the watershed sees
CIRCLE = 180  # places on the circle about a junction


def segment_grains(
    frame: Float[np.ndarray, "H W"], *, level: float = BRIGHT, periodic: bool = True
) -> Int[np.ndarray, "H W"]:
    """Number every grain, and give each pixel of the boundaries to a grain.

    Grains are the 4-connected regions brighter than `level`; a watershed grows them until they meet on the dark lines
    between them.

    Args:
        frame: Micrograph, finite.
        level: Grey that tells inside from boundary; the published frames go from 0.1 to 1.
        periodic: Whether a grain continues beyond a border on the opposite side.

    Returns:
        Numbers 1 to n; 0 everywhere if nothing is brighter than `level`.
    """
    seeds, grains = label(frame > level, connectivity=4, periodic=periodic)
    if not grains:
        return seeds
    if not periodic:
        return np.asarray(watershed(-frame, seeds))
    wide = [np.pad(u, WRAP, mode="wrap") for u in (-frame, seeds)]
    return np.asarray(watershed(*wide)[WRAP:-WRAP, WRAP:-WRAP])


def relative_radii(labels: Int[np.ndarray, "H W"]) -> Float[np.ndarray, " n"]:
    """Radius of the circle of each grain's area, divided by the mean of these radii [1]."""
    radii = np.sqrt(areas(labels) / np.pi)
    return radii / radii.mean() if len(radii) else radii


def adjacent_grains(labels: Int[np.ndarray, "H W"], *, periodic: bool = True) -> Int[np.ndarray, "pairs 2"]:
    """The pairs of grains that share the side of at least one pixel, each once."""
    sides = []
    for axis in (0, 1):
        after = np.roll(labels, -1, axis)
        inside = slice(None) if periodic else slice(-1)
        index = (inside, slice(None)) if axis == 0 else (slice(None), inside)
        sides.append(np.stack([labels[index].ravel(), after[index].ravel()]))
    low, high = np.sort(np.concatenate(sides, axis=1), axis=0).astype(np.int64)
    base = int(labels.max(initial=0)) + 1
    codes = np.unique((low * base + high)[low != high])
    return np.stack([codes // base, codes % base], axis=1)


def grain_sides(labels: Int[np.ndarray, "H W"], *, periodic: bool = True) -> Int[np.ndarray, " n"]:
    """Number of neighbours of each grain.

    Their mean is 6 in a periodic network of triple junctions (Euler), less where pixels merge junctions or two grains
    touch twice. Without a periodic boundary the border of the frame does not count as a neighbour.
    """
    pairs = adjacent_grains(labels, periodic=periodic)
    return np.bincount(pairs.ravel(), minlength=int(labels.max(initial=0)) + 1)[1:]


def triple_junctions(
    labels: Int[np.ndarray, "H W"], *, periodic: bool = True
) -> tuple[Float[np.ndarray, "n 2"], Int[np.ndarray, "n 3"]]:
    """Where three grains meet.

    Returns:
        Places `(y, x)`, at the middle of the blocks of 2 x 2 pixels that hold three grains (blocks that touch and hold
        the same three are one junction) [px]; and the three grains. Blocks of four grains are left out.
    """
    blocks = np.stack([np.roll(labels, shift, (0, 1)) for shift in ((0, 0), (-1, 0), (0, -1), (-1, -1))], axis=-1)
    if not periodic:
        blocks = blocks[:-1, :-1]
    blocks = np.sort(blocks, axis=-1)
    new = np.diff(blocks, axis=-1) > 0
    rows, columns = np.nonzero(new.sum(axis=-1) == 2)
    found = blocks[rows, columns]
    first = np.ones(found.shape, dtype=bool)
    first[:, 1:] = new[rows, columns]
    triples = found[first].reshape(-1, 3)
    places = np.stack([rows, columns], axis=1) + 0.5
    return _merge(places, triples, labels.shape if periodic else None)


def _merge(
    places: Float[np.ndarray, "m 2"], triples: Int[np.ndarray, "m 3"], period: tuple[int, ...] | None
) -> tuple[Float[np.ndarray, "n 2"], Int[np.ndarray, "n 3"]]:
    """Join the blocks of one junction: the same three grains, not more than two pixels apart."""
    order = np.lexsort(triples.T)
    centres: list[np.ndarray] = []
    grains: list[np.ndarray] = []
    counts: list[int] = []
    for place, triple in zip(places[order], triples[order], strict=True):
        step = np.full(2, np.inf)
        if grains and (grains[-1] == triple).all():
            step = place - centres[-1]
            if period is not None:
                step = (step + np.array(period) / 2) % period - np.array(period) / 2
        if np.abs(step).max() <= 2:
            counts[-1] += 1
            centres[-1] = centres[-1] + step / counts[-1]
        else:
            centres.append(place)
            grains.append(triple)
            counts.append(1)
    return np.array(centres, dtype=float).reshape(-1, 2), np.array(grains, dtype=triples.dtype).reshape(-1, 3)


def junction_angles(
    labels: Int[np.ndarray, "H W"], *, periodic: bool = True, radius: float = 3.5
) -> Float[np.ndarray, "n 3"]:
    """Angle that each grain fills at each triple junction, adding up to 360 [degrees].

    It is the grain's share of a circle about the junction. In equilibrium all three are 120 degrees (equal boundary
    energies); pixels scatter single angles by 7 to 11 degrees and curved boundaries change them with the radius,
    so compare distributions. A junction with a fourth grain within the radius, or nearer to a border that is not
    periodic, is left out.

    Args:
        labels: Numbered grains.
        periodic: Whether a grain continues beyond a border on the opposite side.
        radius: Of the circle [px].
    """
    places, triples = triple_junctions(labels, periodic=periodic)
    turn = 2 * np.pi * (np.arange(CIRCLE) + 0.5) / CIRCLE  # half a step off the axes, where rounding would tie
    circle = np.rint(places[:, :, None] + radius * np.stack([np.sin(turn), np.cos(turn)])).astype(int)
    size = np.array(labels.shape)[:, None]
    inside = ((circle >= 0) & (circle < size)).all(axis=(1, 2))
    rows, columns = np.moveaxis(circle % size, 1, 0)
    around = labels[rows, columns]
    shares = (around[:, None, :] == triples[:, :, None]).mean(axis=-1)
    arcs = (around != np.roll(around, 1, axis=1)).sum(axis=1)
    whole = (shares.sum(axis=1) == 1) & (arcs == 3) & (shares > 0).all(axis=1)
    if not periodic:
        whole &= inside
    return 360 * shares[whole]


# ------------------------------------------------------------------ quantities


RADII = Bins("radius / mean radius", "1", tuple(np.linspace(0, 3, 16).tolist()))
SIDES = Bins("sides of a grain", "1", tuple(np.arange(1.5, 13).tolist()))
# 120 degrees, where most angles are, is the middle of a bin: at an edge, the least deviation would count as a whole bin.
ANGLES = Bins("angle at a triple junction", "degrees", tuple(np.arange(5.0, 356, 10).tolist()))


def grain_quantities(*, periodic: bool = True) -> tuple[Quantity, ...]:
    """Count, mean area with its slope, and the distributions of size, sides and junction angles.

    Grains are segmented on each frame anew (see `segment_grains`), once for all quantities
    that are measured together. Distributions are counts in bins, which add up over trajectories. A frame in which no
    grains are found has empty ones: beside a truth that has grains their distances have the worst value (1 for the total
    variation, the width of the bins for Wasserstein-1), the count is 0, and the mean area does not exist and is NaN.

    Args:
        periodic: Whether a grain continues beyond a border on the opposite side.
    """
    segmented = Shared(partial(_segment, periodic=periodic))

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


def _segment(frames: Frames, periodic: bool) -> list[np.ndarray | None]:
    """Labels of every frame, in one row; none of a frame that is not finite."""
    return [
        segment_grains(frame, periodic=periodic) if np.isfinite(frame).all() else None
        for frame in frames.reshape(-1, *frames.shape[-2:])
    ]


def _of_labels(
    segmented: Shared[list[np.ndarray | None]], function: Callable[[np.ndarray], float | np.ndarray], *size: int
) -> Statistic:
    def statistic(frames: Frames) -> np.ndarray:
        labels: Sequence[np.ndarray | None] = segmented(frames)
        values = [np.full(size, np.nan) if grains is None else function(grains) for grains in labels]
        return np.array(values, dtype=float).reshape(*frames.shape[:-2], *size)

    return statistic
