"""Particles followed through time by the overlap of consecutive frames: which grow, which shrink, which vanish."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from microevo.metrics.distribution import histogram, wasserstein
from microevo.metrics.objects import label, threshold_mask
from microevo.metrics.quantity import Bins, Frames, Quantity, Shared, Statistic, each_trajectory, of_each


def link(before: Int[np.ndarray, "H W"], after: Int[np.ndarray, "H W"]) -> Int[np.ndarray, "links 2"]:
    """The particles of two frames, numbered from 1, that are one and the same.

    Two are linked if each is the one that the other overlaps most (the lower number on a tie). Of particles that merge
    the one with the largest overlap lives on, and of the parts of one that splits likewise.

    Returns:
        Pairs of numbers, in the order of `before`.
    """
    old, new, overlaps = _overlaps(before, after)
    order = np.lexsort((new, old, -overlaps))
    best_new = _first_of(old, order)
    best_old = _first_of(new, order)
    mutual = np.intersect1d(best_new, best_old)
    return np.stack([old[mutual], new[mutual]], axis=1)


def _overlaps(
    before: Int[np.ndarray, "H W"], after: Int[np.ndarray, "H W"]
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Every pair of particles of two frames that share pixels: numbers before, numbers after, shared pixels."""
    shared = (before > 0) & (after > 0)
    base = int(after.max(initial=0)) + 1
    codes, overlaps = np.unique(before[shared].astype(np.int64) * base + after[shared], return_counts=True)
    return codes // base, codes % base, overlaps


def _first_of(numbers: Int[np.ndarray, " m"], order: Int[np.ndarray, " m"]) -> Int[np.ndarray, " k"]:
    """Of each number its first place in a given order."""
    _, first = np.unique(numbers[order], return_index=True)
    return order[first]


def follow(labels: Int[np.ndarray, "T H W"]) -> Int[np.ndarray, "T H W"]:
    """Renumber particles so that each keeps its number for life.

    Those of the first frame keep the numbers they have; others take the next free ones.
    """
    followed = np.zeros_like(labels)
    if not len(labels):
        return followed
    followed[0] = labels[0]
    free = int(labels[0].max(initial=0)) + 1
    for now in range(1, len(labels)):
        count = int(labels[now].max(initial=0))
        names = np.zeros(count + 1, dtype=labels.dtype)
        linked = link(followed[now - 1], labels[now])
        names[linked[:, 1]] = linked[:, 0]
        born = np.flatnonzero(names[1:] == 0) + 1
        names[born] = free + np.arange(len(born))
        free += len(born)
        followed[now] = names[labels[now]]
    return followed


def followed_areas(followed: Int[np.ndarray, "T H W"]) -> Float[np.ndarray, "T n"]:
    """Area of every particle over time [px^2]: NaN before it is born, 0 after it dissolved or was swallowed."""
    particles = int(followed.max(initial=0))
    areas = np.stack([np.bincount(frame.ravel(), minlength=particles + 1)[1:] for frame in followed]).astype(float)
    born = np.maximum.accumulate(areas > 0, axis=0)
    return np.where(born, areas, np.nan)


def merged_or_split(followed: Int[np.ndarray, "T H W"]) -> Bool[np.ndarray, "T n"]:
    """Whether a particle became another one at a frame: it swallowed one, or lost a part.

    It merged if it lies on two or more particles of the frame before, and split if two or more particles lie where it was;
    never in the first frame. Particles that touch the former place of a neighbour without joining it count too: between
    frames they should move by less than their distance.
    """
    particles = int(followed.max(initial=0))
    changed = np.zeros((len(followed), particles), dtype=bool)
    for now in range(1, len(followed)):
        old, new, _ = _overlaps(followed[now - 1], followed[now])
        partners = [np.bincount(numbers, minlength=particles + 1)[1:] for numbers in (old, new)]
        changed[now] = (partners[0] > 1) | (partners[1] > 1)
    return changed


def growth_rates(
    areas: Float[np.ndarray, "T n"], lag: int = 1, changed: Bool[np.ndarray, "T n"] | None = None
) -> Float[np.ndarray, "T n"]:
    """Growth of each particle over the last `lag` frames [px^2 / fr]; negative while it shrinks.

    NaN for the first `lag` frames, for a particle that did not exist at both ends, and for one that merged or split in
    between: its area jumped, but nothing grew. Areas are whole pixels: over a single frame rates are too, and a longer
    lag resolves finer ones.

    Args:
        areas: See `followed_areas`.
        lag: Frames over which growth is taken.
        changed: See `merged_or_split`; without it no particle is left out.
    """
    rates = np.full(areas.shape, np.nan)
    alive = areas > 0
    both = alive[lag:] & alive[:-lag]
    if changed is not None:
        changes = np.cumsum(changed, axis=0)
        both &= changes[lag:] == changes[:-lag]
    rates[lag:][both] = ((areas[lag:] - areas[:-lag]) / lag)[both]
    return rates


def particles_lost(areas: Float[np.ndarray, "T n"]) -> Float[np.ndarray, " T"]:
    """Particles of the frame before that are gone, dissolved or swallowed; NaN for the first frame."""
    lost = np.full(len(areas), np.nan)
    lost[1:] = ((areas[:-1] > 0) & (areas[1:] == 0)).sum(axis=1)
    return lost


# ------------------------------------------------------------------ quantities


LAG = 5  # frames over which growth is taken: areas are whole pixels, and a droplet changes by about one a frame
RATES = Bins("growth rate", "px^2 / fr", tuple(np.arange(-6.1, 6.2, 0.2).round(1).tolist()))


