"""Particles followed through a forecast: how fast they grow and shrink, how many vanish, and each one against its truth."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from microevo.metrics.distribution import histogram, wasserstein
from microevo.metrics.quantity import Bins, Comparison, Frames, Quantity, Shared, Statistic
from microevo.statistics.objects import label, threshold_mask
from microevo.statistics.particles import follow, followed_areas, growth_rates, merged_or_split, particles_lost

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


def tracking_metrics(
    *, threshold: float = 0.5, below: bool = True, periodic: bool = True, lag: int = LAG
) -> tuple[Quantity | Comparison, ...]:
    """Growth, shrinkage and losses of followed particles, and the area of each one against its truth.

    Particles are 8-connected regions, followed by overlap from frame to frame (`microevo.statistics.particles`). Growth
    looks back over `lag` frames: give the past frames too. It is that of particles by themselves: one that merged or split
    within the lag is left out, for the area that it took over did not grow. Losses add up from the last past frame on, so
    that one that comes late costs less than one that never comes. After a frame that is not finite nothing can be followed,
    and all later values are NaN.

    Args:
        threshold: Value that tells particle from matrix [field units].
        below: Whether particles are below the threshold.
        periodic: Whether a particle goes on beyond a border on the opposite side.
        lag: Frames over which growth is taken.
    """
    followed = Shared(partial(_follow, threshold=threshold, below=below, periodic=periodic))
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

        return _of_particles(followed, mean)

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
            statistic=_of_particles(followed, rate_counts, len(RATES.edges) - 1),
            distance=_rates_apart,
            error_unit=RATES.unit,
            bins=RATES,
            before=lag,
        ),
        Quantity(
            name="particles_lost",
            long_name="particles dissolved or swallowed since the last past frame",
            unit="1",
            statistic=_of_particles(followed, lost_since_past),
            before=lag,
        ),
        Comparison(
            name="particle_area",
            long_name="mean absolute error of the area of each particle of the last past frame",
            unit="px^2",
            error=partial(_area_errors, followed=followed, start=lag),
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


def _follow(frames: Frames, threshold: float, below: bool, periodic: bool) -> list[Particles]:
    """The followed particles of each trajectory."""
    found = []
    for trajectory in frames:
        finite = np.isfinite(trajectory).all(axis=(1, 2))
        until = len(finite) if finite.all() else int(finite.argmin())
        masks = threshold_mask(trajectory[:until], threshold=threshold, below=below)
        labels = [label(mask, connectivity=8, periodic=periodic)[0] for mask in masks]
        if labels:
            followed = follow(np.stack(labels))
            found.append(Particles(followed_areas(followed), merged_or_split(followed)))
        else:
            found.append(Particles(np.zeros((0, 0)), np.zeros((0, 0), dtype=bool)))
    return found


def _of_particles(
    followed: Shared[list[Particles]], function: Callable[[Particles], np.ndarray], *size: int
) -> Statistic:
    def statistic(frames: Frames) -> np.ndarray:
        values = np.full((*frames.shape[:2], *size), np.nan)
        for row, particles in zip(values, followed(frames), strict=True):
            known = len(particles.areas)
            if known:
                row[:known] = function(particles)
        return values

    return statistic


def _area_errors(prediction: Frames, target: Frames, followed: Shared[list[Particles]], start: int) -> np.ndarray:
    """Mean over the particles of frame `start - 1`, the last past one; 0 is the area of one that is gone.

    NaN before, where there are no such particles, and where the two trajectories differ already in that frame (no past
    was given).
    """
    errors = np.full(prediction.shape[:2], np.nan)
    for row, frames, (p, _), (t, _) in zip(
        errors, zip(prediction, target, strict=True), followed(prediction), followed(target), strict=True
    ):
        if min(len(p), len(t)) < start or not np.array_equal(frames[0][:start], frames[1][:start]):
            continue
        # Up to that frame the two are equal, and so are their numbers.
        known = np.flatnonzero(p[start - 1] > 0)
        both = min(len(p), len(t))
        if len(known):
            row[start:both] = np.abs(p[start:both, known] - t[start:both, known]).mean(axis=1)
    return errors
