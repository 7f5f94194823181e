"""Distances between distributions, given as counts in bins.

Counts add up: those of all trajectories of a test set, summed before they are compared, give the distance of the two
pooled distributions, whatever the batches.

A distance of two finite samples of one distribution is above 0, by about `sqrt(bins / (pi samples))` for the total
variation: set beside a forecast's distance the one between two halves of the truth.
"""

import numpy as np
from jaxtyping import Float


def histogram(samples: Float[np.ndarray, " n"], edges: Float[np.ndarray, " K_and_1"]) -> Float[np.ndarray, " K"]:
    """Number of samples in each bin; those beyond the edges count in the outermost bins, NaN in none."""
    inside = np.clip(samples[~np.isnan(samples)], edges[0], edges[-1])
    return np.histogram(inside, edges)[0].astype(float)


def total_variation(
    prediction: Float[np.ndarray, "*any K"], target: Float[np.ndarray, "*any K"]
) -> Float[np.ndarray, "*any"]:
    """Half the sum of absolute differences of the two normalised histograms [1]: 0 if equal, 1 if they share no bin.

    1 where just one of them is empty, for the two have nothing in common; 0 where both are; NaN where either is NaN.
    """
    p, t = _normalised(prediction), _normalised(target)
    return _with_empty(np.abs(p - t).sum(axis=-1) / 2, prediction, target, worst=1.0)


def wasserstein(
    prediction: Float[np.ndarray, "*any K"], target: Float[np.ndarray, "*any K"], edges: Float[np.ndarray, " K_and_1"]
) -> Float[np.ndarray, "*any"]:
    """Wasserstein-1 (earth mover's) distance of the two normalised histograms [unit of the edges].

    The mean way that a sample has to be moved, with all samples of a bin at its middle. Where just one of them is empty
    there is nothing to move: the whole width of the bins, `edges[-1] - edges[0]`, which no two distributions exceed. 0
    where both are empty; NaN where either is NaN.
    """
    middles = (edges[1:] + edges[:-1]) / 2
    p, t = _normalised(prediction), _normalised(target)
    excess = np.cumsum(p - t, axis=-1)[..., :-1]
    moved = (np.abs(excess) * np.diff(middles)).sum(axis=-1)
    return _with_empty(moved, prediction, target, worst=float(edges[-1] - edges[0]))


def _normalised(counts: Float[np.ndarray, "*any K"]) -> Float[np.ndarray, "*any K"]:
    total = counts.sum(axis=-1, keepdims=True)
    return counts / np.where(total > 0, total, np.nan)


def _with_empty(
    distance: np.ndarray | np.floating,
    prediction: Float[np.ndarray, "*any K"],
    target: Float[np.ndarray, "*any K"],
    worst: float,
) -> np.ndarray:
    """The distance, but `worst` where just one of the two is empty and 0 where both are."""
    totals = [prediction.sum(axis=-1), target.sum(axis=-1)]
    empty = (totals[0] == 0).astype(int) + (totals[1] == 0)
    known = ~np.isnan(totals[0] + totals[1])  # a frame that is not finite says nothing, not even beside an empty one
    return np.where(known & (empty > 0), np.where(empty == 2, 0.0, worst), distance)