class Particles(NamedTuple):
    """The followed particles of one trajectory, as far as its frames are finite.

    Attributes:
        areas: See `followed_areas` [px^2].
        changed: See `merged_or_split`.
    """

    areas: Float[np.ndarray, "T n"]
    changed: Bool[np.ndarray, "T n"]


def particle_quantities(
    *, threshold: float = 0.5, below: bool = True, periodic: bool = True, lag: int = LAG
) -> tuple[Quantity, ...]:
    """Growth, shrinkage and losses of followed particles, and the area of each one against its truth.

    Particles are 8-connected regions, followed by overlap from frame to frame (`link`). Growth
    looks back over `lag` frames: give the past frames too. It is that of particles by themselves: one that merged or split
    within the lag is left out, for the area that it took over did not grow. Losses add up from the last past frame on, so
    that one that comes late costs less than one that never comes. After a frame that is not finite nothing can be followed,
    and all later values are NaN.

    Args:
        threshold: Value that tells particle from matrix [field units].
        below: Whether particles are below the threshold.
        periodic: Whether a particle continues beyond a border on the opposite side.
        lag: Frames over which growth is taken.
    """
    followed = each_trajectory(partial(_follow, threshold=threshold, below=below, periodic=periodic))
    edges = np.array(RATES.edges)

    def rates(particles: Particles) -> np.ndarray:
        return growth_rates(particles.areas, lag, particles.changed)

    def mean_of(chosen: Callable[[np.ndarray], np.ndarray]) -> Statistic:
        def mean(particles: Particles) -> np.ndarray:
            values = rates(particles)
            counted = chosen(values)
            with np.errstate(invalid="ignore"):
                means = np.where(counted, values, 0).sum(axis=1) / counted.sum(axis=1)
            # No particle grows, or none shrinks: the rate is 0, and unknown before the first lag is over.
            means[counted.sum(axis=1) == 0] = 0.0
            means[:lag] = np.nan
            return means

        return of_each(followed, mean)

    def rate_counts(particles: Particles) -> np.ndarray:
        counts = np.array([histogram(row, edges) for row in rates(particles)])
        counts[:lag] = np.nan
        return counts

    def lost_since_past(particles: Particles) -> np.ndarray:
        lost = particles_lost(particles.areas)
        lost[: lag - 1] = np.nan
        lost[lag - 1 : lag] = 0.0  # the last past frame
        lost[lag - 1 :] = np.cumsum(lost[lag - 1 :])
        return lost

    return (
        Quantity(
            name="particle_growth",
            long_name="mean growth rate of the particles that grow",
            unit=RATES.unit,
            statistic=mean_of(lambda rate: rate > 0),
            before=lag,
        ),
        Quantity(
            name="particle_shrinkage",
            long_name="mean growth rate of the particles that shrink",
            unit=RATES.unit,
            statistic=mean_of(lambda rate: rate < 0),
            before=lag,
        ),
        Quantity(
            name="particle_rate_w1",
            long_name="distribution of growth rates, Wasserstein-1",
            unit="particles",
            statistic=of_each(followed, rate_counts, len(RATES.edges) - 1),
            distance=_rates_apart,
            error_unit=RATES.unit,
            bins=RATES,
            before=lag,
        ),
        Quantity(
            name="particles_lost",
            long_name="particles dissolved or swallowed since the last past frame",
            unit="1",
            statistic=of_each(followed, lost_since_past),
            before=lag,
        ),
        Quantity(
            name="particle_area",
            long_name="mean absolute error of the area of each particle of the last past frame",
            unit="px^2",
            statistic=None,
            better="low",
            distance=partial(_area_errors, followed=followed, start=lag),
            before=lag,
        ),
    )


def _rates_apart(
    prediction: Float[np.ndarray, "B T K"], target: Float[np.ndarray, "B T K"]
) -> Float[np.ndarray, "B T"]:
    """Wasserstein-1 distance; where no particle has a rate, nothing grows or shrinks: all rates are 0."""
    edges = np.array(RATES.edges)
    still = histogram(np.zeros(1), edges)
    sides = [np.where(counts.sum(axis=-1, keepdims=True) == 0, still, counts) for counts in (prediction, target)]
    return wasserstein(*sides, edges=edges)


def _follow(frames: Float[np.ndarray, "T H W"], threshold: float, below: bool, periodic: bool) -> Particles:
    masks = threshold_mask(frames, threshold=threshold, below=below)
    followed = follow(np.stack([label(mask, connectivity=8, periodic=periodic)[0] for mask in masks]))
    return Particles(followed_areas(followed), merged_or_split(followed))


def _area_errors(
    prediction: Frames, target: Frames, followed: Shared[list[Particles | None]], start: int
) -> np.ndarray:
    """Mean over the particles of frame `start - 1`, the last past one; 0 is the area of one that is gone.

    NaN before, where there are no such particles, and where the two trajectories differ already in that frame (no past
    was given).
    """
    errors = np.full(prediction.shape[:2], np.nan)
    for row, frames, particles in zip(
        errors,
        zip(prediction, target, strict=True),
        zip(followed(prediction), followed(target), strict=True),
        strict=True,
    ):
        p, t = (np.empty((0, 0)) if side is None else side.areas for side in particles)
        if min(len(p), len(t)) < start or not np.array_equal(frames[0][:start], frames[1][:start]):
            continue
        # Up to that frame the two are equal, and so are their numbers.
        known = np.flatnonzero(p[start - 1] > 0)
        both = min(len(p), len(t))
        if len(known):
            row[start:both] = np.abs(p[start:both, known] - t[start:both, known]).mean(axis=1)
    return errors
