"""Particles followed through time by the overlap of consecutive frames: which grow, which shrink, which vanish."""

import numpy as np
from jaxtyping import Bool, Float, Int


def link(before: Int[np.ndarray, "H W"], after: Int[np.ndarray, "H W"]) -> Int[np.ndarray, "links 2"]:
    """The particles of two frames that are one and the same.

    Two are linked if each is the one that the other overlaps most (the lower number on a tie). Of particles that merge
    the one with the largest overlap lives on, and of the parts of one that splits likewise.

    Args:
        before: Numbered particles, 0 between them.
        after: Numbered particles of the next frame.

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

    Args:
        labels: Numbered particles of consecutive frames, 1 to n in each, 0 between them.
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
    """Area of every particle over time [px^2]: NaN before it is born, 0 after it dissolved or was swallowed.

    Args:
        followed: Numbers that particles keep, see `follow`.
    """
    particles = int(followed.max(initial=0))
    areas = np.stack([np.bincount(frame.ravel(), minlength=particles + 1)[1:] for frame in followed]).astype(float)
    born = np.maximum.accumulate(areas > 0, axis=0)
    return np.where(born, areas, np.nan)


def merged_or_split(followed: Int[np.ndarray, "T H W"]) -> Bool[np.ndarray, "T n"]:
    """Whether a particle became another one at a frame: it swallowed one, or lost a part.

    It merged if it lies on two or more particles of the frame before, and split if two or more particles lie where it was;
    never in the first frame. Particles that touch the former place of a neighbour without joining it count too: between
    frames they should move by less than their distance.

    Args:
        followed: Numbers that particles keep, see `follow`.
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
